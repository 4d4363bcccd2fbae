// SPDX-License-Identifier: Apache-2.0
//
// Packets judged: every refusal has a test, every field that is changed is noticed, and no bytes
// make the codec throw. Golden bytes are in test/vectors/autoconfig.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { hex, nodeSeal } from "#protocol/peer-channel/node-seal.test.ts";
import { unitIdOf } from "#protocol/peer-channel/identity.ts";
import { joinKeys } from "#protocol/peer-channel/secret.ts";
import * as wire from "./autoconfig.wire.ts";
import { decodePacket, encodePacket } from "./codec.ts";
import type { Arrival, Envelope, PacketKeys } from "./codec.ts";
import type { Heartbeat, Message, UnitStartup } from "./message-types.ts";
import { readData, writeData } from "./messages.ts";

const seal = nodeSeal();
const pair = seal.ed25519KeyPair();
const joinKey = joinKeys(seal, "a secret long enough").autoconfig;
const withSecret: PacketKeys = { ...pair, joinKey };
const without: PacketKeys = { ...pair, joinKey: null };
const ours = new Uint8Array(16).fill(0xaa);
const envelope: Envelope = {
  unitId: unitIdOf(seal, pair.publicKey),
  bootCounter: 1,
  sequence: 1,
  sourceAddress: new Uint8Array(16).fill(1),
  destinationAddress: new Uint8Array(16).fill(2),
  sourcePort: 10811,
  destinationPort: 10811,
};
const arrival: Arrival = {
  sourceAddress: envelope.sourceAddress,
  sourcePort: 10811,
  isOurs: (address) => address[0] === 2,
};
const receiver = { ...withSecret, unitId: ours };
const heartbeat: Heartbeat = {
  type: wire.MessageType.heartbeat,
  clusterId: new Uint8Array(16).fill(3),
  term: 1,
  revision: 2,
  sizeBytes: 3,
  freeBytes: 4,
  uptimeSeconds: 5,
  loadPermille: 6,
  health: wire.Health.good,
};
const startup: UnitStartup = {
  type: wire.MessageType.unitStartup,
  name: "box",
  softwareVersion: "1",
  publicKey: pair.publicKey,
  clusterId: new Uint8Array(16),
  clusterState: 0,
  stage: wire.Stage.listening,
  joinOnly: true,
  spare: false,
  featureLevel: 1,
  channelPort: 1,
  listeningMs: 1,
  cards: [],
  addresses: [],
};

function judge(bytes: Uint8Array, keys: PacketKeys = withSecret, from = arrival): string {
  const decoded = decodePacket(seal, { ...keys, unitId: ours }, bytes, from);
  return typeof decoded === "string" ? decoded : "taken";
}
function changed(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const copy = bytes.slice();
  copy[at] = value;
  return copy;
}
/** Authentic, but its data area is these bytes and its type that number. */
function withData(type: number, data: Uint8Array): Uint8Array {
  const packet = new Uint8Array(wire.PACKET.size + data.length + wire.HMAC_BYTES);
  packet.set(encodePacket(seal, withSecret, envelope, heartbeat).subarray(0, wire.PACKET.size));
  const head = wire.PACKET.view().at(packet, 0);
  head.messageType = type;
  head.dataLength = data.length;
  packet.set(data, wire.PACKET.size);
  const signed = packet.subarray(0, packet.length - wire.HMAC_BYTES);
  packet.set(seal.hmacSha256(joinKey, signed), signed.length);
  return packet;
}

describe("packets", () => {
  const good = encodePacket(seal, withSecret, envelope, heartbeat);
  const signed = encodePacket(seal, without, envelope, heartbeat);

  test("made with the secret → taken and proved; with the key → taken, not proved", () => {
    const [first, second] = [good, signed].map((bytes) =>
      decodePacket(seal, receiver, bytes, arrival),
    );
    expect(first).toMatchObject({ proved: true, publicKey: null, message: heartbeat });
    expect(second).toMatchObject({ proved: false, publicKey: pair.publicKey, message: heartbeat });
  });

  const other = { ...withSecret, joinKey: joinKeys(seal, "another long secret").autoconfig };
  const elsewhere = { ...arrival, sourceAddress: ours };
  const otherUnit = encodePacket(
    seal,
    without,
    { ...envelope, unitId: ours.map(() => 5) },
    heartbeat,
  );
  const cases: [string, () => string][] = [
    ["tooShort", () => judge(good.subarray(0, wire.PACKET.size - 1))],
    ["tooLong", () => judge(new Uint8Array(wire.PACKET_BYTES_MAX + 1))],
    ["notOurs", () => judge(changed(good, 0, 0))],
    ["unknownVersion", () => judge(changed(good, 4, 2))],
    ["unknownAuthenticator", () => judge(changed(good, 5, 3))],
    ["wrongLength", () => judge(changed(good, 78, 0xff))],
    ["wrongLength", () => judge(good.subarray(0, good.length - 1))],
    ["wrongLength", () => judge(changed(good, 6, 1))],
    ["wrongLength", () => judge(changed(good, 39, 0xff))],
    [
      "ownPacket",
      () => judge(encodePacket(seal, withSecret, { ...envelope, unitId: ours }, heartbeat)),
    ],
    ["wrongSource", () => judge(good, withSecret, elsewhere)],
    ["wrongSource", () => judge(good, withSecret, { ...arrival, sourcePort: 1 })],
    ["wrongDestination", () => judge(good, withSecret, { ...arrival, isOurs: () => false })],
    ["noSecret", () => judge(good, without)],
    ["notAuthentic", () => judge(good, other)],
    ["notAuthentic", () => judge(changed(signed, signed.length - 1, 77))],
    ["wrongUnit", () => judge(otherUnit)],
    ["unknownType", () => judge(withData(9, new Uint8Array(0)))],
    ["badData", () => judge(withData(wire.MessageType.heartbeat, new Uint8Array(63)))],
  ];
  for (const [fault, act] of cases) test(`→ ${fault}`, () => expect(act()).toBe(fault));

  test("any one byte changed → never taken", () => {
    for (const bytes of [good, signed]) {
      for (let at = 0; at < bytes.length; at++) {
        expect(judge(changed(bytes, at, (bytes[at] as number) ^ 0x10))).not.toBe("taken");
      }
    }
  });

  test("any bytes, and any data area under a valid authenticator → a reason, never a throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1500 }), (bytes) => {
        expect(judge(bytes)).not.toBe("taken");
      }),
      { numRuns: 2000 },
    );
    const type = fc.constantFrom(...Object.values(wire.MessageType));
    fc.assert(
      fc.property(
        type,
        fc.uint8Array({ maxLength: 400 }),
        fc.boolean(),
        (number, noise, sparse) => {
          const data = sparse ? noise.map((byte, at) => (at % 7 === 0 ? byte & 3 : 0)) : noise;
          const message = readData(number, data);
          if (message !== null) expect(readData(number, writeData(message))).toEqual(message);
        },
      ),
      { numRuns: 20_000 },
    );
  });
});

describe("data areas", () => {
  test("a count that its list does not have, an unknown stage, a stray bit → refused", () => {
    const data = writeData(startup);
    for (const [at, value] of [
      [147, 1],
      [148, 25],
      [145, 9],
      [146, 4],
      [149, 1],
      [144, 4],
    ] as const) {
      expect([at, readData(startup.type, changed(data, at, value))]).toEqual([at, null]);
    }
  });

  test("an address of a card that is not there → refused", () => {
    const address = { address: ours, prefixBits: 64, card: 0 };
    const card = { name: "a", hardwareAddress: hex("010203040506"), speedMegabits: 1, mtuBytes: 2 };
    const data = writeData({ ...startup, cards: [card], addresses: [address] });
    expect(readData(startup.type, data)).toMatchObject({ addresses: [address], cards: [card] });
    expect(readData(startup.type, changed(data, data.length - 3, 1))).toBeNull();
  });

  test("more cards, addresses and text than fit → cut, and still readable", () => {
    const card = {
      name: "网".repeat(30),
      hardwareAddress: hex("010203040506"),
      speedMegabits: 1,
      mtuBytes: 2,
    };
    const address = { address: ours, prefixBits: 64, card: 0 };
    const cards = new Array<typeof card>(20).fill(card);
    const addresses = new Array<typeof address>(90).fill(address);
    const name = `${"ä".repeat(40)}\u001b[31m`;
    const read = readData(startup.type, writeData({ ...startup, name, cards, addresses }));
    expect((read as UnitStartup).cards.length).toBe(wire.CARDS_MAX);
    expect((read as UnitStartup).addresses.length).toBe(wire.NETWORK_ADDRESSES_MAX);
    expect((read as UnitStartup).name).toBe("ä".repeat(31));
    expect((read as UnitStartup).cards[0]?.name).toBe("网".repeat(5));
  });

  test("text that is no UTF-8, has a control character, or bytes after its end → refused", () => {
    const data = writeData(startup);
    for (const [at, value] of [
      [0, 0xff],
      [0, 0x1b],
      [40, 0x41],
    ] as const) {
      expect(readData(startup.type, changed(data, at, value))).toBeNull();
    }
  });

  test("a message whose count is past 2^53 → refused", () => {
    const data = writeData(heartbeat as Message);
    expect(readData(heartbeat.type, changed(data, 23, 1))).toBeNull();
  });
});
