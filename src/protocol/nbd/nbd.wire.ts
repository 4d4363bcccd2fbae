// SPDX-License-Identifier: Apache-2.0
//
// The NBD protocol's constants and structures, as in doc/proto.md of
// https://github.com/NetworkBlockDevice/nbd (May 2026); section names in quotes are that
// document's. What "EXTENDED_HEADERS" marks is of the same file on the branch extension-ext-header
// (April 2023), as qemu, nbdkit and libnbd speak it. Everything is big-endian. 64-bit magic numbers
// and cookies are two u32, since they are opaque.

import { struct, u16, u32, u64 } from "#base/wire.ts";

// "Newstyle negotiation"

/** ASCII "NBDMAGIC". */
export const INIT_MAGIC = [0x4e42444d, 0x41474943] as const;
/** ASCII "IHAVEOPT". */
export const OPTION_MAGIC = [0x49484156, 0x454f5054] as const;
export const OPTION_REPLY_MAGIC = [0x0003e889, 0x045565a9] as const;

export const GREETING = struct("NBD greeting", 18, "big", {
  initHigh: u32(0),
  initLow: u32(4),
  optionHigh: u32(8),
  optionLow: u32(12),
  flags: u16(16), // handshake flags
});
export const CLIENT_FLAGS = struct("NBD client flags", 4, "big", { flags: u32(0) });
export const OPTION = struct("NBD option", 16, "big", {
  magicHigh: u32(0),
  magicLow: u32(4),
  option: u32(8),
  length: u32(12), // of the data behind it
});
export const EXPORT_REPLY = struct("NBD reply to EXPORT_NAME", 10, "big", {
  sizeBytes: u64(0),
  flags: u16(8), // transmission flags
});
/** Behind EXPORT_REPLY, unless NO_ZEROES was negotiated. */
export const EXPORT_REPLY_ZEROES = 124;

// "Fixed newstyle negotiation"

export const OPTION_REPLY = struct("NBD option reply", 20, "big", {
  magicHigh: u32(0),
  magicLow: u32(4),
  option: u32(8),
  type: u32(12),
  length: u32(16), // of the data behind it
});

// "Handshake flags", "Client flags"

export const HandshakeFlag = { FIXED_NEWSTYLE: 1, NO_ZEROES: 2 } as const;
export const ClientFlag = { FIXED_NEWSTYLE: 1, NO_ZEROES: 2 } as const;

// "Transmission flags"

export const TransmissionFlag = {
  HAS_FLAGS: 1 << 0,
  READ_ONLY: 1 << 1,
  SEND_FLUSH: 1 << 2,
  SEND_FUA: 1 << 3,
  SEND_TRIM: 1 << 5,
  SEND_WRITE_ZEROES: 1 << 6,
  SEND_DF: 1 << 7,
  CAN_MULTI_CONN: 1 << 8,
  SEND_CACHE: 1 << 10,
  SEND_FAST_ZERO: 1 << 11,
  BLOCK_STATUS_PAYLOAD: 1 << 12, // EXTENDED_HEADERS
} as const;

// "Option types"

export const Option = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const;

// "Option reply types"

export const Reply = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: 0x80000001,
  ERR_POLICY: 0x80000002,
  ERR_INVALID: 0x80000003,
  ERR_TLS_REQD: 0x80000005,
  ERR_UNKNOWN: 0x80000006,
  ERR_SHUTDOWN: 0x80000007,
  ERR_TOO_BIG: 0x80000009,
  ERR_EXT_HEADER_REQD: 0x8000000a,
} as const;
export type Reply = (typeof Reply)[keyof typeof Reply];

export const Info = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

export const INFO_EXPORT = struct("NBD_INFO_EXPORT", 12, "big", {
  type: u16(0),
  sizeBytes: u64(2),
  flags: u16(10), // transmission flags
});
export const INFO_BLOCK_SIZE = struct("NBD_INFO_BLOCK_SIZE", 14, "big", {
  type: u16(0),
  minimumBytes: u32(2),
  preferredBytes: u32(6),
  payloadBytesMax: u32(10),
});

// "Metadata querying"

export const CONTEXT_ALLOCATION = "base:allocation";
/** Asks for every context of the base namespace, in LIST_META_CONTEXT only. */
export const CONTEXT_WILDCARD = "base:";
/** The id we give base:allocation. */
export const CONTEXT_ID = 1;
export const StateFlag = { HOLE: 1, ZERO: 2 } as const;

// "Request message", "Simple reply message", "Structured reply chunk message"

export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const CHUNK_MAGIC = 0x668e33ef;
/** EXTENDED_HEADERS: requests and chunks of 32 bytes, lengths of 64 bits. */
export const EXTENDED_REQUEST_MAGIC = 0x21e41c71;
export const EXTENDED_CHUNK_MAGIC = 0x6e8a278c;

export const REQUEST = struct("NBD request", 28, "big", {
  magic: u32(0), // REQUEST_MAGIC
  flags: u16(4), // CommandFlag
  type: u16(6), // Command
  cookieHigh: u32(8), // opaque, given back as it came
  cookieLow: u32(12),
  offset: u64(16), // bytes
  length: u32(24), // bytes
});
export const EXTENDED_REQUEST = struct("NBD extended request", 32, "big", {
  magic: u32(0), // EXTENDED_REQUEST_MAGIC
  flags: u16(4), // CommandFlag
  type: u16(6), // Command
  cookieHigh: u32(8),
  cookieLow: u32(12),
  offset: u64(16), // bytes
  length: u64(24), // bytes: of the payload with PAYLOAD_LEN, else of the effect
});
/** The offset of an extended request as it came: its replies bear it, also one past 2^53. */
export const OFFSET_ECHO_AT = 16;
export const OFFSET_ECHO = struct("NBD offset", 8, "big", { high: u32(0), low: u32(4) });
/** The payload of an extended BLOCK_STATUS; context ids (u32) follow. */
export const STATUS_PAYLOAD = struct("NBD block status payload", 8, "big", {
  effectLength: u64(0), // bytes
});
export const SIMPLE_REPLY = struct("NBD simple reply", 16, "big", {
  magic: u32(0), // SIMPLE_REPLY_MAGIC
  error: u32(4),
  cookieHigh: u32(8),
  cookieLow: u32(12),
});
export const CHUNK = struct("NBD structured reply chunk", 20, "big", {
  magic: u32(0), // CHUNK_MAGIC
  flags: u16(4), // ChunkFlag
  type: u16(6), // ChunkType
  cookieHigh: u32(8),
  cookieLow: u32(12),
  length: u32(16), // of the payload behind it
});
export const EXTENDED_CHUNK = struct("NBD extended reply chunk", 32, "big", {
  magic: u32(0), // EXTENDED_CHUNK_MAGIC
  flags: u16(4), // ChunkFlag
  type: u16(6), // ChunkType
  cookieHigh: u32(8),
  cookieLow: u32(12),
  offsetHigh: u32(16), // the request's, as it came
  offsetLow: u32(20),
  length: u64(24), // of the payload behind it
});

// "Structured reply flags", "Structured reply types"

export const ChunkFlag = { DONE: 1 } as const;
export const ChunkType = {
  NONE: 0,
  OFFSET_DATA: 1,
  BLOCK_STATUS: 5,
  BLOCK_STATUS_EXT: 6, // EXTENDED_HEADERS
  ERROR: 0x8001,
  ERROR_OFFSET: 0x8002,
} as const;

/** Heads OFFSET_DATA; ends ERROR_OFFSET, behind the message. */
export const CHUNK_OFFSET = struct("NBD chunk offset", 8, "big", { offset: u64(0) });
/** Heads ERROR and ERROR_OFFSET; the message follows. */
export const CHUNK_ERROR = struct("NBD error chunk", 6, "big", {
  error: u32(0),
  messageLength: u16(4),
});
/** Heads BLOCK_STATUS; descriptors follow. */
export const CHUNK_STATUS = struct("NBD block status chunk", 4, "big", { context: u32(0) });
export const DESCRIPTOR = struct("NBD block status descriptor", 8, "big", {
  length: u32(0), // bytes, not zero
  flags: u32(4), // StateFlag
});
/** Heads BLOCK_STATUS_EXT; extended descriptors follow. */
export const CHUNK_STATUS_EXT = struct("NBD extended block status chunk", 8, "big", {
  context: u32(0),
  count: u32(4), // of descriptors
});
export const DESCRIPTOR_EXT = struct("NBD extended block status descriptor", 16, "big", {
  length: u64(0), // bytes, not zero
  flags: u64(8), // StateFlag
});

// "Request types", "Command flags"

export const Command = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;

export const CommandFlag = {
  FUA: 1 << 0,
  NO_HOLE: 1 << 1,
  DF: 1 << 2,
  REQ_ONE: 1 << 3,
  FAST_ZERO: 1 << 4,
  PAYLOAD_LEN: 1 << 5, // EXTENDED_HEADERS
} as const;

// "Error values"

export const NbdError = {
  NONE: 0,
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;
export type NbdError = (typeof NbdError)[keyof typeof NbdError];

// Our limits.

/** "Values", string length limit: names and queries, bytes. */
export const STRING_BYTES_MAX = 4096;
/** Data of one option: the longest name, and queries. A longer one is skipped and refused. */
export const OPTION_BYTES_MAX = 16 << 10;
/** Data of an option we are willing to skip; beyond it the connection is dropped. */
export const OPTION_SKIP_BYTES_MAX = 1 << 20;
/** Options one connection may send before it enters transmission. */
export const OPTIONS_MAX = 256;
/** Replies of one option are sent in parts of about this much (LIST of many exports), bytes. */
export const REPLY_PART_BYTES = 32 << 10;
/** "Size constraints": what we advertise and keep. */
export const PREFERRED_BYTES = 4096;
/** Requests of one connection that wait for their end or for their reply to be sent. */
export const REQUESTS_MAX = 128;
/**
 * "Structured reply types": what one block status answer takes at most. A map with more extents is
 * answered in part.
 */
export const STATUS_REPLY_BYTES_MAX = 256 << 10;
/** What one block status request looks at; the rest is left to the next one. */
export const STATUS_LOOK_BYTES_MAX = 64 * 2 ** 30;
/** A request for a long range is carried out in steps of this much, aligned, bytes. */
export const STEP_BYTES = 2 ** 30;
/** The same for zeroes that keep their space: each extent of it is an entry of its own. */
export const STEP_ALLOCATING_BYTES = 64 << 20;
/** What CACHE really reads, from the start of its range; more would push out what is in use. */
export const CACHE_BYTES_MAX = 64 << 20;
/** A connection must have chosen its export by then. */
export const HANDSHAKE_MS = 30_000;
/** A connection that holds memory and neither sends nor takes a byte for so long is dropped. */
export const STALL_MS = 60_000;
/** The same while others wait for memory. */
export const STALL_CONTENDED_MS = 5000;
