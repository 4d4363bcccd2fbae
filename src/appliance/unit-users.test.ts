// SPDX-License-Identifier: Apache-2.0
//
// Passwords as a unit looks at them: of users, of a cluster of before there were users, and of
// nobody, with real hashes.

import { expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { keys } from "#cluster/state.ts";
import { ClusterView, entryOf } from "#cluster/view.ts";
import { createPasswords } from "#machine/passwords.ts";
import { createRandom } from "#machine/random.ts";
import { createSeal } from "#machine/seal.ts";
import { UnitUsers } from "./unit-users.ts";

const passwords = createPasswords();
const view = new ClusterView();
let revision = 0;

function put(key: string, value: object): void {
  revision++;
  const { value: text, modRevision } = entryOf(key, value, revision);
  view.apply([{ kind: "put", key, value: text, modRevision }], revision);
}

const users = new UnitUsers(
  { clock: { nowMs: () => 0 } as never, random: createRandom(), seal: createSeal() },
  {
    life: () => {
      throw new Fault("notReady", "in no cluster");
    },
    view: () => view,
    passwords,
  },
);

test("nobody, then the owner of before, then users → each by the own password alone", async () => {
  expect([users.hasAny, users.known("admin")]).toEqual([false, null]);
  expect(await users.check("admin", "correct horse battery")).toBe(false);
  const passwordHash = await users.hash("correct horse battery");
  const name = "owner";
  put(keys.administrator(name), {
    ...{ name, tokenHash: "ab".repeat(32), passwordHash, createdAtMs: 1 },
  });
  expect(view.unreadable).toEqual(new Map());
  expect([users.hasAny, users.known("admin")?.role]).toEqual([true, "admin"]);
  const mark = users.known("admin")?.mark;
  expect(mark).toMatch(/^[0-9a-f]{64}$/);
  const role = "viewer" as const;
  const hers = await users.hash("seeing is believing");
  put(keys.user("vera"), { name: "vera", role, passwordHash: hers, createdAtMs: 2 });
  expect(users.known("vera")?.role).toBe(role);
  for (const [user, password, isIt] of [
    ["admin", "correct horse battery", true],
    ["admin", "seeing is believing", false],
    ["vera", "seeing is believing", true],
    ["vera", "", false],
    ["owner", "correct horse battery", false],
    ["nobody", "correct horse battery", false],
    ["__proto__", "correct horse battery", false],
  ] as const) {
    expect([user, await users.check(user, password)]).toEqual([user, isIt]);
  }
  const another = await users.hash("correct horse battery");
  put(keys.user("admin"), {
    ...{ name: "admin", role: "admin", passwordHash: another, createdAtMs: 1 },
  });
  // The same password set again is another one: sessions begun before are over.
  expect(users.known("admin")?.mark).not.toBe(mark);
  await expect(users.hash("short")).rejects.toThrow("at least 10 characters");
});
