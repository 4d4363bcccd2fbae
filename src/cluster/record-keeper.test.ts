// SPDX-License-Identifier: Apache-2.0
//
// RecordKeeper over the control store in memory: outcomes are always the truth (R2), outages are
// waited for (R14), rules are kept, and every commit is heard.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { Prng } from "#base/prng.ts";
import { Outcome, carriedOver } from "#base/record.ts";
import type { SliceRecord } from "#base/record.ts";
import { MemoryControlStore } from "./memory-control-store.ts";
import type { MemoryControlClient } from "./memory-control-store.ts";
import { RecordKeeper } from "./record-keeper.ts";
import { recordRefusal } from "./record-rules.ts";
import { VirtualTime } from "./virtual-time-fixture.ts";

const FIRST: SliceRecord = {
  slice: 4,
  volume: 1,
  index: 0,
  sizeBytes: 4 << 20,
  copies: 2,
  lineage: 1,
  ancestry: [],
  epoch: 1,
  head: 1,
  inSync: [
    { disk: 1, incarnation: 1 },
    { disk: 2, incarnation: 5 },
  ],
  resyncing: [],
};
const WITHOUT_2: SliceRecord = { ...FIRST, epoch: 2, inSync: [{ disk: 1, incarnation: 1 }] };
/** As it stands in the control store: who left, and when. */
const STORED_WITHOUT_2: SliceRecord = { ...WITHOUT_2, former: [{ disk: 2, epoch: 1 }], kept: [] };
const TAKEN_BY_2: SliceRecord = {
  ...FIRST,
  epoch: 2,
  head: 2,
  inSync: [{ disk: 2, incarnation: 5 }],
};

function make(seed = 1) {
  const time = new VirtualTime(drainMicrotasks);
  const latencyMs = { least: 1, most: 3 };
  const core = new MemoryControlStore({
    clock: time,
    timers: time,
    prng: new Prng(seed),
    latencyMs,
  });
  core.commit({ ifs: [], puts: [{ key: "/slices/4", value: JSON.stringify(FIRST) }] });
  const log: string[] = [];
  const keeperOf = (client: MemoryControlClient) => {
    const heard: SliceRecord[] = [];
    const removed: number[] = [];
    const prng = new Prng(seed);
    const world = {
      random: { fraction: () => prng.fraction(), fill: () => {} },
      log: { write: (_: unknown, sentence: string) => void log.push(sentence) },
    };
    const keeper = new RecordKeeper(world, time, client, {
      recordChanged: (record) => void heard.push(record),
      recordRemoved: (slice) => void removed.push(slice),
    });
    keeper.start();
    return { keeper, heard, removed, client };
  };
  const stored = () => JSON.parse(core.readOne("/slices/4")?.value ?? "null") as SliceRecord | null;
  return {
    time,
    core,
    log,
    stored,
    one: keeperOf(core.client("1")),
    two: keeperOf(core.client("2")),
  };
}

type Keeper = ReturnType<typeof make>["one"];

function propose({ keeper }: Keeper, next: SliceRecord, expected: SliceRecord) {
  const state: { outcome?: Outcome; current?: SliceRecord | null } = {};
  keeper.propose(next, expected, (outcome, current) => {
    expect(state.outcome).toBeUndefined();
    Object.assign(state, { outcome, current });
  });
  return state;
}

describe("proposals", () => {
  test("nobody else → committed, stored, and heard by every unit", () => {
    const { time, stored, one, two } = make();
    time.pass(100);
    expect(two.heard).toEqual([{ ...FIRST, former: [], kept: [] }]);
    const result = propose(one, WITHOUT_2, FIRST);
    time.pass(100);
    expect(result).toEqual({ outcome: Outcome.committed, current: STORED_WITHOUT_2 });
    expect(stored()).toEqual(STORED_WITHOUT_2);
    expect(two.heard.at(-1)).toEqual(STORED_WITHOUT_2);
    expect(one.heard.at(-1)).toEqual(STORED_WITHOUT_2);
  });

  test("two at the same moment → one committed, the other learns the winner's record", () => {
    for (let seed = 1; seed < 30; seed++) {
      const { time, stored, one, two } = make(seed);
      time.pass(100);
      const a = propose(one, WITHOUT_2, FIRST);
      const b = propose(two, TAKEN_BY_2, FIRST);
      time.pass(1000);
      const winners = [a, b].filter((result) => result.outcome === Outcome.committed);
      expect(winners.length).toBe(1);
      const loser = a === winners[0] ? b : a;
      expect(loser.outcome).toBe(Outcome.conflict);
      expect(loser.current).toEqual(stored() as SliceRecord);
    }
  });

  test("R2: answers and requests lost, or late → every outcome told is the truth", () => {
    let unknowns = 0;
    for (let seed = 1; seed <= 200; seed++) {
      const { time, core, stored, one, two } = make(seed);
      time.pass(100);
      Object.assign(core.faults, { requestLost: 0.3, answerLost: 0.3, late: 0.3 });
      const a = propose(one, WITHOUT_2, FIRST);
      const b = propose(two, TAKEN_BY_2, FIRST);
      time.pass(3000);
      if (a.outcome === undefined) unknowns++;
      // What is told while requests are still under way must stay true.
      const early = [a.outcome, b.outcome];
      Object.assign(core.faults, { requestLost: 0, answerLost: 0, late: 0 });
      time.pass(30_000);
      expect(early[0] ?? a.outcome).toBe(a.outcome as Outcome);
      const now = stored() as SliceRecord;
      expect(a.outcome).toBe(now.head === 1 ? Outcome.committed : Outcome.conflict);
      expect(b.outcome).toBe(now.head === 2 ? Outcome.committed : Outcome.conflict);
      expect(core.revision).toBe(3);
    }
    expect(unknowns).toBeGreaterThan(20);
  });

  test("R14: the store away for minutes → waits, then committed", () => {
    const { time, core, one } = make();
    time.pass(100);
    core.setAway(true);
    const result = propose(one, WITHOUT_2, FIRST);
    time.pass(300_000);
    expect(result.outcome).toBeUndefined();
    core.setAway(false);
    time.pass(4000);
    expect(result.outcome).toBe(Outcome.committed);
  });

  test("the slice deleted → refused, with nothing there; the removal is heard", () => {
    const { time, core, one } = make();
    time.pass(100);
    core.commit({ ifs: [], deletes: ["/slices/4"] });
    const result = propose(one, WITHOUT_2, FIRST);
    time.pass(100);
    expect(result).toEqual({ outcome: Outcome.refused, current: null });
    expect(one.removed).toEqual([4]);
  });

  test("not allowed by a voter → refused and told as such; the next one is made", () => {
    const { time, stored, one, log } = make();
    time.pass(100);
    const { client } = one;
    const transaction = client.transaction.bind(client);
    client.transaction = () => Promise.reject(new Fault("forbidden", "it is another unit's"));
    const first = propose(one, WITHOUT_2, FIRST);
    time.pass(5000);
    expect(first).toMatchObject({ outcome: Outcome.refused, current: FIRST });
    expect(log).toEqual(["a proposal is not allowed"]);
    client.transaction = transaction;
    const second = propose(one, WITHOUT_2, FIRST);
    time.pass(100);
    expect(second.outcome).toBe(Outcome.committed);
    expect(stored()).toEqual(STORED_WITHOUT_2);
  });

  test("a store that fails in another way → said, refused, and not in the way of the next", () => {
    const { time, one, log } = make();
    time.pass(100);
    const { client } = one;
    const transaction = client.transaction.bind(client);
    client.transaction = () => Promise.reject(new Error("a bug"));
    const first = propose(one, WITHOUT_2, FIRST);
    time.pass(100);
    expect(first).toEqual({ outcome: Outcome.refused, current: null });
    expect(log).toEqual(["the slice records cannot be followed"]);
    client.transaction = transaction;
    const second = propose(one, WITHOUT_2, FIRST);
    time.pass(100);
    expect(second.outcome).toBe(Outcome.committed);
  });

  test("a rule broken → refused, the record unchanged, and said in the log", () => {
    const { time, stored, log, two } = make();
    time.pass(100);
    const stranger = { ...FIRST, epoch: 2, head: 3, inSync: [{ disk: 3, incarnation: 1 }] };
    const result = propose(two, stranger, FIRST);
    time.pass(100);
    expect(result.outcome).toBe(Outcome.refused);
    expect(stored()).toEqual(FIRST);
    expect(log.join()).toContain("takes over");
  });
});

describe("following", () => {
  test("watch compacted while cut off → the records are read again", () => {
    const { time, core, one, two } = make();
    time.pass(100);
    two.client.setConnected(false);
    propose(one, WITHOUT_2, FIRST);
    time.pass(100);
    core.compact(core.revision);
    expect(two.heard.length).toBe(1);
    two.client.setConnected(true);
    time.pass(5000);
    expect(two.heard.at(-1)).toEqual(STORED_WITHOUT_2);
  });

  test("stopped → nothing is told any more", () => {
    const { time, one, two } = make();
    time.pass(100);
    const result = propose(one, WITHOUT_2, FIRST);
    one.keeper.stop();
    two.keeper.stop();
    time.pass(1000);
    expect(result.outcome).toBeUndefined();
    expect([one.heard.length, two.heard.length]).toEqual([1, 1]);
  });
});

describe("who may write which record", () => {
  const three: SliceRecord = { ...FIRST, copies: 3, resyncing: [7] };
  const cases: [string, Partial<SliceRecord>, number | "station", boolean][] = [
    ["the head drops a member (R2)", { inSync: [{ disk: 1, incarnation: 1 }] }, 1, true],
    ["another drops a member of the head's", { inSync: [{ disk: 1, incarnation: 1 }] }, 2, false],
    [
      "the head lets in who was resyncing (R7)",
      { inSync: [...FIRST.inSync, { disk: 7, incarnation: 2 }], resyncing: [] },
      1,
      true,
    ],
    [
      "the head lets in who was not",
      { inSync: [...FIRST.inSync, { disk: 8, incarnation: 2 }] },
      1,
      false,
    ],
    ["the head names who resyncs", { resyncing: [7, 8] }, 1, true],
    [
      "the head renews an incarnation without resync (R0)",
      {
        inSync: [
          { disk: 1, incarnation: 1 },
          { disk: 2, incarnation: 6 },
        ],
      },
      1,
      false,
    ],
    [
      "an in-sync member takes over (R3)",
      { head: 2, inSync: [{ disk: 2, incarnation: 5 }] },
      2,
      true,
    ],
    [
      "the old head restarted takes over with all in new incarnations (R3)",
      {
        inSync: [
          { disk: 1, incarnation: 2 },
          { disk: 2, incarnation: 6 },
        ],
      },
      1,
      true,
    ],
    ["a resyncing one takes over", { head: 7, inSync: [{ disk: 7, incarnation: 1 }] }, 7, false],
    [
      "a takeover lets in who was resyncing",
      {
        head: 2,
        inSync: [
          { disk: 2, incarnation: 5 },
          { disk: 7, incarnation: 1 },
        ],
        resyncing: [],
      },
      2,
      false,
    ],
    ["the epoch stays", { epoch: 1 }, 1, false],
    ["the epoch jumps", { epoch: 3 }, 1, false],
    ["another lineage", { lineage: 2, ancestry: [1] }, 1, false],
    ["the slice shrinks (H11)", { sizeBytes: 1 << 20 }, 1, false],
    ["a disk named twice", { resyncing: [7, 2] }, 1, false],
    ["nobody in sync", { inSync: [] }, 1, false],
    ["the station names a new member", { resyncing: [7, 9] }, "station", true],
    ["the station drops one in sync", { inSync: [{ disk: 1, incarnation: 1 }] }, "station", false],
    ["the station moves the head", { head: 2 }, "station", false],
  ];
  for (const [name, change, proposer, allowed] of cases) {
    test(`${name} → ${allowed ? "allowed" : "refused"}`, () => {
      const next = { ...three, epoch: 2, ...change };
      const refusal = recordRefusal(three, next, proposer);
      expect(refusal === null).toBe(allowed);
    });
  }
});

describe("what a proposal does not decide", () => {
  const kept = [{ disk: 7, lineage: 3, epoch: 9, before: 1, atMs: 0 }];
  const now: SliceRecord = { ...FIRST, former: [], kept };

  test("who left is remembered, marked once it is brought up, forgotten once all are there", () => {
    const first = carriedOver(FIRST, WITHOUT_2);
    expect(first.former).toEqual([{ disk: 2, epoch: 1 }]);
    const naming = carriedOver(first, { ...first, epoch: 3, resyncing: [2] });
    expect(naming.former).toEqual([{ disk: 2, epoch: 1, isMixed: true }]);
    const whole = carriedOver(naming, { ...FIRST, epoch: 4 });
    expect(whole.former).toEqual([]);
  });

  test("kept copies stay, also where the proposer knows nothing of them", () => {
    expect(carriedOver(now, WITHOUT_2).kept).toEqual(kept);
    expect(carriedOver(now, { ...WITHOUT_2, kept: [] }).kept).toEqual(kept);
  });

  test("a member that gives kept copies up, or names their disk → refused (R8)", () => {
    expect(recordRefusal(now, { ...WITHOUT_2, kept: [] }, 1)).toContain("owner gives kept");
    const named = { ...now, epoch: 2, resyncing: [7] };
    expect(recordRefusal(now, named, 1)).toContain("takes no part");
    expect(recordRefusal(now, named, "station")).toContain("takes no part");
    expect(recordRefusal(now, { ...now, epoch: 2, kept: [] }, "station")).toBeNull();
    const more = [...kept, { ...kept[0], disk: 8 } as (typeof kept)[0]];
    expect(recordRefusal(now, { ...now, epoch: 2, kept: more }, "station")).toContain("override");
  });

  test("an override that keeps not all, descends from nothing, or invents a disk → refused", () => {
    const alone = carriedOver(FIRST, WITHOUT_2);
    const lost = { disk: 1, lineage: 1, epoch: 2, before: 1, atMs: 0 };
    const next: SliceRecord = {
      ...alone,
      ...{ lineage: 77, ancestry: [1], epoch: 3, head: 2, resyncing: [], former: [] },
      inSync: [{ disk: 2, incarnation: 6 }],
      kept: [lost],
    };
    const refusal = (change: Partial<SliceRecord>, by: "station" | number = "station") =>
      recordRefusal(alone, { ...next, ...change }, by);
    expect(refusal({})).toBeNull();
    expect(refusal({ kept: [] })).toContain("what lost is kept");
    expect(refusal({ ancestry: [] })).toContain("descends");
    expect(refusal({ lineage: 1, ancestry: [1] })).not.toBeNull();
    expect(refusal({ head: 5, inSync: [{ disk: 5, incarnation: 1 }] })).toContain("was in sync");
    expect(refusal({ epoch: 2 })).toContain("epoch");
    // No disk overrides.
    expect(refusal({}, 2)).not.toBeNull();
  });
});
