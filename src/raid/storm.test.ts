// SPDX-License-Identifier: Apache-2.0
//
// Storms over one slice: some seeds here, many more by the simulator.

import { expect, test } from "bun:test";
import { Storm } from "./storm-fixture.ts";

test("12 storms → every read legal, in the end all members equal and nothing held", () => {
  const sum = { acked: 0, reads: 0, unknown: 0, again: 0, faults: 0, epochs: 0 };
  for (let seed = 1; seed <= 12; seed++) {
    const result = new Storm(seed).run();
    for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += result[key];
  }
  // A storm that reaches nothing proves nothing.
  expect(sum.acked).toBeGreaterThan(1000);
  expect(sum.reads).toBeGreaterThan(500);
  expect(sum.unknown).toBeGreaterThan(50);
  expect(sum.epochs).toBeGreaterThan(30);
}, 60_000);

test("the same seed twice → the same storm", () => {
  expect(new Storm(7).run()).toEqual(new Storm(7).run());
}, 60_000);
