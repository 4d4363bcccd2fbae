// SPDX-License-Identifier: Apache-2.0
//
// Memory: the arena all I/O buffers of a reactor come from. Buffers are named by their offset in
// the arena, never by a view: the kernel gets base address plus offset, the simulator a plain
// array, and nobody allocates on the data path. Blocks are powers of two from 4 KiB, aligned to
// their size up to 4 KiB (direct I/O asks for that); freed blocks wait on a list per size and
// buddies are not merged, since the sizes asked for are few.

import { assert } from "./assert.ts";

/** No buffer: what allocate answers when the arena is used up (back-pressure, R13). */
export const NO_BUFFER = -1;
const SMALLEST_SHIFT = 12;
const LARGEST_SHIFT = 25;

export class Memory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Address of the arena's first byte; 0 where there is no kernel to tell it to. */
  readonly baseAddress: number;
  #freeFrom = 0;
  readonly #freeBlocks: number[][] = [];
  readonly #shiftAt = new Map<number, number>();
  #usedBytes = 0;
  #allocations = 0;

  constructor(arena: ArrayBuffer, baseAddress = 0) {
    this.bytes = new Uint8Array(arena);
    this.view = new DataView(arena);
    this.baseAddress = baseAddress;
    for (let shift = 0; shift <= LARGEST_SHIFT; shift++) this.#freeBlocks.push([]);
  }

  /** The offset of a buffer of at least `lengthBytes` (1 to 32 MiB), or NO_BUFFER. Not zeroed. */
  allocate(lengthBytes: number): number {
    assert(lengthBytes > 0 && lengthBytes <= 1 << LARGEST_SHIFT, "buffer length in range");
    const shift = Math.max(SMALLEST_SHIFT, 32 - Math.clz32(lengthBytes - 1));
    const size = 2 ** shift;
    let offset = (this.#freeBlocks[shift] as number[]).pop();
    if (offset === undefined) {
      if (this.#freeFrom + size > this.bytes.length) return this.#split(shift);
      offset = this.#freeFrom;
      this.#freeFrom += size;
    }
    this.#shiftAt.set(offset, shift);
    this.#usedBytes += size;
    this.#allocations++;
    return offset;
  }

  /** Gives a buffer back. Its owner must be done with it: the kernel too. */
  release(offset: number): void {
    const shift = this.#shiftAt.get(offset);
    assert(shift !== undefined, "a buffer is released once");
    this.#shiftAt.delete(offset);
    this.#usedBytes -= 2 ** shift;
    (this.#freeBlocks[shift] as number[]).push(offset);
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
   * the system until something is allocated again. Walks all free blocks: for quiet times.
   */
  freeRanges(): { offset: number; lengthBytes: number }[] {
    const blocks = this.#freeBlocks.flatMap((offsets, shift) =>
      offsets.map((offset) => ({ offset, lengthBytes: 2 ** shift })),
    );
    blocks.sort((left, right) => left.offset - right.offset);
    const ranges: { offset: number; lengthBytes: number }[] = [];
    for (const block of blocks) {
      const last = ranges.at(-1);
      if (last !== undefined && last.offset + last.lengthBytes === block.offset) {
        last.lengthBytes += block.lengthBytes;
      } else {
        ranges.push(block);
      }
    }
    return ranges;
  }

  #split(shift: number): number {
    for (let larger = shift + 1; larger <= LARGEST_SHIFT; larger++) {
      const block = (this.#freeBlocks[larger] as number[]).pop();
      if (block === undefined) continue;
      for (let half = larger - 1; half >= shift; half--) {
        (this.#freeBlocks[half] as number[]).push(block + 2 ** half);
      }
      this.#shiftAt.set(block, shift);
      this.#usedBytes += 2 ** shift;
      this.#allocations++;
      return block;
    }
    return NO_BUFFER;
  }
}
