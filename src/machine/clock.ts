// SPDX-License-Identifier: Apache-2.0
//
// The real clock: CLOCK_BOOTTIME (it runs on while the machine sleeps), read at every use. A value
// kept across a wait is a stale-read bug (R4). Works on every thread.

import type { Clock } from "#base/world.ts";
import { mapMemory, mappedBytes } from "./arena.ts";
import { address, libc } from "./libc.ts";

const CLOCK_BOOTTIME = 7;
const TIMESPEC_BYTES = 16;

/** A clock of its own per thread: it owns the memory the kernel writes the time into. */
export function createClock(): Clock {
  const start = mapMemory(TIMESPEC_BYTES);
  const words = new Uint32Array(mappedBytes(start, TIMESPEC_BYTES));
  const at = address(start);
  return {
    nowMs() {
      libc.clock_gettime(CLOCK_BOOTTIME, at);
      return (words[0] as number) * 1000 + (words[2] as number) / 1e6;
    },
    wallMs() {
      return Date.now();
    },
  };
}
