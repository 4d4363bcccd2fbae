// SPDX-License-Identifier: Apache-2.0
//
// A host's read or block status at the head (R1, R4). It shares the lock of its range with other
// reads, waits for what is being written there, and for the grants.
//
// Invariants
// - R4: the grants are looked at with a clock read after the request was received; then what the
//   disk gives is what every ack so far left there. A read that may not be answered yet waits.
// - What a disk gives after the headship ended is thrown away: another head may be writing.
// - R9: a block that does not match is repaired under an exclusive lock, then the read begins
//   again.

import { BLOCK_BYTES } from "#base/grains.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { Operation, OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { Head } from "./head.ts";
import { Ticket } from "./range-lock.ts";
import { type Listed, NO_PLACE } from "./roster.ts";

/** Used again for another request when it went the usual way: made with all it needs. */
export class HostRead implements Listed {
  place = NO_PLACE;
  readonly #head: Head;
  readonly #ticket: Ticket;
  /** What the disk is asked. */
  readonly #child = new Operation();
  #operation: Operation = this.#child;
  #flying = false;
  #isOver = true;
  #repairs = 0;

  constructor(head: Head) {
    this.#head = head;
    this.#ticket = new Ticket(this.pump);
    this.#child.done = () => this.#childDone();
  }

  /** For a request that has not begun. */
  prepare(operation: Operation): void {
    this.#operation = operation;
    this.#isOver = false;
    this.#repairs = 0;
  }

  start(): void {
    const { offsetBytes, lengthBytes } = this.#operation;
    this.#head.reconcile.demand(offsetBytes, lengthBytes);
    this.#head.locks.enter(this.#ticket, offsetBytes, lengthBytes, false);
  }

  /** Reads if it may. */
  readonly pump = (): void => {
    const head = this.#head;
    if (this.#isOver || this.#flying || head.ended) return;
    if (this.#ticket.released || this.#ticket.blockers > 0) return;
    if (!head.mayRead()) {
      head.readers.add(this.pump);
      return;
    }
    if (head.readers.size > 0) head.readers.delete(this.pump);
    const { kind, offsetBytes, lengthBytes, bufferOffset, flags } = this.#operation;
    if (head.reconcile.dueAt(offsetBytes, lengthBytes)) {
      // R6: it became unequal while this waited: behind the reconciliation, then.
      head.locks.release(this.#ticket);
      return this.start();
    }
    this.#flying = true;
    const child = this.#child;
    child.kind = kind;
    child.offsetBytes = offsetBytes;
    child.lengthBytes = lengthBytes;
    child.bufferOffset = bufferOffset;
    child.flags = flags;
    child.faultOffsetBytes = -1;
    head.applier.read(child);
  };

  end(status: Status): void {
    if (!this.#flying && !this.#isOver) this.#complete(status);
  }

  #childDone(): void {
    const { kind, status, faultOffsetBytes, runs } = this.#child;
    this.#head.applier.readEnded(status);
    if (kind === OperationKind.blockStatus) {
      this.#operation.runs = runs;
      this.#child.runs = null;
    }
    this.#flying = false;
    if (this.#head.ended) return this.#complete(this.#head.endStatus);
    if (status !== Status.checksumMismatch) return this.#complete(status);
    this.#repairs++;
    const blocks = this.#operation.lengthBytes / BLOCK_BYTES + 2;
    if (this.#repairs > blocks || faultOffsetBytes < 0) return this.#complete(Status.mediumError);
    this.#repair(faultOffsetBytes - (faultOffsetBytes % BLOCK_BYTES));
  }

  /** R9: gives its lock back, repairs the block under a lock of its own, begins again. */
  #repair(offsetBytes: number): void {
    const head = this.#head;
    head.locks.release(this.#ticket);
    let mine: Ticket | null = null;
    let isOver = false;
    const range = { offsetBytes, lengthBytes: BLOCK_BYTES, exclusive: true };
    mine = head.locks.acquire(range, () => {
      // Read again first: a scrub's doubt may have had it healed meanwhile.
      const bufferOffset = head.memory.allocate(BLOCK_BYTES);
      const block = { offsetBytes, lengthBytes: BLOCK_BYTES, bufferOffset, acceptOwn: false };
      head.heal.read(block, (status) => {
        isOver = true;
        if (bufferOffset !== NO_BUFFER) head.memory.release(bufferOffset);
        if (this.#isOver || head.ended) return;
        if (mine !== null) head.locks.release(mine);
        if (status === Status.ok) this.start();
        else if (status === Status.busy) head.onNextTick(() => this.#again());
        else this.#complete(status);
      });
    });
    if (isOver && !mine.released && !head.ended) head.locks.release(mine);
  }

  /** There was no buffer for the repair. */
  #again(): void {
    if (!this.#isOver && !this.#head.ended) this.start();
  }

  #complete(status: Status): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const head = this.#head;
    if (head.readers.size > 0) head.readers.delete(this.pump);
    head.forget(this);
    const ticket = this.#ticket;
    const operation = this.#operation;
    if (!head.ended) {
      if (!ticket.released && ticket.blockers === 0) head.locks.release(ticket);
      // A repair may still call back; and a ticket that waits is the table's.
      if (this.#repairs === 0 && ticket.released) head.giveRead(this);
    }
    operation.complete(status);
  }
}
