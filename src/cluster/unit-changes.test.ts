// SPDX-License-Identifier: Apache-2.0
//
// Units that are to go: evacuated while they serve, replaced, removed; and what is refused with
// which reason.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { disksOf } from "#base/record.ts";
import type { SliceRecord } from "#base/record.ts";
import { evacuationOf } from "./evacuation.ts";
import { StationFixture } from "./station-fixture.ts";

const DAY_MS = 24 * 3600 * 1000;

/** So many units with one disk each, and a mirrored volume of two slices. */
function rack(units = 3, gib = 10): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found({ reprotectAfterMs: DAY_MS });
  made.addDisk(1, gib);
  for (let unit = 2; unit <= units; unit++) made.addDisk(made.admit(), gib);
  made.createVolume("v", 2, "mirror-2");
  return made;
}

const records = (made: StationFixture): SliceRecord[] => [...made.view().slices.values()];
const isOn = (made: StationFixture, record: SliceRecord, unit: number) =>
  disksOf(record).some((disk) => made.view().disks.get(disk)?.unit === unit);
const sentences = (made: StationFixture) =>
  [...made.view().events.values()].map((event) => event.sentence);

/** What heads do: targets come into sync, and who leaves is let go, another one heading then. */
function headsAct(made: StationFixture): boolean {
  let acted = false;
  for (const record of records(made)) {
    const view = made.view();
    if (record.resyncing.length > 0) {
      const ready = record.resyncing.map((disk) => ({ disk, incarnation: 1 }));
      const inSync = [...record.inSync, ...ready];
      made.propose({ ...record, epoch: record.epoch + 1, inSync, resyncing: [] });
    } else if (record.inSync.length > record.copies) {
      const inSync = record.inSync.filter(({ disk }) => !view.diskLeaves(disk));
      const head = inSync[0]?.disk ?? record.head;
      made.propose({ ...record, epoch: record.epoch + 1, head, inSync });
    } else continue;
    acted = true;
  }
  return acted;
}

function settle(made: StationFixture): void {
  for (let round = 0; round < 20; round++) {
    made.time.pass(1000);
    if (!headsAct(made)) return;
  }
}

/** A unit that holds something. */
function holderOf(made: StationFixture): number {
  return made.view().disks.get(records(made)[0]?.head ?? 0)?.unit ?? 0;
}

/** A unit more, with a disk that holds nothing. */
function another(made: StationFixture): number {
  const unit = made.admit();
  made.addDisk(unit, 10);
  return unit;
}

describe("an evacuation", () => {
  test("copies go to other units at once, each slice whole all the while; told at the end", () => {
    const made = rack();
    const holder = holderOf(made);
    made.ask("evacuateUnit", { unit: holder, thenRemove: false });
    made.until("targets are named", () => records(made).every((one) => one.resyncing.length > 0));
    for (const record of records(made)) expect(record.inSync).toHaveLength(2);
    settle(made);
    for (const record of records(made)) {
      expect(isOn(made, record, holder)).toBe(false);
      expect(record.inSync).toHaveLength(2);
    }
    expect(sentences(made)).toContain(
      `box${holder} holds nothing any more: it can be switched off, or removed`,
    );
    expect(made.view().units.get(holder)?.state).toBe("admitted");
    // It takes nothing new.
    made.createVolume("w", 2, "mirror-2");
    expect(records(made).some((record) => isOn(made, record, holder))).toBe(false);
  });

  test("then removed, if its owner wished → by itself, once it is empty", () => {
    const made = rack();
    const holder = holderOf(made);
    const asker = [...made.units.values()].find(({ unit }) => unit !== holder);
    made.ask("evacuateUnit", { unit: holder, thenRemove: true }, asker);
    settle(made);
    const { view } = asker?.follower ?? made.any().follower;
    made.until("it is removed", () => view.units.get(holder)?.state === "removed");
    expect(view.disksOfUnit(holder).map((disk) => disk.state)).toEqual(["gone"]);
  });

  test("no further unit → its copies stay, and it says what it waits for", () => {
    const made = rack(2);
    made.ask("evacuateUnit", { unit: 2, thenRemove: false });
    settle(made);
    for (const record of records(made)) expect(isOn(made, record, 2)).toBe(true);
    const state = evacuationOf(made.view(), 2, Date.now());
    expect(state).toMatchObject({ slices: 2, left: 2, leftMs: null });
    expect(state?.sentence).toContain("there is no room, or no further unit");
    // One comes: it goes on.
    made.addDisk(made.admit(), 10);
    settle(made);
    expect(records(made).some((record) => isOn(made, record, 2))).toBe(false);
  });

  test("how long it takes → by the pace so far, never before the first slice has moved", () => {
    const made = rack();
    const holder = holderOf(made);
    made.ask("evacuateUnit", { unit: holder, thenRemove: false });
    const { sinceMs } = made.view().units.get(holder)?.evacuation ?? { sinceMs: 0 };
    expect(evacuationOf(made.view(), holder, sinceMs + 5000)?.leftMs).toBeNull();
    made.until("targets are named", () => records(made).every((one) => one.resyncing.length > 0));
    const [first] = records(made) as [SliceRecord];
    const target = first.resyncing[0] ?? 0;
    const stays = first.inSync.filter(({ disk }) => !made.view().diskLeaves(disk));
    const inSync = [...stays, { disk: target, incarnation: 1 }];
    const head = inSync[0]?.disk ?? 0;
    made.propose({ ...first, epoch: first.epoch + 1, head, inSync, resyncing: [] });
    const state = evacuationOf(made.view(), holder, sinceMs + 60_000);
    expect(state).toMatchObject({ slices: 2, left: 1, leftMs: 60_000 });
    expect(state?.sentence).toBe("1 of 2 slices are moved; about 60 s more at the pace so far");
  });

  test("taken back → it keeps what it holds, and is placed on again", () => {
    const made = rack();
    const holder = holderOf(made);
    made.ask("evacuateUnit", { unit: holder, thenRemove: true });
    made.ask("keepUnit", { unit: holder });
    expect(made.view().units.get(holder)?.evacuation).toBeUndefined();
    made.until("no target", () => records(made).every((one) => one.resyncing.length === 0));
    expect(() => made.ask("keepUnit", { unit: holder })).toThrow("not being evacuated");
  });

  test("a unit that is away, evacuated → its copies are made anew at once, not after a day", () => {
    const made = rack();
    const holder = holderOf(made);
    const free = another(made);
    made.kill(holder);
    made.until("it is away", () => !made.view().isAlive(holder));
    for (const record of records(made)) {
      const inSync = record.inSync.filter(
        ({ disk }) => made.view().disks.get(disk)?.unit !== holder,
      );
      made.propose({ ...record, epoch: record.epoch + 1, head: inSync[0]?.disk ?? 0, inSync });
    }
    made.time.pass(5000);
    expect(records(made).flatMap((record) => record.resyncing)).toEqual([]);
    made.ask("evacuateUnit", { unit: holder, thenRemove: true });
    made.until("targets are named", () =>
      records(made).every((record) => record.resyncing.length > 0 || record.inSync.length > 1),
    );
    expect(records(made).some((record) => isOn(made, record, free))).toBe(true);
    settle(made);
    made.until("it is removed", () => made.view().units.get(holder)?.state === "removed");
  });

  test("of the only unit that stays, or none → refused", () => {
    const made = rack(2);
    made.ask("evacuateUnit", { unit: 2, thenRemove: false });
    expect(() => made.ask("evacuateUnit", { unit: 1, thenRemove: false })).toThrow("only unit");
    expect(() => made.ask("evacuateUnit", { unit: 77, thenRemove: false })).toThrow(Fault);
  });
});

describe("a removal", () => {
  test("while it costs copies → refused with what it costs; forced → done, and told", () => {
    const made = rack();
    made.voters = [1, 2, 3];
    const holder = holderOf(made);
    const asker = [...made.units.values()].find(({ unit }) => unit !== holder);
    const remove = (force: boolean) => made.ask("removeUnit", { unit: holder, force }, asker);
    expect(() => remove(false)).toThrow("v: goes on with a copy fewer");
    expect(made.view().units.get(holder)?.state).toBe("admitted");
    remove(true);
    made.time.pass(500);
    const told = [...(asker?.follower.view.events.values() ?? [])].map((event) => event.sentence);
    expect(told.find((sentence) => sentence.includes("was removed"))).toContain("a copy fewer");
  });

  test("of the only current copy → refused, also by force: nothing is lost by a removal", () => {
    const made = rack(2);
    made.createVolume("single", 1, "none");
    const single = records(made).find((record) => record.copies === 1) as SliceRecord;
    const holder = made.view().disks.get(single.head)?.unit ?? 0;
    const asker = [...made.units.values()].find(({ unit }) => unit !== holder);
    for (const force of [false, true]) {
      const remove = () => made.ask("removeUnit", { unit: holder, force }, asker);
      expect(remove).toThrow("single: the only current copy of part of it is there");
    }
    expect(made.view().units.get(holder)?.state).toBe("admitted");
  });

  test("of an empty unit that has no vote → done at once", () => {
    const made = rack();
    const free = another(made);
    const asker = [...made.units.values()].find(({ unit }) => unit !== free);
    made.ask("removeUnit", { unit: free }, asker);
    const { view } = asker?.follower ?? made.any().follower;
    made.until("it is removed", () => view.units.get(free)?.state === "removed");
  });

  test("one of two that vote → refused until its vote was moved", () => {
    const made = rack();
    const free = another(made);
    const asker = made.units.get(1);
    made.voters = [1, free];
    const remove = () => made.ask("removeUnit", { unit: free, force: true }, asker);
    expect(remove).toThrow("it takes both votes to end one");
    made.voters = [1];
    remove();
    const { view } = asker?.follower ?? made.any().follower;
    made.until("it is removed", () => view.units.get(free)?.state === "removed");
  });

  test("that takes the votes' majority, or the last to spare → refused", () => {
    const made = rack();
    const free = another(made);
    const asker = made.units.get(1);
    made.voters = [1, 2, free];
    expect(() => made.ask("removeUnit", { unit: free }, asker)).toThrow("no vote to spare");
    made.kill(2);
    made.until("it is away", () => asker?.follower.view.isAlive(2) === false);
    const force = () => made.ask("removeUnit", { unit: free, force: true }, asker);
    expect(force).toThrow("the control store would stop");
  });
});

describe("a replacement", () => {
  test("a spare takes the place → holds what the other held; that one is removed", () => {
    const made = new StationFixture(drainMicrotasks);
    made.found({ reprotectAfterMs: DAY_MS });
    made.addDisk(1, 10);
    made.addDisk(made.admit(), 10);
    made.createVolume("v", 2, "mirror-2");
    const spare = made.admit("spare");
    expect(() => made.ask("replaceUnit", { unit: 2, by: spare })).toThrow("no disk in use");
    made.addDisk(spare, 10);
    made.ask("replaceUnit", { unit: 2, by: spare });
    settle(made);
    made.until("it is removed", () => made.view().units.get(2)?.state === "removed");
    expect(made.view().units.get(spare)).toMatchObject({ role: "member", pool: "pool" });
    for (const record of records(made)) expect(isOn(made, record, spare)).toBe(true);
    expect(sentences(made).some((one) => one.includes("box3 takes its place"))).toBe(true);
  });

  test("by itself, by one that is away or leaves → refused, nothing begun", () => {
    const made = rack();
    expect(() => made.ask("replaceUnit", { unit: 2, by: 2 })).toThrow("itself");
    made.kill(3);
    made.until("it is away", () => !made.view().isAlive(3));
    expect(() => made.ask("replaceUnit", { unit: 2, by: 3 })).toThrow("box3 is away");
    made.ask("evacuateUnit", { unit: 1, thenRemove: false });
    expect(() => made.ask("replaceUnit", { unit: 2, by: 1 })).toThrow("being evacuated itself");
    expect(made.view().units.get(2)?.evacuation).toBeUndefined();
  });
});
