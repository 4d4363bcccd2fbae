// SPDX-License-Identifier: Apache-2.0
//
// Log lines for people, and that no secret gets through.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { logLineInWords, withoutSecrets } from "./log-lines.ts";

describe("in words", () => {
  test("the daemon's JSON → time, gravity, sentence and facts", () => {
    const line = {
      time: "2026-03-01T12:34:56.789Z",
      level: "warn",
      sentence: "disk refused",
      disk: "/dev/sdb",
      tries: 3,
      stack: "Error: one\n  at two",
    };
    expect(logLineInWords(JSON.stringify(line))).toBe(
      "12:34:56 warn: disk refused (disk /dev/sdb, tries 3, stack Error: one)",
    );
    const plain = { time: "2026-03-01T12:34:56.789Z", level: "info", sentence: "it starts" };
    expect(logLineInWords(JSON.stringify(plain))).toBe("12:34:56 it starts");
  });

  test("anything else → as it is", () => {
    for (const line of ["cairn: it failed", "{ cut off", '{"no":"sentence"}', "", "null"]) {
      expect(logLineInWords(line)).toBe(line);
    }
  });
});

describe("without secrets", () => {
  test("values that are secret here", () => {
    const shown = withoutSecrets("joining with hunter22-hunter22 now", [
      "hunter22-hunter22",
      "",
      "a",
    ]);
    expect(shown).toBe("joining with [secret] now");
  });

  test("what stands behind a name that means one", () => {
    for (const [line, left] of [
      ['{"joinSecret":"abc def","role":"member"}', '{"joinSecret":[secret],"role":"member"}'],
      ["api-token: 0123abcd, port 7480", "api-token: [secret], port 7480"],
      ["password=letmein now", "password=[secret] now"],
      ["PRIVATE_KEY = xyz", "PRIVATE_KEY = [secret]"],
      ['{"token":"a\\"b"}', '{"token":[secret]}'],
      ["Authorization: Bearer 0123456789abcdef", "Authorization: Bearer [secret]"],
    ] as const) {
      expect(withoutSecrets(line, [])).toBe(left);
    }
  });

  test("words that only look alike stay", () => {
    for (const line of [
      "the unit has no join secret",
      "no token was shown",
      "in the bearer of it",
    ]) {
      expect(withoutSecrets(line, [])).toBe(line);
    }
  });

  test("a known secret anywhere in any text → it is not in what comes out", () => {
    const secret = "correct-horse-battery-staple";
    fc.assert(
      fc.property(fc.string(), fc.string(), (before, after) => {
        expect(withoutSecrets(before + secret + after, [secret])).not.toContain(secret);
      }),
    );
  });
});
