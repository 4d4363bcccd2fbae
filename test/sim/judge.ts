// SPDX-License-Identifier: Apache-2.0
//
// The judge (contract.md, C): whether a history keeps H1, H3, H4, H5, H6, H7 and H9, sector by
// sector.
//
// Within an era each write of a sector has a tag of its own, so linearizability is exact by zones
// (Gibbons and Korach, 1997): a value's cluster is its write and the reads that saw it; its zone
// goes from the first end of any of them to the last start. If the first end comes first the zone
// is
// *forward*: the register held the value all that time. The history is linearizable if and only if
// no read ends before its write starts, no two forward zones overlap, and no zone that is not
// forward lies within a forward one.
//
// Eras end where no in-sync member had kept its memory (H6). All of the next era's reads that name
// an older value must name one and the same *candidate*: a value not superseded, in the era it
// comes from, by a write that was stable: acked and FUA, or acked before the sending of a flush
// that was acked before the loss.
//
// Where it is weaker than the contract:
// - Zero is written by trims and zeroings, and is there at first, so it is not unique. A zero read
//   is judged exactly if one zeroing only can explain it; if several can, it is held to be
//   explained.
// - A read under way while an era ends is not judged, and a write under way then is judged only if
//   the next era reads it.

import { NEVER } from "./history.ts";
import type { History, HostAct, Loss, Moment } from "./history.ts";
import { ZERO, valueName } from "./sector-tags.ts";
import type { SectorValue } from "./sector-tags.ts";

export interface Violation {
  volume: number;
  /** -1: not about one sector. */
  sector: number;
  sentence: string;
}

export interface Verdict {
  violations: Violation[];
  sectors: number;
  /** Sector reads judged. */
  reads: number;
  /** Zero reads that several zeroings explain. */
  weakReads: number;
  /** Sector eras that began with more than one candidate. */
  choices: number;
}

/** Everything that happened to one sector. */
interface SectorLog {
  volume: number;
  sector: number;
  writes: HostAct[];
  zeroings: HostAct[];
  reads: { act: HostAct; value: SectorValue }[];
}

const VIOLATIONS_MAX = 20;
/** Sectors of one volume, for the index: more than any simulated volume has. */
const VOLUME_SECTORS_MAX = 2 ** 32;

export function judge(history: History): Verdict {
  const verdict: Verdict = { violations: [], sectors: 0, reads: 0, weakReads: 0, choices: 0 };
  const logs = sectorLogs(history, verdict);
  const flushes = history.acts.filter((act) => act.kind === "flush" && act.effect === "sure");
  for (const log of logs.values()) {
    if (verdict.violations.length >= VIOLATIONS_MAX) break;
    verdict.sectors++;
    const losses = lossesOf(log, history.losses);
    new SectorJudge(
      log,
      losses,
      flushes.filter((flush) => flush.volume === log.volume),
      verdict,
    ).run();
  }
  return verdict;
}

function lossesOf(log: SectorLog, losses: readonly Loss[]): Moment[] {
  const { volume, sector } = log;
  return losses
    .filter(
      (loss) =>
        loss.volume === volume &&
        sector >= loss.firstSector &&
        sector < loss.firstSector + loss.count,
    )
    .map((loss) => loss.moment);
}

/** A log per written sector. What never was written must read zero; that is judged at once. */
function sectorLogs(history: History, verdict: Verdict): Map<number, SectorLog> {
  const logs = new Map<number, SectorLog>();
  const key = (volume: number, sector: number) => volume * VOLUME_SECTORS_MAX + sector;
  for (const act of history.acts) {
    if (act.kind !== "write") continue;
    for (let sector = act.firstSector; sector < act.firstSector + act.count; sector++) {
      let log = logs.get(key(act.volume, sector));
      if (log === undefined) {
        log = { volume: act.volume, sector, writes: [], zeroings: [], reads: [] };
        logs.set(key(act.volume, sector), log);
      }
      log.writes.push(act);
    }
  }
  for (const act of history.acts) {
    if (act.kind === "zero") {
      for (const log of logs.values()) if (covers(act, log)) log.zeroings.push(act);
    }
    if (act.kind !== "read" || act.values === null) continue;
    for (let index = 0; index < act.count; index++) {
      const value = act.values[index] as SectorValue;
      const sector = act.firstSector + index;
      const log = logs.get(key(act.volume, sector));
      if (log !== undefined) log.reads.push({ act, value });
      else if (value !== ZERO) {
        const sentence = `${valueName(value)} read from a sector never written by ${who(act)}`;
        verdict.violations.push({ volume: act.volume, sector, sentence });
      }
    }
  }
  return logs;
}

function covers(act: HostAct, log: SectorLog): boolean {
  return (
    act.volume === log.volume &&
    log.sector >= act.firstSector &&
    log.sector < act.firstSector + act.count
  );
}

function who(act: HostAct): string {
  const { kind, tag, invoke, ack, host, unit } = act;
  return `${kind} ${tag || ""} at ${invoke}..${ack} of host ${host} (unit ${unit})`;
}

/** A write and the reads that saw it, within one era. */
interface Cluster {
  name: string;
  /** When its write started; the era's start for what was there before. */
  invoke: Moment;
  /** The first end of any of its operations. */
  firstEnd: Moment;
  /** The last start of any of them. */
  lastStart: Moment;
  /** Acked in the era, or read: it did happen. */
  happened: boolean;
  stable: boolean;
  /** Still under way when the era ends. */
  spansEnd: boolean;
  value: SectorValue;
}

interface Era {
  start: Moment;
  end: Moment;
  /** Values that may stand there at first. */
  candidates: Set<SectorValue>;
  /** Writes acked before this are stable by a flush. */
  flushedBefore: Moment;
}

class SectorJudge {
  readonly #log: SectorLog;
  readonly #losses: Moment[];
  readonly #flushes: HostAct[];
  readonly #verdict: Verdict;

  constructor(log: SectorLog, losses: Moment[], flushes: HostAct[], verdict: Verdict) {
    this.#log = log;
    this.#losses = losses;
    this.#flushes = flushes;
    this.#verdict = verdict;
  }

  run(): void {
    let candidates = new Set<SectorValue>([ZERO]);
    let start = 0;
    for (const end of [...this.#losses, NEVER]) {
      let flushedBefore = 0;
      for (const flush of this.#flushes) {
        if (flush.ack < end) flushedBefore = Math.max(flushedBefore, flush.invoke);
      }
      candidates = this.#era({ start, end, candidates, flushedBefore });
      if (candidates.size > 1) this.#verdict.choices++;
      start = end;
    }
  }

  /** Judges one era; the answer is what may survive the loss at its end. */
  #era(era: Era): Set<SectorValue> {
    const clusters = new Map<SectorValue, Cluster>();
    for (const act of this.#log.writes) {
      const cluster = clusterOf(act, era);
      if (cluster !== null) clusters.set(act.tag, cluster);
    }
    const zeroings: Cluster[] = [];
    for (const act of this.#log.zeroings) {
      const cluster = clusterOf(act, era);
      if (cluster !== null) zeroings.push(cluster);
    }
    const before = this.#takeReads(era, clusters, zeroings);
    const all = [...clusters.values(), ...zeroings];
    this.#checkZones([...all, ...before.values()].filter((cluster) => cluster.happened));
    const acked = (value: SectorValue) =>
      this.#log.writes.some((act) => act.tag === value && act.ack < era.start);
    const stood = era.flushedBefore > era.start ? [...before.values()] : [];
    return survivors(
      era,
      all,
      before,
      stood.filter((cluster) => acked(cluster.value)),
    );
  }

  /** Puts each read into its cluster; the answer is the clusters of values from before the era. */
  #takeReads(
    era: Era,
    clusters: Map<SectorValue, Cluster>,
    zeroings: Cluster[],
  ): Map<SectorValue, Cluster> {
    const before = new Map<SectorValue, Cluster>();
    const zeroReads: HostAct[] = [];
    for (const { act, value } of this.#log.reads) {
      if (act.invoke < era.start || act.ack > era.end) continue;
      this.#verdict.reads++;
      if (value < ZERO) {
        this.#violation(`${valueName(value)} bytes seen by ${who(act)}`);
      } else if (value === ZERO) {
        zeroReads.push(act);
      } else {
        this.#takeRead(era, act, value, clusters.get(value), before);
      }
    }
    // Zero comes last: whether a zeroing was superseded depends on what else was read.
    for (const act of zeroReads) this.#takeZeroRead(era, act, clusters, zeroings, before);
    if (before.size > 1) {
      const list = [...before.values()].map((cluster) => cluster.name).join(" and ");
      this.#violation(`after a loss of memory both ${list} were read (H6)`);
    }
    return before;
  }

  #takeRead(
    era: Era,
    act: HostAct,
    value: SectorValue,
    cluster: Cluster | undefined,
    before: Map<SectorValue, Cluster>,
  ): void {
    if (cluster !== undefined) {
      if (act.ack < cluster.invoke) this.#violation(`${cluster.name} seen early by ${who(act)}`);
      addRead(cluster, act);
      return;
    }
    this.#takeOld(era, act, value, before);
  }

  #takeOld(era: Era, act: HostAct, value: SectorValue, before: Map<SectorValue, Cluster>): void {
    if (!era.candidates.has(value)) {
      const why = this.#refusedWrite(value) ? "was refused" : "cannot stand there";
      const era0 = era.start === 0 ? "" : ` after the loss at ${era.start} (H6)`;
      this.#violation(`${valueName(value)}, which ${why}${era0}, seen by ${who(act)}`);
      return;
    }
    let cluster = before.get(value);
    if (cluster === undefined) {
      cluster = {
        name: `${valueName(value)} from before ${era.start}`,
        invoke: era.start,
        firstEnd: era.start,
        lastStart: era.start,
        happened: true,
        stable: false,
        spansEnd: false,
        value,
      };
      before.set(value, cluster);
    }
    addRead(cluster, act);
  }

  #refusedWrite(tag: SectorValue): boolean {
    return this.#log.writes.some((act) => act.tag === tag && act.effect === "none");
  }

  #takeZeroRead(
    era: Era,
    act: HostAct,
    clusters: Map<SectorValue, Cluster>,
    zeroings: Cluster[],
    before: Map<SectorValue, Cluster>,
  ): void {
    const others = [...clusters.values()].filter((cluster) => cluster.happened);
    const superseded = (ended: Moment) =>
      others.some((other) => other.invoke > ended && other.firstEnd < act.invoke);
    const oldFits =
      era.candidates.has(ZERO) && !superseded(era.start) && !otherOldRead(before, ZERO);
    const fitting = zeroings.filter(
      (zeroing) => zeroing.invoke < act.ack && !superseded(zeroing.firstEnd),
    );
    const explanations = fitting.length + (oldFits ? 1 : 0);
    if (explanations === 0) {
      this.#violation(`zero, where it cannot be, seen by ${who(act)}`);
    } else if (explanations > 1) {
      this.#verdict.weakReads++;
    } else if (oldFits) {
      this.#takeOld(era, act, ZERO, before);
    } else {
      addRead(fitting[0] as Cluster, act);
    }
  }

  #checkZones(clusters: Cluster[]): void {
    const forward = clusters.filter((cluster) => cluster.firstEnd < cluster.lastStart);
    forward.sort((a, b) => a.firstEnd - b.firstEnd);
    for (let index = 1; index < forward.length; index++) {
      const left = forward[index - 1] as Cluster;
      const right = forward[index] as Cluster;
      if (right.firstEnd < left.lastStart) {
        this.#violation(`${zone(left)} and ${zone(right)} both stood there (H1)`);
        return;
      }
    }
    for (const cluster of clusters) {
      if (cluster.firstEnd < cluster.lastStart) continue;
      const around = lastNotAfter(forward, cluster.lastStart);
      if (around !== null && cluster.firstEnd < around.lastStart) {
        this.#violation(`${zone(cluster)} was lost while ${zone(around)} stood there (H1)`);
        return;
      }
    }
  }

  #violation(sentence: string): void {
    const { volume, sector } = this.#log;
    this.#verdict.violations.push({ volume, sector, sentence });
  }
}

function otherOldRead(before: Map<SectorValue, Cluster>, value: SectorValue): boolean {
  return before.size > 0 && !before.has(value);
}

function zone(cluster: Cluster): string {
  return `${cluster.name} [${cluster.firstEnd}..${cluster.lastStart}]`;
}

/** The write as this era sees it, or null when it has no part in it. */
function clusterOf(act: HostAct, era: Era): Cluster | null {
  if (act.effect === "none") return null;
  const ended = act.effect === "sure" ? act.ack : act.fence;
  if (act.invoke > era.end || ended < era.start) return null;
  const acked = act.effect === "sure" && act.ack < era.end;
  const spansStart = act.invoke < era.start;
  const firstEnd = ended < era.end ? ended : NEVER;
  return {
    name: act.kind === "zero" ? `a zeroing at ${act.invoke}` : `tag ${act.tag}`,
    invoke: Math.max(act.invoke, era.start),
    firstEnd,
    lastStart: Math.max(act.invoke, era.start),
    // One that was under way at the loss may have been superseded before it: judged only if read.
    happened: acked && !spansStart,
    stable: acked && (act.fua || act.ack < era.flushedBefore),
    spansEnd: ended > era.end,
    value: act.kind === "zero" ? ZERO : act.tag,
  };
}

function addRead(cluster: Cluster, act: HostAct): void {
  cluster.happened = true;
  cluster.firstEnd = Math.min(cluster.firstEnd, act.ack);
  cluster.lastStart = Math.max(cluster.lastStart, act.invoke);
}

/** The forward zone that starts last before `moment`, or null; `forward` ascends by firstEnd. */
function lastNotAfter(forward: readonly Cluster[], moment: Moment): Cluster | null {
  let low = 0;
  let high = forward.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((forward[middle] as Cluster).firstEnd < moment) low = middle + 1;
    else high = middle;
  }
  return low === 0 ? null : (forward[low - 1] as Cluster);
}

/**
 * What may stand there after the loss at the era's end: whatever no stable write superseded. In a
 * linearizable era `u` came before `s` exactly if u's first end is before s's last start. `stood`:
 * what was acked in an earlier era, survived its end, was read in this one and flushed: stable,
 * too.
 */
function survivors(
  era: Era,
  clusters: readonly Cluster[],
  before: ReadonlyMap<SectorValue, Cluster>,
  stood: readonly Cluster[],
): Set<SectorValue> {
  const stable = [...clusters.filter((cluster) => cluster.stable), ...stood];
  const superseded = (cluster: { firstEnd: Moment }) =>
    stable.some((other) => other !== cluster && cluster.firstEnd < other.lastStart);
  const left = new Set<SectorValue>();
  for (const value of era.candidates) {
    const cluster = before.get(value) ?? { firstEnd: era.start };
    if (stood.length > 0 && !before.has(value)) continue;
    if (!superseded(cluster)) left.add(value);
  }
  for (const cluster of clusters) {
    // What still goes on is a write of the next era as well, and judged there.
    if (!cluster.spansEnd && !superseded(cluster)) left.add(cluster.value);
  }
  return left;
}
