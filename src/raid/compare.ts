// SPDX-License-Identifier: Apache-2.0
//
// Members compared (R9): when a scrub has verified an extent of the head's disk, the checksums that
// every in-sync member has stored for it are held against the head's. No block is read for it. Two
// that differ although each matches its own disk's bytes are a divergence that nothing else would
// ever show: it is counted and told, and nobody guesses which is right.
//
// Only where members must be equal: no write is under way (the extent's shared lock), its region is
// not active, no reconciliation is due (R6). A block that is known to be lost on either side is not
// compared: it says so itself.

import { EXTENT_BYTES } from "#base/grains.ts";
import { BLOCK_BYTES } from "#base/grains.ts";
import { Status } from "#base/status.ts";
import { VerbKind } from "#base/verbs.ts";
import { regionOfExtent } from "./activity.ts";
import { FLAG_DIGEST, FLAG_STORED, differing, digestBytes } from "./digest.ts";
import { HappeningKind } from "./happening.ts";
import type { Head } from "./head.ts";
import { Once } from "./heal.ts";
import type { Ticket } from "./range-lock.ts";
import type { Replica } from "./replica.ts";

/** Divergent extents told; more are only counted. */
const TOLD_MAX = 1024;

export class Compare {
  readonly #head: Head;
  readonly #told = new Set<string>();

  constructor(head: Head) {
    this.#head = head;
  }

  /** Compares one extent on all in-sync members; `done` in any case. */
  extent(extent: number, done: () => void): void {
    const head = this.#head;
    if (!this.#isComparable(extent)) return done();
    let ticket: Ticket | null = null;
    let isOver = false;
    const finish = () => {
      isOver = true;
      if (!head.ended && ticket !== null) head.locks.release(ticket);
      done();
    };
    const range = {
      offsetBytes: extent * EXTENT_BYTES,
      lengthBytes: EXTENT_BYTES,
      exclusive: false,
    };
    ticket = head.locks.acquire(range, () => this.#locked(extent, finish));
    if (isOver && !head.ended && !ticket.released) head.locks.release(ticket);
  }

  /** Compares what members have mapped and the head has not. */
  unmapped(done: () => void): void {
    const peers = this.#head.inSyncPeers();
    const next = () => {
      const replica = peers.shift();
      if (replica === undefined || this.#head.ended) return done();
      this.#mapOf(replica, 0, next);
    };
    next();
  }

  #isComparable(extent: number): boolean {
    const head = this.#head;
    const region = regionOfExtent(extent);
    if (head.ended || !head.ready || !head.established || head.released) return false;
    return !head.activity.has(region) && !head.reconcile.dueIn(region);
  }

  #locked(extent: number, finish: () => void): void {
    const head = this.#head;
    if (!this.#isComparable(extent)) return finish();
    head.store.checksumsOf(extent, (checksums) => {
      if (checksums === null || head.ended) return finish();
      const peers = head.inSyncPeers();
      const next = () => {
        const replica = peers.shift();
        if (replica === undefined || head.ended) return finish();
        this.#ask(replica, extent, checksums, next);
      };
      next();
    });
  }

  #ask(replica: Replica, extent: number, checksums: Uint32Array, next: () => void): void {
    const head = this.#head;
    if (replica.state !== "open" || !replica.inSync) return next();
    const verb = head.verb(VerbKind.read, replica.disk);
    verb.offsetBytes = extent * EXTENT_BYTES;
    verb.lengthBytes = EXTENT_BYTES;
    verb.flags = FLAG_DIGEST | FLAG_STORED;
    const asker = new Once((answer) => {
      const isWhole =
        answer?.status === Status.ok && answer.payloadBytes === digestBytes(EXTENT_BYTES);
      // Whoever knows no stored checksums reads the blocks, and may find one that is wrong.
      if (answer !== null && isWhole && !head.ended) {
        const { first, count } = differing(head.memory, checksums, answer.bufferOffset);
        if (count > 0) this.#diverged(replica, extent, { first, count });
      }
      next();
    });
    if (!head.ask(replica, verb, asker, false)) next();
  }

  #diverged(replica: Replica, extent: number, found: { first: number; count: number }): void {
    const head = this.#head;
    const key = `${replica.disk}:${extent}`;
    if (this.#told.has(key)) return;
    head.counters.diverged += found.count;
    if (this.#told.size >= TOLD_MAX) return;
    this.#told.add(key);
    const offsetBytes = extent * EXTENT_BYTES + found.first * BLOCK_BYTES;
    const { disk } = replica;
    const { volume, slice } = head.record;
    head.log.write("error", "two copies differ though each matches its own checksums", {
      volume,
      slice,
      disks: [head.store.disk, disk],
      offsetBytes,
      blocks: found.count,
    });
    head.happened({ kind: HappeningKind.diverged, disk, offsetBytes, blocks: found.count });
  }

  #mapOf(replica: Replica, from: number, done: () => void): void {
    const head = this.#head;
    if (head.ended || replica.state !== "open") return done();
    const verb = head.verb(VerbKind.mapRead, replica.disk);
    verb.offsetBytes = from * EXTENT_BYTES;
    const asker = new Once((answer) => {
      const entries = answer?.kind === VerbKind.map ? answer.entries : null;
      if (entries === null || entries === undefined || head.ended) return done();
      const hasMore = answer?.flags === 1;
      const last = entries.at(-1)?.extent ?? from;
      const missing = entries.map((entry) => entry.extent).filter((extent) => this.#lacks(extent));
      const next = () => {
        const extent = missing.shift();
        if (head.ended) return done();
        if (extent !== undefined) return this.extent(extent, next);
        if (hasMore && last >= from) this.#mapOf(replica, last + 1, done);
        else done();
      };
      next();
    });
    if (!head.ask(replica, verb, asker, false)) done();
  }

  #lacks(extent: number): boolean {
    return (
      extent * EXTENT_BYTES < this.#head.record.sizeBytes && this.#head.store.stampOf(extent) === 0
    );
  }
}
