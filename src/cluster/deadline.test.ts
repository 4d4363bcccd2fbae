// SPDX-License-Identifier: Apache-2.0
//
// "Protected again within so long" is judged beforehand, by what is held and how fast it was
// copied.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { judgeDeadline, roughly } from "./deadline.ts";
import type { UnitFigures } from "./deadline.ts";
import { keys, valueText } from "./state.ts";
import { StationFixture } from "./station-fixture.ts";

const GIB = 2 ** 30;
const MIB = 1 << 20;
const HOUR_MS = 3_600_000;

function rack(units = 3, gib = 100): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found({ reprotectAfterMs: 600_000 });
  made.addDisk(1, gib);
  for (let unit = 2; unit <= units; unit++) made.addDisk(made.admit(), gib);
  made.time.pass(500);
  return made;
}

/** What a unit says of itself, in the place of its lease's own words. */
function figures(made: StationFixture, unit: number, said: UnitFigures): void {
  const alive = made.view().alive.get(unit);
  const key = keys.aliveOf(unit);
  const value = valueText({ ...alive, ...said });
  const put = { key, value };
  made.wait(made.any().client.transaction({ ifs: [], puts: [put] }));
  made.time.pass(20);
}

function within(made: StationFixture, protectWithinMs: number): void {
  made.ask("setSettings", { protectWithinMs });
  made.time.pass(20);
}
const told = (made: StationFixture) =>
  [...made.view().events.values()].filter((one) => one.kind === "deadline");

describe("the deadline of protecting again", () => {
  test("none is set → nothing is said", () => {
    const made = rack();
    made.createVolume("v", 10, "mirror-2");
    expect(judgeDeadline(made.view())).toEqual({ withinMs: 0, problems: [], unknown: [] });
  });

  test("the wait alone is longer → said, whatever is held", () => {
    const made = rack();
    within(made, 300_000);
    expect(judgeDeadline(made.view()).problems[0]).toContain("only 10 min after a loss");
  });

  test("nothing was measured → not judged, and told as that", () => {
    const made = rack();
    made.createVolume("v", 10, "mirror-2");
    within(made, 2 * HOUR_MS);
    const { problems, unknown } = judgeDeadline(made.view());
    expect(problems).toEqual([]);
    expect(unknown.join()).toContain("was not measured yet");
    expect(told(made)).toEqual([]);
  });

  test("held bytes at the measured rate → kept, or missed with the reckoning", () => {
    const made = rack();
    made.createVolume("v", 40, "mirror-2");
    const head = made.view().headUnit([...made.view().slices.keys()][0] ?? 0)?.number ?? 0;
    for (const unit of [1, 2, 3]) {
      // Others head nothing, so all of theirs is copied by that one.
      figures(made, unit, {
        heldBytes: unit === head ? 0 : 40 * GIB,
        copyBytesPerSecond: 10 * MIB,
      });
    }
    // 40 GiB at 10 MiB/s: 68 min, and 10 min of waiting.
    within(made, 2 * HOUR_MS);
    expect(judgeDeadline(made.view())).toMatchObject({ problems: [], unknown: [] });
    within(made, HOUR_MS);
    const { problems } = judgeDeadline(made.view());
    expect(problems).toHaveLength(2); // the two that hold something
    expect(problems[0]).toContain("after about 79 min, not within 60 min");
    expect(problems[0]).toContain("40 GiB on its disks");
  });

  test("thin: what is held counts, not what was promised", () => {
    const made = rack();
    made.createVolume("v", 90, "mirror-2");
    for (const unit of [1, 2, 3]) {
      figures(made, unit, { heldBytes: GIB, copyBytesPerSecond: 10 * MIB });
    }
    within(made, HOUR_MS);
    expect(judgeDeadline(made.view()).problems).toEqual([]);
  });

  test("no further unit, or too little room → said before anything is lost", () => {
    const two = rack(2);
    two.createVolume("v", 1, "mirror-2");
    within(two, 2 * HOUR_MS);
    expect(judgeDeadline(two.view()).problems[0]).toContain("there would not be room");
    const tight = rack(3, 10);
    tight.createVolume("v", 9, "mirror-3");
    within(tight, 2 * HOUR_MS);
    expect(judgeDeadline(tight.view()).problems).toHaveLength(3);
  });

  test("told once when it cannot be kept any more, and once when it can again", () => {
    const made = rack(2);
    made.createVolume("v", 1, "mirror-2");
    for (const unit of [1, 2]) figures(made, unit, { heldBytes: 0, copyBytesPerSecond: 10 * MIB });
    within(made, 2 * HOUR_MS);
    made.time.pass(5000);
    expect(told(made).map(({ severity }) => severity)).toEqual(["warning"]);
    const third = made.admit();
    made.addDisk(third, 100);
    made.time.pass(500);
    for (const unit of [1, 2, 3]) {
      figures(made, unit, { heldBytes: MIB, copyBytesPerSecond: 10 * MIB });
    }
    made.time.pass(900);
    expect(told(made).map(({ severity }) => severity)).toEqual(["warning", "info"]);
  });
});

test("figures are rounded up, by an eighth at most", () => {
  expect([roughly(0), roughly(1), roughly(1000), roughly(GIB), roughly(GIB + 1)]).toEqual([
    0,
    1,
    1024,
    GIB,
    GIB + GIB / 8,
  ]);
  for (const value of [3, 77, 12_345, 9_999_999, 5 * GIB + 17]) {
    expect(roughly(value)).toBeGreaterThanOrEqual(value);
    expect(roughly(value)).toBeLessThanOrEqual(value * 1.13 + 1);
  }
});
