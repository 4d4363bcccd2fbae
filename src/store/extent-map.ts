// SPDX-License-Identifier: Apache-2.0
//
// The extent map of one member: for each 1 MiB extent of the slice where it lies on the disk, the
// epoch of its last write (stamp), and the mapping's number, which is never used again on this
// disk. Kept in chunks that are made when they are first needed: 16 bytes per mapped extent, so
// about 16 MiB per TiB stored.

import { assert } from "#base/assert.ts";
import type { MapEntry } from "#base/member-store.ts";

const CHUNK_EXTENTS = 256;

class Chunk {
  /** Physical index + 1; 0: not mapped. */
  readonly physical = new Uint32Array(CHUNK_EXTENTS);
  readonly stamp = new Uint32Array(CHUNK_EXTENTS);
  readonly mapping = new Float64Array(CHUNK_EXTENTS);
  used = 0;
}

export const NOT_MAPPED = -1;

export class ExtentMap {
  extents: number;
  mapped = 0;
  readonly #chunks: (Chunk | undefined)[];

  constructor(extents: number) {
    this.extents = extents;
    this.#chunks = new Array<Chunk | undefined>(Math.ceil(extents / CHUNK_EXTENTS)).fill(undefined);
  }

  growTo(extents: number): void {
    assert(extents >= this.extents, "a slice does not shrink (H11)");
    this.extents = extents;
    while (this.#chunks.length < Math.ceil(extents / CHUNK_EXTENTS)) this.#chunks.push(undefined);
  }

  /** Where the extent lies on the disk, or NOT_MAPPED. */
  physicalOf(extent: number): number {
    const chunk = this.#chunks[Math.floor(extent / CHUNK_EXTENTS)];
    return chunk === undefined
      ? NOT_MAPPED
      : (chunk.physical[extent % CHUNK_EXTENTS] as number) - 1;
  }

  /** The stamp, or 0 when not mapped. */
  stampOf(extent: number): number {
    const chunk = this.#chunks[Math.floor(extent / CHUNK_EXTENTS)];
    return chunk === undefined ? 0 : (chunk.stamp[extent % CHUNK_EXTENTS] as number);
  }

  mappingOf(extent: number): number {
    const chunk = this.#chunks[Math.floor(extent / CHUNK_EXTENTS)];
    return chunk === undefined ? 0 : (chunk.mapping[extent % CHUNK_EXTENTS] as number);
  }

  set(extent: number, physical: number, stamp: number, mapping: number): void {
    assert(extent < this.extents, "an extent lies within its slice");
    const index = Math.floor(extent / CHUNK_EXTENTS);
    let chunk = this.#chunks[index];
    if (chunk === undefined) {
      chunk = new Chunk();
      this.#chunks[index] = chunk;
    }
    const at = extent % CHUNK_EXTENTS;
    if (chunk.physical[at] === 0) {
      chunk.used++;
      this.mapped++;
    }
    chunk.physical[at] = physical + 1;
    chunk.stamp[at] = stamp;
    chunk.mapping[at] = mapping;
  }

  setStamp(extent: number, stamp: number): void {
    const chunk = this.#chunks[Math.floor(extent / CHUNK_EXTENTS)];
    assert(chunk !== undefined, "only a mapped extent is stamped");
    chunk.stamp[extent % CHUNK_EXTENTS] = stamp;
  }

  /** Forgets the extent; answers where it lay, or NOT_MAPPED. */
  remove(extent: number): number {
    const index = Math.floor(extent / CHUNK_EXTENTS);
    const chunk = this.#chunks[index];
    if (chunk === undefined) return NOT_MAPPED;
    const at = extent % CHUNK_EXTENTS;
    const physical = (chunk.physical[at] as number) - 1;
    if (physical === NOT_MAPPED) return NOT_MAPPED;
    chunk.physical[at] = 0;
    chunk.stamp[at] = 0;
    chunk.mapping[at] = 0;
    chunk.used--;
    this.mapped--;
    if (chunk.used === 0) this.#chunks[index] = undefined;
    return physical;
  }

  /** The first mapped extent at or behind `from` and before `end`, or NOT_MAPPED. */
  next(from: number, end = this.extents): number {
    let extent = from;
    while (extent < end) {
      const chunk = this.#chunks[Math.floor(extent / CHUNK_EXTENTS)];
      if (chunk === undefined) {
        extent = (Math.floor(extent / CHUNK_EXTENTS) + 1) * CHUNK_EXTENTS;
      } else if (chunk.physical[extent % CHUNK_EXTENTS] !== 0) {
        return extent;
      } else {
        extent++;
      }
    }
    return NOT_MAPPED;
  }

  /** Mapped extents from `from` on, ascending, at most `limit`. */
  list(from: number, limit: number): MapEntry[] {
    const entries: MapEntry[] = [];
    for (
      let extent = this.next(from);
      extent !== NOT_MAPPED && entries.length < limit;
      extent = this.next(extent + 1)
    ) {
      entries.push({ extent, stamp: this.stampOf(extent) });
    }
    return entries;
  }
}
