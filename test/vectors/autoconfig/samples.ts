// SPDX-License-Identifier: Apache-2.0
//
// One packet of every message type with fixed keys, for the golden vectors. Values are chosen so
// that no two fields of a message are equal and every list has at least one entry.

import { parseAddress } from "#protocol/autoconfig/address.ts";
import type { Envelope, PacketKeys } from "#protocol/autoconfig/codec.ts";
import * as wire from "#protocol/autoconfig/autoconfig.wire.ts";
import type { Message } from "#protocol/autoconfig/message-types.ts";
import { unitIdOf } from "#protocol/peer-channel/identity.ts";
import { joinKeys } from "#protocol/peer-channel/secret.ts";
import type { Seal } from "#base/world.ts";

export const JOIN_SECRET = "golden vectors of version 1";

export function filled(length: number, start: number): Uint8Array {
  return new Uint8Array(length).map((_, at) => (start + at) & 0xff);
}
function address(text: string): Uint8Array {
  return parseAddress(text) as Uint8Array;
}

/** Keys of the sender: with the secret, and without. */
export function senderKeys(seal: Seal): { withSecret: PacketKeys; without: PacketKeys } {
  const privateKey = filled(32, 0x20);
  const publicKey = seal.ed25519PublicKey(privateKey);
  const joinKey = joinKeys(seal, JOIN_SECRET).autoconfig;
  return {
    withSecret: { privateKey, publicKey, joinKey },
    without: { privateKey, publicKey, joinKey: null },
  };
}

export function envelope(seal: Seal, keys: PacketKeys, sequence: number): Envelope {
  return {
    unitId: unitIdOf(seal, keys.publicKey),
    bootCounter: 5,
    sequence,
    sourceAddress: address("192.0.2.7"),
    destinationAddress: address(wire.GROUP_IPV4),
    sourcePort: wire.AUTOCONFIG_PORT,
    destinationPort: wire.AUTOCONFIG_PORT,
  };
}

const clusterId = filled(16, 0x50);
const { MessageType } = wire;

export const messages: readonly Message[] = [
  {
    type: MessageType.unitStartup,
    name: "lager-süd",
    softwareVersion: "0.1.0",
    publicKey: filled(32, 0x80),
    clusterId: new Uint8Array(16),
    clusterState: 0,
    stage: wire.Stage.listening,
    joinOnly: false,
    spare: true,
    featureLevel: 2,
    channelPort: 10812,
    listeningMs: 1234,
    cards: [
      { name: "eth0", hardwareAddress: filled(6, 0x02), speedMegabits: 1000, mtuBytes: 1500 },
      { name: "eth1", hardwareAddress: filled(6, 0x12), speedMegabits: 0, mtuBytes: 9000 },
    ],
    addresses: [
      { address: address("192.0.2.7"), prefixBits: 120, card: 0 },
      { address: address("fe80::12:34ff:fe56:789a"), prefixBits: 64, card: 1 },
    ],
  },
  { type: MessageType.enquiry, enquiryNumber: 77, wanted: wire.WANTED_ALL, term: 9 },
  {
    type: MessageType.storageInformation,
    enquiryNumber: 77,
    page: 1,
    pageCount: 3,
    leftOut: 4,
    revision: 2 ** 40 + 1,
    disks: [
      {
        diskNumber: 6,
        diskId: filled(16, 0x60),
        state: wire.DiskState.claimed,
        health: wire.Health.worn,
        sizeBytes: 2 ** 41,
        usedBytes: 2 ** 39,
        freeBytes: 2 ** 41 - 2 ** 39,
        path: "/dev/disk/by-id/example",
      },
    ],
    slices: [
      {
        diskNumber: 6,
        slice: 31,
        volume: 8,
        index: 2,
        mappedBytes: 2 ** 33,
        state: wire.SliceState.resyncing,
      },
    ],
  },
  {
    type: MessageType.registered,
    clusterId,
    clusterName: "werkstatt",
    pool: "first",
    role: wire.Role.member,
    unitNumber: 3,
    term: 9,
    apiAddress: address("fd12:3456:789a::1"),
    apiPort: 443,
    channelPort: 10812,
    featureLevel: 2,
  },
  {
    type: MessageType.heartbeat,
    clusterId,
    term: 9,
    revision: 4711,
    sizeBytes: 2 ** 41,
    freeBytes: 2 ** 40,
    uptimeSeconds: 86_401,
    loadPermille: 250,
    health: wire.Health.good,
  },
  {
    type: MessageType.storageChanged,
    change: wire.StorageChange.failing,
    diskId: filled(16, 0x60),
    diskNumber: 6,
    sizeBytes: 2 ** 41,
    path: "/dev/sdb",
    reason: "12 reallocated sectors since yesterday",
  },
  {
    type: MessageType.controlStationIs,
    clusterId,
    clusterName: "werkstatt",
    clusterState: 1,
    stationUnitId: filled(16, 0x70),
    publicKey: filled(32, 0xa0),
    groupAddress: address("192.0.2.100"),
    term: 9,
    featureLevel: 2,
    channelPort: 10812,
    apiPort: 443,
    unitCount: 3,
    addresses: [address("192.0.2.7"), address("fe80::12:34ff:fe56:789a")],
  },
  {
    type: MessageType.unitShutdown,
    clusterId,
    kind: wire.ShutdownKind.planned,
    expectedReturnSeconds: 90,
    reason: "update to 0.2.0",
  },
];
