// SPDX-License-Identifier: Apache-2.0
//
// What signs a person in at the pages, and whether it still does: the owner's password, or a token
// that the API takes too. A credential is kept as a mark that changes with it and tells nothing.

import type { Backend } from "#appliance/backend.ts";
import { type KnownTokens, knownToken } from "#appliance/api/tokens.ts";

const BY_PASSWORD = "password ";
const BY_TOKEN = "token ";

export class Credentials {
  readonly #backend: Pick<Backend, "passwordMark" | "checkPassword">;
  readonly #tokens: KnownTokens;

  constructor(backend: Pick<Backend, "passwordMark" | "checkPassword">, tokens: KnownTokens) {
    this.#backend = backend;
    this.#tokens = tokens;
  }

  /** Whether the pages can be entered by a password at all. */
  get hasPassword(): boolean {
    return this.#backend.passwordMark() !== null;
  }

  /** The mark of what was typed: the password, else a token; null: neither. */
  async prove(typed: string): Promise<string | null> {
    const hash = knownToken(typed, this.#tokens);
    if (hash !== null) return BY_TOKEN + hash;
    // The mark of before: a password changed meanwhile gives no session.
    const credential = this.ofPassword();
    if (credential === null) return null;
    return (await this.#backend.checkPassword(typed)) ? credential : null;
  }

  /** The mark of the owner's present password. */
  ofPassword(): string | null {
    const mark = this.#backend.passwordMark();
    return mark === null ? null : BY_PASSWORD + mark;
  }

  isValid(credential: string): boolean {
    if (credential.startsWith(BY_PASSWORD)) return credential === this.ofPassword();
    const { seal, token, administrators } = this.#tokens;
    const own = seal.sha256(new TextEncoder().encode(token)).toHex();
    return [own, ...administrators()].some((hash) => credential === BY_TOKEN + hash);
  }
}
