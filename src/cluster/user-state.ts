// SPDX-License-Identifier: Apache-2.0
//
// People and programs that administer the cluster: users with a password for the pages, tokens for
// the API, each with a role. The owner's token, which a claim gives out, stands in a record of its
// own (state.ts) and is one of them.
//
// Invariants
// - While there are users, one of them at least is an administrator.
// - Neither a password nor a token stands anywhere: their hashes do.

import { z } from "zod";
import type { AdministratorRecord } from "./state.ts";
import { nameSchema } from "./name-schema.ts";
import type { ClusterView } from "./view.ts";

/** A viewer sees everything and changes nothing. */
export const ROLES = ["admin", "viewer"] as const;
export type Role = (typeof ROLES)[number];

/** Users of a cluster. */
export const USERS_MAX = 64;
/** Tokens of a cluster, besides its owner's. */
export const TOKENS_MAX = 64;

/** The user that the first password belongs to. */
export const FIRST_USER = "admin";
/** Of the token that a claim gives out. */
export const OWNER = "owner";

/** A password as it is kept: https://github.com/P-H-C/phc-string-format, Argon2id alone. */
export const passwordHashSchema = z
  .string()
  .max(256)
  .regex(/^\$argon2id\$v=\d+\$[a-z0-9=,]+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+$/);
/** SHA-256 of a token, hex: the token itself is nowhere but with its owner. */
export const tokenHashSchema = z.string().regex(/^[0-9a-f]{64}$/);
export const roleSchema = z.enum(ROLES);
/** Wall clock, for people only. */
const createdAtMs = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

export const UserSchema = z.looseObject({
  name: nameSchema,
  role: roleSchema,
  passwordHash: passwordHashSchema,
  createdAtMs,
});
export type UserRecord = z.infer<typeof UserSchema>;

export const TokenSchema = z.looseObject({
  name: nameSchema,
  role: roleSchema,
  tokenHash: tokenHashSchema,
  createdAtMs,
});
export type TokenRecord = z.infer<typeof TokenSchema>;

export const userKeys = {
  users: "/users/",
  tokens: "/tokens/",
  user: (name: string) => `/users/${name}`,
  token: (name: string) => `/tokens/${name}`,
} as const;

/**
 * The password of before there were users, as the user that upkeep makes of it; null: there is
 * none (any more).
 */
export function userOfOwner(owner: AdministratorRecord | undefined): UserRecord | null {
  if (owner?.passwordHash === undefined) return null;
  const { passwordHash, createdAtMs: since } = owner;
  return { name: FIRST_USER, role: "admin", passwordHash, createdAtMs: since };
}

/** By name, in the order of names. */
export function usersOf(view: ClusterView): ReadonlyMap<string, UserRecord> {
  const users = new Map(view.users);
  const first = userOfOwner(view.administrators.get(OWNER));
  if (first !== null && !users.has(first.name)) users.set(first.name, first);
  return new Map([...users].sort(([left], [right]) => (left < right ? -1 : 1)));
}

/** By name; the owner's first. */
export function tokensOf(view: ClusterView): ReadonlyMap<string, TokenRecord> {
  const tokens = new Map<string, TokenRecord>();
  const owner = view.administrators.get(OWNER);
  if (owner !== undefined) tokens.set(OWNER, { ...owner, name: OWNER, role: "admin" });
  for (const name of [...view.tokens.keys()].sort()) {
    const token = view.tokens.get(name);
    if (token !== undefined && name !== OWNER) tokens.set(name, token);
  }
  return tokens;
}
