// SPDX-License-Identifier: Apache-2.0
//
// Timers of the control thread. They never fire on a reactor's thread, which gets ticks instead.
//
// Waits that are long enough end on a grid: what is due within one tenth of a second is done in one
// wake-up, and an idle unit's cost is its wake-ups.

import type { Timers } from "#base/world.ts";

export const GRID_MS = 100;
/** Shorter waits are kept to the millisecond. */
const GRID_FROM_MS = 2 * GRID_MS;

/** How long to wait for `delayMs`, or a little longer, from `nowMs`. */
export function onGrid(delayMs: number, nowMs: number): number {
  if (delayMs < GRID_FROM_MS) return delayMs;
  return Math.ceil((nowMs + delayMs) / GRID_MS) * GRID_MS - nowMs;
}

export function createTimers(): Timers {
  return {
    after(delayMs, act) {
      const timer = setTimeout(act, onGrid(delayMs, performance.now()));
      return () => clearTimeout(timer);
    },
  };
}
