// SPDX-License-Identifier: Apache-2.0
//
// One seed, one run: the same every time, and different from its neighbour's.

import { expect, setDefaultTimeout, test } from "bun:test";
import { mutants } from "./mutants.ts";
import { runSeed } from "./run-seed.ts";

setDefaultTimeout(120_000);

test("the same seed twice → the same trace, acts and events; with runs in between, too", () => {
  for (const seed of [3, 7]) {
    const first = runSeed(seed);
    const between = runSeed(seed + 1);
    const again = runSeed(seed);
    expect(again.traceHash).toBe(first.traceHash);
    expect([again.hostActs, again.events]).toEqual([first.hostActs, first.events]);
    expect(between.traceHash).not.toBe(first.traceHash);
  }
});

test("reading the trace along changes nothing", () => {
  const lines: string[] = [];
  const silent = runSeed(5);
  const traced = runSeed(5, { onTrace: (line) => void lines.push(line) });
  expect(traced.traceHash).toBe(silent.traceHash);
  expect(lines.length).toBeGreaterThan(1000);
});

test("a mutant is unmade after its run", () => {
  const before = runSeed(2).traceHash;
  for (const mutant of mutants) runSeed(2, { mutant });
  expect(runSeed(2).traceHash).toBe(before);
});

// Each found something once (docs/CAMPAIGNS.md).
for (const seed of [
  911145, 911895, 1301320, 2600330, 5000944, 20001820, 30002100, 40000248, 200000870, 400000788,
  400001388,
]) {
  test(`seed ${seed} → no violation any more`, () => {
    expect(runSeed(seed).violations).toEqual([]);
  });
}
