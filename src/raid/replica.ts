// SPDX-License-Identifier: Apache-2.0
//
// A peer member as its head sees it: the session on the link, what was asked and not answered, its
// grant (R4), its extent credit (R10), and since when it is missing (R2, R13).
//
// A session opens when the member answered `attached` in the head's epoch, and ends when the link
// goes down or a new epoch begins. What was asked in an ended session is asked again in the next
// one, with new sequence numbers; late answers of old sessions find nobody.

import { GRANT_DRIFT_SHARE, GRANT_MS, MEMBER_STALL_MS } from "#base/limits.ts";
import type { DiskNumber, Incarnation } from "#base/record.ts";
import type { PeerVerb } from "#base/verbs.ts";
import { VerbKind } from "#base/verbs.ts";
import type { Resync } from "./resync.ts";

/** Whoever asks a member something. */
export interface Asker {
  answered(replica: Replica, verb: PeerVerb): void;
  /** The session ended first: the outcome is unknown. */
  lost(replica: Replica): void;
}

interface Ask {
  asker: Asker;
  sentMs: number;
  allocates: boolean;
}

export type SessionState = "closed" | "attaching" | "open";

export class Replica {
  readonly disk: DiskNumber;
  /** Named in sync by the head's record; else it is a target of resync. */
  inSync = false;
  /** In sync as the record has it; 0 for a target. */
  namedIncarnation: Incarnation = 0;
  /** A target that the record may name in sync any moment: nothing is acked without it (R7). */
  promoting = false;
  /** A proposal to name it in sync is under way. */
  proposed = false;

  linked = false;
  /** Since when the link is as it is. */
  linkChangedMs: number;
  state: SessionState = "closed";
  attachSequence = 0;
  /** When it was asked to attach for the first time in this session. */
  attachSentMs = 0;
  attachAgainMs = 0;
  /** When its session was last open, or it was first named. */
  openMs: number;
  /** The last epoch in which it answered attached to this head: it has stored that record. */
  sessionEpoch = 0;
  /** As it last answered. */
  incarnation: Incarnation = 0;
  /** Its active regions are in the head's account: it attached to this headship before. */
  known = false;
  /** Why it must be dropped, once that is certain. */
  failure: string | null = null;
  failedMs = 0;

  /** Bringing it up, while it is a target. */
  resync: Resync | null = null;

  /** When the head sent the beacon that was answered last (R4). */
  grantTickMs = Number.NEGATIVE_INFINITY;
  beaconDueMs = Number.NEGATIVE_INFINITY;
  /** Extents it last said it keeps for us. */
  credit = 0;
  #allocating = 0;
  readonly #asks = new Map<number, Ask>();
  #lastAnswerMs: number;

  constructor(disk: DiskNumber, nowMs: number, linked: boolean) {
    this.disk = disk;
    this.linked = linked;
    this.linkChangedMs = nowMs;
    this.openMs = nowMs;
    this.#lastAnswerMs = nowMs;
  }

  /** Whether nothing is acked without it. */
  get required(): boolean {
    return this.inSync || this.promoting;
  }

  get outstanding(): number {
    return this.#asks.size;
  }

  /** R4: less what clocks may drift; counted from the sending. */
  grantHolds(nowMs: number): boolean {
    return nowMs < this.grantTickMs + GRANT_MS * (1 - GRANT_DRIFT_SHARE);
  }

  /** R10: extents it can still be asked to allocate. */
  get creditLeft(): number {
    return this.credit - this.#allocating;
  }
  get allocating(): number {
    return this.#allocating;
  }

  asked(sequence: number, ask: Ask): void {
    if (this.#asks.size === 0) this.#lastAnswerMs = Math.max(this.#lastAnswerMs, ask.sentMs);
    if (ask.allocates) this.#allocating++;
    this.#asks.set(sequence, ask);
  }

  /** It could not be sent. */
  unasked(sequence: number): void {
    if (this.#asks.get(sequence)?.allocates) this.#allocating--;
    this.#asks.delete(sequence);
  }

  /** Hands an answer to whoever asked; false: nobody did, in this session. */
  answer(verb: PeerVerb, nowMs: number): boolean {
    const ask = this.#asks.get(verb.sequence);
    if (ask === undefined) return false;
    this.#asks.delete(verb.sequence);
    this.#lastAnswerMs = nowMs;
    if (ask.allocates) this.#allocating--;
    if (verb.kind === VerbKind.done) this.credit = verb.credit;
    ask.asker.answered(this, verb);
    return true;
  }

  /** Ends the session. */
  close(): void {
    this.state = "closed";
    this.#allocating = 0;
    const asks = [...this.#asks.values()];
    this.#asks.clear();
    for (const ask of asks) ask.asker.lost(this);
  }

  /** R13: asked, and without any progress for too long; one single answer may take twice that. */
  stalled(nowMs: number): boolean {
    if (this.state === "attaching") return nowMs - this.attachSentMs > MEMBER_STALL_MS;
    for (const ask of this.#asks.values()) {
      if (nowMs - ask.sentMs > 2 * MEMBER_STALL_MS) return true;
      return nowMs - Math.max(ask.sentMs, this.#lastAnswerMs) > MEMBER_STALL_MS;
    }
    return false;
  }

  /** The head itself slept: its clocks on others start again. */
  overslept(nowMs: number): void {
    this.openMs = nowMs;
    this.linkChangedMs = nowMs;
    this.attachSentMs = nowMs;
    this.#lastAnswerMs = nowMs;
    for (const ask of this.#asks.values()) ask.sentMs = nowMs;
  }
}
