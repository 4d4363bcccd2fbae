// SPDX-License-Identifier: Apache-2.0
//
// Tells a network that an address is here now, so that what its machines remember of where it was
// is replaced at once (neighbour.wire.ts).

import { Fault } from "#base/fault.ts";
import { cString, errno, errnoName, libc } from "./libc.ts";
import {
  ADVERTISEMENT,
  ADVERTISEMENT_FRAME,
  ALL_NODES,
  ALL_NODES_ETHERNET,
  ARP,
  ARP_FRAME,
  ETHERNET_BROADCAST,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV6,
} from "./neighbour.wire.ts";
import { parseIpv4, parseIpv6 } from "./socket-address.ts";

// linux/socket.h, linux/if_packet.h
const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOCKADDR_LL_BYTES = 20;
const SOCKADDR_LL_INDEX = 4;

/** The frame that announces an address of a machine with this Ethernet address. */
export function announcement(address: string, mac: Uint8Array): Uint8Array<ArrayBuffer> {
  const four = parseIpv4(address);
  if (four !== null) return gratuitousArp(four, mac);
  const six = parseIpv6(address);
  if (six === null) throw new Fault("badConfiguration", `"${address}" is no IP address`);
  return advertisement(six, mac);
}

function gratuitousArp(address: Uint8Array, mac: Uint8Array): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(ARP_FRAME.size);
  const view = ARP_FRAME.view().at(frame, 0);
  view.destination = ETHERNET_BROADCAST;
  view.source = mac;
  view.etherType = ETHERTYPE_ARP;
  view.hardwareType = ARP.HARDWARE_ETHERNET;
  view.protocolType = ARP.PROTOCOL_IPV4;
  view.hardwareLength = 6;
  view.protocolLength = 4;
  view.operation = ARP.REQUEST;
  view.senderHardware = mac;
  view.senderAddress = address;
  view.targetAddress = address;
  return frame;
}

function advertisement(address: Uint8Array, mac: Uint8Array): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(ADVERTISEMENT_FRAME.size);
  const view = ADVERTISEMENT_FRAME.view().at(frame, 0);
  view.destination = ALL_NODES_ETHERNET;
  view.source = mac;
  view.etherType = ETHERTYPE_IPV6;
  view.versionClass = ADVERTISEMENT.VERSION_CLASS;
  view.payloadLength = ADVERTISEMENT.PAYLOAD_BYTES;
  view.nextHeader = ADVERTISEMENT.ICMPV6;
  view.hopLimit = ADVERTISEMENT.HOP_LIMIT;
  view.sourceAddress = address;
  view.destinationAddress = ALL_NODES;
  view.type = ADVERTISEMENT.TYPE;
  view.flags = ADVERTISEMENT.FLAG_OVERRIDE;
  view.targetAddress = address;
  view.optionType = ADVERTISEMENT.OPTION_TARGET_LINK_ADDRESS;
  view.optionLength = 1;
  view.linkAddress = mac;
  view.checksum = icmpChecksum(frame);
  return frame;
}

/** RFC 4443 section 2.3: over addresses, length, next header, and the message. */
function icmpChecksum(frame: Uint8Array): number {
  const words = new DataView(frame.buffer);
  let sum = ADVERTISEMENT.PAYLOAD_BYTES + ADVERTISEMENT.ICMPV6;
  for (let at = ADDRESSES_AT; at < frame.length; at += 2) sum += words.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
const ADDRESSES_AT = 22; // sourceAddress; the message follows the addresses

/** Sends a frame on an interface, as it is. A Fault badMachine where that cannot be. */
export function sendFrame(link: string, frame: Uint8Array<ArrayBuffer>): void {
  const index = libc.if_nametoindex(cString(link));
  const fd = index === 0 ? -1 : libc.socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new Fault("badMachine", `no packet socket on ${link} (${errnoName(errno())})`);
  try {
    const place = new Uint8Array(SOCKADDR_LL_BYTES);
    const view = new DataView(place.buffer);
    view.setUint16(0, AF_PACKET, true);
    view.setInt32(SOCKADDR_LL_INDEX, index, true);
    const bound = libc.bind(fd, place, SOCKADDR_LL_BYTES) === 0;
    if (!bound || Number(libc.write(fd, frame, frame.length)) !== frame.length) {
      throw new Fault("badMachine", `a frame could not be sent on ${link} (${errnoName(errno())})`);
    }
  } finally {
    libc.close(fd);
  }
}
