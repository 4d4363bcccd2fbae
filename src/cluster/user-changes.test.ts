// SPDX-License-Identifier: Apache-2.0
//
// Users and tokens as the control station decides them: there is always an administrator, the
// password of before there were users is the first one's, and every event says who asked.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { drainMicrotasks } from "bun:jsc";
import { Fault } from "#base/fault.ts";
import { keys, valueText } from "./state.ts";
import { StationFixture } from "./station-fixture.ts";
import type { UpdateRecord } from "./update-state.ts";
import { adoptPassword } from "./user-changes.ts";
import { TOKENS_MAX, USERS_MAX, tokensOf, usersOf } from "./user-state.ts";
import { ClusterView, entryOf } from "./view.ts";

const OWNERS_HASH = "ab".repeat(32);
const hash = (salt: string) => `$argon2id$v=19$m=8,t=1,p=1$${salt}$aGFzaA`;

let made: StationFixture;

beforeEach(() => {
  made = new StationFixture(drainMicrotasks);
  made.found();
});
afterEach(() => {
  for (const unit of [...made.units.keys()]) made.kill(unit);
});

const view = () => made.view();
const claim = (passwordHash?: string, replaces = false) => {
  const password = passwordHash === undefined ? {} : { passwordHash };
  made.ask("claimCluster", { tokenHash: OWNERS_HASH, replaces, byMedium: false, ...password });
};
const add = (name: string, role: "admin" | "viewer", salt = name) =>
  made.ask("addUser", { name, role, passwordHash: hash(salt) });
const people = () => [...usersOf(view()).values()].map(({ name, role }) => `${name} ${role}`);
const told = () => [...view().events.values()].map(({ sentence, actor }) => [sentence, actor]);

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof Fault) return error.code;
    throw error;
  }
  return "none";
}

describe("users", () => {
  test("added, promoted, demoted, removed → as said; the last administrator stays one", () => {
    expect(codeOf(() => add("anna", "admin"))).toBe("conflict"); // not claimed yet
    claim(hash("first"));
    expect(people()).toEqual(["admin admin"]);
    add("vera", "viewer");
    expect(codeOf(() => add("vera", "admin"))).toBe("conflict");
    for (const name of ["vera", "admin"]) {
      if (name === "admin") {
        expect(codeOf(() => made.ask("changeUser", { name, role: "viewer" }))).toBe("conflict");
        expect(codeOf(() => made.ask("removeUser", { name }))).toBe("conflict");
      }
    }
    made.ask("changeUser", { name: "vera", role: "admin" });
    made.ask("changeUser", { name: "admin", role: "viewer" });
    expect(people()).toEqual(["admin viewer", "vera admin"]);
    expect(codeOf(() => made.ask("removeUser", { name: "vera" }))).toBe("conflict");
    made.ask("removeUser", { name: "admin" });
    expect(people()).toEqual(["vera admin"]);
    for (const act of [
      () => made.ask("removeUser", { name: "admin" }),
      () => made.ask("changeUser", { name: "admin", role: "admin" }),
      () => made.ask("setPassword", { name: "admin", passwordHash: hash("x") }),
    ]) {
      expect(codeOf(act)).toBe("notFound");
    }
    // Root on a unit gets back in, whatever became of the first user.
    claim(hash("again"), true);
    expect(people()).toEqual(["vera admin"]); // the same token: nothing was replaced
    made.ask("claimCluster", {
      ...{ tokenHash: "cd".repeat(32), replaces: true, byMedium: false },
      passwordHash: hash("again"),
    });
    expect(people()).toEqual(["admin admin", "vera admin"]);
  });

  test("two administrators removed at once at different units → one of them stays", () => {
    claim(hash("first"));
    add("anna", "admin");
    made.addDisk(made.admit(), 5);
    const [first, second] = [...made.units.values()];
    if (first === undefined || second === undefined) throw new Error("there are two units");
    const outcomes = made.wait(
      Promise.allSettled([
        first.commands.ask("removeUser", { name: "admin" }),
        second.commands.ask("removeUser", { name: "anna" }),
      ]),
    );
    expect(outcomes.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(people()).toHaveLength(1);
  });

  test("claimed without a password → the first one makes the user; another name does not", () => {
    claim();
    expect(people()).toEqual([]);
    const set = (name: string) => made.ask("setPassword", { name, passwordHash: hash("one") });
    expect(codeOf(() => set("anna"))).toBe("notFound");
    expect(codeOf(() => add("vera", "viewer"))).toBe("conflict"); // nobody could make an admin
    set("admin");
    expect(people()).toEqual(["admin admin"]);
  });

  test("names and roles that are none, one too many → refused", () => {
    claim(hash("first"));
    for (const name of ["", "token x", "a/b", "ü", "x".repeat(64)]) {
      expect([name, codeOf(() => add(name, "viewer", "salt"))]).toEqual([name, "badRequest"]);
    }
    expect(codeOf(() => add("x", "root" as never))).toBe("badRequest");
    for (let count = 1; count < USERS_MAX; count++) add(`user-${count}`, "viewer", "salt");
    expect(codeOf(() => add("more", "viewer"))).toBe("tooLarge");
  });
});

describe("tokens", () => {
  const token = (name: string, digit = "1") =>
    made.ask("addToken", { name, role: "viewer", tokenHash: digit.repeat(64) });

  test("made and voided → known to every unit, the owner's first and never voided", () => {
    expect(codeOf(() => token("early"))).toBe("conflict");
    claim();
    token("screen");
    const seen = [...tokensOf(view()).values()].map(({ name, role }) => `${name} ${role}`);
    expect(seen).toEqual(["owner admin", "screen viewer"]);
    expect(codeOf(() => token("screen", "2"))).toBe("conflict");
    expect(codeOf(() => token("owner", "2"))).toBe("conflict");
    expect(codeOf(() => made.ask("removeToken", { name: "owner" }))).toBe("conflict");
    made.ask("removeToken", { name: "screen" });
    expect(codeOf(() => made.ask("removeToken", { name: "screen" }))).toBe("notFound");
    expect([...tokensOf(view()).keys()]).toEqual(["owner"]);
    for (let count = 0; count < TOKENS_MAX; count++) token(`token-${count}`);
    expect(codeOf(() => token("more"))).toBe("tooLarge");
  });
});

describe("a cluster of before there were users", () => {
  const before = (made_: StationFixture) => {
    const name = "owner";
    const owner = { name, tokenHash: OWNERS_HASH, passwordHash: hash("old"), createdAtMs: 5 };
    const puts = [{ key: keys.administrator(name), value: valueText(owner) }];
    made_.wait(made_.any().client.transaction({ ifs: [], puts }));
    made_.time.pass(2000);
  };

  test("its password → user admin, by upkeep; the owner's token stays", () => {
    before(made);
    expect(view().users.get("admin")).toEqual({
      name: "admin",
      role: "admin",
      passwordHash: hash("old"),
      createdAtMs: 5,
    });
    const owner = view().administrators.get("owner");
    expect([owner?.tokenHash, owner?.passwordHash]).toEqual([OWNERS_HASH, undefined]);
    made.time.pass(5000);
    expect(adoptPassword(view())).toBeNull();
  });

  test("while an update rolls → it stays where units of before read it, and is user admin", () => {
    const owner = { name: "owner", tokenHash: OWNERS_HASH, passwordHash: hash("old") };
    const old = new ClusterView();
    old.reset({
      revision: 1,
      entries: [entryOf(keys.administrator("owner"), { ...owner, createdAtMs: 5 }, 1)],
    });
    expect(adoptPassword(old)).not.toBeNull();
    old.update = { state: "rolling" } as UpdateRecord;
    expect(adoptPassword(old)).toBeNull();
    expect([...usersOf(old).keys()]).toEqual(["admin"]);
  });
});

describe("who asked", () => {
  test("each command's events name its asker; what units find by themselves names nobody", () => {
    claim(hash("first"));
    made.actor = "anna";
    made.addDisk(1, 20);
    made.createVolume("v1", 1, "none");
    made.ask("setSettings", { diskErrorsMax: 7 });
    made.ask("scrubDisk", { disk: 1, urgent: false });
    made.actor = "token backup-script";
    add("vera", "viewer");
    made.actor = "x".repeat(500);
    made.ask("removeUser", { name: "vera" });
    const by = told().map(([sentence, actor]) => `${actor ?? "nobody"}: ${sentence}`);
    expect(by.some((one) => one.startsWith("nobody: ") && one.includes("brings in disk 1"))).toBe(
      true,
    );
    expect(by.some((one) => one.startsWith("anna: volume v1 was created"))).toBe(true);
    expect(by).toContain("anna: settings were changed: diskErrorsMax");
    expect(by).toContain("anna: asked for: scrub disk");
    expect(by.some((one) => one.startsWith("token backup-script: user vera was added"))).toBe(true);
    expect(by.some((one) => one.startsWith(`${"x".repeat(96)}: user vera was removed`))).toBe(true);
  });
});
