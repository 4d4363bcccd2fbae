// SPDX-License-Identifier: Apache-2.0
//
// Which extents of the disk are free: one bit each, next-fit from a cursor, after a hint where
// there is one, so that what is written one after the other lies so. Rebuilt from the extent maps
// at every opening; nothing of it is on disk. The reserves (R10) are numbers held back from the
// others.

import { assert } from "#base/assert.ts";

export const NO_EXTENT = -1;
const WORD_BITS = 32;

export class FreeSpace {
  readonly extents: number;
  /** Extents that may be given out, reserved ones included. */
  free: number;
  /** Of these, held back for members (R10). */
  reserved = 0;
  /** A set bit is in use, or freed by an entry that is not durable yet. */
  readonly #used: Uint32Array;
  #cursor = 0;

  constructor(extents: number) {
    this.extents = extents;
    this.free = extents;
    this.#used = new Uint32Array(Math.ceil(extents / WORD_BITS));
  }

  isUsed(extent: number): boolean {
    return (((this.#used[extent >>> 5] as number) >>> (extent & 31)) & 1) === 1;
  }

  /** Marks an extent used; false when it was already (two owners: the metadata is damaged). */
  claim(extent: number): boolean {
    assert(extent >= 0 && extent < this.extents, "an extent lies on the disk");
    if (this.isUsed(extent)) return false;
    this.#used[extent >>> 5] = (this.#used[extent >>> 5] as number) | (1 << (extent & 31));
    this.free--;
    return true;
  }

  /** A free extent, now in use: `hint` if it is free, else the next behind the cursor. */
  allocate(hint: number): number {
    if (this.free === 0) return NO_EXTENT;
    let extent = hint;
    if (hint < 0 || hint >= this.extents || this.isUsed(hint)) extent = this.#search();
    assert(this.claim(extent), "an allocated extent was free");
    this.#cursor = extent + 1 === this.extents ? 0 : extent + 1;
    return extent;
  }

  /** H9: only once the entry that freed it is durable, and no I/O to it is under way. */
  release(extent: number): void {
    assert(this.isUsed(extent), "an extent is released once");
    this.#used[extent >>> 5] = (this.#used[extent >>> 5] as number) & ~(1 << (extent & 31));
    this.free++;
  }

  #search(): number {
    let extent = this.#cursor;
    for (let steps = 0; steps <= this.extents + WORD_BITS;) {
      if (extent >= this.extents) extent = 0;
      const word = ~(this.#used[extent >>> 5] as number) >>> (extent & 31);
      if (word === 0) {
        steps += WORD_BITS - (extent & 31);
        extent = (extent | 31) + 1;
        continue;
      }
      const found = extent + 31 - Math.clz32(word & -word);
      if (found < this.extents) return found;
      steps += WORD_BITS;
      extent = 0;
    }
    throw new Error("no free extent although some are counted free");
  }
}
