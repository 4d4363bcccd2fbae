// SPDX-License-Identifier: Apache-2.0
//
// The Seal that the tests of protocol and cluster use: node's crypto, with key pairs from a
// generator that a test may seed. Real units use src/machine's. Its own tests are the pages of the
// standards.

import { describe, expect, test } from "bun:test";
import * as node from "node:crypto";
import type { Seal } from "#base/world.ts";
import { Prng } from "#base/prng.ts";

const PKCS8_X25519 = Buffer.from("302e020100300506032b656e04220420", "hex");
const SPKI_X25519 = Buffer.from("302a300506032b656e032100", "hex");
const PKCS8_ED25519 = Buffer.from("302e020100300506032b657004220420", "hex");
const SPKI_ED25519 = Buffer.from("302a300506032b6570032100", "hex");

function privateKey(prefix: Uint8Array, raw: Uint8Array): node.KeyObject {
  const key = Buffer.concat([prefix, raw]);
  return node.createPrivateKey({ key, format: "der", type: "pkcs8" });
}
function publicKey(prefix: Uint8Array, raw: Uint8Array): node.KeyObject {
  const key = Buffer.concat([prefix, raw]);
  return node.createPublicKey({ key, format: "der", type: "spki" });
}
function publicOf(key: node.KeyObject): Uint8Array {
  const spki = node
    .createPublicKey(key as unknown as string)
    .export({ format: "der", type: "spki" });
  return new Uint8Array(spki.subarray(spki.length - 32));
}

export function hex(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, "hex"));
}
export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

/** `chance` makes the private keys: give a seeded one where the bytes must not change. */
export function nodeSeal(chance: (bytes: Uint8Array) => void = node.randomFillSync): Seal {
  const fresh = () => {
    const bytes = new Uint8Array(32);
    chance(bytes);
    return bytes;
  };
  const seal: Seal = {
    sha256: (bytes) => new Uint8Array(node.createHash("sha256").update(bytes).digest()),
    hmacSha256: (key, bytes) =>
      new Uint8Array(node.createHmac("sha256", key).update(bytes).digest()),
    x25519KeyPair() {
      const raw = fresh();
      return { privateKey: raw, publicKey: publicOf(privateKey(PKCS8_X25519, raw)) };
    },
    x25519: (ours, theirs) =>
      new Uint8Array(
        node.diffieHellman({
          privateKey: privateKey(PKCS8_X25519, ours),
          publicKey: publicKey(SPKI_X25519, theirs),
        }),
      ),
    ed25519KeyPair() {
      const raw = fresh();
      return { privateKey: raw, publicKey: seal.ed25519PublicKey(raw) };
    },
    ed25519PublicKey: (raw) => publicOf(privateKey(PKCS8_ED25519, raw)),
    sign: (raw, bytes) => new Uint8Array(node.sign(null, bytes, privateKey(PKCS8_ED25519, raw))),
    verify: (raw, bytes, signature) =>
      node.verify(null, bytes, publicKey(SPKI_ED25519, raw), signature),
    aesGcmSeal(key, nonce, associated, plain) {
      const cipher = node.createCipheriv("aes-256-gcm", key, nonce);
      cipher.setAAD(associated);
      return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
    },
    aesGcmOpen(key, nonce, associated, sealed) {
      const plain = sealed.subarray(0, sealed.length - 16);
      const decipher = node.createDecipheriv("aes-256-gcm", key, nonce);
      decipher.setAAD(associated);
      decipher.setAuthTag(sealed.subarray(sealed.length - 16));
      try {
        return Buffer.concat([decipher.update(plain), decipher.final()]);
      } catch {
        return null;
      }
    },
    aesGcmSealInto(key, nonce, associated, plain, target, at) {
      target.set(seal.aesGcmSeal(key, nonce, associated, plain), at);
    },
    aesGcmOpenInto(key, nonce, associated, sealed, target) {
      const plain = seal.aesGcmOpen(key, nonce, associated, sealed);
      if (plain !== null) target.set(plain, 0);
      return plain !== null;
    },
    equal: (left, right) => left.length === right.length && node.timingSafeEqual(left, right),
  };
  return seal;
}

/** The same keys in every run. */
export function seededSeal(seed: number): Seal {
  const prng = new Prng(seed);
  return nodeSeal((bytes) => {
    for (let at = 0; at < bytes.length; at++) bytes[at] = prng.below(256);
  });
}

describe("the seal of the tests", () => {
  const seal = nodeSeal();

  test("X25519 → RFC 7748, section 6.1", () => {
    const base = new Uint8Array(32);
    base[0] = 9;
    const bob = hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    const alicePublic = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    const shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
    expect(toHex(seal.x25519(bob, alicePublic))).toBe(shared);
    const bobPublic = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
    expect(toHex(seal.x25519(bob, base))).toBe(bobPublic);
  });

  test("Ed25519 → RFC 8032, section 7.1, test 1", () => {
    const secret = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    const own = toHex(seal.ed25519PublicKey(secret));
    expect(own).toBe("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    const signature = seal.sign(secret, new Uint8Array(0));
    expect(seal.verify(hex(own), new Uint8Array(0), signature)).toBe(true);
    expect(seal.verify(hex(own), Uint8Array.of(1), signature)).toBe(false);
  });
});
