// SPDX-License-Identifier: Apache-2.0
//
// Takeover (R3, R4): when a member may propose itself as head, and with whom. `decide` is pure; the
// class keeps what it needs to know: who answered in which incarnation.
//
// Who may:
// - a member in sync in its named incarnation: when its head is silent (or known dead, or released
//   us) and L has passed since its last grant (not needed for a head that is dead or has released
//   us);
// - a member that restarted with no active region: likewise; it has forgotten nothing;
// - the only in-sync member, restarted;
// - when every member of the set has answered and all of them restarted: the first in the record's
//   order of those whose machine stayed up, with the others of these; if there are none, the first
//   of all, with all of them. Then no memory is left to wait for.
// Anything else waits, and says for whom.

import { GRANT_MS, HEAD_SILENCE_MS } from "#base/limits.ts";
import type { DiskNumber, Incarnation, InSyncMember, SliceRecord } from "#base/record.ts";
import { inSyncEntry } from "#base/record.ts";

/** Members ask in the record's order, this far apart, so that one finds the record unchanged. */
const RANK_MS = 150;
const JITTER_MS = 50;
/** For a head that has not attached us yet: it may still be storing its record. */
const FIRST_SILENCE_MS = 3 * HEAD_SILENCE_MS;
/** How long one that restarted waits for the others to answer before it goes without them. */
const GATHER_MS = 1000;
const ENQUIRE_EVERY_MS = 250;

/** What a member says of its disk. */
export interface Answer {
  incarnation: Incarnation;
  bootIncarnation: Incarnation;
}

export interface Situation {
  nowMs: number;
  record: SliceRecord;
  disk: DiskNumber;
  incarnation: Incarnation;
  /** Whether our log shows no active region. */
  isIdle: boolean;
  lastHeardMs: number;
  lastGrantMs: number;
  startedMs: number;
  /** The head attached us in this record's epoch. */
  isAttached: boolean;
  /** The head of this record released us. */
  isReleased: boolean;
  /** Incarnations that other members answered with, on links that are still up. */
  answers: ReadonlyMap<DiskNumber, Answer>;
  /** The first incarnation of this disk since its machine was started. */
  bootIncarnation: Incarnation;
  /** In [0, 1), drawn once per record. */
  jitter: number;
}

export type Decision =
  | { act: "none" }
  /** Ask the others: the head is silent, or we cannot go alone. */
  | { act: "enquire"; waitsFor: string }
  | { act: "propose"; next: SliceRecord };

export function decide(situation: Situation): Decision {
  const { record, disk, incarnation } = situation;
  const named = inSyncEntry(record, disk);
  if (named === undefined) return { act: "none" };
  if (named.incarnation === incarnation) return decideIntact(situation);
  return decideRestarted(situation);
}

function decideIntact(situation: Situation): Decision {
  const { nowMs, record, disk, lastHeardMs, lastGrantMs, isReleased } = situation;
  if (record.head === disk) return { act: "none" };
  const isDead = isRestarted(record, record.head, situation.answers);
  const silenceMs = situation.isAttached ? HEAD_SILENCE_MS : FIRST_SILENCE_MS;
  if (!isReleased && !isDead && nowMs - lastHeardMs < silenceMs) return { act: "none" };
  // R4: nobody answers reads by a grant of ours any more.
  const freeMs = isReleased || isDead ? nowMs : lastGrantMs + GRANT_MS + 1;
  const turnMs = rankMs(situation);
  const sinceMs = isReleased || isDead ? lastHeardMs : freeMs;
  if (nowMs < freeMs || nowMs < sinceMs + turnMs) {
    return { act: "enquire", waitsFor: "the silent head's grants to run out" };
  }
  return { act: "propose", next: takenOver(situation, withoutRestarted(situation)) };
}

function decideRestarted(situation: Situation): Decision {
  const { record, disk, incarnation, answers } = situation;
  const others = record.inSync.filter((member) => member.disk !== disk);
  if (others.length === 0) {
    return { act: "propose", next: takenOver(situation, [{ disk, incarnation }]) };
  }
  const missing = others.filter((member) => !answers.has(member.disk));
  const isIntact = (member: InSyncMember) =>
    answers.get(member.disk)?.incarnation === member.incarnation;
  if (missing.length === 0 && !others.some(isIntact)) return decideTogether(situation);
  if (situation.isIdle && mayGoIdle(situation)) {
    return { act: "propose", next: takenOver(situation, withoutRestarted(situation)) };
  }
  const names = missing.map((member) => `disk ${member.disk}`).join(", ");
  const waitsFor = missing.length > 0 ? `${names} to answer` : "a member that kept its memory";
  return { act: "enquire", waitsFor };
}

/** All have answered, none is in its named run: the best of them takes over with its likes. */
function decideTogether(situation: Situation): Decision {
  const { nowMs, record, disk, incarnation, startedMs } = situation;
  const said = new Map(situation.answers);
  said.set(disk, { incarnation, bootIncarnation: situation.bootIncarnation });
  // H6: who lost no more than its process has all that was acked; its content must win.
  const kept = record.inSync.filter((member) => {
    return (said.get(member.disk)?.bootIncarnation ?? 0) <= member.incarnation;
  });
  const order = [...kept, ...record.inSync.filter((member) => !kept.includes(member))];
  const rank = order.findIndex((member) => member.disk === disk);
  const isFit = kept.length === 0 || rank < kept.length;
  if (!isFit || nowMs < startedMs + GATHER_MS * rank) {
    return { act: "enquire", waitsFor: "a member before it in order" };
  }
  // Who lost what the others kept comes back by resync: until it is reconciled it lacks acked
  // writes, and nobody could tell that if the head died before.
  const complete = kept.length > 0 ? kept : record.inSync;
  const members = complete.map((member) => ({
    disk: member.disk,
    incarnation: said.get(member.disk)?.incarnation ?? member.incarnation,
  }));
  return { act: "propose", next: takenOver(situation, members) };
}

/**
 * Restarted, but nothing was active: it has forgotten nothing (R3). Others are given time first.
 */
function mayGoIdle(situation: Situation): boolean {
  const { nowMs, record, disk, startedMs, lastHeardMs, lastGrantMs } = situation;
  const gatheredMs = startedMs + GATHER_MS + rankMs(situation);
  if (nowMs < gatheredMs) return false;
  if (record.head === disk) return true; // The old head was this disk's run before: it is dead.
  const isDead = isRestarted(record, record.head, situation.answers);
  if (isDead || situation.isReleased) return true;
  // R4: a run before this one may have granted until just before the start.
  const freeMs = Math.max(startedMs, lastGrantMs) + GRANT_MS + 1 + rankMs(situation);
  return nowMs >= freeMs && nowMs - lastHeardMs >= FIRST_SILENCE_MS;
}

function isRestarted(
  record: SliceRecord,
  disk: DiskNumber,
  answers: ReadonlyMap<DiskNumber, Answer>,
): boolean {
  const answered = answers.get(disk)?.incarnation;
  return answered !== undefined && answered !== inSyncEntry(record, disk)?.incarnation;
}

/**
 * The set as it stands, this disk in its present incarnation, without the old head and the
 * restarted.
 */
function withoutRestarted(situation: Situation): InSyncMember[] {
  const { record, disk, incarnation, answers } = situation;
  const kept: InSyncMember[] = [];
  for (const member of record.inSync) {
    if (member.disk === disk) kept.push({ disk, incarnation });
    else if (member.disk !== record.head && !isRestarted(record, member.disk, answers)) {
      kept.push(member);
    }
  }
  return kept;
}

function takenOver(situation: Situation, inSync: InSyncMember[]): SliceRecord {
  const { record, disk } = situation;
  return { ...record, epoch: record.epoch + 1, head: disk, inSync };
}

/** The place in the record's order among those who may take over, as a delay. */
function rankMs(situation: Situation): number {
  const { record, disk, jitter } = situation;
  const candidates = record.inSync.filter((member) => member.disk !== record.head);
  const rank = candidates.findIndex((member) => member.disk === disk);
  return Math.max(0, rank) * RANK_MS + jitter * JITTER_MS;
}

/** Who answered, and when to ask. */
export class Answers {
  readonly byDisk = new Map<DiskNumber, Answer>();
  #askedMs = Number.NEGATIVE_INFINITY;

  heard(disk: DiskNumber, answer: Answer): void {
    this.byDisk.set(disk, answer);
  }

  /** What it said before may be over. */
  linkDown(disk: DiskNumber): void {
    this.byDisk.delete(disk);
  }

  isDue(nowMs: number): boolean {
    if (nowMs - this.#askedMs < ENQUIRE_EVERY_MS) return false;
    this.#askedMs = nowMs;
    return true;
  }

  askSoon(): void {
    this.#askedMs = Number.NEGATIVE_INFINITY;
  }
}
