// SPDX-License-Identifier: Apache-2.0
//
// A drill's canary: who may make, fail and end it, and that nothing of it is left.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { CANARY_NAME, outcomeSentence } from "./drill-changes.ts";
import type { DrillOutcome } from "./drill-changes.ts";
import { StationFixture } from "./station-fixture.ts";

const MIB = 1 << 20;

const OUTCOME: DrillOutcome = {
  gapMs: 2640,
  fromUnit: 2,
  toUnit: 3,
  writes: 900,
  reads: 850,
  verifiedBlocks: 1024,
  wrongBlocks: 0,
  errors: 0,
  protectedMs: 12_000,
  failure: null,
};

function rack(units = 3): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  made.addDisk(1, 10);
  for (let unit = 2; unit <= units; unit++) made.addDisk(made.admit(), 10);
  return made;
}

function begin(made: StationFixture, change: { head?: number; run?: string } = {}): number {
  const run = made.view().alive.get(1)?.run ?? "";
  const wish = { sizeBytes: 16 * MIB, protection: "mirror-3" as const, run, head: null, ...change };
  const { volume } = made.ask("beginDrill", wish, made.units.get(1));
  made.time.pass(1000);
  return volume;
}
const told = (made: StationFixture) => [...made.view().events.values()].map((one) => one.sentence);

describe("a drill", () => {
  test("begun → a canary that nobody may attach to, headed by the unit that was chosen", () => {
    for (const head of [1, 2, 3]) {
      const made = rack();
      // Others are less laden: only the choice puts it there.
      made.createVolume("v", 1, "mirror-2");
      const volume = made.view().volumes.get(begin(made, { head }));
      expect(volume).toMatchObject({ name: CANARY_NAME, state: "ready", hosts: [] });
      expect(volume?.canary).toMatchObject({ unit: 1, head });
      expect(made.view().headUnit(volume?.slices[0] ?? 0)?.number).toBe(head);
    }
  });

  test("its takeover is told with its outcome, and as no failover besides", () => {
    const made = rack();
    const volume = begin(made);
    made.createVolume("v", 1, "mirror-2");
    const takeover = { from: 2, slices: 1, pauseMs: 2440 };
    made.ask("tellTakeover", { volume, ...takeover });
    const failovers = () => [...made.view().events.values()].filter((e) => e.kind === "failover");
    expect(failovers()).toEqual([]);
    made.ask("tellTakeover", { volume: made.view().volumeByName("v")?.number ?? 0, ...takeover });
    expect(failovers()).toHaveLength(1);
    made.ask("endDrill", { volume, outcome: OUTCOME }, made.units.get(1));
    made.time.pass(200);
    expect(told(made).join()).toContain("box2 fell silent to a canary volume, box3 took it over");
  });

  test("one at a time; of one copy none", () => {
    const made = rack();
    begin(made);
    expect(() => begin(made)).toThrow("a drill is under way");
    const run = made.view().alive.get(1)?.run ?? "";
    const wish = { sizeBytes: 16 * MIB, protection: "none" as const, run, head: null };
    expect(() => made.ask("beginDrill", wish)).toThrow();
  });

  test("its head is to fall silent → the record says which disk; each time anew", () => {
    const made = rack();
    const volume = begin(made, { head: 2 });
    expect(made.ask("failDrill", { volume }, made.units.get(1))).toEqual({ unit: 2 });
    const slice = made.view().volumes.get(volume)?.slices[0] ?? 0;
    const disk = made.view().slices.get(slice)?.head ?? 0;
    const silenced = () => made.view().volumes.get(volume)?.canary?.silenced;
    expect(silenced()).toMatchObject({ asked: 1, slice, disk });
    made.ask("failDrill", { volume }, made.units.get(1));
    expect(silenced()?.asked).toBe(2);
  });

  test("no other volume's head is ever silenced, and nobody else's drill", () => {
    const made = rack();
    const volume = made.createVolume("v", 1, "mirror-2");
    expect(() => made.ask("failDrill", { volume }, made.units.get(1))).toThrow("no drill");
    const canary = begin(made);
    expect(() => made.ask("failDrill", { volume: canary }, made.units.get(2))).toThrow("another");
    expect(() => made.ask("endDrill", { volume, outcome: OUTCOME }, made.units.get(1))).toThrow(
      "no drill",
    );
    expect(made.view().volumes.get(volume)?.state).toBe("ready");
  });

  test("ended → told, deleted, and its name is free", () => {
    const made = rack();
    const volume = begin(made);
    made.ask("endDrill", { volume, outcome: OUTCOME }, made.units.get(1));
    made.time.pass(1000);
    expect(made.view().volumes.has(volume)).toBe(false);
    const said = told(made).find((sentence) => sentence.startsWith("drill: "));
    expect(said).toBe(`drill: ${outcomeSentence(made.view(), OUTCOME)}`);
    expect(said).toContain("a host waited 2.6 s");
    // What its two words were meanwhile is no news.
    expect(told(made).filter((sentence) => sentence.includes(`${CANARY_NAME} serves`))).toEqual([]);
    begin(made);
  });

  test("its unit dies, or begins anew → the control station deletes the canary", () => {
    const made = rack();
    const volume = begin(made);
    made.kill(1);
    made.time.pass(20_000);
    expect(made.view().volumes.has(volume)).toBe(false);
    expect(told(made).some((sentence) => sentence.startsWith("a drill was broken off"))).toBe(true);
    const second = begin2(made);
    made.time.pass(2000);
    expect(made.view().volumes.has(second)).toBe(false); // of a run that is not the unit's
  });
});

function begin2(made: StationFixture): number {
  const wish = { sizeBytes: 16 * MIB, protection: "mirror-2" as const, head: null };
  return made.ask("beginDrill", { ...wish, run: "0".repeat(32) }, made.units.get(2)).volume;
}

describe("in words", () => {
  const view = () => rack().view();

  test("what was wrong is not to be overlooked", () => {
    const said = outcomeSentence(view(), { ...OUTCOME, wrongBlocks: 2, errors: 1 });
    expect(said).toContain("2 BLOCKS READ WRONG");
    expect(said).toContain("1 of them failed");
  });

  test("no answer, no end, not protected → said as it is", () => {
    const none = { ...OUTCOME, gapMs: null, protectedMs: null };
    expect(outcomeSentence(view(), none)).toContain("no answer came any more");
    expect(outcomeSentence(view(), none)).toContain("not protected again yet");
    const failure = "the canary volume was not placed in time";
    expect(outcomeSentence(view(), { ...OUTCOME, failure })).toBe(`it came to no end: ${failure}`);
  });
});
