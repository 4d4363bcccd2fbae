// SPDX-License-Identifier: Apache-2.0
//
// Cryptography against the published vectors, and everything a stranger may hand in.

import { expect, test } from "bun:test";
import { createRandom } from "./random.ts";
import { createSeal } from "./seal.ts";

const seal = createSeal();
const hex = (text: string) => new Uint8Array(Buffer.from(text, "hex"));
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

test("SHA-256 and HMAC → the values of FIPS 180-4 and RFC 4231", () => {
  expect(text(seal.sha256(new TextEncoder().encode("abc")))).toBe(
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
  );
  const what = new TextEncoder().encode("what do ya want for nothing?");
  expect(text(seal.hmacSha256(new TextEncoder().encode("Jefe"), what))).toBe(
    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
  );
});

test("X25519 → RFC 7748 section 5.2; two own pairs agree; low order → all zero", () => {
  const scalar = hex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4");
  const point = hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
  expect(text(seal.x25519(scalar, point))).toBe(
    "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
  );
  const one = seal.x25519KeyPair();
  const two = seal.x25519KeyPair();
  const left = seal.x25519(one.privateKey, two.publicKey);
  expect(text(left)).toBe(text(seal.x25519(two.privateKey, one.publicKey)));
  expect(left.some((byte) => byte !== 0)).toBe(true);
  expect(seal.x25519(scalar, new Uint8Array(32)).every((byte) => byte === 0)).toBe(true);
  expect(seal.x25519(scalar, new Uint8Array(5)).every((byte) => byte === 0)).toBe(true);
});

test("Ed25519 → RFC 8032 test 2; a changed byte, a wrong key, nonsense → false, no throw", () => {
  const secret = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
  const publicKey = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
  const message = hex("72");
  const signature = seal.sign(secret, message);
  expect(text(seal.ed25519PublicKey(secret))).toBe(text(publicKey));
  expect(text(signature)).toBe(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da" +
      "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
  );
  expect(seal.verify(publicKey, message, signature)).toBe(true);
  expect(seal.verify(publicKey, hex("73"), signature)).toBe(false);
  const other = seal.ed25519KeyPair();
  expect(seal.verify(other.publicKey, message, signature)).toBe(false);
  expect(seal.verify(new Uint8Array(32).fill(0xff), message, signature)).toBe(false);
  expect(seal.verify(new Uint8Array(3), message, signature)).toBe(false);
  expect(seal.verify(publicKey, message, new Uint8Array(3))).toBe(false);
});

test("AES-256-GCM → test case 16 of its specification; any changed bit → null", () => {
  const key = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
  const nonce = hex("cafebabefacedbaddecaf888");
  const associated = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
  const plain = hex(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" +
      "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
  );
  const sealed = seal.aesGcmSeal(key, nonce, associated, plain);
  expect(text(sealed)).toBe(
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa" +
      "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" +
      "76fc6ece0f4e1768cddf8853bb2d551b",
  );
  expect(text(seal.aesGcmOpen(key, nonce, associated, sealed) as Uint8Array)).toBe(text(plain));
  for (let at = 0; at < sealed.length; at += 7) {
    const changed = sealed.slice();
    changed[at] = (changed[at] as number) ^ 1;
    expect(seal.aesGcmOpen(key, nonce, associated, changed)).toBeNull();
  }
  expect(seal.aesGcmOpen(key, nonce, hex("00"), sealed)).toBeNull();
  expect(seal.aesGcmOpen(key, nonce, associated, sealed.subarray(0, 15))).toBeNull();
  const empty = seal.aesGcmSeal(key, nonce, associated, new Uint8Array(0));
  expect(seal.aesGcmOpen(key, nonce, associated, empty)).toHaveLength(0);
});

test("equal: same, different, different lengths", () => {
  expect(seal.equal(hex("0102"), hex("0102"))).toBe(true);
  expect(seal.equal(hex("0102"), hex("0103"))).toBe(false);
  expect(seal.equal(hex("0102"), hex("010203"))).toBe(false);
});

test("random fills more than one call of the kernel gives", () => {
  const bytes = new Uint8Array(200_000);
  createRandom().fill(bytes);
  for (let at = 0; at + 1000 <= bytes.length; at += 1000) {
    expect(bytes.subarray(at, at + 1000).some((byte) => byte !== 0)).toBe(true);
  }
  const fraction = createRandom().fraction();
  expect(fraction).toBeGreaterThanOrEqual(0);
  expect(fraction).toBeLessThan(1);
});
