// SPDX-License-Identifier: Apache-2.0
//
// A set of a slice's extents as a bit map (8 KiB for 64 GiB): what is still to be copied or
// compared.

import { assert } from "#base/assert.ts";

export class ExtentSet {
  #words: Uint32Array;
  extents: number;
  #count = 0;

  constructor(extents: number) {
    this.extents = extents;
    this.#words = new Uint32Array(Math.ceil(extents / 32));
  }

  get count(): number {
    return this.#count;
  }

  /** A slice grows (H11). */
  growTo(extents: number): void {
    if (extents <= this.extents) return;
    const words = new Uint32Array(Math.ceil(extents / 32));
    words.set(this.#words);
    this.#words = words;
    this.extents = extents;
  }

  has(extent: number): boolean {
    return (((this.#words[extent >>> 5] ?? 0) >>> (extent & 31)) & 1) === 1;
  }

  /** Whether it was not there before. */
  add(extent: number): boolean {
    assert(extent >= 0 && extent < this.extents, "extent within the slice");
    if (this.has(extent)) return false;
    const word = extent >>> 5;
    this.#words[word] = ((this.#words[word] ?? 0) | (1 << (extent & 31))) >>> 0;
    this.#count++;
    return true;
  }

  /** Whether it was there. */
  delete(extent: number): boolean {
    if (!this.has(extent)) return false;
    const word = extent >>> 5;
    this.#words[word] = ((this.#words[word] ?? 0) & ~(1 << (extent & 31))) >>> 0;
    this.#count--;
    return true;
  }

  /** The first member at or after `from`, or -1. */
  next(from: number): number {
    for (let word = from >>> 5; word < this.#words.length; word++) {
      let bits = this.#words[word] ?? 0;
      if (word === from >>> 5) bits = (bits & (0xffffffff << (from & 31))) >>> 0;
      if (bits !== 0) return word * 32 + 31 - Math.clz32(bits & -bits);
    }
    return -1;
  }

  hasAnyIn(first: number, end: number): boolean {
    const found = this.next(first);
    return found >= 0 && found < end;
  }
}
