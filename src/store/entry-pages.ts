// SPDX-License-Identifier: Apache-2.0
//
// Entries on their way to disk: packed into pages, never across two. The metadata log stages what
// is to be committed here, a checkpoint what it says of one slice after the other. The encoders are
// the only writers of entries; metadata.ts is the only reader.

import { assert } from "#base/assert.ts";
import type { SliceNumber, SliceRecord } from "#base/record.ts";
import {
  ENTRY,
  ENTRY_ACTIVE,
  ENTRY_CREATE,
  ENTRY_FREE,
  ENTRY_MAP,
  ENTRY_RECORD,
  ENTRY_REGIONS,
  ENTRY_SECTION,
  ENTRY_VALUE,
  EntryKind,
  PAGE_BYTES,
  REGIONS_PER_ENTRY_MAX,
} from "./format.wire.ts";
import { encodeRecord, recordEntryBytes } from "./record-codec.ts";

export class EntryPage {
  readonly bytes = new Uint8Array(PAGE_BYTES);
  usedBytes: number;
  entries = 0;
  constructor(headerBytes: number) {
    this.usedBytes = headerBytes;
  }
}

export interface SectionFacts {
  sizeBytes: number;
  throughEntry: number;
  syncedLineage: number;
  syncedEpoch: number;
  hasRecord: boolean;
}

const entry = ENTRY.view();
const value = ENTRY_VALUE.view();
const create = ENTRY_CREATE.view();
const regionList = ENTRY_REGIONS.view();
const map = ENTRY_MAP.view();
const free = ENTRY_FREE.view();
const section = ENTRY_SECTION.view();
const active = ENTRY_ACTIVE.view();

export class EntryPages {
  /** Pages with entries, oldest first; the last one may have room left. */
  readonly pages: EntryPage[] = [];
  /** The page that holds the entry written last, and where it begins in it. */
  bytes: Uint8Array = new Uint8Array(0);
  at = 0;
  readonly #headerBytes: number;

  constructor(headerBytes: number) {
    this.#headerBytes = headerBytes;
  }

  putValue(kind: EntryKind, number: number): void {
    this.#begin(kind, 0, ENTRY_VALUE.size);
    value.at(this.bytes, this.at).value = number;
  }

  putCreate(slice: SliceNumber, sizeBytes: number): void {
    this.#begin(EntryKind.create, slice, ENTRY_CREATE.size);
    create.at(this.bytes, this.at).sizeBytes = sizeBytes;
  }

  putDrop(slice: SliceNumber): void {
    this.#begin(EntryKind.drop, slice, ENTRY.size);
  }

  putRecord(kind: EntryKind, record: SliceRecord): void {
    this.#begin(kind, record.slice, recordEntryBytes(record));
    encodeRecord(this.bytes, this.at, record);
  }

  /**
   * At most REGIONS_PER_ENTRY_MAX regions, from `from` on; answers where the next entry goes on.
   */
  putRegions(
    kind: EntryKind,
    slice: SliceNumber,
    regions: readonly number[],
    from: number,
  ): number {
    const count = Math.min(REGIONS_PER_ENTRY_MAX, regions.length - from);
    this.#begin(kind, slice, ENTRY_REGIONS.size + 4 * count);
    regionList.at(this.bytes, this.at).count = count;
    const data = new DataView(this.bytes.buffer);
    for (let index = 0; index < count; index++) {
      const at = this.at + ENTRY_REGIONS.size + 4 * index;
      data.setUint32(at, regions[from + index] as number, true);
    }
    return from + count;
  }

  putMap(
    slice: SliceNumber,
    extent: number,
    run: { physical: number; count: number; stamp: number; mapping: number },
  ): void {
    this.#begin(EntryKind.map, slice, ENTRY_MAP.size);
    map.at(this.bytes, this.at);
    map.extent = extent;
    map.physical = run.physical;
    map.count = run.count;
    map.stamp = run.stamp;
    map.mapping = run.mapping;
  }

  putFree(slice: SliceNumber, extent: number, count: number): void {
    this.#begin(EntryKind.free, slice, ENTRY_FREE.size);
    free.at(this.bytes, this.at).extent = extent;
    free.count = count;
  }

  putSection(slice: SliceNumber, facts: SectionFacts): void {
    this.#begin(EntryKind.section, slice, ENTRY_SECTION.size);
    section.at(this.bytes, this.at);
    section.sizeBytes = facts.sizeBytes;
    section.throughEntry = facts.throughEntry;
    section.syncedLineage = facts.syncedLineage;
    section.syncedEpoch = facts.syncedEpoch;
    section.hasRecord = facts.hasRecord ? 1 : 0;
  }

  /** `regions` ascending, not empty. */
  putActive(slice: SliceNumber, regions: readonly number[]): void {
    const first = Math.floor((regions[0] as number) / 8) * 8;
    const bits = (regions[regions.length - 1] as number) - first + 1;
    const bitmapBytes = Math.ceil(bits / 32) * 4;
    this.#begin(EntryKind.sectionActive, slice, ENTRY_ACTIVE.size + bitmapBytes);
    active.at(this.bytes, this.at).firstRegion = first;
    active.bitmapBytes = bitmapBytes;
    for (const region of regions) {
      const bit = region - first;
      const at = this.at + ENTRY_ACTIVE.size + (bit >>> 3);
      this.bytes[at] = (this.bytes[at] as number) | (1 << (bit & 7));
    }
  }

  /** An entry as it was encoded once. */
  putBytes(encoded: Uint8Array): void {
    entry.at(encoded, 0);
    const { kind, slice } = entry;
    this.#begin(kind as EntryKind, slice, encoded.length);
    this.bytes.set(encoded, this.at);
  }

  #begin(kind: EntryKind, slice: SliceNumber, lengthBytes: number): void {
    let page = this.pages[this.pages.length - 1];
    if (page === undefined || page.usedBytes + lengthBytes > PAGE_BYTES) {
      page = new EntryPage(this.#headerBytes);
      this.pages.push(page);
    }
    assert(page.usedBytes + lengthBytes <= PAGE_BYTES, "an entry fits a page");
    assert(lengthBytes % 4 === 0, "entries keep to a grid of 4 bytes");
    this.bytes = page.bytes;
    this.at = page.usedBytes;
    entry.at(this.bytes, this.at);
    entry.kind = kind;
    entry.lengthBytes = lengthBytes;
    entry.slice = slice;
    page.usedBytes += lengthBytes;
    page.entries++;
  }
}

/** The largest entry there can be, so that it is known to fit a page. */
export const ENTRY_BYTES_MAX = Math.max(
  ENTRY_REGIONS.size + 4 * REGIONS_PER_ENTRY_MAX,
  ENTRY_RECORD.size + 1024,
);
