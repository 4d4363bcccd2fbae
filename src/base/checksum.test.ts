// SPDX-License-Identifier: Apache-2.0
//
// Checksums: one value for the same bytes, however long they are and wherever they lie.

import { expect, test } from "bun:test";
import { blockChecksum, crc32 } from "./checksum.ts";
import { BLOCK_BYTES } from "./grains.ts";
import { Memory } from "./memory.ts";
import { Prng } from "./prng.ts";

test("the check value of the catalogue of CRC algorithms (CRC-32/ISO-HDLC)", () => {
  expect(crc32(new TextEncoder().encode("123456789"))).toBe(0xcbf43926);
});

test("every length up to 200, any place, any seed → as the native routine has it", () => {
  const prng = new Prng(3);
  const bytes = new Uint8Array(512);
  for (let at = 0; at < bytes.length; at++) bytes[at] = prng.u32();
  for (let length = 0; length <= 200; length++) {
    const start = prng.below(300);
    const seed = prng.chance(0.5) ? prng.u32() : 0;
    const wanted = Bun.hash.crc32(bytes.slice(start, start + length), seed) >>> 0;
    expect(crc32(bytes, start, length, seed)).toBe(wanted);
  }
});

test("in parts → as in one, whichever part is short", () => {
  const bytes = new TextEncoder().encode("what is long enough for the native routine ".repeat(4));
  for (let split = 0; split <= bytes.length; split++) {
    const seed = crc32(bytes, 0, split);
    expect(crc32(bytes, split, bytes.length - split, seed)).toBe(crc32(bytes));
  }
});

test("pages of Memory → the bytes as they are now, aligned or not, also far apart", () => {
  const memory = new Memory(new ArrayBuffer(16 << 20));
  const prng = new Prng(5);
  for (let round = 0; round < 2000; round++) {
    const aligned = prng.below(4000) * BLOCK_BYTES;
    const at = prng.chance(0.2) ? aligned + prng.below(8) * 512 : aligned;
    memory.view.setUint32(at, prng.u32());
    const copy = memory.bytes.slice(at, at + BLOCK_BYTES);
    const ofPage = blockChecksum(memory.page(at), 0, BLOCK_BYTES);
    expect(ofPage).toBe(blockChecksum(copy, 0, BLOCK_BYTES));
  }
});
