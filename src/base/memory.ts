// SPDX-License-Identifier: Apache-2.0
//
// Memory: the arena all I/O buffers of a reactor come from. Buffers are named by their offset in
// the arena, never by a view: the kernel gets base address plus offset, the simulator a plain
// array, and nobody allocates on the data path. Blocks are powers of two from 4 KiB, aligned to
// their size within the arena (direct I/O asks for 4 KiB).
//
// A buddy system that puts merging off: a block that comes back waits on its size's list to be
// taken again, and is merged with its other half only where many wait already, or when a larger one
// is asked for and there is none.
//
// Invariants
// - Every page belongs to one block, and a block's first page knows its size and whether it is
//   free.
// - What is free can always be had again in the largest blocks that lie in it: whoever asked for
//   many small buffers leaves no lasting mark (R13).

import { assert } from "./assert.ts";

/** No buffer: what allocate answers when the arena is used up (back-pressure, R13). */
export const NO_BUFFER = -1;
const SMALLEST_SHIFT = 12;
const PAGE_BYTES = 1 << SMALLEST_SHIFT;
const LARGEST_SHIFT = 25;
/** Blocks of one size that wait before those that come back are merged. */
const WAITING_MAX = 64;
/** The same for blocks from 128 KiB on: splitting one costs little beside its use. */
const WAITING_LARGE_MAX = 4;
const LARGE_SHIFT = 17;
const NONE = -1;
/** Pages of which a view is kept: those of busy buffers, which are used again and again. */
const PAGE_VIEWS_MAX = 1024;

export class Memory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Address of the arena's first byte; 0 where there is no kernel to tell it to. */
  readonly baseAddress: number;
  readonly #pages: number;
  readonly #views = new Array<Uint8Array | undefined>(PAGE_VIEWS_MAX).fill(undefined);
  /** Per page that begins a block: its size as a power of two, 0 where none begins. */
  readonly #shifts: Uint8Array;
  readonly #isFree: Uint8Array;
  /** Free blocks of a size, as a list through their first pages. */
  readonly #heads = new Int32Array(LARGEST_SHIFT + 1).fill(NONE);
  readonly #counts = new Int32Array(LARGEST_SHIFT + 1);
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** Pages up to here were handed out at some time. */
  #touchedPages = 0;
  #usedBytes = 0;
  #allocations = 0;
  #releases = 0;
  /** Releases so far when all was merged last. */
  #mergedAt = 0;

  constructor(arena: ArrayBuffer, baseAddress = 0) {
    this.bytes = new Uint8Array(arena);
    this.view = new DataView(arena);
    this.baseAddress = baseAddress;
    this.#pages = this.bytes.length >>> SMALLEST_SHIFT;
    this.#shifts = new Uint8Array(this.#pages);
    this.#isFree = new Uint8Array(this.#pages);
    this.#next = new Int32Array(this.#pages);
    this.#previous = new Int32Array(this.#pages);
    this.#begin();
  }

  /** The offset of a buffer of at least `lengthBytes` (1 to 32 MiB), or NO_BUFFER. Not zeroed. */
  allocate(lengthBytes: number): number {
    assert(lengthBytes > 0 && lengthBytes <= 1 << LARGEST_SHIFT, "buffer length in range");
    const shift = Math.max(SMALLEST_SHIFT, 32 - Math.clz32(lengthBytes - 1));
    let page = this.#take(shift);
    if (page === NONE && this.#mergeAll(shift)) page = this.#take(shift);
    if (page === NONE) return NO_BUFFER;
    this.#touchedPages = Math.max(this.#touchedPages, page + pagesOf(shift));
    this.#usedBytes += 2 ** shift;
    this.#allocations++;
    return page * PAGE_BYTES;
  }

  /**
   * The page at `offset` as an array of its own. Kept for the next time: making one costs half of
   * what its checksum does.
   */
  page(offset: number): Uint8Array {
    const at = (offset >>> SMALLEST_SHIFT) % PAGE_VIEWS_MAX;
    const known = this.#views[at];
    if (known !== undefined && known.byteOffset === offset) return known;
    const made = this.bytes.subarray(offset, offset + PAGE_BYTES);
    // What begins within a page is looked at once.
    if (offset % PAGE_BYTES === 0) this.#views[at] = made;
    return made;
  }

  /** Gives a buffer back. Its owner must be done with it: the kernel too. */
  release(offset: number): void {
    const page = offset >>> SMALLEST_SHIFT;
    const shift = this.#shifts[page] as number;
    const isBlock = offset % PAGE_BYTES === 0 && shift !== 0;
    assert(isBlock && this.#isFree[page] === 0, "a buffer is released once");
    this.#usedBytes -= 2 ** shift;
    this.#releases++;
    this.#putBack(page, shift);
  }

  /** Bytes in buffers that somebody holds. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Buffers handed out so far; where it stands still, nothing is going on. */
  get allocations(): number {
    return this.#allocations;
  }

  /**
   * What has been used and is free, neighbours as one, in order: its pages may be given back to
   * the system until something is allocated again. Walks all blocks: for quiet times.
   */
  freeRanges(): { offset: number; lengthBytes: number }[] {
    const ranges: { offset: number; lengthBytes: number }[] = [];
    let from = NONE;
    const end = this.#touchedPages;
    for (let page = 0; page <= end;) {
      const isFree = page < end && this.#isFree[page] === 1;
      if (isFree && from === NONE) from = page;
      if (!isFree && from !== NONE) {
        ranges.push({ offset: from * PAGE_BYTES, lengthBytes: (page - from) * PAGE_BYTES });
        from = NONE;
      }
      if (page === end) break;
      page = Math.min(end, page + pagesOf(this.#shifts[page] as number));
    }
    return ranges;
  }

  /** The whole arena as blocks as large as they fit, the first ones to be taken first. */
  #begin(): void {
    const blocks: [number, number][] = [];
    for (let page = 0; page < this.#pages;) {
      let shift = LARGEST_SHIFT;
      while (page % pagesOf(shift) !== 0 || page + pagesOf(shift) > this.#pages) shift--;
      blocks.push([page, shift]);
      page += pagesOf(shift);
    }
    for (const [page, shift] of blocks.reverse()) this.#put(page, shift);
  }

  /** A block of that size, split off a larger one if need be. */
  #take(shift: number): number {
    let from = shift;
    while (from <= LARGEST_SHIFT && this.#heads[from] === NONE) from++;
    if (from > LARGEST_SHIFT) return NONE;
    const page = this.#heads[from] as number;
    this.#unlink(page, from);
    for (let half = from - 1; half >= shift; half--) this.#put(page + pagesOf(half), half);
    this.#shifts[page] = shift;
    return page;
  }

  /** Free again; with its other half where that is free too and enough of its size wait. */
  #putBack(first: number, firstShift: number): void {
    let page = first;
    let shift = firstShift;
    while (shift < LARGEST_SHIFT) {
      const most = shift < LARGE_SHIFT ? WAITING_MAX : WAITING_LARGE_MAX;
      if ((this.#counts[shift] as number) < most) break;
      const other = this.#otherHalf(page, shift);
      if (other === NONE) break;
      page = this.#merge(page, other, shift);
      shift++;
    }
    this.#put(page, shift);
  }

  /** Merges whatever can be, if that may give a block of that size. */
  #mergeAll(wanted: number): boolean {
    const freeBytes = this.#pages * PAGE_BYTES - this.#usedBytes;
    if (freeBytes < 2 ** wanted || this.#mergedAt === this.#releases) return false;
    this.#mergedAt = this.#releases;
    for (let shift = SMALLEST_SHIFT; shift < LARGEST_SHIFT; shift++) {
      for (let page = this.#heads[shift] as number; page !== NONE;) {
        let next = this.#next[page] as number;
        const other = this.#otherHalf(page, shift);
        if (other !== NONE) {
          if (next === other) next = this.#next[other] as number;
          this.#unlink(page, shift);
          this.#put(this.#merge(page, other, shift), shift + 1);
        }
        page = next;
      }
    }
    return true;
  }

  /** The first page of a block's other half, if all of that is free; else NONE. */
  #otherHalf(page: number, shift: number): number {
    const other = page ^ pagesOf(shift);
    if (other + pagesOf(shift) > this.#pages) return NONE;
    return this.#isFree[other] === 1 && this.#shifts[other] === shift ? other : NONE;
  }

  /** Takes the other half off its list; answers the first page of both, which is on none. */
  #merge(page: number, other: number, shift: number): number {
    this.#unlink(other, shift);
    const second = Math.max(page, other);
    this.#shifts[second] = 0;
    return second - pagesOf(shift);
  }

  #put(page: number, shift: number): void {
    const head = this.#heads[shift] as number;
    this.#shifts[page] = shift;
    this.#isFree[page] = 1;
    this.#next[page] = head;
    this.#previous[page] = NONE;
    if (head !== NONE) this.#previous[head] = page;
    this.#heads[shift] = page;
    this.#counts[shift] = (this.#counts[shift] as number) + 1;
  }

  #unlink(page: number, shift: number): void {
    const next = this.#next[page] as number;
    const previous = this.#previous[page] as number;
    if (previous === NONE) this.#heads[shift] = next;
    else this.#next[previous] = next;
    if (next !== NONE) this.#previous[next] = previous;
    this.#isFree[page] = 0;
    this.#counts[shift] = (this.#counts[shift] as number) - 1;
  }
}

function pagesOf(shift: number): number {
  return 1 << (shift - SMALLEST_SHIFT);
}
