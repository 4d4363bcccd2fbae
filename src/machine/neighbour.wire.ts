// SPDX-License-Identifier: Apache-2.0
//
// What tells a network that an address is at another machine now: a gratuitous ARP (RFC 826, RFC
// 5227 section 3) and an unsolicited neighbour advertisement (RFC 4861 section 7.2.6), each as a
// whole Ethernet frame (IEEE 802.3).

import { bytes, reserved, struct, u16, u8 } from "#base/wire.ts";

export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_IPV6 = 0x86dd;

/** RFC 826 "Packet format", behind an Ethernet header. */
export const ARP_FRAME = struct("ARP frame", 42, "big", {
  destination: bytes(0, 6),
  source: bytes(6, 6),
  etherType: u16(12),
  hardwareType: u16(14), // 1: Ethernet
  protocolType: u16(16), // 0x0800: IPv4
  hardwareLength: u8(18),
  protocolLength: u8(19),
  operation: u16(20), // 1: request
  senderHardware: bytes(22, 6),
  senderAddress: bytes(28, 4),
  targetHardware: bytes(32, 6),
  targetAddress: bytes(38, 4),
});

/** RFC 8200 section 3, RFC 4861 sections 4.4 and 4.6.1, behind an Ethernet header. */
export const ADVERTISEMENT_FRAME = struct("neighbour advertisement frame", 86, "big", {
  destination: bytes(0, 6),
  source: bytes(6, 6),
  etherType: u16(12),
  versionClass: u16(14), // 0x6000
  flowLabel: u16(16),
  payloadLength: u16(18), // 32
  nextHeader: u8(20), // 58: ICMPv6
  hopLimit: u8(21), // 255, or it is not taken
  sourceAddress: bytes(22, 16),
  destinationAddress: bytes(38, 16),
  type: u8(54), // 136
  code: u8(55),
  checksum: u16(56),
  flags: u8(58), // 0x20: override
  reserved: reserved(59, 3),
  targetAddress: bytes(62, 16),
  optionType: u8(78), // 2: target link-layer address
  optionLength: u8(79), // in units of 8 bytes
  linkAddress: bytes(80, 6),
});

export const ARP = {
  HARDWARE_ETHERNET: 1,
  PROTOCOL_IPV4: 0x0800,
  REQUEST: 1,
} as const;
export const ADVERTISEMENT = {
  VERSION_CLASS: 0x6000,
  PAYLOAD_BYTES: 32,
  ICMPV6: 58,
  HOP_LIMIT: 255,
  TYPE: 136,
  FLAG_OVERRIDE: 0x20,
  OPTION_TARGET_LINK_ADDRESS: 2,
} as const;
/** IPv6 multicast to all nodes (RFC 4291 section 2.7.1), and its Ethernet address (RFC 2464). */
export const ALL_NODES = Uint8Array.fromHex("ff020000000000000000000000000001");
export const ALL_NODES_ETHERNET = Uint8Array.fromHex("333300000001");
export const ETHERNET_BROADCAST = Uint8Array.fromHex("ffffffffffff");
