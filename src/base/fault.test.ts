// SPDX-License-Identifier: Apache-2.0
//
// The table of faults: what somebody looks up by its number must be one thing.

import { expect, test } from "bun:test";
import { faultTable } from "./fault.ts";

test("every fault has a number of its own, an HTTP status of an error, a text and a hint", () => {
  const rows = Object.values(faultTable);
  expect(new Set(rows.map(([number]) => number)).size).toBe(rows.length);
  for (const [number, status, text, hint] of rows) {
    expect([number, status >= 400 && status < 600]).toEqual([number, true]);
    expect(Math.min(text.length, hint.length)).toBeGreaterThan(0);
  }
});
