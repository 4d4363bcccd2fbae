// SPDX-License-Identifier: Apache-2.0
//
// Digests of extents: how a resync finds out whether an extent that the target may lack differs at
// all (activity is kept by regions of four extents, so most of what may differ does not). A head
// asks by a `read` verb with FLAG_DIGEST; the answer's payload is one block checksum (R9's, u32,
// little-endian) per block of the range instead of its bytes.

import { blockChecksum } from "#base/checksum.ts";
import { BLOCK_BYTES } from "#base/grains.ts";
import { LOST_CHECKSUM } from "#base/member-store.ts";
import type { Memory } from "#base/memory.ts";

/** Of a `read` verb: answer with digests. */
export const FLAG_DIGEST = 64;
/**
 * Of a `read` verb with FLAG_DIGEST, over one whole extent: checksums as they are stored
 * (MemberStore.checksumsOf), no block is read. Who does not know it reads the blocks.
 */
export const FLAG_STORED = 512;

export function digestBytes(lengthBytes: number): number {
  return (lengthBytes / BLOCK_BYTES) * 4;
}

/** Writes the digests of `lengthBytes` at `fromOffset` to `toOffset`; the two may be the same. */
export function putDigests(
  memory: Memory,
  fromOffset: number,
  lengthBytes: number,
  toOffset: number,
): void {
  for (let done = 0; done < lengthBytes; done += BLOCK_BYTES) {
    const value = blockChecksum(memory.bytes, fromOffset + done, BLOCK_BYTES);
    memory.view.setUint32(toOffset + (done / BLOCK_BYTES) * 4, value, true);
  }
}

/** Whether the bytes at `fromOffset` have the digests at `digestOffset`. */
export function matchesDigests(
  memory: Memory,
  fromOffset: number,
  lengthBytes: number,
  digestOffset: number,
): boolean {
  for (let done = 0; done < lengthBytes; done += BLOCK_BYTES) {
    const value = blockChecksum(memory.bytes, fromOffset + done, BLOCK_BYTES);
    if (memory.view.getUint32(digestOffset + (done / BLOCK_BYTES) * 4, true) !== value)
      return false;
  }
  return true;
}

/** Writes checksums as they are stored to `toOffset`. */
export function putStored(memory: Memory, checksums: Uint32Array, toOffset: number): void {
  for (const [block, checksum] of checksums.entries()) {
    memory.view.setUint32(toOffset + 4 * block, checksum, true);
  }
}

/** The first block whose checksums differ, and how many do; blocks that are lost do not count. */
export function differing(
  memory: Memory,
  checksums: Uint32Array,
  digestOffset: number,
): { first: number; count: number } {
  const found = { first: -1, count: 0 };
  for (const [block, checksum] of checksums.entries()) {
    const other = memory.view.getUint32(digestOffset + 4 * block, true);
    if (checksum === other || checksum === LOST_CHECKSUM || other === LOST_CHECKSUM) continue;
    if (found.count === 0) found.first = block;
    found.count++;
  }
  return found;
}
