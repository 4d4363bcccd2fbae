// SPDX-License-Identifier: Apache-2.0
//
// What a slice asks of one disk that holds a member of it: implemented by the store, used by raid
// (two rooms that never meet). Data goes by operations, what must be remembered by the verbs below;
// each is durable in the disk's metadata log when its callback runs with ok, and group-committed
// with others.
//
// Dirt is kept as stamps. Every mapped extent carries the epoch of its last write. Storing a record
// re-stamps, in the same log record, every mapped extent of every active region with the record's
// epoch (R2, R6: active becomes dirty for every absent member; at takeover too). What an absent
// member lacks is then: extents stamped later than the last epoch in which it was in sync
// (`syncedEpoch`), the regions active on either side, and every difference between the two extent
// maps, stamps included. A resync copy carries its source's stamp (FLAG_KEEP_STAMP), so that what
// is owed to a third member stays owed (R7).

import type { Incident } from "./disk-health.ts";
import type { OperationTarget } from "./operation.ts";
import type { DiskNumber, Incarnation, SliceNumber, SliceRecord } from "./record.ts";
import type { Status } from "./status.ts";

export type StoreDone = (status: Status) => void;

/** Of a block of which nobody knows what it held: in what `checksumsOf` answers. */
export const LOST_CHECKSUM = 0;

/** One entry of a member's extent map. */
export interface MapEntry {
  /** Index of the 1 MiB extent in the slice, from 0. */
  extent: number;
  /** The epoch of its last write. */
  stamp: number;
}

/**
 * One disk's share of one slice. `submit` takes read, write, flush, trim, writeZeroes and
 * blockStatus at offsets within the slice, multiples of 512.
 *
 * - A write, trim or writeZeroes needs every region it touches active (asserted, R6) and `epoch`
 *   set.
 * - Reads verify each block's checksum: checksumMismatch with `faultOffsetBytes`, or ioError when
 *   the disk failed. A write of part of a block verifies what it merges (R9).
 * - Plain writes are done when the disk's write call completed; FUA and flush when data, checksums
 *   and map are on media. A flush covers the whole disk; concurrent ones share one.
 * - A write allocates extents from the reservation (`reserve`) first, then from free space: noSpace
 *   before anything was touched (R10).
 * - Overlapping operations are the caller's to order (R1's range lock); the store does not queue
 *   them.
 */
export interface MemberStore extends OperationTarget {
  readonly disk: DiskNumber;
  readonly slice: SliceNumber;
  /** H11: grows with the records that are stored here; what is added reads zero. */
  readonly sizeBytes: number;
  /** R0: of the disk's present run. */
  readonly incarnation: Incarnation;
  /**
   * The first incarnation since the machine was started: runs from that one on had the same cache
   * of the disk, so that the death of a process alone lost nothing of what it had written (H6).
   * Absent: not known, every start counts as a loss.
   */
  readonly bootIncarnation?: Incarnation;
  /** The newest record stored here, or null before the first. */
  readonly record: SliceRecord | null;
  /**
   * The last epoch whose stored record named this disk in sync, in whatever incarnation; 0: none.
   */
  readonly syncedEpoch: number;
  /** The lineage `syncedEpoch` counts in. */
  readonly syncedLineage: number;
  /** Active regions as the log knows them, ascending. */
  activeRegions(): number[];
  isActive(region: number): boolean;
  /** The stamp of an extent, or 0 when it is not mapped. */
  stampOf(extent: number): number;
  /** Mapped extents from `fromExtent` on, ascending, at most `limit`. */
  mapFrom(fromExtent: number, limit: number): MapEntry[];

  /** R6: makes regions active, durably. Regions already active cost nothing. */
  activate(regions: readonly number[], done: StoreDone): void;
  /**
   * R6, only by order of the head after every in-sync member completed and flushed: lazily durable.
   */
  deactivate(regions: readonly number[]): void;
  /**
   * R4: stores a record that supersedes the stored one, durably, and re-stamps (see above). A
   * larger one makes the member as large.
   */
  putRecord(record: SliceRecord, done: StoreDone): void;
  /**
   * R9: the checksums of an extent's blocks as they are stored, without reading the blocks. A block
   * that reads zero without ever having been written has the zero block's, one that is known to be
   * damaged LOST_CHECKSUM. Null: the disk does not say.
   */
  checksumsOf(extent: number, done: (checksums: Uint32Array | null) => void): void;
  /** R9: what became of wrong blocks of this disk; counted. */
  noteIncident(incident: Incident, offsetBytes: number): void;
  /**
   * R10: keeps `extents` free extents for this slice; answers how many may be counted on: all of
   * them where what is held is enough for every extent that is not mapped yet, else what is held.
   */
  reserve(extents: number): number;
  /** Gives all of the member's space back and forgets the slice, durably. */
  drop(done: StoreDone): void;
}
