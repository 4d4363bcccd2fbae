// SPDX-License-Identifier: Apache-2.0
//
// What a unit tells the cluster about wrong blocks: when it changed, added up, and no more often
// than it has to; and scrubs that people asked for through other units.

import { beforeEach, describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { keys } from "#cluster/state.ts";
import { ClusterView } from "#cluster/view.ts";
import { HappeningKind } from "#raid/happening.ts";
import { DiskWatch } from "./disk-watch.ts";
import type { BlocksTold, OpenedDisk, ToReactor } from "./reactor-messages.ts";

const UUID = "d".repeat(32);

let view: ClusterView;
let watch: DiskWatch;
let nowMs: number;
let timers: { atMs: number; act: () => void }[];
let asked: [string, Record<string, unknown>][];
let sent: ToReactor[];
let refusal: Fault | null;
let again: string[];
let retired: [number, string][];
let revision: number;

beforeEach(() => {
  view = new ClusterView();
  [nowMs, timers, asked, sent, refusal, revision] = [1000, [], [], [], null, 0];
  [again, retired] = [[], []];
  watch = new DiskWatch(
    { clock: { nowMs: () => nowMs, wallMs: () => 0 }, log: { write: () => {} } },
    {
      after: (delayMs, act) => {
        const timer = { atMs: nowMs + delayMs, act };
        timers.push(timer);
        return () => void timers.splice(timers.indexOf(timer), 1);
      },
    },
    {
      view,
      commands: {
        ask: (async (name: string, args: Record<string, unknown>) => {
          if (refusal !== null) throw refusal;
          asked.push([name, args]);
          return {};
        }) as never,
      },
      reactor: { send: (message) => void sent.push(message) },
      unit: 1,
      takeAgain: (uuid) => void again.push(uuid),
      retired: ({ number, why }) => void retired.push([number, why ?? ""]),
    },
  );
});

async function pass(ms: number): Promise<void> {
  const endMs = nowMs + ms;
  for (;;) {
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
    const due = timers.filter((timer) => timer.atMs <= endMs).sort((a, b) => a.atMs - b.atMs)[0];
    if (due === undefined) break;
    timers.splice(timers.indexOf(due), 1);
    nowMs = Math.max(nowMs, due.atMs);
    due.act();
  }
  nowMs = endMs;
}

/** A disk's record as the control store has it. */
function record(more: Record<string, unknown> = {}): void {
  const disk = {
    number: 1,
    uuid: UUID,
    unit: 1,
    path: "/d",
    sizeBytes: 1,
    incarnation: 1,
    state: "ready",
    ...more,
  };
  revision++;
  const value = JSON.stringify(disk);
  const event = { kind: "put", key: keys.disk(1), value, modRevision: revision } as const;
  view.apply([event], revision);
}

function disk(found: number, more: Partial<OpenedDisk["health"]> = {}): OpenedDisk {
  const scrub = { running: false, percent: 0, count: 0, endedAtMs: 0, late: false };
  const place = { path: "/d", offsetBytes: 0, sizeBytes: 1, direct: true };
  return {
    ...{ path: "/d", place, uuid: UUID, clusterId: "c", number: 1, slices: 0 },
    ...{ incarnation: 1, sizeBytes: 1, freeBytes: 1 },
    health: {
      ...{ found, healed: found, unhealed: 0, recentPlaces: found, metadataMended: 0, scrub },
      ...more,
    },
  };
}

const healed = (blocks: number, offsetBytes: number): BlocksTold => {
  return { kind: HappeningKind.healed, disk: 1, volume: 1, blocks, offsetBytes };
};

test("takeovers of one volume from one disk are told together, again after a failure", async () => {
  const told = { volume: 4, from: 2, slices: 3, pauseMs: 2400 };
  refusal = new Fault("controlStoreAway", "away");
  watch.takeovers([told]);
  await pass(100);
  watch.takeovers([
    { ...told, slices: 2, pauseMs: 2600 },
    { ...told, from: 3 },
  ]);
  refusal = null;
  await pass(10_000);
  expect(asked).toEqual([
    ["tellTakeover", { ...told, slices: 5, pauseMs: 2600 }],
    ["tellTakeover", { ...told, from: 3 }],
  ]);
  refusal = new Fault("notFound", "gone");
  watch.takeovers([told]);
  await pass(10_000);
  refusal = null;
  await pass(60_000);
  expect(asked).toHaveLength(2);
});

describe("blocks that heads met", () => {
  test("told at once the first time, then added up", async () => {
    watch.blocks([healed(1, 8192)]);
    await pass(1000);
    for (let time = 0; time < 5; time++) {
      watch.blocks([healed(2, 4096 * (9 - time))]);
      await pass(1000);
    }
    expect(asked.length).toBe(1);
    await pass(15_000);
    watch.reported([]);
    await pass(100);
    expect(asked).toEqual([
      ["tellBlocks", { kind: "healed", disk: 1, volume: 1, blocks: 1, offsetBytes: 8192 }],
      ["tellBlocks", { kind: "healed", disk: 1, volume: 1, blocks: 10, offsetBytes: 5 * 4096 }],
    ]);
  });

  test("nobody takes it → kept, and told later; the volume is gone → let go", async () => {
    refusal = new Fault("notReady", "away");
    watch.blocks([healed(1, 0)]);
    await pass(3000);
    watch.blocks([healed(2, 0)]);
    await pass(1000);
    refusal = null;
    await pass(30_000);
    watch.reported([]);
    await pass(100);
    expect(asked.map(([, args]) => args["blocks"])).toEqual([3]);
    await pass(20_000);
    refusal = new Fault("notFound", "no disk");
    watch.blocks([healed(1, 0)]);
    await pass(30_000);
    refusal = null;
    watch.reported([]);
    await pass(30_000);
    expect(asked.length).toBe(1);
  });
});

describe("health", () => {
  test("unchanged → nothing is written, however often it is looked at", async () => {
    record();
    for (let time = 0; time < 10; time++) {
      watch.reported([disk(0)]);
      await pass(60_000);
    }
    const health = { found: 2, healed: 2, unhealed: 0, recentPlaces: 2, scrubEndedAtMs: 0 };
    record({ health });
    watch.reported([disk(2)]);
    await pass(60_000);
    expect(asked).toEqual([]);
  });

  test("changed → written, at most every 15 s", async () => {
    record();
    for (let found = 1; found <= 20; found++) {
      watch.reported([disk(found)]);
      await pass(1000);
    }
    expect(asked.map(([name, args]) => [name, args["found"]])).toEqual([
      ["reportDisk", 1],
      ["reportDisk", 16],
    ]);
  });
});

describe("a scrub that somebody asked for", () => {
  test("since this run began → started here; before, or of another's disk → not", async () => {
    watch.reported([disk(0)]);
    record({ scrubAsked: { number: 4, urgent: true } });
    expect(sent).toEqual([]);
    record({ scrubAsked: { number: 5, urgent: true } });
    record({ scrubAsked: { number: 5, urgent: true }, path: "/moved" });
    expect(sent).toEqual([{ kind: "scrub", disk: 1, urgent: true }]);
    watch.reported([]);
    record({ scrubAsked: { number: 6, urgent: false } });
    expect(sent.length).toBe(1);
  });
});

describe("a disk that went out of use", () => {
  const loss = { disk: 1, incarnation: 3, isOut: true, reason: "it was taken out" };

  test("told before all else, again and again until it is taken", async () => {
    refusal = new Fault("notReady", "away");
    watch.lost(loss);
    watch.blocks([healed(1, 0)]);
    await pass(12_000);
    expect(asked).toEqual([]);
    refusal = null;
    await pass(10_000);
    expect(asked.map(([name]) => name)).toEqual(["loseDisk", "tellBlocks"]);
    expect(asked[0]?.[1]).toEqual(loss);
  });

  test("back before it was told → not told; an older station → not asked for ever", async () => {
    refusal = new Fault("notReady", "away");
    watch.lost(loss);
    await pass(2000);
    watch.back(1);
    refusal = null;
    await pass(20_000);
    expect(asked).toEqual([]);
    refusal = new Fault("badRequest", "no command loseDisk");
    watch.lost(loss);
    await pass(100);
    refusal = null;
    await pass(20_000);
    expect(asked).toEqual([]);
  });

  test("one that did not come with the start → told once, after minutes", async () => {
    record({ incarnation: 5 });
    watch.reported([]);
    await pass(170_000);
    watch.reported([]);
    await pass(5000);
    expect(asked).toEqual([]);
    await pass(10_000);
    for (let time = 0; time < 3; time++) {
      watch.reported([]);
      await pass(10_000);
    }
    expect(asked.map(([name, args]) => [name, args["disk"], args["incarnation"]])).toEqual([
      ["loseDisk", 1, 5],
    ]);
  });

  test("of another unit, or there → none of our business", async () => {
    record({ unit: 2 });
    await pass(200_000);
    watch.reported([]);
    record({ unit: 1 });
    watch.reported([disk(0)]);
    await pass(20_000);
    expect(asked).toEqual([]);
  });
});

describe("what the record of a disk here asks for", () => {
  test("a return that rises → opened anew; the first sight of it → not", () => {
    record({ state: "failed", returnAsked: 2 });
    expect(again).toEqual([]);
    record({ state: "failed", returnAsked: 3 });
    record({ state: "ready", returnAsked: 3 });
    expect(again).toEqual([UUID]);
    record({ state: "failed", returnAsked: 4, unit: 2 });
    expect(again).toEqual([UUID]);
  });

  test("retired, and returned → said each time, and no more", () => {
    record();
    record({ state: "leaving", why: "lies" });
    record({ state: "leaving", why: "lies", emptied: true });
    record();
    expect(retired).toEqual([
      [1, "lies"],
      [1, ""],
    ]);
  });
});
