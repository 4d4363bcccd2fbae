// SPDX-License-Identifier: Apache-2.0
//
// What is known of how well a disk keeps what it is given (R9): counted by the store, shown by the
// console, judged by the control station.

/** What became of a block that did not match its checksum. */
export const Incident = {
  /** Written again from a copy that matched, and read back. */
  healed: 1,
  /** No member of the slice could give it. */
  unhealed: 2,
} as const;
export type Incident = (typeof Incident)[keyof typeof Incident];

/** The cluster's settings about scrubs, as a disk needs them. */
export interface ScrubPace {
  /** Every block is read at least this often, ms; 0: never by itself. */
  everyMs: number;
  /** The most that a scrub reads of a disk, bytes per second. */
  bytesPerSecondMax: number;
}

export interface DiskHealth {
  /** Blocks found wrong since the disk was made, and what became of them. */
  found: number;
  healed: number;
  /** Wrong and not healed, as last looked at. */
  unhealed: number;
  /** Places (extents) where something was wrong within the last DISK_ERRORS_WITHIN_MS. */
  recentPlaces: number;
  /** Pages of the disk's own metadata that had rotted and were written again. */
  metadataMended: number;
  scrub: ScrubReport;
}

export interface ScrubReport {
  running: boolean;
  /** Of the running scrub, 0 to 100; 0 while none runs. */
  percent: number;
  /** Scrubs that came to their end. */
  count: number;
  /** When the last one ended, wall clock, for people; 0: never. */
  endedAtMs: number;
  /** It cannot keep to the settings' time at the settings' rate. */
  late: boolean;
}
