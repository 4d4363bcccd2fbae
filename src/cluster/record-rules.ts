// SPDX-License-Identifier: Apache-2.0
//
// Who may write which slice record (contract.md, R2 and R3; design.md, section 6): only a slice's
// head takes members out or lets one back in, only a named in-sync member takes it over, only the
// control station names new members and makes it larger (H11). What can be seen from the two
// records is checked here, by the proposer and again by whoever stands between it and the store;
// what cannot (grants run out, memory kept) is the slice's.

import { COPIES_MAX, MEMBERS_MAX } from "#base/limits.ts";
import { disksOf, inSync, inSyncEntry, keptOn } from "#base/record.ts";
import type { DiskNumber, SliceRecord } from "#base/record.ts";

/** A member's disk, or the control station. */
export type Proposer = DiskNumber | "station";

/** Why `next` may not follow `current`, or null when it may. */
export function recordRefusal(
  current: SliceRecord,
  next: SliceRecord,
  proposer: Proposer,
): string | null {
  if (proposer === "station" && next.lineage !== current.lineage) {
    return overrideRefusal(current, next);
  }
  const shape = shapeRefusal(current, next);
  if (shape !== null) return shape;
  if (proposer === "station") return stationRefusal(current, next);
  if (!sameKept(current, next)) return "only an owner gives kept copies up (R8)";
  if (next.head !== proposer) return "a disk proposes only records that it heads";
  const headEntry = inSyncEntry(current, current.head);
  const same = current.head === proposer && inSync(next, proposer, headEntry?.incarnation ?? 0);
  return same ? headRefusal(current, next) : takeoverRefusal(current, next, proposer);
}

function shapeRefusal(current: SliceRecord, next: SliceRecord): string | null {
  const fixed =
    next.slice === current.slice &&
    next.volume === current.volume &&
    next.index === current.index &&
    next.lineage === current.lineage &&
    JSON.stringify(next.ancestry) === JSON.stringify(current.ancestry);
  if (!fixed) return "slice, volume, index, lineage and ancestry stay as they are";
  return setRefusal(current, next);
}

function setRefusal(current: SliceRecord, next: SliceRecord): string | null {
  if (next.epoch !== current.epoch + 1) return "the epoch rises by one";
  if (next.sizeBytes < current.sizeBytes) return "a slice does not shrink (H11)";
  if (next.inSync.length === 0 || next.inSync.length > COPIES_MAX + 1) {
    return "one to four members are in sync";
  }
  const disks = disksOf(next);
  if (disks.length > MEMBERS_MAX) return "too many members";
  if (new Set(disks).size !== disks.length) return "a disk is named once";
  if (inSyncEntry(next, next.head) === undefined) return "the head is in sync";
  if (disks.some((disk) => keptOn(next, disk) !== undefined)) {
    return "a disk that keeps a copy of another lineage takes no part (R8)";
  }
  return null;
}

/** R3, R8: an owner goes on from what one disk holds; what the others hold is kept. */
function overrideRefusal(current: SliceRecord, next: SliceRecord): string | null {
  const fixed =
    next.slice === current.slice &&
    next.volume === current.volume &&
    next.index === current.index &&
    next.copies === current.copies &&
    next.sizeBytes === current.sizeBytes;
  if (!fixed) return "slice, volume, index, size and copies stay as they are";
  if (JSON.stringify(next.ancestry) !== JSON.stringify([...current.ancestry, current.lineage])) {
    return "a new lineage descends from the one before (R8)";
  }
  if (next.ancestry.includes(next.lineage)) return "a new lineage is no earlier one (R8)";
  if (next.inSync.length !== 1 || next.resyncing.length > 0) return "one member goes on";
  const isKnown =
    inSyncEntry(current, next.head) !== undefined ||
    (current.former ?? []).some(({ disk }) => disk === next.head);
  if (!isKnown) return "only a disk that was in sync goes on (R3)";
  const losers = current.inSync.filter(({ disk }) => disk !== next.head);
  const isKept = losers.every(({ disk }) => keptOn(next, disk)?.lineage === current.lineage);
  const before = (current.kept ?? []).every(({ disk }) => keptOn(next, disk) !== undefined);
  if (!isKept || !before) return "what lost is kept (R8)";
  return setRefusal(current, next);
}

function sameKept(current: SliceRecord, next: SliceRecord): boolean {
  const disks = (record: SliceRecord) => (record.kept ?? []).map(({ disk }) => disk);
  return disks(current).join() === disks(next).join();
}

function stationRefusal(current: SliceRecord, next: SliceRecord): string | null {
  if (next.head !== current.head) return "the control station does not choose heads";
  if (!sameMembers(current, next)) return "the control station does not say who is in sync";
  const before = (current.kept ?? []).map(({ disk }) => disk);
  if ((next.kept ?? []).some(({ disk }) => !before.includes(disk))) {
    return "only an override keeps copies (R8)";
  }
  return null;
}

function headRefusal(current: SliceRecord, next: SliceRecord): string | null {
  for (const member of next.inSync) {
    const before = inSyncEntry(current, member.disk);
    if (before !== undefined) {
      // R0: a member that came back in another incarnation comes in through resync only.
      if (before.incarnation !== member.incarnation) return "an incarnation changes by resync only";
    } else if (!current.resyncing.includes(member.disk)) {
      return "who was not resyncing does not come in (R7)";
    }
  }
  if (next.copies !== current.copies) return "the head does not change the protection";
  if (next.sizeBytes !== current.sizeBytes) return "the head does not change the size";
  return null;
}

function takeoverRefusal(current: SliceRecord, next: SliceRecord, by: DiskNumber): string | null {
  if (inSyncEntry(current, by) === undefined) return "only an in-sync member takes over (R3)";
  for (const member of next.inSync) {
    if (inSyncEntry(current, member.disk) === undefined) return "a takeover lets nobody in";
  }
  const known = disksOf(current);
  if (next.resyncing.some((disk) => !known.includes(disk))) return "a takeover names nobody new";
  if (next.copies !== current.copies) return "a takeover does not change the protection";
  if (next.sizeBytes !== current.sizeBytes) return "a takeover does not change the size";
  return null;
}

function sameMembers(left: SliceRecord, right: SliceRecord): boolean {
  return (
    left.inSync.length === right.inSync.length &&
    left.inSync.every((member) => inSync(right, member.disk, member.incarnation))
  );
}
