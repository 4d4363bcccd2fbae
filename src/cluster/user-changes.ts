// SPDX-License-Identifier: Apache-2.0
//
// What the control station decides about users and tokens (user-state.ts). What is decided here
// reaches every unit by its view, and ends there the sessions of whoever is no longer let in.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import type { CommandArguments } from "./commands.ts";
import { Draft } from "./draft.ts";
import { nameSchema } from "./name-schema.ts";
import { keys } from "./state.ts";
import {
  FIRST_USER,
  OWNER,
  TOKENS_MAX,
  USERS_MAX,
  passwordHashSchema,
  roleSchema,
  tokenHashSchema,
  tokensOf,
  userOfOwner,
  usersOf,
} from "./user-state.ts";
import type { Role, UserRecord } from "./user-state.ts";
import type { ClusterView } from "./view.ts";

/** Arguments of the commands decided here. */
export const userCommands = {
  addUser: z.object({ name: nameSchema, role: roleSchema, passwordHash: passwordHashSchema }),
  changeUser: z.object({ name: nameSchema, role: roleSchema }),
  removeUser: z.object({ name: nameSchema }),
  /** Another password for the pages. Where nobody has one yet, the first user is made by it. */
  setPassword: z.object({ name: nameSchema.default(FIRST_USER), passwordHash: passwordHashSchema }),
  addToken: z.object({ name: nameSchema, role: roleSchema, tokenHash: tokenHashSchema }),
  removeToken: z.object({ name: nameSchema }),
} as const;

export interface UserAnswers {
  addUser: Record<string, never>;
  changeUser: Record<string, never>;
  removeUser: Record<string, never>;
  setPassword: Record<string, never>;
  addToken: Record<string, never>;
  removeToken: Record<string, never>;
}

interface Facts {
  wallMs: number;
}

const ROLE_WORDS: Record<Role, string> = {
  admin: "an administrator",
  viewer: "a viewer: sees everything and changes nothing",
};

export function addUser(
  draft: Draft,
  args: CommandArguments<"addUser">,
  facts: Facts,
): Record<string, never> {
  const users = takeOwnersPassword(draft);
  needClaimed(draft.view);
  if (users.has(args.name)) throw new Fault("conflict", `a user named ${args.name} exists`);
  if (users.size >= USERS_MAX) {
    throw new Fault("tooLarge", `a cluster has at most ${USERS_MAX} users`);
  }
  if (users.size === 0 && args.role !== "admin") {
    throw new Fault("conflict", "the first user is an administrator");
  }
  putUser(draft, { ...args, createdAtMs: whole(facts.wallMs) });
  const sentence = `user ${args.name} was added: ${ROLE_WORDS[args.role]}`;
  draft.tell({ kind: "user-added", severity: "info", sentence });
  return {};
}

export function changeUser(
  draft: Draft,
  args: CommandArguments<"changeUser">,
): Record<string, never> {
  const users = takeOwnersPassword(draft);
  const known = userIn(users, args.name);
  if (known.role === args.role) return {};
  if (args.role !== "admin") needOtherAdmin(draft, users, known);
  putUser(draft, { ...known, role: args.role });
  const sentence = `user ${known.name} is ${ROLE_WORDS[args.role]}`;
  draft.tell({ kind: "user-changed", severity: "warning", sentence });
  return {};
}

export function removeUser(
  draft: Draft,
  args: CommandArguments<"removeUser">,
): Record<string, never> {
  const users = takeOwnersPassword(draft);
  const known = userIn(users, args.name);
  needOtherAdmin(draft, users, known);
  draft.delete(keys.user(known.name));
  const sentence = `user ${known.name} was removed; what it had open has ended`;
  draft.tell({ kind: "user-removed", severity: "warning", sentence });
  return {};
}

export function setPassword(
  draft: Draft,
  args: CommandArguments<"setPassword">,
  facts: Facts,
): Record<string, never> {
  const users = takeOwnersPassword(draft);
  needClaimed(draft.view);
  const known = users.get(args.name);
  if (known === undefined && (users.size > 0 || args.name !== FIRST_USER)) {
    throw new Fault("notFound", `no user named ${args.name}`);
  }
  if (known?.passwordHash === args.passwordHash) return {};
  const first = { name: args.name, role: "admin" as const, createdAtMs: whole(facts.wallMs) };
  putUser(draft, { ...(known ?? first), passwordHash: args.passwordHash });
  draft.tell({
    kind: "password-changed",
    severity: known === undefined ? "info" : "warning",
    sentence: `the password of user ${args.name} was set`,
  });
  return {};
}

export function addToken(
  draft: Draft,
  args: CommandArguments<"addToken">,
  facts: Facts,
): Record<string, never> {
  const { view } = draft;
  needClaimed(view);
  const tokens = tokensOf(view);
  if (args.name === OWNER || tokens.has(args.name)) {
    throw new Fault("conflict", `a token named ${args.name} exists`);
  }
  if (view.tokens.size >= TOKENS_MAX) {
    throw new Fault("tooLarge", `a cluster has at most ${TOKENS_MAX} tokens`);
  }
  draft.put(keys.token(args.name), { ...args, createdAtMs: whole(facts.wallMs) });
  const sentence = `token ${args.name} was made: ${ROLE_WORDS[args.role]}`;
  draft.tell({ kind: "token-added", severity: "info", sentence });
  return {};
}

export function removeToken(
  draft: Draft,
  args: CommandArguments<"removeToken">,
): Record<string, never> {
  if (args.name === OWNER) {
    throw new Fault("conflict", "the owner's token is replaced: cairn claim --replace");
  }
  if (!draft.view.tokens.has(args.name)) throw new Fault("notFound", `no token ${args.name}`);
  draft.delete(keys.token(args.name));
  const sentence = `token ${args.name} is void`;
  draft.tell({ kind: "token-removed", severity: "warning", sentence });
  return {};
}

/**
 * With a claim may come the first user's password, also of one that was removed or demoted: that is
 * how an owner gets back in.
 */
export function claimPassword(draft: Draft, passwordHash: string | null, facts: Facts): void {
  const users = takeOwnersPassword(draft);
  if (passwordHash === null) return;
  const known = users.get(FIRST_USER);
  const createdAtMs = known?.createdAtMs ?? whole(facts.wallMs);
  putUser(draft, { ...known, name: FIRST_USER, role: "admin", passwordHash, createdAtMs });
}

/**
 * Upkeep: the password of before there were users becomes the first user's. Not while units of the
 * version before may still be at work: they know no other place of it.
 */
export function adoptPassword(view: ClusterView): Draft | null {
  if (view.update?.state === "rolling") return null;
  const draft = new Draft(view);
  takeOwnersPassword(draft);
  return draft.isEmpty ? null : draft;
}

/** The users, with the owner's password of before as one of them from now on. */
function takeOwnersPassword(draft: Draft): ReadonlyMap<string, UserRecord> {
  const { view } = draft;
  const owner = view.administrators.get(OWNER);
  const first = userOfOwner(owner);
  if (owner !== undefined && first !== null) {
    const { passwordHash: _, ...kept } = owner;
    draft.put(keys.administrator(OWNER), kept);
    if (!view.users.has(first.name)) putUser(draft, first);
  }
  return usersOf(view);
}

function putUser(draft: Draft, user: UserRecord): void {
  draft.put(keys.user(user.name), user);
}

function userIn(users: ReadonlyMap<string, UserRecord>, name: string): UserRecord {
  const known = users.get(name);
  if (known === undefined) throw new Fault("notFound", `no user named ${name}`);
  return known;
}

function needClaimed(view: ClusterView): void {
  if (!view.isClaimed) throw new Fault("conflict", "this cluster is not claimed yet");
}

/** Refuses what would leave none; holds only while the one that remains is one. */
function needOtherAdmin(
  draft: Draft,
  users: ReadonlyMap<string, UserRecord>,
  known: UserRecord,
): void {
  if (known.role !== "admin") return;
  const other = [...users.values()].find((one) => one !== known && one.role === "admin");
  if (other === undefined) {
    throw new Fault("conflict", `${known.name} is the last administrator; make another one first`);
  }
  draft.relyOn(keys.user(other.name));
}

function whole(wallMs: number): number {
  return Math.max(0, Math.floor(wallMs));
}
