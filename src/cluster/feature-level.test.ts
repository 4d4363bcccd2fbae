// SPDX-License-Identifier: Apache-2.0
//
// Which units fit which cluster, and when a cluster raises its level: by a table, and by the
// control station over a control store in memory.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { levelRefusal } from "./feature-level.ts";
import { keys, valueText } from "./state.ts";
import { StationFixture, unitArguments } from "./station-fixture.ts";

test("a unit speaks its own level and the one below; others are told what to update", () => {
  const words = (unit: number, cluster: number) => {
    const refusal = levelRefusal(unit, cluster);
    if (refusal === null) return "fits";
    return refusal.includes("update the unit") ? "old" : "new";
  };
  const table = [1, 2, 3, 4].map((unit) => [1, 2, 3].map((cluster) => words(unit, cluster)));
  expect(table).toEqual([
    ["fits", "old", "old"],
    ["fits", "fits", "old"],
    ["new", "fits", "fits"],
    ["new", "new", "fits"],
  ]);
  expect(levelRefusal(1, 3)).toContain("it speaks feature level 1, the cluster level 3");
});

describe("the control station", () => {
  /** Units as they say of themselves at their start (appliance/update-agent.ts). */
  function says(made: StationFixture, unit: number, featureLevel: number, trial = false): void {
    const key = keys.unitUpdate(unit);
    const record = {
      ...{ unit, version: "0.2.0", featureLevel, trial },
      ...{ diskFormat: 1, appliance: false, architecture: "x64", bootId: "b".repeat(32) },
      ...{ holds: null, task: null, slots: [] },
    };
    const ifs = [made.view().compare(key)];
    made.wait(made.any().client.transaction({ ifs, puts: [{ key, value: valueText(record) }] }));
    made.time.pass(2000);
  }
  const level = (made: StationFixture) => made.view().cluster?.featureLevel;

  test("raises the level once all units speak it, none is on trial, and never before", () => {
    const made = new StationFixture(drainMicrotasks);
    made.found();
    made.admit();
    says(made, 1, 2);
    expect([made.view().unreadable.size, level(made)]).toEqual([0, 1]);
    says(made, 2, 2, true);
    expect(level(made)).toBe(1);
    says(made, 2, 2);
    expect(level(made)).toBe(2);
    const told = [...made.view().events.values()].filter(({ kind }) => kind === "feature-level");
    expect(told).toHaveLength(1);
  });

  test("the last old unit is removed → the level is raised; an old one is refused then", () => {
    const made = new StationFixture(drainMicrotasks);
    made.found();
    made.admit();
    says(made, 1, 2);
    says(made, 2, 1);
    expect(level(made)).toBe(1);
    made.ask("removeUnit", { unit: 2 });
    made.time.pass(3000);
    expect(level(made)).toBe(2);
    const admit = (featureLevel: number) =>
      made.ask("admitUnit", { ...unitArguments(7, "member"), featureLevel });
    expect(() => admit(1)).toThrow("too old for the cluster");
    expect(() => admit(4)).toThrow("too new for the cluster");
    expect(admit(3)).toEqual({ unit: 3 });
  });
});
