// SPDX-License-Identifier: Apache-2.0
//
// The range-lock table of a head (R1): orders reads, writes, trim, resync, heal and reconciliation.
//
// Invariants:
// - Ranges are rounded out to blocks, since repair and the merging of partial blocks work on
//   blocks.
// - First come, first served among overlapping ranges: who waits is also waited for, so that
//   overlapping operations go in order of arrival and nobody starves. Shared tickets go together.
// - Granting never nests: a ticket released while one is being granted is handled after it, so that
//   a long chain of waiters does not grow the stack.

import { assert } from "#base/assert.ts";
import { BLOCK_BYTES } from "#base/grains.ts";

export class Ticket {
  readonly fromBytes: number;
  readonly endBytes: number;
  readonly exclusive: boolean;
  readonly granted: () => void;
  /** Earlier overlapping tickets not yet released. */
  blockers = 0;
  dependents: Ticket[] | null = null;
  previous: Ticket | null = null;
  next: Ticket | null = null;
  released = false;

  constructor(fromBytes: number, endBytes: number, exclusive: boolean, granted: () => void) {
    this.fromBytes = fromBytes;
    this.endBytes = endBytes;
    this.exclusive = exclusive;
    this.granted = granted;
  }
}

export class RangeLock {
  #first: Ticket | null = null;
  #last: Ticket | null = null;
  #count = 0;
  readonly #grantable: Ticket[] = [];
  #granting = false;

  /** Tickets held or waiting. */
  get count(): number {
    return this.#count;
  }

  /** `granted` runs once the range is free, possibly before this returns. */
  acquire(
    range: { offsetBytes: number; lengthBytes: number; exclusive: boolean },
    granted: () => void,
  ): Ticket {
    const from = range.offsetBytes - (range.offsetBytes % BLOCK_BYTES);
    const end = Math.ceil((range.offsetBytes + range.lengthBytes) / BLOCK_BYTES) * BLOCK_BYTES;
    const ticket = new Ticket(from, end, range.exclusive, granted);
    for (let earlier = this.#first; earlier !== null; earlier = earlier.next) {
      if (earlier.endBytes <= from || earlier.fromBytes >= end) continue;
      if (!earlier.exclusive && !ticket.exclusive) continue;
      ticket.blockers++;
      if (earlier.dependents === null) earlier.dependents = [];
      earlier.dependents.push(ticket);
    }
    this.#append(ticket);
    if (ticket.blockers === 0) this.#grant(ticket);
    return ticket;
  }

  release(ticket: Ticket): void {
    assert(!ticket.released, "a ticket is released once");
    assert(ticket.blockers === 0, "only a granted ticket is released");
    ticket.released = true;
    this.#remove(ticket);
    if (ticket.dependents === null) return;
    for (const dependent of ticket.dependents) {
      dependent.blockers--;
      if (dependent.blockers === 0) this.#grantable.push(dependent);
    }
    ticket.dependents = null;
    this.#drain();
  }

  #grant(ticket: Ticket): void {
    this.#grantable.push(ticket);
    this.#drain();
  }

  #drain(): void {
    if (this.#granting) return;
    this.#granting = true;
    try {
      for (let next = this.#grantable.shift(); next !== undefined; next = this.#grantable.shift()) {
        next.granted();
      }
    } finally {
      this.#granting = false;
    }
  }

  #append(ticket: Ticket): void {
    this.#count++;
    ticket.previous = this.#last;
    if (this.#last === null) this.#first = ticket;
    else this.#last.next = ticket;
    this.#last = ticket;
  }

  #remove(ticket: Ticket): void {
    this.#count--;
    if (ticket.previous === null) this.#first = ticket.next;
    else ticket.previous.next = ticket.next;
    if (ticket.next === null) this.#last = ticket.previous;
    else ticket.next.previous = ticket.previous;
    ticket.previous = null;
    ticket.next = null;
  }
}
