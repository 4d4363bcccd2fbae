// SPDX-License-Identifier: Apache-2.0
//
// Sizes and times in words, held against their definitions and the system's own calendar.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { durationInWords, parseDuration, parseSize, parseTime } from "./words.ts";
import { sizeInWords, timeInWords } from "./words.ts";

test("sizes: plain bytes, binary units in every spelling", () => {
  const sizes: [string, number][] = [
    ["0", 0],
    ["4096", 4096],
    ["4096B", 4096],
    ["64M", 64 * 2 ** 20],
    ["64m", 64 * 2 ** 20],
    ["100G", 100 * 2 ** 30],
    ["100GiB", 100 * 2 ** 30],
    ["100GB", 100 * 2 ** 30],
    ["1.5T", 1.5 * 2 ** 40],
    [" 2P ", 2 * 2 ** 50],
  ];
  for (const [text, bytes] of sizes) expect([text, parseSize(text)]).toEqual([text, bytes]);
});

test("what is no size, or no whole number of bytes → null", () => {
  const bad = [
    "",
    "G",
    "-1G",
    "1e3",
    "1 G",
    "0x10",
    "1.0000001K",
    "0.3",
    "9999P",
    "1iB",
    "1X",
    "1,5G",
  ];
  for (const text of bad) expect([text, parseSize(text)]).toEqual([text, null]);
});

test("sizes in words are never more than they are", () => {
  expect(sizeInWords(1023)).toBe("1023 B");
  expect(sizeInWords(1536)).toBe("1.5 KiB");
  expect(sizeInWords(2 ** 30 - 1)).toBe("1023.9 MiB");
  expect(sizeInWords(5 * 2 ** 50)).toBe("5 PiB");
  fc.assert(
    fc.property(fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }), (bytes) => {
      const [number = "", unit = ""] = sizeInWords(bytes).split(" ");
      const power = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].indexOf(unit);
      expect(Number(number) * 1024 ** power).toBeLessThanOrEqual(bytes);
    }),
  );
});

test("times are those of the system's calendar", () => {
  expect(timeInWords(0)).toBe("1970-01-01 00:00:00");
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 253_402_300_799_999 }), (atMs) => {
      expect(timeInWords(atMs)).toBe(new Date(atMs).toISOString().slice(0, 19).replace("T", " "));
    }),
  );
});

test("durations: read in every unit, said in the largest that is whole", () => {
  const read: [string, number | null][] = [
    ["14d", 14 * 86_400_000],
    ["1.5h", 5_400_000],
    ["90 m", null],
    ["250ms", 250],
    ["7", null],
    ["0.0001ms", null],
    ["-1d", null],
  ];
  for (const [text, ms] of read) expect([text, parseDuration(text)]).toEqual([text, ms]);
  const said = [0, 250, 5_400_000, 86_400_000, 14 * 86_400_000].map(durationInWords);
  expect(said).toEqual(["0ms", "250ms", "90m", "1d", "14d"]);
});

test("a time as it is written, and back; a day that there is none of → not", () => {
  for (const word of ["1970-01-01 00:00:00", "2024-02-29 23:59:59", "2099-12-31 12:00:00"]) {
    expect(timeInWords(parseTime(word) ?? -1)).toBe(word);
  }
  expect(parseTime("2026-11-28T20:15Z")).toBe(Date.UTC(2026, 10, 28, 20, 15));
  expect(parseTime(" 2026-11-28 20:15:07 ")).toBe(Date.UTC(2026, 10, 28, 20, 15, 7));
  for (const word of ["", "now", "2026-02-29 10:00", "2026-13-01 10:00", "2026-01-01 24:00"]) {
    expect([word, parseTime(word)]).toEqual([word, null]);
  }
  expect(parseTime("2026-11-28T20:15+01:00")).toBeNull();
});
