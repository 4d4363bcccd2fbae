// SPDX-License-Identifier: Apache-2.0
//
// Reconciliation (R6, R9): after a takeover the in-sync members may differ in every region that any
// of them had active. Until an extent of those is equal, nobody reads or writes it: whoever comes
// first has it made equal on demand, the rest is done in the background.
//
// The head's content wins: block by block the one that matches its checksum, the head's first. It
// is written to the others with the head's stamp, so that what is owed to a fourth stays owed;
// where the head has nothing mapped, the others are trimmed. A block that nobody can read is left
// out: it gives medium errors (H8), and whatever becomes readable of it again may still be good.
//
// A job queues for its extent's lock when it is made, and whoever needs the extent queues behind
// it: arrival order holds, and nobody who holds a lock waits for a job.

import { EXTENT_BYTES, EXTENTS_PER_REGION } from "#base/grains.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { FLAG_KEEP_STAMP } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { regionOfExtent } from "./activity.ts";
import { ExtentSet } from "./extent-set.ts";
import type { Head } from "./head.ts";
import { runsAround } from "./heal.ts";
import type { Ticket } from "./range-lock.ts";
import { Spread } from "./spread.ts";

/** Jobs that move data at the same time; jobs made on demand wait for their turn. */
const RUNNING_MAX = 4;

interface Job {
  extent: number;
  ticket: Ticket | null;
}

export class Reconcile {
  readonly #head: Head;
  readonly #due: ExtentSet;
  /** Of these the head's own bytes may be accepted (R9: a block in a region active at a crash). */
  readonly #crashed: ExtentSet;
  readonly #jobs = new Map<number, Job>();
  readonly #ready: Job[] = [];
  #running = 0;

  constructor(head: Head, extents: number) {
    this.#head = head;
    this.#due = new ExtentSet(extents);
    this.#crashed = new ExtentSet(extents);
  }

  growTo(extents: number): void {
    this.#due.growTo(extents);
    this.#crashed.growTo(extents);
  }

  get count(): number {
    return this.#due.count;
  }

  dueIn(region: number): boolean {
    const first = region * EXTENTS_PER_REGION;
    return this.#due.count > 0 && this.#due.hasAnyIn(first, first + EXTENTS_PER_REGION);
  }

  /** Whether something in the range is not equal yet: looked at again once a lock is granted. */
  dueAt(offsetBytes: number, lengthBytes: number): boolean {
    if (this.#due.count === 0) return false;
    const end = Math.ceil((offsetBytes + lengthBytes) / EXTENT_BYTES);
    return this.#due.hasAnyIn(Math.floor(offsetBytes / EXTENT_BYTES), end);
  }

  /** Regions that were active when the headship began. */
  recover(regions: Iterable<number>): void {
    for (const region of regions) {
      const first = region * EXTENTS_PER_REGION;
      // Of a lineage that lost, a member may hold more than the slice has.
      if (first + EXTENTS_PER_REGION > this.#due.extents) continue;
      for (let extent = first; extent < first + EXTENTS_PER_REGION; extent++) {
        this.#due.add(extent);
        this.#crashed.add(extent);
      }
    }
  }

  /** An extent in which a failed change may have left the members different (H8). */
  unequal(extent: number): void {
    this.#due.add(extent);
  }

  /** Called before a range's lock is asked for: what is due there is queued first. */
  demand(offsetBytes: number, lengthBytes: number): void {
    if (this.#due.count === 0) return;
    const end = Math.ceil((offsetBytes + lengthBytes) / EXTENT_BYTES);
    let extent = this.#due.next(Math.floor(offsetBytes / EXTENT_BYTES));
    while (extent >= 0 && extent < end) {
      this.#make(extent);
      extent = this.#due.next(extent + 1);
    }
  }

  /** In the background, and after whatever held jobs up. */
  pump(): void {
    if (this.#due.count === 0 || !this.#head.ready) return;
    let extent = this.#due.next(0);
    while (extent >= 0 && this.#jobs.size < RUNNING_MAX) {
      this.#make(extent);
      extent = this.#due.next(extent + 1);
    }
    this.#runNext();
  }

  #make(extent: number): void {
    if (this.#jobs.has(extent)) return;
    const job: Job = { extent, ticket: null };
    this.#jobs.set(extent, job);
    const range = {
      offsetBytes: extent * EXTENT_BYTES,
      lengthBytes: EXTENT_BYTES,
      exclusive: true,
    };
    const ticket = this.#head.locks.acquire(range, () => {
      this.#ready.push(job);
      this.#runNext();
    });
    job.ticket = ticket;
    // Ended before its ticket was known here.
    if (this.#jobs.get(extent) !== job && !this.#head.ended) this.#head.locks.release(ticket);
  }

  #runNext(): void {
    while (this.#running < RUNNING_MAX && this.#ready.length > 0 && this.#head.ready) {
      const job = this.#ready.shift() as Job;
      this.#running++;
      this.#run(job);
    }
  }

  #run(job: Job): void {
    const head = this.#head;
    const isMapped = head.store.stampOf(job.extent) !== 0;
    if (!isMapped) return this.#push(job, NO_BUFFER);
    const bufferOffset = head.memory.allocate(EXTENT_BYTES);
    if (bufferOffset === NO_BUFFER) {
      this.#running--;
      this.#ready.unshift(job);
      return; // The head's next tick tries again.
    }
    const unreadable: number[] = [];
    const range = {
      offsetBytes: job.extent * EXTENT_BYTES,
      lengthBytes: EXTENT_BYTES,
      bufferOffset,
      acceptOwn: this.#crashed.has(job.extent),
      unreadable,
    };
    head.heal.read(range, (status) => {
      if (status === Status.ok && !head.ended) return this.#push(job, bufferOffset, unreadable);
      head.memory.release(bufferOffset);
      // The disk contradicts itself: nothing can be made equal to that.
      this.#finish(job, status === Status.mediumError);
    });
  }

  /** Makes the others equal to what is in the buffer, but for `unreadable` blocks. */
  #push(job: Job, bufferOffset: number, unreadable: readonly number[] = []): void {
    const head = this.#head;
    const from = job.extent * EXTENT_BYTES;
    const runs = runsAround(from, from + EXTENT_BYTES, unreadable);
    const region = regionOfExtent(job.extent);
    head.activity.enterAnyway(region, region);
    const next = (status: Status) => {
      const run = runs.shift();
      if (status === Status.ok && run !== undefined && !head.ended) {
        const at = bufferOffset === NO_BUFFER ? NO_BUFFER : bufferOffset + run.offsetBytes - from;
        return this.#spread(run, at, next);
      }
      head.activity.leave(region, region);
      if (bufferOffset !== NO_BUFFER) head.memory.release(bufferOffset);
      const isEqual = status === Status.ok && !head.ended;
      if (isEqual) head.counters.reconciled++;
      this.#finish(job, isEqual);
    };
    next(Status.ok);
  }

  #spread(
    run: { offsetBytes: number; lengthBytes: number },
    bufferOffset: number,
    done: (status: Status) => void,
  ): void {
    const head = this.#head;
    const { offsetBytes, lengthBytes } = run;
    const kind = bufferOffset === NO_BUFFER ? "trim" : "write";
    const spread = new Spread(head, kind, (ended) => done(ended.status));
    spread.offsetBytes = offsetBytes;
    spread.lengthBytes = lengthBytes;
    spread.bufferOffset = bufferOffset;
    if (kind === "write") spread.flags = FLAG_KEEP_STAMP;
    spread.dropped = (replica) => replica.resync?.miss(offsetBytes, lengthBytes);
    spread.start(head.recipients(offsetBytes, lengthBytes), { local: false });
  }

  #finish(job: Job, isSettled: boolean): void {
    this.#running--;
    this.#jobs.delete(job.extent);
    if (isSettled) {
      this.#due.delete(job.extent);
      this.#crashed.delete(job.extent);
    }
    if (this.#head.ended) return;
    if (!isSettled) {
      // Not equal yet: it stays ahead of whoever waits for the extent.
      this.#jobs.set(job.extent, job);
      this.#ready.push(job);
      return;
    }
    if (job.ticket !== null) this.#head.locks.release(job.ticket);
    this.#runNext();
    if (this.#due.count === 0) this.#head.reconciled();
  }
}
