// SPDX-License-Identifier: Apache-2.0
//
// Metadata: what the log says, in memory. Every change is an entry, applied here by one function,
// at run time when it is appended and after a restart when it is replayed, so that both come to the
// same state by construction (the re-stamping of a stored record included: R2, R6).
//
// An entry is applied before it is durable. Who may be told of it only when it is durable (record,
// activity) is member.ts's care; a freed extent is given out again only then (H9, free-space.ts).
//
// H11: a member is as large as the largest record that it has stored, and never becomes smaller. So
// a volume grows by a record alone. What a record adds reads zero: nothing of it was ever within
// the slice.

import { EXTENT_BYTES, EXTENTS_PER_REGION, REGION_BYTES, SLICE_BYTES_MAX } from "#base/grains.ts";
import { inSyncEntry } from "#base/record.ts";
import type { DiskNumber, Incarnation, SliceNumber, SliceRecord } from "#base/record.ts";
import { ExtentMap, NOT_MAPPED } from "./extent-map.ts";
import {
  ENTRY,
  ENTRY_ACTIVE,
  ENTRY_CREATE,
  ENTRY_FREE,
  ENTRY_MAP,
  ENTRY_REGIONS,
  ENTRY_SECTION,
  ENTRY_VALUE,
  EntryKind,
} from "./format.wire.ts";
import { u32At } from "./page.ts";
import { decodeRecord } from "./record-codec.ts";

/** What the log says of one slice. */
export class SliceState {
  readonly slice: SliceNumber;
  sizeBytes: number;
  readonly map: ExtentMap;
  readonly active = new Set<number>();
  record: SliceRecord | null = null;
  syncedEpoch = 0;
  syncedLineage = 0;
  /** Replay: entries up to here are contained in the checkpoint's section. */
  throughEntry = 0;

  constructor(slice: SliceNumber, sizeBytes: number) {
    this.slice = slice;
    this.sizeBytes = sizeBytes;
    this.map = new ExtentMap(sizeBytes / EXTENT_BYTES);
  }

  get regions(): number {
    return this.sizeBytes / REGION_BYTES;
  }

  /** H11: nothing becomes smaller. */
  growTo(sizeBytes: number): void {
    if (sizeBytes <= this.sizeBytes) return;
    this.sizeBytes = sizeBytes;
    this.map.growTo(sizeBytes / EXTENT_BYTES);
  }

  /** Active regions, ascending. */
  activeSorted(): number[] {
    return [...this.active].sort((left, right) => left - right);
  }
}

const entry = ENTRY.view();
const value = ENTRY_VALUE.view();
const create = ENTRY_CREATE.view();
const regionList = ENTRY_REGIONS.view();
const map = ENTRY_MAP.view();
const free = ENTRY_FREE.view();
const section = ENTRY_SECTION.view();
const active = ENTRY_ACTIVE.view();

export class Metadata {
  /** Extents on the disk; an entry beyond them is damage. */
  readonly extents: number;
  readonly slices = new Map<SliceNumber, SliceState>();
  incarnation: Incarnation = 0;
  number: DiskNumber = 0;
  /** The next mapping to give out; mappings are never used twice. */
  nextMapping = 1;
  /** Told of every extent that loses its mapping. */
  onFreed: (slice: SliceNumber, physical: number) => void = () => {};
  #section: SliceState | null = null;

  constructor(extents: number) {
    this.extents = extents;
  }

  /**
   * Applies the entry at `at`, of which at most `room` bytes belong to the page, as number `number`
   * (0: in a checkpoint). Answers its length, or a reason why it cannot be.
   */
  apply(source: Uint8Array, at: number, room: number, number: number): number | string {
    if (room < ENTRY.size) return "an entry is cut off";
    entry.at(source, at);
    const { kind, lengthBytes, slice } = entry;
    if (lengthBytes < ENTRY.size || lengthBytes > room) return "an entry's length is wrong";
    const state = this.slices.get(slice);
    if (number > 0 && state !== undefined && number <= state.throughEntry) return lengthBytes;
    const wrong = this.#act(kind as EntryKind, source, at, lengthBytes, state);
    return wrong ?? lengthBytes;
  }

  /** Ends the reading of a checkpoint. */
  endSections(): void {
    this.#section = null;
  }

  #act(
    kind: EntryKind,
    source: Uint8Array,
    at: number,
    lengthBytes: number,
    state: SliceState | undefined,
  ): string | null {
    switch (kind) {
      case EntryKind.incarnation:
      case EntryKind.number:
        return this.#value(kind, source, at, lengthBytes);
      case EntryKind.create:
        return this.#create(source, at, lengthBytes, state);
      case EntryKind.drop:
        if (state !== undefined) this.#drop(state);
        return null;
      case EntryKind.record:
      case EntryKind.sectionRecord:
        return this.#record(kind, source, at, lengthBytes, state);
      case EntryKind.activate:
      case EntryKind.deactivate:
        return this.#regions(kind, source, at, lengthBytes, state);
      case EntryKind.map:
        return this.#map(source, at, lengthBytes, state);
      case EntryKind.free:
        return this.#free(source, at, lengthBytes, state);
      case EntryKind.section:
        return this.#beginSection(source, at, lengthBytes, state);
      case EntryKind.sectionActive:
        return this.#active(source, at, lengthBytes, state);
      default:
        return `entry of unknown kind ${kind}`;
    }
  }

  #value(kind: EntryKind, source: Uint8Array, at: number, lengthBytes: number): string | null {
    if (lengthBytes !== ENTRY_VALUE.size) return "a value entry's length is wrong";
    const number = value.at(source, at).value;
    if (kind === EntryKind.incarnation) this.incarnation = number;
    else this.number = number;
    return null;
  }

  #create(
    source: Uint8Array,
    at: number,
    lengthBytes: number,
    state: SliceState | undefined,
  ): string | null {
    if (lengthBytes !== ENTRY_CREATE.size) return "a create entry's length is wrong";
    if (state !== undefined) return "a slice is created twice";
    const { sizeBytes } = create.at(source, at);
    if (!validSliceSize(sizeBytes)) return "a slice's size is wrong";
    const slice = entry.at(source, at).slice;
    this.slices.set(slice, new SliceState(slice, sizeBytes));
    return null;
  }

  #drop(state: SliceState): void {
    this.slices.delete(state.slice);
    for (let extent = state.map.next(0); extent !== NOT_MAPPED; extent = state.map.next(extent)) {
      this.onFreed(state.slice, state.map.remove(extent));
    }
  }

  #record(
    kind: EntryKind,
    source: Uint8Array,
    at: number,
    lengthBytes: number,
    state: SliceState | undefined,
  ): string | null {
    // Entries of a slice that was dropped before the checkpoint came to it mean nothing any more.
    if (state === undefined) return null;
    const record = decodeRecord(source, at, lengthBytes, state.slice);
    if (record === null) return "a record's length is wrong";
    if (kind === EntryKind.record) this.#grow(state, record);
    state.record = record;
    if (kind === EntryKind.sectionRecord) return null;
    if (this.number !== 0 && inSyncEntry(record, this.number) !== undefined) {
      state.syncedEpoch = record.epoch;
      state.syncedLineage = record.lineage;
    }
    // R2, R6: what is active is owed to every absent member: stamped with the new epoch.
    for (const region of state.active) {
      const end = (region + 1) * EXTENTS_PER_REGION;
      for (
        let extent = state.map.next(region * EXTENTS_PER_REGION, end);
        extent !== NOT_MAPPED;
        extent = state.map.next(extent + 1, end)
      ) {
        if (state.map.stampOf(extent) < record.epoch) state.map.setStamp(extent, record.epoch);
      }
    }
    return null;
  }

  /**
   * H9, H11: of a lineage that lost, a member may hold more than the record before went to. None of
   * that is the slice's.
   */
  #grow(state: SliceState, { sizeBytes }: SliceRecord): void {
    const before = state.record?.sizeBytes ?? state.sizeBytes;
    if (sizeBytes <= before || !validSliceSize(sizeBytes)) return;
    this.#freeFrom(state, Math.ceil(before / EXTENT_BYTES), state.map.extents);
    state.growTo(sizeBytes);
  }

  #freeFrom(state: SliceState, extent: number, end: number): void {
    for (let next = state.map.next(extent, end); next !== NOT_MAPPED;) {
      this.onFreed(state.slice, state.map.remove(next));
      next = state.map.next(next + 1, end);
    }
  }

  #regions(
    kind: EntryKind,
    source: Uint8Array,
    at: number,
    lengthBytes: number,
    state: SliceState | undefined,
  ): string | null {
    if (lengthBytes < ENTRY_REGIONS.size) return "a region list's length is wrong";
    const { count } = regionList.at(source, at);
    if (lengthBytes !== ENTRY_REGIONS.size + 4 * count) return "a region list's length is wrong";
    if (state === undefined) return null;
    for (let index = 0; index < count; index++) {
      const region = u32At(source, at + ENTRY_REGIONS.size + 4 * index);
      if (region >= state.regions) return "a region lies beyond its slice";
      if (kind === EntryKind.activate) state.active.add(region);
      else state.active.delete(region);
    }
    return null;
  }

  #map(
    source: Uint8Array,
    at: number,
    lengthBytes: number,
    state: SliceState | undefined,
  ): string | null {
    if (lengthBytes !== ENTRY_MAP.size) return "a map entry's length is wrong";
    const { extent, physical, count, stamp, mapping } = map.at(source, at);
    if (physical + count > this.extents) return "an extent lies beyond the disk";
    this.nextMapping = Math.max(this.nextMapping, mapping + count);
    if (state === undefined) return null;
    if (extent + count > state.map.extents) return "an extent lies beyond its slice";
    for (let index = 0; index < count; index++) {
      state.map.set(extent + index, physical + index, stamp, mapping + index);
    }
    return null;
  }

  #free(
    source: Uint8Array,
    at: number,
    lengthBytes: number,
    state: SliceState | undefined,
  ): string | null {
    if (lengthBytes !== ENTRY_FREE.size) return "a free entry's length is wrong";
    if (state === undefined) return null;
    const { extent, count } = free.at(source, at);
    const end = extent + count;
    if (end > state.map.extents) return "an extent lies beyond its slice";
    this.#freeFrom(state, extent, end);
    return null;
  }

  #beginSection(
    source: Uint8Array,
    at: number,
    lengthBytes: number,
    state: SliceState | undefined,
  ): string | null {
    if (lengthBytes !== ENTRY_SECTION.size) return "a section's length is wrong";
    if (state !== undefined) return "a slice has two sections";
    const { sizeBytes } = section.at(source, at);
    if (!validSliceSize(sizeBytes)) return "a slice's size is wrong";
    const made = new SliceState(entry.at(source, at).slice, sizeBytes);
    made.throughEntry = section.throughEntry;
    made.syncedLineage = section.syncedLineage;
    made.syncedEpoch = section.syncedEpoch;
    this.slices.set(made.slice, made);
    this.#section = made;
    return null;
  }

  #active(
    source: Uint8Array,
    at: number,
    lengthBytes: number,
    state: SliceState | undefined,
  ): string | null {
    if (lengthBytes < ENTRY_ACTIVE.size) return "an activity bitmap's length is wrong";
    const { firstRegion, bitmapBytes } = active.at(source, at);
    if (lengthBytes !== ENTRY_ACTIVE.size + bitmapBytes) return "a bitmap's length is wrong";
    if (state === undefined || state !== this.#section) return "a bitmap outside its section";
    for (let bit = 0; bit < bitmapBytes * 8; bit++) {
      const byte = source[at + ENTRY_ACTIVE.size + (bit >>> 3)] as number;
      if (((byte >>> (bit & 7)) & 1) === 0) continue;
      if (firstRegion + bit >= state.regions) return "a region lies beyond its slice";
      state.active.add(firstRegion + bit);
    }
    return null;
  }
}

export function validSliceSize(sizeBytes: number): boolean {
  return (
    sizeBytes >= REGION_BYTES && sizeBytes <= SLICE_BYTES_MAX && sizeBytes % REGION_BYTES === 0
  );
}
