// SPDX-License-Identifier: Apache-2.0
//
// The state of a volume in two words, never mixed (design section 1): availability and protection;
// what it waits for, in sentences; and the table of what is lost when which unit fails (R5). Pure
// functions of the view, in which units tell what is not as it should be with the slices they head,
// and of what the asked unit's own slices report.
//
// The words err on the honest side: a member counts only while its unit is up and its disk works,
// even if the record still names it in sync.

import { layouts } from "#base/layout.ts";
import type { DiskNumber, SliceNumber, SliceRecord, UnitNumber } from "#base/record.ts";
import { claimWaitsFor } from "./restored-changes.ts";
import { NEWS_CHARACTERS_MAX, SLICE_NEWS_MAX } from "./slice-news.ts";
import type { AVAILABILITIES, SliceNews } from "./slice-news.ts";
import type { VolumeRecord } from "./state.ts";
import type { ClusterView } from "./view.ts";

export type Availability = (typeof AVAILABILITIES)[number];
export type ProtectionWord = "protected" | "rebuilding" | "degraded" | "at-risk";

/** What a slice's head says about it, where the head was heard. */
export interface SliceReport {
  /** Of the record that it goes by. */
  epoch: number;
  availability: Availability;
  /** In [0, 1): how much of a resync is done. */
  rebuiltShare?: number;
  waitsFor?: string;
}

export interface VolumeState {
  availability: Availability;
  protection: ProtectionWord;
  /** Of what is being rebuilt, in [0, 1]; null while nothing is. */
  rebuiltShare: number | null;
  /** Sentences; empty when it waits for nothing. */
  waitsFor: string[];
}

/** Sentences kept per volume: one per slice would be a flood. */
const WAITS_MAX = 8;

const AVAILABILITY_ORDER: readonly Availability[] = ["online", "read-only", "waiting", "offline"];

/**
 * What a unit tells the others of the slices it heads: those that do not serve first, then those
 * with a copy under way, at most SLICE_NEWS_MAX.
 */
export function newsOf(reports: ReadonlyMap<SliceNumber, SliceReport>): SliceNews[] {
  const news: SliceNews[] = [];
  for (const [slice, { epoch, availability, waitsFor = "", rebuiltShare }] of reports) {
    if (availability === "online" && waitsFor === "" && rebuiltShare === undefined) continue;
    news.push({
      slice,
      epoch,
      availability,
      waitsFor: waitsFor.slice(0, NEWS_CHARACTERS_MAX),
      ...(rebuiltShare === undefined ? {} : { rebuiltPercent: Math.floor(100 * rebuiltShare) }),
    });
  }
  const rank = (one: SliceNews) => AVAILABILITY_ORDER.indexOf(one.availability);
  return news.sort((a, b) => rank(b) - rank(a) || a.slice - b.slice).slice(0, SLICE_NEWS_MAX);
}

/** What the unit with this disk has told of the slice. */
function toldOf(
  view: ClusterView,
  record: SliceRecord,
  disk: DiskNumber = record.head,
): SliceReport | undefined {
  const unit = view.unitOfDisk(disk);
  if (unit === null) return undefined;
  const told = view.alive.get(unit.number)?.slices?.find((one) => one.slice === record.slice);
  if (told === undefined) return undefined;
  const { epoch, availability, waitsFor, rebuiltPercent } = told;
  return {
    epoch,
    availability,
    ...(waitsFor === "" ? {} : { waitsFor }),
    ...(rebuiltPercent === undefined ? {} : { rebuiltShare: rebuiltPercent / 100 }),
  };
}
const PROTECTION_ORDER: readonly ProtectionWord[] = [
  "protected",
  "rebuilding",
  "degraded",
  "at-risk",
];

export function volumeState(
  view: ClusterView,
  volume: VolumeRecord,
  reports: ReadonlyMap<SliceNumber, SliceReport> = new Map(),
): VolumeState {
  let availability: Availability = "online";
  let protection: ProtectionWord = "protected";
  const waits = new Set<string>();
  const shares: number[] = [];
  for (const number of volume.slices) {
    const record = view.slices.get(number);
    if (record === undefined) {
      availability = worse(AVAILABILITY_ORDER, availability, "waiting");
      if (waits.size < WAITS_MAX) waits.add(absentWaitsFor(view, volume, number));
      continue;
    }
    // What goes by an older record is over: a head that was handed on, a member that was dropped.
    const report = [reports.get(number), toldOf(view, record)].find(
      (one) => one?.epoch === record.epoch,
    );
    if (report === undefined && isWhole(view, record)) continue;
    availability = worse(AVAILABILITY_ORDER, availability, sliceAvailability(view, record, report));
    protection = worse(PROTECTION_ORDER, protection, sliceProtection(view, record));
    if (isRebuilding(view, record)) shares.push(report?.rebuiltShare ?? 0);
    const wait = report?.waitsFor ?? sliceWaitsFor(view, record);
    if (wait !== null && waits.size < WAITS_MAX) waits.add(disksByUnit(view, wait));
  }
  if (volume.state !== "ready") availability = worse(AVAILABILITY_ORDER, availability, "waiting");
  const sum = shares.reduce((total, share) => total + share, 0);
  const rebuiltShare = shares.length === 0 ? null : sum / shares.length;
  return { availability, protection, rebuiltShare, waitsFor: [...waits] };
}

/** It is served and has all its copies: most have, and there is no more to say of them. */
function isWhole(view: ClusterView, record: SliceRecord): boolean {
  const { head, inSync, copies, resyncing } = record;
  if (resyncing.length > 0 || inSync.length < copies || !view.diskServes(head)) return false;
  return inSync.every(({ disk }) => disk === head || view.diskServes(disk));
}

/** A slice without a record. */
function absentWaitsFor(view: ClusterView, volume: VolumeRecord, slice: SliceNumber): string {
  if (volume.state === "deleting") return "it is being deleted";
  const claim = view.restored.get(slice);
  if (claim === undefined && volume.foundOnDisks === true) {
    return "a disk that holds it to be found, after the restore";
  }
  if (claim === undefined) return "its slices are still being placed";
  return claimWaitsFor(view, claim) ?? "its slices are being settled, after the restore";
}

/** The data plane knows disks by their numbers; people know units. */
function disksByUnit(view: ClusterView, sentence: string): string {
  return sentence.replace(/\bdisk (\d+)\b(?! of )/g, (disk, number) => {
    const unit = view.unitOfDisk(Number(number));
    return unit === null ? disk : `${disk} of ${unit.name}`;
  });
}

/** The two words as a person reads them: "online, rebuilding 40 %". */
export function stateInWords(state: VolumeState): string {
  const percent =
    state.protection === "rebuilding" && state.rebuiltShare !== null
      ? ` ${Math.floor(state.rebuiltShare * 100)} %`
      : "";
  return `${state.availability}, ${state.protection}${percent}`;
}

function worse<W>(order: readonly W[], one: W, other: W): W {
  return order.indexOf(other) > order.indexOf(one) ? other : one;
}

export function sliceAvailability(
  view: ClusterView,
  record: SliceRecord,
  report?: SliceReport,
): Availability {
  if (report !== undefined && view.diskServes(record.head)) return report.availability;
  if (view.diskServes(record.head)) return "online";
  // A failed disk does not come back by waiting; a unit may.
  const mayReturn = record.inSync.some((member) => {
    const disk = view.disks.get(member.disk);
    return disk !== undefined && (disk.state === "ready" || disk.state === "leaving");
  });
  return mayReturn ? "waiting" : "offline";
}

export function sliceProtection(view: ClusterView, record: SliceRecord): ProtectionWord {
  const live = record.inSync.filter((member) => view.diskServes(member.disk)).length;
  if (live >= record.copies) return "protected";
  if (isRebuilding(view, record)) return "rebuilding";
  return live <= 1 ? "at-risk" : "degraded";
}

function isRebuilding(view: ClusterView, record: SliceRecord): boolean {
  const head = view.diskServes(record.head);
  return head && record.resyncing.some((disk) => view.diskServes(disk));
}

function sliceWaitsFor(view: ClusterView, record: SliceRecord): string | null {
  if (view.diskServes(record.head)) return null;
  const live = record.inSync.filter((member) => view.diskServes(member.disk));
  // R3: one in the run that is named takes over by itself; one that started again may have to wait.
  const isIntact = live.some(({ disk, incarnation }) => {
    return view.disks.get(disk)?.incarnation === incarnation;
  });
  if (isIntact) return "another member takes over as head";
  for (const { disk } of live) {
    const told = toldOf(view, record, disk);
    if (told?.epoch === record.epoch && told.waitsFor !== undefined) return told.waitsFor;
  }
  if (live.length > 0) return "another member, which started again, to know what was written last";
  const names = new Set<string>();
  for (const member of record.inSync) {
    const disk = view.disks.get(member.disk);
    const unit = view.unitOfDisk(member.disk);
    const failed = disk?.state === "failed" ? " (its disk failed)" : "";
    names.add(`${unit?.name ?? `the unit of disk ${member.disk}`}${failed}`);
  }
  const list = [...names].join(" or ");
  return `the only current copies of part of it are on ${list}, which is away`;
}

/** One row of the table of R5. */
export interface LossRow {
  unit: UnitNumber;
  name: string;
  /** Volumes that stop serving until it is back. */
  stops: string[];
  /** Volumes that stop only because no new record can be committed without it. */
  waits: string[];
  /** Volumes that run on with a copy fewer. */
  weakened: string[];
  /** The control store's majority goes with it. */
  controlStops: boolean;
  sentences: string[];
}

/**
 * R5: what is lost when which unit fails, said beforehand. `voters` as the control store has them.
 */
export function lossTable(view: ClusterView, voters: readonly UnitNumber[]): LossRow[] {
  const losses = [...view.volumes.values()].map(
    (volume) => [volume.name, lossesOf(view, volume)] as const,
  );
  const rows: LossRow[] = [];
  for (const unit of [...view.units.values()].sort((a, b) => a.number - b.number)) {
    if (unit.state !== "admitted") continue;
    const left = voters.filter((voter) => voter !== unit.number && view.isAlive(voter)).length;
    const controlStops = voters.includes(unit.number) && left < Math.floor(voters.length / 2) + 1;
    const row: LossRow = {
      unit: unit.number,
      name: unit.name,
      stops: [],
      waits: [],
      weakened: [],
      controlStops,
      sentences: [],
    };
    for (const [name, byUnit] of losses) {
      const loss = byUnit.get(unit.number);
      if (loss === "all") row.stops.push(name);
      else if (loss === "some") (controlStops ? row.waits : row.weakened).push(name);
    }
    row.sentences = lossSentences(row, view);
    rows.push(row);
  }
  return rows;
}

/** Units that hold current copies of a volume: all there are of some slice, or some of them. */
function lossesOf(view: ClusterView, volume: VolumeRecord): Map<UnitNumber, "all" | "some"> {
  const losses = new Map<UnitNumber, "all" | "some">();
  for (const record of view.slicesOfVolume(volume)) {
    if (record === null) continue;
    const holders = new Set<UnitNumber>();
    const serving = new Set<UnitNumber>();
    for (const { disk } of record.inSync) {
      const unit = view.disks.get(disk)?.unit;
      if (unit === undefined) continue;
      holders.add(unit);
      if (view.diskServes(disk)) serving.add(unit);
    }
    for (const unit of holders) {
      const elsewhere = serving.size - (serving.has(unit) ? 1 : 0);
      if (elsewhere === 0) losses.set(unit, "all");
      else if (!losses.has(unit)) losses.set(unit, "some");
    }
  }
  return losses;
}

function lossSentences(row: LossRow, view: ClusterView): string[] {
  const sentences: string[] = [];
  if (row.stops.length > 0) {
    const lost = row.stops.map((name) => {
      const copies = layouts[view.volumeByName(name)?.protection ?? "none"].copies;
      return copies === 1 ? `${name} (one copy by choice)` : `${name} (its other copies are away)`;
    });
    sentences.push(
      `${lost.join(", ")}: stops until ${row.name} is back; ` +
        `if its disks are lost, so is what lay on them alone`,
    );
  }
  if (row.controlStops) {
    sentences.push(
      `the control store stops with ${row.name}: nothing that needs a new record goes on ` +
        `(failover, new volumes, admissions) until it is back`,
    );
  }
  if (row.waits.length > 0) {
    sentences.push(
      `${row.waits.join(", ")}: loses nothing, but waits, since dropping the lost copy ` +
        `needs the control store; a third vote (a unit or a witness) would prevent that`,
    );
  }
  if (row.weakened.length > 0) {
    sentences.push(`${row.weakened.join(", ")}: goes on with one copy fewer`);
  }
  if (sentences.length === 0) sentences.push("nothing stops and nothing is lost");
  return sentences;
}
