// SPDX-License-Identifier: Apache-2.0
//
// Memory: buffers never overlap, come back, and run out by an answer rather than by a throw.

import { expect, test } from "bun:test";
import { Memory, NO_BUFFER } from "./memory.ts";
import { Prng } from "./prng.ts";

test("random allocations and releases → no two live buffers overlap, none is misaligned", () => {
  const memory = new Memory(new ArrayBuffer(8 << 20));
  const prng = new Prng(7);
  const live: { offset: number; length: number }[] = [];
  for (let round = 0; round < 5000; round++) {
    if (live.length > 0 && prng.chance(0.5)) {
      const [gone] = live.splice(prng.below(live.length), 1);
      memory.release((gone as { offset: number }).offset);
      continue;
    }
    const length = prng.between(1, 300_000);
    const offset = memory.allocate(length);
    if (offset === NO_BUFFER) continue;
    expect(offset % 4096).toBe(0);
    expect(offset + length).toBeLessThanOrEqual(8 << 20);
    for (const other of live) {
      expect(offset + length <= other.offset || other.offset + other.length <= offset).toBe(true);
    }
    live.push({ offset, length });
  }
  for (const { offset } of live) memory.release(offset);
  expect(memory.usedBytes).toBe(0);
});

test("arena used up → NO_BUFFER; released → served again; released twice → an assertion", () => {
  const memory = new Memory(new ArrayBuffer(8192));
  const first = memory.allocate(4096);
  const second = memory.allocate(100);
  expect(memory.allocate(1)).toBe(NO_BUFFER);
  memory.release(second);
  expect(memory.allocate(1)).toBe(second);
  memory.release(first);
  expect(() => memory.release(first)).toThrow("once");
});

test("R13: many small buffers of every size, all given back → the largest are there again", () => {
  const memory = new Memory(new ArrayBuffer(96 << 20));
  for (let length = 4096; length <= 1 << 20; length *= 2) {
    const held: number[] = [];
    for (let at = memory.allocate(length); at !== NO_BUFFER; at = memory.allocate(length)) {
      held.push(at);
    }
    expect(held).toHaveLength((96 << 20) / length);
    // In an order that leaves halves behind.
    for (const parity of [0, 1]) {
      for (const at of held) if ((at / length) % 2 === parity) memory.release(at);
    }
  }
  for (let count = 0; count < 3; count++) expect(memory.allocate(32 << 20)).not.toBe(NO_BUFFER);
  expect(memory.allocate(4096)).toBe(NO_BUFFER);
});

test("random sizes, all given back → as before; an odd arena is used to its end", () => {
  const prng = new Prng(8);
  for (let round = 0; round < 60; round++) {
    const pages = prng.between(1, 3000);
    const memory = new Memory(new ArrayBuffer(pages * 4096 + prng.below(4096)));
    const live: number[] = [];
    for (let step = 0; step < 2000; step++) {
      if (live.length > 0 && prng.chance(0.5)) {
        memory.release(live.splice(prng.below(live.length), 1)[0] as number);
        continue;
      }
      const at = memory.allocate(4096 * 2 ** prng.below(9));
      if (at !== NO_BUFFER) live.push(at);
    }
    const used = memory.usedBytes;
    const free = memory.freeRanges().reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    expect(free + used).toBeLessThanOrEqual(pages * 4096);
    for (const at of live) memory.release(at);
    expect(memory.usedBytes).toBe(0);
    const ranges = memory.freeRanges();
    expect(ranges.length).toBeLessThanOrEqual(1);
    // As large as they fit, from the largest down: all of it.
    let left = pages * 4096;
    for (let bytes = 32 << 20; bytes >= 4096; bytes /= 2) {
      while (left >= bytes) {
        expect(memory.allocate(bytes)).not.toBe(NO_BUFFER);
        left -= bytes;
      }
    }
    expect(memory.allocate(1)).toBe(NO_BUFFER);
  }
});
