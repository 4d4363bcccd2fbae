// SPDX-License-Identifier: Apache-2.0
//
// Units in maintenance: what is refused beforehand, what is waited for and for how long, and that
// others lead meanwhile.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import type { SliceRecord } from "#base/record.ts";
import { maintenanceOf, maintenanceOver } from "./maintenance.ts";
import { transactionRefusal } from "./proxy-rules.ts";
import { keys, valueText } from "./state.ts";
import type { UnitRecord } from "./state.ts";
import { StationFixture } from "./station-fixture.ts";
import type { FixtureUnit } from "./station-fixture.ts";

const HOUR_MS = 3_600_000;
const AFTER_MS = 20_000;

/** So many units with one disk each, and a mirrored volume of two slices. */
function rack(units = 3): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found({ reprotectAfterMs: AFTER_MS });
  made.addDisk(1, 10);
  for (let unit = 2; unit <= units; unit++) made.addDisk(made.admit(), 10);
  made.createVolume("v", 2, "mirror-2");
  made.voters = [1, 2, 3].slice(0, units);
  return made;
}

const other = (made: StationFixture, than: number) =>
  [...made.units.values()].find(({ unit }) => unit !== than) as FixtureUnit;
const told = (unit: FixtureUnit) =>
  [...unit.follower.view.events.values()].map((event) => event.sentence);

function maintain(
  made: StationFixture,
  unit: number,
  options: { forMs?: number; force?: boolean },
) {
  const { forMs = HOUR_MS, force = false } = options;
  return made.ask("maintainUnit", { unit, forMs, force }, other(made, unit));
}

/** What the heads of others do when a unit of theirs goes away in maintenance. */
function headsDrop(made: StationFixture, gone: number): void {
  const { view } = other(made, gone).follower;
  for (const record of [...view.slices.values()]) {
    const isThere = (disk: number) => view.disks.get(disk)?.unit === gone;
    const lost = record.inSync.filter(({ disk }) => isThere(disk)).map(({ disk }) => disk);
    if (lost.length === 0) continue;
    const inSync = record.inSync.filter(({ disk }) => !lost.includes(disk));
    const head = inSync[0]?.disk ?? 0;
    made.propose({ ...record, epoch: record.epoch + 1, head, inSync, resyncing: lost });
  }
}

/** A member that is no leader, taken out and switched off; who sees it. */
function takenOut(made: StationFixture, forMs = HOUR_MS): { unit: number; asker: FixtureUnit } {
  const [first] = made.view().slices.values();
  const disks = (first as SliceRecord).inSync.map(({ disk }) => disk);
  const units = disks.map((disk) => made.view().disks.get(disk)?.unit ?? 0);
  const unit = units.find((one) => one !== 1) ?? 0;
  maintain(made, unit, { forMs });
  made.kill(unit);
  const asker = other(made, unit);
  made.until("it is away", () => !asker.follower.view.isAlive(unit));
  headsDrop(made, unit);
  return { unit, asker };
}

describe("asked for", () => {
  test("nothing stops → marked, told, nothing new placed there; ended → as any other", () => {
    const made = rack(4);
    maintain(made, 2, {});
    expect(made.view().units.get(2)?.maintenance).toMatchObject({ by: "owner", forMs: HOUR_MS });
    expect(told(made.any())).toContain(
      "box2 is in maintenance for 60 min at most: others take over what it heads, and its copies " +
        "are waited for",
    );
    made.createVolume("w", 4, "mirror-3");
    const disk = made.view().disksOfUnit(2)[0]?.number ?? 0;
    const placed = made.view().volumeByName("w")?.slices ?? [];
    const isOnIt = (slice: number) =>
      made
        .view()
        .slices.get(slice)
        ?.inSync.some((member) => member.disk === disk);
    expect(placed.some(isOnIt)).toBe(false);
    made.ask("endMaintenance", { unit: 2 });
    expect(made.view().units.get(2)?.maintenance).toBeUndefined();
    expect(() => made.ask("endMaintenance", { unit: 2 })).toThrow("box2 is not in maintenance");
  });

  test("a volume would go offline → refused with its name; forced → done, and told", () => {
    const made = rack();
    made.createVolume("single", 1, "none");
    const single = [...made.view().slices.values()].find((one) => one.copies === 1);
    const holder = made.view().disks.get(single?.head ?? 0)?.unit ?? 0;
    expect(() => maintain(made, holder, {})).toThrow(`single: offline while box${holder} is away`);
    expect(made.view().units.get(holder)?.maintenance).toBeUndefined();
    maintain(made, holder, { force: true });
    made.time.pass(200);
    const sentences = told(other(made, holder)).filter((one) => one.includes("accepted"));
    expect(sentences.join()).toContain(`accepted: single: offline while box${holder} is away`);
  });

  test("both copies in maintenance, none switched off yet → the second is refused", () => {
    const made = rack(4);
    const [first] = made.view().slices.values();
    const units = (first as SliceRecord).inSync.map(
      ({ disk }) => made.view().disks.get(disk)?.unit ?? 0,
    ) as [number, number];
    made.voters = [1, 2, 3, 4];
    maintain(made, units[0], {});
    expect(() => maintain(made, units[1], {})).toThrow("v: offline while");
  });

  test("the control store would stop → refused; the votes are not known → refused", () => {
    const made = rack(2);
    made.voters = [1];
    expect(() => maintain(made, 1, {})).toThrow("the control store stops with box1");
    made.voters = null;
    expect(() => maintain(made, 2, {})).toThrow("not known who votes");
  });

  test("a unit that is away → marked all the same: what it costs has come about", () => {
    const made = rack();
    const asker = other(made, 2);
    made.kill(2);
    made.until("it is away", () => !asker.follower.view.isAlive(2));
    maintain(made, 2, {});
    expect(asker.follower.view.units.get(2)?.maintenance).toBeDefined();
  });

  test("times out of bounds, a unit nobody knows → refused", () => {
    const made = rack();
    for (const forMs of [0, 59_999, 25 * HOUR_MS, 1.5e5 + 0.5]) {
      expect(() => maintain(made, 2, { forMs })).toThrow();
    }
    expect(() => maintain(made, 77, {})).toThrow("no unit 77");
  });
});

describe("while it is away", () => {
  test("its copies are waited for, long past the usual time; back → they are its own again", () => {
    const made = rack(4);
    const { unit, asker } = takenOut(made);
    made.time.pass(10 * AFTER_MS);
    const { view } = asker.follower;
    const disk = view.disksOfUnit(unit)[0]?.number ?? 0;
    const targets = [...view.slices.values()].flatMap(({ resyncing }) => resyncing);
    expect(targets.length).toBeGreaterThan(0);
    expect(new Set(targets)).toEqual(new Set([disk]));
    expect(told(asker)).toContain(
      `box${unit} is away, in maintenance: what it holds is waited for`,
    );
    made.start(unit);
    made.until("it is back", () => view.isAlive(unit));
    expect([...view.slices.values()].flatMap(({ resyncing }) => resyncing)).toEqual(targets);
  });

  test("another copy fails meanwhile → that one is made anew by the usual rules", () => {
    const made = rack(4);
    maintain(made, 4, {});
    const record = [...made.view().slices.values()].find(({ inSync }) =>
      inSync.some(({ disk }) => made.view().disks.get(disk)?.unit === 2),
    ) as SliceRecord;
    const lost = record.inSync.find(({ disk }) => made.view().disks.get(disk)?.unit === 2);
    const inSync = record.inSync.filter((member) => member !== lost);
    made.propose({ ...record, epoch: record.epoch + 1, head: inSync[0]?.disk ?? 0, inSync });
    made.until("a target is named", () => {
      return made.view().slices.get(record.slice)?.resyncing.length === 1;
    });
    const [target = 0] = made.view().slices.get(record.slice)?.resyncing ?? [];
    expect(made.view().disks.get(target)?.unit).not.toBe(4);
  });

  test("its time is over → told, and its copies are made anew on others", () => {
    const made = rack(4);
    const { unit, asker } = takenOut(made, 60_000);
    const { view } = asker.follower;
    made.until("the mark is gone", () => view.units.get(unit)?.maintenance === undefined, 90_000);
    const disk = view.disksOfUnit(unit)[0]?.number ?? 0;
    made.until("others are named", () => {
      const targets = [...view.slices.values()].flatMap(({ resyncing }) => resyncing);
      return targets.length > 0 && !targets.includes(disk);
    });
    expect(told(asker)).toContain(
      `the time for the maintenance of box${unit} is over, and it is away: ` +
        "what it held is made anew on other units",
    );
  });

  test("a wall clock that runs back by as much → it ends as well, never never", () => {
    const made = rack();
    maintain(made, 2, {});
    const { sinceMs = 0 } = made.view().units.get(2)?.maintenance ?? {};
    expect(maintenanceOver(made.view(), sinceMs - 1000)).toBeNull();
    expect(maintenanceOver(made.view(), sinceMs + HOUR_MS - 1)).toBeNull();
    expect(maintenanceOver(made.view(), sinceMs + HOUR_MS)).not.toBeNull();
    expect(maintenanceOver(made.view(), sinceMs - HOUR_MS)).not.toBeNull();
  });
});

test("the control station in maintenance → another leads, and says why", () => {
  const made = rack();
  expect(made.leaders()).toEqual([1]);
  maintain(made, 1, {});
  made.until("another leads", () => made.leaders().length === 1 && made.leaders()[0] !== 1);
  made.until("it is told", () => told(made.any()).some((one) => one.includes("is in maintenance")));
  const why = told(made.any()).find((one) => one.includes("is the control station now: "));
  expect(why).toContain("box1 is in maintenance");
  made.time.pass(120_000);
  expect(made.leaders()).not.toEqual([1]);
});

test("a unit does not mark itself, nor takes the mark away: only the station does", () => {
  const made = rack();
  const view = made.view();
  const record = view.units.get(2) as UnitRecord;
  const maintenance = { sinceMs: 0, forMs: HOUR_MS, by: "owner" as const };
  const put = { key: keys.unit(2), value: valueText({ ...record, maintenance }) };
  const ifs = [view.compare(keys.unit(2))];
  expect(transactionRefusal(view, 2, { ifs, puts: [put] })).toContain("only the control station");
});

test("in words → how long, what it heads still, and when it may be switched off", () => {
  const made = rack();
  expect(maintenanceOf(made.view(), 2, 0)).toBeNull();
  maintain(made, 2, {});
  const { sinceMs = 0 } = made.view().units.get(2)?.maintenance ?? {};
  const heads = [...made.view().slices.values()].filter(
    ({ head }) => made.view().disks.get(head)?.unit === 2,
  ).length;
  const state = maintenanceOf(made.view(), 2, sinceMs + 1000);
  expect(state).toMatchObject({ heads, leftMs: HOUR_MS - 1000, untilMs: sinceMs + HOUR_MS });
  expect(state?.sentence).toContain(heads === 0 ? "can be switched off" : "headed there still");
  expect(state?.sentence).toContain("for 60 min more at most");
});
