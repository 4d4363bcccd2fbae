// SPDX-License-Identifier: Apache-2.0
//
// Users and tokens of the Backend in memory (memory-backend-fixture.ts); it refuses what a unit
// would refuse, by the same Faults. What is claimed is told by whoever makes it.

import { Fault } from "#base/fault.ts";
import { endDryRun } from "#appliance/dry-run.ts";
import { FIRST_USER, OWNER } from "#cluster/user-state.ts";
import type { Role } from "#cluster/user-state.ts";
import { createSeal } from "#machine/seal.ts";
import { passwordFault } from "#appliance/password-rule.ts";
import type { AddUser, TokenView, UserBackend, UserView } from "#appliance/user-backend.ts";

const seal = createSeal();
export const hashOf = (token: string) => seal.sha256(new TextEncoder().encode(token)).toHex();

export class MemoryUsers implements UserBackend {
  readonly #users = new Map<string, UserView & { password: string }>();
  readonly #tokens = new Map<string, TokenView & { tokenHash: string }>();
  readonly #need: () => void;
  #made = 0;

  /** `need`: throws while the unit is in no cluster. */
  constructor(need: () => void) {
    this.#need = need;
  }

  /** The owner's, after a claim. */
  claimed(tokenHash: string, password: string | null): void {
    this.#tokens.set(OWNER, { name: OWNER, role: "admin", createdAtMs: 0, tokenHash });
    if (password !== null) this.putFirst(password);
  }

  get ownerHash(): string | null {
    return this.#tokens.get(OWNER)?.tokenHash ?? null;
  }

  putFirst(password: string): void {
    this.#users.set(FIRST_USER, { name: FIRST_USER, role: "admin", createdAtMs: 0, password });
  }

  passwordOf(name: string): string | null {
    return this.#users.get(name)?.password ?? null;
  }

  /** What a unit is asked for tokens. */
  records(): { name: string; role: Role; tokenHash: string }[] {
    return [...this.#tokens.values()];
  }

  get hasAny(): boolean {
    return this.#users.size > 0;
  }

  list(): UserView[] {
    this.#need();
    return [...this.#users.values()]
      .map(({ name, role, createdAtMs }) => ({ name, role, createdAtMs }))
      .sort((left, right) => (left.name < right.name ? -1 : 1));
  }

  async add({ name, role, password }: AddUser): Promise<UserView> {
    this.#need();
    check(password);
    if (this.#users.has(name)) throw new Fault("conflict", `a user named ${name} exists`);
    endDryRun(`the user ${name} was added`);
    this.#users.set(name, { name, role, createdAtMs: 0, password });
    return { name, role, createdAtMs: 0 };
  }

  async changeRole(name: string, role: Role): Promise<UserView> {
    const user = this.#one(name);
    if (role !== "admin") this.#needOtherAdmin(name);
    endDryRun(`the user ${name} is ${role}`);
    user.role = role;
    return { name, role, createdAtMs: 0 };
  }

  async setPassword(name: string, password: string): Promise<void> {
    this.#need();
    check(password);
    if (this.#users.size === 0 && name === FIRST_USER) {
      await this.add({ name, role: "admin", password });
    }
    const user = this.#one(name);
    endDryRun(`the password of ${name} was set`);
    user.password = password;
  }

  async remove(name: string): Promise<void> {
    this.#one(name);
    this.#needOtherAdmin(name);
    endDryRun(`the user ${name} was removed`);
    this.#users.delete(name);
  }

  tokens(): TokenView[] {
    this.#need();
    return [...this.#tokens.values()].map(({ name, role, createdAtMs }) => {
      return { name, role, createdAtMs };
    });
  }

  async addToken({ name, role }: { name: string; role: Role }): Promise<{ token: string }> {
    this.#need();
    if (this.#tokens.has(name)) throw new Fault("conflict", `a token named ${name} exists`);
    endDryRun(`the token ${name} was made`);
    const token = hashOf(`token ${++this.#made}`);
    this.#tokens.set(name, this.#token(name, role, token));
    return { token };
  }

  async removeToken(name: string): Promise<void> {
    if (name === OWNER) throw new Fault("conflict", "the owner's token is replaced");
    if (this.#tokens.has(name)) endDryRun(`the token ${name} is void`);
    if (!this.#tokens.delete(name)) throw new Fault("notFound", `no token ${name}`);
  }

  known(name: string): { role: Role; mark: string } | null {
    const user = this.#users.get(name);
    return user === undefined ? null : { role: user.role, mark: hashOf(user.password) };
  }

  async check(name: string, password: string): Promise<boolean> {
    return this.#users.get(name)?.password === password;
  }

  #token(name: string, role: Role, token: string) {
    return { name, role, createdAtMs: 0, tokenHash: hashOf(token) };
  }

  #one(name: string) {
    this.#need();
    const user = this.#users.get(name);
    if (user === undefined) throw new Fault("notFound", `no user named ${name}`);
    return user;
  }

  #needOtherAdmin(name: string): void {
    const admins = [...this.#users.values()].filter((one) => one.role === "admin");
    if (admins.length === 1 && admins[0]?.name === name) {
      throw new Fault("conflict", `${name} is the last administrator`);
    }
  }
}

function check(password: string): void {
  const fault = passwordFault(password);
  if (fault !== null) throw new Fault("badRequest", fault);
}
