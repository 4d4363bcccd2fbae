// SPDX-License-Identifier: Apache-2.0
//
// Slices after a restored backup (contract.md, R2, R3; design section 4). The backup's record of a
// slice may be older than the truth on disks, so it stands aside as a claim until the disks have
// told theirs. Pure functions; restored-changes.ts carries them out, the simulator plays them.
//
// Invariants
// - A claim is settled only when every disk that its highest record names, in sync or resyncing,
//   has told in this generation that it holds the slice, and by which record. Then no later record
//   was ever acted on: every record's in-sync members stored it before the first ack (R2), the
//   first member that none of these disks knew was brought up by a head that had stored the record
//   that named it, and that head is one of these disks.
// - What a disk tells is a promise: its unit has left the older generations for good, so that the
//   disk takes part in none of them any more.
// - "It holds nothing of it" is no answer: a disk may have been let go since.
// - The settled record is the highest one, its epoch beyond any that an older generation may reach.

import { z } from "zod";
import { assert } from "#base/assert.ts";
import { disksOf, inSyncEntry } from "#base/record.ts";
import type { DiskNumber, SliceRecord } from "#base/record.ts";
import { SliceSchema } from "./slice-state.ts";

/** What an older generation may still count on is far less; a record's epoch has 32 bits. */
export const EPOCH_JUMP = 1_000_000;
const EPOCH_MAX = 2 ** 32 - 1;
/** Disks that hold something of one slice, old leftovers among them. */
const HOLDERS_MAX = 64;

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);

export const RestoredSliceSchema = z.looseObject({
  slice: positive,
  volume: positive,
  index: SliceSchema.shape.index,
  /** The highest that backup and disks have told; null: none yet. */
  record: (SliceSchema as z.ZodType<SliceRecord>).nullable(),
  /** Disks that hold the slice, with the record that each has stored. */
  held: z
    .array(z.looseObject({ disk: positive, lineage: positive, epoch: positive }))
    .max(HOLDERS_MAX),
});
export type RestoredSlice = z.infer<typeof RestoredSliceSchema>;

type Place = Pick<SliceRecord, "lineage" | "epoch">;

/** Positive: `one` is the later record. */
export function compareRecords(one: Place, other: Place): number {
  return one.lineage - other.lineage || one.epoch - other.epoch;
}

/** What a backup knows of a slice; `record` null: its volume names the slice, and that is all. */
export function claimOf(
  slice: { slice: number; volume: number; index: number },
  record: SliceRecord | null,
): RestoredSlice {
  return { slice: slice.slice, volume: slice.volume, index: slice.index, record, held: [] };
}

/** A disk holds the slice, and has stored this record of it. */
export function toldOf(claim: RestoredSlice, disk: DiskNumber, told: SliceRecord): RestoredSlice {
  const { lineage, epoch } = told;
  const others = claim.held.filter((holder) => holder.disk !== disk);
  // Of too many the oldest is forgotten: it counts as one that did not answer.
  const held = [...others, { disk, lineage, epoch }].sort((a, b) => compareRecords(b, a));
  const isHigher = claim.record === null || compareRecords(told, claim.record) > 0;
  return { ...claim, record: isHigher ? told : claim.record, held: held.slice(0, HOLDERS_MAX) };
}

/** Disks that the highest record names and that have not told that they hold the slice. */
export function missingDisks(claim: RestoredSlice): DiskNumber[] {
  const { record, held } = claim;
  if (record === null) return [];
  return disksOf(record).filter((disk) => !held.some((holder) => holder.disk === disk));
}

/** The record to go on with, or null: not known yet for certain. */
export function settledRecord(claim: RestoredSlice): SliceRecord | null {
  const { record } = claim;
  if (record === null || missingDisks(claim).length > 0) return null;
  return isJumpable(record) ? { ...record, epoch: record.epoch + EPOCH_JUMP } : null;
}

/**
 * The owner's override: what the disks that answered hold is taken as it is, in a lineage of its
 * own. Null: no disk that was in sync has answered. `lineage`: higher than the claim's, and never
 * used before.
 */
export function acceptedRecord(claim: RestoredSlice, lineage: number): SliceRecord | null {
  const { record, held } = claim;
  if (record === null || !isJumpable(record)) return null;
  assert(lineage > record.lineage, "an override's lineage is higher than those before it");
  const complete = held.filter((holder) => inSyncEntry(record, holder.disk) !== undefined);
  const [best] = [...complete].sort((a, b) => compareRecords(b, a));
  if (best === undefined) return null;
  const inSync = record.inSync.filter(({ disk }) =>
    complete.some((holder) => holder.disk === disk && compareRecords(holder, best) === 0),
  );
  const before = new Set([...record.ancestry, best.lineage, record.lineage]);
  const head = inSync.some(({ disk }) => disk === record.head) ? record.head : best.disk;
  return {
    ...record,
    lineage,
    ancestry: [...before].sort((a, b) => a - b),
    epoch: record.epoch + EPOCH_JUMP,
    head,
    inSync,
    resyncing: [],
  };
}

/** A cluster can be restored some thousand times; a record beyond that is none of ours. */
function isJumpable({ epoch }: SliceRecord): boolean {
  return epoch <= EPOCH_MAX - EPOCH_JUMP;
}
