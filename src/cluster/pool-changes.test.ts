// SPDX-License-Identifier: Apache-2.0
//
// Pools: several in one cluster, their spares, and units that move between them: what is placed
// where, what is emptied first, and what is refused with which reason.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import type { SliceRecord } from "#base/record.ts";
import { disksOf } from "#base/record.ts";
import { GIB, StationFixture } from "./station-fixture.ts";
import { nextVoterStep } from "./voters.ts";

const DAY_MS = 24 * 3600 * 1000;

/** So many units in the first pool with one disk of 10 GiB each. */
function rack(units: number, settings = { reprotectAfterMs: DAY_MS }): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found(settings);
  made.addDisk(1, 10);
  for (let unit = 2; unit <= units; unit++) made.addDisk(made.admit(), 10);
  return made;
}

function toPool(made: StationFixture, pool: string | null, ...units: number[]): void {
  for (const unit of units) {
    made.ask("moveUnit", { unit, role: pool === null ? "spare" : "member", pool });
  }
}

function volumeIn(made: StationFixture, pool: string, name = `v-${pool}`): SliceRecord[] {
  const { volume } = made.ask("createVolume", {
    name,
    sizeBytes: 2 * GIB,
    protection: "mirror-2",
    pool,
  });
  made.until("it is ready", () => made.view().volumes.get(volume)?.state === "ready");
  return slicesOf(made, volume);
}

function slicesOf(made: StationFixture, volume: number): SliceRecord[] {
  return [...made.view().slices.values()].filter((record) => record.volume === volume);
}

function unitsOf(made: StationFixture, records: readonly SliceRecord[]): number[] {
  const disks = records.flatMap((record) => disksOf(record));
  const units = disks.map((disk) => made.view().disks.get(disk)?.unit ?? 0);
  return [...new Set(units)].sort((a, b) => a - b);
}

/** What heads do: targets come into sync, and who leaves is let go. */
function headsAct(made: StationFixture): void {
  for (let round = 0; round < 20; round++) {
    made.time.pass(1000);
    for (const record of [...made.view().slices.values()]) {
      const view = made.view();
      if (record.resyncing.length > 0) {
        const ready = record.resyncing.map((disk) => ({ disk, incarnation: 1 }));
        const inSync = [...record.inSync, ...ready];
        made.propose({ ...record, epoch: record.epoch + 1, inSync, resyncing: [] });
      } else if (record.inSync.length > record.copies) {
        const inSync = record.inSync.filter(({ disk }) => !view.diskLeaves(disk));
        const head = inSync[0]?.disk ?? record.head;
        made.propose({ ...record, epoch: record.epoch + 1, head, inSync });
      }
    }
  }
}

const placeOf = (made: StationFixture, unit: number) => {
  const record = made.view().units.get(unit);
  return [record?.role, record?.pool];
};
const sentences = (made: StationFixture) =>
  [...made.view().events.values()].map((event) => event.sentence);

describe("two pools", () => {
  test("each volume lies in its own pool; who names none gets the first", () => {
    const made = rack(4);
    made.ask("createPool", { name: "archive" });
    toPool(made, "archive", 3, 4);
    expect(unitsOf(made, volumeIn(made, "archive"))).toEqual([3, 4]);
    expect(unitsOf(made, volumeIn(made, "pool"))).toEqual([1, 2]);
    const first = made.createVolume("none-named", 1, "mirror-2");
    expect(made.view().volumes.get(first)?.pool).toBe("pool");
  });

  test("a unit admitted later joins the first pool, whatever others are called", () => {
    const made = rack(1);
    made.ask("createPool", { name: "aaa" });
    expect(placeOf(made, made.admit())).toEqual(["member", "pool"]);
  });

  test("room of the other pool does not count", () => {
    const made = rack(4);
    made.ask("createPool", { name: "archive" });
    toPool(made, "archive", 4);
    expect(() => volumeIn(made, "archive")).toThrow("only one has one in this pool");
  });

  test("a copy is made anew in the volume's own pool alone", () => {
    const made = rack(5, { reprotectAfterMs: 5000 });
    made.ask("createPool", { name: "archive" });
    toPool(made, "archive", 4, 5);
    volumeIn(made, "archive");
    made.kill(5);
    made.time.pass(60_000);
    expect(unitsOf(made, [...made.view().slices.values()])).toEqual([4, 5]);
  });
});

describe("spares", () => {
  /** Units 1 and 2 in the first pool, 3 and 4 in the archive, 5 a spare; each pool has a volume. */
  function withSpare(pool: string | null): StationFixture {
    const made = rack(4, { reprotectAfterMs: 5000 });
    made.ask("createPool", { name: "archive" });
    toPool(made, "archive", 3, 4);
    made.addDisk(made.admit("spare"), 10);
    if (pool !== null) made.ask("moveUnit", { unit: 5, role: "spare", pool });
    volumeIn(made, "pool");
    volumeIn(made, "archive");
    return made;
  }
  const targets = (made: StationFixture) =>
    [...made.view().slices.values()].flatMap((record) => record.resyncing);

  test("of no pool → whichever pool lacks a copy gets it, and the history says so", () => {
    const made = withSpare(null);
    made.kill(4);
    made.until("a target is named", () => targets(made).length > 0);
    expect(placeOf(made, 5)).toEqual(["member", "archive"]);
    expect(sentences(made).join("; ")).toContain(
      "the spare box5 is now a member of the pool archive: volume v-archive lacked a copy",
    );
  });

  test("of one pool → never used for another; for its own at once", () => {
    const made = withSpare("pool");
    made.kill(4);
    made.time.pass(60_000);
    expect(targets(made)).toEqual([]);
    expect(placeOf(made, 5)).toEqual(["spare", "pool"]);
    made.kill(2);
    made.until("a target is named", () => targets(made).length > 0);
    expect(placeOf(made, 5)).toEqual(["member", "pool"]);
  });

  test("both kinds there → the pool's own is taken first", () => {
    const made = withSpare("archive");
    made.addDisk(made.admit("spare"), 20);
    made.kill(4);
    made.until("a target is named", () => targets(made).length > 0);
    const used = sentences(made).filter((one) => one.startsWith("the spare"));
    expect(used[0]).toContain("the spare box5 is now a member of the pool archive");
  });

  test("nothing of a new volume is placed on a spare, also of its own pool", () => {
    const made = withSpare("pool");
    expect(unitsOf(made, volumeIn(made, "pool", "more"))).toEqual([1, 2]);
  });
});

describe("a unit moved", () => {
  test("empty, or a spare → at once, told; again → nothing more is told", () => {
    const made = rack(3);
    made.ask("createPool", { name: "archive" });
    toPool(made, "archive", 3);
    toPool(made, "archive", 3);
    expect(placeOf(made, 3)).toEqual(["member", "archive"]);
    toPool(made, null, 3);
    expect(placeOf(made, 3)).toEqual(["spare", null]);
    expect(sentences(made).filter((one) => one.startsWith("box3 is now"))).toEqual([
      "box3 is now a member of the pool archive",
      "box3 is now a spare for all pools",
    ]);
  });

  test("that holds slices → emptied first, no slice lacks a copy; its vote stays", () => {
    const made = rack(3);
    made.ask("createPool", { name: "archive" });
    volumeIn(made, "pool");
    const [holder = 0] = unitsOf(made, [...made.view().slices.values()]);
    toPool(made, "archive", holder);
    expect(placeOf(made, holder)).toEqual(["member", "pool"]);
    const units = [...made.view().units.values()].map(({ number, role }) => {
      const place = { unit: number, role, alive: true, awayMs: 0, admitted: true };
      return { ...place, leaves: false, hesitates: false };
    });
    const usual = { learner: false, started: true, lost: false, learnsMs: 0 };
    const members = [{ id: "1", unit: holder, ...usual }];
    expect(nextVoterStep(units, members)).toMatchObject({ kind: "add" });
    headsAct(made);
    expect(placeOf(made, holder)).toEqual(["member", "archive"]);
    expect(made.view().units.get(holder)?.evacuation).toBeUndefined();
    for (const record of made.view().slices.values()) expect(record.inSync).toHaveLength(2);
    expect(unitsOf(made, [...made.view().slices.values()])).not.toContain(holder);
  });

  test("kept meanwhile → it stays where it was", () => {
    const made = rack(3);
    made.ask("createPool", { name: "archive" });
    volumeIn(made, "pool");
    const [holder = 0] = unitsOf(made, [...made.view().slices.values()]);
    toPool(made, "archive", holder);
    made.ask("keepUnit", { unit: holder });
    headsAct(made);
    expect(placeOf(made, holder)).toEqual(["member", "pool"]);
  });

  test("evacuated meanwhile → it is not moved any more", () => {
    const made = rack(3);
    made.ask("createPool", { name: "archive" });
    volumeIn(made, "pool");
    const [holder = 0] = unitsOf(made, [...made.view().slices.values()]);
    toPool(made, "archive", holder);
    made.ask("evacuateUnit", { unit: holder, thenRemove: false });
    headsAct(made);
    expect(placeOf(made, holder)).toEqual(["member", "pool"]);
    expect(made.view().units.get(holder)?.evacuation).toMatchObject({ emptied: true });
  });

  test("nobody could take over, no such pool, no pool for a member → refused, unchanged", () => {
    const made = rack(2);
    made.ask("createPool", { name: "archive" });
    toPool(made, "archive", 2);
    const { volume } = made.ask("createVolume", {
      name: "single",
      sizeBytes: GIB,
      protection: "none",
    });
    made.until("it is ready", () => made.view().volumes.get(volume)?.state === "ready");
    expect(() => toPool(made, "archive", 1)).toThrow("no other unit of its pool");
    expect(() => toPool(made, "nothing", 1)).toThrow("no pool named nothing");
    expect(() => made.ask("moveUnit", { unit: 1, role: "member", pool: null })).toThrow("spare");
    expect(() => toPool(made, "archive", 9)).toThrow("no unit 9");
    expect(placeOf(made, 1)).toEqual(["member", "pool"]);
  });

  test("while it is being evacuated → refused", () => {
    const made = rack(3);
    made.ask("createPool", { name: "archive" });
    volumeIn(made, "pool");
    const [holder = 0] = unitsOf(made, [...made.view().slices.values()]);
    made.ask("evacuateUnit", { unit: holder, thenRemove: false });
    expect(() => toPool(made, "archive", holder)).toThrow("being emptied already");
  });
});

describe("a pool", () => {
  test("a name that is taken, or none → refused", () => {
    const made = rack(1);
    expect(() => made.ask("createPool", { name: "pool" })).toThrow("a pool named pool exists");
    expect(() => made.ask("createPool", { name: "no blanks" })).toThrow("letters, digits");
  });

  test("deleted when it is empty alone; the first one never", () => {
    const made = rack(3);
    made.ask("createPool", { name: "archive" });
    toPool(made, "archive", 3);
    expect(() => made.ask("deletePool", { name: "archive" })).toThrow("unit box3");
    expect(() => made.ask("deletePool", { name: "pool" })).toThrow("it stays");
    expect(() => made.ask("deletePool", { name: "other" })).toThrow("no pool named other");
    toPool(made, "pool", 3);
    made.ask("deletePool", { name: "archive" });
    expect([...made.view().pools.keys()]).toEqual(["pool"]);
  });

  test("not while a unit is on its way to it", () => {
    const made = rack(3);
    made.ask("createPool", { name: "archive" });
    volumeIn(made, "pool");
    const [holder = 0] = unitsOf(made, [...made.view().slices.values()]);
    toPool(made, "archive", holder);
    expect(() => made.ask("deletePool", { name: "archive" })).toThrow(`unit box${holder}`);
  });
});

test("replaced by a member of another pool that holds slices → refused: move it first", () => {
  const made = rack(4);
  made.ask("createPool", { name: "archive" });
  toPool(made, "archive", 3, 4);
  volumeIn(made, "archive");
  expect(() => made.ask("replaceUnit", { unit: 1, by: 3 })).toThrow("move it first");
});
