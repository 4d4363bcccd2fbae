// SPDX-License-Identifier: Apache-2.0
//
// Scenarios of contract.md, C, about a unit that is taken out for work: its heads are handed on in
// order while hosts work (R3, R4), whatever else breaks then, and its place is kept (R7).

import { expect } from "bun:test";
import { MIRROR_3, scenario } from "./scenario-fixture.ts";
import type { Scenario } from "./scenario-fixture.ts";

/** Until no slice is headed by this disk. */
function handedOn(s: Scenario, disk: number, limitMs = 1000): void {
  const isHead = () => s.cluster.losses.records().some((record) => record.head === disk);
  s.until(`disk ${disk} heads nothing`, () => !isHead(), limitMs);
}

scenario("maintenance: heads handed on, a reboot, and back by a short resync", {}, (s) => {
  s.cluster.maintain(1);
  handedOn(s, 1);
  // It stays a member, up to date, until it is switched off.
  s.whole();
  s.writesGoOn();
  s.unit(1).process?.stop(() => s.unit(1).kill());
  s.until("it is out", () => !s.inSync(1).includes(1) && !s.inSync(2).includes(1));
  expect([s.cluster.record(1).resyncing, s.cluster.record(2).resyncing]).toEqual([[1], [1]]);
  s.writesGoOn();
  s.run(20_000);
  expect([s.cluster.record(1).resyncing, s.cluster.record(2).resyncing]).toEqual([[1], [1]]);
  s.unit(1).boot();
  s.whole();
  s.run(3000);
  // It heads nothing while it is in maintenance, also now that it is back.
  expect([s.head(1), s.head(2)]).toEqual([2, 2]);
  s.cluster.maintain();
  s.unit(2).kill();
  s.until("it takes over as any other", () => s.head(1) === 1 && s.head(2) === 1, 12_000);
  s.writesGoOn(10_000);
});

scenario("maintenance: power cut in the middle of handing on", { seeds: 6 }, (s) => {
  for (const delayMs of [0, 20, 60, 110, 200]) {
    s.cluster.maintain(2);
    s.run(delayMs);
    s.unit(2).powerCut();
    s.writesGoOn(12_000);
    s.unit(2).boot();
    s.cluster.maintain();
    s.whole();
    // Its slice back to it, for the next time.
    s.cluster.maintain(1);
    s.until("disk 2 heads both", () => s.head(1) === 2 && s.head(2) === 2, 12_000);
    s.whole();
  }
});

scenario("maintenance: the one that is to take over dies as it is released", MIRROR_3, (s) => {
  s.cluster.onNextCommit = () => s.unit(2).kill();
  s.cluster.maintain(1);
  s.until("disk 3 heads slice 1", () => s.head(1) === 3, 15_000);
  s.writesGoOn(10_000);
  s.unit(2).boot();
  s.whole();
});

scenario("maintenance: nobody reaches the control store as it hands on", {}, (s) => {
  for (const { number } of s.cluster.units) s.unit(number).setStoreReachable(false);
  s.cluster.maintain(1);
  s.run(6000);
  // Only here again: it serves once more, in a later epoch.
  s.unit(1).setStoreReachable(true);
  s.writesGoOn(10_000);
  for (const { number } of s.cluster.units) s.unit(number).setStoreReachable(true);
  handedOn(s, 1, 20_000);
  s.whole();
});

scenario("maintenance: the link to the others flaps as it hands on", { seeds: 6 }, (s) => {
  for (let round = 0; round < 4; round++) {
    s.cluster.maintain(1);
    s.run(30 * round);
    s.isolate(1, round % 2 === 0 ? "out" : "in", false);
    s.run(400);
    s.join(1);
    s.writesGoOn(12_000);
    s.whole();
    s.cluster.maintain(2);
    s.until("disk 1 heads both", () => s.head(1) === 1 && s.head(2) === 1, 20_000);
    s.whole();
  }
});

scenario("maintenance: all units, one after the other, and all power lost between", {}, (s) => {
  for (const unit of [1, 2, 1]) {
    s.cluster.maintain(unit);
    handedOn(s, unit, 12_000);
    if (unit === 2) for (const one of s.cluster.units) one.powerCut();
    for (const one of s.cluster.units) one.boot();
    s.writesGoOn(20_000);
    s.whole();
  }
});
