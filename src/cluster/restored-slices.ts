// SPDX-License-Identifier: Apache-2.0
//
// Slices after a restored backup (contract.md, R2, R3; design section 4). The backup's record of a
// slice may be older than the truth on disks, so it stands aside as a claim until the disks have
// told theirs. Pure functions; restored-changes.ts carries them out, the simulator plays them.
//
// Invariants
// - A claim is settled only when every disk that its highest record names, in sync or resyncing,
//   and every one that the backup names or remembers, has told in this generation that it holds the
//   slice, and by which record. Then no later record was ever acted on: every record's in-sync
//   members stored it before the first ack (R2), the first member that none of these disks knew was
//   brought up by a head that had stored the record that named it, and that head is one of these
//   disks.
// - What a disk tells is a promise: its unit has left the older generations for good, so that the
//   disk takes part in none of them any more.
// - "It holds nothing of it" is no answer: a disk may have been let go since.
// - R8: which record is higher is said by ancestry, never by a lineage's number; histories of which
//   neither grew from the other are never settled by themselves.
// - The settled record is the highest one, its epoch beyond any that an older generation may reach.
//   What disks hold of lineages that lost is kept.

import { z } from "zod";
import { disksOf, inSyncEntry, supersedes } from "#base/record.ts";
import type { DiskNumber, KeptCopy, SliceRecord } from "#base/record.ts";
import { KEPT_COPIES_MAX, SliceSchema } from "./slice-state.ts";

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
  /** Disks that the backup names, or remembers as former members. */
  named: z.array(positive).max(HOLDERS_MAX),
  /** Disks that hold the slice, with the record that each has stored. */
  held: z
    .array(z.looseObject({ disk: positive, lineage: positive, epoch: positive }))
    .max(HOLDERS_MAX),
});
export type RestoredSlice = z.infer<typeof RestoredSliceSchema>;
type Holder = RestoredSlice["held"][number];

/** What a backup knows of a slice; `record` null: its volume names the slice, and that is all. */
export function claimOf(
  slice: { slice: number; volume: number; index: number },
  record: SliceRecord | null,
): RestoredSlice {
  const { slice: number, volume, index } = slice;
  const former = (record?.former ?? []).map(({ disk }) => disk);
  const named = record === null ? [] : [...new Set([...disksOf(record), ...former])];
  return { slice: number, volume, index, record, named: named.slice(0, HOLDERS_MAX), held: [] };
}

/** A disk holds the slice, and has stored this record of it. */
export function toldOf(claim: RestoredSlice, disk: DiskNumber, told: SliceRecord): RestoredSlice {
  const { lineage, epoch } = told;
  const { record } = claim;
  const others = claim.held.filter((holder) => holder.disk !== disk);
  // Of too many the oldest is forgotten: it counts as one that did not answer.
  const held = [...others, { disk, lineage, epoch }].slice(-HOLDERS_MAX);
  if (record !== null && !supersedes(told, record)) return { ...claim, held };
  // What is kept stands in the control store alone.
  const { kept = [] } = record ?? {};
  return { ...claim, record: { ...told, former: [], kept }, held };
}

/** Disks that may know more than those that told, or have not told that they hold the slice. */
export function missingDisks(claim: RestoredSlice): DiskNumber[] {
  const { record, named, held } = claim;
  if (record === null) return [];
  const wanted = new Set([...disksOf(record), ...named]);
  return [...wanted].filter((disk) => !held.some((holder) => holder.disk === disk));
}

/** Disks that hold another history than the highest record's: neither grew from the other. */
export function strangerDisks({ record, held }: RestoredSlice): DiskNumber[] {
  if (record === null) return [];
  const known = [record.lineage, ...record.ancestry];
  return held.filter(({ lineage }) => !known.includes(lineage)).map(({ disk }) => disk);
}

/** The record to go on with, or null: not known yet for certain. */
export function settledRecord(claim: RestoredSlice): SliceRecord | null {
  const { record } = claim;
  if (record === null || missingDisks(claim).length > 0) return null;
  if (strangerDisks(claim).length > 0 || !isJumpable(record)) return null;
  const next = { ...record, epoch: record.epoch + EPOCH_JUMP };
  return { ...next, kept: keptCopies(claim, next) };
}

/**
 * The owner's override: what the disks that answered hold is taken as it is, in a lineage of its
 * own; what others hold, or may hold, is kept. Null: no disk that was in sync has answered.
 * `lineage`: drawn, so that two overrides never begin the same one.
 */
export function acceptedRecord(
  claim: RestoredSlice,
  by: { lineage: number; number: number; atMs: number },
): SliceRecord | null {
  const { record } = claim;
  if (record === null || !isJumpable(record)) return null;
  const complete = claim.held.filter(({ disk }) => inSyncEntry(record, disk) !== undefined);
  const [best] = [...complete].sort((one, other) => order(record, other) - order(record, one));
  if (best === undefined) return null;
  const inSync = record.inSync.filter(({ disk }) =>
    complete.some(
      (holder) => holder.disk === disk && order(record, holder) === order(record, best),
    ),
  );
  const { lineage, epoch, ancestry } = record;
  const next: SliceRecord = {
    ...record,
    lineage: by.lineage,
    ancestry: [...ancestry, lineage],
    epoch: epoch + EPOCH_JUMP,
    head: inSync.some(({ disk }) => disk === record.head) ? record.head : best.disk,
    inSync,
    resyncing: [],
    former: [],
  };
  const losers = record.inSync
    .filter(({ disk }) => !inSync.some((member) => member.disk === disk))
    .map(({ disk }) => ({ disk, lineage, epoch, before: by.number, atMs: by.atMs }));
  return { ...next, kept: keptCopies(claim, next, losers) };
}

/** Later in the record's history: a larger number. Of a stranger's history: before all. */
function order({ lineage, ancestry }: SliceRecord, holder: Holder): number {
  const at = holder.lineage === lineage ? ancestry.length : ancestry.indexOf(holder.lineage);
  return at * (EPOCH_MAX + 1) + holder.epoch;
}

/** R8: what is known to be kept, and what disks told that they hold of other lineages. */
function keptCopies(
  { record, held }: RestoredSlice,
  next: SliceRecord,
  losers: readonly KeptCopy[] = [],
): KeptCopy[] {
  const copies = new Map<DiskNumber, KeptCopy>();
  for (const { disk, lineage, epoch } of held) {
    if (lineage === next.lineage || lineage === record?.lineage) continue;
    const at = next.ancestry.indexOf(lineage);
    const before = at < 0 ? next.ancestry.length + 1 : at + 1;
    copies.set(disk, { disk, lineage, epoch, before, atMs: 0 });
  }
  for (const copy of [...(record?.kept ?? []), ...losers]) copies.set(copy.disk, copy);
  const named = disksOf(next);
  return [...copies.values()]
    .filter(({ disk, lineage }) => !named.includes(disk) && lineage !== next.lineage)
    .slice(0, KEPT_COPIES_MAX);
}

/** A cluster can be restored some thousand times; a record beyond that is none of ours. */
function isJumpable({ epoch }: SliceRecord): boolean {
  return epoch <= EPOCH_MAX - EPOCH_JUMP;
}
