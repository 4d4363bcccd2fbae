// SPDX-License-Identifier: Apache-2.0
//
// World: everything that is not determined by what came before. First constructor argument of
// whatever needs it; real in src/machine, simulated in test/sim.

export interface Clock {
  /**
   * CLOCK_BOOTTIME, milliseconds, fractions allowed; never goes back. The only clock that decides.
   */
  nowMs(): number;
  /** Wall clock, milliseconds since 1970, for people only; decides nothing (R4). */
  wallMs(): number;
}

export interface Random {
  /** Fills with unpredictable bytes (seeded ones in simulation). */
  fill(bytes: Uint8Array): void;
  /** In [0, 1): for jitter. */
  fraction(): number;
}

/** Timers of the control thread; a state machine on the data path gets ticks instead. */
export interface Timers {
  /** Runs `act` once after `delayMs`; the answer cancels it. */
  after(delayMs: number, act: () => void): () => void;
}

export type LogLevel = "debug" | "info" | "warn" | "error";
export interface Log {
  /** One sentence and its facts; no secrets. */
  write(level: LogLevel, sentence: string, facts?: Record<string, unknown>): void;
}

/**
 * Cryptography, so that no room reaches for it by itself. Synchronous: the reactor runs no
 * promises.
 */
export interface Seal {
  sha256(bytes: Uint8Array): Uint8Array;
  hmacSha256(key: Uint8Array, bytes: Uint8Array): Uint8Array;
  /** X25519 (RFC 7748). */
  x25519KeyPair(): { publicKey: Uint8Array; privateKey: Uint8Array };
  x25519(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array;
  /** Ed25519 (RFC 8032): 32-byte keys (the private one is the seed), 64-byte signatures. */
  ed25519KeyPair(): { publicKey: Uint8Array; privateKey: Uint8Array };
  ed25519PublicKey(privateKey: Uint8Array): Uint8Array;
  sign(privateKey: Uint8Array, bytes: Uint8Array): Uint8Array;
  verify(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean;
  /** AES-256-GCM with a 12-byte nonce; the answer is ciphertext and 16-byte tag. */
  aesGcmSeal(
    key: Uint8Array,
    nonce: Uint8Array,
    associated: Uint8Array,
    plain: Uint8Array,
  ): Uint8Array;
  /** Null when it is not authentic. */
  aesGcmOpen(
    key: Uint8Array,
    nonce: Uint8Array,
    associated: Uint8Array,
    sealed: Uint8Array,
  ): Uint8Array | null;
  /**
   * As `aesGcmSeal`, into `target` from `at`: for records of a link, where fresh memory for each
   * costs more than the cipher.
   */
  aesGcmSealInto(
    key: Uint8Array,
    nonce: Uint8Array,
    associated: Uint8Array,
    plain: Uint8Array,
    target: Uint8Array,
    at: number,
  ): void;
  /** As `aesGcmOpen`, to the start of `target`; false: not authentic, what is there is nobody's. */
  aesGcmOpenInto(
    key: Uint8Array,
    nonce: Uint8Array,
    associated: Uint8Array,
    sealed: Uint8Array,
    target: Uint8Array,
  ): boolean;
  /** Constant-time comparison. */
  equal(left: Uint8Array, right: Uint8Array): boolean;
}

export interface World {
  readonly clock: Clock;
  readonly random: Random;
  readonly seal: Seal;
  readonly log: Log;
}
