// SPDX-License-Identifier: Apache-2.0
//
// The keepsake (H6): after the death of a process alone nothing acked is missing; after a power
// cut, and whenever it is not to be believed, the disk is what it would be without it.

import { describe, expect, test } from "bun:test";
import { UNWRITTEN } from "#base/checksum.ts";
import { Prng } from "#base/prng.ts";
import { KEEPSAKE_BYTES_MIN, Keepsake } from "./keepsake.ts";
import type { KeptBlocks } from "./keepsake.ts";

const SEED = 0x1234;
const place = { slice: 3, extent: 7, mapping: 2 ** 33 + 5, block: 10, count: 2 };
const checksums = new Uint32Array(256).map((_, index) => index + 1);

function begun(bytes = new Uint8Array(KEEPSAKE_BYTES_MIN)) {
  const keepsake = new Keepsake(bytes);
  keepsake.begin(SEED, 5, 3);
  return { bytes, keepsake };
}

function next(bytes: Uint8Array, incarnation = 5, seed = SEED) {
  return new Keepsake(bytes).inherit(seed, incarnation);
}

describe("keepsake", () => {
  test("noted → inherited by the next run, in order, with the boot's first incarnation", () => {
    const { bytes, keepsake } = begun();
    keepsake.entry(2 ** 32 + 9, new Uint8Array([9, 8, 7, 6, 5]), 1, 4);
    keepsake.written(place, checksums);
    keepsake.cleared({ ...place, block: 11, count: 1 });
    const left = next(bytes);
    expect(left?.bootIncarnation).toBe(3);
    expect(left?.entries).toEqual([{ number: 2 ** 32 + 9, bytes: new Uint8Array([8, 7, 6, 5]) }]);
    expect(left?.blocks).toEqual([
      { ...place, checksums: new Uint32Array([11, 12]) },
      { ...place, block: 11, count: 1, checksums: null },
    ]);
  });

  test("a flush cycle → what came before goes once it ended well, what came after stays", () => {
    const { bytes, keepsake } = begun();
    keepsake.cleared({ ...place, block: 1 });
    keepsake.turn();
    keepsake.cleared({ ...place, block: 2 });
    const both: KeptBlocks[] = next(bytes.slice())?.blocks ?? [];
    expect(both.map((kept) => kept.block)).toEqual([1, 2]);
    keepsake.settled();
    const rest: KeptBlocks[] = next(bytes.slice())?.blocks ?? [];
    expect(rest.map((kept) => kept.block)).toEqual([2]);
    keepsake.turn();
    keepsake.settled();
    expect(next(bytes)?.blocks).toEqual([]);
  });

  test("a flush cycle that failed, another one begun (seed 911895) → the order stays", () => {
    const { bytes, keepsake } = begun();
    keepsake.cleared(place);
    keepsake.turn();
    keepsake.written(place, checksums);
    keepsake.turn(); // the cycle before has not settled anything
    keepsake.cleared({ ...place, block: 99 });
    const left = next(bytes)?.blocks ?? [];
    expect(left.map(({ block, checksums: kept }) => [block, kept !== null])).toEqual([
      [place.block, false],
      [place.block, true],
      [99, false],
    ]);
  });

  test("zero, of another disk, or of another run than the last → not believed", () => {
    expect(next(new Uint8Array(KEEPSAKE_BYTES_MIN))).toBeNull();
    const { bytes } = begun();
    expect(next(bytes.slice(), 5, SEED + 1)).toBeNull();
    // Opened elsewhere in between, so its incarnation is another.
    expect(next(bytes.slice(), 6)).toBeNull();
    expect(next(bytes.slice(), 4)).toBeNull();
  });

  test("the next run dies while it takes over → the run after that inherits as well", () => {
    const { bytes, keepsake } = begun();
    keepsake.cleared(place);
    expect(next(bytes, 5)?.blocks.length).toBe(1);
    // Its incarnation may or may not be on the disk.
    expect(next(bytes.slice(), 5)?.blocks.length).toBe(1);
    expect(next(bytes, 6)?.blocks.length).toBe(1);
    expect(next(bytes, 7)?.blocks.length).toBe(1);
    expect(next(bytes, 5)).toBeNull();
  });

  test("full → crowded long before; run over → short until settled, the rest good", () => {
    const { bytes, keepsake } = begun();
    let noted = 0;
    while (!keepsake.crowded) {
      keepsake.written(place, checksums);
      noted++;
    }
    expect(noted).toBeGreaterThan(500);
    const isShort = () => keepsake.isShort;
    for (; !isShort(); noted++) keepsake.written(place, checksums);
    noted--;
    // What came before the gap is inherited, what came behind it is not noted.
    keepsake.cleared(place);
    expect(next(bytes.slice())?.blocks.length).toBe(noted);
    keepsake.turn();
    expect(isShort()).toBe(true);
    keepsake.cleared(place);
    expect(next(bytes.slice())?.blocks.length).toBe(noted + 1);
    keepsake.settled();
    expect(isShort()).toBe(false);
    expect(next(bytes)?.blocks.length).toBe(1);
  });

  test("any byte of what is used changed → not believed, or the very same", () => {
    const prng = new Prng(3);
    const { bytes, keepsake } = begun();
    keepsake.entry(7, new Uint8Array([1, 2, 3, 4]), 0, 4);
    keepsake.written(place, checksums);
    keepsake.turn();
    keepsake.cleared(place);
    const whole = JSON.stringify(next(bytes.slice()));
    let refused = 0;
    const used = [...Array.from({ length: 140 }, (_, at) => at)];
    const second = 64 + Math.floor((bytes.length - 64) / 8) * 4;
    for (let at = 0; at < 40; at++) used.push(second + at);
    for (const at of used) {
      const changed = bytes.slice();
      changed[at] = (changed[at] as number) ^ (1 << prng.below(8));
      const left = next(changed);
      // Which half is the newer one, and the boot, are the process's to write whole.
      if (left === null) refused++;
      else if (at < 16 || at >= 36) {
        const same = { ...left, bootIncarnation: 3 };
        if (at >= 64) expect(JSON.stringify(same)).toBe(whole);
      }
    }
    expect(refused).toBeGreaterThan(100);
    expect(UNWRITTEN).toBe(0);
  });
});
