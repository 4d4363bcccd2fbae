// SPDX-License-Identifier: Apache-2.0
//
// Golden bytes of every auto-configuration message (v1.json; provenance: our own version 1, written
// once by this file with UPDATE_VECTORS=1 before the first release, never again after it).
// Decode, compare, encode again, compare; and the authenticators checked without our codec.

import { describe, expect, test } from "bun:test";
import { createHmac, hkdfSync } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { decodePacket, encodePacket } from "#protocol/autoconfig/codec.ts";
import type { Packet } from "#protocol/autoconfig/codec.ts";
import * as wire from "#protocol/autoconfig/autoconfig.wire.ts";
import { nodeSeal } from "#protocol/peer-channel/node-seal.test.ts";
import { envelope, filled, JOIN_SECRET, messages, senderKeys } from "./samples.ts";

const FILE = join(import.meta.dir, "v1.json");
const seal = nodeSeal();
const keys = senderKeys(seal);
const nameOf = new Map(Object.entries(wire.MessageType).map(([name, type]) => [type, name]));

interface Vector {
  name: string;
  authenticator: "joinSecret" | "unitKey";
  hex: string;
}

function made(): Vector[] {
  const list: Vector[] = [];
  for (const authenticator of ["joinSecret", "unitKey"] as const) {
    const own = authenticator === "joinSecret" ? keys.withSecret : keys.without;
    for (const message of messages) {
      const name = nameOf.get(message.type) as string;
      const bytes = encodePacket(seal, own, envelope(seal, own, list.length + 1), message);
      list.push({ name, authenticator, hex: Buffer.from(bytes).toString("hex") });
    }
  }
  return list;
}

if (process.env["UPDATE_VECTORS"] === "1") {
  writeFileSync(FILE, `${JSON.stringify(made(), null, 2)}\n`);
}
const vectors: Vector[] = existsSync(FILE) ? JSON.parse(readFileSync(FILE, "utf8")) : [];

const receiver = { ...keys.withSecret, unitId: new Uint8Array(16).fill(0xee) };

function decode(bytes: Uint8Array): Packet {
  const sourceAddress = envelope(seal, keys.withSecret, 1).sourceAddress;
  const arrival = { sourceAddress, sourcePort: wire.AUTOCONFIG_PORT, isOurs: () => true };
  const decoded = decodePacket(seal, receiver, bytes, arrival);
  if (typeof decoded === "string") throw new Error(decoded);
  return decoded;
}

describe("golden vectors of auto-configuration", () => {
  test("every message type, with secret and with key", () => {
    expect(new Set(vectors.map((vector) => vector.name)).size).toBe(nameOf.size);
    expect(vectors.length).toBe(2 * nameOf.size);
  });

  for (const [index, vector] of vectors.entries()) {
    test(`${vector.name}, ${vector.authenticator} → the sample, and back`, () => {
      const decoded = decode(Buffer.from(vector.hex, "hex"));
      expect(decoded.message).toEqual(messages[index % messages.length] as never);
      expect(decoded.proved).toBe(vector.authenticator === "joinSecret");
      expect(decoded.sequence).toBe(index + 1);
      const own = decoded.proved ? keys.withSecret : keys.without;
      const again = encodePacket(seal, own, decoded, decoded.message);
      expect(Buffer.from(again).toString("hex")).toBe(vector.hex);
    });
  }

  test("the authenticator is HMAC-SHA256 under HKDF of the secret, as the page says", () => {
    const info = "cairn autoconfig authenticator v1";
    const key = hkdfSync("sha256", JOIN_SECRET, "cairn join secret v1", info, 32);
    const bytes = Buffer.from((vectors[0] as Vector).hex, "hex");
    const signed = bytes.subarray(0, bytes.length - 32);
    const expected = createHmac("sha256", Buffer.from(key)).update(signed).digest("hex");
    expect(bytes.subarray(bytes.length - 32).toString("hex")).toBe(expected);
  });

  test("the signature is the unit key's over label and packet", () => {
    const vector = vectors.find((one) => one.authenticator === "unitKey") as Vector;
    const bytes = Buffer.from(vector.hex, "hex");
    const tail = bytes.length - wire.SIGNATURE.size;
    const publicKey = bytes.subarray(tail, tail + 32);
    expect([...publicKey]).toEqual([...seal.ed25519PublicKey(filled(32, 0x20))]);
    const signed = Buffer.concat([Buffer.from(wire.SIGNATURE_LABEL), bytes.subarray(0, tail)]);
    expect(seal.verify(publicKey, signed, bytes.subarray(tail + 32))).toBe(true);
  });
});
