// SPDX-License-Identifier: Apache-2.0
//
// Units in maintenance: taken out for work by their owner, or restarted by a rolling update
// (update-roll.ts). The mark stands in the unit's record; from it follows all the rest: heads hand
// on (raid/handing-on.ts), the lead of station and control store goes to others, nothing new is
// placed there, and its copies are waited for while it is away (upkeep.ts) instead of made anew.
//
// Invariants
// - It is bounded. The time is counted by the wall clock of whoever is the control station, as it
//   is for people; one that runs back before its beginning by as much as the time ends it as well.
// - Beforehand it is said what stops meanwhile, and refused until somebody insists. Other units in
//   maintenance count as away.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import type { UnitNumber } from "#base/record.ts";
import type { CommandArguments } from "./commands.ts";
import { Draft } from "./draft.ts";
import { Rehearsal } from "./rehearsal.ts";
import { roughTime } from "./rough-time.ts";
import { keys } from "./state.ts";
import type { UnitRecord } from "./state.ts";
import { unitOf } from "./unit-changes.ts";
import type { KnownVoters } from "./update-plan.ts";
import type { ClusterView } from "./view.ts";
import { lossTable } from "./volume-state.ts";

export const MAINTENANCE_MS_MIN = 60_000;
export const MAINTENANCE_MS_MAX = 24 * 3_600_000;
export const MAINTENANCE_MS_DEFAULT = 2 * 3_600_000;

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);

/** Arguments of the commands decided here. */
export const maintenanceCommands = {
  maintainUnit: z.object({
    unit: positive,
    /** For so long at most, ms; one that is in maintenance already has that long from now. */
    forMs: z.number().int().min(MAINTENANCE_MS_MIN).max(MAINTENANCE_MS_MAX),
    /** What stops meanwhile is accepted. */
    force: z.boolean(),
  }),
  endMaintenance: z.object({ unit: positive }),
} as const;

/** What stops while a unit is away, each in a sentence; empty: nothing does. */
export function maintenanceCosts(
  view: ClusterView,
  unit: UnitNumber,
  voters: KnownVoters,
): string[] {
  // What it costs that it is away has come about already.
  if (!view.isAlive(unit)) return [];
  const rehearsal = new Rehearsal(view);
  takeAway(rehearsal, unit);
  const row = lossTable(rehearsal.view, voters ?? []).find((one) => one.unit === unit);
  if (row === undefined) return [];
  const { stops, waits, controlStops } = row;
  return [
    ...(stops.length === 0 ? [] : [`${stops.join(", ")}: offline while ${row.name} is away`]),
    ...(controlStops
      ? [`the control store stops with ${row.name}: nothing fails over, is created or admitted`]
      : []),
    ...(waits.length === 0 ? [] : [`${waits.join(", ")}: waits for the control store`]),
    ...(voters === null ? ["it is not known who votes in the control store"] : []),
  ];
}

/** As if the unit, and all others that are in maintenance, were switched off. */
export function takeAway(rehearsal: Rehearsal, unit: UnitNumber): void {
  const { view } = rehearsal;
  const record = view.units.get(unit);
  if (record?.state !== "admitted") throw new Fault("notFound", `no unit ${unit}`);
  const maintenance = { sinceMs: 0, forMs: MAINTENANCE_MS_DEFAULT, by: "owner" };
  rehearsal.put(keys.unit(unit), { ...record, maintenance });
  for (const other of view.units.values()) {
    if (other.maintenance !== undefined) rehearsal.delete(keys.aliveOf(other.number));
  }
}

export function maintainUnit(
  draft: Draft,
  args: CommandArguments<"maintainUnit">,
  facts: { wallMs: number; voters: KnownVoters },
): Record<string, never> {
  const { view } = draft;
  const unit = unitOf(view, args.unit);
  const { update } = view;
  if (update?.state === "rolling" && update.current?.unit === unit.number) {
    throw new Fault("conflict", `the update works on ${unit.name}; stop it first`);
  }
  const costs = maintenanceCosts(view, unit.number, facts.voters);
  if (costs.length > 0 && !args.force) {
    const what = costs.join("; ");
    throw new Fault("conflict", `${unit.name} cannot go into maintenance: ${what}`);
  }
  beginMaintenance(draft, unit, { by: "owner", forMs: args.forMs, wallMs: facts.wallMs });
  const cost = costs.length === 0 ? "" : `; accepted: ${costs.join("; ")}`;
  draft.tell({
    kind: "maintenance-began",
    severity: "info",
    sentence:
      `${unit.name} is in maintenance for ${roughTime(args.forMs)} at most: ` +
      `others take over what it heads, and its copies are waited for${cost}`,
    unit: unit.number,
  });
  return {};
}

/** The mark alone: whoever sets it tells why. */
export function beginMaintenance(
  draft: Draft,
  unit: UnitRecord,
  how: { by: "owner" | "update"; forMs: number; wallMs: number },
): void {
  const sinceMs = Math.max(0, Math.floor(how.wallMs));
  const maintenance = { sinceMs, forMs: how.forMs, by: how.by };
  draft.put(keys.unit(unit.number), { ...unit, maintenance });
}

/** Takes away the mark that a rolling update set, if there is one. */
export function updateLetsGo(draft: Draft, number: UnitNumber | undefined): void {
  const unit = draft.view.units.get(number ?? 0);
  if (unit?.maintenance?.by === "update") unmark(draft, unit);
}

function unmark(draft: Draft, unit: UnitRecord): void {
  const { maintenance: _, ...kept } = unit;
  draft.put(keys.unit(unit.number), kept);
}

export function endMaintenance(
  draft: Draft,
  args: CommandArguments<"endMaintenance">,
): Record<string, never> {
  const unit = unitOf(draft.view, args.unit);
  const { maintenance } = unit;
  if (maintenance === undefined) {
    throw new Fault("conflict", `${unit.name} is not in maintenance`);
  }
  if (maintenance.by === "update") {
    throw new Fault("conflict", `the update works on ${unit.name}; stop it instead`);
  }
  unmark(draft, unit);
  draft.tell({
    kind: "maintenance-ended",
    severity: "info",
    sentence: `${unit.name} is not in maintenance any more`,
    unit: unit.number,
  });
  return {};
}

/** Upkeep: a unit whose time is over; null: none. */
export function maintenanceOver(view: ClusterView, wallMs: number): Draft | null {
  for (const unit of view.units.values()) {
    const { maintenance } = unit;
    if (maintenance === undefined || unit.state !== "admitted") continue;
    const { sinceMs, forMs } = maintenance;
    if (Math.abs(wallMs - sinceMs) < forMs) continue;
    const draft = new Draft(view);
    unmark(draft, unit);
    const isAway = !view.isAlive(unit.number);
    const then = isAway ? ", and it is away: what it held is made anew on other units" : "";
    draft.tell({
      kind: "maintenance-over",
      severity: isAway ? "warning" : "info",
      sentence: `the time for the maintenance of ${unit.name} is over${then}`,
      unit: unit.number,
    });
    return draft;
  }
  return null;
}

/** For people. */
export interface MaintenanceState {
  by: "owner" | "update";
  /** At the wall clock. */
  untilMs: number;
  leftMs: number;
  /** Slices that it heads still. */
  heads: number;
  sentence: string;
}

/** Null: the unit is not in maintenance. */
export function maintenanceOf(
  view: ClusterView,
  unit: UnitNumber,
  wallMs: number,
): MaintenanceState | null {
  const maintenance = view.units.get(unit)?.maintenance;
  if (maintenance === undefined) return null;
  const { by, sinceMs, forMs } = maintenance;
  const untilMs = sinceMs + forMs;
  const leftMs = Math.max(0, untilMs - wallMs);
  const isHere = (disk: number) => view.disks.get(disk)?.unit === unit;
  const heads = view.slicesOfUnit(unit).filter((record) => isHere(record.head)).length;
  const state = view.isAlive(unit) ? readiness(view, unit, heads) : "its copies are waited for";
  const sentence = `${state}; for ${roughTime(leftMs)} more at most`;
  return { by, untilMs, leftMs, heads, sentence };
}

function readiness(view: ClusterView, unit: UnitNumber, heads: number): string {
  if (heads > 0) {
    const many = heads === 1 ? "one slice is" : `${heads} slices are`;
    return `${many} headed there still, until another member in sync takes over`;
  }
  if (view.station?.unit === unit) return "it is the control station still";
  return "it heads nothing: it can be switched off or restarted";
}
