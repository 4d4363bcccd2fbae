// SPDX-License-Identifier: Apache-2.0
//
// A host's write, trim or zeroing at the head (R1). It holds the lock of its whole range from
// arrival to its end, and goes to the members in pieces: of one extent each for what may allocate,
// of some regions each for what frees.
//
// Invariants
// - Nothing of it starts before every in-sync member's session is open; what had not started when
//   the headship ends was not done (notHead), what had may or may not have been (unknownOutcome,
//   H7).
// - H7: it does not start after `notAfterMs`, nor once its host's connection ended; a piece of a
//   resent request that was applied before is not applied again.
// - Its buffer is sent from, and belongs to its submitter again only at its end.

import { EXTENT_BYTES, REGION_BYTES } from "#base/grains.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { FLAG_FUA, FLAG_NO_HOLE, Operation, OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { Head } from "./head.ts";
import { Ticket } from "./range-lock.ts";
import type { Replica } from "./replica.ts";
import { type Listed, NO_PLACE } from "./roster.ts";
import { Spread } from "./spread.ts";
import type { SpreadKind } from "./spread.ts";

/** Pieces of one request under way at once. */
const PIECES_MAX = 8;
/**
 * What frees goes in pieces of this much, aligned, so that it never needs the whole activity
 * account.
 */
const FREEING_BYTES = 16 * REGION_BYTES;

const NO_OPERATION = new Operation();
const LOCAL = { local: true } as const;

/** Used again for another request when it went the usual way: made with all it needs. */
export class Change implements Listed {
  place = NO_PLACE;
  readonly #head: Head;
  readonly #ticket: Ticket;
  /** For a piece that only the own disk takes. */
  readonly #spread: Spread;
  #operation: Operation = NO_OPERATION;
  #kind: SpreadKind = "write";
  #allocates = false;
  #endBytes = 0;
  #cursor = 0;
  #flying = 0;
  #pumping = false;
  #started = false;
  #isOver = true;
  #status: Status = Status.ok;
  /** Some piece was not on media when it was accepted. */
  #needsFlush = false;

  constructor(head: Head) {
    this.#head = head;
    this.#ticket = new Ticket(this.pump);
    this.#spread = new Spread(head, "write", this.#pieceEnded);
  }

  /** For a request that has not begun. */
  prepare(operation: Operation): void {
    const isWrite = operation.kind === OperationKind.write;
    const isZeroes = operation.kind === OperationKind.writeZeroes;
    this.#operation = operation;
    this.#kind = isWrite ? "write" : isZeroes ? "writeZeroes" : "trim";
    this.#allocates = isWrite || (isZeroes && (operation.flags & FLAG_NO_HOLE) !== 0);
    this.#cursor = operation.offsetBytes;
    this.#endBytes = operation.offsetBytes + operation.lengthBytes;
    this.#started = false;
    this.#isOver = false;
    this.#status = Status.ok;
    this.#needsFlush = false;
  }

  start(): void {
    const { offsetBytes, lengthBytes } = this.#operation;
    this.#head.reconcile.demand(offsetBytes, lengthBytes);
    this.#head.locks.enter(this.#ticket, offsetBytes, lengthBytes, true);
  }

  /** Goes on as far as it can; called again when what it waited for may have come. */
  readonly pump = (): void => {
    if (this.#pumping || this.#isOver || this.#head.ended) return;
    if (this.#ticket.released || this.#ticket.blockers > 0) return;
    const { offsetBytes, lengthBytes } = this.#operation;
    if (!this.#started && this.#head.reconcile.dueAt(offsetBytes, lengthBytes)) {
      // R6: it became unequal while this waited: behind the reconciliation, then.
      this.#head.locks.release(this.#ticket);
      return this.start();
    }
    this.#pumping = true;
    while (this.#flying < PIECES_MAX && this.#cursor < this.#endBytes) {
      if (this.#status !== Status.ok || !this.#mayGo() || !this.#issue()) break;
    }
    this.#pumping = false;
    this.#finishIfDone();
  };

  /** The headship ended. */
  end(status: Status): void {
    if (this.#isOver) return;
    // An error of the only disk is the host's to know; else the outcome is open.
    const open = status === Status.ioError ? status : Status.unknownOutcome;
    this.#status = this.#started ? open : status;
    if (this.#flying === 0) this.#complete();
  }

  #mayGo(): boolean {
    if (!this.#head.ready) {
      this.#head.blocked.add(this.pump);
      return false;
    }
    if (this.#started) return true;
    // H7: looked at as late as possible, with the clock read now.
    if (this.#operation.cancelled) this.#status = Status.cancelled;
    else if (this.#isExpired()) this.#status = Status.expired;
    return this.#status === Status.ok;
  }

  #isExpired(): boolean {
    const { notAfterMs } = this.#operation;
    return notAfterMs !== Number.POSITIVE_INFINITY && this.#head.nowMs() > notAfterMs;
  }

  /** Issues the next piece; false: it has to wait, or there is none. */
  #issue(): boolean {
    const head = this.#head;
    const step = this.#allocates ? EXTENT_BYTES : FREEING_BYTES;
    if (!this.#allocates && !this.#skipUnmapped()) return false;
    const from = this.#cursor;
    const to = Math.min(this.#endBytes, from - (from % step) + step);
    const { origin, flags } = this.#operation;
    const verdict = head.origins.judge(origin, flags, from, head.nowMs());
    if (verdict === "forgotten") {
      // H7: whoever forgot must not do it again.
      this.#status = Status.unknownOutcome;
      return false;
    }
    if (verdict === "applied") {
      this.#needsFlush = true;
      this.#cursor = to;
      return true;
    }
    const first = Math.floor(from / REGION_BYTES);
    const last = Math.floor((to - 1) / REGION_BYTES);
    if (!head.activity.enter(first, last, this.pump)) return false;
    const extent = Math.floor(from / EXTENT_BYTES);
    const credit = this.#allocates ? head.credit.begin(extent) : "free";
    if (credit === "wait" || credit === "none") {
      head.activity.leave(first, last);
      if (credit === "none")
        this.#status = Status.noSpace; // R10: before any member was touched.
      else head.blocked.add(this.pump);
      return false;
    }
    this.#cursor = to;
    this.#send(from, to, credit === "spent");
    return true;
  }

  /** Moves past what is not mapped: it reads zero already. False: nothing is left. */
  #skipUnmapped(): boolean {
    const extent = Math.floor(this.#cursor / EXTENT_BYTES);
    const [mapped] = this.#head.store.mapFrom(extent, 1);
    const next = mapped === undefined ? this.#endBytes : mapped.extent * EXTENT_BYTES;
    if (next >= this.#endBytes) {
      this.#cursor = this.#endBytes;
      return false;
    }
    // To the start of its piece, so that a resent request has the same pieces.
    this.#cursor = Math.max(this.#cursor, next - (next % FREEING_BYTES));
    return true;
  }

  #send(from: number, to: number, spent: boolean): void {
    const head = this.#head;
    const { flags, bufferOffset, offsetBytes, origin } = this.#operation;
    // R1: at risk, the ack waits for media.
    const onMedia = (flags & FLAG_FUA) !== 0 || head.policy.ackNeedsMedia(head.record);
    const recipients = head.recipients(from, to - from);
    this.#started = true;
    const spread = this.#spreadFor(recipients);
    this.#flying++;
    spread.kind = this.#kind;
    spread.offsetBytes = from;
    spread.lengthBytes = to - from;
    spread.flags = (flags & FLAG_NO_HOLE) | (onMedia ? FLAG_FUA : 0);
    spread.origin = origin;
    spread.allocates = spent;
    spread.bufferOffset = this.#kind === "write" ? bufferOffset + (from - offsetBytes) : NO_BUFFER;
    spread.dropped = missed;
    if (!onMedia) this.#needsFlush = true;
    spread.start(recipients, LOCAL);
  }

  #spreadFor(recipients: readonly Replica[]): Spread {
    // Whoever else was asked may answer late: its spread is never another's.
    if (recipients.length > 0 || this.#flying > 0) {
      return new Spread(this.#head, this.#kind, this.#pieceEnded);
    }
    this.#spread.renew();
    return this.#spread;
  }

  readonly #pieceEnded = (ended: Spread): void => {
    const head = this.#head;
    const { offsetBytes, lengthBytes } = ended;
    const last = Math.floor((offsetBytes + lengthBytes - 1) / REGION_BYTES);
    head.activity.leave(Math.floor(offsetBytes / REGION_BYTES), last);
    if (ended.allocates) head.credit.end(Math.floor(offsetBytes / EXTENT_BYTES));
    if (ended.status !== Status.ok && this.#status === Status.ok) this.#status = ended.status;
    const { allocates } = ended;
    this.#flying--;
    if (head.ended) return this.#finishEnded();
    this.pump();
    if (allocates) head.creditGiven();
  };

  #finishIfDone(): void {
    if (this.#isOver || this.#flying > 0) return;
    if (this.#status === Status.ok && this.#cursor < this.#endBytes) return;
    const head = this.#head;
    const wantsMedia =
      (this.#operation.flags & FLAG_FUA) !== 0 || head.policy.ackNeedsMedia(head.record);
    if (this.#status === Status.ok && wantsMedia && this.#needsFlush) return this.#flush();
    this.#complete();
  }

  /** The set shrank while it was under way, or part of it was applied by an earlier sending. */
  #flush(): void {
    const head = this.#head;
    this.#needsFlush = false;
    this.#flying++;
    head.flusher.request({ targetsToo: false }, (status) => {
      this.#flying--;
      if (status !== Status.ok && this.#status === Status.ok) this.#status = status;
      if (head.ended) this.#finishEnded();
      else this.#finishIfDone();
    });
  }

  #finishEnded(): void {
    if (this.#flying > 0 || this.#isOver) return;
    const isError = this.#head.endStatus === Status.ioError;
    this.#status = isError ? Status.ioError : Status.unknownOutcome;
    this.#complete();
  }

  #complete(): void {
    this.#isOver = true;
    const head = this.#head;
    const operation = this.#operation;
    const status = this.#status;
    if (head.blocked.size > 0) head.blocked.delete(this.pump);
    head.forget(this);
    if (!head.ended) {
      const ticket = this.#ticket;
      if (!ticket.released && ticket.blockers === 0) head.locks.release(ticket);
      // A ticket that waits is the table's.
      if (ticket.released) head.giveChange(this);
    }
    operation.complete(status);
  }
}

/** R7: a target that left before it had it is told again. */
function missed(replica: Replica, { offsetBytes, lengthBytes }: Spread): void {
  replica.resync?.miss(offsetBytes, lengthBytes);
}
