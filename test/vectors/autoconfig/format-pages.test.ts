// SPDX-License-Identifier: Apache-2.0
//
// The format pages are what the tables say: a changed table needs its page printed again.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { PAGES } from "./format-pages.ts";

for (const page of PAGES) {
  test(`${page.path.split("/").at(-1)} → as printed by format-pages.ts`, () => {
    expect(readFileSync(page.path, "utf8")).toBe(page.print());
  });
}
