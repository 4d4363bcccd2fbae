// SPDX-License-Identifier: Apache-2.0
//
// The view: readings and changes, what does not parse, lookups, what a disk may give back; and the
// follower over a control store that goes away and forgets.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import type { SliceRecord } from "#base/record.ts";
import type { Reading, WatchEvent } from "./control-store.ts";
import { StationFixture } from "./station-fixture.ts";
import { firstState, keys, valueText } from "./state.ts";
import type { ClusterRecord } from "./state.ts";
import { ClusterView, entryOf } from "./view.ts";
import type { ViewChange } from "./view.ts";

function slice(number: number, more: Partial<SliceRecord> = {}): SliceRecord {
  return {
    slice: number,
    volume: 1,
    index: number - 1,
    sizeBytes: 64 << 20,
    copies: 2,
    lineage: 1,
    ancestry: [],
    epoch: 1,
    head: 1,
    inSync: [
      { disk: 1, incarnation: 1 },
      { disk: 2, incarnation: 1 },
    ],
    resyncing: [],
    ...more,
  };
}

function reading(revision: number, ...records: SliceRecord[]): Reading {
  const first = firstState({ uuid: "c".repeat(32), name: "x", featureLevel: 1 });
  const entries = first.map(({ key, value }) => entryOf(key, JSON.parse(value) as object, 1));
  for (const record of records) {
    entries.push(entryOf(keys.slice(record.slice), record, record.epoch + 1));
  }
  return { revision, entries };
}

function put(record: SliceRecord, modRevision: number): WatchEvent {
  const key = keys.slice(record.slice);
  return { kind: "put", key, value: valueText(record), modRevision };
}

describe("view", () => {
  test("a reading, changes, a later reading: listeners hear what differs, once", () => {
    const view = new ClusterView();
    const heard: string[] = [];
    view.onChange((changes: readonly ViewChange[]) => {
      for (const change of changes) {
        heard.push(`${change.key}${change.value === null ? " gone" : ""}`);
      }
    });
    view.reset(reading(10, slice(1), slice(2)));
    expect(heard.length).toBe(6);
    heard.length = 0;
    view.apply([put(slice(1, { epoch: 2 }), 11)], 11);
    expect(heard).toEqual(["/slices/1"]);
    expect(view.revisionOf("/slices/1")).toBe(11);
    view.apply([put(slice(1, { epoch: 1 }), 5)], 5); // late, from before
    expect(view.slices.get(1)?.epoch).toBe(2);
    heard.length = 0;
    const later = reading(20, slice(1, { epoch: 2 }));
    for (const entry of later.entries) if (entry.key === "/slices/1") entry.modRevision = 11;
    view.reset(later);
    expect(heard).toEqual(["/slices/2 gone"]);
    expect(() => view.reset(reading(19))).toThrow("never goes back");
  });

  test("a value that does not parse is left out, named, and stops nothing else", () => {
    const view = new ClusterView();
    view.reset(reading(10, slice(1), slice(2)));
    const broken: WatchEvent = { kind: "put", key: "/slices/1", value: "{", modRevision: 11 };
    view.apply([broken, put(slice(2, { epoch: 2 }), 11)], 11);
    expect(view.slices.has(1)).toBe(false);
    expect([...view.unreadable.keys()]).toEqual(["/slices/1"]);
    expect(view.slices.get(2)?.epoch).toBe(2);
    // It is there, so it is not deleted, and a change of it still compares.
    expect(view.revisionOf("/slices/1")).toBe(11);
    view.apply([put(slice(1, { epoch: 3 }), 12)], 12);
    expect(view.unreadable.size).toBe(0);
    expect(view.slices.get(1)?.epoch).toBe(3);
  });

  test("slices by disk follow every change of membership", () => {
    const view = new ClusterView();
    view.reset(reading(10, slice(1), slice(2)));
    const on = (disk: number) => view.slicesOfDisk(disk).map((record) => record.slice);
    expect([on(1), on(2), on(3)]).toEqual([[1, 2], [1, 2], []]);
    const moved = slice(1, { epoch: 2, inSync: [{ disk: 1, incarnation: 1 }], resyncing: [3] });
    view.apply([put(moved, 11)], 11);
    expect([on(1), on(2), on(3)].map((list) => list.toSorted())).toEqual([[1, 2], [2], [1]]);
    view.apply([{ kind: "delete", key: "/slices/1", value: "", modRevision: 12 }], 12);
    expect([on(1), on(2), on(3)]).toEqual([[2], [2], []]);
    expect(view.promisedBytes(2)).toBe(64 << 20);
  });

  test("what a disk may give back: leftovers and the deleted, nothing else", () => {
    const view = new ClusterView();
    const short = slice(2, { inSync: [{ disk: 1, incarnation: 1 }] });
    view.reset(reading(10, slice(1), short, slice(3, { resyncing: [4] })));
    expect(view.isLeftover(1, 3)).toBe(true);
    expect(view.isLeftover(1, 2)).toBe(false); // a member
    expect(view.isLeftover(2, 3)).toBe(false); // it lacks a copy: this one may be wanted
    expect(view.isLeftover(3, 4)).toBe(false); // a target
    expect(view.isLeftover(9, 1)).toBe(false); // nothing known
    expect(view.sliceIsDeleted(9)).toBe(false); // never given out as far as we know
    const numbers = { unit: 1, disk: 1, volume: 1, slice: 10, event: 1 };
    const event = { kind: "put" as const, key: keys.numbers, value: valueText(numbers) };
    view.apply([{ ...event, modRevision: 11 }], 11);
    expect(view.sliceIsDeleted(9)).toBe(true);
    expect(view.sliceIsDeleted(1)).toBe(false);
    view.cluster = { ...(view.cluster as ClusterRecord), sliceFrom: 10 };
    expect(view.sliceIsDeleted(9)).toBe(false); // made before a restore: the disk knows better
    view.cluster = { ...(view.cluster as ClusterRecord), sliceFrom: 9 };
    expect(view.sliceIsDeleted(9)).toBe(true);
    view.apply([{ kind: "put", key: "/slices/9", value: "{", modRevision: 12 }], 12);
    expect(view.sliceIsDeleted(9)).toBe(false); // there, only not readable
  });
});

describe("follower", () => {
  test("the store away, then compacted past us → the view catches up by reading again", () => {
    const made = new StationFixture(drainMicrotasks);
    made.found();
    const unit = made.units.get(1);
    made.addDisk(1, 10);
    const writer = made.core.client("writer");
    unit?.client.setConnected(false);
    made.time.pass(100);
    for (let name = 0; name < 5; name++) {
      const puts = [{ key: keys.pool(`p${name}`), value: valueText({ name: `p${name}` }) }];
      made.wait(writer.transaction({ ifs: [], puts }));
    }
    made.wait(writer.transaction({ ifs: [], puts: [], deletes: [keys.pool("p0")] }));
    made.core.compact(made.core.revision);
    expect(made.view().pools.size).toBe(1);
    unit?.client.setConnected(true);
    made.until("caught up", () => made.view().pools.size === 5, 10_000);
    expect([...made.view().pools.keys()].sort()).toEqual(["p1", "p2", "p3", "p4", "pool"]);
  });

  test("reached: at once, later, or false after the limit", () => {
    const made = new StationFixture(drainMicrotasks);
    made.found();
    const follower = made.any().follower;
    const now = follower.view.revision;
    expect(made.wait(follower.reached(now, 1000))).toBe(true);
    const later = follower.reached(now + 1, 60_000);
    made.addDisk(1, 10);
    expect(made.wait(later)).toBe(true);
    expect(made.wait(follower.reached(now + 1000, 100))).toBe(false);
  });
});
