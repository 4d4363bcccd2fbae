// SPDX-License-Identifier: Apache-2.0
//
// The manual page holds every command, and nothing in it is taken for roff.

import { expect, test } from "bun:test";
import type { Command } from "./command.ts";
import { manualPage } from "./manual.ts";
import { commands } from "./run.ts";

test("every command and flag is on it", () => {
  const text = manualPage(commands, "1.2.3").replaceAll("\\-", "-");
  for (const { words, flags } of commands) {
    expect(text).toContain(`.B cairn ${words.join(" ")}`);
    for (const { name } of flags) expect(text).toContain(name);
  }
});

test("lines begin with requests that man(7) knows, or with none", () => {
  const odd: Command = {
    words: ["odd"],
    operands: [],
    flags: [{ name: "x", kind: "path", value: "A\\B", sentence: "'quoted' \\fBbold" }],
    sentence: ".SH is no head",
    run: async () => 0,
  };
  const lines = manualPage([odd, ...commands], "1").split("\n");
  const requests = lines.filter((line) => /^[.']/.test(line)).map((line) => line.split(" ")[0]);
  expect([...new Set(requests)].sort()).toEqual([".B", ".SH", ".TH", ".TP", ".br"]);
  expect(lines.join("\n")).toContain("A\\eB");
});
