// SPDX-License-Identifier: Apache-2.0
//
// A read or write in the usual case: whole blocks of one mapped extent whose descriptor is in
// memory, all of them written before where they are read. It does what transfer.ts and piece.ts do
// for any operation, in one step to the disk and one back: what runs per request stays small enough
// for the processor's cache of instructions. Whatever is not so plain is left to them.
//
// Invariants: those of transfer.ts and piece.ts. Nothing is changed before `begin` answers true.

import { assert } from "#base/assert.ts";
import { blockChecksum } from "#base/checksum.ts";
import { BLOCK_BYTES, EXTENT_BYTES, REGION_BYTES } from "#base/grains.ts";
import { OperationKind } from "#base/operation.ts";
import type { Operation } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { Descriptor } from "./descriptor.ts";
import type { IoOwner } from "./disk-io.ts";
import { NOT_MAPPED } from "./extent-map.ts";
import type { Member } from "./member.ts";
import type { StoreCore } from "./store-core.ts";

export class PlainTransfer implements IoOwner {
  readonly #core: StoreCore;
  #operation: Operation | null = null;
  #member: Member | null = null;
  #descriptor: Descriptor | null = null;
  /** The first block, in the extent. */
  #block = 0;
  /** What the keepsake is told. */
  readonly #place = { slice: 0, extent: 0, mapping: 0, block: 0, count: 0 };

  constructor(core: StoreCore) {
    this.#core = core;
  }

  /** Begins it; false: it is not a plain one, and nothing was done. */
  begin(operation: Operation, member: Member): boolean {
    const { kind, flags, offsetBytes, lengthBytes, bufferOffset } = operation;
    const isRead = kind === OperationKind.read;
    if (flags !== 0 || (!isRead && kind !== OperationKind.write)) return false;
    const core = this.#core;
    const within = offsetBytes % EXTENT_BYTES;
    if (within + lengthBytes > EXTENT_BYTES || bufferOffset % core.io.area.alignBytes !== 0) {
      return false;
    }
    if (within % BLOCK_BYTES !== 0 || lengthBytes % BLOCK_BYTES !== 0) return false;
    const extent = (offsetBytes - within) / EXTENT_BYTES;
    const physical = member.state.map.physicalOf(extent);
    const descriptor = physical === NOT_MAPPED ? null : core.cache.loadedOf(physical);
    if (descriptor === null) return false;
    const block = within / BLOCK_BYTES;
    if (isRead) {
      const end = block + lengthBytes / BLOCK_BYTES;
      for (let at = block; at < end; at++) if (!descriptor.isWritten(at)) return false;
    } else {
      const stamp = member.stampFor(extent, operation.epoch, false);
      if (core.mustWait || stamp !== member.state.map.stampOf(extent)) return false;
      const region = Math.floor(offsetBytes / REGION_BYTES);
      assert(member.isActive(region), "R6: a region is active before a write touches it");
      core.anticipate();
    }
    this.#operation = operation;
    this.#member = member;
    this.#descriptor = descriptor;
    this.#block = block;
    core.cache.pin(descriptor);
    const at = core.plan.dataOffset + physical * EXTENT_BYTES + within;
    core.io.start(kind, at, lengthBytes, bufferOffset, this);
    return true;
  }

  ioDone(status: Status): void {
    const operation = this.#operation as Operation;
    if (this.#core.io.failed) return this.#end(Status.ioError);
    if (operation.kind === OperationKind.write) return this.#written(operation);
    if (status === Status.ok) return this.#verify(operation);
    // H8: which block it was is found out there.
    const member = this.#member as Member;
    this.#release();
    this.#core.takeTransfer().begin(operation, member);
  }

  #verify(operation: Operation): void {
    const { memory } = this.#core;
    const { checksums } = this.#descriptor as Descriptor;
    const end = operation.bufferOffset + operation.lengthBytes;
    let block = this.#block;
    for (let at = operation.bufferOffset; at < end; at += BLOCK_BYTES, block++) {
      if (blockChecksum(memory.page(at), 0, BLOCK_BYTES) === checksums[block]) continue;
      const { offsetBytes, bufferOffset } = operation;
      operation.faultOffsetBytes = offsetBytes + (at - bufferOffset);
      return this.#end(Status.checksumMismatch);
    }
    this.#end(Status.ok);
  }

  #written(operation: Operation): void {
    const core = this.#core;
    const { memory } = core;
    const descriptor = this.#descriptor as Descriptor;
    const count = operation.lengthBytes / BLOCK_BYTES;
    for (let index = 0; index < count; index++) {
      const at = operation.bufferOffset + index * BLOCK_BYTES;
      const checksum = blockChecksum(memory.page(at), 0, BLOCK_BYTES);
      descriptor.setWritten(this.#block + index, checksum);
    }
    if (!descriptor.dead) core.cache.markDirty(descriptor);
    const { keepsake } = core;
    if (keepsake !== null) {
      const place = this.#place;
      place.slice = descriptor.slice;
      place.extent = descriptor.extent;
      place.mapping = descriptor.mapping;
      place.block = this.#block;
      place.count = count;
      keepsake.written(place, descriptor.checksums);
      if (keepsake.isShort) return this.#settle();
    }
    this.#end(Status.ok);
  }

  /**
   * H6: where the death of the process would lose it, it is on media before the ack. Apart, as
   * elsewhere on this path: a function with a closure in it makes a scope each time.
   */
  #settle(): void {
    this.#core.cycle.request((status) => this.#end(status));
  }

  #end(status: Status): void {
    const operation = this.#operation as Operation;
    const member = this.#member as Member;
    this.#release();
    member.operationEnded();
    operation.complete(status);
  }

  #release(): void {
    const descriptor = this.#descriptor as Descriptor;
    this.#operation = null;
    this.#member = null;
    this.#descriptor = null;
    this.#core.unpin(descriptor);
    this.#core.givePlain(this);
  }
}
