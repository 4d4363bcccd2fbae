// SPDX-License-Identifier: Apache-2.0
//
// How many reactors a box may have, by its cores and its memory.

import { expect, test } from "bun:test";
import { REACTORS_MAX, REQUEST_BYTES_MAX } from "#base/limits.ts";
import { reactorCounts } from "./reactor-count.ts";

const GIB = 2 ** 30;

function most(cores: number, gibibytes: number): number {
  return reactorCounts(null, { cores, memoryBytes: gibibytes * GIB }).most;
}

test("one core is left to everything else, and there is always one reactor", () => {
  expect([1, 2, 3, 4, 5, 64].map((cores) => most(cores, 64))).toEqual([1, 1, 2, 3, 4, 4]);
});

test("a box with little memory → no more arenas than fit in half of it", () => {
  expect([0.5, 0.97, 1, 1.5, 2, 2.5, 4].map((gibibytes) => most(8, gibibytes))).toEqual([
    1, 1, 2, 3, 3, 4, 4,
  ]);
});

test("by the box → one starts with the unit; configured → all of them, whatever the box", () => {
  expect(reactorCounts(null, { cores: 8, memoryBytes: 64 * GIB }).atOnce).toBe(1);
  const box = { cores: 1, memoryBytes: GIB };
  expect(reactorCounts(3, box)).toMatchObject({ atOnce: 3, most: 3 });
});

test("the share of each has room for the largest request, half of all memory for all hosts", () => {
  for (let count = 1; count <= REACTORS_MAX; count++) {
    const { arenaBytes } = reactorCounts(count, { cores: 1, memoryBytes: GIB });
    expect(arenaBytes / 2 / count).toBeGreaterThan(REQUEST_BYTES_MAX);
  }
});
