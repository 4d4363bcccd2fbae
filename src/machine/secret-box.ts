// SPDX-License-Identifier: Apache-2.0
//
// Secrets at rest: sealed by libsodium's secretbox (XSalsa20-Poly1305) under a key file of the
// state directory, so that a copied database or backup alone gives nothing away. Control thread
// only: the library needs its promise before the first use.
//
// Form: magic "CRNSEAL1" (8 bytes), nonce (24), ciphertext with its authenticator.

import sodium from "libsodium-wrappers";
import { Fault } from "#base/fault.ts";
import type { StateDirectory } from "./state-directory.ts";

const MAGIC = new TextEncoder().encode("CRNSEAL1");
const KEY_NAME = "seal.key";

export class SecretBox {
  readonly #key: Uint8Array;

  /** Reads the key file, or makes it once. */
  static async open(directory: StateDirectory): Promise<SecretBox> {
    await sodium.ready;
    let key = directory.read(KEY_NAME);
    if (key === null) {
      key = sodium.crypto_secretbox_keygen();
      directory.write(KEY_NAME, key);
    }
    if (key.length !== sodium.crypto_secretbox_KEYBYTES) {
      throw new Fault("corrupt", `${directory.pathOf(KEY_NAME)} is no key`);
    }
    return new SecretBox(key);
  }

  private constructor(key: Uint8Array) {
    this.#key = key;
  }

  sealSecret(plain: Uint8Array): Uint8Array {
    const nonce = sodium.randombytes_buf(sodium.crypto_secretbox_NONCEBYTES);
    const sealed = sodium.crypto_secretbox_easy(plain, nonce, this.#key);
    return new Uint8Array(Buffer.concat([MAGIC, nonce, sealed]));
  }

  /** Throws Fault corrupt when it was not sealed with this key, or was changed. */
  openSecret(sealed: Uint8Array): Uint8Array {
    const nonceEnd = MAGIC.length + sodium.crypto_secretbox_NONCEBYTES;
    const ours = sealed.length > nonceEnd && MAGIC.every((byte, i) => sealed[i] === byte);
    if (!ours) throw new Fault("corrupt", "a sealed secret is not in our form");
    const nonce = sealed.subarray(MAGIC.length, nonceEnd);
    try {
      return sodium.crypto_secretbox_open_easy(sealed.subarray(nonceEnd), nonce, this.#key);
    } catch (cause) {
      throw new Fault("corrupt", "a sealed secret does not open with this unit's key", { cause });
    }
  }
}
