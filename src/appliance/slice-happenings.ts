// SPDX-License-Identifier: Apache-2.0
//
// What a slice's head tells of itself, with its place in the cluster.

import type { DiskNumber, SliceNumber, VolumeNumber } from "#base/record.ts";
import type { Happening } from "#raid/happening.ts";

/** A happening, and where. */
export interface SliceHappening extends Happening {
  slice: SliceNumber;
  volume: VolumeNumber;
  /** Where in the volume the first such block lies, bytes. */
  volumeOffsetBytes: number;
}

/** A disk here heads a slice that another one headed. */
export interface Takeover {
  volume: VolumeNumber;
  from: DiskNumber;
  /** From when the head before was heard last until this one served, ms. */
  pauseMs: number;
}
