// SPDX-License-Identifier: Apache-2.0
//
// Drills as the asked unit plans and runs them, over a real control station; what its reactor and
// the other units would do is scripted here (test/cluster does it on real ones).

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { StationFixture } from "#cluster/station-fixture.ts";
import type { ProbeFacts } from "./drill-probe.ts";
import { drillPlan } from "./drills.ts";
import type { ToReactor } from "./reactor-messages.ts";
import { UnitDrills } from "./unit-drill.ts";

const QUIET: ProbeFacts = {
  writes: 0,
  reads: 0,
  errors: 0,
  wrongBlocks: 0,
  gapMs: 50,
  silentMs: 0,
  verifiedBlocks: null,
};

function rack(units: number): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  made.addDisk(1, 10);
  for (let unit = 2; unit <= units; unit++) made.addDisk(made.admit(), 10);
  made.time.pass(1000); // all are seen by all
  return made;
}

/** The asked unit with a reactor that says what the test has it say. */
class Bench {
  readonly made: StationFixture;
  readonly sent: ToReactor[] = [];
  readonly drills: UnitDrills;
  readonly reactor = {
    send: (message: ToReactor) => void this.sent.push(message),
    onProbed: (_: ProbeFacts | null): void => {},
  };

  constructor(units = 3) {
    this.made = rack(units);
    const { made } = this;
    const asked = made.units.get(1);
    if (asked === undefined) throw new Error("unit 1 runs");
    const { follower, commands } = asked;
    const world = { clock: made.time, log: { write: () => {} } };
    const cluster = () => ({ unit: 1, follower, commands });
    this.drills = new UnitDrills(world, made.time, { cluster, reactor: this.reactor });
  }

  say(change: Partial<ProbeFacts>): void {
    this.reactor.onProbed({ ...QUIET, ...change });
    this.made.time.pass(500);
  }
  acts() {
    return this.sent.flatMap((message) => (message.kind === "probe" ? [message.act] : []));
  }

  get slice() {
    const { view } = this.made.units.get(1)?.follower ?? {};
    const canary = [...(view?.volumes.values() ?? [])].find((one) => one.canary !== undefined);
    const record = view?.slices.get(canary?.slices[0] ?? 0);
    if (record === undefined) throw new Error("the canary is placed");
    return record;
  }

  /** As the others do it: the second member heads it, the first one is out. */
  takeOver(): void {
    const record = this.slice;
    const [gone, next] = record.inSync;
    this.made.propose({
      ...record,
      epoch: record.epoch + 1,
      head: next?.disk ?? 0,
      inSync: record.inSync.filter((member) => member !== gone),
    });
  }
  bringBack(): void {
    const record = this.slice;
    const missing = [1, 2, 3].find((disk) => !record.inSync.some((one) => one.disk === disk));
    const back = { disk: missing ?? 0, incarnation: 1 };
    this.made.propose({ ...record, epoch: record.epoch + 1, inSync: [...record.inSync, back] });
  }

  until(phase: string): void {
    for (let left = 0; left < 400 && this.drills.state()?.phase !== phase; left++) {
      this.made.time.pass(250);
    }
    expect(this.drills.state()?.phase).toBe(phase as never);
  }
}

describe("what a drill would do", () => {
  test("three copies where three units have room, else two; else none, with the reason", () => {
    expect(drillPlan(rack(3).view(), null, 10_000).protection).toBe("mirror-3");
    expect(drillPlan(rack(2).view(), null, 10_000).protection).toBe("mirror-2");
    expect(() => drillPlan(rack(1).view(), null, 10_000)).toThrow("on 2 different units");
  });

  test("a unit is chosen → it is named; one without room is refused", () => {
    const made = rack(3);
    const view = made.view();
    const chosen = view.units.get(2);
    if (chosen === undefined) throw new Error("unit 2 is there");
    const plan = drillPlan(view, chosen, 10_000);
    expect(plan.sentences.join(" ")).toContain(`${chosen.name} falls silent to this one volume`);
    const empty = made.view().units.get(made.admit());
    if (empty === undefined) throw new Error("it was admitted");
    expect(() => drillPlan(made.view(), empty, 10_000)).toThrow("no working disk");
  });
});

describe("a drill that is run", () => {
  test("taken over and whole again → passed; the canary is gone", () => {
    const bench = new Bench();
    expect(bench.drills.begin().phase).toBe("making");
    expect(() => bench.drills.begin()).toThrow("under way");
    bench.until("writing");
    expect(bench.acts()).toEqual(["start"]);
    bench.say({ writes: 300, reads: 200 });
    bench.until("failing");
    bench.say({ writes: 300, reads: 200, silentMs: 900, gapMs: 900 });
    bench.takeOver();
    bench.say({ writes: 310, reads: 210, silentMs: 20, gapMs: 2600 });
    bench.until("checking");
    expect(bench.acts()).toEqual(["start", "finish"]);
    bench.say({ writes: 310, reads: 510, gapMs: 2600, verifiedBlocks: 300 });
    bench.until("protecting");
    bench.bringBack();
    bench.until("over");
    const { passed, outcome } = bench.drills.state() ?? {};
    expect(passed).toBe(true);
    expect(outcome).toMatchObject({ gapMs: 2600, writes: 310, verifiedBlocks: 300, failure: null });
    expect(outcome?.toUnit).not.toBe(outcome?.fromUnit);
    bench.made.time.pass(1000);
    expect(bench.made.view().volumes.size).toBe(0);
  });

  test("nobody takes over → failed, and said; the canary is gone", () => {
    const bench = new Bench();
    bench.drills.begin();
    bench.until("writing");
    bench.say({ writes: 300, reads: 200 });
    bench.until("failing");
    bench.say({ writes: 300, reads: 200, silentMs: 10_000, gapMs: 10_000 });
    bench.until("checking");
    bench.say({ writes: 300, reads: 400, gapMs: 10_000, verifiedBlocks: 300 });
    bench.until("over");
    const { passed, sentence } = bench.drills.state() ?? {};
    expect(passed).toBe(false);
    expect(sentence).toContain("no other copy took over");
    bench.made.time.pass(1000);
    expect(bench.made.view().volumes.size).toBe(0);
  });

  test("the canary never answers → it came to no end; a block that is wrong → failed", () => {
    const silent = new Bench();
    silent.drills.begin();
    silent.until("over");
    expect(silent.drills.state()?.sentence).toContain("did not answer before anything failed");
    expect(silent.acts()).toEqual(["start", "abandon"]);

    const wrong = new Bench();
    wrong.drills.begin();
    wrong.until("writing");
    wrong.say({ writes: 300, reads: 200 });
    wrong.until("failing");
    wrong.takeOver();
    wrong.say({ writes: 310, reads: 210, silentMs: 20, gapMs: 2600, wrongBlocks: 1 });
    wrong.until("checking");
    wrong.say({ writes: 310, reads: 210, gapMs: 2600, wrongBlocks: 1, verifiedBlocks: 299 });
    wrong.until("over");
    expect(wrong.drills.state()).toMatchObject({ passed: false });
  });
});
