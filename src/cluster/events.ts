// SPDX-License-Identifier: Apache-2.0
//
// The event history in sentences: what changed without anybody asking (units lost and back, volumes
// whose two words changed, the control station), told once each. What has been told last stands in
// `/told` and is compared with every telling, so a new control station goes on where the old one
// fell.

import type { UnitNumber } from "#base/record.ts";
import { judgeDeadline } from "./deadline.ts";
import { Draft } from "./draft.ts";
import { diskInWords } from "./disk-changes.ts";
import type { NearCluster } from "./formation.ts";
import { clusterInWords } from "./heard-stations.ts";
import { roughTime } from "./rough-time.ts";
import { keys } from "./state.ts";
import type { EventRecord, ToldRecord, UnitRecord, VolumeRecord } from "./state.ts";
import { volumeState } from "./volume-state.ts";
import type { ProtectionWord, VolumeState } from "./volume-state.ts";
import type { ClusterView } from "./view.ts";

/** Things told in one draft. */
const TOLD_PER_DRAFT = 16;
/** Other clusters that are kept in mind at once. */
const OTHERS_MAX = 8;

/** What there is to tell, or null. `near`: null where nobody knows. */
export function nextTelling(
  view: ClusterView,
  near: readonly NearCluster[] | null = null,
): Draft | null {
  const told: ToldRecord = view.told ?? { units: {}, volumes: {}, station: 0 };
  const next: ToldRecord = { ...told, units: { ...told.units }, volumes: { ...told.volumes } };
  const draft = new Draft(view);
  let count = tellUnits(draft, next);
  if (count < TOLD_PER_DRAFT) count += tellVolumes(draft, next, TOLD_PER_DRAFT - count);
  if (near !== null && count < TOLD_PER_DRAFT) count += tellOthers(draft, next, near);
  if (view.station !== null && view.station.unit !== told.station) {
    const name = unitName(view, view.station.unit);
    draft.tell({
      kind: "control-station",
      severity: "info",
      sentence: `${name} is the control station now${becauseBefore(view, told.station)}`,
      unit: view.station.unit,
    });
    next.station = view.station.unit;
    count++;
  }
  tellDeadline(draft, next);
  if (JSON.stringify(next) === JSON.stringify(told)) return null;
  draft.put(keys.told, next);
  return draft;
}

/** That the deadline could not be kept after some loss, and that it could be again. */
function tellDeadline(draft: Draft, next: ToldRecord): void {
  const { withinMs, problems, unknown } = judgeDeadline(draft.view);
  const before = next.deadline ?? "";
  const isOpen = withinMs === 0 || (problems.length === 0 && unknown.length > 0);
  const now = isOpen ? "" : problems.length > 0 ? "missed" : "kept";
  if (now === before) return;
  next.deadline = now;
  if (now === "missed") {
    const sentence = `the deadline of ${roughTime(withinMs)} could not be kept: ${problems[0]}`;
    draft.tell({ kind: "deadline", severity: "warning", sentence });
  } else if (before === "missed" && withinMs > 0) {
    const sentence = `the deadline of ${roughTime(withinMs)} could be kept again after a loss`;
    if (now === "kept") draft.tell({ kind: "deadline", severity: "info", sentence });
  }
}

function tellUnits(draft: Draft, next: ToldRecord): number {
  const { view } = draft;
  let count = 0;
  for (const unit of view.units.values()) {
    const key = String(unit.number);
    if (unit.state !== "admitted") {
      delete next.units[key]; // its removal was told by who removed it
      continue;
    }
    const alive = view.isAlive(unit.number);
    const before = next.units[key];
    if (before === alive || count >= TOLD_PER_DRAFT) continue;
    // A unit just admitted is told by its admission; that it is not up yet is no news either.
    if (before === undefined && !alive) continue;
    next.units[key] = alive;
    if (before === undefined) continue;
    draft.tell({
      kind: alive ? "unit-back" : "unit-lost",
      severity: alive || unit.maintenance !== undefined ? "info" : "alarm",
      sentence: alive ? `${unit.name} is back` : lostSentence(view, unit),
      unit: unit.number,
    });
    count++;
  }
  return count;
}

/** Why the one before is it no more; 0: there was none. */
function becauseBefore(view: ClusterView, before: UnitNumber): string {
  const unit = view.units.get(before);
  if (unit === undefined) return "";
  if (unit.state === "removed") return `: ${unit.name} was removed`;
  if (!view.isAlive(before)) return `: ${unit.name} does not answer`;
  if (unit.evacuation !== undefined) return `: ${unit.name} is being evacuated`;
  if (unit.maintenance !== undefined) return `: ${unit.name} is in maintenance`;
  return `: ${unit.name} began anew, or gave it up`;
}

/** What is done about it, and when. */
function lostSentence(view: ClusterView, unit: UnitRecord): string {
  if (unit.maintenance !== undefined) {
    return `${unit.name} is away, in maintenance: what it holds is waited for`;
  }
  const said = `${unit.name} does not answer any more`;
  if (view.slicesOfUnit(unit.number).length === 0) return said;
  const after = roughTime(view.settings.reprotectAfterMs);
  return `${said}: what it held is made anew on other units, unless it is back within ${after}`;
}

/** Other clusters in use that are near, in words, as far as they were told. */
export function otherClusters(view: ClusterView | null): string[] {
  return Object.entries(view?.told?.others ?? {}).map(([clusterId, clusterName]) => {
    return clusterInWords({ clusterId, clusterName });
  });
}

/** Clusters in use never merge: that two of them share a secret is for their owner to know. */
function tellOthers(draft: Draft, next: ToldRecord, near: readonly NearCluster[]): number {
  const before = next.others ?? {};
  const isUsed = draft.view.cluster?.state === "used";
  const now = Object.fromEntries(
    (isUsed ? near.slice(0, OTHERS_MAX) : []).map((one) => [one.clusterId, one.clusterName]),
  );
  const came = Object.keys(now).filter((id) => before[id] === undefined);
  const went = Object.keys(before).filter((id) => now[id] === undefined);
  const inWords = (names: Record<string, string>, id: string) =>
    clusterInWords({ clusterId: id, clusterName: names[id] ?? "" });
  for (const id of came) {
    draft.tell({
      kind: "other-cluster",
      severity: "warning",
      sentence:
        `another cluster in use with the same join secret is near: ${inWords(now, id)}; ` +
        "they stay two, and a new unit may join either",
    });
  }
  for (const id of went) {
    draft.tell({
      kind: "other-cluster-gone",
      severity: "info",
      sentence: `the other cluster ${inWords(before, id)} is not heard any more`,
    });
  }
  if (came.length + went.length > 0) next.others = now;
  return came.length + went.length;
}

function tellVolumes(draft: Draft, next: ToldRecord, limit: number): number {
  const { view } = draft;
  let count = 0;
  for (const key of Object.keys(next.volumes)) {
    if (!view.volumes.has(Number(key))) delete next.volumes[key];
  }
  for (const volume of view.volumes.values()) {
    // A drill says what became of its canary.
    if (volume.state !== "ready" || volume.canary !== undefined || count >= limit) continue;
    const state = volumeState(view, volume);
    const words = `${state.availability}, ${state.protection}`;
    const before = next.volumes[String(volume.number)];
    if (before === words) continue;
    next.volumes[String(volume.number)] = words;
    // Created volumes begin well; that is told by their creation.
    if (before === undefined && words === "online, protected") continue;
    draft.tell(volumeEvent(view, volume, state));
    count++;
  }
  return count;
}

const PROTECTION_SENTENCES: Record<ProtectionWord, string> = {
  protected: "has all its copies",
  rebuilding: "is rebuilding a copy",
  degraded: "has fewer copies than promised",
  "at-risk": "is down to one copy; one more loss stops or loses it",
};

/** Names in one sentence. */
const NAMED_MAX = 3;

/** Where copies are being made, and what is away of where they could be: why it is so. */
function becauseOf(view: ClusterView, volume: VolumeRecord, state: VolumeState): string {
  if (state.protection === "protected") return "";
  const targets = new Set<string>();
  for (const record of view.slicesOfVolume(volume)) {
    for (const disk of record?.resyncing ?? []) targets.add(diskInWords(view, disk));
  }
  const away = [...view.units.values()]
    .filter((unit) => unit.state === "admitted" && unit.pool === volume.pool)
    .filter((unit) => !view.isAlive(unit.number))
    .map(({ name, maintenance }) => {
      return maintenance === undefined ? `${name} is away` : `${name} is away, in maintenance`;
    });
  const out = [...view.disks.values()]
    .filter((disk) => disk.state === "failed" && view.isAlive(disk.unit))
    .map((disk) => `${diskInWords(view, disk.number)} is out of use`);
  const where = targets.size === 0 ? "" : ` on ${listed([...targets])}`;
  const reasons = [...away, ...out];
  return `${where}${reasons.length === 0 ? "" : ` (${listed(reasons)})`}`;
}

function listed(names: readonly string[]): string {
  const more = names.length > NAMED_MAX ? ` and ${names.length - NAMED_MAX} more` : "";
  return names.slice(0, NAMED_MAX).join(", ") + more;
}

function volumeEvent(view: ClusterView, volume: VolumeRecord, state: VolumeState) {
  const bad = state.availability !== "online";
  const serious = state.protection === "at-risk" || state.protection === "degraded";
  const severity: EventRecord["severity"] = bad ? "alarm" : serious ? "warning" : "info";
  const why = state.waitsFor[0];
  const serves = bad ? `is ${state.availability}${why === undefined ? "" : `: ${why}`}` : "serves";
  return {
    kind: "volume-state",
    severity,
    sentence:
      `volume ${volume.name} ${serves}; it ${PROTECTION_SENTENCES[state.protection]}` +
      becauseOf(view, volume, state),
    volume: volume.number,
  };
}

function unitName(view: ClusterView, unit: number): string {
  return view.units.get(unit)?.name ?? `unit ${unit}`;
}
