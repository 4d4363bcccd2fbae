// SPDX-License-Identifier: Apache-2.0
//
// The step into a new generation: taken once, whole or not at all, wherever it was interrupted.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { FIRST_GENERATION } from "#cluster/generation.ts";
import { StateDirectory } from "#machine/state-directory.ts";
import { MEMBERSHIP_FILE, membershipText, parseMembership } from "./membership.ts";
import type { SavedMembership } from "./membership.ts";
import { planNext, takeNext } from "./next-generation.ts";

const first: SavedMembership = {
  clusterId: "c1".repeat(16),
  clusterName: "attic",
  unit: 2,
  voters: [],
  generation: FIRST_GENERATION,
};
const second: SavedMembership = { ...first, generation: { number: 2, id: "a0".repeat(16) } };
const log = { write: () => {} };
const never = () => Promise.reject(new Error("nothing is restored here"));

let folder: string;
let state: StateDirectory;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-next-"));
  state = new StateDirectory(folder);
  state.write(MEMBERSHIP_FILE, membershipText(first));
  mkdirSync(path.join(folder, "etcd", "data", "member", "wal"), { recursive: true });
  writeFileSync(path.join(folder, "etcd", "data", "member", "wal", "0.wal"), "old");
  writeFileSync(path.join(folder, "etcd", "ticket"), "spent");
});
afterEach(() => {
  state.close();
  rmSync(folder, { recursive: true });
});

const aside = () => path.join(folder, `etcd-before-${second.generation.id}`);
const membership = () => parseMembership(state.readText(MEMBERSHIP_FILE) ?? "");
const oldLog = (where: string) => {
  const file = path.join(where, "data", "member", "wal", "0.wal");
  return existsSync(file) ? readFileSync(file, "utf8") : null;
};

describe("another unit has restored the control state", () => {
  test("this one follows: it is in the new generation, its old voter's data aside", async () => {
    planNext(state, second, null);
    await takeNext(state, log, never);
    expect(membership()).toEqual(second);
    expect([oldLog(path.join(folder, "etcd")), oldLog(aside())]).toEqual([null, "old"]);
    // Nothing is left to do, nor undone by another start.
    await takeNext(state, log, never);
    expect(membership()).toEqual(second);
  });

  test("a lower generation than its own → it stays where it is", async () => {
    state.write(MEMBERSHIP_FILE, membershipText(second));
    planNext(state, first, null);
    await takeNext(state, log, never);
    expect(membership()).toEqual(second);
    expect(oldLog(path.join(folder, "etcd"))).toBe("old");
  });

  test("it has left its cluster meanwhile → it comes along nowhere", async () => {
    planNext(state, second, null);
    state.remove(MEMBERSHIP_FILE);
    await takeNext(state, log, never);
    expect(state.readText(MEMBERSHIP_FILE)).toBe(null);
  });
});

describe("this unit restores it", () => {
  const backup = new TextEncoder().encode("sealed");

  test("the membership follows what was restored; the backup is handed on as it was", async () => {
    planNext(state, second, backup);
    await takeNext(state, log, async (next, file) => {
      expect([next, file]).toEqual([second, backup]);
      expect(oldLog(path.join(folder, "etcd"))).toBe(null);
      return { ...next, unit: 5 };
    });
    expect(membership()).toEqual({ ...second, unit: 5 });
  });

  test("it fails → membership and voter are as before, and it is not tried again", async () => {
    planNext(state, second, backup);
    await takeNext(state, log, async () => {
      mkdirSync(path.join(folder, "etcd", "data"), { recursive: true });
      throw new Fault("corrupt", "no backup");
    });
    expect(membership()).toEqual(first);
    expect([oldLog(path.join(folder, "etcd")), existsSync(aside())]).toEqual(["old", false]);
    await takeNext(state, log, never);
    expect(membership()).toEqual(first);
  });

  test("interrupted → begun anew from an empty directory, the old data still aside", async () => {
    planNext(state, second, backup);
    const interrupted = takeNext(state, log, async () => {
      const data = path.join(folder, "etcd", "data", "member", "wal");
      mkdirSync(data, { recursive: true });
      writeFileSync(path.join(data, "0.wal"), "half made");
      throw new Error("the power went");
    });
    expect(await interrupted.catch((error: unknown) => String(error))).toContain("the power went");
    expect(membership()).toEqual(first);
    await takeNext(state, log, async (next) => {
      expect(oldLog(path.join(folder, "etcd"))).toBe(null);
      return next;
    });
    expect([membership(), oldLog(aside())]).toEqual([second, "old"]);
  });

  test("a unit without a membership may restore too", async () => {
    state.remove(MEMBERSHIP_FILE);
    planNext(state, second, backup);
    await takeNext(state, log, async (next) => next);
    expect(membership()).toEqual(second);
  });
});
