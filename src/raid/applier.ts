// SPDX-License-Identifier: Apache-2.0
//
// The one way by which a slice changes its own disk, as head and as member alike.
//
// Invariants
// - R6: before a change touches a region, the region is active in the disk's log.
// - R4, R6: while a record is being stored, no change is under way (the store re-stamps active
//   regions with the record's epoch; a change of the old epoch that lands later would carry the old
//   stamp and be missed by a resync). So a record waits until all changes ended, and changes wait
//   for it.
// - A change is stamped with the epoch of the record stored when it starts, unless it repeats
//   content that has a stamp already (resync, reconciliation, repair).

import { assert } from "#base/assert.ts";
import { BLOCK_BYTES, EXTENT_BYTES, REGION_BYTES } from "#base/grains.ts";
import type { MemberStore, StoreDone } from "#base/member-store.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { FLAG_KEEP_STAMP, Operation, OperationKind } from "#base/operation.ts";
import type { SliceRecord } from "#base/record.ts";
import { supersedes } from "#base/record.ts";
import { Status } from "#base/status.ts";
import { type Listed, NO_PLACE, Roster } from "./roster.ts";

/** Stamp: the record's epoch. */
export const STAMP_CURRENT = -1;
/** Stamp: what the extent has already (a repair changes no content). */
export const STAMP_OWN = -2;

export interface LocalChange {
  kind: OperationKind;
  offsetBytes: number;
  lengthBytes: number;
  flags: number;
  bufferOffset: number;
  /** STAMP_CURRENT, STAMP_OWN, or a stamp. */
  stamp: number;
}

/** Whoever asked may be gone before its change started: then it never starts. */
export interface Guard {
  readonly ended: boolean;
}

export type ChangeDone = (status: Status, faultOffsetBytes: number) => void;

interface Held {
  change: LocalChange;
  guard: Guard;
  done: ChangeDone;
}

/** A change under way; used again for another. */
class Flight implements Listed {
  place = NO_PLACE;
  change: LocalChange = NO_CHANGE;
  done: ChangeDone = nobody;
  readonly operation = new Operation();
  /** Waits for its end. */
  readonly after: (() => void)[] = [];

  constructor(ended: (flight: Flight) => void) {
    this.operation.done = () => ended(this);
  }
}

const NO_CHANGE: LocalChange = {
  kind: OperationKind.write,
  offsetBytes: 0,
  lengthBytes: 0,
  flags: 0,
  bufferOffset: NO_BUFFER,
  stamp: STAMP_CURRENT,
};
function nobody(): void {}

export class Applier {
  readonly #store: MemberStore;
  readonly #onFailed: (status: Status) => void;
  readonly #activating = new Map<number, StoreDone[]>();
  #held: Held[] = [];
  #records: { record: SliceRecord; done: StoreDone }[] = [];
  #storing = false;
  readonly #flights = new Roster<Flight>();
  readonly #spare: Flight[] = [];
  #completed = 0;

  constructor(store: MemberStore, onFailed: (status: Status) => void) {
    this.#store = store;
    this.#onFailed = onFailed;
  }

  /** Operations on the disk not ended yet, changes and others. */
  outstanding = 0;
  /** Operations ended since the start: together they show whether the disk makes progress. */
  get completed(): number {
    return this.#completed;
  }

  /** Whether a change is under way in a region: it must not become inactive (R6). */
  uses(region: number): boolean {
    for (const { change } of this.#flights) {
      if (region >= firstRegion(change) && region <= lastRegion(change)) return true;
    }
    return false;
  }

  /** Changes the member; the buffer stays the caller's and must last until `done`. */
  apply(change: LocalChange, guard: Guard, done: ChangeDone): void {
    if (this.#records.length > 0) {
      this.#held.push({ change, guard, done });
      return;
    }
    this.#start(change, done);
  }

  /** Runs `act` once no change under way touches a block of the range. */
  whenClear(offsetBytes: number, lengthBytes: number, act: () => void): void {
    const from = offsetBytes - (offsetBytes % BLOCK_BYTES);
    const end = Math.ceil((offsetBytes + lengthBytes) / BLOCK_BYTES) * BLOCK_BYTES;
    for (const flight of this.#flights) {
      const { offsetBytes: start, lengthBytes: bytes } = flight.change;
      if (start >= end || start + bytes <= from) continue;
      flight.after.push(() => this.whenClear(offsetBytes, lengthBytes, act));
      return;
    }
    act();
  }

  /** Like submit, of somebody who says `readEnded` when it is done. */
  read(operation: Operation): void {
    this.outstanding++;
    this.#store.submit(operation);
  }
  readEnded(status: Status): void {
    this.#ended(status);
  }

  /** Reads, flushes, block status: nothing that a record has to wait for. */
  submit(operation: Operation): void {
    this.outstanding++;
    const { done } = operation;
    operation.done = (ended) => {
      ended.done = done;
      this.#ended(ended.status);
      done(ended);
    };
    this.#store.submit(operation);
  }

  /**
   * R4: stores a record once no change is under way. An older one than is stored counts as stored.
   */
  storeRecord(record: SliceRecord, done: StoreDone): void {
    this.#records.push({ record, done });
    this.#storeNext();
  }

  /** The asker ended: its changes that have not started never will. */
  cancel(guard: Guard): void {
    const held = this.#held;
    this.#held = held.filter((item) => item.guard !== guard);
    for (const item of held) if (item.guard === guard) item.done(Status.cancelled, -1);
  }

  #storeNext(): void {
    const next = this.#records[0];
    if (next === undefined || this.#storing || this.#flights.size > 0) return;
    this.#storing = true;
    const { record: stored } = this.#store;
    const needed = stored === null || supersedes(next.record, stored);
    const finished: StoreDone = (status) => {
      this.#storing = false;
      this.#records.shift();
      if (needed) this.#ended(status);
      next.done(status);
      if (this.#records.length > 0) this.#storeNext();
      else this.#resume();
    };
    if (!needed) return finished(Status.ok);
    this.outstanding++;
    this.#store.putRecord(next.record, finished);
  }

  #resume(): void {
    const held = this.#held;
    this.#held = [];
    for (const { change, guard, done } of held) {
      if (guard.ended) done(Status.cancelled, -1);
      else this.apply(change, guard, done);
    }
  }

  #start(change: LocalChange, done: ChangeDone): void {
    assert(this.#store.record !== null, "a record is stored before the first change");
    const flight = this.#spare.pop() ?? this.#newFlight();
    flight.change = change;
    flight.done = done;
    this.#flights.add(flight);
    this.outstanding++;
    const first = firstRegion(change);
    const last = lastRegion(change);
    if (this.#allActive(first, last)) this.#write(flight);
    else this.#activateFor(flight, first, last);
  }

  #newFlight(): Flight {
    return new Flight((ended) => this.#landed(ended));
  }

  #activateFor(flight: Flight, first: number, last: number): void {
    this.#activate(first, last, (status) => {
      if (status !== Status.ok) return this.#end(flight, status, -1);
      this.#write(flight);
    });
  }

  #landed(flight: Flight): void {
    const { status, faultOffsetBytes } = flight.operation;
    this.#end(flight, status, faultOffsetBytes);
  }

  #end(flight: Flight, status: Status, fault: number): void {
    const { done } = flight;
    this.#flights.delete(flight);
    this.#ended(status);
    done(status, fault);
    if (flight.after.length > 0) for (const act of flight.after.splice(0)) act();
    flight.change = NO_CHANGE;
    flight.done = nobody;
    this.#spare.push(flight);
    if (this.#records.length > 0) this.#storeNext();
  }

  /** R6, the usual case: durably so already. */
  #allActive(first: number, last: number): boolean {
    for (let region = first; region <= last; region++) {
      if (this.#activating.size > 0 && this.#activating.has(region)) return false;
      if (!this.#store.isActive(region)) return false;
    }
    return true;
  }

  #write({ change, operation }: Flight): void {
    operation.kind = change.kind;
    operation.offsetBytes = change.offsetBytes;
    operation.lengthBytes = change.lengthBytes;
    operation.flags = change.flags & ~FLAG_KEEP_STAMP;
    operation.bufferOffset = change.bufferOffset;
    operation.faultOffsetBytes = -1;
    operation.epoch = this.#store.record?.epoch ?? 0;
    let { stamp } = change;
    if (stamp === STAMP_OWN) {
      const own = this.#store.stampOf(Math.floor(change.offsetBytes / EXTENT_BYTES));
      stamp = own === 0 ? STAMP_CURRENT : own;
    }
    if (stamp !== STAMP_CURRENT) {
      operation.epoch = stamp;
      operation.flags |= FLAG_KEEP_STAMP;
    }
    this.#store.submit(operation);
  }

  /** R6: regions first..last are active, durably, when `done` runs. */
  #activate(first: number, last: number, done: StoreDone): void {
    let missing: number[] | null = null;
    let waits = 0;
    let failed: Status = Status.ok;
    const one: StoreDone = (status) => {
      waits--;
      if (status !== Status.ok) failed = status;
      if (waits === 0) done(failed);
    };
    for (let region = first; region <= last; region++) {
      const waiters = this.#activating.get(region);
      if (waiters !== undefined) {
        waits++;
        waiters.push(one);
      } else if (!this.#store.isActive(region)) {
        if (missing === null) missing = [];
        missing.push(region);
      }
    }
    if (missing === null) {
      if (waits === 0) done(Status.ok);
      return;
    }
    waits++;
    const regions: number[] = missing;
    for (const region of regions) this.#activating.set(region, []);
    this.#store.activate(regions, (status) => {
      const waiting = regions.flatMap((region) => this.#activating.get(region) ?? []);
      for (const region of regions) this.#activating.delete(region);
      one(status);
      for (const waiter of waiting) waiter(status);
    });
  }

  #ended(status: Status): void {
    this.outstanding--;
    this.#completed++;
    if (status === Status.ioError) this.#onFailed(status);
  }
}

function firstRegion({ offsetBytes }: LocalChange): number {
  return Math.floor(offsetBytes / REGION_BYTES);
}
function lastRegion({ offsetBytes, lengthBytes }: LocalChange): number {
  return Math.floor((offsetBytes + lengthBytes - 1) / REGION_BYTES);
}
