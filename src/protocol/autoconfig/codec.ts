// SPDX-License-Identifier: Apache-2.0
//
// Packets of auto-configuration: made and judged (autoconfig.wire.ts). Judging goes from cheap to
// dear and names one reason: enough bytes and a known envelope, addresses that agree with the
// datagram, an authentic sender, then a well-formed data area. Whether a packet is fresh and within
// its rate is guard.ts's part, since that needs memory.

import { assert } from "#base/assert.ts";
import type { Seal } from "#base/world.ts";
import { unitIdOf, verify } from "#protocol/peer-channel/identity.ts";
import { join } from "#protocol/peer-channel/secret.ts";
import { sameBytes } from "#protocol/peer-channel/identity.ts";
import * as wire from "./autoconfig.wire.ts";
import { readData, writeData } from "./messages.ts";
import type { Message } from "./message-types.ts";

/** Why a packet was dropped; counted by name, shown on the console. */
export const PacketFault = {
  tooShort: "shorter than its envelope",
  tooLong: "longer than any packet may be",
  notOurs: "no auto-configuration packet",
  unknownVersion: "another version of auto-configuration",
  unknownAuthenticator: "an authenticator this version does not know",
  wrongLength: "its length fields do not agree with the datagram",
  wrongSource: "its source is not where the datagram came from",
  wrongDestination: "it was not sent to this unit",
  ownPacket: "our own, come back",
  noSecret: "made with a join secret, and this unit has none",
  notAuthentic: "made with another join secret, or changed on the way",
  wrongUnit: "its unit id is not its key's",
  unknownType: "a message type this version does not know",
  badData: "its data area is not what its type says",
  replayed: "seen before, or older than what came since",
  tooMany: "more packets than its source may send",
} as const;
export type PacketFault = keyof typeof PacketFault;

/** How a unit signs: with the secret where it has one. */
export interface PacketKeys {
  /** JoinKeys.autoconfig, or null. */
  readonly joinKey: Uint8Array | null;
  /** Ed25519. */
  readonly publicKey: Uint8Array;
  readonly privateKey: Uint8Array;
}

/** Everything of a packet but its data area. Addresses are 16 bytes. */
export interface Envelope {
  readonly unitId: Uint8Array;
  readonly bootCounter: number;
  readonly sequence: number;
  readonly sourceAddress: Uint8Array;
  readonly destinationAddress: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

export interface Packet extends Envelope {
  readonly message: Message;
  /** Made with our join secret; else only with its own key. */
  readonly proved: boolean;
  /** Of a unit that signed with its key; null with the secret. */
  readonly publicKey: Uint8Array | null;
}

/** The datagram a packet came in, as the socket tells it. */
export interface Arrival {
  readonly sourceAddress: Uint8Array;
  readonly sourcePort: number;
  /** Whether an address is ours: of a card, a group we joined, a directed broadcast. */
  isOurs(address: Uint8Array): boolean;
}

const view = wire.PACKET.view();
const signatureView = wire.SIGNATURE.view();
const label = new TextEncoder().encode(wire.SIGNATURE_LABEL);

/** The whole datagram. */
export function encodePacket(
  seal: Seal,
  keys: PacketKeys,
  envelope: Envelope,
  message: Message,
): Uint8Array {
  const data = writeData(message);
  const withSecret = keys.joinKey !== null;
  const signedBytes = wire.PACKET.size + data.length;
  const tailBytes = withSecret ? wire.HMAC_BYTES : wire.SIGNATURE.size;
  const packet = new Uint8Array(signedBytes + tailBytes);
  const head = view.at(packet, 0);
  head.magic = wire.PACKET_MAGIC;
  head.version = wire.PACKET_VERSION;
  head.authenticatorKind = withSecret
    ? wire.AuthenticatorKind.joinSecret
    : wire.AuthenticatorKind.unitKey;
  head.unitId = envelope.unitId;
  head.bootCounter = envelope.bootCounter;
  head.sequence = envelope.sequence;
  head.sourceAddress = envelope.sourceAddress;
  head.destinationAddress = envelope.destinationAddress;
  head.sourcePort = envelope.sourcePort;
  head.destinationPort = envelope.destinationPort;
  head.messageType = message.type;
  head.dataLength = data.length;
  packet.set(data, wire.PACKET.size);
  const signed = packet.subarray(0, signedBytes);
  if (keys.joinKey !== null) {
    packet.set(seal.hmacSha256(keys.joinKey, signed), signedBytes);
  } else {
    const tail = signatureView.at(packet, signedBytes);
    tail.publicKey = keys.publicKey;
    tail.signature = seal.sign(keys.privateKey, join([label, signed]));
  }
  assert(packet.length <= wire.PACKET_BYTES_MAX, "a packet fits its maximum");
  return packet;
}

/** Who sent it, unproved: for the rate limit and the count of what was dropped. Null: no packet. */
export function peekUnitId(packet: Uint8Array): Uint8Array | null {
  return invalidEnvelope(packet) === null ? view.at(packet, 0).unitId.slice() : null;
}

/** Why the envelope alone refuses the packet, or null. Nothing in it is proved. */
export function invalidEnvelope(packet: Uint8Array): PacketFault | null {
  if (packet.length < wire.PACKET.size) return "tooShort";
  if (packet.length > wire.PACKET_BYTES_MAX) return "tooLong";
  const head = view.at(packet, 0);
  if (head.magic !== wire.PACKET_MAGIC) return "notOurs";
  if (head.version !== wire.PACKET_VERSION) return "unknownVersion";
  const tailBytes = authenticatorBytes(head.authenticatorKind);
  if (tailBytes === 0) return "unknownAuthenticator";
  if (head.dataLength > wire.DATA_BYTES_MAX || !head.reservedIsZero()) return "wrongLength";
  if (packet.length !== wire.PACKET.size + head.dataLength + tailBytes) return "wrongLength";
  if (!Number.isSafeInteger(head.bootCounter)) return "wrongLength";
  return Number.isSafeInteger(head.sequence) ? null : "wrongLength";
}

function authenticatorBytes(kind: number): number {
  if (kind === wire.AuthenticatorKind.joinSecret) return wire.HMAC_BYTES;
  return kind === wire.AuthenticatorKind.unitKey ? wire.SIGNATURE.size : 0;
}

/** The packet, or the reason why it is dropped. Keeps nothing of `packet`. */
export function decodePacket(
  seal: Seal,
  keys: PacketKeys & { readonly unitId: Uint8Array },
  packet: Uint8Array,
  arrival: Arrival,
): Packet | PacketFault {
  const invalid = invalidEnvelope(packet);
  if (invalid !== null) return invalid;
  const head = view.at(packet, 0);
  if (sameBytes(head.unitId, keys.unitId)) return "ownPacket";
  if (!sameBytes(head.sourceAddress, arrival.sourceAddress)) return "wrongSource";
  if (head.sourcePort !== arrival.sourcePort) return "wrongSource";
  if (!arrival.isOurs(head.destinationAddress)) return "wrongDestination";
  const envelope = envelopeOf();
  const { messageType: type, dataLength } = head;
  const proved = head.authenticatorKind === wire.AuthenticatorKind.joinSecret;
  const fault = proved ? checkSecret(seal, keys, packet) : checkKey(seal, packet);
  if (fault !== null) return fault;
  const known = Object.values(wire.MessageType).find((one) => one === type);
  if (known === undefined) return "unknownType";
  const dataEnd = wire.PACKET.size + dataLength;
  const message = readData(known, packet.subarray(wire.PACKET.size, dataEnd));
  if (message === null) return "badData";
  const publicKey = proved ? null : packet.slice(dataEnd, dataEnd + 32);
  return { ...envelope, message, proved, publicKey };
}

function envelopeOf(): Envelope {
  return {
    unitId: view.unitId.slice(),
    bootCounter: view.bootCounter,
    sequence: view.sequence,
    sourceAddress: view.sourceAddress.slice(),
    destinationAddress: view.destinationAddress.slice(),
    sourcePort: view.sourcePort,
    destinationPort: view.destinationPort,
  };
}

function checkSecret(seal: Seal, keys: PacketKeys, packet: Uint8Array): PacketFault | null {
  if (keys.joinKey === null) return "noSecret";
  const signedBytes = packet.length - wire.HMAC_BYTES;
  const expected = seal.hmacSha256(keys.joinKey, packet.subarray(0, signedBytes));
  return seal.equal(expected, packet.subarray(signedBytes)) ? null : "notAuthentic";
}

function checkKey(seal: Seal, packet: Uint8Array): PacketFault | null {
  const signedBytes = packet.length - wire.SIGNATURE.size;
  const tail = signatureView.at(packet, signedBytes);
  const publicKey = tail.publicKey.slice();
  if (!sameBytes(unitIdOf(seal, publicKey), view.at(packet, 0).unitId)) return "wrongUnit";
  const signed = join([label, packet.subarray(0, signedBytes)]);
  return verify(seal, publicKey, signed, tail.signature.slice()) ? null : "notAuthentic";
}
