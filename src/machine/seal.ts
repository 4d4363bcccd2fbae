// SPDX-License-Identifier: Apache-2.0
//
// Cryptography for World.Seal by node:crypto, synchronous and on every thread: SHA-256, HMAC (RFC
// 2104), X25519 (RFC 7748), Ed25519 (RFC 8032), AES-256-GCM (NIST SP 800-38D). Keys are raw bytes
// outside and wrapped in the DER frames of RFC 8410 for node.
//
// What comes from outside never throws here: a wrong public key gives an all-zero secret (the
// result RFC 7748 section 6.1 asks to check for), a wrong signature or ciphertext false or null.

import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  sign,
  timingSafeEqual,
  verify,
} from "node:crypto";
import { assert } from "#base/assert.ts";
import type { Seal } from "#base/world.ts";

const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const CIPHER_BLOCK_BYTES = 16;
/** From here on an array has memory of its own. */
const OWN_MEMORY_BYTES = 2048;

// RFC 8410, section 7 and 4: what stands before the raw key.
const FRAMES = {
  x25519: {
    private: Buffer.from("302e020100300506032b656e04220420", "hex"),
    public: Buffer.from("302a300506032b656e032100", "hex"),
  },
  ed25519: {
    private: Buffer.from("302e020100300506032b657004220420", "hex"),
    public: Buffer.from("302a300506032b6570032100", "hex"),
  },
} as const;
type Curve = keyof typeof FRAMES;

function privateKeyOf(curve: Curve, raw: Uint8Array): KeyObject {
  assert(raw.length === KEY_BYTES, "a private key has 32 bytes");
  const key = Buffer.concat([FRAMES[curve].private, raw]);
  return createPrivateKey({ key, format: "der", type: "pkcs8" });
}

function publicKeyOf(curve: Curve, raw: Uint8Array): KeyObject {
  const key = Buffer.concat([FRAMES[curve].public, raw]);
  return createPublicKey({ key, format: "der", type: "spki" });
}

function rawPublic(key: KeyObject): Uint8Array {
  return new Uint8Array(key.export({ format: "der", type: "spki" }).subarray(-KEY_BYTES));
}

function keyPair(made: { publicKey: KeyObject; privateKey: KeyObject }): {
  publicKey: Uint8Array;
  privateKey: Uint8Array;
} {
  const der = made.privateKey.export({ format: "der", type: "pkcs8" });
  return {
    publicKey: rawPublic(made.publicKey),
    privateKey: new Uint8Array(der.subarray(-KEY_BYTES)),
  };
}

export function createSeal(): Seal {
  return {
    sha256: (bytes) => new Uint8Array(createHash("sha256").update(bytes).digest()),
    hmacSha256: (key, bytes) => new Uint8Array(createHmac("sha256", key).update(bytes).digest()),
    x25519KeyPair: () => keyPair(generateKeyPairSync("x25519")),
    x25519: (privateKey, publicKey) => exchange(privateKey, publicKey),
    ed25519KeyPair: () => keyPair(generateKeyPairSync("ed25519")),
    ed25519PublicKey: (privateKey) =>
      rawPublic(createPublicKey(privateKeyOf("ed25519", privateKey))),
    sign: (privateKey, bytes) =>
      new Uint8Array(sign(null, bytes, privateKeyOf("ed25519", privateKey))),
    verify: (publicKey, bytes, signature) => verified(publicKey, bytes, signature),
    aesGcmSeal: seal,
    aesGcmOpen: open,
    aesGcmSealInto: sealInto,
    aesGcmOpenInto: openInto,
    equal: (left, right) => left.length === right.length && timingSafeEqual(left, right),
  };
}

function exchange(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array {
  const own = privateKeyOf("x25519", privateKey);
  if (publicKey.length !== KEY_BYTES) return new Uint8Array(KEY_BYTES);
  try {
    const other = publicKeyOf("x25519", publicKey);
    return new Uint8Array(diffieHellman({ privateKey: own, publicKey: other }));
  } catch {
    return new Uint8Array(KEY_BYTES); // a point of low order: the library refuses the zero result
  }
}

function verified(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== KEY_BYTES || signature.length !== SIGNATURE_BYTES) return false;
  try {
    return verify(null, bytes, publicKeyOf("ed25519", publicKey), signature);
  } catch {
    return false; // not a point of the curve
  }
}

function seal(
  key: Uint8Array,
  nonce: Uint8Array,
  associated: Uint8Array,
  plain: Uint8Array,
): Uint8Array {
  const sealed = new Uint8Array(plain.length + TAG_BYTES);
  sealInto(key, nonce, associated, plain, sealed, 0);
  return sealed;
}

function sealInto(
  key: Uint8Array,
  nonce: Uint8Array,
  associated: Uint8Array,
  plain: Uint8Array,
  target: Uint8Array,
  at: number,
): void {
  assert(key.length === KEY_BYTES, "an AES-256 key has 32 bytes");
  assert(nonce.length === NONCE_BYTES, "a GCM nonce has 12 bytes");
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(associated);
  const made = cipher.update(plain);
  target.set(made, at);
  letGo(made);
  cipher.final();
  target.set(cipher.getAuthTag(), at + plain.length);
}

function open(
  key: Uint8Array,
  nonce: Uint8Array,
  associated: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | null {
  if (sealed.length < TAG_BYTES) return null;
  const plain = new Uint8Array(sealed.length - TAG_BYTES);
  return openInto(key, nonce, associated, sealed, plain) ? plain : null;
}

const TAG_LENGTH = { authTagLength: TAG_BYTES };

function openInto(
  key: Uint8Array,
  nonce: Uint8Array,
  associated: Uint8Array,
  sealed: Uint8Array,
  target: Uint8Array,
): boolean {
  assert(key.length === KEY_BYTES, "an AES-256 key has 32 bytes");
  assert(nonce.length === NONCE_BYTES, "a GCM nonce has 12 bytes");
  if (sealed.length < TAG_BYTES) return false;
  const decipher = createDecipheriv("aes-256-gcm", key, nonce, TAG_LENGTH);
  decipher.setAAD(associated);
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  const made = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES));
  target.set(made, 0);
  letGo(made);
  try {
    decipher.final();
  } catch {
    return false; // the tag does not fit: nothing of it may be used
  }
  return true;
}

/**
 * Gives memory of the cipher's own back at once. Left to the collector, it lies until many MiB have
 * come together, and the next record's is memory that the kernel has to find first.
 */
function letGo(made: Uint8Array): void {
  if (made.length < OWN_MEMORY_BYTES) return; // lies in the collector's heap
  const { buffer } = made;
  // Its own, with the room that a block cipher's last block would need.
  const isOwn = buffer.byteLength <= made.length + CIPHER_BLOCK_BYTES;
  if (isOwn && buffer instanceof ArrayBuffer) buffer.transfer(0);
}
