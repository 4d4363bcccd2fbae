// SPDX-License-Identifier: Apache-2.0
//
// The rate of copying is measured, not guessed; a deadline that comes near is hurried for.

import { expect, test } from "bun:test";
import type { SliceReport } from "./data-plane.ts";
import { CopyRate } from "./copy-rate.ts";

const MIB = 1 << 20;

function slice(doneMib: number, totalMib: number, number = 1): SliceReport {
  const counters = {
    healed: 0,
    reconciled: 0,
    accepted: 0,
    unreadable: 0,
    diverged: 0,
    carried: 0,
    resyncedBytes: doneMib * MIB,
  };
  return {
    role: "head",
    epoch: 1,
    availability: "online",
    protection: "",
    waitsFor: "",
    resync: { doneBytes: doneMib * MIB, totalBytes: totalMib * MIB },
    counters,
    slice: number,
    disk: 1,
    mappedBytes: 0,
  };
}
const LACKING = new Set([1]);

/** Copies at so many MiB per second for so long, from `fromMib` of `totalMib`. */
function copying(rate: CopyRate, at: { seconds: number; mibPerSecond: number; totalMib: number }) {
  for (let half = 0; half <= 2 * at.seconds; half++) {
    rate.reported(500 * half, [slice((half * at.mibPerSecond) / 2, at.totalMib)], LACKING);
  }
}

test("too little was copied → not known; then what it really was, pauses left out", () => {
  const rate = new CopyRate();
  copying(rate, { seconds: 1, mibPerSecond: 50, totalMib: 10_000 });
  expect(rate.bytesPerSecond).toBeNull();
  copying(rate, { seconds: 10, mibPerSecond: 50, totalMib: 10_000 });
  expect(rate.bytesPerSecond).toBe(50 * MIB);
  // An hour without a resync, then the same pace.
  rate.reported(3_600_000, [], new Set());
  rate.reported(3_700_000, [slice(0, 10_000)], LACKING);
  rate.reported(3_700_500, [slice(25, 10_000)], LACKING);
  expect(rate.bytesPerSecond).toBe(50 * MIB);
});

test("no deadline, or in good time → no hurry; too slow for it → hurry", () => {
  const rate = new CopyRate();
  copying(rate, { seconds: 10, mibPerSecond: 50, totalMib: 10_500 });
  // 10,000 MiB left at 50 MiB/s: 200 s.
  expect(rate.mustHurry(10_000, 0)).toBe(false);
  expect(rate.mustHurry(10_000, 600_000)).toBe(false);
  expect(rate.mustHurry(10_000, 250_000)).toBe(true);
  expect(rate.mustHurry(400_000, 600_000)).toBe(true);
});

test("nothing is measured → calm for the first half of the time; whole again → calm", () => {
  const rate = new CopyRate();
  rate.reported(0, [], LACKING);
  expect(rate.mustHurry(10_000, 100_000)).toBe(false);
  expect(rate.mustHurry(60_000, 100_000)).toBe(true);
  rate.reported(70_000, [], new Set());
  expect(rate.mustHurry(70_000, 100_000)).toBe(false);
});
