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
import { FLAG_KEEP_STAMP, OperationKind } from "#base/operation.ts";
import type { Operation, OperationPool } from "#base/operation.ts";
import type { SliceRecord } from "#base/record.ts";
import { supersedes } from "#base/record.ts";
import { Status } from "#base/status.ts";

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

interface Flight {
  change: LocalChange;
  after: (() => void)[];
}

export class Applier {
  readonly #store: MemberStore;
  readonly #pool: OperationPool;
  readonly #onFailed: (status: Status) => void;
  readonly #activating = new Map<number, StoreDone[]>();
  readonly #users = new Map<number, number>();
  #held: Held[] = [];
  #records: { record: SliceRecord; done: StoreDone }[] = [];
  #storing = false;
  readonly #flights = new Set<Flight>();
  #completed = 0;

  constructor(store: MemberStore, pool: OperationPool, onFailed: (status: Status) => void) {
    this.#store = store;
    this.#pool = pool;
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
    return this.#users.has(region);
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
    const flight: Flight = { change, after: [] };
    this.#flights.add(flight);
    this.outstanding++;
    const first = Math.floor(change.offsetBytes / REGION_BYTES);
    const last = Math.floor((change.offsetBytes + change.lengthBytes - 1) / REGION_BYTES);
    for (let region = first; region <= last; region++) {
      this.#users.set(region, (this.#users.get(region) ?? 0) + 1);
    }
    const end = (status: Status, fault: number) => {
      for (let region = first; region <= last; region++) {
        const users = (this.#users.get(region) ?? 1) - 1;
        if (users === 0) this.#users.delete(region);
        else this.#users.set(region, users);
      }
      this.#flights.delete(flight);
      this.#ended(status);
      done(status, fault);
      for (const act of flight.after) act();
      this.#storeNext();
    };
    if (this.#allActive(first, last)) return this.#write(change, end);
    this.#activate(first, last, (status) => {
      if (status !== Status.ok) return end(status, -1);
      this.#write(change, end);
    });
  }

  /** R6, the usual case: durably so already. */
  #allActive(first: number, last: number): boolean {
    for (let region = first; region <= last; region++) {
      if (this.#activating.size > 0 && this.#activating.has(region)) return false;
      if (!this.#store.isActive(region)) return false;
    }
    return true;
  }

  #write(change: LocalChange, end: ChangeDone): void {
    const operation = this.#pool.take();
    operation.kind = change.kind;
    operation.offsetBytes = change.offsetBytes;
    operation.lengthBytes = change.lengthBytes;
    operation.flags = change.flags & ~FLAG_KEEP_STAMP;
    operation.bufferOffset = change.bufferOffset;
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
    operation.done = (ended) => {
      const { status, faultOffsetBytes } = ended;
      this.#pool.give(ended);
      end(status, faultOffsetBytes);
    };
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
