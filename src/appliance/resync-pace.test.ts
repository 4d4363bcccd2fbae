// SPDX-License-Identifier: Apache-2.0
//
// The time a resync takes: by the pace seen, and not before there is one.

import { expect, test } from "bun:test";
import { ResyncPace } from "./resync-pace.ts";

const progress = (doneBytes: number, totalBytes = 1000) => [
  { slice: 7, resync: { doneBytes, totalBytes } },
];

test("not known before some seconds, nor while nothing moves", () => {
  const pace = new ResyncPace();
  expect(pace.leftMs(7, 1000)).toBeNull();
  pace.take(progress(0), 0);
  pace.take(progress(100), 2000);
  expect(pace.leftMs(7, 1000)).toBeNull();
  pace.take(progress(250), 5000);
  expect(pace.leftMs(7, 1000)).toBe(15_000);
  for (let atMs = 6000; atMs <= 70_000; atMs += 1000) pace.take(progress(250), atMs);
  expect(pace.leftMs(7, 1000)).toBeNull();
});

test("by the last minute, not by what was before it", () => {
  const pace = new ResyncPace();
  for (let second = 0; second <= 300; second++) {
    pace.take(progress(second < 200 ? second * 100 : 20_000 + second), second * 1000);
  }
  expect(pace.leftMs(7, 20_300 + 60)).toBeCloseTo(60_000, -3);
});

test("begun anew, or ended → what was before tells nothing", () => {
  const pace = new ResyncPace();
  pace.take(progress(0), 0);
  pace.take(progress(900), 9000);
  pace.take(progress(10), 10_000);
  expect(pace.leftMs(7, 1000)).toBeNull();
  pace.take([{ slice: 7, resync: null }], 20_000);
  pace.take(progress(500), 30_000);
  expect(pace.leftMs(7, 1000)).toBeNull();
});
