// SPDX-License-Identifier: Apache-2.0
//
// What an update of the cluster would do, and whether it may: the order of the units, what goes
// offline while each is away, what stands in the way. Pure functions of the view; used by the
// control station before and during a roll (update-roll.ts), and by the console to ask first.
//
// A unit may be taken down when every other unit is up and none of them is on trial, when every
// replicated volume is online and protected, and when the control store keeps its majority without
// it. What has one copy by choice, and a control store with one voter, cannot be spared a restart:
// these are consequences, which the owner accepts beforehand.

import { layouts } from "#base/layout.ts";
import type { UnitNumber } from "#base/record.ts";
import type { UnitRecord, VolumeRecord } from "./state.ts";
import { parseManifest, updateRefusal } from "./update-manifest.ts";
import type { UpdateRecord } from "./update-state.ts";
import type { ClusterView } from "./view.ts";
import { lossTable, volumeState } from "./volume-state.ts";

/** Sentences of one kind; more would be a flood. */
const SENTENCES_MAX = 16;

/** The voters as the control store has them; null: not known at the moment. */
export type KnownVoters = readonly UnitNumber[] | null;

export interface UpdatePlan {
  /** The units to be updated, first to last. */
  order: UnitNumber[];
  /** What goes offline meanwhile; for the owner to accept. */
  consequences: string[];
  /** Why it may not begin now. */
  refusals: string[];
}

export function unitNameOf(view: ClusterView, unit: UnitNumber): string {
  return view.units.get(unit)?.name ?? `unit ${unit}`;
}

function admitted(view: ClusterView): UnitRecord[] {
  return [...view.units.values()].filter((unit) => unit.state === "admitted");
}

/** Units that still run another version: spares, then who has no vote, the control station last. */
export function updateOrder(
  view: ClusterView,
  update: Pick<UpdateRecord, "version" | "only" | "done">,
  voters: KnownVoters,
): UnitNumber[] {
  const rank = (unit: UnitRecord) => {
    if (unit.number === view.station?.unit) return 3;
    const votes = voters?.includes(unit.number) ?? view.voters.has(unit.number);
    if (votes) return 2;
    return unit.role === "spare" ? 0 : 1;
  };
  return admitted(view)
    .filter(({ number }) => update.only === null || update.only.includes(number))
    .filter(({ number }) => !update.done.includes(number))
    .filter(({ number }) => view.unitUpdates.get(number)?.version !== update.version)
    .sort((one, other) => rank(one) - rank(other) || one.number - other.number)
    .map(({ number }) => number);
}

export function updatePlan(
  view: ClusterView,
  update: Pick<UpdateRecord, "version" | "only" | "manifest" | "downgrade" | "digest">,
  voters: KnownVoters,
): UpdatePlan {
  const order = updateOrder(view, { ...update, done: [] }, voters);
  const refusals: string[] = [];
  for (const unit of update.only ?? []) {
    if (view.units.get(unit)?.state !== "admitted") refusals.push(`there is no unit ${unit}`);
  }
  if (order.length === 0 && refusals.length === 0) {
    refusals.push(`version ${update.version} runs on all of these units already`);
  }
  for (const unit of order) {
    const refusal = unitRefusal(view, unit, update);
    if (refusal !== null) refusals.push(`${unitNameOf(view, unit)}: ${refusal}`);
  }
  if (!isHeld(view, update.digest)) {
    refusals.push("no unit that is up has the update's files; load it again");
  }
  const [first] = order;
  if (first !== undefined) refusals.push(...obstacles(view, first, voters));
  const consequences = order.flatMap((unit) => consequencesOf(view, unit, voters));
  return {
    order,
    consequences: [...new Set(consequences)].slice(0, SENTENCES_MAX),
    refusals: [...new Set(refusals)].slice(0, SENTENCES_MAX),
  };
}

function isHeld(view: ClusterView, digest: string): boolean {
  return [...view.unitUpdates.values()].some(
    (report) => report.holds === digest && view.isAlive(report.unit),
  );
}

/** Why this one unit cannot take the update; null: it can. */
function unitRefusal(
  view: ClusterView,
  unit: UnitNumber,
  update: Pick<UpdateRecord, "manifest" | "downgrade">,
): string | null {
  const report = view.unitUpdates.get(unit);
  if (!view.isAlive(unit)) return "it is away";
  if (report === undefined) return "it has not said what it runs";
  if (!report.appliance) return "it is not an appliance; replace its executable where it runs";
  if (report.trial) return `version ${report.version} is still on trial there`;
  const refusal = updateRefusal(parseManifest(update.manifest), {
    version: report.version,
    architecture: report.architecture,
    diskFormat: report.diskFormat,
    featureLevel: view.cluster?.featureLevel ?? null,
    downgrade: update.downgrade,
  });
  return refusal === null ? null : refusal.message.slice(refusal.message.indexOf(": ") + 2);
}

/** What goes offline while a unit restarts. */
export function consequencesOf(view: ClusterView, unit: UnitNumber, voters: KnownVoters): string[] {
  const row = lossTable(view, voters ?? []).find((one) => one.unit === unit);
  if (row === undefined) return [];
  const sentences: string[] = [];
  for (const name of row.stops) {
    // Replicated ones that would stop are no consequence to accept: they are an obstacle.
    if (isReplicated(view.volumeByName(name))) continue;
    sentences.push(`volume ${name} (one copy by choice) is offline while ${row.name} restarts`);
  }
  if (row.controlStops) {
    sentences.push(
      `the control store is away while ${row.name} restarts: volumes go on, but none fails over, ` +
        "and nothing is created or admitted",
    );
  }
  return sentences;
}

function isReplicated(volume: VolumeRecord | null): boolean {
  return volume !== null && layouts[volume.protection].copies > 1;
}

/** Why a unit may not be taken down now, whatever the owner accepted. Empty: it may. */
export function obstacles(view: ClusterView, unit: UnitNumber, voters: KnownVoters): string[] {
  const found: string[] = [];
  if (voters === null) found.push("it is not known who votes in the control store");
  if (view.cluster?.state === "yielding") found.push("this cluster is giving way to another one");
  for (const other of admitted(view)) {
    if (other.maintenance?.by === "owner") found.push(`${other.name} is in maintenance`);
    if (other.number === unit) continue;
    if (!view.isAlive(other.number)) found.push(`${other.name} is away`);
    else if (view.unitUpdates.get(other.number)?.trial === true) {
      found.push(`${other.name} is still on trial`);
    }
  }
  found.push(...volumeTroubles(view));
  return found.slice(0, SENTENCES_MAX);
}

/** Replicated volumes that are not online and protected. */
export function volumeTroubles(view: ClusterView): string[] {
  const found: string[] = [];
  for (const volume of view.volumes.values()) {
    if (volume.state !== "ready") {
      const does = volume.state === "creating" ? "being created" : "being deleted";
      found.push(`volume ${volume.name} is ${does}`);
      continue;
    }
    if (!isReplicated(volume)) continue;
    const { availability, protection } = volumeState(view, volume);
    if (availability !== "online") found.push(`volume ${volume.name} is ${availability}`);
    else if (protection !== "protected") found.push(`volume ${volume.name} is ${protection}`);
    else if (!isSettled(view, volume)) found.push(`volume ${volume.name} is not settled yet`);
  }
  return found.slice(0, SENTENCES_MAX);
}

/** R0: a disk that started anew counts only once its slices' records name its new incarnation. */
function isSettled(view: ClusterView, volume: VolumeRecord): boolean {
  return view
    .slicesOfVolume(volume)
    .every((record) =>
      record?.inSync.every(
        ({ disk, incarnation }) => view.disks.get(disk)?.incarnation === incarnation,
      ),
    );
}
