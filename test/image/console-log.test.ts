// SPDX-License-Identifier: Apache-2.0
//
// A terminal's output as lines: control sequences out, words and line ends kept.

import { describe, expect, test } from "bun:test";
import { plain } from "./console-log.ts";

describe("a terminal's output", () => {
  test("colours, titles and cursor moves → gone, the words stay", () => {
    const text = "\x1b[0;32m  OK  \x1b[0m] Reached\x1b]0;title\x07 \x1b[2J\x1b[1;1Htarget\x1b=\r\n";
    expect(plain(text)).toBe("  OK  ] Reached target\n");
  });

  test("a carriage return, alone or doubled → one line end", () => {
    expect(plain("one\rtwo\r\r\nthree\n")).toBe("one\ntwo\nthree\n");
  });
});
