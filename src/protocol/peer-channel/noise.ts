// SPDX-License-Identifier: Apache-2.0
//
// The Noise Protocol Framework, revision 34 (noiseprotocol.org/noise.html), as far as units need
// it: patterns XX and XXpsk3 with X25519, AES-256-GCM and SHA-256. Objects and functions are named
// as in section 5; nothing here knows about frames, identities or sockets. Checked against public
// vectors (test/vectors/noise). XXpsk3 rather than IKpsk2: a joining unit does not know the other's
// static key beforehand, and the extra half round trip is paid once per link.
//
// Invariants: a key never meets the same nonce twice; a handshake object is used for one handshake
// and is dead after its first failure; bytes from outside never throw, they make `read` or `write`
// null.

import { assert } from "#base/assert.ts";
import type { Seal } from "#base/world.ts";
import { join } from "./secret.ts";

export const KEY_BYTES = 32;
export const TAG_BYTES = 16;
/** Longest handshake message we take; the specification allows 65,535. */
export const HANDSHAKE_MESSAGE_BYTES_MAX = 2048;

const EMPTY = new Uint8Array(0);
const ZEROES = new Uint8Array(KEY_BYTES);
const encoder = new TextEncoder();

export interface KeyPair {
  readonly publicKey: Uint8Array;
  readonly privateKey: Uint8Array;
}

type Token = "e" | "s" | "ee" | "es" | "se" | "psk";

// Section 7.5 and 9.4.
const PATTERNS = {
  XX: [["e"], ["e", "ee", "s", "es"], ["s", "se"]],
  XXpsk3: [["e"], ["e", "ee", "s", "es"], ["s", "se", "psk"]],
} as const satisfies Record<string, readonly (readonly Token[])[]>;
export type PatternName = keyof typeof PATTERNS;

/** Section 5.1: one direction's key and counter. */
export class CipherState {
  readonly #seal: Seal;
  readonly #nonce = new Uint8Array(12);
  readonly #nonceData = new DataView(this.#nonce.buffer);
  #key: Uint8Array;
  #counter = 0;

  constructor(seal: Seal, key: Uint8Array) {
    assert(key.length === KEY_BYTES, "an AES-256 key");
    this.#seal = seal;
    this.#key = key;
  }

  /** Messages sealed or opened under this state so far; rekeying does not set it back (4.2). */
  get counter(): number {
    return this.#counter;
  }

  encrypt(associated: Uint8Array, plain: Uint8Array): Uint8Array {
    this.#setNonce(this.#counter);
    this.#counter++;
    return this.#seal.aesGcmSeal(this.#key, this.#nonce, associated, plain);
  }

  /** Null, and no counter spent, when it is not authentic. */
  decrypt(associated: Uint8Array, sealed: Uint8Array): Uint8Array | null {
    if (sealed.length < TAG_BYTES) return null;
    this.#setNonce(this.#counter);
    const plain = this.#seal.aesGcmOpen(this.#key, this.#nonce, associated, sealed);
    if (plain !== null) this.#counter++;
    return plain;
  }

  /** As `encrypt`, into `target` from `at`. */
  encryptInto(associated: Uint8Array, plain: Uint8Array, target: Uint8Array, at: number): void {
    this.#setNonce(this.#counter);
    this.#counter++;
    this.#seal.aesGcmSealInto(this.#key, this.#nonce, associated, plain, target, at);
  }

  /** As `decrypt`, to the start of `target`; false when it is not authentic. */
  decryptInto(associated: Uint8Array, sealed: Uint8Array, target: Uint8Array): boolean {
    if (sealed.length < TAG_BYTES) return false;
    this.#setNonce(this.#counter);
    const isAuthentic = this.#seal.aesGcmOpenInto(
      this.#key,
      this.#nonce,
      associated,
      sealed,
      target,
    );
    if (isAuthentic) this.#counter++;
    return isAuthentic;
  }

  /** Section 4.2, REKEY: a new key that does not tell the old one; the counter goes on. */
  rekey(): void {
    this.#nonceData.setUint32(4, 0xffffffff, false);
    this.#nonceData.setUint32(8, 0xffffffff, false);
    const made = this.#seal.aesGcmSeal(this.#key, this.#nonce, EMPTY, ZEROES);
    this.#key = made.slice(0, KEY_BYTES);
  }

  // Section 12.4: 32 bits of zeros, then the counter big-endian.
  #setNonce(counter: number): void {
    assert(counter < Number.MAX_SAFE_INTEGER, "a nonce is never used twice");
    this.#nonceData.setUint32(4, Math.floor(counter / 2 ** 32), false);
    this.#nonceData.setUint32(8, counter % 2 ** 32, false);
  }
}

/** Section 5.2: chaining key, running hash, and the cipher once there is a key. */
class SymmetricState {
  readonly #seal: Seal;
  #chainingKey: Uint8Array;
  #cipher: CipherState | null = null;
  hash: Uint8Array;

  constructor(seal: Seal, protocolName: string) {
    this.#seal = seal;
    const name = encoder.encode(protocolName);
    this.hash =
      name.length <= 32 ? join([name, new Uint8Array(32 - name.length)]) : seal.sha256(name);
    this.#chainingKey = this.hash;
  }

  // Section 4.3: HKDF with two or three outputs and an empty label.
  #expand(material: Uint8Array, outputs: number): Uint8Array[] {
    const temporary = this.#seal.hmacSha256(this.#chainingKey, material);
    const made: Uint8Array[] = [];
    let last: Uint8Array = EMPTY;
    for (let index = 1; index <= outputs; index++) {
      last = this.#seal.hmacSha256(temporary, join([last, Uint8Array.of(index)]));
      made.push(last);
    }
    return made;
  }

  mixHash(bytes: Uint8Array): void {
    this.hash = this.#seal.sha256(join([this.hash, bytes]));
  }

  mixKey(material: Uint8Array): void {
    const [chainingKey, key] = this.#expand(material, 2) as [Uint8Array, Uint8Array];
    this.#chainingKey = chainingKey;
    this.#cipher = new CipherState(this.#seal, key);
  }

  mixKeyAndHash(material: Uint8Array): void {
    const [chainingKey, hashed, key] = this.#expand(material, 3) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    this.#chainingKey = chainingKey;
    this.mixHash(hashed);
    this.#cipher = new CipherState(this.#seal, key);
  }

  get overheadBytes(): number {
    return this.#cipher === null ? 0 : TAG_BYTES;
  }

  encryptAndHash(plain: Uint8Array): Uint8Array {
    const sent = this.#cipher === null ? plain : this.#cipher.encrypt(this.hash, plain);
    this.mixHash(sent);
    return sent;
  }

  decryptAndHash(received: Uint8Array): Uint8Array | null {
    const plain = this.#cipher === null ? received : this.#cipher.decrypt(this.hash, received);
    this.mixHash(received);
    return plain;
  }

  split(): [CipherState, CipherState] {
    const [first, second] = this.#expand(EMPTY, 2) as [Uint8Array, Uint8Array];
    return [new CipherState(this.#seal, first), new CipherState(this.#seal, second)];
  }
}

export interface HandshakeOptions {
  readonly pattern: PatternName;
  readonly initiator: boolean;
  /** Both sides must give the same bytes: they are part of the running hash. */
  readonly prologue: Uint8Array;
  readonly staticKeys: KeyPair;
  /** 32 bytes; for XXpsk3 only. */
  readonly preSharedKey?: Uint8Array;
}

/** Section 5.3. Messages are written and read in turn, the initiator first. */
export class Handshake {
  readonly #seal: Seal;
  readonly #options: HandshakeOptions;
  readonly #symmetric: SymmetricState;
  readonly #messages: readonly (readonly Token[])[];
  #turn = 0;
  #dead = false;
  #ephemeral: KeyPair | null = null;
  #remoteEphemeral: Uint8Array | null = null;
  #remoteStatic: Uint8Array | null = null;

  constructor(seal: Seal, options: HandshakeOptions) {
    const preSharedKey = options.preSharedKey;
    assert(
      (preSharedKey !== undefined) === (options.pattern === "XXpsk3"),
      "a psk where one is due",
    );
    assert(preSharedKey === undefined || preSharedKey.length === KEY_BYTES, "a psk has 32 bytes");
    this.#seal = seal;
    this.#options = options;
    this.#messages = PATTERNS[options.pattern];
    this.#symmetric = new SymmetricState(seal, `Noise_${options.pattern}_25519_AESGCM_SHA256`);
    this.#symmetric.mixHash(options.prologue);
  }

  get finished(): boolean {
    return this.#turn === this.#messages.length;
  }
  get myTurn(): boolean {
    return !this.finished && (this.#turn % 2 === 0) === this.#options.initiator;
  }
  /** The running hash; after the last message it names this handshake and no other (11.2). */
  get hash(): Uint8Array {
    return this.#symmetric.hash;
  }
  /** The other's static key, proved once its first message after sending it was read. */
  get remoteStatic(): Uint8Array | null {
    return this.#remoteStatic;
  }

  /** The message, or null when the other's key is one of low order: then the handshake is dead. */
  write(payload: Uint8Array): Uint8Array | null {
    assert(this.myTurn, "it is our turn to write");
    if (this.#dead) return null;
    const pieces: Uint8Array[] = [];
    for (const token of this.#messages[this.#turn] as readonly Token[]) {
      if (token === "e") pieces.push(this.#writeEphemeral());
      else if (token === "s") {
        pieces.push(this.#symmetric.encryptAndHash(this.#options.staticKeys.publicKey));
      } else if (!this.#mix(token)) {
        this.#dead = true;
        return null;
      }
    }
    pieces.push(this.#symmetric.encryptAndHash(payload));
    this.#turn++;
    return join(pieces);
  }

  /**
   * The payload, or null when the message is malformed or not authentic: then the handshake is
   * dead.
   */
  read(message: Uint8Array): Uint8Array | null {
    assert(!this.finished && !this.myTurn, "it is the other's turn");
    if (this.#dead) return null;
    const payload = message.length > HANDSHAKE_MESSAGE_BYTES_MAX ? null : this.#read(message);
    if (payload === null) this.#dead = true;
    else this.#turn++;
    return payload;
  }

  /** Section 5.2, Split: what we send with and what we receive with. */
  split(): { send: CipherState; receive: CipherState } {
    assert(this.finished, "the handshake is finished");
    const [first, second] = this.#symmetric.split();
    return this.#options.initiator
      ? { send: first, receive: second }
      : { send: second, receive: first };
  }

  #read(message: Uint8Array): Uint8Array | null {
    let at = 0;
    for (const token of this.#messages[this.#turn] as readonly Token[]) {
      if (token === "e" || token === "s") {
        const size = KEY_BYTES + (token === "s" ? this.#symmetric.overheadBytes : 0);
        if (message.length - at < size) return null;
        if (!this.#readKey(token, message.slice(at, at + size))) return null;
        at += size;
      } else if (!this.#mix(token)) return null;
    }
    return this.#symmetric.decryptAndHash(message.subarray(at));
  }

  #writeEphemeral(): Uint8Array {
    const made = this.#seal.x25519KeyPair();
    this.#ephemeral = made;
    this.#mixEphemeral(made.publicKey);
    return made.publicKey;
  }

  #readKey(token: "e" | "s", sent: Uint8Array): boolean {
    if (token === "e") {
      this.#remoteEphemeral = sent;
      this.#mixEphemeral(sent);
      return true;
    }
    this.#remoteStatic = this.#symmetric.decryptAndHash(sent);
    return this.#remoteStatic !== null;
  }

  #mixEphemeral(publicKey: Uint8Array): void {
    this.#symmetric.mixHash(publicKey);
    // Section 9.2: with a psk the ephemeral also goes into the key.
    if (this.#options.preSharedKey !== undefined) this.#symmetric.mixKey(publicKey);
  }

  #mix(token: Exclude<Token, "e" | "s">): boolean {
    if (token === "psk") {
      this.#symmetric.mixKeyAndHash(this.#options.preSharedKey as Uint8Array);
      return true;
    }
    const { initiator, staticKeys } = this.#options;
    // "es" is the initiator's ephemeral with the responder's static; "se" the reverse.
    const oursIsStatic = token !== "ee" && (token === "se") === initiator;
    const theirsIsStatic = token !== "ee" && !oursIsStatic;
    const ours = oursIsStatic ? staticKeys : this.#ephemeral;
    const theirs = theirsIsStatic ? this.#remoteStatic : this.#remoteEphemeral;
    assert(ours !== null && theirs !== null, "the pattern sends keys before it mixes them");
    const shared = agree(this.#seal, ours.privateKey, theirs);
    if (shared === null) return false;
    this.#symmetric.mixKey(shared);
    return true;
  }
}

/** X25519; null for a public key of low order, which would make the result known to everybody. */
export function agree(
  seal: Seal,
  privateKey: Uint8Array,
  publicKey: Uint8Array,
): Uint8Array | null {
  let shared: Uint8Array;
  try {
    shared = seal.x25519(privateKey, publicKey);
  } catch {
    return null; // OpenSSL refuses such keys by itself (RFC 7748, section 6.1).
  }
  return seal.equal(shared, ZEROES) ? null : shared;
}
