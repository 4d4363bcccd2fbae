// SPDX-License-Identifier: Apache-2.0
//
// The range-lock table of a head (R1): orders reads, writes, trim, resync, heal and reconciliation.
//
// Invariants:
// - Ranges are rounded out to blocks, since repair and the merging of partial blocks work on
//   blocks.
// - First come, first served among overlapping ranges: who waits is also waited for, so that
//   overlapping operations go in order of arrival and nobody starves. Shared tickets go together.
// - Shared tickets look at the others only while one of them is exclusive.
// - Granting never nests: a ticket released while one is being granted is handled after it, so that
//   a long chain of waiters does not grow the stack.

import { assert } from "#base/assert.ts";
import { BLOCK_BYTES } from "#base/grains.ts";

/** A place in the table; once released it may be used for another range. */
export class Ticket {
  fromBytes = 0;
  endBytes = 0;
  exclusive = false;
  readonly granted: () => void;
  /** Earlier overlapping tickets not yet released. */
  blockers = 0;
  dependents: Ticket[] | null = null;
  previous: Ticket | null = null;
  next: Ticket | null = null;
  released = true;

  constructor(granted: () => void) {
    this.granted = granted;
  }
}

export class RangeLock {
  #first: Ticket | null = null;
  #last: Ticket | null = null;
  #count = 0;
  #exclusiveCount = 0;
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
    const ticket = new Ticket(granted);
    this.enter(ticket, range.offsetBytes, range.lengthBytes, range.exclusive);
    return ticket;
  }

  /** The same with a ticket that was released, or is new. */
  enter(ticket: Ticket, offsetBytes: number, lengthBytes: number, exclusive: boolean): void {
    assert(ticket.released && ticket.blockers === 0, "a ticket is for one range at a time");
    const from = offsetBytes - (offsetBytes % BLOCK_BYTES);
    const end = Math.ceil((offsetBytes + lengthBytes) / BLOCK_BYTES) * BLOCK_BYTES;
    ticket.fromBytes = from;
    ticket.endBytes = end;
    ticket.exclusive = exclusive;
    ticket.released = false;
    if (exclusive || this.#exclusiveCount > 0) this.#queue(ticket);
    this.#append(ticket);
    if (ticket.blockers === 0) this.#grant(ticket);
  }

  /** Behind whoever overlaps with it. */
  #queue(ticket: Ticket): void {
    const { fromBytes, endBytes } = ticket;
    for (let earlier = this.#first; earlier !== null; earlier = earlier.next) {
      if (earlier.endBytes <= fromBytes || earlier.fromBytes >= endBytes) continue;
      if (!earlier.exclusive && !ticket.exclusive) continue;
      ticket.blockers++;
      if (earlier.dependents === null) earlier.dependents = [];
      earlier.dependents.push(ticket);
    }
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
    if (ticket.exclusive) this.#exclusiveCount++;
    ticket.previous = this.#last;
    if (this.#last === null) this.#first = ticket;
    else this.#last.next = ticket;
    this.#last = ticket;
  }

  #remove(ticket: Ticket): void {
    this.#count--;
    if (ticket.exclusive) this.#exclusiveCount--;
    if (ticket.previous === null) this.#first = ticket.next;
    else ticket.previous.next = ticket.next;
    if (ticket.next === null) this.#last = ticket.previous;
    else ticket.next.previous = ticket.previous;
    ticket.previous = null;
    ticket.next = null;
  }
}
