// SPDX-License-Identifier: Apache-2.0
//
// The screen in every case is what the files here show, and none of its lines is longer than the
// terminal, whatever its size.

import { expect, test } from "bun:test";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { SCREENS } from "./screens.ts";

for (const screen of SCREENS) {
  const name = path.basename(screen.path);
  test(`${name} → as written by screens.ts`, () => {
    expect(screen.print()).toBe(readFileSync(screen.path, "utf8"));
  });
}

test("no file is left over from a case that is gone", () => {
  const there = readdirSync(import.meta.dir).filter((name) => name.endsWith(".txt"));
  expect(there.sort()).toEqual(SCREENS.map((one) => path.basename(one.path)).sort());
});
