// SPDX-License-Identifier: Apache-2.0
//
// The auto-configuration packet, version 1 (design: auto-configuration protocol): one UDP datagram,
// little-endian. An envelope, the seven fields of the original design (source and destination IP
// address and port, message type, data length, data area), and an authenticator over all before it.
// The page docs/formats/autoconfig.md is printed from these tables.

import { bytes, reserved, struct, u16, u32, u64, u8 } from "#base/wire.ts";

// Ports unless configured otherwise: beside NBD's 10809 and assigned to nobody (7400 is DDS's).
/** UDP: packets. TCP: channels to join, to meet, and to the control store. */
export const AUTOCONFIG_PORT = 10811;
/** TCP: the lanes between units. */
export const LANE_PORT = 10812;
/** Organisation-local scope (RFC 2365). */
export const GROUP_IPV4 = "239.255.67.67";
/** Link-local scope, transient (RFC 4291, section 2.7). */
export const GROUP_IPV6 = "ff12::4361:6972:6e31";

export const PACKET = struct("packet", 80, "little", {
  magic: u32(0), // "CNac"
  version: u8(4),
  authenticatorKind: u8(5), // AuthenticatorKind
  zero: reserved(6, 2),
  unitId: bytes(8, 16), // who sends
  bootCounter: u64(24), // rises at every start of the sender
  sequence: u64(32), // rises with every packet of the sender, from 1
  sourceAddress: bytes(40, 16), // IPv4 mapped
  destinationAddress: bytes(56, 16), // a unit's, a group, a directed broadcast
  sourcePort: u16(72),
  destinationPort: u16(74),
  messageType: u16(76), // MessageType
  dataLength: u16(78), // bytes of the data area, which follows
});
export const PACKET_MAGIC = 0x63614e43;
export const PACKET_VERSION = 1;
export const DATA_BYTES_MAX = 1200;

export const AuthenticatorKind = {
  /** 32 bytes: HMAC-SHA256 under JoinKeys.autoconfig. Also the join proof. */
  joinSecret: 1,
  /** SIGNATURE: by a unit that has no secret; proves only that it is the unit it says it is. */
  unitKey: 2,
} as const;
export type AuthenticatorKind = (typeof AuthenticatorKind)[keyof typeof AuthenticatorKind];

export const HMAC_BYTES = 32;
export const SIGNATURE = struct("signature", 96, "little", {
  publicKey: bytes(0, 32), // Ed25519; its SHA-256 starts with unitId
  signature: bytes(32, 64), // of SIGNATURE_LABEL and all bytes before
});
export const SIGNATURE_LABEL = "cairn autoconfig packet v1\0";
export const PACKET_BYTES_MAX = PACKET.size + DATA_BYTES_MAX + SIGNATURE.size;

export const MessageType = {
  unitStartup: 1,
  enquiry: 2,
  storageInformation: 3,
  registered: 4,
  heartbeat: 5,
  storageChanged: 6,
  controlStationIs: 7,
  unitShutdown: 8,
  // 9 and 10 are kept for volume request and volume assignment, which go over REST (decision 0031).
} as const;
export type MessageType = (typeof MessageType)[keyof typeof MessageType];

// Text is UTF-8, filled up with zeros, without control characters. Sizes in bytes.
const NAME_BYTES = 64;

/** Unit, all: every 1 s until it is in a cluster, then every 30 s. Then cards, then addresses. */
export const UNIT_STARTUP = struct("unit startup", 176, "little", {
  name: bytes(0, NAME_BYTES),
  softwareVersion: bytes(64, 32),
  publicKey: bytes(96, 32), // Ed25519
  clusterId: bytes(128, 16), // zeros: none
  clusterState: u8(144), // 0 none, 1 virgin, 2 used, 3 yielding
  stage: u8(145), // Stage
  flags: u8(146), // StartupFlag
  cardCount: u8(147),
  addressCount: u8(148),
  zero: reserved(149, 3),
  featureLevel: u16(152),
  channelPort: u16(154), // TCP, where channels are accepted
  zeroAfter: reserved(156, 4),
  listeningMs: u32(160), // since it began to listen
  zeroAtEnd: reserved(164, 12),
});
export const NETWORK_CARD = struct("network card", 32, "little", {
  hardwareAddress: bytes(0, 6),
  zero: reserved(6, 2),
  speedMegabits: u32(8), // 0: unknown
  mtuBytes: u32(12),
  name: bytes(16, 16),
});
export const NETWORK_ADDRESS = struct("network address", 20, "little", {
  address: bytes(0, 16),
  prefixBits: u8(16), // of the 16 bytes: an IPv4 /24 is 120
  card: u8(17), // index of its network card
  zero: reserved(18, 2),
});
export const CARDS_MAX = 8;
export const NETWORK_ADDRESSES_MAX = 24;
export const StartupFlag = {
  /** Never founds a cluster. */
  joinOnly: 1,
  /** Wants the role of a spare; never founds a cluster. */
  spare: 2,
} as const;
export const STARTUP_FLAGS_ALL = StartupFlag.joinOnly | StartupFlag.spare;
/** What a unit is about, for the others' decisions. */
export const Stage = { waiting: 0, listening: 1, founding: 2, joining: 3, member: 4 } as const;
export type Stage = (typeof Stage)[keyof typeof Stage];

/** Control station, unit. */
export const ENQUIRY = struct("enquiry", 16, "little", {
  enquiryNumber: u32(0), // repeated in the answers
  wanted: u16(4), // Wanted, bits
  zero: reserved(6, 2),
  term: u64(8), // of the control station
});
export const Wanted = { storage: 1, heartbeat: 2, startup: 4 } as const;
export const WANTED_ALL = Wanted.storage | Wanted.heartbeat | Wanted.startup;

/** Unit, control station: one page; disk items and slice items follow, in any order. */
export const STORAGE_INFORMATION = struct("storage information", 24, "little", {
  enquiryNumber: u32(0),
  page: u16(4), // from 0
  pageCount: u16(6), // 1 to STORAGE_PAGES_MAX
  diskCount: u16(8), // in this page
  sliceCount: u16(10), // in this page
  leftOut: u32(12), // items that no page had room for
  revision: u64(16), // of the control state the unit has seen
});
/** The original's storage volume S1, S2 ... */
export const STORE_DISK = struct("disk item", 80, "little", {
  diskNumber: u32(0), // 0: not the cluster's (yet)
  state: u8(4), // DiskState
  health: u8(5), // Health
  zero: reserved(6, 2),
  diskId: bytes(8, 16),
  sizeBytes: u64(24),
  usedBytes: u64(32),
  freeBytes: u64(40),
  path: bytes(48, 32),
});
/** The original's partition P1, P2 ... */
export const STORE_SLICE = struct("slice item", 32, "little", {
  diskNumber: u32(0),
  slice: u32(4),
  volume: u32(8),
  index: u32(12), // in its volume
  mappedBytes: u64(16),
  state: u8(24), // SliceState
  zero: reserved(25, 7),
});
export const STORAGE_PAGES_MAX = 128;
export const DiskState = { claimed: 1, blank: 2, notBlank: 3, absent: 4 } as const;
export type DiskState = (typeof DiskState)[keyof typeof DiskState];
export const Health = { good: 1, worn: 2, failing: 3, failed: 4 } as const;
export type Health = (typeof Health)[keyof typeof Health];
export const SliceState = { head: 1, inSync: 2, resyncing: 3, left: 4 } as const;
export type SliceState = (typeof SliceState)[keyof typeof SliceState];

/** Control station, unit: you are in; where the control API is. */
export const REGISTERED = struct("registered", 192, "little", {
  clusterId: bytes(0, 16),
  clusterName: bytes(16, NAME_BYTES),
  pool: bytes(80, NAME_BYTES), // empty: in none
  term: u64(144),
  unitNumber: u32(152),
  apiPort: u16(156),
  channelPort: u16(158),
  apiAddress: bytes(160, 16),
  featureLevel: u16(176), // the cluster's committed one
  role: u8(178), // Role
  zero: reserved(179, 13),
});
export const Role = { member: 1, spare: 2, witness: 3 } as const;
export type Role = (typeof Role)[keyof typeof Role];

/** Both ways between control station and units, every 2 s. */
export const HEARTBEAT = struct("heartbeat", 64, "little", {
  clusterId: bytes(0, 16),
  term: u64(16), // of the control station, as the sender knows it
  revision: u64(24), // of the control state, seen
  sizeBytes: u64(32), // of the claimed disks
  freeBytes: u64(40),
  uptimeSeconds: u32(48),
  loadPermille: u16(52), // of all cores
  health: u8(54), // Health, the worst of the unit
  zero: reserved(55, 9),
});

/** Unit, control station. */
export const STORAGE_CHANGED = struct("storage changed", 128, "little", {
  diskId: bytes(0, 16),
  diskNumber: u32(16), // 0: not the cluster's (yet)
  change: u8(20), // StorageChange
  zero: reserved(21, 3),
  sizeBytes: u64(24),
  path: bytes(32, 32),
  reason: bytes(64, 64), // plain words
});
export const StorageChange = { added: 1, removed: 2, failing: 3 } as const;
export type StorageChange = (typeof StorageChange)[keyof typeof StorageChange];

/**
 * Control station, all, every 1 s. Then its addresses (16 bytes each), where channels are accepted.
 */
export const CONTROL_STATION_IS = struct("control station is", 176, "little", {
  clusterId: bytes(0, 16),
  clusterName: bytes(16, NAME_BYTES),
  stationUnitId: bytes(80, 16),
  publicKey: bytes(96, 32), // the station's, Ed25519
  groupAddress: bytes(128, 16), // zeros: none
  term: u64(144),
  clusterState: u8(152), // 1 virgin, 2 used, 3 yielding
  addressCount: u8(153),
  featureLevel: u16(154), // the cluster's committed one
  channelPort: u16(156),
  apiPort: u16(158),
  unitCount: u16(160),
  zero: reserved(162, 14),
});
export const STATION_ADDRESSES_MAX = 16;

/** Unit, all. */
export const UNIT_SHUTDOWN = struct("unit shutdown", 88, "little", {
  clusterId: bytes(0, 16),
  expectedReturnSeconds: u32(16), // 0: unknown
  kind: u8(20), // ShutdownKind
  zero: reserved(21, 3),
  reason: bytes(24, 64), // plain words
});
export const ShutdownKind = { planned: 1, dying: 2 } as const;
export type ShutdownKind = (typeof ShutdownKind)[keyof typeof ShutdownKind];

// Replay and rate limits.
/** Sequence numbers of one sender that may arrive out of order. */
export const REPLAY_WINDOW = 64;
/** Packets of one source address: a burst, and then so many a second. */
export const SOURCE_BURST = 200;
export const SOURCE_PER_SECOND = 50;
/** All packets of sources that have not proved themselves lately. */
export const STRANGERS_BURST = 500;
export const STRANGERS_PER_SECOND = 200;
/** Sources whose rate is remembered. */
export const SOURCES_MAX = 1024;
/** A source that proved itself is no stranger for so long. */
export const PROVED_MS = 60_000;
