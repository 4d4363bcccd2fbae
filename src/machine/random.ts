// SPDX-License-Identifier: Apache-2.0
//
// The real randomness: the kernel's, for everything from keys to jitter.

import { getRandomValues } from "node:crypto";
import type { Random } from "#base/world.ts";

/** What one call of the kernel's interface gives at most, bytes. */
const PIECE_BYTES_MAX = 65536;

export function createRandom(): Random {
  const words = new Uint32Array(1);
  return {
    fill(bytes) {
      for (let at = 0; at < bytes.length; at += PIECE_BYTES_MAX) {
        const piece = bytes.subarray(at, at + PIECE_BYTES_MAX);
        getRandomValues(piece as Uint8Array<ArrayBuffer>);
      }
    },
    fraction() {
      getRandomValues(words);
      return (words[0] as number) / 2 ** 32;
    },
  };
}
