// SPDX-License-Identifier: Apache-2.0
//
// Where eras end (H6): told exactly when the last in-sync member's memory went.

import { expect, test } from "bun:test";
import type { SliceRecord } from "#base/record.ts";
import { MemoryLosses } from "./memory-losses.ts";

const FIRST: SliceRecord = {
  slice: 1,
  volume: 1,
  index: 0,
  sizeBytes: 4 << 20,
  copies: 2,
  lineage: 1,
  ancestry: [],
  epoch: 1,
  head: 1,
  inSync: [
    { disk: 1, incarnation: 1 },
    { disk: 2, incarnation: 1 },
  ],
  resyncing: [],
};

function make() {
  const lost: number[] = [];
  const places = new Map([[1, { volume: 1, firstSector: 0, sectors: 8192 }]]);
  const losses = new MemoryLosses(places, (slice) => void lost.push(slice));
  losses.committed(FIRST);
  return { losses, lost };
}

test("one of two loses its power → no loss; the other too → one loss", () => {
  const { losses, lost } = make();
  losses.powerCut(1);
  expect(lost).toEqual([]);
  losses.powerCut(2);
  losses.powerCut(1);
  expect(lost).toEqual([1]);
});

test("back in a new incarnation, but not in the set → does not count as in sync", () => {
  const { losses, lost } = make();
  losses.powerCut(1);
  losses.started(1, 2);
  losses.powerCut(2);
  expect(lost).toEqual([1]);
});

test("dropped before → its memory does not count; back by a commit → it does", () => {
  const { losses, lost } = make();
  losses.committed({ ...FIRST, epoch: 2, inSync: [{ disk: 1, incarnation: 1 }] });
  losses.powerCut(2);
  expect(lost).toEqual([]);
  losses.started(2, 2);
  const both = [
    { disk: 1, incarnation: 1 },
    { disk: 2, incarnation: 2 },
  ];
  losses.committed({ ...FIRST, epoch: 3, inSync: both });
  losses.powerCut(1);
  expect(lost).toEqual([]);
  losses.powerCut(2);
  expect(lost).toEqual([1]);
});

test("a commit leaves only members whose memory is gone → a loss at that moment", () => {
  const { losses, lost } = make();
  losses.powerCut(1);
  losses.committed({ ...FIRST, epoch: 2, inSync: [{ disk: 1, incarnation: 1 }] });
  expect(lost).toEqual([1]);
});
