// SPDX-License-Identifier: Apache-2.0
//
// The two words of a volume, what it waits for, and the table of losses (R5), by situation.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import type { SliceRecord } from "#base/record.ts";
import { StationFixture } from "./station-fixture.ts";
import { SLICE_NEWS_MAX } from "./slice-news.ts";
import type { SliceNews } from "./slice-news.ts";
import type { DiskRecord, VolumeRecord } from "./state.ts";
import { AliveSchema, keys } from "./state.ts";
import { lossTable, newsOf, stateInWords, volumeState } from "./volume-state.ts";
import type { SliceReport, VolumeState } from "./volume-state.ts";

/** One slice over units 1 and 2 (3 for mirror-3), then changed by hand in a view of its own. */
class Situation {
  readonly made = new StationFixture(drainMicrotasks);
  readonly volume: VolumeRecord;
  readonly view;
  #revision = 1_000_000;

  constructor(protection: "none" | "mirror-2" | "mirror-3") {
    this.made.found({ reprotectAfterMs: 600_000 });
    this.made.addDisk(1, 10);
    for (let unit = 2; unit <= 3; unit++) this.made.addDisk(this.made.admit(), 10);
    const number = this.made.createVolume("v", 1, protection);
    this.made.time.pass(2000);
    for (const unit of this.made.units.values()) unit.follower.stop(); // from here by hand
    this.view = this.made.view();
    this.volume = this.view.volumes.get(number) as VolumeRecord;
  }
  get record(): SliceRecord {
    return this.view.slicesOfVolume(this.volume)[0] as SliceRecord;
  }
  diskAt(place: number): DiskRecord {
    return this.view.disks.get(this.record.inSync[place]?.disk ?? 0) as DiskRecord;
  }
  unitAt(place: number): number {
    return this.diskAt(place).unit;
  }
  put(key: string, value: object | null): this {
    const revision = ++this.#revision;
    const event =
      value === null
        ? { kind: "delete" as const, key, value: "", modRevision: revision }
        : { kind: "put" as const, key, value: JSON.stringify(value), modRevision: revision };
    this.view.apply([event], revision);
    return this;
  }
  lose(place: number): this {
    return this.put(keys.aliveOf(this.unitAt(place)), null);
  }
  fail(place: number): this {
    const disk = this.diskAt(place);
    return this.put(keys.disk(disk.number), { ...disk, state: "failed" });
  }
  commit(more: Partial<SliceRecord>): this {
    const next = { ...this.record, epoch: this.record.epoch + 1, ...more };
    return this.put(keys.slice(next.slice), next);
  }
  drop(place: number): this {
    const inSync = this.record.inSync.filter((_, index) => index !== place);
    return this.commit({ inSync, head: inSync[0]?.disk ?? 0 });
  }
  state(share?: number): VolumeState {
    const { epoch } = this.record;
    const report = { epoch, availability: "online" as const, rebuiltShare: share ?? 0 };
    const reports = share === undefined ? new Map() : new Map([[this.record.slice, report]]);
    return volumeState(this.view, this.volume, reports);
  }
}

describe("the two words", () => {
  const rows: [string, () => VolumeState, string][] = [
    ["whole", () => new Situation("mirror-2").state(), "online, protected"],
    ["one copy by choice", () => new Situation("none").state(), "online, protected"],
    [
      "the other copy's unit is away, not dropped yet",
      () => new Situation("mirror-2").lose(1).state(),
      "online, at-risk",
    ],
    ["dropped", () => new Situation("mirror-2").lose(1).drop(1).state(), "online, at-risk"],
    [
      "the head's unit is away, another can take over",
      () => new Situation("mirror-2").lose(0).state(),
      "waiting, at-risk",
    ],
    ["one of three is away", () => new Situation("mirror-3").lose(2).state(), "online, degraded"],
    ["two are away", () => new Situation("mirror-3").lose(2).lose(1).state(), "online, at-risk"],
    ["all are away", () => new Situation("mirror-2").lose(0).lose(1).state(), "waiting, at-risk"],
    ["the only disk failed", () => new Situation("none").fail(0).state(), "offline, at-risk"],
  ];
  for (const [name, act, words] of rows) {
    test(`${name} → ${words}`, () => expect(stateInWords(act())).toBe(words));
  }

  test("rebuilding, with the percentage its head reports", () => {
    const now = new Situation("mirror-2").lose(1).drop(1);
    const units = [now.unitAt(0)];
    const target = [...now.view.disks.values()].find(
      (disk) => now.view.isAlive(disk.unit) && !units.includes(disk.unit),
    );
    now.commit({ resyncing: [target?.number ?? 0] });
    expect(stateInWords(now.state(0.426))).toBe("online, rebuilding 42 %");
    expect(now.state().rebuiltShare).toBe(0);
    // The target goes away too: nothing is being rebuilt any more.
    now.put(keys.aliveOf(target?.unit ?? 0), null);
    expect(stateInWords(now.state())).toBe("online, at-risk");
  });

  test("what it waits for names the units", () => {
    const now = new Situation("mirror-2").lose(0).lose(1);
    const names = [now.unitAt(0), now.unitAt(1)].map((unit) => `box${unit}`);
    expect(now.state().waitsFor).toEqual([
      `the only current copies of part of it are on ${names.join(" or ")}, which is away`,
    ]);
  });
});

describe("what units tell of the slices they head", () => {
  /** The unit at `place` says this of the slice. */
  const told = (now: Situation, place: number, news: Omit<SliceNews, "slice" | "epoch">) => {
    const unit = now.unitAt(place);
    const { slice, epoch } = now.record;
    const slices = [{ slice, epoch, ...news }];
    return now.put(keys.aliveOf(unit), { unit, run: "0".repeat(32), slices });
  };

  test("all are back, and wait for each other → waiting, through every unit, with the name", () => {
    const now = new Situation("mirror-2");
    const other = now.diskAt(1);
    told(now, 0, { availability: "waiting", waitsFor: `disk ${other.number} to answer` });
    expect(stateInWords(now.state())).toBe("waiting, protected");
    expect(now.state().waitsFor).toEqual([`disk ${other.number} of box${other.unit} to answer`]);
  });

  test("the head is away → the other takes over, or says what it waits for", () => {
    const now = new Situation("mirror-2").lose(0);
    expect(now.state().waitsFor).toEqual(["another member takes over as head"]);
    const { number, unit } = now.diskAt(0);
    const waits = { availability: "waiting" as const, waitsFor: `disk ${number} to answer` };
    // It is there in the run that is named: nothing it may say is in the way.
    told(now, 1, waits);
    expect(now.state().waitsFor).toEqual(["another member takes over as head"]);
    const other = now.diskAt(1);
    now.put(keys.disk(other.number), { ...other, incarnation: other.incarnation + 1 });
    expect(now.state().waitsFor).toEqual([`disk ${number} of box${unit} to answer`]);
    // It has not told yet.
    now.put(keys.aliveOf(other.unit), { unit: other.unit, run: "0".repeat(32) });
    expect(now.state().waitsFor.join()).toContain("which started again");
  });

  test("whoever has not the head's disk is not believed", () => {
    const now = new Situation("mirror-2");
    told(now, 1, { availability: "offline", waitsFor: "nothing" });
    expect(stateInWords(now.state())).toBe("online, protected");
  });

  test("told of the record before → over", () => {
    const now = new Situation("mirror-2");
    told(now, 0, { availability: "waiting", waitsFor: "the silent head's grants to run out" });
    expect(stateInWords(now.state())).toBe("waiting, protected");
    now.commit({});
    expect(stateInWords(now.state())).toBe("online, protected");
  });

  test("a resync elsewhere → its percentage; the asked unit's own figure is newer", () => {
    const now = new Situation("mirror-2").lose(1).drop(1);
    const target = [...now.view.disks.values()].find(
      (disk) => now.view.isAlive(disk.unit) && disk.unit !== now.unitAt(0),
    );
    now.commit({ resyncing: [target?.number ?? 0] });
    told(now, 0, { availability: "online", waitsFor: "", rebuiltPercent: 42 });
    expect(stateInWords(now.state())).toBe("online, rebuilding 42 %");
    expect(stateInWords(now.state(0.5))).toBe("online, rebuilding 50 %");
  });

  test("told are those that do not serve, then copies under way; never more than fit", () => {
    const reports = new Map<number, SliceReport>([
      [1, { epoch: 1, availability: "online" }],
      [2, { epoch: 1, availability: "online", rebuiltShare: 0.999 }],
      [3, { epoch: 1, availability: "waiting", waitsFor: "x".repeat(1000) }],
      [4, { epoch: 1, availability: "offline" }],
    ]);
    const news = newsOf(reports);
    expect(news.map(({ slice }) => slice)).toEqual([4, 3, 2]);
    expect(news[2]?.rebuiltPercent).toBe(99);
    for (let slice = 5; slice < 1000; slice++)
      reports.set(slice, { epoch: 1, availability: "waiting" });
    const record = { unit: 1, run: "0".repeat(32), slices: newsOf(reports) };
    expect(AliveSchema.safeParse(record).success).toBe(true);
    expect(record.slices).toHaveLength(SLICE_NEWS_MAX);
    expect(record.slices[0]?.slice).toBe(4);
  });
});

describe("R5: the table of losses", () => {
  test("two units, one voter: its loss stops the control store and what it holds a copy of", () => {
    const now = new Situation("mirror-2");
    const [voter, other] = [now.unitAt(0), now.unitAt(1)];
    const rows = lossTable(now.view, [voter]);
    const row = rows.find((each) => each.unit === voter);
    expect(row).toMatchObject({ controlStops: true, waits: ["v"], stops: [], weakened: [] });
    expect(row?.sentences.join(" ")).toContain("a third vote");
    expect(rows.find((each) => each.unit === other)).toMatchObject({
      controlStops: false,
      weakened: ["v"],
    });
  });

  test("three voters, one away already: the loss of another stops the control store", () => {
    const now = new Situation("mirror-2");
    const third = [1, 2, 3].find((unit) => unit !== now.unitAt(0) && unit !== now.unitAt(1)) ?? 0;
    now.put(keys.aliveOf(third), null);
    const rows = lossTable(now.view, [1, 2, 3]);
    expect(rows.find((each) => each.unit === now.unitAt(0))?.controlStops).toBe(true);
    // The third is lost already, and the store goes on without it.
    expect(rows.find((each) => each.unit === third)?.controlStops).toBe(false);
  });

  test("the last current copy → it stops, and its loss loses data", () => {
    const now = new Situation("mirror-2").lose(1).drop(1);
    const row = lossTable(now.view, [1, 2, 3]).find((each) => each.unit === now.unitAt(0));
    expect(row?.stops).toEqual(["v"]);
    expect(row?.sentences[0]).toContain("so is what lay on them alone");
  });
});
