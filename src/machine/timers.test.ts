// SPDX-License-Identifier: Apache-2.0
//
// The grid of the control thread's timers: never early, at most one grid step late.

import { describe, expect, test } from "bun:test";
import { createTimers, GRID_MS, onGrid } from "./timers.ts";

describe("onGrid", () => {
  test("a short wait stays what it is", () => {
    expect(onGrid(0, 1234.5)).toBe(0);
    expect(onGrid(2 * GRID_MS - 1, 1234.5)).toBe(2 * GRID_MS - 1);
  });

  test("a longer one ends on the grid, never early, less than a step late", () => {
    for (const delayMs of [200, 250, 499.5, 500, 1000, 60_000]) {
      for (const nowMs of [0, 0.25, 50, 99.75, 100, 12_345.5]) {
        const waitMs = onGrid(delayMs, nowMs);
        expect((nowMs + waitMs) % GRID_MS).toBe(0);
        expect(waitMs).toBeGreaterThanOrEqual(delayMs);
        expect(waitMs).toBeLessThan(delayMs + GRID_MS);
      }
    }
  });
});

describe("after", () => {
  test("acts once, and not when it was cancelled", async () => {
    const timers = createTimers();
    const acted: string[] = [];
    timers.after(1, () => acted.push("cancelled"))();
    await new Promise<void>((resolve) => {
      timers.after(2, () => {
        acted.push("kept");
        resolve();
      });
    });
    expect(acted).toEqual(["kept"]);
  });
});
