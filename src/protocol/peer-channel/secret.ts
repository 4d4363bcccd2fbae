// SPDX-License-Identifier: Apache-2.0
//
// Keys from the join secret, and the words by which a person compares two units. HKDF with SHA-256
// (RFC 5869) over the Seal's HMAC; every key has a label of its own, so that none can stand in for
// another. Comparing words are proquints (D. Wilkerson, arXiv 0901.4016): 16 bits a word, no list.
//
// The authenticator of a packet lets whoever listens try secrets at leisure, so a secret must be
// too long to guess: `joinSecretFault` refuses short ones, and `newJoinSecret` makes one of 160
// bits.

import { assert } from "#base/assert.ts";
import type { Random, Seal } from "#base/world.ts";

/** Characters of a join secret, after trimming. */
export const JOIN_SECRET_CHARACTERS_MIN = 16;
export const JOIN_SECRET_CHARACTERS_MAX = 512;
/** Words that stand for a unit: 80 bits of its key's fingerprint. */
export const COMPARING_WORDS = 5;

const HASH_BYTES = 32;
const HKDF_BLOCKS_MAX = 255;
const EMPTY = new Uint8Array(0);
const encoder = new TextEncoder();

const LABEL = {
  extract: "cairn join secret v1",
  autoconfig: "cairn autoconfig authenticator v1",
  link: "cairn peer channel psk v1",
  certificates: "cairn etcd certificates v1",
  backup: "cairn control backup v1",
  generation: "cairn generation v1",
  words: "cairn comparing words v1",
} as const;

/** What is derived from one join secret. Never logged, never sent. */
export interface JoinKeys {
  /** HMAC key of auto-configuration packets. */
  readonly autoconfig: Uint8Array;
  /** Pre-shared key of the Noise handshake between units. */
  readonly link: Uint8Array;
  /** Seed of the certificate authority of etcd's peer links. */
  readonly certificates: Uint8Array;
  /** Seals backups of the control state. */
  readonly backup: Uint8Array;
}

/** RFC 5869, both steps. */
export function hkdfSha256(
  seal: Seal,
  key: Uint8Array,
  options: { salt: Uint8Array; label: Uint8Array; lengthBytes: number },
): Uint8Array {
  const { salt, label, lengthBytes } = options;
  assert(lengthBytes > 0 && lengthBytes <= HASH_BYTES * HKDF_BLOCKS_MAX, "HKDF length in range");
  const pseudoRandom = seal.hmacSha256(salt, key);
  const made = new Uint8Array(lengthBytes);
  let block: Uint8Array = EMPTY;
  for (let index = 1, at = 0; at < lengthBytes; index++, at += HASH_BYTES) {
    block = seal.hmacSha256(pseudoRandom, join([block, label, Uint8Array.of(index)]));
    made.set(block.subarray(0, Math.min(HASH_BYTES, lengthBytes - at)), at);
  }
  return made;
}

/** One 32-byte key for one purpose. */
export function deriveKey(seal: Seal, key: Uint8Array, salt: string, label: string): Uint8Array {
  return hkdfSha256(seal, key, {
    salt: encoder.encode(salt),
    label: encoder.encode(label),
    lengthBytes: HASH_BYTES,
  });
}

/**
 * The pre-shared key of links that only units of one generation of a cluster have: others cannot
 * even open one, whatever they take themselves for. `generationId`: hex; zeros for the first, which
 * has the key of before there were generations.
 */
export function generationKey(seal: Seal, link: Uint8Array, generationId: string): Uint8Array {
  if (/^0*$/.test(generationId)) return link;
  return deriveKey(seal, link, LABEL.extract, `${LABEL.generation} ${generationId}`);
}

/** Why a join secret cannot be used, or null. The sentence never shows the secret. */
export function joinSecretFault(secret: string): string | null {
  const trimmed = secret.trim();
  if (trimmed.length < JOIN_SECRET_CHARACTERS_MIN) {
    return `the join secret has fewer than ${JOIN_SECRET_CHARACTERS_MIN} characters`;
  }
  if (trimmed.length > JOIN_SECRET_CHARACTERS_MAX) {
    return `the join secret has more than ${JOIN_SECRET_CHARACTERS_MAX} characters`;
  }
  return null;
}

/** All keys of a join secret that `joinSecretFault` has nothing against. */
export function joinKeys(seal: Seal, secret: string): JoinKeys {
  assert(joinSecretFault(secret) === null, "the join secret was checked");
  const bytes = encoder.encode(secret.trim().normalize("NFC"));
  return {
    autoconfig: deriveKey(seal, bytes, LABEL.extract, LABEL.autoconfig),
    link: deriveKey(seal, bytes, LABEL.extract, LABEL.link),
    certificates: deriveKey(seal, bytes, LABEL.extract, LABEL.certificates),
    backup: deriveKey(seal, bytes, LABEL.extract, LABEL.backup),
  };
}

/** A fresh secret, ten proquints: 160 bits that a person can still type. */
export function newJoinSecret(random: Random): string {
  const bytes = new Uint8Array(20);
  random.fill(bytes);
  return proquints(bytes).join("-");
}

/** The words that console and screen show for a unit, from its Ed25519 key. */
export function comparingWords(seal: Seal, publicKey: Uint8Array): string[] {
  assert(publicKey.length === 32, "an Ed25519 public key");
  const fingerprint = seal.sha256(join([encoder.encode(LABEL.words), publicKey]));
  return proquints(fingerprint.subarray(0, 2 * COMPARING_WORDS));
}

const CONSONANTS = "bdfghjklmnprstvz";
const VOWELS = "aiou";

/** One five-letter word for each two bytes. */
export function proquints(bytes: Uint8Array): string[] {
  assert(bytes.length % 2 === 0, "whole words");
  const words: string[] = [];
  for (let at = 0; at < bytes.length; at += 2) {
    const value = ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
    const consonant = (shift: number) => CONSONANTS[(value >> shift) & 15] as string;
    const vowel = (shift: number) => VOWELS[(value >> shift) & 3] as string;
    words.push(consonant(12) + vowel(10) + consonant(6) + vowel(4) + consonant(0));
  }
  return words;
}

/** The pieces one after the other. */
export function join(pieces: readonly Uint8Array[]): Uint8Array {
  let lengthBytes = 0;
  for (const piece of pieces) lengthBytes += piece.length;
  const whole = new Uint8Array(lengthBytes);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
