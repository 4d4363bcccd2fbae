// SPDX-License-Identifier: Apache-2.0
//
// The peer protocol's messages: one verb each, as a header of fixed size, then up to four lists
// (the body), then the payload. Our own format, little-endian. The channel under it is
// authenticated and encrypted and in order, so there is no checksum of its own; magic and version
// catch a stream that lost its place and a unit of another format level. Verbs and their fields:
// base/verbs.ts.
//
// A body holds, in this order, each only where its bit in `lists` is set: record, regions, entries,
// runs. A record is RECORD, then `inSyncCount` times MEMBER, then `resyncingCount` disks (u32),
// then `ancestryCount` lineages (u64). The other lists are a u32 count and that many u32 regions,
// ENTRY or RUN.

import { MEMBERS_MAX, REQUEST_BYTES_MAX, VERB_BODY_BYTES_MAX } from "#base/limits.ts";
import { EXTENT_BYTES, REGION_BYTES, SLICE_BYTES_MAX } from "#base/grains.ts";
import { f64, reserved, struct, u8, u16, u32, u64 } from "#base/wire.ts";

/** "Cv": a Cairn verb. */
export const PEER_MAGIC = 0x7643;
export const PEER_VERSION = 1;

export const HEADER = struct("peer verb header", 128, "little", {
  magic: u16(0), // PEER_MAGIC
  version: u8(2), // PEER_VERSION
  kind: u8(3), // VerbKind
  flags: u16(4), // FLAG_* of base/operation.ts; of a map: 1, more follow
  status: u8(6), // Status
  operation: u8(7), // OperationKind of a forward, else 0
  class: u8(8), // TrafficClass
  lists: u8(9), // which lists the body holds: LIST_*
  pad: reserved(10, 2),
  bodyBytes: u32(12),
  payloadBytes: u32(16),
  slice: u32(20),
  fromDisk: u32(24),
  toDisk: u32(28),
  sequence: u64(32),
  epoch: u64(40),
  lineage: u64(48),
  offsetBytes: u64(56),
  lengthBytes: u64(64), // may be a whole slice's
  stamp: u64(72),
  tickMs: f64(80), // milliseconds; finite and not negative
  origin: u64(88),
  credit: u32(96),
  pad2: reserved(100, 4),
  incarnation: u64(104),
  syncedEpoch: u64(112),
  syncedLineage: u64(120),
});

export const LIST_RECORD = 1;
export const LIST_REGIONS = 2;
export const LIST_ENTRIES = 4;
export const LIST_RUNS = 8;
export const LISTS_ALL = LIST_RECORD | LIST_REGIONS | LIST_ENTRIES | LIST_RUNS;

export const RECORD = struct("slice record", 52, "little", {
  slice: u32(0),
  volume: u32(4),
  index: u32(8),
  head: u32(12),
  sizeBytes: u64(16),
  lineage: u64(24),
  epoch: u64(32),
  copies: u16(40),
  inSyncCount: u16(42),
  resyncingCount: u16(44),
  ancestryCount: u16(46),
  pad: reserved(48, 4),
});
export const MEMBER = struct("in-sync member", 12, "little", { disk: u32(0), incarnation: u64(4) });
export const ENTRY = struct("map entry", 12, "little", { extent: u32(0), stamp: u64(4) });
export const RUN = struct("status run", 12, "little", {
  lengthBytes: u64(0),
  allocated: u8(8), // 0 or 1
  pad: reserved(9, 3),
});

/** A list's count, a region, a resyncing disk. */
export const NUMBER = struct("number", 4, "little", { value: u32(0) });
/** A lineage of the ancestry. */
export const LINEAGE = struct("lineage", 8, "little", { value: u64(0) });

// Limits of one message. Every count is held against its own before it is believed.

export const PAYLOAD_BYTES_MAX = REQUEST_BYTES_MAX;
export const BODY_BYTES_MAX = VERB_BODY_BYTES_MAX;
/** In-sync and resyncing members each. */
export const RECORD_MEMBERS_MAX = MEMBERS_MAX;
/** Lineages a record may descend from: one per override by the owner. */
export const ANCESTRY_MAX = 1024;
export const REGION_COUNT_MAX = SLICE_BYTES_MAX / REGION_BYTES;
export const EXTENT_COUNT_MAX = SLICE_BYTES_MAX / EXTENT_BYTES;
/** Map entries in one verb: what fits the body. */
export const ENTRIES_MAX = Math.floor((BODY_BYTES_MAX - NUMBER.size) / ENTRY.size);
/** Status runs in one verb; a longer answer is cut short by whoever sends it. */
export const RUNS_MAX = ENTRIES_MAX;
