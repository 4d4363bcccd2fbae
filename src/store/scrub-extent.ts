// SPDX-License-Identifier: Apache-2.0
//
// A look at one mapped extent, past every cache (R9): both slots of its descriptor, and its written
// blocks, held against what memory knows of them. Reads a chunk at a time, when told to; blocks
// that were never written are not read.
//
// It takes no lock: a block that is being written while it is read may look wrong. So what does not
// match is a suspicion, to be looked at again, and in the end by the slice's head under its range
// lock (R1). A block is not suspected when its bytes match what it had before the read or after.

import { assert } from "#base/assert.ts";
import { UNWRITTEN, blockChecksum } from "#base/checksum.ts";
import { BLOCK_BYTES, BLOCKS_PER_EXTENT, EXTENT_BYTES } from "#base/grains.ts";
import { NO_BUFFER } from "#base/memory.ts";
import type { SliceNumber } from "#base/record.ts";
import { Status } from "#base/status.ts";
import type { Descriptor, DescriptorUser } from "./descriptor.ts";
import { DESCRIPTOR_PAIR_BYTES } from "./format.wire.ts";
import type { StoreCore } from "./store-core.ts";

/** Read at once: large enough for a disk to stream, small enough for a host's read to wait for. */
export const CHUNK_BLOCKS = 64;
export const CHUNK_BYTES = CHUNK_BLOCKS * BLOCK_BYTES;

export interface ExtentPlace {
  slice: SliceNumber;
  extent: number;
  physical: number;
  mapping: number;
}

/** What was seen. */
export interface ExtentLook {
  /** The extent was freed meanwhile, or the disk failed: nothing is said of it. */
  gone: boolean;
  /** Blocks of the extent that did not match or could not be read, ascending. */
  bad: number[];
  /** A slot of the descriptor has rotted, or is not what was written last. */
  slotIsBad: boolean;
}

export interface LookOwner {
  /** More is to be read: `step` when it may. */
  readyToStep(): void;
  /** So much was read. */
  stepped(bytes: number): void;
  looked(look: ExtentLook): void;
}

export class ExtentScrub implements DescriptorUser {
  readonly #core: StoreCore;
  readonly #owner: LookOwner;
  #place: ExtentPlace | null = null;
  #descriptor: Descriptor | null = null;
  /** Blocks to look at; null: all that are written. */
  #only: readonly number[] | null = null;
  #slotsSeen = false;
  /** The next block to look at. */
  #next = 0;
  /** Up to here blocks are read one by one: the disk could not read them together. */
  #singlyTo = 0;
  #look: ExtentLook = { gone: false, bad: [], slotIsBad: false };
  #reading = false;

  constructor(core: StoreCore, owner: LookOwner) {
    this.#core = core;
    this.#owner = owner;
  }

  get active(): boolean {
    return this.#place !== null;
  }

  /** It waits for `step`. */
  get ready(): boolean {
    return this.#descriptor !== null && !this.#reading;
  }

  begin(place: ExtentPlace, only: readonly number[] | null): void {
    assert(this.#place === null, "one extent at a time");
    this.#place = place;
    this.#only = only;
    this.#slotsSeen = false;
    this.#next = 0;
    this.#singlyTo = 0;
    this.#look = { gone: false, bad: [], slotIsBad: false };
    this.#core.backgroundBegan();
    this.#core.cache.use(place.slice, place.extent, place, this);
  }

  descriptorReady(descriptor: Descriptor | null): void {
    this.#descriptor = descriptor;
    if (descriptor === null) return this.#end({ gone: true });
    this.#owner.readyToStep();
  }

  /** Reads the next part, or ends; false: there is no buffer for it now, or it is not ready. */
  step(): boolean {
    const descriptor = this.#descriptor;
    if (this.#reading || descriptor === null) return false;
    if (descriptor.dead || this.#core.io.failed || this.#core.closing) {
      this.#end({ gone: true });
      return true;
    }
    if (!this.#slotsSeen) return this.#readSlots(descriptor);
    const run = this.#nextRun(descriptor);
    if (run === null) {
      this.#end({ gone: false });
      return true;
    }
    return this.#readRun(descriptor, run);
  }

  #readSlots(descriptor: Descriptor): boolean {
    const core = this.#core;
    const buffer = core.memory.allocate(DESCRIPTOR_PAIR_BYTES);
    if (buffer === NO_BUFFER) return false;
    this.#slotsSeen = true;
    const { sequence } = descriptor;
    const isSettled = () => !descriptor.dirty && !descriptor.writing && sequence > 0;
    const wasSettled = isSettled();
    const at = core.plan.descriptorOffset + descriptor.physical * DESCRIPTOR_PAIR_BYTES;
    this.#reading = true;
    core.io.readPastCache(at, DESCRIPTOR_PAIR_BYTES, buffer, (status) => {
      this.#reading = false;
      // What is on its way to the disk, or was while this was read, says nothing.
      const isComparable = wasSettled && isSettled() && descriptor.sequence === sequence;
      if (isComparable) {
        const matches =
          status === Status.ok && descriptor.matchesSlots(core.memory.bytes, buffer, core.identity);
        this.#look.slotIsBad = !matches;
      }
      core.memory.release(buffer);
      this.#owner.stepped(DESCRIPTOR_PAIR_BYTES);
      this.#owner.readyToStep();
    });
    return true;
  }

  /** The next blocks to read in one go: written ones, side by side; null: there are no more. */
  #nextRun(descriptor: Descriptor): { from: number; count: number } | null {
    const isWanted = (block: number) => this.#only === null || this.#only.includes(block);
    for (; this.#next < BLOCKS_PER_EXTENT; this.#next++) {
      if (!isWanted(this.#next)) continue;
      if (descriptor.isLost(this.#next)) this.#look.bad.push(this.#next);
      else if (descriptor.isWritten(this.#next)) break;
    }
    const from = this.#next;
    if (from >= BLOCKS_PER_EXTENT) return null;
    const most = from < this.#singlyTo ? 1 : CHUNK_BLOCKS;
    let count = 1;
    while (count < most && from + count < BLOCKS_PER_EXTENT) {
      if (!isWanted(from + count) || !descriptor.isWritten(from + count)) break;
      count++;
    }
    return { from, count };
  }

  #readRun(descriptor: Descriptor, run: { from: number; count: number }): boolean {
    const core = this.#core;
    const buffer = core.memory.allocate(CHUNK_BYTES);
    if (buffer === NO_BUFFER) return false;
    const { from, count } = run;
    const before = descriptor.checksums.slice(from, from + count);
    const bytes = count * BLOCK_BYTES;
    const at = core.plan.dataOffset + descriptor.physical * EXTENT_BYTES + from * BLOCK_BYTES;
    this.#reading = true;
    core.io.readPastCache(at, bytes, buffer, (status) => {
      this.#reading = false;
      if (status === Status.ok) this.#compare(descriptor, { ...run, buffer, before });
      else if (count === 1) this.#look.bad.push(from);
      else this.#singlyTo = from + count;
      // Read together in vain: now one by one.
      if (status === Status.ok || count === 1) this.#next = from + count;
      core.memory.release(buffer);
      this.#owner.stepped(bytes);
      this.#owner.readyToStep();
    });
    return true;
  }

  #compare(
    descriptor: Descriptor,
    read: { from: number; count: number; buffer: number; before: Uint32Array },
  ): void {
    const { bytes } = this.#core.memory;
    for (let index = 0; index < read.count; index++) {
      const block = read.from + index;
      const now = descriptor.checksums[block] as number;
      // Trimmed meanwhile.
      if (now === UNWRITTEN && !descriptor.isLost(block)) continue;
      const found = blockChecksum(bytes, read.buffer + index * BLOCK_BYTES, BLOCK_BYTES);
      if (found !== now && found !== read.before[index]) this.#look.bad.push(block);
    }
  }

  #end({ gone }: { gone: boolean }): void {
    const descriptor = this.#descriptor;
    const look = this.#look;
    look.gone = gone || descriptor?.dead === true;
    this.#place = null;
    this.#descriptor = null;
    if (descriptor !== null) this.#core.unpin(descriptor);
    this.#owner.looked(look);
    this.#core.backgroundEnded();
  }
}
