// SPDX-License-Identifier: Apache-2.0
//
// A control state rebuilt without a backup: what it begins with, what it gathers before anything is
// settled, and what its owner's word does; from what a unit remembers, and from the disks alone.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import type { SliceRecord } from "#base/record.ts";
import type { BackupEntry } from "./control-backup.ts";
import { Draft } from "./draft.ts";
import { FIRST_GENERATION } from "./generation.ts";
import { questionsOf } from "./questions.ts";
import { NOTHING_REMEMBERED, rebuiltState } from "./rebuilt-state.ts";
import type { Remembered } from "./rebuilt-state.ts";
import { EPOCH_JUMP } from "./restored-slices.ts";
import { restoredState } from "./restored-state.ts";
import { decisions } from "./station-changes.ts";
import { GIB, StationFixture, unitArguments } from "./station-fixture.ts";
import type { FixtureUnit } from "./station-fixture.ts";
import { keys, parseEntry } from "./state.ts";
import type { DiskRecord } from "./state.ts";
import { ClusterView } from "./view.ts";
import { volumeState } from "./volume-state.ts";

const SECOND = { number: 2, id: "a0".repeat(16) };
const LOST = {
  uuid: "c".repeat(32),
  name: "test",
  generation: FIRST_GENERATION,
  featureLevel: 1,
  sliceBytes: GIB,
  settings: {},
};

function faultOf(act: () => unknown): Fault {
  try {
    act();
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

/** Two units with a disk each, and a volume. */
function cluster(gib = 1): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  made.admit();
  for (const unit of [1, 2]) made.addDisk(unit, 100);
  made.createVolume("mail", gib, "mirror-2");
  return made;
}

function rememberedOf(made: StationFixture): Remembered {
  const { units, disks, volumes, slices } = made.view();
  return {
    units: [...units.values()],
    disks: [...disks.values()],
    volumes: [...volumes.values()],
    slices: [...slices.values()],
  };
}

/** Its first unit begins it; the others come along and tell. */
function rebuilt(remembered: Remembered, generation = SECOND): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  const entries = restoredState(rebuiltState(remembered, LOST), generation).entries;
  made.core.commit({ ifs: [], puts: entries.map(([key, value]) => ({ key, value })) });
  const view = new ClusterView();
  view.reset(made.core.read("/"));
  const draft = new Draft(view);
  const asking = { asker: 1, wallMs: 0, newId: () => "", voters: null };
  const { unit } = decisions.admitUnit(draft, unitArguments(1, "member"), asking);
  made.core.commit(draft.transaction(0));
  made.start(unit as number);
  made.until("somebody leads", () => made.leaders().length === 1);
  return made;
}

/** A unit of before comes along, as which number it may. */
function come(made: StationFixture, number: number): FixtureUnit {
  const { unit } = made.ask("admitUnit", unitArguments(number, "member"));
  return made.units.get(unit) ?? made.start(unit);
}

/** Its disk of before is registered by the number in its superblock, and tells. */
function tell(made: StationFixture, from: FixtureUnit, disk: DiskRecord, records: SliceRecord[]) {
  made.time.pass(500);
  const { uuid, path, sizeBytes, number } = disk;
  const args = { uuid, path, sizeBytes, incarnation: disk.incarnation + 1, number };
  expect(made.ask("registerDisk", args, from).disk).toBe(number);
  const told = { disk: number, generation: SECOND.id, records, isLast: true };
  made.ask("tellHeld", told, from);
}

function truth(made: StationFixture): { disks: DiskRecord[]; slices: SliceRecord[] } {
  return { disks: [...made.view().disks.values()], slices: [...made.view().slices.values()] };
}

describe("what it begins with", () => {
  test("nothing remembered → an empty cluster in use, unclaimed, that gathers", () => {
    const entries = restoredState(rebuiltState(NOTHING_REMEMBERED, LOST), SECOND).entries;
    const kinds = entries.map(([key, value]) => parseEntry(key, value)?.kind);
    expect(kinds.sort()).toEqual(["cluster", "numbers", "pool", "settings"]);
    const view = rebuilt(NOTHING_REMEMBERED).view();
    expect(view.isClaimed).toBe(false);
    expect(view.cluster).toMatchObject({ state: "used", gathering: true, generation: 2 });
  });

  test("numbers begin above every generation before, however its chance fell", () => {
    // Each restore may add nearly three jumps; a rebuild of what it began must be beyond it.
    const worst = {
      number: 0,
      id: `${(2 ** 22 - 1).toString(16).padStart(8, "0")}${"0".repeat(24)}`,
    };
    let backup: BackupEntry[] = rebuiltState(NOTHING_REMEMBERED, LOST);
    for (let number = 2; number <= 40; number++) {
      const state = restoredState(backup, { ...worst, number });
      const given = JSON.parse(entryOf(state.entries, keys.numbers));
      const lost = { ...LOST, generation: { ...worst, number } };
      const again = restoredState(rebuiltState(NOTHING_REMEMBERED, lost), {
        number: number + 1,
        id: "0".repeat(32),
      });
      const next = JSON.parse(entryOf(again.entries, keys.numbers));
      for (const kind of ["unit", "disk", "volume", "slice", "event"]) {
        expect(next[kind]).toBeGreaterThan(given[kind]);
      }
      expect(next.slice).toBeLessThan(2 ** 32);
      backup = state.entries;
    }
  });

  test("what is remembered → names, pools, no hosts; deleted and back again", () => {
    const made = cluster();
    made.ask("createPool", { name: "archive" });
    made.ask("addHost", { name: "db", addresses: ["10.0.0.9"] });
    made.ask("deleteVolume", { volume: 1, graceMs: 60_000 });
    const remembered = rememberedOf(made);
    const [unit] = remembered.units;
    if (unit === undefined) throw new Error("no unit");
    const moved = {
      ...remembered,
      units: [{ ...unit, pool: "archive" }, ...remembered.units.slice(1)],
    };
    const view = rebuilt(moved).view();
    expect([...view.pools.keys()].sort()).toEqual(["archive", "pool"]);
    const volume = view.volumeByName("mail");
    expect([volume?.hosts, volume?.trash, view.hosts.size]).toEqual([[], undefined, 0]);
    expect([...view.restored.keys()]).toEqual([1]);
    expect(view.units.get(2)?.name).toBe("box2");
  });
});

function entryOf(entries: readonly BackupEntry[], key: string): string {
  const found = entries.find(([one]) => one === key);
  if (found === undefined) throw new Error(`no ${key}`);
  return found[1];
}

describe("gathering", () => {
  test("all told → nothing is settled or made before the owner's word; then it is", () => {
    const before = cluster(2);
    const { disks, slices } = truth(before);
    const [first, second] = disks;
    if (first === undefined || second === undefined) throw new Error("no disks");
    const made = rebuilt(NOTHING_REMEMBERED);
    tell(made, come(made, 1), first, [...slices].reverse());
    tell(made, come(made, 2), second, slices);
    made.time.pass(5000);
    const volume = made.view().volumeByName("found-1");
    if (volume === null) throw new Error("the volume was not found");
    expect([volume.sizeBytes, volume.sliceBytes, volume.slices]).toEqual([2 * GIB, GIB, [1, 2]]);
    expect(made.view().slices.size).toBe(0);
    expect(volumeState(made.view(), volume).waitsFor.join()).toContain("cairn control settle");
    const wish = { name: "new", sizeBytes: GIB, protection: "none" as const };
    expect(faultOf(() => made.ask("createVolume", wish)).code).toBe("notReady");
    expect(faultOf(() => made.ask("acceptVolume", { volume: 1 })).code).toBe("conflict");
    const questions = questionsOf(made.view(), 0);
    expect(questions.map(({ about }) => about)).toEqual(["the control state"]);
    expect(questions[0]?.sentence).toContain("2 disks have told");
    expect(made.ask("endGathering", {})).toEqual({ disks: 2 });
    made.until("settled", () => made.view().slices.size === 2);
    const after = [...made.view().slices.values()].sort((one, other) => one.index - other.index);
    expect(after).toEqual(slices.map((one) => ({ ...one, epoch: one.epoch + EPOCH_JUMP })));
    expect(faultOf(() => made.ask("endGathering", {})).code).toBe("conflict");
    expect(made.createVolume("new", 1, "mirror-2")).toBeGreaterThan(1);
  });

  test("a disk that works and has not told yet → the owner's word is too early", () => {
    const { disks, slices } = truth(cluster());
    const [first, second] = disks;
    if (first === undefined || second === undefined) throw new Error("no disks");
    const made = rebuilt(NOTHING_REMEMBERED);
    tell(made, come(made, 1), first, slices);
    const other = come(made, 2);
    made.time.pass(500);
    const { uuid, path, sizeBytes, number } = second;
    made.ask("registerDisk", { uuid, path, sizeBytes, incarnation: 2, number }, other);
    const fault = faultOf(() => made.ask("endGathering", {}));
    expect([fault.code, fault.message]).toEqual([
      "notReady",
      expect.stringContaining("disk 2 of box2"),
    ]);
  });

  test("a disk that is named never comes → it waits after the word, until accepted", () => {
    const { disks, slices } = truth(cluster());
    const [first] = disks;
    if (first === undefined) throw new Error("no disk");
    const made = rebuilt(NOTHING_REMEMBERED);
    tell(made, come(made, 1), first, slices);
    expect(questionsOf(made.view(), 0)[0]?.sentence).toContain("name disk 2 besides");
    made.ask("endGathering", {});
    made.time.pass(3000);
    expect(made.view().slices.size).toBe(0);
    expect(questionsOf(made.view(), 0)[0]?.about).toBe("volume found-1");
    made.ask("acceptVolume", { volume: 1 });
    expect([...made.view().slices.values()].map(({ inSync }) => inSync)).toEqual([
      [{ disk: 1, incarnation: 1 }],
    ]);
  });

  test("a number that only a disk knows → not given out, nor taken as deleted", () => {
    const { disks, slices } = truth(cluster());
    const [first] = disks;
    const [slice] = slices;
    if (first === undefined || slice === undefined) throw new Error("no disk");
    const made = rebuilt(NOTHING_REMEMBERED);
    const high = 5_000_000 + (made.view().numbers?.slice ?? 0);
    tell(made, come(made, 1), first, [{ ...slice, slice: high, volume: high }]);
    expect(made.view().sliceIsDeleted(high)).toBe(false);
    expect(made.view().restored.has(high)).toBe(true);
    made.ask("endGathering", {});
    const { numbers, cluster: record } = made.view();
    expect(Math.min(numbers?.slice ?? 0, numbers?.volume ?? 0)).toBeGreaterThan(high);
    expect(record?.sliceFrom).toBe(numbers?.slice);
    expect(made.view().sliceIsDeleted(high)).toBe(false);
  });
});

describe("histories (R8)", () => {
  test("an owner went on with a disk that older copies never name → it counts", () => {
    const { disks, slices } = truth(cluster());
    const [first, second] = disks;
    const [record] = slices;
    if (first === undefined || second === undefined || record === undefined)
      throw new Error("none");
    // Both copies were away, and the volume went on from a third disk that had left before.
    const third = { ...second, number: 3, uuid: "e".repeat(32) };
    const went: SliceRecord = {
      ...record,
      lineage: 77,
      ancestry: [record.lineage],
      epoch: record.epoch + 1,
      head: 3,
      inSync: [{ disk: 3, incarnation: 1 }],
    };
    const made = rebuilt(NOTHING_REMEMBERED);
    tell(made, come(made, 1), first, [record]);
    tell(made, come(made, 2), second, [record]);
    made.time.pass(5000);
    expect(made.view().slices.size).toBe(0);
    tell(made, come(made, 3), third, [went]);
    made.ask("endGathering", {});
    made.until("settled", () => made.view().slices.size === 1);
    const [settled] = made.view().slices.values();
    expect([settled?.lineage, settled?.inSync.map(({ disk }) => disk)]).toEqual([77, [3]]);
    expect(settled?.kept?.map(({ disk }) => disk).sort()).toEqual([1, 2]);
  });
});

describe("volumes that are found", () => {
  /** Of another size of slices than the cluster would guess. */
  function big(slices: SliceRecord[]): SliceRecord[] {
    const sizes = [3 * GIB, 3 * GIB, GIB];
    return slices.map((one, at) => ({ ...one, sizeBytes: sizes[at] ?? GIB }));
  }

  test("slices of another size, the last told first → length and borders are right", () => {
    const { disks, slices } = truth(cluster(3));
    const [first] = disks;
    if (first === undefined) throw new Error("no disk");
    const [one, two, three] = big(slices);
    if (one === undefined || two === undefined || three === undefined) throw new Error("no slices");
    const made = rebuilt(NOTHING_REMEMBERED);
    const unit = come(made, 1);
    tell(made, unit, first, [three]);
    tell(made, unit, { ...first, incarnation: 2 }, [one]);
    const volume = () => made.view().volumeByName("found-1");
    expect([volume()?.sliceBytes, volume()?.sizeBytes]).toEqual([3 * GIB, 7 * GIB]);
    tell(made, unit, { ...first, incarnation: 3 }, [two]);
    expect([volume()?.sliceBytes, volume()?.sizeBytes]).toEqual([3 * GIB, 7 * GIB]);
    expect(volume()?.slices).toEqual([1, 2, 3]);
  });

  test("only the last slice is there → where it begins is not known: it waits", () => {
    const { disks, slices } = truth(cluster(3));
    const [first] = disks;
    const three = big(slices)[2];
    if (first === undefined || three === undefined) throw new Error("no disk");
    const made = rebuilt(NOTHING_REMEMBERED);
    tell(made, come(made, 1), first, [
      { ...three, copies: 1, inSync: [{ disk: 1, incarnation: 1 }] },
    ]);
    made.ask("endGathering", {});
    made.time.pass(3000);
    expect(made.view().slices.size).toBe(0);
    const volume = made.view().volumeByName("found-1");
    if (volume === null) throw new Error("the volume was not found");
    expect(volumeState(made.view(), volume).waitsFor.join()).toContain("to be found");
    expect(questionsOf(made.view(), 0)[0]?.sentence).toContain("holds all of volume found-1");
    expect(faultOf(() => made.ask("acceptVolume", { volume: 1 })).code).toBe("notFound");
  });
});
