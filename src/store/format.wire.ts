// SPDX-License-Identifier: Apache-2.0
//
// The on-disk format of a store, version 1. Everything a store writes about itself is a 4 KiB
// *page* (or begins with one); all numbers are little-endian. A page opens with PAGE: magic, a
// checksum over everything behind it in the page (header and body alike), version, kind, and the
// disk's uuid, so that torn, foreign and misdirected pages are told apart.
//
// The checksum is CRC-32 continued from a *seed*: 0 in a superblock, elsewhere the CRC-32 of
// cluster uuid, disk uuid and the nonce drawn at formatting. A page left by an earlier life of the
// disk never passes, even when the same uuids were given again.
//
//   what                 where                                size
//   superblock           first 4 KiB, and last 4 KiB          4 KiB each, alike but for `copy`
//   metadata log         logOffset                            logSlots x 8 KiB, a ring
//   checkpoint slots     checkpointOffset, one behind the     2 x checkpointBytes
//                        other
//   descriptors          descriptorOffset                     8 KiB per extent: slots A and B
//   extents              dataOffset, aligned to 1 MiB         1 MiB each
//
// A log record is written twice, side by side (twins), so that one rotten sector of the newest
// record is not taken for the end of the log. Log record n lies in ring slot n modulo logSlots.

import { bytes, reserved, struct, u8, u16, u32, u64 } from "#base/wire.ts";

export const FORMAT_VERSION = 1;
/** "CAIR" as it lies on the disk. */
export const PAGE_MAGIC = 0x52494143;
export const PAGE_BYTES = 4096;
export const UUID_BYTES = 16;
export const NONCE_BYTES = 16;
/** A log record with its twin. */
export const LOG_SLOT_BYTES = 2 * PAGE_BYTES;
/** An extent's descriptor, slots A and B. */
export const DESCRIPTOR_PAIR_BYTES = 2 * PAGE_BYTES;

export const PageKind = {
  superblock: 1,
  logRecord: 2,
  checkpointHeader: 3,
  checkpointBody: 4,
  descriptor: 5,
} as const;
export type PageKind = (typeof PageKind)[keyof typeof PageKind];

/** What every page begins with. */
export const PAGE = struct("page", 32, "little", {
  magic: u32(0), // PAGE_MAGIC
  checksum: u32(4), // CRC-32 of bytes 8 to 4095, continued from the seed
  version: u16(8), // FORMAT_VERSION
  kind: u16(10), // PageKind
  usedBytes: u32(12), // bytes with meaning, from the page's start; the rest is zero
  disk: bytes(16, UUID_BYTES), // the disk's uuid
});
/** Where the checksummed part of a page begins. */
export const PAGE_CHECKED_FROM = 8;

/** Who the disk is and where everything lies. Written at formatting, never changed. */
export const SUPERBLOCK = struct("superblock", 160, "little", {
  page: bytes(0, 32), // PAGE
  cluster: bytes(32, UUID_BYTES), // the cluster's uuid
  nonce: bytes(48, NONCE_BYTES), // drawn at formatting; part of the seed
  areaBytes: u64(64), // size of the area this was made for
  extents: u32(72), // extents of 1 MiB
  slicesMax: u32(76), // members this disk can hold
  logOffset: u64(80),
  logSlots: u32(88),
  copy: u32(92), // 0: the first superblock, 1: the last
  checkpointOffset: u64(96), // of slot 0; slot 1 follows
  checkpointBytes: u64(104), // of one slot
  descriptorOffset: u64(112),
  dataOffset: u64(120),
  rest: reserved(128, 32),
});

/** A log record: entries, packed; see ENTRY. */
export const LOG_RECORD = struct("log record", 72, "little", {
  page: bytes(0, 32), // PAGE
  sequence: u64(32), // counts records, from 1
  durable: u64(40), // every record up to this one was known to be durable when this was written
  firstEntry: u64(48), // number of the first entry; entries are counted from 1
  entries: u32(56), // how many
  previous: u32(60), // checksum of record sequence - 1: stale records do not chain
  incarnation: u32(64), // the run of the disk that wrote it (R0)
  rest: reserved(68, 4),
});

/** The first page of a checkpoint slot; the body pages follow it. Written last. */
export const CHECKPOINT_HEADER = struct("checkpoint header", 96, "little", {
  page: bytes(0, 32), // PAGE
  sequence: u64(32), // counts checkpoints, from 1; the slot is sequence modulo 2
  logFrom: u64(40), // the first log record to replay on top of this
  throughEntry: u64(48), // the last entry that any part of this contains
  nextMapping: u64(56), // mappings below this have been given out
  previous: u32(64), // checksum of log record logFrom - 1
  pages: u32(68), // body pages
  bodyChecksum: u32(72), // CRC-32 of the body pages' checksums, in order
  incarnation: u32(76), // the disk's (R0)
  number: u32(80), // the disk's number in its cluster; 0: not registered yet
  slices: u32(84), // sections in the body
  beforeEntry: u64(88), // the last entry of the records before logFrom
});

/**
 * Behind CHECKPOINT_HEADER in its page: how the disk is and how far its scrub (health.ts). All zero
 * where a version wrote it that did not know of this; whoever does not know it ignores it.
 */
export const CHECKPOINT_HEALTH = struct("checkpoint health", 176, "little", {
  header: bytes(0, 96), // CHECKPOINT_HEADER
  found: u32(96), // blocks found wrong
  healed: u32(100),
  metadataMended: u32(104), // pages of metadata written again
  scrubs: u32(108), // that came to their end
  scrubEndedWallMs: u64(112), // the last one
  running: u32(120), // 1: a scrub is under way
  slice: u32(124), // where it goes on
  extent: u32(128),
  extentsDone: u32(132),
  sinceStartMs: u64(136), // in use since the last scrub began
  startedWallMs: u64(144),
  placesBefore: u32(152), // wrong places in the last half of the time that counts
  placesNow: u32(156), // in this half
  halfMs: u64(160), // how much of this half is over
  rest: reserved(168, 8),
});

/** A body page of a checkpoint: entries, packed like a log record's. */
export const CHECKPOINT_BODY = struct("checkpoint body", 56, "little", {
  page: bytes(0, 32), // PAGE
  sequence: u64(32), // the checkpoint's
  index: u32(40), // position in the body, from 0
  entries: u32(44),
  rest: reserved(48, 8),
});

/** One slot of an extent's descriptor: the checksums of its blocks. */
export const DESCRIPTOR = struct("extent descriptor", 128, "little", {
  page: bytes(0, 32), // PAGE
  slice: u32(32),
  extent: u32(36), // index of the extent in the slice
  physical: u32(40), // index of the extent on this disk
  stamp: u32(44), // epoch of the last write when this was written; the log's word counts
  mapping: u64(48), // the mapping this belongs to; another's is not ours
  sequence: u64(56), // counts writes of the descriptor in this mapping, from 1; slot is its parity
  lost: bytes(64, 32), // bit per block: nobody knows whether it was written; reads as damaged
  rest: reserved(96, 32),
});
/** 256 u32 checksums follow: CRC-32 of a block's 4 KiB; 0 is unwritten (reads zero). */
export const DESCRIPTOR_CHECKSUMS_AT = 128;

// Entries of the log and of a checkpoint.

export const EntryKind = {
  // The log's.
  incarnation: 1,
  number: 2,
  create: 3,
  drop: 4,
  /** Stores a slice's record and re-stamps the mapped extents of its active regions (R2, R6). */
  record: 5,
  activate: 6,
  deactivate: 7,
  /** Maps a run of extents, or stamps it anew; absolute. */
  map: 8,
  free: 9,
  // Only in checkpoints.
  section: 16,
  /** The record of the section's slice; re-stamps nothing. */
  sectionRecord: 17,
  sectionActive: 18,
} as const;
export type EntryKind = (typeof EntryKind)[keyof typeof EntryKind];

/** What every entry begins with. */
export const ENTRY = struct("entry", 8, "little", {
  kind: u8(0), // EntryKind
  rest: reserved(1, 1),
  lengthBytes: u16(2), // with this header, a multiple of 4
  slice: u32(4), // 0 where none is meant
});

/** Body of `incarnation` and `number`. */
export const ENTRY_VALUE = struct("entry value", 16, "little", {
  entry: bytes(0, 8),
  value: u32(8),
  rest: reserved(12, 4),
});

/** Body of `create`. `drop` has none. */
export const ENTRY_CREATE = struct("entry create", 16, "little", {
  entry: bytes(0, 8),
  sizeBytes: u64(8),
});

/** Body of `activate` and `deactivate`: `count` u32 regions follow. */
export const ENTRY_REGIONS = struct("entry regions", 12, "little", {
  entry: bytes(0, 8),
  count: u32(8),
});

/** Body of `map`: extent + i lies at physical + i, in mapping + i. */
export const ENTRY_MAP = struct("entry map", 32, "little", {
  entry: bytes(0, 8),
  extent: u32(8),
  physical: u32(12),
  count: u32(16),
  stamp: u32(20),
  mapping: u64(24),
});

/** Body of `free`: whatever of these extents is mapped is freed; a large trim is one entry. */
export const ENTRY_FREE = struct("entry free", 16, "little", {
  entry: bytes(0, 8),
  extent: u32(8),
  count: u32(12),
});

/** Body of `record` and `sectionRecord`; lists follow in the order of their counts. */
export const ENTRY_RECORD = struct("entry record", 56, "little", {
  entry: bytes(0, 8),
  volume: u32(8),
  index: u32(12),
  sizeBytes: u64(16),
  lineage: u64(24),
  epoch: u32(32),
  head: u32(36),
  copies: u16(40),
  ancestors: u16(42), // u64 lineages
  inSync: u16(44), // pairs of u32: disk, incarnation
  resyncing: u16(46), // u32 disks
  rest: reserved(48, 8),
});

/** Body of `section`: one slice begins; its entries follow until the next section. */
export const ENTRY_SECTION = struct("entry section", 48, "little", {
  entry: bytes(0, 8),
  sizeBytes: u64(8),
  throughEntry: u64(16), // log entries of this slice up to here are contained
  syncedLineage: u64(24),
  syncedEpoch: u32(32),
  hasRecord: u8(36),
  rest: reserved(37, 11),
});

/**
 * Body of `sectionActive`: a bitmap of regions follows, `lengthBytes` of the bitmap a multiple of
 * 4.
 */
export const ENTRY_ACTIVE = struct("entry active", 16, "little", {
  entry: bytes(0, 8),
  firstRegion: u32(8), // of bit 0, a multiple of 8
  bitmapBytes: u32(12),
});

// Limits.

/** Lineages a record may have grown from. */
export const ANCESTORS_MAX = 64;
/** Regions in one activate or deactivate entry; more take several. */
export const REGIONS_PER_ENTRY_MAX = 512;
/** Extents on one disk: 64 TiB. */
export const EXTENTS_MAX = 64 << 20;
export const LOG_SLOTS_MIN = 16;
export const LOG_SLOTS_MAX = 1 << 16;
export const SLICES_PER_DISK_MAX = 1 << 16;
