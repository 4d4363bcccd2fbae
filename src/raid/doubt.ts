// SPDX-License-Identifier: Apache-2.0
//
// Doubts on their way to a slice's head: a member whose scrub found wrong blocks says so with its
// grants, one map entry per extent (R9, base/verbs.ts). Said again until they are right, so that a
// lost one costs nothing; a head that does not know of them ignores them.

import { BLOCK_BYTES, BLOCKS_PER_EXTENT, EXTENT_BYTES } from "#base/grains.ts";
import type { MapEntry } from "#base/member-store.ts";

/** Blocks of one extent that may be wrong on some disk, from the first to the last. */
export interface DoubtedRange {
  offsetBytes: number;
  lengthBytes: number;
  /** The blocks are right: they are to be written again for their descriptor's sake. */
  rewrite: boolean;
}

/** Doubts in one grant. */
export const DOUBTS_PER_GRANT = 64;

const LAST_AT = BLOCKS_PER_EXTENT;
const REWRITE_AT = BLOCKS_PER_EXTENT ** 2;

export function entryOfDoubt(doubt: DoubtedRange): MapEntry {
  const extent = Math.floor(doubt.offsetBytes / EXTENT_BYTES);
  const first = Math.floor((doubt.offsetBytes % EXTENT_BYTES) / BLOCK_BYTES);
  const count = Math.max(1, Math.ceil(doubt.lengthBytes / BLOCK_BYTES));
  const last = Math.min(BLOCKS_PER_EXTENT, first + count) - 1;
  return { extent, stamp: first + LAST_AT * last + REWRITE_AT * (doubt.rewrite ? 1 : 0) };
}

/** Null: it makes no sense. */
export function doubtOfEntry({ extent, stamp }: MapEntry): DoubtedRange | null {
  const first = stamp % LAST_AT;
  const last = Math.floor(stamp / LAST_AT) % BLOCKS_PER_EXTENT;
  const rewrite = Math.floor(stamp / REWRITE_AT);
  if (rewrite > 1 || last < first) return null;
  return {
    offsetBytes: extent * EXTENT_BYTES + first * BLOCK_BYTES,
    lengthBytes: (last - first + 1) * BLOCK_BYTES,
    rewrite: rewrite === 1,
  };
}
