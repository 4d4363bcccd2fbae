// SPDX-License-Identifier: Apache-2.0
//
// What a slice's head tells of blocks that were wrong (R9), for the event history: each once, as it
// happens. Offsets are within the slice.

import type { DiskNumber } from "#base/record.ts";

export const HappeningKind = {
  /** A wrong block of a disk was written again from another member, and read back. */
  healed: 1,
  /** No member could give a block: hosts get medium errors there (H8). */
  unreadable: 2,
  /** Blocks of a disk differ from the head's, and both match their checksums: nobody guesses. */
  diverged: 3,
  /** Unreadable blocks were marked so on a disk that was brought up. */
  carried: 4,
  /** A disk does not keep what is written to it: it is used no more. */
  keepsNothing: 5,
} as const;
export type HappeningKind = (typeof HappeningKind)[keyof typeof HappeningKind];

export interface Happening {
  kind: HappeningKind;
  disk: DiskNumber;
  /** The first such block. */
  offsetBytes: number;
  blocks: number;
}
