// SPDX-License-Identifier: Apache-2.0
//
// Text in columns: whatever comes in, nothing is wider than it may be and nothing steers a
// terminal.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  beside,
  clip,
  clipStart,
  durationInWords,
  fitted,
  inAlphabet,
  line,
  page,
  textOf,
  uptimeInWords,
  wrap,
} from "./frame.ts";

describe("alphabets", () => {
  test("whatever comes in → printable signs of one column each", () => {
    const points = fc.array(fc.integer({ min: 0, max: 0x10ffff }), { maxLength: 60 });
    const any = points.map((all) => String.fromCodePoint(...all));
    fc.assert(
      fc.property(any, (text) => {
        expect(inAlphabet(text, "ascii")).toMatch(/^[ -~]*$/);
        expect(inAlphabet(text, "console")).toMatch(/^[ -~─·█▀▄]*$/);
      }),
    );
  });

  test("escape sequences and wide signs → question marks", () => {
    expect(inAlphabet("a\x1b[2Jb\x9b1m\r\n", "console")).toBe("a?[2Jb?1m??");
    expect(inAlphabet("箱ä–…", "console")).toBe("??-...");
    expect(inAlphabet("── a · b", "ascii")).toBe("-- a - b");
  });
});

describe("widths", () => {
  test("wrapped → no line is wider, and every word is there as long as lines are", () => {
    const words = fc.array(fc.stringMatching(/^[a-z]{1,30}$/), { maxLength: 30 });
    fc.assert(
      fc.property(
        words,
        fc.integer({ min: 4, max: 60 }),
        fc.integer({ min: 1, max: 9 }),
        (all, width, max) => {
          const text = all.join(" ");
          const lines = wrap(text, width, max);
          expect(lines.length).toBeLessThanOrEqual(max);
          for (const one of lines) expect(one.length).toBeLessThanOrEqual(width);
          const whole = wrap(text, width, 1000);
          expect(whole.join("").replaceAll(" ", "")).toBe(all.join(""));
          if (whole.length > max) expect(lines.at(-1)).toEndWith("...");
        },
      ),
    );
  });

  test("clipped at either end → what was cut shows", () => {
    expect([clip("abcdef", 6), clip("abcdefg", 6), clip("abcd", 2)]).toEqual([
      "abcdef",
      "abc...",
      "ab",
    ]);
    expect([clipStart("abcdefg", 6), clipStart("abcd", 2)]).toEqual(["...efg", "cd"]);
  });

  test("a line beside another → the second begins in its column", () => {
    const right = [{ text: "##", tone: "code" } as const];
    expect(textOf(beside(line("ab"), 5, right))).toBe("ab   ##");
    expect(textOf(beside(line("abcdefg"), 5, right))).toBe("abcde##");
    expect(fitted(line("abc", "alarm"), 2, false).spans).toEqual([{ text: "ab", tone: "alarm" }]);
  });

  test("a page → as many rows as there are, none into the last column", () => {
    const shape = { columns: 10, rows: 3, alphabet: "ascii" } as const;
    expect(page([line("x".repeat(30))], shape).map(textOf)).toEqual(["x".repeat(9), "", ""]);
    expect(
      page(
        [1, 2, 3, 4].map((one) => line(String(one))),
        shape,
      ),
    ).toHaveLength(3);
  });
});

test("durations", () => {
  const words = [0, 59_999, 60_000, 252_345, 3_600_000, 90_000_000, -5].map(durationInWords);
  expect(words).toEqual(["0 s", "59 s", "1 min 0 s", "4 min 12 s", "1 h 0 min", "1 d 1 h", "0 s"]);
  const clock = [599_000, 600_000, 3_599_000, 3_600_000].map(uptimeInWords);
  expect(clock).toEqual(["9 min 59 s", "10 min", "59 min", "1 h 0 min"]);
});
