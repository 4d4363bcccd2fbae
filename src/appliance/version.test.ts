// SPDX-License-Identifier: Apache-2.0
//
// The version in the executable is the one of the package.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import path from "node:path";
import { VERSION } from "./version.ts";

test("the version is the package's", () => {
  const file = path.resolve(import.meta.dir, "..", "..", "package.json");
  expect(JSON.parse(readFileSync(file, "utf8")).version).toBe(VERSION);
});
