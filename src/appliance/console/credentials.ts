// SPDX-License-Identifier: Apache-2.0
//
// What signs a person in at the pages, and whose it still is: a user's password, or a token that
// the API takes too. A credential is kept as a mark that changes with it and tells nothing.

import type { Known } from "#appliance/backend.ts";
import type { UserBackend } from "#appliance/user-backend.ts";
import { type KnownTokens, holderOf, knownToken } from "#appliance/api/tokens.ts";

const BY_PASSWORD = "password";
const BY_TOKEN = "token";

type Users = Pick<UserBackend, "known" | "check" | "hasAny">;

/** Who is signed in. */
export interface SignedIn extends Known {
  /** Null: by a token. */
  user: string | null;
}

export class Credentials {
  readonly #users: Users;
  readonly #tokens: KnownTokens;

  constructor(users: Users, tokens: KnownTokens) {
    this.#users = users;
    this.#tokens = tokens;
  }

  /** Whether the pages can be entered by a password at all. */
  get hasPassword(): boolean {
    return this.#users.hasAny;
  }

  /** The mark of what was typed: a token, whoever types it, else the user's password; or null. */
  async prove(user: string, typed: string): Promise<string | null> {
    const token = knownToken(typed, this.#tokens);
    if (token !== null) return `${BY_TOKEN} ${token.hash}`;
    // The mark of before: a password changed meanwhile gives no session.
    const credential = this.ofUser(user);
    return (await this.#users.check(user, typed)) ? credential : null;
  }

  /** The mark of a user's present password. */
  ofUser(user: string): string | null {
    const known = this.#users.known(user);
    return known === null ? null : `${BY_PASSWORD} ${known.mark} ${user}`;
  }

  /** Whose it is, with what they may do at this moment; null: it is worth nothing any more. */
  whose(credential: string): SignedIn | null {
    const [kind, mark = "", user = ""] = credential.split(" ");
    if (kind === BY_TOKEN) {
      const holder = holderOf(Uint8Array.fromHex(mark), this.#tokens);
      return holder === null ? null : { ...holder, user: null };
    }
    const known = this.#users.known(user);
    if (known === null || known.mark !== mark) return null;
    return { role: known.role, actor: user, user };
  }
}
