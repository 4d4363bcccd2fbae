// SPDX-License-Identifier: Apache-2.0
//
// The parts of one open disk, joined: what members and transfers work with. Owns what crosses the
// parts: when a freed extent may be given out again, who waits for room, and what happens when the
// disk fails.
//
// Invariants:
// - H9: a freed extent is free only when the entry that freed it is durable and no operation is
//   still using it.
// - R13: operations and verbs that add to the log or dirty descriptors wait, in order, while too
//   much of either is pending. What already runs never waits for those that wait.

import type { Memory } from "#base/memory.ts";
import type { SliceNumber } from "#base/record.ts";
import { BufferPool } from "./buffer-pool.ts";
import type { Descriptor } from "./descriptor.ts";
import { DescriptorCache } from "./descriptor-cache.ts";
import type { DiskIo } from "./disk-io.ts";
import type { DiskPlan } from "./disk-plan.ts";
import { FlushCycle } from "./flush-cycle.ts";
import { BLOCK_BYTES } from "#base/grains.ts";
import { DESCRIPTOR_PAIR_BYTES } from "./format.wire.ts";
import { FreeSpace } from "./free-space.ts";
import type { Health } from "./health.ts";
import type { Keepsake } from "./keepsake.ts";
import { MetadataLog, STAGED_PAGES_MAX } from "./metadata-log.ts";
import type { LogPosition } from "./metadata-log.ts";
import type { Metadata } from "./metadata.ts";
import type { PageIdentity } from "./page.ts";
import { BOUNCE_BLOCKS, Piece } from "./piece.ts";
import { PlainTransfer } from "./plain-transfer.ts";
import { Transfer } from "./transfer.ts";

/** How many buffers of each kind a disk holds, and how much it may remember. */
export interface StoreLimits {
  /** Descriptors in memory, bytes. */
  descriptorBytesMax: number;
  /** Buffers of 8 KiB for descriptors on their way. */
  descriptorBuffers: number;
  /** Buffers of 8 KiB for partly covered blocks. */
  edgeBuffers: number;
  /** Buffers of 64 KiB for callers' buffers that are not aligned as the area asks. */
  bounceBuffers: number;
}

export const STORE_LIMITS: StoreLimits = {
  descriptorBytesMax: 32 << 20,
  descriptorBuffers: 64,
  edgeBuffers: 8,
  bounceBuffers: 4,
};

/** An operation that waits for room. */
export interface Stalled {
  resume(): void;
}

interface FreedExtent {
  physical: number;
  entry: number;
  descriptor: Descriptor | null;
}

export interface CoreStart {
  io: DiskIo;
  plan: DiskPlan;
  identity: PageIdentity;
  metadata: Metadata;
  health: Health;
  space: FreeSpace;
  position: LogPosition;
  tail: number;
  /** Held by the core from now on: COMMIT_BUFFER_BYTES. */
  logBuffer: number;
  limits: StoreLimits;
}

export class StoreCore {
  readonly io: DiskIo;
  readonly memory: Memory;
  readonly plan: DiskPlan;
  readonly identity: PageIdentity;
  readonly metadata: Metadata;
  readonly health: Health;
  readonly space: FreeSpace;
  readonly log: MetadataLog;
  readonly cache: DescriptorCache;
  readonly cycle: FlushCycle;
  readonly descriptorBuffers: BufferPool;
  readonly edges: BufferPool;
  readonly bounces: BufferPool;
  readonly #limits: StoreLimits;
  readonly #pieces: Piece[] = [];
  readonly #transfers: Transfer[] = [];
  readonly #plains: PlainTransfer[] = [];
  #freed: FreedExtent[] = [];
  readonly #stalled: Stalled[] = [];
  #resuming = false;
  #operations = 0;
  #background = 0;
  /** Operations of members begun so far. */
  operationsBegun = 0;
  /** H6: what is not durable yet is noted there, so that only a power cut loses it; or null. */
  keepsake: Keepsake | null = null;
  /** H6: the first incarnation that had this cache of the disk. */
  bootIncarnation = 0;
  /** No more operations are taken. */
  closing = false;
  /** Told when the last operation has ended. */
  onIdle: () => void = () => {};

  constructor(start: CoreStart) {
    const { io, plan, identity, metadata, limits } = start;
    this.io = io;
    this.memory = io.memory;
    this.plan = plan;
    this.identity = identity;
    this.metadata = metadata;
    this.health = start.health;
    this.space = start.space;
    this.#limits = limits;
    const { position, tail } = start;
    const buffer = start.logBuffer;
    this.log = new MetadataLog(io, plan, { metadata, identity, buffer, position, tail });
    this.descriptorBuffers = new BufferPool(this.memory, DESCRIPTOR_PAIR_BYTES);
    this.edges = new BufferPool(this.memory, 2 * BLOCK_BYTES);
    this.bounces = new BufferPool(this.memory, BOUNCE_BLOCKS * BLOCK_BYTES);
    const buffers = this.descriptorBuffers;
    const bytesMax = limits.descriptorBytesMax;
    this.cache = new DescriptorCache(io, plan, { identity, buffers, bytesMax });
    const stampOf = (descriptor: Descriptor) => this.#stampOf(descriptor);
    const { log, cache } = this;
    this.cycle = new FlushCycle({ io, plan, identity, log, cache, buffers, stampOf });
    this.cycle.onEnd = () => this.resumeStalled();
    this.log.onDurable = () => {
      this.releaseFreed();
      this.resumeStalled();
    };
    metadata.onFreed = (_slice: SliceNumber, physical: number) => {
      const descriptor = cache.forget(physical);
      this.#freed.push({ physical, entry: log.appended, descriptor });
    };
  }

  /** From now on everything is noted in the keepsake before it is acked. */
  note(keepsake: Keepsake): void {
    this.keepsake = keepsake;
    this.log.onAppended = (entry, bytes, at, length) => keepsake.entry(entry, bytes, at, length);
    this.cycle.onBegin = () => keepsake.turn();
    this.cycle.onSettled = () => keepsake.settled();
  }

  /** Only a flush cycle makes room. */
  get #needsCycle(): boolean {
    return this.cache.crowded || this.keepsake?.crowded === true;
  }

  /** Before a change is taken: a flush cycle begins early enough that nobody has to wait for it. */
  anticipate(): void {
    if (this.cycle.running) return;
    if (this.cache.filling || this.keepsake?.filling === true) this.cycle.request(() => {});
  }

  /** Takes the buffers from Memory; false when there are not enough. */
  openBuffers(): boolean {
    const { descriptorBuffers, edgeBuffers, bounceBuffers } = this.#limits;
    return (
      this.descriptorBuffers.open(descriptorBuffers) &&
      this.edges.open(edgeBuffers) &&
      this.bounces.open(bounceBuffers)
    );
  }

  /** What its pools took from Memory. */
  get heldBytes(): number {
    return this.descriptorBuffers.heldBytes + this.edges.heldBytes + this.bounces.heldBytes;
  }

  /** Whoever adds to it has to wait: there is too much, or others came first. */
  get mustWait(): boolean {
    return !this.io.failed && (this.#stalled.length > 0 || this.crowded);
  }

  get crowded(): boolean {
    const most = Math.min(STAGED_PAGES_MAX, this.plan.logSlots / 8);
    return this.log.staged.pages.length > most || this.#needsCycle;
  }

  /** `stalled` goes on when there is room; what makes room is started. */
  stall(stalled: Stalled): void {
    this.#stalled.push(stalled);
    this.log.commit();
    if (this.#needsCycle) this.cycle.request(() => {});
  }

  resumeStalled(): void {
    if (this.#resuming) return;
    this.#resuming = true;
    while (this.#stalled.length > 0 && (!this.crowded || this.io.failed)) {
      (this.#stalled.shift() as Stalled).resume();
    }
    this.#resuming = false;
    if (this.#stalled.length === 0) return;
    this.log.commit();
    if (this.#needsCycle && !this.cycle.running) this.cycle.request(() => {});
  }

  unpin(descriptor: Descriptor): void {
    this.cache.release(descriptor);
    if (descriptor.dead && descriptor.pins === 0) this.releaseFreed();
  }

  /** H9: gives back what may be given out again. */
  releaseFreed(): void {
    const { durable } = this.log;
    if (this.#freed.length === 0) return;
    const kept: FreedExtent[] = [];
    for (const freed of this.#freed) {
      const used = freed.descriptor !== null && freed.descriptor.pins > 0;
      if (freed.entry > durable || used) kept.push(freed);
      else this.space.release(freed.physical);
    }
    this.#freed = kept;
  }

  /** Extents freed but not to be given out yet. */
  get freedCount(): number {
    return this.#freed.length;
  }

  operationBegan(): void {
    this.#operations++;
    this.operationsBegun++;
  }

  operationEnded(): void {
    this.#operations--;
    if (this.idle) this.onIdle();
  }

  /** A scrub reads: closing waits for it, but nobody counts it as work. */
  backgroundBegan(): void {
    this.#background++;
  }

  backgroundEnded(): void {
    this.#background--;
    if (this.idle) this.onIdle();
  }

  get idle(): boolean {
    return this.#operations === 0 && this.#background === 0;
  }

  /** Operations of members under way. */
  get working(): boolean {
    return this.#operations > 0;
  }

  takePiece(): Piece {
    return this.#pieces.pop() ?? new Piece(this);
  }

  givePiece(piece: Piece): void {
    this.#pieces.push(piece);
  }

  takePlain(): PlainTransfer {
    return this.#plains.pop() ?? new PlainTransfer(this);
  }

  givePlain(plain: PlainTransfer): void {
    this.#plains.push(plain);
  }

  takeTransfer(): Transfer {
    return this.#transfers.pop() ?? new Transfer(this);
  }

  giveTransfer(transfer: Transfer): void {
    this.#transfers.push(transfer);
  }

  /** The disk was ejected: everybody who waits hears it. */
  fail(): void {
    this.log.fail();
    this.resumeStalled();
  }

  closeBuffers(): void {
    this.descriptorBuffers.close();
    this.edges.close();
    this.bounces.close();
  }

  #stampOf(descriptor: Descriptor): number {
    const state = this.metadata.slices.get(descriptor.slice);
    return state === undefined ? 0 : state.map.stampOf(descriptor.extent);
  }
}
