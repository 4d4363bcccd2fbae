// SPDX-License-Identifier: Apache-2.0
//
// Who is let in by an owner's word: by the words exactly, or within a window that has an end and a
// number; each is told before it gets anything.

import { drainMicrotasks } from "bun:jsc";
import { beforeEach, describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import type { Stranger } from "#cluster/discovery-units.ts";
import { StationFixture } from "#cluster/station-fixture.ts";
import { UnitArrivals } from "./arrivals.ts";

let made: StationFixture;
let strangers: Stranger[];
let given: string[];
/** The names of those that do not take the secret. */
let deaf: Set<string>;
let arrivals: UnitArrivals;

beforeEach(() => {
  made = new StationFixture(drainMicrotasks);
  made.found();
  strangers = [];
  given = [];
  deaf = new Set();
  const unit = {
    stopping: false,
    discovery: {
      get strangers() {
        return strangers;
      },
    },
    giveSecret: async ({ name, unitId }: Stranger) => {
      if (deaf.has(name)) throw new Fault("notReady", "it does not answer");
      given.push(name);
      strangers = strangers.filter((one) => one.unitId !== unitId);
    },
    renew: () => {},
  };
  const world = { clock: made.time, log: { write: () => {} } };
  arrivals = new UnitArrivals(world, made.time, { unit, life: () => made.any() });
});

function comes(number: number): void {
  strangers.push({
    unitId: String(number).padStart(32, "0"),
    publicKey: new Uint8Array(32),
    name: `new${number}`,
    softwareVersion: "0.1.0",
    where: { address: "10.0.0.9", port: 1 },
    channelPort: 2,
    heardAtMs: made.time.nowMs(),
    words: `babab dadad fafaf gagag haha${number}`,
  });
}
const told = (kind: string) => [...made.view().events.values()].filter((one) => one.kind === kind);

describe("by words", () => {
  test("just the one with these words is given the secret, told first; the cluster is used", () => {
    comes(1);
    comes(2);
    expect(made.view().cluster?.state).toBe("virgin");
    const { name } = made.wait(arrivals.admit(" Babab-dadad fafaf  GAGAG haha2 "));
    expect([name, given]).toEqual(["new2", ["new2"]]);
    expect(told("unit-let-in").map(({ sentence }) => sentence)).toEqual([
      "new2 (babab dadad fafaf gagag haha2) is let in by its words: it is given the join secret",
    ]);
    expect(made.view().cluster?.state).toBe("used");
    expect(arrivals.list().waiting.map((one) => one.name)).toEqual(["new1"]);
  });

  test("words of nobody, or fewer of them → notFound, nothing told", () => {
    comes(1);
    for (const words of ["babab dadad fafaf gagag", "", "babab dadad fafaf gagag haha9"]) {
      expect(() => made.wait(arrivals.admit(words))).toThrow("no unit with these words");
    }
    expect([given, told("unit-let-in").length]).toEqual([[], 0]);
  });
});

describe("a window", () => {
  test("lets in what waits and what comes, each told, until its number is used up", () => {
    comes(1);
    made.wait(arrivals.openWindow({ seconds: 600, units: 3 }));
    comes(2);
    made.until("both are in", () => given.length === 2);
    expect(arrivals.list().window?.unitsLeft).toBe(1);
    comes(3);
    comes(4);
    made.until("it is closed", () => arrivals.list().window === null);
    made.time.pass(60_000);
    expect(given).toEqual(["new1", "new2", "new3"]);
    expect(told("unit-let-in")).toHaveLength(3);
    expect(told("window-opened")).toHaveLength(1);
    expect(told("window-closed").map(({ sentence }) => sentence)).toEqual([
      "box1 lets in nobody without a join secret any more: 3 units were let in",
    ]);
  });

  test("ends by its time, and at once when it is closed; larger ones are refused", () => {
    made.wait(arrivals.openWindow({ seconds: 10, units: 8 }));
    made.time.pass(12_000);
    expect(arrivals.list().window).toBeNull();
    comes(1);
    made.time.pass(30_000);
    expect(given).toEqual([]);
    strangers = [];
    made.wait(arrivals.openWindow({ seconds: 600, units: 8 }));
    made.wait(arrivals.closeWindow());
    comes(2);
    made.time.pass(30_000);
    expect([given, told("window-closed").length]).toEqual([[], 2]);
    for (const wrong of [
      { seconds: 601, units: 1 },
      { seconds: 1, units: 65 },
    ]) {
      expect(() => made.wait(arrivals.openWindow(wrong))).toThrow("at most");
    }
  });

  test("one that does not take it is tried again, not all the time, and holds up nobody", () => {
    deaf.add("new1");
    comes(1);
    comes(2);
    made.wait(arrivals.openWindow({ seconds: 600, units: 8 }));
    made.until("the other is in", () => given.length === 1, 10_000);
    made.time.pass(60_000);
    expect(told("unit-let-in").length).toBeLessThan(8);
    deaf.clear();
    made.until("it is in too", () => given.length === 2, 30_000);
    expect(arrivals.list().window?.unitsLeft).toBe(6);
  });
});
