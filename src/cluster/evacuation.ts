// SPDX-License-Identifier: Apache-2.0
//
// How far a unit's evacuation is, for people: what was moved, what is left, how long it takes at
// the pace so far, and what it waits for. Never a guess: before the first slice has moved nobody
// knows.

import { disksOf } from "#base/record.ts";
import type { SliceRecord, UnitNumber } from "#base/record.ts";
import { keptOnDisk } from "./lineages.ts";
import { placeInWords } from "./pool-state.ts";
import { roughTime } from "./rough-time.ts";
import { isVoteToMove } from "./unit-changes.ts";
import { hasRoomFor } from "./upkeep.ts";
import type { ClusterView } from "./view.ts";

/** Slices that are looked at for room: a few say as much as all. */
const LOOKED_AT_MAX = 32;

export interface EvacuationState {
  thenRemove: boolean;
  /** Slices with a member on it: as it began, and now. */
  slices: number;
  left: number;
  /** Of the pace so far; null: not known (yet). */
  leftMs: number | null;
  /** It waits for room, or for a further unit. */
  isStuck: boolean;
  sentence: string;
}

/** Null: the unit is not being evacuated. `wallMs` is for people, as what it is compared with. */
export function evacuationOf(
  view: ClusterView,
  unit: UnitNumber,
  wallMs: number,
): EvacuationState | null {
  const evacuation = view.units.get(unit)?.evacuation;
  if (evacuation === undefined) return null;
  const { thenRemove, sinceMs } = evacuation;
  const records = view.slicesOfUnit(unit);
  const left = records.length;
  // What was placed or came back meanwhile counts as well.
  const slices = Math.max(evacuation.slices, left);
  const moved = slices - left;
  const passedMs = wallMs - sinceMs;
  const leftMs = left > 0 && moved > 0 && passedMs > 0 ? (passedMs / moved) * left : null;
  const own = new Set(view.disksOfUnit(unit).map((disk) => disk.number));
  const moving = records.filter((record) => disksOf(record).some((disk) => own.has(disk)));
  const kept = moving.length > 0 ? [] : [...own].flatMap((disk) => keptOnDisk(view, disk));
  const known = { thenRemove, slices, left, leftMs, isStuck: lacksRoom(view, moving) };
  return { ...known, sentence: keptSentence(kept) ?? sentenceOf(view, unit, known) };
}

/** What an owner kept there is not moved: it is read and given up by a person. */
function keptSentence([name]: readonly string[]): string | null {
  if (name === undefined) return null;
  return `all that moves is moved; ${name} is kept there until it is given up by its owner`;
}

function lacksRoom(view: ClusterView, records: readonly SliceRecord[]): boolean {
  return records
    .filter((record) => record.resyncing.length === 0)
    .slice(0, LOOKED_AT_MAX)
    .some((record) => record.inSync.length <= record.copies && !hasRoomFor(view, record));
}

function sentenceOf(
  view: ClusterView,
  unit: UnitNumber,
  at: Omit<EvacuationState, "sentence">,
): string {
  const { slices, left, leftMs, isStuck, thenRemove } = at;
  const thenMove = view.units.get(unit)?.evacuation?.thenMove;
  if (left === 0 && thenMove !== undefined) {
    return `it holds nothing any more: it is on its way to be ${placeInWords(thenMove)}`;
  }
  if (left === 0) {
    if (isVoteToMove(view, unit)) return "it holds no slices any more; its vote is still to move";
    const then = thenRemove ? "it is being removed" : "it can be switched off, or removed";
    return `it holds nothing any more: ${then}`;
  }
  const moved = `${slices - left} of ${slices} slices are moved`;
  if (isStuck) {
    return `${moved}; for others there is no room, or no further unit: it waits for one`;
  }
  if (leftMs === null) return `${moved}; how long it takes is known once the first one is`;
  return `${moved}; about ${roughTime(leftMs)} more at the pace so far`;
}
