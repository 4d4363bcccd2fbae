// SPDX-License-Identifier: Apache-2.0
//
// Records of updates in the control state: their shapes, who may write which, and the window in
// which an update may start by itself.

import { describe, expect, test } from "bun:test";
import { drainMicrotasks } from "bun:jsc";
import { transactionRefusal } from "./proxy-rules.ts";
import { keys, parseEntry, valueText } from "./state.ts";
import { StationFixture } from "./station-fixture.ts";
import { UnitUpdateSchema, UpdateSchema, isInWindow } from "./update-state.ts";

const update = {
  version: "0.2.0",
  digest: "d".repeat(64),
  manifest: "{}",
  signature: "s",
  state: "loaded",
  attempt: 1,
  accept: false,
  downgrade: false,
  only: null,
  current: null,
  done: [],
  sentence: "",
};
const report = {
  unit: 2,
  appliance: true,
  version: "0.1.0",
  bootId: "b".repeat(32),
  trial: false,
  featureLevel: 1,
  diskFormat: 1,
  architecture: "x86-64",
  holds: null,
  task: null,
  slots: [],
};

describe("shapes", () => {
  test("records come back as they were written, with what a newer version added", () => {
    const newer = { ...update, added: 1 };
    expect(parseEntry(keys.update, valueText(newer))).toEqual({
      kind: "update",
      value: newer as never,
    });
    expect(parseEntry(keys.unitUpdate(2), valueText(report))).toEqual({
      kind: "unitUpdate",
      number: 2,
      value: report as never,
    });
  });

  test("what does not hold is refused, field by field", () => {
    const wrong: [object, object][] = [
      [update, { version: "0.2" }],
      [update, { digest: "d" }],
      [update, { state: "half" }],
      [update, { attempt: -1 }],
      [update, { manifest: "x".repeat(20_000) }],
      [update, { only: [0] }],
      [update, { current: { unit: 1, phase: "wait", fromBoot: "b".repeat(32) } }],
      [update, { current: { unit: 1, phase: "install", fromBoot: "b" } }],
      [update, { sentence: "x".repeat(2000) }],
    ];
    for (const [good, change] of wrong) {
      expect(UpdateSchema.safeParse({ ...good, ...change }).success).toBe(false);
    }
    for (const change of [
      { bootId: "x" },
      { holds: "x" },
      { featureLevel: 0 },
      { task: { digest: "d".repeat(64), attempt: 1, state: "asleep", sentence: "" } },
      { slots: Array.from({ length: 9 }, () => ({ version: "0.1.0", state: "good" })) },
    ]) {
      expect(UnitUpdateSchema.safeParse({ ...report, ...change }).success).toBe(false);
    }
  });
});

describe("who may write", () => {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  made.admit();
  const refusal = (unit: number, key: string, value: object) =>
    transactionRefusal(made.view(), unit, {
      ifs: [{ key, modRevision: 0 }],
      puts: [{ key, value: valueText(value) }],
    });

  test("the update's record: the control station alone", () => {
    expect(made.view().station?.unit).toBe(1);
    expect(refusal(1, keys.update, update)).toBeNull();
    expect(refusal(2, keys.update, update)).toContain("only the control station");
  });

  test("a unit's report: that unit alone, also when another leads", () => {
    expect(refusal(2, keys.unitUpdate(2), report)).toBeNull();
    expect(refusal(1, keys.unitUpdate(2), report)).toContain("it is another unit's");
    expect(refusal(2, keys.unitUpdate(1), report)).toContain("it is another unit's");
    expect(refusal(2, keys.unitUpdate(1), { ...report, unit: 1 })).toContain("another unit's");
  });

  test("a removed unit's report goes with it", () => {
    const client = made.units.get(2)?.client;
    const put = { key: keys.unitUpdate(2), value: valueText(report) };
    if (client === undefined) throw new Error("unit 2 runs");
    made.wait(client.transaction({ ifs: [], puts: [put] }));
    made.time.pass(500);
    expect(made.view().unitUpdates.has(2)).toBe(true);
    made.ask("removeUnit", { unit: 2 });
    made.time.pass(500);
    expect(made.view().unitUpdates.has(2)).toBe(false);
  });
});

describe("the window", () => {
  const at = (time: string) => {
    const [hours = 0, minutes = 0] = time.split(":").map(Number);
    return (20_000 * 24 * 60 + hours * 60 + minutes) * 60_000;
  };

  test("none is always; from is in, to is out", () => {
    expect(isInWindow(null, at("12:00"))).toBe(true);
    const window = { from: "02:00", to: "04:30" };
    for (const [time, inside] of [
      ["01:59", false],
      ["02:00", true],
      ["04:29", true],
      ["04:30", false],
      ["23:00", false],
    ] as const) {
      expect([time, isInWindow(window, at(time))]).toEqual([time, inside]);
    }
  });

  test("over midnight; the same time twice is the whole day", () => {
    const window = { from: "23:00", to: "01:00" };
    for (const [time, inside] of [
      ["22:59", false],
      ["23:00", true],
      ["00:30", true],
      ["01:00", false],
    ] as const) {
      expect([time, isInWindow(window, at(time))]).toEqual([time, inside]);
    }
    expect(isInWindow({ from: "05:00", to: "05:00" }, at("17:00"))).toBe(true);
  });
});
