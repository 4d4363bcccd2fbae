// SPDX-License-Identifier: Apache-2.0
//
// A unit's answers about people and tokens (user-backend.ts): from its view of the control state,
// changes by commands to the control station.

import { Fault } from "#base/fault.ts";
import type { World } from "#base/world.ts";
import { type Role, tokensOf, usersOf } from "#cluster/user-state.ts";
import type { TokenRecord, UserRecord } from "#cluster/user-state.ts";
import type { ClusterView } from "#cluster/view.ts";
import type { Passwords } from "#machine/passwords.ts";
import type { ClusterLife } from "./cluster-life.ts";
import { passwordFault } from "./password-rule.ts";
import type { AddUser, TokenView, UserBackend, UserView } from "./user-backend.ts";
import { untilHolds } from "./view-wait.ts";

const TOKEN_BYTES = 32;
/**
 * What a password is held against where there is no such user: it is nobody's, and costs as much.
 */
const NOBODYS_HASH =
  "$argon2id$v=19$m=32768,t=3,p=1$" +
  "Y2Fpcm4tbm9ib2R5LXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

export interface UserParts {
  /** A Fault notReady while the unit is in no cluster. */
  life(): ClusterLife;
  /** Null while the unit is in no cluster. */
  view(): ClusterView | null;
  passwords: Passwords;
}

type UserWorld = Pick<World, "clock" | "random" | "seal">;

/** A fresh token, and the hash that the control state keeps of it. */
export function freshToken({ random, seal }: Pick<World, "random" | "seal">) {
  const bytes = new Uint8Array(TOKEN_BYTES);
  random.fill(bytes);
  const token = bytes.toHex();
  return { token, tokenHash: seal.sha256(new TextEncoder().encode(token)).toHex() };
}

export class UnitUsers implements UserBackend {
  readonly #world: UserWorld;
  readonly #parts: UserParts;

  constructor(world: UserWorld, parts: UserParts) {
    this.#world = world;
    this.#parts = parts;
  }

  get hasAny(): boolean {
    const view = this.#parts.view();
    return view !== null && usersOf(view).size > 0;
  }

  list(): UserView[] {
    return [...usersOf(this.#parts.life().follower.view).values()].map(shown);
  }

  async add({ name, role, password }: AddUser): Promise<UserView> {
    const life = this.#parts.life();
    const passwordHash = await this.hash(password);
    await life.commands.ask("addUser", { name, role, passwordHash });
    await this.#until(life, (users) => users.has(name));
    return this.#one(name);
  }

  async changeRole(name: string, role: Role): Promise<UserView> {
    const life = this.#parts.life();
    await life.commands.ask("changeUser", { name, role });
    await this.#until(life, (users) => (users.get(name)?.role ?? role) === role);
    return this.#one(name);
  }

  async setPassword(name: string, password: string): Promise<void> {
    const life = this.#parts.life();
    const passwordHash = await this.hash(password);
    await life.commands.ask("setPassword", { name, passwordHash });
    await this.#until(life, (users) => users.get(name)?.passwordHash === passwordHash);
  }

  async remove(name: string): Promise<void> {
    const life = this.#parts.life();
    await life.commands.ask("removeUser", { name });
    await this.#until(life, (users) => !users.has(name));
  }

  tokens(): TokenView[] {
    return [...tokensOf(this.#parts.life().follower.view).values()].map(shown);
  }

  async addToken({ name, role }: { name: string; role: Role }): Promise<{ token: string }> {
    const life = this.#parts.life();
    const { token, tokenHash } = freshToken(this.#world);
    await life.commands.ask("addToken", { name, role, tokenHash });
    const { tokens } = life.follower.view;
    await this.#until(life, () => tokens.get(name)?.tokenHash === tokenHash);
    return { token };
  }

  async removeToken(name: string): Promise<void> {
    const life = this.#parts.life();
    await life.commands.ask("removeToken", { name });
    const { tokens } = life.follower.view;
    await this.#until(life, () => !tokens.has(name));
  }

  known(name: string): { role: Role; mark: string } | null {
    const user = this.#record(name);
    if (user === undefined) return null;
    const { seal } = this.#world;
    const mark = seal.sha256(new TextEncoder().encode(user.passwordHash)).toHex();
    return { role: user.role, mark };
  }

  async check(name: string, password: string): Promise<boolean> {
    const user = this.#record(name);
    const isIt = await this.#parts.passwords.verify(password, user?.passwordHash ?? NOBODYS_HASH);
    return isIt && user !== undefined;
  }

  /** A Fault badRequest where it is none that is taken. */
  async hash(password: string): Promise<string> {
    const fault = passwordFault(password);
    if (fault !== null) throw new Fault("badRequest", fault);
    return this.#parts.passwords.hash(password);
  }

  #record(name: string): UserRecord | undefined {
    const view = this.#parts.view();
    return view === null ? undefined : usersOf(view).get(name);
  }

  #one(name: string): UserView {
    const user = this.#record(name);
    if (user === undefined) throw new Fault("notFound", `no user named ${name}`);
    return shown(user);
  }

  #until(life: ClusterLife, holds: (users: ReadonlyMap<string, UserRecord>) => boolean) {
    return untilHolds(this.#world.clock, life, () => holds(usersOf(life.follower.view)));
  }
}

function shown({ name, role, createdAtMs }: UserRecord | TokenRecord): UserView & TokenView {
  return { name, role, createdAtMs };
}
