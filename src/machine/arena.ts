// SPDX-License-Identifier: Apache-2.0
//
// The arena: anonymous memory for Memory (base), never moved and never freed while the process
// lives, so that the kernel may write into it at any time. It lies inside one 4 GiB window, so that
// the upper half of every buffer's address is one constant. Pages come
// when touched.

import { toArrayBuffer } from "bun:ffi";
import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { Memory } from "#base/memory.ts";
import { address, errno, errnoName, libc, mappedAddress } from "./libc.ts";

export const ARENA_BYTES_DEFAULT = 256 << 20;
const ARENA_BYTES_MAX = 2 ** 32;
const PAGE_BYTES = 4096;

const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS_NORESERVE = 0x02 | 0x20 | 0x4000;

/** Maps `lengthBytes` of zeroed memory, aligned to the power of two that holds it. */
export function mapMemory(lengthBytes: number): number {
  assert(lengthBytes > 0 && lengthBytes <= ARENA_BYTES_MAX, "arena length in range");
  const window = 2 ** Math.ceil(Math.log2(Math.max(lengthBytes, PAGE_BYTES)));
  const mapped = libc.mmap(
    null,
    window * 2,
    PROT_READ_WRITE,
    MAP_PRIVATE_ANONYMOUS_NORESERVE,
    -1,
    0,
  );
  const start = mappedAddress(mapped);
  if (start === null) {
    throw new Fault("badMachine", `no memory for ${lengthBytes} bytes (${errnoName(errno())})`);
  }
  // What lies around the aligned part goes back: a naturally aligned power of two crosses no
  // window.
  const aligned = Math.ceil(start / window) * window;
  const length = Math.ceil(lengthBytes / PAGE_BYTES) * PAGE_BYTES;
  if (aligned > start) libc.munmap(address(start), aligned - start);
  const tail = start + window * 2 - (aligned + length);
  if (tail > 0) libc.munmap(address(aligned + length), tail);
  return aligned;
}

/** Bytes of mapped memory as an ArrayBuffer; whoever unmaps them sees to it that nobody uses it. */
export function mappedBytes(start: number, lengthBytes: number): ArrayBuffer {
  return toArrayBuffer(address(start), 0, lengthBytes);
}

/** A reactor's Memory over memory the kernel can be told of. */
export function createMemory(lengthBytes = ARENA_BYTES_DEFAULT): Memory {
  const start = mapMemory(lengthBytes);
  return new Memory(mappedBytes(start, lengthBytes), start);
}
