// SPDX-License-Identifier: Apache-2.0
//
// Descriptors in memory, at most as many as the stated cap and what is in use or dirty at the
// moment; those that may go are let go when they were not used for long (a clock with one hand: a
// use only sets a mark, so that a hit touches nothing but the descriptor itself). Dirty ones are
// never let go: a flush cycle writes them first, and operations that would make more wait while
// half of the cap is dirty.

import { assert } from "#base/assert.ts";
import { NO_BUFFER } from "#base/memory.ts";
import type { SliceNumber } from "#base/record.ts";
import { Status } from "#base/status.ts";
import type { BufferPool, BufferWaiter } from "./buffer-pool.ts";
import { Descriptor } from "./descriptor.ts";
import type { DescriptorUser } from "./descriptor.ts";
import type { DiskIo } from "./disk-io.ts";
import type { DiskPlan } from "./disk-plan.ts";
import { DESCRIPTOR_PAIR_BYTES, PAGE_BYTES } from "./format.wire.ts";
import type { PageIdentity } from "./page.ts";

/** Bytes of memory a descriptor takes, for the cap: checksums, bitmaps, the object. */
export const DESCRIPTOR_MEMORY_BYTES = 1536;

/** Descriptors looked at for one that may go. */
const LOOKS_MAX = 64;

export class DescriptorCache {
  /** True only while opening settles what a crash left. */
  afterCrash = false;
  /** Descriptors that were not whole when they were loaded. */
  damaged = 0;
  readonly #io: DiskIo;
  readonly #plan: DiskPlan;
  readonly #identity: PageIdentity;
  readonly #buffers: BufferPool;
  readonly #countMax: number;
  readonly #byPhysical = new Map<number, Descriptor>();
  /** Mappings that opening could not settle, because a slot could not be read: still to be done. */
  readonly #unsettled = new Set<number>();
  #dirty: Descriptor[] = [];
  #oldest: Descriptor | null = null;
  #newest: Descriptor | null = null;

  constructor(
    io: DiskIo,
    plan: DiskPlan,
    options: { identity: PageIdentity; buffers: BufferPool; bytesMax: number },
  ) {
    this.#io = io;
    this.#plan = plan;
    this.#identity = options.identity;
    this.#buffers = options.buffers;
    this.#countMax = Math.max(4, Math.floor(options.bytesMax / DESCRIPTOR_MEMORY_BYTES));
  }

  get count(): number {
    return this.#byPhysical.size;
  }

  get dirtyCount(): number {
    return this.#dirty.length;
  }

  /** So much is dirty that a flush cycle should begin. */
  get filling(): boolean {
    return this.#dirty.length * 4 > this.#countMax;
  }

  /** So much is dirty that a flush cycle should come before more. */
  get crowded(): boolean {
    return this.#dirty.length * 2 > this.#countMax;
  }

  /** The descriptor of a new mapping: all unwritten, and to be written at the next flush. */
  create(slice: SliceNumber, extent: number, physical: number, mapping: number): void {
    assert(!this.#byPhysical.has(physical), "a mapped extent has one descriptor");
    const descriptor = new Descriptor(slice, extent, physical, mapping);
    descriptor.loaded = true;
    this.#byPhysical.set(physical, descriptor);
    this.#list(descriptor);
    this.markDirty(descriptor);
    this.#shrink();
  }

  /**
   * Pins the extent's descriptor for `user`, at once when it is in memory. Give it back by
   * `release`.
   */
  use(
    slice: SliceNumber,
    extent: number,
    where: { physical: number; mapping: number },
    user: DescriptorUser,
  ): void {
    const known = this.#byPhysical.get(where.physical);
    if (known !== undefined && known.loaded) {
      this.pin(known);
      return user.descriptorReady(known);
    }
    if (known !== undefined) {
      known.waiters.push(user);
      return;
    }
    const descriptor = new Descriptor(slice, extent, where.physical, where.mapping);
    this.#byPhysical.set(where.physical, descriptor);
    descriptor.waiters.push(user);
    new DescriptorLoad(this.#io, this.#buffers, {
      offsetBytes: this.#plan.descriptorOffset + where.physical * DESCRIPTOR_PAIR_BYTES,
      done: (buffer, found) => this.#loaded(descriptor, buffer, found),
    }).begin();
  }

  /** The descriptor where it is in memory, not pinned; else null. */
  loadedOf(physical: number): Descriptor | null {
    const known = this.#byPhysical.get(physical);
    return known !== undefined && known.loaded ? known : null;
  }

  pin(descriptor: Descriptor): void {
    descriptor.pins++;
    descriptor.used = true;
  }

  release(descriptor: Descriptor): void {
    assert(descriptor.pins > 0, "a descriptor is released once");
    descriptor.pins--;
    this.#settle(descriptor);
  }

  markDirty(descriptor: Descriptor): void {
    if (descriptor.dirty) return;
    descriptor.dirty = true;
    this.#dirty.push(descriptor);
  }

  /** What a flush cycle is to write; it says `written` of each. */
  takeDirty(): Descriptor[] {
    const taken: Descriptor[] = [];
    for (const descriptor of this.#dirty) {
      descriptor.dirty = false;
      if (descriptor.dead) continue;
      descriptor.writing = true;
      taken.push(descriptor);
    }
    this.#dirty = [];
    return taken;
  }

  written(descriptor: Descriptor): void {
    descriptor.writing = false;
    this.#unsettled.delete(descriptor.mapping);
    this.#settle(descriptor);
  }

  /** The extent was freed: its descriptor means nothing any more. */
  forget(physical: number): Descriptor | null {
    const descriptor = this.#byPhysical.get(physical);
    if (descriptor === undefined) return null;
    this.#byPhysical.delete(physical);
    this.#unlist(descriptor);
    descriptor.dead = true;
    return descriptor;
  }

  #loaded(descriptor: Descriptor, buffer: number, { unreadable, giveBack }: Loaded): void {
    if (buffer !== NO_BUFFER) {
      const bytes = this.#io.memory.bytes;
      descriptor.maybeTorn = this.afterCrash || this.#unsettled.has(descriptor.mapping);
      const { whole, torn } = descriptor.decode(bytes, buffer, this.#identity, unreadable);
      if (!whole) this.damaged++;
      if (unreadable && descriptor.maybeTorn) this.#unsettled.add(descriptor.mapping);
      else this.#unsettled.delete(descriptor.mapping);
      if (!descriptor.dead) this.#list(descriptor);
      // What a crash left in one slot is made whole before the region can become inactive.
      if (torn) this.markDirty(descriptor);
    } else {
      this.#byPhysical.delete(descriptor.physical);
    }
    const waiters = descriptor.waiters.splice(0);
    // Pinned for all before the first is told: it might be let go when that one is done with it.
    if (buffer !== NO_BUFFER) descriptor.pins += waiters.length;
    // Before: who is told may be the last that a store waits for to close, with all its buffers.
    giveBack();
    for (const user of waiters) user.descriptorReady(buffer === NO_BUFFER ? null : descriptor);
  }

  /** Nobody may need it any more. */
  #settle(descriptor: Descriptor): void {
    if (descriptor.unsure && isIdle(descriptor) && descriptor.listed) {
      // The next to need it reads the slots again: perhaps they can be read by then.
      this.#byPhysical.delete(descriptor.physical);
      this.#unlist(descriptor);
    }
    if (this.#byPhysical.size > this.#countMax) this.#shrink();
  }

  #list(descriptor: Descriptor): void {
    descriptor.listed = true;
    descriptor.older = this.#newest;
    descriptor.newer = null;
    if (this.#newest !== null) this.#newest.newer = descriptor;
    else this.#oldest = descriptor;
    this.#newest = descriptor;
  }

  #unlist(descriptor: Descriptor): void {
    if (!descriptor.listed) return;
    descriptor.listed = false;
    if (descriptor.older !== null) descriptor.older.newer = descriptor.newer;
    else this.#oldest = descriptor.newer;
    if (descriptor.newer !== null) descriptor.newer.older = descriptor.older;
    else this.#newest = descriptor.older;
    descriptor.older = null;
    descriptor.newer = null;
  }

  /** A second chance for what was used since it was last looked at, and for what is busy. */
  #shrink(): void {
    for (let look = 0; look < LOOKS_MAX && this.#byPhysical.size > this.#countMax; look++) {
      const oldest = this.#oldest;
      if (oldest === null) return;
      this.#unlist(oldest);
      if (oldest.used || !isIdle(oldest)) {
        oldest.used = false;
        this.#list(oldest);
        continue;
      }
      assert(this.#byPhysical.get(oldest.physical) === oldest, "what is let go was in the cache");
      this.#byPhysical.delete(oldest.physical);
    }
  }
}

function isIdle({ pins, dirty, writing }: Descriptor): boolean {
  return pins === 0 && !dirty && !writing;
}

interface Loaded {
  unreadable: boolean;
  /** Of the buffer, once what is in it was taken. */
  giveBack(): void;
}

/** One reading of a descriptor's two slots; each on its own when the disk cannot read both. */
class DescriptorLoad implements BufferWaiter {
  readonly #io: DiskIo;
  readonly #buffers: BufferPool;
  readonly #offsetBytes: number;
  readonly #done: (buffer: number, found: Loaded) => void;
  #unreadable = false;

  constructor(
    io: DiskIo,
    buffers: BufferPool,
    options: { offsetBytes: number; done: (buffer: number, found: Loaded) => void },
  ) {
    this.#io = io;
    this.#buffers = buffers;
    this.#offsetBytes = options.offsetBytes;
    this.#done = options.done;
  }

  begin(): void {
    const buffer = this.#buffers.take();
    if (buffer === NO_BUFFER) return this.#buffers.wait(this);
    this.#io.read(this.#offsetBytes, DESCRIPTOR_PAIR_BYTES, buffer, (status) => {
      if (status === Status.ok || this.#io.failed) return this.#end(buffer);
      this.#readSlot(buffer, 0);
    });
  }

  bufferFree(): void {
    this.begin();
  }

  #readSlot(buffer: number, slot: number): void {
    const at = slot * PAGE_BYTES;
    if (slot === 2) return this.#end(buffer);
    this.#io.read(this.#offsetBytes + at, PAGE_BYTES, buffer + at, (status) => {
      if (status !== Status.ok) {
        this.#unreadable = true;
        this.#io.memory.bytes.fill(0, buffer + at, buffer + at + PAGE_BYTES);
      }
      this.#readSlot(buffer, slot + 1);
    });
  }

  #end(buffer: number): void {
    const giveBack = () => this.#buffers.give(buffer);
    this.#done(this.#io.failed ? NO_BUFFER : buffer, { unreadable: this.#unreadable, giveBack });
  }
}
