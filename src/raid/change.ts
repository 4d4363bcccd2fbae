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
import { FLAG_FUA, FLAG_NO_HOLE, OperationKind } from "#base/operation.ts";
import type { Operation } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { Head } from "./head.ts";
import type { Ticket } from "./range-lock.ts";
import { Spread } from "./spread.ts";
import type { SpreadKind } from "./spread.ts";

/** Pieces of one request under way at once. */
const PIECES_MAX = 8;
/**
 * What frees goes in pieces of this much, aligned, so that it never needs the whole activity
 * account.
 */
const FREEING_BYTES = 16 * REGION_BYTES;

export class Change {
  readonly #head: Head;
  readonly #operation: Operation;
  readonly #kind: SpreadKind;
  readonly #allocates: boolean;
  readonly #endBytes: number;
  #ticket: Ticket | null = null;
  #cursor: number;
  #flying = 0;
  #pumping = false;
  #started = false;
  #isOver = false;
  #status: Status = Status.ok;
  /** Some piece was not on media when it was accepted. */
  #needsFlush = false;

  constructor(head: Head, operation: Operation) {
    this.#head = head;
    this.#operation = operation;
    const isWrite = operation.kind === OperationKind.write;
    const isZeroes = operation.kind === OperationKind.writeZeroes;
    this.#kind = isWrite ? "write" : isZeroes ? "writeZeroes" : "trim";
    this.#allocates = isWrite || (isZeroes && (operation.flags & FLAG_NO_HOLE) !== 0);
    this.#cursor = operation.offsetBytes;
    this.#endBytes = operation.offsetBytes + operation.lengthBytes;
  }

  start(): void {
    const { offsetBytes, lengthBytes } = this.#operation;
    this.#head.reconcile.demand(offsetBytes, lengthBytes);
    const range = { offsetBytes, lengthBytes, exclusive: true };
    this.#ticket = null;
    let isGranted = false;
    this.#ticket = this.#head.locks.acquire(range, () => {
      isGranted = true;
      if (this.#ticket !== null) this.pump();
    });
    if (isGranted) this.pump();
  }

  /** Goes on as far as it can; called again when what it waited for may have come. */
  readonly pump = (): void => {
    if (this.#pumping || this.#isOver || this.#head.ended) return;
    if (this.#ticket === null || this.#ticket.blockers > 0) return;
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
    else if (this.#head.nowMs() > this.#operation.notAfterMs) this.#status = Status.expired;
    return this.#status === Status.ok;
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
    const first = Math.floor(from / REGION_BYTES);
    const last = Math.floor((to - 1) / REGION_BYTES);
    // R1: at risk, the ack waits for media.
    const onMedia = (flags & FLAG_FUA) !== 0 || head.policy.ackNeedsMedia(head.record);
    this.#started = true;
    this.#flying++;
    const spread = new Spread(head, this.#kind, (ended) => {
      head.activity.leave(first, last);
      if (spent) head.credit.end(Math.floor(from / EXTENT_BYTES));
      if (ended.status !== Status.ok && this.#status === Status.ok) this.#status = ended.status;
      this.#flying--;
      if (head.ended) this.#finishEnded();
      else this.pump();
    });
    spread.offsetBytes = from;
    spread.lengthBytes = to - from;
    spread.flags = (flags & FLAG_NO_HOLE) | (onMedia ? FLAG_FUA : 0);
    spread.origin = origin;
    spread.allocates = spent;
    if (this.#kind === "write") spread.bufferOffset = bufferOffset + (from - offsetBytes);
    spread.dropped = (replica) => replica.resync?.miss(from, to - from);
    if (!onMedia) this.#needsFlush = true;
    spread.start(head.recipients(from, to - from), { local: true });
  }

  #finishIfDone(): void {
    if (this.#isOver || this.#flying > 0) return;
    if (this.#status === Status.ok && this.#cursor < this.#endBytes) return;
    const head = this.#head;
    const wantsMedia =
      (this.#operation.flags & FLAG_FUA) !== 0 || head.policy.ackNeedsMedia(head.record);
    if (this.#status === Status.ok && wantsMedia && this.#needsFlush) {
      // The set shrank while it was under way, or part of it was applied by an earlier sending.
      this.#needsFlush = false;
      this.#flying++;
      head.flusher.request({ targetsToo: false }, (status) => {
        this.#flying--;
        if (status !== Status.ok && this.#status === Status.ok) this.#status = status;
        if (head.ended) this.#finishEnded();
        else this.#finishIfDone();
      });
      return;
    }
    this.#complete();
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
    head.blocked.delete(this.pump);
    head.forget(this);
    if (!head.ended && this.#ticket !== null) {
      if (this.#ticket.blockers === 0) head.locks.release(this.#ticket);
    }
    this.#operation.complete(this.#status);
  }
}
