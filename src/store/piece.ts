// SPDX-License-Identifier: Apache-2.0
//
// A piece of a transfer: whole blocks of one extent, read, written or marked unwritten. Pooled; it
// is its own owner of I/O, user of a descriptor and waiter for a buffer, so that nothing is
// allocated per piece. Data goes straight between the caller's buffer and the disk; only a buffer
// that is not aligned as the area asks goes through one of the store's own (bounce).

import { assert } from "#base/assert.ts";
import { blockChecksum } from "#base/checksum.ts";
import { BLOCK_BYTES, BLOCKS_PER_EXTENT, EXTENT_BYTES } from "#base/grains.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { BufferWaiter } from "./buffer-pool.ts";
import type { Descriptor, DescriptorUser } from "./descriptor.ts";
import type { IoOwner } from "./disk-io.ts";
import type { StoreCore } from "./store-core.ts";

export const PieceMode = {
  read: 1,
  /** A read that checks nothing (R9's choice in an active region). */
  readUnverified: 2,
  write: 3,
  /** The blocks read zero from now on. */
  clear: 4,
  /** The blocks read as damaged from now on (FLAG_LOST). */
  lose: 5,
} as const;
export type PieceMode = (typeof PieceMode)[keyof typeof PieceMode];

/** Whoever asked for the piece. */
export interface PieceOwner {
  /** `faultBlock`: the block of the slice that did not match or could not be read, or -1. */
  pieceDone(status: Status, faultBlock: number, anyWritten: boolean): void;
}

/** Blocks that go through one bounce buffer. */
export const BOUNCE_BLOCKS = 16;

export class Piece implements IoOwner, DescriptorUser, BufferWaiter {
  readonly #core: StoreCore;
  mode: PieceMode = PieceMode.read;
  owner: PieceOwner | null = null;
  extent = 0;
  /** The first block, in the extent. */
  block = 0;
  blocks = 0;
  /** Where the caller's bytes of the first block lie in Memory. */
  bufferOffset = NO_BUFFER;
  bounced = false;
  /** Of a read: FLAG_PAST_CACHE or 0. */
  flags = 0;
  #bounce = NO_BUFFER;
  #descriptor: Descriptor | null = null;
  /** Blocks really read, in the extent: from the first written one to the last. */
  #ioFrom = 0;
  #ioEnd = 0;
  /** After a read that failed: the block that is read on its own, else -1. */
  #probe = -1;

  constructor(core: StoreCore) {
    this.#core = core;
  }

  /** `slice` and `where` name the mapped extent. */
  start(slice: number, where: { physical: number; mapping: number }): void {
    this.#probe = -1;
    this.#bounce = NO_BUFFER;
    this.#core.cache.use(slice, this.extent, where, this);
  }

  descriptorReady(descriptor: Descriptor | null): void {
    this.#descriptor = descriptor;
    if (descriptor === null) return this.#end(Status.ioError, -1, false);
    if (this.mode === PieceMode.clear) return this.#clear(descriptor);
    if (this.mode === PieceMode.lose) return this.#lose(descriptor);
    if (this.mode !== PieceMode.write && !this.#findWritten(descriptor)) {
      return this.#endUnwritten(descriptor);
    }
    if (this.bounced) return this.#takeBounce();
    this.#submit();
  }

  bufferFree(): void {
    this.#takeBounce();
  }

  ioDone(status: Status): void {
    if (this.#core.io.failed) return this.#end(Status.ioError, -1, false);
    if (this.mode === PieceMode.write) return this.#written();
    if (status === Status.ok && this.#probe < 0) return this.#verify();
    this.#probeNext(status);
  }

  get #data(): number {
    return this.#bounce === NO_BUFFER ? this.bufferOffset : this.#bounce;
  }

  #takeBounce(): void {
    this.#bounce = this.#core.bounces.take();
    if (this.#bounce === NO_BUFFER) return this.#core.bounces.wait(this);
    assert(this.blocks <= BOUNCE_BLOCKS, "a bounced piece fits its buffer");
    if (this.mode === PieceMode.write) {
      const from = this.bufferOffset;
      this.#core.memory.bytes.copyWithin(this.#bounce, from, from + this.blocks * BLOCK_BYTES);
    }
    this.#submit();
  }

  #submit(): void {
    if (this.mode === PieceMode.write) {
      this.#ioFrom = this.block;
      this.#ioEnd = this.block + this.blocks;
    }
    const kind = this.mode === PieceMode.write ? OperationKind.write : OperationKind.read;
    this.#io(kind, this.#ioFrom, this.#ioEnd);
  }

  #io(kind: OperationKind, from: number, end: number): void {
    const { physical } = this.#descriptor as Descriptor;
    const at = this.#core.plan.dataOffset + physical * EXTENT_BYTES + from * BLOCK_BYTES;
    const buffer = this.#data + (from - this.block) * BLOCK_BYTES;
    this.#core.io.start(kind, at, (end - from) * BLOCK_BYTES, buffer, this, this.flags);
  }

  #findWritten(descriptor: Descriptor): boolean {
    this.#ioFrom = this.block;
    this.#ioEnd = this.block + this.blocks;
    while (this.#ioFrom < this.#ioEnd && !descriptor.isWritten(this.#ioFrom)) this.#ioFrom++;
    while (this.#ioEnd > this.#ioFrom && !descriptor.isWritten(this.#ioEnd - 1)) this.#ioEnd--;
    return this.#ioFrom < this.#ioEnd;
  }

  /** Nothing of the piece was ever written: zero, without touching the disk. */
  #endUnwritten(descriptor: Descriptor): void {
    const { bytes } = this.#core.memory;
    bytes.fill(0, this.bufferOffset, this.bufferOffset + this.blocks * BLOCK_BYTES);
    for (let block = this.block; block < this.block + this.blocks; block++) {
      if (descriptor.isLost(block)) return this.#end(this.#lostStatus, block, false);
    }
    this.#end(Status.ok, -1, false);
  }

  /** H8: what may or may not have been written is damaged, never zero. */
  get #lostStatus(): Status {
    return this.mode === PieceMode.readUnverified ? Status.mediumError : Status.checksumMismatch;
  }

  #verify(): void {
    const descriptor = this.#descriptor as Descriptor;
    const { bytes } = this.#core.memory;
    const end = this.block + this.blocks;
    let fault = -1;
    let status: Status = Status.ok;
    for (let block = this.block, at = this.#data; block < end; block++, at += BLOCK_BYTES) {
      if (!descriptor.isWritten(block)) {
        // The disk's bytes here are nobody's; they never leave.
        bytes.fill(0, at, at + BLOCK_BYTES);
        if (!descriptor.isLost(block) || fault >= 0) continue;
        fault = block;
        status = this.#lostStatus;
      } else if (this.mode === PieceMode.read && fault < 0) {
        if (blockChecksum(bytes, at, BLOCK_BYTES) === descriptor.checksums[block]) continue;
        fault = block;
        status = Status.checksumMismatch;
      }
    }
    if (this.#bounce !== NO_BUFFER) {
      const from = this.#bounce;
      bytes.copyWithin(this.bufferOffset, from, from + this.blocks * BLOCK_BYTES);
    }
    this.#end(status, fault, true);
  }

  /**
   * The disk could not read the piece. That damages blocks, it does not eject the disk (H8, R9):
   * each written block is read on its own to find the first that cannot be, so that it can be
   * healed.
   */
  #probeNext(status: Status): void {
    if (this.#probe >= 0 && status !== Status.ok) {
      const unverified = this.mode === PieceMode.readUnverified;
      const answer = unverified ? Status.mediumError : Status.checksumMismatch;
      return this.#end(answer, this.#probe, true);
    }
    this.#probe = this.#probe < 0 ? this.#ioFrom : this.#probe + 1;
    while (this.#probe < this.#ioEnd && !this.#descriptor?.isWritten(this.#probe)) this.#probe++;
    if (this.#probe >= this.#ioEnd) return this.#verify();
    this.#io(OperationKind.read, this.#probe, this.#probe + 1);
  }

  #written(): void {
    const descriptor = this.#descriptor as Descriptor;
    const { bytes } = this.#core.memory;
    for (let index = 0; index < this.blocks; index++) {
      const checksum = blockChecksum(bytes, this.#data + index * BLOCK_BYTES, BLOCK_BYTES);
      descriptor.setWritten(this.block + index, checksum);
    }
    if (!descriptor.dead) this.#core.cache.markDirty(descriptor);
    this.#core.keepsake?.written(this.#place(descriptor), descriptor.checksums);
    this.#end(Status.ok, -1, true);
  }

  #clear(descriptor: Descriptor): void {
    assert(this.block + this.blocks <= BLOCKS_PER_EXTENT, "a piece lies in one extent");
    let changed = false;
    for (let block = this.block; block < this.block + this.blocks; block++) {
      if (descriptor.setUnwritten(block)) changed = true;
    }
    if (changed) {
      this.#core.cache.markDirty(descriptor);
      this.#core.keepsake?.cleared(this.#place(descriptor));
    }
    this.#end(Status.ok, -1, changed);
  }

  /**
   * Not in the keepsake: its region is active until a flush made it durable, and whoever restarts
   * before is brought to what the others hold (R6).
   */
  #lose(descriptor: Descriptor): void {
    for (let block = this.block; block < this.block + this.blocks; block++) {
      descriptor.setLost(block);
    }
    this.#core.cache.markDirty(descriptor);
    this.#end(Status.ok, -1, false);
  }

  #place({ slice, mapping }: Descriptor) {
    return { slice, extent: this.extent, mapping, block: this.block, count: this.blocks };
  }

  #end(status: Status, faultBlock: number, anyWritten: boolean): void {
    const descriptor = this.#descriptor;
    const owner = this.owner as PieceOwner;
    const bounce = this.#bounce;
    const fault = faultBlock < 0 ? -1 : this.extent * BLOCKS_PER_EXTENT + faultBlock;
    this.#descriptor = null;
    this.#bounce = NO_BUFFER;
    this.owner = null;
    if (descriptor !== null) this.#core.unpin(descriptor);
    this.#core.givePiece(this);
    if (bounce !== NO_BUFFER) this.#core.bounces.give(bounce);
    owner.pieceDone(status, fault, anyWritten);
  }
}
