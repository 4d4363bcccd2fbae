// SPDX-License-Identifier: Apache-2.0
//
// What the control station does unasked: fills volumes that are being created or grow, empties
// those being deleted, gives slices that lack a member another one, takes targets away that nobody
// needs, and forgets hosts that are gone. Pure: a view in, at most one draft out; the station
// commits it and asks again.
//
// Re-protection (design section 5): a slice counts the members that work, or whose unit has not
// been away for `reprotectAfterMs` yet. Fewer than promised for that long: a disk of another unit
// is named as resyncing, spares first; the head does the rest (R7). The station never says who is
// in sync and never moves a head: those are the members' to propose (R2, R3). A member whose unit
// is in maintenance keeps a target's place in the record while it is away (raid/sessions.ts), and
// so nobody else is named.

import { assert } from "#base/assert.ts";
import { carriedOver, disksOf, keptOn } from "#base/record.ts";
import type { DiskNumber, SliceNumber, SliceRecord, UnitNumber } from "#base/record.ts";
import type { Lacks } from "./decision-journal.ts";
import { tellEmptied } from "./disk-changes.ts";
import { endEvacuation } from "./unit-changes.ts";
import { Draft } from "./draft.ts";
import { forgetDrills } from "./drill-changes.ts";
import { raiseFeatureLevel } from "./feature-level.ts";
import { adoptRanges, forgetHosts } from "./host-changes.ts";
import { SLICES_PER_DRAFT, headOf, putSlices } from "./new-slices.ts";
import { placeMember, placeSlices, sliceSizes } from "./placement.ts";
import type { DiskRoom } from "./placement.ts";
import { recordRefusal } from "./record-rules.ts";
import { forgetRequests } from "./request-changes.ts";
import { settleSlices } from "./restored-changes.ts";
import { headedBytes, poolRooms, spareRooms, unitsOf } from "./rooms.ts";
import { keys } from "./state.ts";
import type { VolumeRecord } from "./state.ts";
import { adoptPassword } from "./user-changes.ts";
import type { ClusterView } from "./view.ts";
import { startDeleting } from "./volume-ends.ts";
import { growVolumes } from "./volume-growth.ts";

/** Slices that get another member in one transaction. */
const MEMBERS_PER_DRAFT = 8;
/** Events kept in the control store; the catalog keeps more. */
export const EVENTS_KEPT = 500;

/** The next piece of upkeep, or null when there is nothing to do. */
export function nextUpkeep(view: ClusterView, lacks: LackClock, nowMs: number): Draft | null {
  // What is not settled yet after a restore may lie on any disk: none of them is told to be empty.
  const isSettled = view.restored.size === 0;
  return (
    settleSlices(view) ??
    fillVolumes(view) ??
    growVolumes(view) ??
    emptyVolumes(view) ??
    protect(view, lacks, nowMs) ??
    (isSettled ? emptied(view) : null) ??
    (isSettled ? evacuated(view) : null) ??
    forgetDrills(view) ??
    adoptRanges(view) ??
    adoptPassword(view) ??
    forgetHosts(view) ??
    forgetRequests(view) ??
    raised(view) ??
    trimEvents(view)
  );
}

/**
 * Units may come to speak more without a rolling update: replaced by hand, or the old ones gone.
 */
function raised(view: ClusterView): Draft | null {
  if (view.update?.state === "rolling") return null;
  const draft = new Draft(view);
  raiseFeatureLevel(draft);
  return draft.isEmpty ? null : draft;
}

function emptied(view: ClusterView): Draft | null {
  const draft = new Draft(view);
  tellEmptied(draft);
  return draft.isEmpty ? null : draft;
}

function evacuated(view: ClusterView): Draft | null {
  const draft = new Draft(view);
  endEvacuation(draft);
  return draft.isEmpty ? null : draft;
}

function fillVolumes(view: ClusterView): Draft | null {
  for (const volume of view.volumes.values()) {
    if (volume.state === "creating") return fill(view, volume);
  }
  return null;
}

/** Places the next slices of a volume; makes it ready after the last one. */
function fill(view: ClusterView, volume: VolumeRecord): Draft {
  const draft = new Draft(view);
  const sizes = sliceSizes(volume.sizeBytes, volume.sliceBytes);
  const next = volume.slices.findIndex((number) => !view.slices.has(number));
  if (next < 0) {
    draft.put(keys.volume(volume.number), { ...volume, state: "ready" });
    return draft;
  }
  draft.relyOn(keys.volume(volume.number));
  const before = view.slices.get(volume.slices[next - 1] ?? 0);
  const placed = placeSlices(poolRooms(view, volume.pool), {
    shape: {
      sizeBytes: volume.sizeBytes,
      sliceBytes: volume.sliceBytes,
      protection: volume.protection,
      headedBytes: headedBytes(view),
      head: before === undefined ? (volume.canary?.head ?? null) : headOf(view, before),
    },
    sizes: sizes.slice(next),
  });
  if (placed === null) {
    // The room it was promised went to others, or a unit went away meanwhile.
    startDeleting(draft, volume);
    draft.tell({
      kind: "volume-refused",
      severity: "warning",
      sentence: `volume ${volume.name} could not be placed any more and is taken back`,
      volume: volume.number,
    });
    return draft;
  }
  const made = placed.map((slice) => {
    const index = next + slice.index;
    return { ...slice, index, number: volume.slices[index] ?? 0 };
  });
  if (next + putSlices(draft, volume, made) === volume.slices.length) {
    draft.put(keys.volume(volume.number), { ...volume, state: "ready" });
  }
  return draft;
}

function emptyVolumes(view: ClusterView): Draft | null {
  for (const volume of view.volumes.values()) {
    if (volume.state !== "deleting") continue;
    const draft = new Draft(view);
    const left = [...slicesToEmpty(view, volume)]
      .flatMap((number) => [keys.slice(number), keys.restoredSlice(number)])
      .filter((key) => view.revisionOf(key) > 0);
    for (const key of left.slice(0, SLICES_PER_DRAFT)) draft.delete(key);
    if (left.length <= SLICES_PER_DRAFT) draft.delete(keys.volume(volume.number));
    else draft.relyOn(keys.volume(volume.number));
    return draft;
  }
  return null;
}

/** Also what it was growing by, and what disks told of it that never became part of it. */
function slicesToEmpty(view: ClusterView, volume: VolumeRecord): Set<SliceNumber> {
  const slices = new Set([...volume.slices, ...(volume.growth?.slices ?? [])]);
  for (const claim of view.restored.values()) {
    if (claim.volume === volume.number) slices.add(claim.slice);
  }
  return slices;
}

function trimEvents(view: ClusterView): Draft | null {
  const surplus = view.events.size - EVENTS_KEPT;
  if (surplus < 50) return null; // in batches
  const oldest = [...view.events.keys()].sort((a, b) => a - b).slice(0, Math.min(surplus, 100));
  const draft = new Draft(view);
  for (const number of oldest) draft.delete(keys.event(number));
  return draft;
}

/** Since when units are away and slices lack a member, by this station's clock. */
export class LackClock {
  readonly #unitAwaySinceMs = new Map<UnitNumber, number>();
  readonly #sliceLacksSinceMs = new Map<SliceNumber, number>();

  /** As it was at another time. */
  static of(lacks: Lacks): LackClock {
    const clock = new LackClock();
    for (const [unit, sinceMs] of lacks.units) clock.#unitAwaySinceMs.set(unit, sinceMs);
    for (const [slice, sinceMs] of lacks.slices) clock.#sliceLacksSinceMs.set(slice, sinceMs);
    return clock;
  }

  get lacks(): Lacks {
    return { units: [...this.#unitAwaySinceMs], slices: [...this.#sliceLacksSinceMs] };
  }

  /** Looks at the view; called before every round of upkeep. */
  look(view: ClusterView, nowMs: number): void {
    for (const unit of view.units.values()) {
      if (view.isAlive(unit.number)) this.#unitAwaySinceMs.delete(unit.number);
      else if (!this.#unitAwaySinceMs.has(unit.number)) {
        this.#unitAwaySinceMs.set(unit.number, nowMs);
      }
    }
    for (const number of this.#sliceLacksSinceMs.keys()) {
      if (!view.slices.has(number)) this.#sliceLacksSinceMs.delete(number);
    }
    for (const record of view.slices.values()) {
      if (this.#working(view, record) >= record.copies) {
        this.#sliceLacksSinceMs.delete(record.slice);
      } else if (!this.#sliceLacksSinceMs.has(record.slice)) {
        // A member whose unit went away earlier has been lacking since then.
        this.#sliceLacksSinceMs.set(record.slice, nowMs);
      }
    }
  }

  #working(view: ClusterView, record: SliceRecord): number {
    return disksOf(record).filter((disk) => view.diskServes(disk) && !view.diskLeaves(disk)).length;
  }

  lacksForMs(slice: SliceNumber, nowMs: number): number {
    return nowMs - (this.#sliceLacksSinceMs.get(slice) ?? nowMs);
  }

  /**
   * Whether a disk is as good as lost: failed, gone, or its unit away for so long, and not in
   * maintenance.
   */
  isLost(view: ClusterView, disk: DiskNumber, at: { nowMs: number; afterMs: number }): boolean {
    const record = view.disks.get(disk);
    if (record === undefined || record.state === "failed" || record.state === "gone") return true;
    if (view.units.get(record.unit)?.state !== "admitted") return true;
    if (view.isMaintained(disk)) return false;
    const sinceMs = this.#unitAwaySinceMs.get(record.unit);
    return sinceMs !== undefined && at.nowMs - sinceMs >= at.afterMs;
  }
}

/** Members added and surplus targets taken away, of so many slices at most. */
export function protect(
  view: ClusterView,
  lacks: LackClock,
  nowMs: number,
  slicesMax = MEMBERS_PER_DRAFT,
): Draft | null {
  const draft = new Draft(view, { isBounded: slicesMax === MEMBERS_PER_DRAFT });
  const isAbandoned = hasAbandoned(view);
  const at = { nowMs, afterMs: view.settings.reprotectAfterMs, isAbandoned };
  let changed = 0;
  for (const record of view.slices.values()) {
    if (changed >= slicesMax || draft.isFull) break;
    if (view.volumes.get(record.volume)?.state !== "ready") continue;
    const next = betterTargets(draft, record, lacks, at);
    if (next === null) continue;
    assert(recordRefusal(record, next, "station") === null, "the station keeps its own rules");
    draft.put(keys.slice(record.slice), next);
    changed++;
  }
  return draft.isEmpty ? null : draft;
}

function betterTargets(
  draft: Draft,
  record: SliceRecord,
  lacks: LackClock,
  at: { nowMs: number; afterMs: number; isAbandoned: boolean },
): SliceRecord | null {
  const { view } = draft;
  // A disk that leaves serves as a source, and counts as no copy.
  const staying = record.inSync.filter((member) => !view.diskLeaves(member.disk));
  const inSync = staying.filter((member) => !lacks.isLost(view, member.disk, at)).length;
  const live = staying.filter((member) => view.diskServes(member.disk)).length;
  // All promised members serve: whoever else was on the way is not needed any more.
  if (live >= record.copies) {
    return record.resyncing.length === 0 ? null : changed(record, []);
  }
  const kept = record.resyncing.filter((disk) => {
    return !lacks.isLost(view, disk, at) && !view.diskLeaves(disk);
  });
  let targets = kept;
  const lacking = inSync + kept.length < record.copies;
  // It does not come back by waiting; nor does what an owner evacuates while it is away.
  const isRetired = staying.length < record.inSync.length || at.isAbandoned;
  const longEnough = isRetired || lacks.lacksForMs(record.slice, at.nowMs) >= at.afterMs;
  // Without a head there is nobody to copy from; first another member takes over.
  if (lacking && longEnough && view.diskServes(record.head)) {
    const disk = newMember(draft, record, kept);
    if (disk !== null) targets = [...kept, disk];
  }
  if (targets.length === record.resyncing.length && targets === kept) return null;
  return changed(record, targets);
}

/** A unit that is away is being evacuated: it is not waited for. */
function hasAbandoned(view: ClusterView): boolean {
  for (const unit of view.units.values()) {
    if (unit.evacuation !== undefined && !view.isAlive(unit.number)) return true;
  }
  return false;
}

/** Whether a slice could get another member somewhere now, beside those it has. */
export function hasRoomFor(view: ClusterView, record: SliceRecord): boolean {
  return newMember(new Draft(view), record, record.resyncing) !== null;
}

function changed(record: SliceRecord, resyncing: DiskNumber[]): SliceRecord {
  return carriedOver(record, { ...record, epoch: record.epoch + 1, resyncing });
}

/**
 * A disk for another member: of the pool's own spares first, then of those for all, then of the
 * pool; never on a unit that has one.
 */
function newMember(
  draft: Draft,
  record: SliceRecord,
  kept: readonly DiskNumber[],
): DiskNumber | null {
  const { view } = draft;
  const volume = view.volumes.get(record.volume);
  if (volume === undefined) return null;
  const named = [...record.inSync.map((member) => member.disk), ...kept];
  const need = { sizeBytes: record.sizeBytes, withoutUnits: unitsOf(view, named) };
  const { taken } = draft;
  const { pool } = volume;
  const minus = (rooms: DiskRoom[]) =>
    rooms
      .filter((room) => keptOn(record, room.disk) === undefined)
      .map((room) => ({ ...room, freeBytes: room.freeBytes - (taken.get(room.disk) ?? 0) }));
  const disk =
    placeMember(minus(draft.rooms(`${pool} spares`, () => spareRooms(view, pool))), need) ??
    placeMember(minus(draft.rooms(" spares", () => spareRooms(view, null))), need) ??
    placeMember(minus(draft.rooms(pool, () => poolRooms(view, pool))), need);
  if (disk === null) return null;
  taken.set(disk, (taken.get(disk) ?? 0) + record.sizeBytes);
  draft.relyOn(keys.disk(disk));
  useSpare(draft, disk, volume);
  return disk;
}

/** A spare becomes a member of the pool it is used in, and the history says so. */
function useSpare(draft: Draft, disk: DiskNumber, volume: VolumeRecord): void {
  const unit = draft.view.unitOfDisk(disk);
  if (unit === null || unit.role !== "spare" || draft.writes(keys.unit(unit.number))) return;
  draft.put(keys.unit(unit.number), { ...unit, role: "member", pool: volume.pool });
  // The next slice may be of another pool, and sees the spare where it is then.
  draft.close();
  draft.tell({
    kind: "spare-used",
    severity: "warning",
    sentence:
      `the spare ${unit.name} is now a member of the pool ${volume.pool}: ` +
      `volume ${volume.name} lacked a copy`,
    unit: unit.number,
    volume: volume.number,
  });
}
