// SPDX-License-Identifier: Apache-2.0
//
// A unit's identity: kept and found again, never shown, new after a wipe (R12); its address among
// units.

import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { nodeSeal } from "#protocol/peer-channel/node-seal.test.ts";
import { parseAddress } from "#protocol/autoconfig/address.ts";
import { clusterPrefix, idBytes, identityText, idText } from "./identity.ts";
import { makeIdentity, parseIdentity, unitAddress } from "./identity.ts";

const seal = nodeSeal();

describe("identity", () => {
  test("kept and read again → the same unit with the same keys", () => {
    const made = makeIdentity(seal);
    const again = parseIdentity(seal, identityText(made));
    expect(again).toEqual(made);
    expect(idText(made.unitId)).toBe(idText(seal.sha256(made.publicKey)).slice(0, 32));
    const signature = seal.sign(again.privateKey, Uint8Array.of(1));
    expect(seal.verify(made.publicKey, Uint8Array.of(1), signature)).toBe(true);
    const other = seal.x25519KeyPair();
    const shared = seal.x25519(made.linkKeys.privateKey, other.publicKey);
    expect(seal.x25519(other.privateKey, made.linkKeys.publicKey)).toEqual(shared);
  });

  test("R12: a wiped unit → another id", () => {
    expect(makeIdentity(seal).unitId).not.toEqual(makeIdentity(seal).unitId);
  });

  test("a file that is damaged or of another version → a Fault that shows no key", () => {
    const text = identityText(makeIdentity(seal));
    const key = (JSON.parse(text) as { privateKey: string }).privateKey;
    const wrong = ["", "null", "[]", text.slice(0, 40), text.replace(`"version":1`, `"version":2`)];
    wrong.push(text.replace(key, key.slice(1)), text.replace(key, `${key.slice(1)}g`));
    for (const one of wrong) {
      const caught = (() => {
        try {
          return parseIdentity(seal, one);
        } catch (cause) {
          return cause;
        }
      })();
      expect(caught).toBeInstanceOf(Fault);
      expect((caught as Fault).message).not.toContain(key.slice(1, 20));
    }
  });

  test("addresses → RFC 4193, one prefix in a cluster, differing by unit and cluster", () => {
    const [one, two] = [makeIdentity(seal).unitId, makeIdentity(seal).unitId];
    const [ours, theirs] = [seal.sha256(one).slice(0, 16), seal.sha256(two).slice(0, 16)];
    const address = unitAddress(seal, ours, one);
    const bytes = parseAddress(address) as Uint8Array;
    expect(bytes[0]).toBe(0xfd);
    expect([...bytes.subarray(6, 8)]).toEqual([0, 0]);
    const prefix = parseAddress(clusterPrefix(seal, ours).replace("/64", "")) as Uint8Array;
    const other = parseAddress(unitAddress(seal, ours, two)) as Uint8Array;
    expect([...bytes.subarray(0, 8)]).toEqual([...prefix.subarray(0, 8)]);
    expect([...other.subarray(0, 8)]).toEqual([...prefix.subarray(0, 8)]);
    expect(unitAddress(seal, ours, one)).toBe(address);
    expect(
      new Set([address, unitAddress(seal, ours, two), unitAddress(seal, theirs, one)]).size,
    ).toBe(3);
  });

  test("ids as text → and back, in the bytes' order", () => {
    const bytes = Uint8Array.of(0, 15, 16, 255);
    expect(idText(bytes)).toBe("000f10ff");
    expect(idBytes("000f10ff")).toEqual(bytes);
  });
});
