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
