// SPDX-License-Identifier: Apache-2.0
//
// One operation of a member on its way: read, write, trim or zeroing. Cut into pieces (piece.ts) of
// whole blocks; partly covered blocks at either end, the *edges*, are read, verified, merged and
// written whole, each under its block's lock.
//
// Invariants:
// - Nothing is written before every edge was read and matched its checksum (R9), every extent
//   needed is allocated (R10), and every region touched is active (R6, asserted).
// - Extents are mapped and stamped when the operation is taken, so that a record stored later
//   re-stamps them (R2), and one stored earlier is known to them.

import { assert } from "#base/assert.ts";
import {
  BLOCK_BYTES,
  BLOCKS_PER_EXTENT,
  EXTENT_BYTES,
  REGION_BYTES,
  SECTOR_BYTES,
} from "#base/grains.ts";
import { NO_BUFFER } from "#base/memory.ts";
import {
  FLAG_FUA,
  FLAG_KEEP_STAMP,
  FLAG_LOST,
  FLAG_NO_HOLE,
  FLAG_PAST_CACHE,
  FLAG_UNVERIFIED,
  OperationKind,
} from "#base/operation.ts";
import type { Operation } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { LockWaiter } from "./block-locks.ts";
import type { BufferWaiter } from "./buffer-pool.ts";
import { NOT_MAPPED } from "./extent-map.ts";
import type { Member } from "./member.ts";
import { BOUNCE_BLOCKS, PieceMode } from "./piece.ts";
import type { PieceOwner } from "./piece.ts";
import type { Stalled, StoreCore } from "./store-core.ts";

/** What a transfer's pieces in flight are for. */
const Phase = { edges: 1, body: 2 } as const;
type Phase = (typeof Phase)[keyof typeof Phase];

const NO_BLOCK = -1;

export class Transfer implements PieceOwner, LockWaiter, BufferWaiter, Stalled {
  readonly #core: StoreCore;
  readonly #edgeDone: readonly [PieceOwner, PieceOwner];
  #operation: Operation | null = null;
  #member: Member | null = null;
  #phase: Phase = Phase.edges;
  #status: Status = Status.ok;
  #faultBlock = NO_BLOCK;
  /** Pieces in flight, and one more while they are still being started. */
  #left = 0;
  /** Partly covered blocks of the slice: first and last. NO_BLOCK: none. */
  #head = NO_BLOCK;
  #tail = NO_BLOCK;
  #headLocked = false;
  #tailLocked = false;
  /** Whether the edge's block held anything. */
  #headWritten = false;
  #tailWritten = false;
  /** Two blocks: head, tail. */
  #edgeBuffer = NO_BUFFER;
  #from = 0;
  #end = 0;
  /** The epoch of the member's record when the operation was taken. */
  #recordEpoch = 0;

  constructor(core: StoreCore) {
    this.#core = core;
    const edge = (isHead: boolean): PieceOwner => ({
      pieceDone: (status, fault, anyWritten) => {
        if (isHead) this.#headWritten = anyWritten;
        else this.#tailWritten = anyWritten;
        this.pieceDone(status, fault);
      },
    });
    this.#edgeDone = [edge(true), edge(false)];
  }

  begin(operation: Operation, member: Member): void {
    this.#operation = operation;
    this.#member = member;
    this.#status = Status.ok;
    this.#faultBlock = NO_BLOCK;
    this.#edgeBuffer = NO_BUFFER;
    this.#headLocked = false;
    this.#tailLocked = false;
    this.#headWritten = false;
    this.#tailWritten = false;
    this.#recordEpoch = member.state.record?.epoch ?? 0;
    this.#from = operation.offsetBytes;
    this.#end = operation.offsetBytes + operation.lengthBytes;
    this.#head = this.#from % BLOCK_BYTES === 0 ? NO_BLOCK : Math.floor(this.#from / BLOCK_BYTES);
    this.#tail = this.#end % BLOCK_BYTES === 0 ? NO_BLOCK : Math.floor(this.#end / BLOCK_BYTES);
    if (this.#tail === this.#head) this.#tail = NO_BLOCK;
    if (operation.kind !== OperationKind.read) {
      if (this.#core.mustWait) return this.#core.stall(this);
      this.#core.anticipate();
    }
    this.resume();
  }

  /** Room was made, or there was room at once. */
  resume(): void {
    const operation = this.#operation as Operation;
    if (this.#core.io.failed) return this.#finish(Status.ioError);
    if (operation.kind !== OperationKind.read) {
      const status = this.#prepareSpace(operation);
      if (status !== Status.ok) return this.#finish(status);
    }
    if (this.#head === NO_BLOCK && this.#tail === NO_BLOCK) return this.#startBody();
    this.lockGranted();
  }

  lockGranted(): void {
    const { locks } = this.#member as Member;
    if (this.#head !== NO_BLOCK && !this.#headLocked) {
      this.#headLocked = true;
      if (!locks.take(this.#head, this)) return;
    }
    if (this.#tail !== NO_BLOCK && !this.#tailLocked) {
      this.#tailLocked = true;
      if (!locks.take(this.#tail, this)) return;
    }
    this.bufferFree();
  }

  bufferFree(): void {
    this.#edgeBuffer = this.#core.edges.take();
    if (this.#edgeBuffer === NO_BUFFER) return this.#core.edges.wait(this);
    this.#startEdges();
  }

  pieceDone(status: Status, faultBlock: number): void {
    if (status !== Status.ok) this.#note(status, faultBlock);
    this.#left--;
    if (this.#left > 0) return;
    if (this.#phase === Phase.edges && this.#status === Status.ok) return this.#startBody();
    this.#endBody();
  }

  /** The worst status counts; of wrong blocks the first. */
  #note(status: Status, faultBlock: number): void {
    if (status === Status.ioError || this.#status === Status.ok) this.#status = status;
    if (faultBlock === NO_BLOCK) return;
    if (this.#faultBlock === NO_BLOCK || faultBlock < this.#faultBlock) {
      this.#faultBlock = faultBlock;
    }
  }

  get #clearing(): boolean {
    const { kind } = this.#operation as Operation;
    return kind === OperationKind.trim || kind === OperationKind.writeZeroes;
  }

  get #keepsSpace(): boolean {
    const { kind, flags } = this.#operation as Operation;
    return kind === OperationKind.writeZeroes && (flags & FLAG_NO_HOLE) !== 0;
  }

  /** Maps and stamps what the operation will change; noSpace before anything was touched (R10). */
  #prepareSpace(operation: Operation): Status {
    const member = this.#member as Member;
    const firstRegion = Math.floor(this.#from / REGION_BYTES);
    for (let region = firstRegion; region * REGION_BYTES < this.#end; region++) {
      assert(member.isActive(region), "R6: a region is active before a write touches it");
    }
    const first = Math.floor(this.#from / EXTENT_BYTES);
    const end = Math.ceil(this.#end / EXTENT_BYTES);
    const allocates = operation.kind === OperationKind.write || this.#keepsSpace;
    if (allocates) {
      let missing = 0;
      for (let extent = first; extent < end; extent++) {
        if (member.state.map.physicalOf(extent) === NOT_MAPPED) missing++;
      }
      if (missing > member.spaceExtents) return Status.noSpace;
    }
    // A record stored while this waited has re-stamped: a copy's older stamp must not undo that
    // (R2).
    const restamped = (member.state.record?.epoch ?? 0) !== this.#recordEpoch;
    const exact = (operation.flags & FLAG_KEEP_STAMP) !== 0 && !restamped;
    for (let extent = first; extent < end; extent++) {
      const mapped = member.state.map.physicalOf(extent) !== NOT_MAPPED;
      // A whole extent that is trimmed leaves the map; it needs no stamp.
      if (!allocates && (!mapped || this.#coversExtent(extent))) continue;
      const stamp = member.stampFor(extent, operation.epoch, exact);
      if (!mapped) member.mapExtent(extent, stamp);
      else if (stamp !== member.state.map.stampOf(extent)) member.stampExtent(extent, stamp);
    }
    return Status.ok;
  }

  #coversExtent(extent: number): boolean {
    return this.#from <= extent * EXTENT_BYTES && this.#end >= (extent + 1) * EXTENT_BYTES;
  }

  #startEdges(): void {
    this.#phase = Phase.edges;
    this.#left = 1;
    this.#readEdge(this.#head, 0);
    this.#readEdge(this.#tail, 1);
    this.pieceDone(Status.ok, NO_BLOCK);
  }

  #readEdge(block: number, index: 0 | 1): void {
    if (block === NO_BLOCK) return;
    const buffer = this.#edgeBuffer + index * BLOCK_BYTES;
    const extent = Math.floor(block / BLOCKS_PER_EXTENT);
    if ((this.#member as Member).state.map.physicalOf(extent) === NOT_MAPPED) {
      this.#core.memory.bytes.fill(0, buffer, buffer + BLOCK_BYTES);
      return;
    }
    const { flags, kind } = this.#operation as Operation;
    const unverified = kind === OperationKind.read && (flags & FLAG_UNVERIFIED) !== 0;
    this.#piece(this.#edgeDone[index], {
      mode: unverified ? PieceMode.readUnverified : PieceMode.read,
      block,
      blocks: 1,
      buffer,
    });
  }

  /** Edges are in their buffer and sound (or there are none): the rest. */
  #startBody(): void {
    this.#phase = Phase.body;
    this.#left = 1;
    const operation = this.#operation as Operation;
    const first = Math.ceil(this.#from / BLOCK_BYTES);
    const end = Math.floor(this.#end / BLOCK_BYTES);
    if (operation.kind === OperationKind.read) {
      this.#copyEdges(false);
      if (first < end) this.#moveBody(first, end);
    } else if (this.#clearing) {
      this.#zeroEdges();
      if (first < end) this.#clearBody(first, end);
    } else if ((operation.flags & FLAG_LOST) !== 0) {
      this.#loseBody(first, end);
    } else {
      this.#copyEdges(true);
      this.#writeEdge(this.#head, 0);
      this.#writeEdge(this.#tail, 1);
      if (first < end) this.#moveBody(first, end);
    }
    this.pieceDone(Status.ok, NO_BLOCK);
  }

  /**
   * Between the edges' buffer and the caller's: into the former for a write, out of it for a read.
   */
  #copyEdges(merge: boolean): void {
    const operation = this.#operation as Operation;
    const { bytes } = this.#core.memory;
    for (const [index, block] of [this.#head, this.#tail].entries()) {
      if (block === NO_BLOCK) continue;
      const from = Math.max(this.#from, block * BLOCK_BYTES);
      const end = Math.min(this.#end, (block + 1) * BLOCK_BYTES);
      const edgeAt = this.#edgeBuffer + index * BLOCK_BYTES + (from - block * BLOCK_BYTES);
      const callerAt = operation.bufferOffset + (from - this.#from);
      if (merge) bytes.copyWithin(edgeAt, callerAt, callerAt + (end - from));
      else bytes.copyWithin(callerAt, edgeAt, edgeAt + (end - from));
    }
  }

  #zeroEdges(): void {
    const { bytes } = this.#core.memory;
    for (const [index, block] of [this.#head, this.#tail].entries()) {
      // A block that holds nothing already reads zero.
      const written = index === 0 ? this.#headWritten : this.#tailWritten;
      if (block === NO_BLOCK || !written) continue;
      const from = Math.max(this.#from, block * BLOCK_BYTES) - block * BLOCK_BYTES;
      const end = Math.min(this.#end, (block + 1) * BLOCK_BYTES) - block * BLOCK_BYTES;
      const edgeAt = this.#edgeBuffer + index * BLOCK_BYTES;
      bytes.fill(0, edgeAt + from, edgeAt + end);
      this.#writeEdge(block, index as 0 | 1);
    }
  }

  #writeEdge(block: number, index: 0 | 1): void {
    if (block === NO_BLOCK) return;
    const buffer = this.#edgeBuffer + index * BLOCK_BYTES;
    this.#piece(this, { mode: PieceMode.write, block, blocks: 1, buffer });
  }

  /** Reads or writes the whole blocks from `first` to `end`. */
  #moveBody(first: number, end: number): void {
    const operation = this.#operation as Operation;
    const { map } = (this.#member as Member).state;
    const base = operation.bufferOffset - this.#from;
    const bounced = (base + first * BLOCK_BYTES) % this.#core.io.area.alignBytes !== 0;
    const unverified = (operation.flags & FLAG_UNVERIFIED) !== 0;
    const mode =
      operation.kind === OperationKind.write
        ? PieceMode.write
        : unverified
          ? PieceMode.readUnverified
          : PieceMode.read;
    for (let block = first; block < end;) {
      const extent = Math.floor(block / BLOCKS_PER_EXTENT);
      const mapped = map.physicalOf(extent) !== NOT_MAPPED;
      const most = bounced && mapped ? BOUNCE_BLOCKS : BLOCKS_PER_EXTENT;
      const blocks = Math.min(end, (extent + 1) * BLOCKS_PER_EXTENT, block + most) - block;
      const buffer = base + block * BLOCK_BYTES;
      if (mapped) this.#piece(this, { mode, block, blocks, buffer, bounced });
      else this.#core.memory.bytes.fill(0, buffer, buffer + blocks * BLOCK_BYTES);
      block += blocks;
    }
  }

  /** Marks whole blocks as damaged; their extents were mapped as for a write. */
  #loseBody(first: number, end: number): void {
    for (let block = first; block < end;) {
      const extent = Math.floor(block / BLOCKS_PER_EXTENT);
      const blocks = Math.min(end, (extent + 1) * BLOCKS_PER_EXTENT) - block;
      this.#piece(this, { mode: PieceMode.lose, block, blocks, buffer: NO_BUFFER });
      block += blocks;
    }
  }

  /** Trim frees whole extents by one entry; parts, and what keeps its space, become unwritten. */
  #clearBody(first: number, end: number): void {
    const member = this.#member as Member;
    const keeps = this.#keepsSpace;
    for (let block = first; block < end;) {
      const extent = Math.floor(block / BLOCKS_PER_EXTENT);
      const blocks = Math.min(end, (extent + 1) * BLOCKS_PER_EXTENT) - block;
      const mapped = member.state.map.physicalOf(extent) !== NOT_MAPPED;
      if (mapped && (keeps || blocks < BLOCKS_PER_EXTENT)) {
        this.#piece(this, { mode: PieceMode.clear, block, blocks, buffer: NO_BUFFER });
      }
      block += blocks;
    }
    if (keeps) return;
    const firstExtent = Math.ceil(first / BLOCKS_PER_EXTENT);
    const endExtent = Math.floor(end / BLOCKS_PER_EXTENT);
    if (firstExtent < endExtent) member.freeExtents(firstExtent, endExtent);
  }

  #piece(
    owner: PieceOwner,
    what: { mode: PieceMode; block: number; blocks: number; buffer: number; bounced?: boolean },
  ): void {
    const { state } = this.#member as Member;
    const extent = Math.floor(what.block / BLOCKS_PER_EXTENT);
    const piece = this.#core.takePiece();
    piece.mode = what.mode;
    piece.owner = owner;
    piece.extent = extent;
    piece.block = what.block % BLOCKS_PER_EXTENT;
    piece.blocks = what.blocks;
    piece.bufferOffset = what.buffer;
    piece.bounced = what.bounced === true;
    piece.flags = (this.#operation as Operation).flags & FLAG_PAST_CACHE;
    this.#left++;
    const physical = state.map.physicalOf(extent);
    piece.start(state.slice, { physical, mapping: state.map.mappingOf(extent) });
  }

  #endBody(): void {
    const { flags, kind } = this.#operation as Operation;
    const changes = kind !== OperationKind.read;
    const stable = changes && ((flags & FLAG_FUA) !== 0 || this.#core.keepsake?.isShort === true);
    this.#giveEdges();
    if (!stable || this.#status !== Status.ok) return this.#finish(this.#status);
    // H5: the write and the flush of its range before the ack. H6: also where the death of the
    // process would lose it.
    this.#core.cycle.request((status) => this.#finish(status));
  }

  #giveEdges(): void {
    const { locks } = this.#member as Member;
    const head = this.#headLocked ? this.#head : NO_BLOCK;
    const tail = this.#tailLocked ? this.#tail : NO_BLOCK;
    this.#headLocked = false;
    this.#tailLocked = false;
    if (this.#edgeBuffer !== NO_BUFFER) this.#core.edges.give(this.#edgeBuffer);
    this.#edgeBuffer = NO_BUFFER;
    if (head !== NO_BLOCK) locks.give(head);
    if (tail !== NO_BLOCK) locks.give(tail);
  }

  #finish(status: Status): void {
    const operation = this.#operation as Operation;
    const member = this.#member as Member;
    if (this.#faultBlock !== NO_BLOCK) {
      operation.faultOffsetBytes = this.#faultBlock * BLOCK_BYTES;
    }
    this.#operation = null;
    this.#member = null;
    this.#core.giveTransfer(this);
    member.operationEnded();
    operation.complete(status);
  }
}

/** Why an operation cannot be taken at all; ok when it can. */
export function admissible(operation: Operation, sizeBytes: number): Status {
  const { offsetBytes, lengthBytes, flags } = operation;
  const grain = (flags & FLAG_LOST) === 0 ? SECTOR_BYTES : BLOCK_BYTES;
  if (offsetBytes % grain !== 0 || lengthBytes % grain !== 0) return Status.invalid;
  if (offsetBytes < 0 || lengthBytes < 0) return Status.invalid;
  return offsetBytes + lengthBytes <= sizeBytes ? Status.ok : Status.outOfRange;
}
