// SPDX-License-Identifier: Apache-2.0
//
// A member's store in memory for this room's tests: the semantics of base/member-store.ts with a
// cache that a power cut takes, a log that is durable when its callback runs, and faults on demand.
// Not the real store, which is simulated with the slices in test/sim.

import { assert } from "#base/assert.ts";
import { ZERO_BLOCK_CHECKSUM, blockChecksum } from "#base/checksum.ts";
import type { Incident } from "#base/disk-health.ts";
import { BLOCKS_PER_EXTENT, BLOCK_BYTES, EXTENT_BYTES, REGION_BYTES } from "#base/grains.ts";
import { LOST_CHECKSUM } from "#base/member-store.ts";
import type { MapEntry, MemberStore, StoreDone } from "#base/member-store.ts";
import type { Memory } from "#base/memory.ts";
import {
  FLAG_FUA,
  FLAG_LOST,
  FLAG_NO_HOLE,
  FLAG_UNVERIFIED,
  OperationKind,
} from "#base/operation.ts";
import type { Operation } from "#base/operation.ts";
import { inSyncEntry } from "#base/record.ts";
import type { Prng } from "#base/prng.ts";
import type { SliceRecord } from "#base/record.ts";
import { Status } from "#base/status.ts";

interface Extent {
  stamp: number;
  /** Absent: unwritten. */
  blocks: Map<number, Uint8Array>;
}

/** What lies on the disk, and what only the memory of its run holds. */
export class FixtureDisk {
  readonly disk: number;
  readonly slice: number;
  sizeBytes: number;
  capacityExtents = Number.POSITIVE_INFINITY;
  incarnation = 0;
  bootIncarnation = 1;
  record: SliceRecord | null = null;
  syncedEpoch = 0;
  syncedLineage = 0;
  active = new Set<number>();
  media = new Map<number, Extent>();
  cache = new Map<number, Extent>();
  /** Blocks whose bytes do not match. */
  readonly bad = new Set<number>();
  /** Blocks that were marked as lost; also bad. */
  readonly lost = new Set<number>();
  /** Blocks that do not keep what is written to them. */
  readonly broken = new Set<number>();

  constructor(disk: number, slice: number, sizeBytes: number) {
    this.disk = disk;
    this.slice = slice;
    this.sizeBytes = sizeBytes;
  }

  flush(): void {
    this.media = copyOf(this.cache);
  }

  /**
   * The process ends; with `power` its unflushed blocks go, too: each on its own is as before, or
   * as it was written, or does not match its checksum. `tears` false: all are as before.
   */
  crash(options: { power: boolean; tears?: boolean }, prng: Prng): void {
    if (!options.power) return;
    this.bootIncarnation = this.incarnation + 1;
    const before = copyOf(this.media);
    if (options.tears !== true) {
      this.cache = before;
      return;
    }
    for (const [number, extent] of [...this.cache]) {
      const old = before.get(number);
      // Its mapping was not flushed with it: it may be lost as a whole.
      if (old === undefined && prng.chance(0.5)) {
        this.cache.delete(number);
        continue;
      }
      const blocks = new Set([...extent.blocks.keys(), ...(old?.blocks.keys() ?? [])]);
      for (const block of blocks) {
        const was = old?.blocks.get(block);
        if (was === extent.blocks.get(block)) continue;
        if (prng.chance(0.5)) {
          if (was === undefined) extent.blocks.delete(block);
          else extent.blocks.set(block, was);
        }
        if (extent.blocks.has(block) && prng.chance(0.3)) this.bad.add(block);
      }
    }
    for (const [number, old] of before) if (!this.cache.has(number)) this.cache.set(number, old);
    this.media = copyOf(this.cache);
  }
}

function copyOf(from: Map<number, Extent>): Map<number, Extent> {
  const made = new Map<number, Extent>();
  for (const [extent, { stamp, blocks }] of from)
    made.set(extent, { stamp, blocks: new Map(blocks) });
  return made;
}

export type Later = (delayMs: number, act: () => void) => void;

export class FixtureStore implements MemberStore {
  readonly #on: FixtureDisk;
  readonly #memory: Memory;
  readonly #later: Later;
  #dead = false;
  #reserved = 0;
  /** Milliseconds an operation takes. */
  delayMs: (operation: Operation) => number = () => 1;
  /** Status to end the operation with instead, once. */
  fault: ((operation: Operation) => Status) | null = null;
  readonly incidents: { incident: Incident; block: number }[] = [];
  /** Operations never end while this is set. */
  stuck = false;

  constructor(on: FixtureDisk, memory: Memory, later: Later) {
    this.#on = on;
    this.#memory = memory;
    this.#later = later;
    on.incarnation++;
  }

  get disk(): number {
    return this.#on.disk;
  }
  get slice(): number {
    return this.#on.slice;
  }
  get sizeBytes(): number {
    return this.#on.sizeBytes;
  }
  get incarnation(): number {
    return this.#on.incarnation;
  }
  get bootIncarnation(): number {
    return this.#on.bootIncarnation;
  }
  get record(): SliceRecord | null {
    return this.#on.record;
  }
  get syncedEpoch(): number {
    return this.#on.syncedEpoch;
  }
  get syncedLineage(): number {
    return this.#on.syncedLineage;
  }

  /** From now on nothing of this run reaches the disk or its callers. */
  die(): void {
    this.#dead = true;
  }

  activeRegions(): number[] {
    return [...this.#on.active].sort((a, b) => a - b);
  }
  isActive(region: number): boolean {
    return this.#on.active.has(region);
  }
  stampOf(extent: number): number {
    return this.#on.cache.get(extent)?.stamp ?? 0;
  }
  mapFrom(fromExtent: number, limit: number): MapEntry[] {
    return [...this.#on.cache]
      .filter(([extent]) => extent >= fromExtent)
      .sort(([a], [b]) => a - b)
      .slice(0, limit)
      .map(([extent, { stamp }]) => ({ extent, stamp }));
  }

  activate(regions: readonly number[], done: StoreDone): void {
    this.#soon(1, () => {
      for (const region of regions) this.#on.active.add(region);
      done(Status.ok);
    });
  }
  deactivate(regions: readonly number[]): void {
    if (this.#dead) return;
    for (const region of regions) this.#on.active.delete(region);
  }
  putRecord(record: SliceRecord, done: StoreDone): void {
    this.#soon(1, () => {
      this.#on.record = record;
      this.#on.sizeBytes = Math.max(this.#on.sizeBytes, record.sizeBytes);
      if (inSyncEntry(record, this.disk) !== undefined) {
        this.#on.syncedEpoch = record.epoch;
        this.#on.syncedLineage = record.lineage;
      }
      for (const map of [this.#on.cache, this.#on.media]) {
        for (const [extent, entry] of map) {
          if (this.isActive(Math.floor((extent * EXTENT_BYTES) / REGION_BYTES))) {
            entry.stamp = record.epoch;
          }
        }
      }
      done(Status.ok);
    });
  }
  reserve(extents: number): number {
    const free = this.#on.capacityExtents - this.#on.cache.size;
    this.#reserved = Math.max(0, Math.min(extents, free));
    return this.#reserved;
  }
  drop(done: StoreDone): void {
    this.#soon(1, () => done(Status.ok));
  }
  checksumsOf(extent: number, done: (checksums: Uint32Array | null) => void): void {
    this.#soon(1, () => {
      const checksums = new Uint32Array(BLOCKS_PER_EXTENT).fill(ZERO_BLOCK_CHECKSUM);
      for (let index = 0; index < BLOCKS_PER_EXTENT; index++) {
        const block = extent * BLOCKS_PER_EXTENT + index;
        const bytes = this.#block(block);
        if (this.#on.lost.has(block)) checksums[index] = LOST_CHECKSUM;
        else if (bytes !== undefined) checksums[index] = blockChecksum(bytes, 0, BLOCK_BYTES);
      }
      done(checksums);
    });
  }
  noteIncident(incident: Incident, offsetBytes: number): void {
    this.incidents.push({ incident, block: offsetBytes / BLOCK_BYTES });
  }

  submit(operation: Operation): void {
    const status = this.fault?.(operation) ?? Status.ok;
    this.#soon(this.delayMs(operation), () => {
      if (status !== Status.ok) return operation.complete(status);
      operation.complete(this.#carryOut(operation));
    });
  }

  #carryOut(operation: Operation): Status {
    switch (operation.kind) {
      case OperationKind.read:
        return this.#read(operation);
      case OperationKind.flush:
        this.#on.flush();
        return Status.ok;
      case OperationKind.blockStatus:
        this.#report(operation);
        return Status.ok;
      default:
        return this.#change(operation);
    }
  }

  #read(operation: Operation): Status {
    const { offsetBytes, lengthBytes, bufferOffset, flags } = operation;
    for (const piece of pieces(offsetBytes, lengthBytes)) {
      const isUnverified = (flags & FLAG_UNVERIFIED) !== 0;
      if (this.#on.bad.has(piece.block) && (!isUnverified || this.#on.lost.has(piece.block))) {
        operation.faultOffsetBytes = piece.block * BLOCK_BYTES;
        return isUnverified ? Status.mediumError : Status.checksumMismatch;
      }
      const bytes = this.#block(piece.block);
      const at = bufferOffset + piece.done;
      if (bytes === undefined) this.#memory.bytes.fill(0, at, at + piece.length);
      else this.#memory.bytes.set(bytes.subarray(piece.from, piece.from + piece.length), at);
    }
    return Status.ok;
  }

  #change(operation: Operation): Status {
    const { offsetBytes, lengthBytes, bufferOffset, flags, epoch, kind } = operation;
    assert(epoch > 0, "a change has a stamp");
    const zeroes = kind !== OperationKind.write;
    const keepsHoles = zeroes && (kind === OperationKind.trim || (flags & FLAG_NO_HOLE) === 0);
    for (const { block, length } of pieces(offsetBytes, lengthBytes)) {
      const region = Math.floor((block * BLOCK_BYTES) / REGION_BYTES);
      assert(this.isActive(region), "R6: a change touches active regions only");
      if (length === BLOCK_BYTES || !this.#on.bad.has(block)) continue;
      operation.faultOffsetBytes = block * BLOCK_BYTES;
      return Status.checksumMismatch;
    }
    for (const { block, from, length, done } of pieces(offsetBytes, lengthBytes)) {
      const extent = Math.floor((block * BLOCK_BYTES) / EXTENT_BYTES);
      let entry = this.#on.cache.get(extent);
      if (entry === undefined) {
        if (keepsHoles) continue;
        if (this.#on.cache.size >= this.#on.capacityExtents) return Status.noSpace;
        entry = { stamp: epoch, blocks: new Map() };
        this.#on.cache.set(extent, entry);
      }
      entry.stamp = epoch;
      const bytes = new Uint8Array(BLOCK_BYTES);
      const before = entry.blocks.get(block);
      if (before !== undefined) bytes.set(before);
      if (zeroes) bytes.fill(0, from, from + length);
      else if ((flags & FLAG_LOST) === 0) {
        const at = bufferOffset + done;
        bytes.set(this.#memory.bytes.subarray(at, at + length), from);
      }
      if (zeroes && length === BLOCK_BYTES) entry.blocks.delete(block);
      else entry.blocks.set(block, bytes);
      const isLost = (flags & FLAG_LOST) !== 0;
      if (isLost || this.#on.broken.has(block)) this.#on.bad.add(block);
      else this.#on.bad.delete(block);
      if (isLost) this.#on.lost.add(block);
      else this.#on.lost.delete(block);
    }
    if (keepsHoles) this.#freeWhole(offsetBytes, lengthBytes);
    if ((flags & FLAG_FUA) !== 0) this.#on.flush();
    return Status.ok;
  }

  #freeWhole(offsetBytes: number, lengthBytes: number): void {
    const first = Math.ceil(offsetBytes / EXTENT_BYTES);
    const end = Math.floor((offsetBytes + lengthBytes) / EXTENT_BYTES);
    for (let extent = first; extent < end; extent++) this.#on.cache.delete(extent);
  }

  #report(operation: Operation): void {
    operation.runs = [];
    for (const { block, length } of pieces(operation.offsetBytes, operation.lengthBytes)) {
      const allocated = this.#block(block) !== undefined;
      const last = operation.runs.at(-1);
      if (last !== undefined && last.allocated === allocated) last.lengthBytes += length;
      else operation.runs.push({ lengthBytes: length, allocated });
    }
  }

  #block(block: number): Uint8Array | undefined {
    const extent = Math.floor((block * BLOCK_BYTES) / EXTENT_BYTES);
    return this.#on.cache.get(extent)?.blocks.get(block);
  }

  #soon(delayMs: number, act: () => void): void {
    this.#later(delayMs, () => {
      if (this.#dead) return;
      if (this.stuck) this.#soon(5, act);
      else act();
    });
  }
}

/** The blocks of a range: which, from where in it, how much, and how much came before. */
function* pieces(offsetBytes: number, lengthBytes: number) {
  let done = 0;
  while (done < lengthBytes) {
    const at = offsetBytes + done;
    const from = at % BLOCK_BYTES;
    const length = Math.min(BLOCK_BYTES - from, lengthBytes - done);
    yield { block: (at - from) / BLOCK_BYTES, from, length, done };
    done += length;
  }
}
