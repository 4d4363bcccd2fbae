// SPDX-License-Identifier: Apache-2.0
//
// What a head does about the doubts of scrubs (R9), its own disk's and its members': under the
// range's exclusive lock (R1) the doubted blocks are read again past the cache, on the disk that
// doubts them, and those that are really wrong are healed. A doubt that was none (the scrub met a
// write) costs a read.
//
// Invariants
// - R13: RUNNING_MAX at a time, a bounded queue, and a bounded number of repairs while a lock is
//   held; what is left over is doubted again by whoever scrubs.
// - Nothing is begun while members may differ there (R6: reconciliation first), nor on a target
//   that still awaits a copy of the extent.

import { BLOCK_BYTES, EXTENT_BYTES } from "#base/grains.ts";
import type { MapEntry } from "#base/member-store.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { FLAG_PAST_CACHE } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { VerbKind } from "#base/verbs.ts";
import { FLAG_DIGEST } from "./digest.ts";
import { doubtOfEntry } from "./doubt.ts";
import type { DoubtedRange } from "./doubt.ts";
import type { Head } from "./head.ts";
import { Once } from "./heal.ts";
import type { Ticket } from "./range-lock.ts";
import type { Replica } from "./replica.ts";

const RUNNING_MAX = 2;
const QUEUED_MAX = 64;
/** Blocks healed under one lock: hosts wait for it. */
const REPAIRS_MAX = 16;

interface Job {
  /** Null: the head's own disk. */
  replica: Replica | null;
  range: DoubtedRange;
  ticket: Ticket | null;
  repairs: number;
}

/** How a look at part of a range ended: all right, or at the first wrong block. */
type Seen = (status: Status, faultOffsetBytes: number) => void;

export class Mender {
  readonly #head: Head;
  readonly #jobs = new Map<string, Job>();
  readonly #queue: Job[] = [];
  #running = 0;

  constructor(head: Head) {
    this.#head = head;
  }

  /** What a member says with its grant. */
  heard(replica: Replica, entries: readonly MapEntry[]): void {
    for (const entry of entries) {
      const range = doubtOfEntry(entry);
      if (range !== null) this.doubted(replica, range);
    }
  }

  doubted(replica: Replica | null, range: DoubtedRange): void {
    if (range.offsetBytes + range.lengthBytes > this.#head.record.sizeBytes) return;
    const extent = Math.floor(range.offsetBytes / EXTENT_BYTES);
    const key = `${replica?.disk ?? 0}:${extent}`;
    if (this.#jobs.has(key) || this.#jobs.size >= QUEUED_MAX || !this.#head.established) return;
    const job: Job = { replica, range, ticket: null, repairs: 0 };
    this.#jobs.set(key, job);
    this.#queue.push(job);
    this.#runNext();
  }

  #runNext(): void {
    while (this.#running < RUNNING_MAX && this.#queue.length > 0 && !this.#head.ended) {
      this.#running++;
      this.#start(this.#queue.shift() as Job);
    }
  }

  #start(job: Job): void {
    const head = this.#head;
    const { offsetBytes, lengthBytes } = job.range;
    head.reconcile.demand(offsetBytes, lengthBytes);
    let isGranted = false;
    const granted = () => {
      isGranted = true;
      if (job.ticket !== null) this.#locked(job);
    };
    job.ticket = head.locks.acquire({ offsetBytes, lengthBytes, exclusive: true }, granted);
    if (isGranted) this.#locked(job);
  }

  #locked(job: Job): void {
    const head = this.#head;
    const { offsetBytes, lengthBytes } = job.range;
    const isUnready = head.ended || !head.ready || head.reconcile.dueAt(offsetBytes, lengthBytes);
    if (isUnready || !this.#mayTouch(job)) return this.#finish(job);
    this.#look(job, offsetBytes);
  }

  /** A target's extent that awaits its copy is written anew anyway. */
  #mayTouch({ replica, range }: Job): boolean {
    if (replica === null) return true;
    if (replica.state !== "open") return false;
    const extent = Math.floor(range.offsetBytes / EXTENT_BYTES);
    return replica.inSync || replica.resync?.awaits(extent) === false;
  }

  #look(job: Job, from: number): void {
    const end = job.range.offsetBytes + job.range.lengthBytes;
    if (this.#head.ended || job.repairs >= REPAIRS_MAX) return this.#finish(job);
    if (from >= end) return this.#seenRight(job);
    const seen: Seen = (status, fault) => {
      if (this.#head.ended) return this.#finish(job);
      if (status === Status.ok) return this.#seenRight(job);
      if (status !== Status.checksumMismatch) return this.#finish(job);
      // A member that does not say where is looked at block by block.
      const at = fault < from || fault >= end ? from : fault;
      const block = at - (at % BLOCK_BYTES);
      job.repairs++;
      this.#heal(job, block, (outcome) => {
        const goesOn = outcome === Status.ok || outcome === Status.mediumError;
        if (!goesOn || this.#head.ended) return this.#finish(job);
        this.#look(job, block + BLOCK_BYTES);
      });
    };
    const part = { offsetBytes: from, lengthBytes: end - from };
    if (job.replica === null) this.#readHere(part, seen);
    else this.#readThere(job.replica, part, seen);
  }

  #heal({ replica }: Job, offsetBytes: number, done: (status: Status) => void): void {
    if (replica === null) this.#head.heal.block(offsetBytes, false, done);
    else this.#head.heal.peer(replica, offsetBytes, done);
  }

  #seenRight(job: Job): void {
    if (!job.range.rewrite) return this.#finish(job);
    this.#head.heal.again(job.replica, job.range.offsetBytes, () => this.#finish(job));
  }

  #readHere(part: { offsetBytes: number; lengthBytes: number }, seen: Seen): void {
    const head = this.#head;
    const bufferOffset = head.memory.allocate(part.lengthBytes);
    if (bufferOffset === NO_BUFFER) return seen(Status.busy, -1);
    head.readHere({ ...part, bufferOffset }, FLAG_PAST_CACHE, (status, fault) => {
      head.memory.release(bufferOffset);
      seen(status, fault);
    });
  }

  #readThere(
    replica: Replica,
    part: { offsetBytes: number; lengthBytes: number },
    seen: Seen,
  ): void {
    const head = this.#head;
    if (replica.state !== "open") return seen(Status.linkLost, -1);
    const verb = head.verb(VerbKind.read, replica.disk);
    verb.offsetBytes = part.offsetBytes;
    verb.lengthBytes = part.lengthBytes;
    verb.flags = FLAG_DIGEST | FLAG_PAST_CACHE;
    const asker = new Once((answer) => {
      if (answer === null) return seen(Status.linkLost, -1);
      seen(answer.status, answer.offsetBytes);
    });
    if (!head.ask(replica, verb, asker, false)) seen(Status.linkLost, -1);
  }

  #finish(job: Job): void {
    this.#running--;
    for (const [key, known] of this.#jobs) if (known === job) this.#jobs.delete(key);
    const { ticket } = job;
    if (!this.#head.ended && ticket !== null && !ticket.released) this.#head.locks.release(ticket);
    this.#runNext();
  }
}
