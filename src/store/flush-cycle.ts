// SPDX-License-Identifier: Apache-2.0
//
// The flush of a disk (H4, H5): data, checksums and map on stable media, with as few flushes of the
// area as their order allows. One cycle runs at a time; all who ask meanwhile share the next one.
//
//   blocks written for the first time, or mappings not durable yet?
//     yes: FLUSH (data; with the log's commit where entries wait), then descriptors, then FLUSH
//     no:  descriptors, then FLUSH (with the log's commit where entries wait)
//   blocks that hold nothing any more (a trim of part of an extent)?
//     then the other slots of their descriptors, then FLUSH once more (descriptor.ts)
//
// Why the first FLUSH: a descriptor that says "written" of bytes which never came would, after a
// power cut, hand out what the extent's earlier owner left there (H9). Overwrites need it not:
// their regions are active, so after a power cut a checksum that does not match is looked at with
// the other members (R9), and what is there is an older value of the same sectors.

import { NO_BUFFER } from "#base/memory.ts";
import { Status } from "#base/status.ts";
import type { BufferPool, BufferWaiter } from "./buffer-pool.ts";
import type { Descriptor } from "./descriptor.ts";
import type { DescriptorCache } from "./descriptor-cache.ts";
import type { DiskIo, IoDone } from "./disk-io.ts";
import type { DiskPlan } from "./disk-plan.ts";
import { DESCRIPTOR_PAIR_BYTES } from "./format.wire.ts";
import type { MetadataLog } from "./metadata-log.ts";
import type { PageIdentity } from "./page.ts";

export interface FlushParts {
  readonly io: DiskIo;
  readonly plan: DiskPlan;
  readonly identity: PageIdentity;
  readonly log: MetadataLog;
  readonly cache: DescriptorCache;
  readonly buffers: BufferPool;
  /** The present stamp of an extent. */
  stampOf(descriptor: Descriptor): number;
}

export class FlushCycle {
  /** Told as a cycle begins: what is noted from now on is not in it. */
  onBegin: () => void = () => {};
  /** Told when all that was there as the cycle began is on stable media. */
  onSettled: () => void = () => {};
  /** Told after every cycle. */
  onEnd: () => void = () => {};
  readonly #parts: FlushParts;
  #running: IoDone[] | null = null;
  #next: IoDone[] = [];

  constructor(parts: FlushParts) {
    this.#parts = parts;
  }

  get running(): boolean {
    return this.#running !== null;
  }

  /** `done` once everything that was acked before now is on stable media. */
  request(done: IoDone): void {
    if (this.#parts.io.failed) return done(Status.ioError);
    this.#next.push(done);
    this.#begin();
  }

  #begin(): void {
    if (this.#running !== null || this.#next.length === 0) return;
    this.#running = this.#next;
    this.#next = [];
    const { log, cache, io } = this.#parts;
    const entry = log.appended;
    this.onBegin();
    const dirty = cache.takeDirty();
    let first = false;
    for (const descriptor of dirty) {
      if (descriptor.sequence === 0 || descriptor.hasFresh()) first = true;
      descriptor.clearFresh();
    }
    if (!first) return this.#write(dirty, entry);
    const step = (status: Status) => {
      if (status !== Status.ok) return this.#end(status, dirty);
      this.#write(dirty, entry);
    };
    // A commit that begins now ends with a flush that covers the data too.
    if (log.waitsForCommit(entry)) return log.sync(entry, step);
    io.flush((status) => {
      if (status !== Status.ok) return step(status);
      log.sync(entry, step);
    });
  }

  #write(dirty: Descriptor[], entry: number): void {
    const { log, io } = this.#parts;
    if (dirty.length === 0) return log.sync(entry, (status) => this.#end(status, dirty));
    new DescriptorWrites(this.#parts, dirty, (status) => {
      if (status !== Status.ok) return this.#end(status, dirty);
      if (log.waitsForCommit(entry)) return log.sync(entry, (ended) => this.#twins(ended, dirty));
      io.flush((flushed) => {
        if (flushed !== Status.ok) return this.#end(flushed, dirty);
        log.sync(entry, (ended) => this.#twins(ended, dirty));
      });
    }).more();
  }

  /** The first slots are on media: now the others of those that must say it twice. */
  #twins(status: Status, dirty: Descriptor[]): void {
    const owing = dirty.filter((descriptor) => descriptor.owesTwin && !descriptor.dead);
    if (status !== Status.ok || owing.length === 0) return this.#end(status, dirty);
    new DescriptorWrites(this.#parts, owing, (written) => {
      if (written !== Status.ok) return this.#end(written, dirty);
      this.#parts.io.flush((flushed) => this.#end(flushed, dirty));
    }).more();
  }

  #end(status: Status, dirty: Descriptor[]): void {
    const answered = this.#running as IoDone[];
    this.#running = null;
    for (const descriptor of dirty) this.#parts.cache.written(descriptor);
    if (status === Status.ok) this.onSettled();
    for (const done of answered) done(status);
    this.onEnd();
    this.#begin();
  }
}

/** The writing of many descriptors, as many at once as there are buffers. */
class DescriptorWrites implements BufferWaiter {
  readonly #parts: FlushParts;
  readonly #descriptors: Descriptor[];
  readonly #done: IoDone;
  #next = 0;
  #left: number;
  #status: Status = Status.ok;

  constructor(parts: FlushParts, descriptors: Descriptor[], done: IoDone) {
    this.#parts = parts;
    this.#descriptors = descriptors;
    this.#done = done;
    this.#left = descriptors.length;
  }

  more(): void {
    while (this.#next < this.#descriptors.length) {
      const buffer = this.#parts.buffers.take();
      if (buffer === NO_BUFFER) return this.#parts.buffers.wait(this);
      this.#write(this.#descriptors[this.#next++] as Descriptor, buffer);
    }
  }

  bufferFree(): void {
    this.more();
  }

  #write(descriptor: Descriptor, buffer: number): void {
    const { io, plan, identity } = this.#parts;
    // Freed since the cycle began: the extent may soon be another's.
    if (descriptor.dead) return this.#end(Status.ok, buffer);
    if (!descriptor.unsure) return this.#encode(descriptor, buffer);
    // The last chance to know what is about to be written over.
    const pairAt = plan.descriptorOffset + descriptor.physical * DESCRIPTOR_PAIR_BYTES;
    io.read(pairAt, DESCRIPTOR_PAIR_BYTES, buffer, (status) => {
      if (io.failed) return this.#end(Status.ioError, buffer);
      if (descriptor.dead) return this.#end(Status.ok, buffer);
      if (status === Status.ok) descriptor.learn(io.memory.bytes, buffer, identity);
      descriptor.unsure = false;
      this.#encode(descriptor, buffer);
    });
  }

  #encode(descriptor: Descriptor, buffer: number): void {
    const { io, plan, identity } = this.#parts;
    const stamp = this.#parts.stampOf(descriptor);
    const part = descriptor.encode(io.memory.bytes, buffer, stamp, identity);
    const pairAt = plan.descriptorOffset + descriptor.physical * DESCRIPTOR_PAIR_BYTES;
    const end = (status: Status) => this.#end(status, buffer);
    io.write(pairAt + part.at, part.lengthBytes, buffer, end);
  }

  #end(status: Status, buffer: number): void {
    if (status !== Status.ok) this.#status = status;
    this.#left--;
    const last = this.#left === 0;
    this.#parts.buffers.give(buffer);
    if (last) this.#done(this.#status);
  }
}
