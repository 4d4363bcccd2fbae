// SPDX-License-Identifier: Apache-2.0
//
// What a disk remembers of slices (design section 4): the records that it has stored, in parts.

import type { SliceNumber, SliceRecord } from "#base/record.ts";
import type { DiskStore } from "#store/disk-store.ts";

/** Records in one part. */
const PART_MAX = 16;

/** A part of what a disk holds, and where the next one begins; null: that was all. */
export interface Held {
  records: SliceRecord[];
  next: SliceNumber | null;
}

/** From a slice's number on. Slices that never had a record are left out. Null: it is not open. */
export function heldRecords(store: DiskStore | undefined, from: SliceNumber): Held | null {
  if (store === undefined || store.failed) return null;
  const records: SliceRecord[] = [];
  for (const slice of store.slices()) {
    if (slice < from) continue;
    if (records.length === PART_MAX) return { records, next: slice };
    const record = store.member(slice)?.record ?? null;
    if (record !== null) records.push(record);
  }
  return { records, next: null };
}
