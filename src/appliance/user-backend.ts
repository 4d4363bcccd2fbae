// SPDX-License-Identifier: Apache-2.0
//
// What the console asks of a unit about people and tokens: the interface behind REST, CLI and
// pages. Answers are plain objects, failures are Faults.

import type { Role } from "#cluster/user-state.ts";

export interface UserView {
  name: string;
  role: Role;
  /** Wall clock. */
  createdAtMs: number;
}

export interface TokenView {
  name: string;
  role: Role;
  /** Wall clock. */
  createdAtMs: number;
}

export interface AddUser {
  name: string;
  role: Role;
  password: string;
}

export interface UserBackend {
  /** Whether there is any; false too while the unit is in no cluster. */
  readonly hasAny: boolean;
  /** By name. */
  list(): UserView[];
  add(request: AddUser): Promise<UserView>;
  /** Holds for what it has open already. */
  changeRole(name: string, role: Role): Promise<UserView>;
  /**
   * Another password: what was opened by the old one ends. The first one makes the user `admin`.
   */
  setPassword(name: string, password: string): Promise<void>;
  remove(name: string): Promise<void>;
  /** The owner's first, then by name. */
  tokens(): TokenView[];
  /** The token itself is told this once. */
  addToken(request: { name: string; role: Role }): Promise<{ token: string }>;
  removeToken(name: string): Promise<void>;
  /**
   * What somebody may do, and a mark that changes with the password and tells nothing of it; null:
   * there is no such user.
   */
  known(name: string): { role: Role; mark: string } | null;
  /** Takes its moment for a name that is nobody's too; a Fault when too many are looked at. */
  check(name: string, password: string): Promise<boolean>;
}
