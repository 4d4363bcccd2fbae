// SPDX-License-Identifier: Apache-2.0
//
// Bytes of the channel between units, version 1: frames over a stream. Own format, little-endian;
// the page docs/formats/peer-channel.md is printed from these tables. The Noise messages inside are
// those of noise.ts; a sealed frame's header is its associated data, so that kind and length are
// authentic.
//
//   initiator                         responder
//   hello (HELLO + Noise message 1) ->
//                                  <- handshake (Noise message 2, its payload IDENTITY)
//   handshake (message 3, IDENTITY) ->
//                                  <- accept, or a sealed refusal
//   record ...                     <-> record ...

import { bytes, reserved, struct, u16, u32, u8 } from "#base/wire.ts";

/** Every frame starts with this. */
export const FRAME = struct("frame header", 8, "little", {
  lengthBytes: u32(0), // of what follows, tag included
  kind: u8(4), // FrameKind
  zero: reserved(5, 3),
});

export const FrameKind = {
  /** First frame of the initiator: HELLO and Noise message 1, in clear. */
  hello: 1,
  /** Noise messages 2 and 3. */
  handshake: 2,
  /** REFUSAL in clear, before there is a key: a hint for people, proves nothing. */
  refusal: 3,
  /** Sealed and empty: the responder has admitted the initiator. */
  accept: 4,
  /** Sealed REFUSAL. */
  sealedRefusal: 5,
  /** Sealed bytes of the stream. */
  record: 6,
} as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

/** Also the prologue of the handshake, so that nobody changes it on the way. */
export const HELLO = struct("hello", 8, "little", {
  magic: u32(0), // "CNch"
  version: u16(4), // of this format
  purpose: u8(6), // Purpose
  zero: reserved(7, 1),
});
export const HELLO_MAGIC = 0x68634e43;
export const CHANNEL_VERSION = 1;

export const Purpose = {
  /** Verbs without payload, leases, acknowledgements (R13). */
  controlLane: 1,
  /** Verbs with payload. */
  dataLane: 2,
  /** The control store for units that do not vote. */
  controlProxy: 3,
  /** A unit of no cluster asks to be admitted. */
  join: 4,
  /** One cluster looks at another before it yields. */
  meet: 5,
  /** Files of an update, from a unit that has them. */
  artefacts: 6,
  /** A unit of a cluster gives the join secret to one that has none, as its owner ordered. */
  adopt: 7,
  /** What another unit of the cluster sees of itself, for pages and figures. */
  neighbour: 8,
  /** Units of one cluster tell each other its generation: a restored backup starts a new one. */
  generation: 9,
} as const;
export type Purpose = (typeof Purpose)[keyof typeof Purpose];

/** What each side proves in its handshake payload. */
export const IDENTITY = struct("identity", 136, "little", {
  unitId: bytes(0, 16), // first half of SHA-256 of publicKey
  clusterId: bytes(16, 16), // zero: of no cluster
  publicKey: bytes(32, 32), // Ed25519
  featureLevel: u16(64), // highest the unit speaks
  clusterState: u8(66), // 0 none, 1 virgin, 2 used, 3 yielding
  purpose: u8(67), // as in HELLO
  unitNumber: u32(68), // 0: not admitted yet
  signature: bytes(72, 64), // Ed25519, of what signedBytes() in channel.ts puts together
});
/** The part of IDENTITY that is signed. */
export const IDENTITY_SIGNED_BYTES = 72;

export const REFUSAL = struct("refusal", 4, "little", {
  code: u16(0), // RefusalCode
  textBytes: u16(2), // UTF-8 that follows
});
export const REFUSAL_TEXT_BYTES_MAX = 240;

/**
 * Plain bytes in one record. Noise allows 65,519; ours are whole pages, as the data path cuts them.
 */
export const RECORD_BYTES_MAX = 65536;
/**
 * Records under one key and direction, then both sides rekey: 64 GiB, far below AES-GCM's limits.
 */
export const REKEY_RECORDS = 1 << 20;
/** From the first byte to an open channel. */
export const HANDSHAKE_MS_MAX = 5000;
/** Feature levels that still speak with each other are at most this far apart. */
export const FEATURE_LEVEL_DISTANCE_MAX = 1;
