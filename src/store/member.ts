// SPDX-License-Identifier: Apache-2.0
//
// Member: one disk's share of one slice (base/member-store.ts). Memory is changed when an entry is
// appended to the log; what is told to others (`record`, `isActive`, every `done`) is what is
// durable.

import { assert } from "#base/assert.ts";
import { UNWRITTEN, ZERO_BLOCK_CHECKSUM } from "#base/checksum.ts";
import type { Incident } from "#base/disk-health.ts";
import { BLOCKS_PER_EXTENT, EXTENT_BYTES } from "#base/grains.ts";
import { LOST_CHECKSUM } from "#base/member-store.ts";
import type { MapEntry, MemberStore, StoreDone } from "#base/member-store.ts";
import { OperationKind } from "#base/operation.ts";
import type { Operation, StatusRun } from "#base/operation.ts";
import { supersedes } from "#base/record.ts";
import type { DiskNumber, Incarnation, SliceNumber, SliceRecord } from "#base/record.ts";
import { Status } from "#base/status.ts";
import { BlockLocks } from "./block-locks.ts";
import type { Descriptor } from "./descriptor.ts";
import { NOT_MAPPED } from "./extent-map.ts";
import { EntryKind } from "./format.wire.ts";
import { NO_EXTENT } from "./free-space.ts";
import type { SliceState } from "./metadata.ts";
import { recordFits } from "./record-codec.ts";
import type { StoreCore } from "./store-core.ts";
import { admissible } from "./transfer.ts";

export class Member implements MemberStore {
  readonly state: SliceState;
  readonly locks = new BlockLocks();
  readonly #core: StoreCore;
  readonly #onDropped: () => void;
  #record: SliceRecord | null;
  #syncedEpoch: number;
  #syncedLineage: number;
  #recordEntry = 0;
  /** Regions whose activation may not be durable yet, with its entry. */
  readonly #activating = new Map<number, number>();
  #reserved = 0;
  #inFlight = 0;
  #dropping: StoreDone | null = null;
  #dropped = false;

  constructor(core: StoreCore, state: SliceState, onDropped: () => void) {
    this.#core = core;
    this.state = state;
    this.#onDropped = onDropped;
    this.#record = state.record;
    this.#syncedEpoch = state.syncedEpoch;
    this.#syncedLineage = state.syncedLineage;
  }

  get disk(): DiskNumber {
    return this.#core.metadata.number;
  }
  get slice(): SliceNumber {
    return this.state.slice;
  }
  get sizeBytes(): number {
    return this.state.sizeBytes;
  }
  get incarnation(): Incarnation {
    return this.#core.metadata.incarnation;
  }
  get bootIncarnation(): Incarnation {
    return this.#core.bootIncarnation;
  }
  get record(): SliceRecord | null {
    return this.#record;
  }
  get syncedEpoch(): number {
    return this.#syncedEpoch;
  }
  get syncedLineage(): number {
    return this.#syncedLineage;
  }

  activeRegions(): number[] {
    return this.state.activeSorted().filter((region) => this.isActive(region));
  }

  /** R6: durably so; an activation under way does not count. */
  isActive(region: number): boolean {
    if (!this.state.active.has(region)) return false;
    return (this.#activating.get(region) ?? 0) <= this.#core.log.durable;
  }

  stampOf(extent: number): number {
    return this.state.map.stampOf(extent);
  }

  mapFrom(fromExtent: number, limit: number): MapEntry[] {
    return this.state.map.list(fromExtent, limit);
  }

  checksumsOf(extent: number, done: (checksums: Uint32Array | null) => void): void {
    const unusable = this.#core.io.failed || this.#core.closing || this.#dropped;
    if (unusable || this.#dropping !== null) return done(null);
    const checksums = new Uint32Array(BLOCKS_PER_EXTENT).fill(ZERO_BLOCK_CHECKSUM);
    const physical = this.state.map.physicalOf(extent);
    if (physical === NOT_MAPPED) return done(checksums);
    // Part of a scrub, which must not take itself for work.
    this.#inFlight++;
    this.#core.backgroundBegan();
    const descriptorReady = (descriptor: Descriptor | null) => {
      if (descriptor !== null) {
        fillChecksums(checksums, descriptor);
        this.#core.unpin(descriptor);
      }
      this.#core.backgroundEnded();
      this.#left();
      done(descriptor === null ? null : checksums);
    };
    const where = { physical, mapping: this.state.map.mappingOf(extent) };
    this.#core.cache.use(this.slice, extent, where, { descriptorReady });
  }

  noteIncident(incident: Incident, offsetBytes: number): void {
    this.#core.health.note(incident, this.slice, offsetBytes);
  }

  submit(operation: Operation): void {
    if (this.#core.io.failed) return operation.complete(Status.ioError);
    if (this.#core.closing) return operation.complete(Status.shuttingDown);
    if (this.#dropped || this.#dropping !== null) return operation.complete(Status.notFound);
    if (operation.kind === OperationKind.flush) return this.#flush(operation);
    const status = admissible(operation, this.sizeBytes);
    if (status !== Status.ok || operation.lengthBytes === 0) return operation.complete(status);
    if (operation.kind === OperationKind.blockStatus) return this.#blockStatus(operation);
    this.#operationBegan();
    const plain = this.#core.takePlain();
    if (plain.begin(operation, this)) return;
    this.#core.givePlain(plain);
    this.#core.takeTransfer().begin(operation, this);
  }

  activate(regions: readonly number[], done: StoreDone): void {
    const known = regions.every((region) => this.state.active.has(region));
    if (known || !this.#core.mustWait) return this.#activateNow(regions, done);
    const kept = [...regions];
    this.#core.stall({ resume: () => this.#activateNow(kept, done) });
  }

  #activateNow(regions: readonly number[], done: StoreDone): void {
    if (this.#unusable(done)) return;
    let entry = 0;
    const added: number[] = [];
    for (const region of regions) {
      assert(region >= 0 && region < this.state.regions, "a region lies in its slice");
      if (this.state.active.has(region)) entry = Math.max(entry, this.#activating.get(region) ?? 0);
      else if (!added.includes(region)) added.push(region);
    }
    if (added.length > 0) entry = this.#appendRegions(EntryKind.activate, added);
    for (const region of added) this.#activating.set(region, entry);
    if (entry <= this.#core.log.durable) return done(Status.ok);
    const ended = (status: Status) => {
      for (const [region, pending] of this.#activating) {
        if (pending <= this.#core.log.durable) this.#activating.delete(region);
      }
      done(status);
    };
    this.#core.log.sync(entry, ended, { of: "entries" });
  }

  /** R6: by order of the head. Rides with the next commit; `tick` starts one when none comes. */
  deactivate(regions: readonly number[]): void {
    if (this.#core.io.failed || this.#core.closing || this.#dropped) return;
    const gone = regions.filter((region) => this.state.active.has(region));
    if (gone.length > 0) this.#appendRegions(EntryKind.deactivate, gone);
    for (const region of gone) this.#activating.delete(region);
  }

  putRecord(record: SliceRecord, done: StoreDone): void {
    if (!this.#core.mustWait) return this.#putRecordNow(record, done);
    this.#core.stall({ resume: () => this.#putRecordNow(record, done) });
  }

  #putRecordNow(record: SliceRecord, done: StoreDone): void {
    if (this.#unusable(done)) return;
    assert(record.slice === this.slice, "a record is stored with its own slice");
    if (!recordFits(record)) return done(Status.invalid);
    const { log } = this.#core;
    const stored = this.state.record;
    if (stored !== null && !supersedes(record, stored)) {
      const same = stored.lineage === record.lineage && stored.epoch === record.epoch;
      // R4: lower ones are refused; the same one again is done when it is durable.
      return same ? log.sync(this.#recordEntry, done) : done(Status.staleEpoch);
    }
    const entry = log.append((pages) => pages.putRecord(EntryKind.record, record));
    this.#recordEntry = entry;
    const { syncedEpoch, syncedLineage } = this.state;
    const kept = this.state.record;
    log.sync(entry, (status) => {
      if (status === Status.ok) {
        this.#record = kept;
        this.#syncedEpoch = syncedEpoch;
        this.#syncedLineage = syncedLineage;
      }
      done(status);
    });
  }

  reserve(extents: number): number {
    if (this.#dropped || this.#core.io.failed) return 0;
    const { space } = this.#core;
    const { map } = this.state;
    const available = space.free - space.reserved + this.#reserved;
    const unmapped = map.extents - map.mapped;
    const held = Math.max(0, Math.min(extents, available, unmapped));
    space.reserved += held - this.#reserved;
    this.#reserved = held;
    return held === unmapped ? extents : held;
  }

  drop(done: StoreDone): void {
    if (this.#unusable(done)) return;
    this.#dropping = done;
    if (this.#inFlight === 0) this.#drop();
  }

  // For transfers.

  get mappedExtents(): number {
    return this.state.map.mapped;
  }
  /** Extents this member may still allocate: its reserve and what nobody reserved. */
  get spaceExtents(): number {
    const { space } = this.#core;
    return space.free - space.reserved + this.#reserved;
  }

  /** The stamp a write leaves: never older than the record, unless it is exactly given (R7). */
  stampFor(extent: number, epoch: number, exact: boolean): number {
    if (exact) return epoch;
    return Math.max(epoch, this.state.map.stampOf(extent), this.state.record?.epoch ?? 0);
  }

  mapExtent(extent: number, stamp: number): void {
    const { space, log, cache, metadata } = this.#core;
    const before = extent > 0 ? this.state.map.physicalOf(extent - 1) : NOT_MAPPED;
    const physical = space.allocate(before === NOT_MAPPED ? NO_EXTENT : before + 1);
    assert(physical !== NO_EXTENT, "space was looked at before it is taken");
    if (this.#reserved > 0) {
      this.#reserved--;
      space.reserved--;
    }
    const mapping = metadata.nextMapping;
    const run = { physical, count: 1, stamp, mapping };
    log.append((pages) => pages.putMap(this.slice, extent, run));
    cache.create(this.slice, extent, physical, mapping);
  }

  stampExtent(extent: number, stamp: number): void {
    const { map } = this.state;
    const mapping = map.mappingOf(extent);
    const run = { physical: map.physicalOf(extent), count: 1, stamp, mapping };
    this.#core.log.append((pages) => pages.putMap(this.slice, extent, run));
  }

  /** Frees what is mapped from `first` up to `end`, by one entry. */
  freeExtents(first: number, end: number): void {
    if (this.state.map.next(first, end) === NOT_MAPPED) return;
    this.#core.log.append((pages) => pages.putFree(this.slice, first, end - first));
  }

  operationEnded(): void {
    this.#core.operationEnded();
    this.#left();
  }

  #left(): void {
    this.#inFlight--;
    if (this.#inFlight === 0 && this.#dropping !== null) this.#drop();
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  #operationBegan(): void {
    this.#inFlight++;
    this.#core.operationBegan();
  }

  #unusable(done: StoreDone): boolean {
    if (this.#core.io.failed) done(Status.ioError);
    else if (this.#core.closing) done(Status.shuttingDown);
    else if (this.#dropped || this.#dropping !== null) done(Status.notFound);
    else return false;
    return true;
  }

  #flush(operation: Operation): void {
    this.#operationBegan();
    this.#core.cycle.request((status) => {
      this.operationEnded();
      operation.complete(status);
    });
  }

  #blockStatus(operation: Operation): void {
    const runs: StatusRun[] = [];
    const end = operation.offsetBytes + operation.lengthBytes;
    for (let at = operation.offsetBytes; at < end;) {
      const extent = Math.floor(at / EXTENT_BYTES);
      const lengthBytes = Math.min(end, (extent + 1) * EXTENT_BYTES) - at;
      const allocated = this.state.map.physicalOf(extent) !== NOT_MAPPED;
      const last = runs[runs.length - 1];
      if (last !== undefined && last.allocated === allocated) last.lengthBytes += lengthBytes;
      else runs.push({ lengthBytes, allocated });
      at += lengthBytes;
    }
    operation.runs = runs;
    operation.complete(Status.ok);
  }

  #appendRegions(kind: EntryKind, regions: readonly number[]): number {
    let entry = 0;
    for (let from = 0; from < regions.length;) {
      let next = from;
      entry = this.#core.log.append((pages) => {
        next = pages.putRegions(kind, this.slice, regions, from);
      });
      from = next;
    }
    return entry;
  }

  #drop(): void {
    const done = this.#dropping as StoreDone;
    if (this.#core.io.failed) return done(Status.ioError);
    this.#dropping = null;
    this.#dropped = true;
    this.#core.space.reserved -= this.#reserved;
    this.#reserved = 0;
    const entry = this.#core.log.append((pages) => pages.putDrop(this.slice));
    this.#onDropped();
    this.#core.log.sync(entry, done);
  }
}

function fillChecksums(checksums: Uint32Array, descriptor: Descriptor): void {
  for (let block = 0; block < BLOCKS_PER_EXTENT; block++) {
    const stored = descriptor.checksums[block] as number;
    if (stored !== UNWRITTEN) checksums[block] = stored;
    else if (descriptor.isLost(block)) checksums[block] = LOST_CHECKSUM;
  }
}
