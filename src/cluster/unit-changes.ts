// SPDX-License-Identifier: Apache-2.0
//
// What the control station decides about units that are to go: evacuated (everything they hold,
// head and vote for goes to others while they still serve, upkeep.ts and voters.ts), replaced
// (another unit takes the place first), removed. pool-changes.ts empties units in the same way.
//
// Invariants:
// - The last current copy of anything is never removed with its unit, whoever insists: its volume
//   is deleted first, by name, or the unit comes back.
// - What costs only protection is refused with what it costs, until somebody insists.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import { disksOf } from "#base/record.ts";
import type { SliceRecord, UnitNumber } from "#base/record.ts";
import type { CommandArguments } from "./commands.ts";
import type { Draft } from "./draft.ts";
import { keptOnDisk } from "./lineages.ts";
import { leavesCluster, placeInWords } from "./pool-state.ts";
import type { PlaceInPools } from "./pool-state.ts";
import { keys } from "./state.ts";
import type { UnitRecord } from "./state.ts";
import type { KnownVoters } from "./update-plan.ts";
import type { ClusterView } from "./view.ts";

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
/** Names in one sentence. */
const NAMED_MAX = 5;

/** Arguments of the commands decided here. */
export const unitCommands = {
  removeUnit: z.object({
    unit: positive,
    /** Fewer copies and votes are accepted. */
    force: z.boolean().optional(),
  }),
  evacuateUnit: z.object({ unit: positive, thenRemove: z.boolean() }),
  /** The asking unit has handed the lead of the control store to another voter: why. */
  tellLead: z.object({ why: z.string().max(256) }),
  /** An evacuation is taken back. */
  keepUnit: z.object({ unit: positive }),
  /** Another unit takes its place in its pool; then it is evacuated and removed. */
  replaceUnit: z.object({ unit: positive, by: positive }),
} as const;

export function unitOf(view: ClusterView, number: UnitNumber): UnitRecord {
  const unit = view.units.get(number);
  if (unit === undefined || unit.state !== "admitted") {
    throw new Fault("notFound", `no unit ${number}`);
  }
  return unit;
}

/** What a unit's removal would cost now. */
export interface RemovalCosts {
  /** Volumes whose only current copies of something are there: nothing brings them back. */
  lost: string[];
  /** Volumes that would have a copy fewer until it is made anew. */
  weakened: string[];
  /** Copies of before an override that are kept there alone. */
  kept: string[];
  /** The control store would have no majority, or none to spare. */
  votes: string | null;
}

export function removalCosts(
  view: ClusterView,
  unit: UnitNumber,
  voters: KnownVoters,
): RemovalCosts {
  const lost = new Set<string>();
  const weakened = new Set<string>();
  for (const record of view.slicesOfUnit(unit)) {
    const isHere = (disk: number) => view.disks.get(disk)?.unit === unit;
    if (!record.inSync.some((member) => isHere(member.disk))) continue;
    const name = view.volumes.get(record.volume)?.name ?? `volume ${record.volume}`;
    if (hasCopyElsewhere(view, record, unit)) weakened.add(name);
    else lost.add(name);
  }
  // After a restore nobody knows yet whether the newest copy is there.
  for (const { volume, record } of view.restored.values()) {
    if (record === null || !disksOf(record).some((disk) => view.disks.get(disk)?.unit === unit)) {
      continue;
    }
    weakened.add(view.volumes.get(volume)?.name ?? `volume ${volume}`);
  }
  for (const name of lost) weakened.delete(name);
  const kept = view.disksOfUnit(unit).flatMap(({ number }) => keptOnDisk(view, number));
  const votes = voteCost(view, unit, voters);
  return { lost: [...lost], weakened: [...weakened], kept: [...new Set(kept)], votes };
}

function hasCopyElsewhere(view: ClusterView, record: SliceRecord, unit: UnitNumber): boolean {
  return record.inSync.some((member) => {
    const disk = view.disks.get(member.disk);
    return disk !== undefined && disk.unit !== unit && disk.state !== "gone";
  });
}

/** Whether the others' votes still decide, and what is to spare of them. */
function voteCost(view: ClusterView, unit: UnitNumber, voters: KnownVoters): string | null {
  if (voters === null || !voters.includes(unit)) return null;
  const others = voters.filter((voter) => voter !== unit);
  // Both have to agree that one does not vote any more, and a unit that was removed goes at once.
  if (voters.length === 2) return "the control store would stop: it takes both votes to end one";
  const alive = others.filter((voter) => view.isAlive(voter)).length;
  const needed = Math.floor(others.length / 2) + 1;
  if (alive < needed) return "the control store would stop: too few of the other voters are up";
  if (voters.length >= 3 && alive === needed && others.length < 3) {
    return "the control store would have no vote to spare: the loss of one more unit stops it";
  }
  return null;
}

function named(names: readonly string[]): string {
  const more = names.length > NAMED_MAX ? ` and ${names.length - NAMED_MAX} more` : "";
  return names.slice(0, NAMED_MAX).join(", ") + more;
}

/** Each cost in a sentence of its own; empty: it costs nothing. */
export function costsInWords({ lost, weakened, kept, votes }: RemovalCosts): string[] {
  return [
    ...(lost.length === 0
      ? []
      : [`${named(lost)}: the only current copy of part of it is there and would be lost`]),
    ...(weakened.length === 0
      ? []
      : [`${named(weakened)}: goes on with a copy fewer until that is made anew elsewhere`]),
    ...(kept.length === 0
      ? []
      : [`${named(kept)}: the copy of before an override is kept there and would be lost`]),
    ...(votes === null ? [] : [votes]),
  ];
}

export function removeUnit(
  draft: Draft,
  args: CommandArguments<"removeUnit">,
  voters: KnownVoters,
): Record<string, never> {
  const { view } = draft;
  const known = view.units.get(args.unit);
  if (known === undefined) throw new Fault("notFound", `no unit ${args.unit}`);
  if (known.state === "removed") return {};
  const costs = removalCosts(view, known.number, voters);
  const words = costsInWords(costs).join("; ");
  const { name } = known;
  if (costs.lost.length > 0) {
    const ways = `evacuate ${name}, or bring it back, or delete what is named`;
    throw new Fault("conflict", `${name} cannot be removed: ${words}. First ${ways}`);
  }
  const mayStop = costs.votes !== null && costs.votes.startsWith("the control store would stop");
  if (mayStop) throw new Fault("conflict", `${name} cannot be removed: ${words}`);
  if (words !== "" && args.force !== true) {
    throw new Fault("conflict", `removing ${name} costs protection: ${words}. Evacuate it first`);
  }
  forgetUnit(draft, known, words === "" ? "" : `; ${words}`);
  return {};
}

function forgetUnit(draft: Draft, unit: UnitRecord, cost: string): void {
  const { view } = draft;
  const { evacuation: _, maintenance: __, ...kept } = unit;
  draft.put(keys.unit(unit.number), { ...kept, state: "removed", pool: null });
  draft.delete(keys.aliveOf(unit.number));
  draft.delete(keys.unitUpdate(unit.number));
  for (const disk of view.disksOfUnit(unit.number)) {
    draft.put(keys.disk(disk.number), { ...disk, state: "gone" });
  }
  draft.tell({
    kind: "unit-removed",
    severity: "warning",
    sentence: `${unit.name} was removed from the cluster${cost}`,
    unit: unit.number,
  });
}

export function evacuateUnit(
  draft: Draft,
  args: CommandArguments<"evacuateUnit">,
  wallMs: number,
): Record<string, never> {
  const { view } = draft;
  const unit = unitOf(view, args.unit);
  const others = [...view.units.values()].filter((other) => {
    return other.number !== unit.number && other.state === "admitted" && !other.evacuation;
  });
  if (others.length === 0) {
    throw new Fault("conflict", `${unit.name} is the only unit that stays: nobody could take over`);
  }
  const known = unit.evacuation;
  if (known?.thenMove === undefined && known?.thenRemove === args.thenRemove) return {};
  startEvacuation(draft, unit, { thenRemove: args.thenRemove, wallMs, instead: null });
  return {};
}

export function startEvacuation(
  draft: Draft,
  unit: UnitRecord,
  how: {
    thenRemove: boolean;
    thenMove?: PlaceInPools;
    wallMs: number;
    instead: UnitRecord | null;
  },
): void {
  const slices = draft.view.slicesOfUnit(unit.number).length;
  const sinceMs = Math.max(0, Math.floor(how.wallMs));
  const { thenMove: _, ...before } = unit.evacuation ?? { sinceMs, slices };
  const { thenRemove, thenMove } = how;
  const evacuation = { ...before, thenRemove, ...(thenMove === undefined ? {} : { thenMove }) };
  draft.put(keys.unit(unit.number), { ...unit, evacuation });
  const then = thenInWords(how);
  const place = how.instead === null ? "" : `; ${how.instead.name} takes its place`;
  const many = slices === 1 ? "one slice goes" : `${slices} slices go`;
  draft.tell({
    kind: "unit-evacuated",
    severity: "info",
    sentence: `${unit.name} is being evacuated: ${many} to other units${then}${place}`,
    unit: unit.number,
  });
}

function thenInWords(how: { thenRemove: boolean; thenMove?: PlaceInPools }): string {
  if (how.thenMove !== undefined) return `, then it is ${placeInWords(how.thenMove)}`;
  return how.thenRemove ? ", then it is removed" : "";
}

export function tellLead(
  draft: Draft,
  args: CommandArguments<"tellLead">,
  asker: UnitNumber,
): Record<string, never> {
  const unit = draft.view.units.get(asker);
  const name = unit?.name ?? `unit ${asker}`;
  draft.tell({
    kind: "lead-handed-over",
    severity: unit?.maintenance === undefined ? "warning" : "info",
    sentence: `${name} handed the lead of the control store to another unit: ${args.why}`,
    unit: asker,
  });
  return {};
}

export function keepUnit(draft: Draft, args: CommandArguments<"keepUnit">): Record<string, never> {
  const unit = unitOf(draft.view, args.unit);
  if (unit.evacuation === undefined) {
    throw new Fault("conflict", `${unit.name} is not being evacuated`);
  }
  const { evacuation: _, ...kept } = unit;
  draft.put(keys.unit(unit.number), kept);
  draft.tell({
    kind: "unit-kept",
    severity: "info",
    sentence: `${unit.name} stays: it is not evacuated any more, and keeps what it still holds`,
    unit: unit.number,
  });
  return {};
}

export function replaceUnit(
  draft: Draft,
  args: CommandArguments<"replaceUnit">,
  wallMs: number,
): Record<string, never> {
  const { view } = draft;
  const unit = unitOf(view, args.unit);
  const by = unitOf(view, args.by);
  if (by.number === unit.number) throw new Fault("badRequest", "a unit cannot replace itself");
  if (by.evacuation !== undefined) {
    throw new Fault("conflict", `${by.name} is being evacuated itself`);
  }
  if (!view.isAlive(by.number)) throw new Fault("notReady", `${by.name} is away`);
  if (by.role === "witness")
    throw new Fault("conflict", `${by.name} is a witness: it has no disks`);
  const hasDisk = view.disksOfUnit(by.number).some((disk) => disk.state === "ready");
  if (!hasDisk) throw new Fault("notReady", `${by.name} has no disk in use yet`);
  const pool = unit.pool ?? by.pool;
  if (pool !== null && by.pool !== pool && view.slicesOfUnit(by.number).length > 0) {
    const where = placeInWords(by);
    throw new Fault("conflict", `${by.name} is ${where} and holds slices: move it first`);
  }
  if (pool !== null && (by.role !== "member" || by.pool !== pool)) {
    draft.put(keys.unit(by.number), { ...by, role: "member", pool });
    draft.relyOn(keys.pool(pool));
  }
  startEvacuation(draft, unit, { thenRemove: true, wallMs, instead: by });
  return {};
}

/** A unit that holds nothing any more: told once, moved or removed, as its owner wished. */
export function endEvacuation(draft: Draft): void {
  const { view } = draft;
  for (const unit of view.units.values()) {
    const { evacuation } = unit;
    if (evacuation === undefined || unit.state !== "admitted") continue;
    if (view.slicesOfUnit(unit.number).length > 0) continue;
    if (evacuation.thenMove !== undefined) {
      const { pool } = evacuation.thenMove;
      if (pool !== null) draft.relyOn(keys.pool(pool));
      return putInPlace(draft, unit, evacuation.thenMove);
    }
    if (isVoteToMove(view, unit.number)) continue;
    if (evacuation.thenRemove) return forgetUnit(draft, unit, ": it was evacuated before");
    if (evacuation.emptied === true) continue;
    draft.put(keys.unit(unit.number), { ...unit, evacuation: { ...evacuation, emptied: true } });
    draft.tell({
      kind: "unit-emptied",
      severity: "info",
      sentence: `${unit.name} holds nothing any more: it can be switched off, or removed`,
      unit: unit.number,
    });
    return;
  }
}

/** The move itself, of a unit that holds nothing in its way. */
export function putInPlace(draft: Draft, unit: UnitRecord, { role, pool }: PlaceInPools): void {
  const { evacuation: _, ...kept } = unit;
  draft.put(keys.unit(unit.number), { ...kept, role, pool });
  draft.tell({
    kind: "unit-moved",
    severity: "info",
    sentence: `${unit.name} is now ${placeInWords({ role, pool })}`,
    unit: unit.number,
  });
}

/** A witness, or a unit that is evacuated or in maintenance, leads only where nobody else may. */
export function mayLead({ units, alive }: ClusterView, number: UnitNumber): boolean {
  const isFit = (one: UnitNumber) => {
    const unit = units.get(one);
    if (unit === undefined) return true;
    const isGoing = leavesCluster(unit) || unit.maintenance !== undefined;
    return !isGoing && unit.role !== "witness";
  };
  return isFit(number) || ![...alive.keys()].some(isFit);
}

/** It votes, and some other unit could in its place (voters.ts). */
export function isVoteToMove(view: ClusterView, unit: UnitNumber): boolean {
  if (!view.voters.has(unit)) return false;
  for (const other of view.units.values()) {
    const isFree = other.state === "admitted" && other.evacuation === undefined;
    if (isFree && view.isAlive(other.number) && !view.voters.has(other.number)) return true;
  }
  return false;
}
