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
import { OperationKind } from "#base/operation.ts";
import type { Operation } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { Head } from "./head.ts";
import type { Ticket } from "./range-lock.ts";

export class HostRead {
  readonly #head: Head;
  readonly #operation: Operation;
  #ticket: Ticket | null = null;
  #flying = false;
  #isOver = false;
  #repairs = 0;

  constructor(head: Head, operation: Operation) {
    this.#head = head;
    this.#operation = operation;
  }

  start(): void {
    const { offsetBytes, lengthBytes } = this.#operation;
    this.#head.reconcile.demand(offsetBytes, lengthBytes);
    this.#ticket = null;
    let isGranted = false;
    const ticket = this.#head.locks.acquire({ offsetBytes, lengthBytes, exclusive: false }, () => {
      isGranted = true;
      if (this.#ticket !== null) this.pump();
    });
    this.#ticket = ticket;
    if (isGranted) this.pump();
  }

  /** Reads if it may. */
  readonly pump = (): void => {
    const head = this.#head;
    if (this.#isOver || this.#flying || head.ended) return;
    if (this.#ticket === null || this.#ticket.blockers > 0) return;
    if (!head.mayRead()) {
      head.readers.add(this.pump);
      return;
    }
    head.readers.delete(this.pump);
    if (head.reconcile.dueAt(this.#operation.offsetBytes, this.#operation.lengthBytes)) {
      // R6: it became unequal while this waited: behind the reconciliation, then.
      head.locks.release(this.#ticket);
      return this.start();
    }
    this.#flying = true;
    const child = head.pool.take();
    const { kind, offsetBytes, lengthBytes, bufferOffset, flags } = this.#operation;
    child.kind = kind;
    child.offsetBytes = offsetBytes;
    child.lengthBytes = lengthBytes;
    child.bufferOffset = bufferOffset;
    child.flags = flags;
    child.done = (ended) => {
      const { status, faultOffsetBytes } = ended;
      if (kind === OperationKind.blockStatus) this.#operation.runs = ended.runs;
      head.pool.give(ended);
      this.#flying = false;
      this.#read(status, faultOffsetBytes);
    };
    head.applier.submit(child);
  };

  end(status: Status): void {
    if (!this.#flying && !this.#isOver) this.#complete(status);
  }

  #read(status: Status, faultOffsetBytes: number): void {
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
    if (this.#ticket !== null) head.locks.release(this.#ticket);
    this.#ticket = null;
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
    head.readers.delete(this.pump);
    head.forget(this);
    const ticket = this.#ticket;
    if (!head.ended && ticket !== null && !ticket.released && ticket.blockers === 0) {
      head.locks.release(ticket);
    }
    this.#operation.complete(status);
  }
}
