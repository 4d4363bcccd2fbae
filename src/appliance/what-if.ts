// SPDX-License-Identifier: Apache-2.0
//
// What would happen if a unit, a disk or a link were lost now: a rehearsal on a copy of the control
// state by the code that would really decide. Heads drop members and members take over by raid's
// own decisions (R2, R3), the control station names new members by its own (upkeep.ts); what it
// names is taken to come into sync, where head and target reach each other. Nothing is changed.
//
// It errs on the cautious side: what is active or was restarted is not known here, so that a member
// that would have to wait for another one is told as waiting.

import { Fault } from "#base/fault.ts";
import type { DiskNumber, SliceRecord, UnitNumber } from "#base/record.ts";
import { keptOnDisk } from "#cluster/lineages.ts";
import { takeAway } from "#cluster/maintenance.ts";
import { Rehearsal } from "#cluster/rehearsal.ts";
import { roughTime } from "#cluster/rough-time.ts";
import { keys } from "#cluster/state.ts";
import type { KnownVoters } from "#cluster/update-plan.ts";
import type { ClusterView } from "#cluster/view.ts";
import { lossTable, volumeState } from "#cluster/volume-state.ts";
import type { Availability, ProtectionWord } from "#cluster/volume-state.ts";
import { nextRecord } from "#raid/membership.ts";
import { decide } from "#raid/takeover.ts";

/** Past this many slices only what is lost is said: the rest would hold up the control thread. */
const REHEARSED_SLICES_MAX = 2048;
/** Rounds of naming members: each brings up what it can, spares one after the other. */
const ROUNDS_MAX = 64;
/** Kept copies that are named. */
const NAMED_MAX = 4;
/** Long after any grant or silence. */
const LATER_MS = 3_600_000;

export type Subject =
  | { kind: "unit"; unit: UnitNumber }
  | { kind: "disk"; disk: DiskNumber }
  /** The network between two units. */
  | { kind: "link"; units: [UnitNumber, UnitNumber] }
  /** A unit that is emptied, still serving. */
  | { kind: "evacuation"; unit: UnitNumber }
  /** A unit that is switched off for a while, in maintenance; others that are so are off too. */
  | { kind: "maintenance"; unit: UnitNumber; forMs: number };

export interface VolumeOutcome {
  name: string;
  /** Once heads and members have done what they can. */
  availability: Availability;
  protection: ProtectionWord;
  /** Once the control station has done what it can; the same where it was not rehearsed. */
  later: ProtectionWord;
  sentence: string;
}

export interface WhatIf {
  /** Volumes that it touches. */
  volumes: VolumeOutcome[];
  /** The others go on as they are. */
  untouched: number;
  /** The control store's majority goes with it: nothing that needs a new record goes on. */
  controlStops: boolean;
  /** What would be copied at most to protect again, bytes: thin volumes copy less. */
  copiesBytesMax: number;
  /** How long the cluster waits before that, ms. */
  afterMs: number;
  /** Slices that would find no room; null: too many to rehearse. */
  withoutRoom: number | null;
  sentences: string[];
}

export function whatIf(view: ClusterView, subject: Subject, voters: KnownVoters): WhatIf {
  const rehearsal = new Rehearsal(view);
  lose(rehearsal, subject);
  const controlStops = stopsControl(rehearsal.view, subject, voters);
  const cut = subject.kind === "link" ? subject.units : null;
  if (!controlStops)
    for (const record of [...rehearsal.view.slices.values()]) {
      settle(rehearsal, record, cut);
    }
  const soon = words(rehearsal.view);
  const before = words(view);
  const isSmall = lacking(rehearsal.view).length <= REHEARSED_SLICES_MAX;
  const isAwaited = subject.kind === "maintenance";
  const isRehearsed = isSmall && !controlStops;
  const copiesBytesMax = isRehearsed && !isAwaited ? reprotect(rehearsal, subject, cut) : 0;
  const later = words(rehearsal.view);
  const volumes: VolumeOutcome[] = [];
  for (const [name, now] of soon) {
    const was = before.get(name);
    const then = later.get(name) ?? now;
    const isMoved = touches(view, name, subject);
    if (!isMoved && was?.availability === now.availability && was.protection === now.protection) {
      continue;
    }
    const outcome = { ...now, later: then.protection, controlStops, isAwaited };
    const sentence = outcomeSentence(outcome);
    volumes.push({ name, ...now, later: then.protection, sentence });
  }
  const withoutRoom = isAwaited ? 0 : isRehearsed ? lacking(rehearsal.view).length : null;
  const result = { volumes, untouched: soon.size - volumes.length, controlStops, copiesBytesMax };
  const afterMs = waitOf(view, subject);
  const known = { ...result, afterMs, withoutRoom: controlStops ? null : withoutRoom };
  return { ...known, sentences: sentencesOf(view, subject, known) };
}

/** How long until copies are made anew, ms. */
function waitOf(view: ClusterView, subject: Subject): number {
  if (subject.kind === "maintenance") return subject.forMs;
  return subject.kind === "evacuation" ? 0 : view.settings.reprotectAfterMs;
}

function lose(rehearsal: Rehearsal, subject: Subject): void {
  const { view } = rehearsal;
  switch (subject.kind) {
    case "unit":
      if (view.units.get(subject.unit)?.state !== "admitted") {
        throw new Fault("notFound", `no unit ${subject.unit}`);
      }
      return rehearsal.delete(keys.aliveOf(subject.unit));
    case "disk": {
      const disk = view.disks.get(subject.disk);
      if (disk === undefined || disk.state === "gone") {
        throw new Fault("notFound", `no disk ${subject.disk}`);
      }
      return rehearsal.put(keys.disk(disk.number), { ...disk, state: "failed" });
    }
    case "link":
      for (const unit of subject.units) {
        if (view.units.get(unit)?.state !== "admitted")
          throw new Fault("notFound", `no unit ${unit}`);
      }
      if (subject.units[0] === subject.units[1]) {
        throw new Fault("badRequest", "a link is between two units");
      }
      return;
    case "evacuation": {
      const unit = view.units.get(subject.unit);
      if (unit?.state !== "admitted") throw new Fault("notFound", `no unit ${subject.unit}`);
      const evacuation = { thenRemove: false, sinceMs: 0, slices: 0 };
      return rehearsal.put(keys.unit(unit.number), { ...unit, evacuation });
    }
    case "maintenance":
      return takeAway(rehearsal, subject.unit);
  }
}

function stopsControl(view: ClusterView, subject: Subject, voters: KnownVoters): boolean {
  const isAway = subject.kind === "unit" || subject.kind === "maintenance";
  if (!isAway || voters === null) return false;
  return lossTable(view, voters).some((row) => row.unit === subject.unit && row.controlStops);
}

/** Whether two disks reach each other. */
function reaches(
  view: ClusterView,
  one: DiskNumber,
  other: DiskNumber,
  cut: [UnitNumber, UnitNumber] | null,
): boolean {
  if (!view.diskServes(one) || !view.diskServes(other)) return false;
  const units = [view.disks.get(one)?.unit, view.disks.get(other)?.unit];
  return cut === null || !(units.includes(cut[0]) && units.includes(cut[1]));
}

/** What a slice's head and members do by themselves: takeover, then the drop of who is missed. */
function settle(
  rehearsal: Rehearsal,
  record: SliceRecord,
  cut: [UnitNumber, UnitNumber] | null,
): void {
  const { view } = rehearsal;
  const now = view.diskServes(record.head) ? record : takenOver(view, record);
  if (now === null) return;
  const isMissed = (disk: DiskNumber) => disk !== now.head && !reaches(view, now.head, disk, cut);
  const lost = now.inSync.map((member) => member.disk).filter(isMissed);
  const gone = now.resyncing.filter(isMissed);
  if (lost.length + gone.length > 0) rehearsal.putSlice(nextRecord(now, { lost, gone }));
  else if (now !== record) rehearsal.putSlice(now);
}

/** The first member that would propose itself, long after its head was heard last (R3, R4). */
function takenOver(view: ClusterView, record: SliceRecord): SliceRecord | null {
  for (const { disk } of record.inSync) {
    const known = view.disks.get(disk);
    if (disk === record.head || known === undefined || !view.diskServes(disk)) continue;
    const decision = decide({
      nowMs: LATER_MS,
      record,
      disk,
      incarnation: known.incarnation,
      isIdle: false,
      lastHeardMs: 0,
      lastGrantMs: 0,
      startedMs: 0,
      isAttached: true,
      isReleased: false,
      answers: new Map(),
      bootIncarnation: known.incarnation,
      jitter: 0,
    });
    if (decision.act === "propose") return decision.next;
  }
  return null;
}

function lacking(view: ClusterView): SliceRecord[] {
  return [...view.slices.values()].filter((record) => {
    const stay = record.inSync.filter(
      ({ disk }) => view.diskServes(disk) && !view.diskLeaves(disk),
    );
    return stay.length < record.copies;
  });
}

/** Members are named, and come into sync where they are reached; what that copies at most. */
function reprotect(
  rehearsal: Rehearsal,
  subject: Subject,
  cut: [UnitNumber, UnitNumber] | null,
): number {
  const { view } = rehearsal;
  rehearsal.look(0); // from here on it lacks
  const nowMs = subject.kind === "evacuation" ? 0 : view.settings.reprotectAfterMs + 1;
  let bytes = 0;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const draft = rehearsal.protection(nowMs);
    if (draft === null) break;
    rehearsal.apply(draft);
    let came = 0;
    for (const record of [...view.slices.values()]) {
      if (record.resyncing.length === 0) continue;
      const next = broughtUp(view, record, cut);
      if (next === null) continue;
      bytes += record.sizeBytes;
      came++;
      rehearsal.putSlice(next);
    }
    if (came === 0) break;
  }
  return bytes;
}

/** Its targets in sync, and who leaves let go, as the head does it (R7). */
function broughtUp(
  view: ClusterView,
  record: SliceRecord,
  cut: [UnitNumber, UnitNumber] | null,
): SliceRecord | null {
  if (!view.diskServes(record.head)) return null;
  let next = record;
  for (const disk of record.resyncing) {
    const incarnation = view.disks.get(disk)?.incarnation;
    if (incarnation === undefined || !reaches(view, record.head, disk, cut)) continue;
    next = nextRecord(next, { ready: { disk, incarnation } });
  }
  if (next === record) return null;
  const leaving = next.inSync.map(({ disk }) => disk).filter((disk) => view.diskLeaves(disk));
  const surplus = leaving.slice(0, Math.max(0, next.inSync.length - next.copies));
  if (surplus.length === 0) return next;
  const heads = next.inSync.filter(({ disk }) => !surplus.includes(disk));
  const head = surplus.includes(next.head) ? (heads[0]?.disk ?? next.head) : next.head;
  return { ...nextRecord(next, { lost: surplus }), head };
}

type Words = Pick<VolumeOutcome, "availability" | "protection">;

function words(view: ClusterView): Map<string, Words> {
  const found = new Map<string, Words>();
  for (const volume of view.volumes.values()) {
    if (volume.state !== "ready") continue;
    const { availability, protection } = volumeState(view, volume);
    found.set(volume.name, { availability, protection });
  }
  return found;
}

function touches(view: ClusterView, name: string, subject: Subject): boolean {
  if (subject.kind !== "evacuation") return false;
  const number = view.volumeByName(name)?.number;
  return view.slicesOfUnit(subject.unit).some((record) => record.volume === number);
}

function outcomeSentence(
  outcome: Words & { later: ProtectionWord; controlStops: boolean; isAwaited: boolean },
): string {
  const { availability, protection, later, controlStops, isAwaited } = outcome;
  if (availability === "offline") return "stops, and does not come back by itself";
  if (availability !== "online") return "stops until what was lost is back";
  if (controlStops && protection !== "protected") {
    return "loses nothing, but waits: to go on without the lost copy needs the control store";
  }
  const now = protection === "protected" ? "stays up with all its copies" : "stays up";
  const lack = { protected: "", rebuilding: "", degraded: ", with a copy fewer", "at-risk": "" };
  const risk = protection === "at-risk" ? ", with one copy left" : lack[protection];
  if (protection === "protected" && later === "protected") return now;
  if (isAwaited) return `${now}${risk}; whole again soon after the unit is back`;
  const then =
    later === "protected" ? "; then protected again" : "; there is no room to protect it";
  return `${now}${risk}${then}`;
}

function sentencesOf(
  view: ClusterView,
  subject: Subject,
  known: Omit<WhatIf, "sentences">,
): string[] {
  const sentences: string[] = [];
  if (known.volumes.length === 0) sentences.push("no volume would notice");
  if (known.controlStops) {
    sentences.push(
      "the control store would stop: nothing that needs a new record goes on " +
        "(takeover, new copies, new volumes, admissions) until the unit is back",
    );
  }
  if (subject.kind === "maintenance") {
    const { forMs } = subject;
    sentences.push(
      `for ${roughTime(forMs)} at most its copies are waited for: back by then, it copies only ` +
        "what was written meanwhile",
    );
  } else if (known.withoutRoom === null && !known.controlStops) {
    sentences.push("there are too many slices to say where their copies would go");
  } else if ((known.withoutRoom ?? 0) > 0) {
    const many = known.withoutRoom === 1 ? "one slice" : `${known.withoutRoom} slices`;
    sentences.push(`there is no room, or no further unit, for a new copy of ${many}`);
  } else if (known.copiesBytesMax > 0) {
    sentences.push("there is room to make every copy anew");
  }
  if (subject.kind === "link") {
    sentences.push(
      "hosts that use a volume through one of the two units, headed by the other, wait: " +
        "they attach to the volume's front instead",
    );
  }
  const kept = disksOf(view, subject).flatMap((disk) => keptOnDisk(view, disk));
  if (kept.length > 0) {
    const names = [...new Set(kept)].slice(0, NAMED_MAX).join(", ");
    const then = subject.kind === "evacuation" ? "stays there, and holds it up" : "goes with it";
    sentences.push(`what is kept of before an override, ${names}, ${then}`);
  }
  const station = view.station?.unit ?? 0;
  if (subject.kind === "unit" && subject.unit === station && !known.controlStops) {
    sentences.push("another unit becomes the control station within seconds");
  }
  return sentences;
}

function disksOf(view: ClusterView, subject: Subject): DiskNumber[] {
  if (subject.kind === "disk") return [subject.disk];
  if (subject.kind === "link") return [];
  return view.disksOfUnit(subject.unit).map(({ number }) => number);
}
