// SPDX-License-Identifier: Apache-2.0
//
// The first record of a slice, of a volume that is made or grows.

import { assert } from "#base/assert.ts";
import { layouts } from "#base/layout.ts";
import type { DiskNumber, SliceNumber, SliceRecord, UnitNumber } from "#base/record.ts";
import type { Draft } from "./draft.ts";
import type { PlacedSlice } from "./placement.ts";
import { keys } from "./state.ts";
import type { VolumeRecord } from "./state.ts";
import type { ClusterView } from "./view.ts";

/** Slice records written or deleted in one transaction; each may rely on a few disks. */
export const SLICES_PER_DRAFT = 24;

/** Puts as many of the placed slices as one transaction takes; answers how many. */
export function putSlices(
  draft: Draft,
  volume: VolumeRecord,
  placed: readonly (PlacedSlice & { number: SliceNumber })[],
): number {
  const now = placed.slice(0, SLICES_PER_DRAFT);
  for (const slice of now) {
    draft.put(keys.slice(slice.number), newSlice(draft.view, volume, slice));
    // R0: the record names incarnations; a disk that started again meanwhile is another one.
    for (const disk of slice.disks) draft.relyOn(keys.disk(disk));
  }
  return now.length;
}

/** A new slice reads zero on every member, so all of them are in sync from the start. */
function newSlice(
  view: ClusterView,
  volume: VolumeRecord,
  made: { number: SliceNumber; index: number; sizeBytes: number; disks: readonly DiskNumber[] },
): SliceRecord {
  const inSync = made.disks.map((disk) => {
    const incarnation = view.disks.get(disk)?.incarnation;
    assert(incarnation !== undefined, "a placed disk is in the view");
    return { disk, incarnation };
  });
  const head = made.disks[0];
  assert(head !== undefined, "a slice has a head");
  return {
    slice: made.number,
    volume: volume.number,
    index: made.index,
    sizeBytes: made.sizeBytes,
    copies: layouts[volume.protection].copies,
    lineage: 1,
    ancestry: [],
    epoch: 1,
    head,
    inSync,
    resyncing: [],
  };
}

/** Where a slice is headed. */
export function headOf(view: ClusterView, record: SliceRecord): UnitNumber | null {
  return view.disks.get(record.head)?.unit ?? null;
}
