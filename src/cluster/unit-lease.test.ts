// SPDX-License-Identifier: Apache-2.0
//
// The unit's lease and the election when answers are lost at the worst moment.

import { drainMicrotasks } from "bun:jsc";
import { expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { StationFixture } from "./station-fixture.ts";
import { keys } from "./state.ts";

test("elected without knowing (the answer was lost) → it leads all the same", () => {
  for (let seed = 1; seed <= 30; seed++) {
    const made = new StationFixture(drainMicrotasks, { seed });
    made.found();
    made.admit();
    made.admit();
    const first = made.leaders()[0] ?? 0;
    made.core.faults.answerLost = 0.5;
    made.kill(first);
    made.time.pass(15_000);
    made.core.faults.answerLost = 0;
    // Nobody who holds the station's key may sit on it without leading.
    made.until("one leads", () => made.leaders().length === 1, 10_000);
    expect(made.view().station?.unit).toBe(made.leaders()[0] as number);
  }
});

test("never two that believe they lead, over cuts and outages by chance", () => {
  for (let seed = 1; seed <= 10; seed++) {
    const made = new StationFixture(drainMicrotasks, { seed });
    made.found();
    for (let unit = 2; unit <= 4; unit++) made.admit();
    const units = [...made.units.values()];
    let changes = 0;
    let last = 0;
    for (let step = 0; step < 300; step++) {
      const unit = made.prng.pick(units);
      if (made.prng.chance(0.05)) unit.client.setConnected(made.prng.chance(0.4));
      if (made.prng.chance(0.02)) made.core.setAway(made.prng.chance(0.5));
      made.time.pass(made.prng.between(1, 400));
      const leaders = made.leaders();
      expect(leaders.length).toBeLessThanOrEqual(1);
      if (leaders.length === 1 && leaders[0] !== last) {
        changes++;
        last = leaders[0] ?? 0;
      }
    }
    made.core.setAway(false);
    for (const unit of units) unit.client.setConnected(true);
    made.until("one leads in the end", () => made.leaders().length === 1, 20_000);
    made.until("all are alive", () => made.view().alive.size === 4, 20_000);
    expect(changes).toBeGreaterThan(0);
  }
});

test("the leader proven dead → another leads at once; else by its lease", () => {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  for (let unit = 2; unit <= 3; unit++) made.admit();
  const first = made.leaders()[0] ?? 0;
  made.kill(first);
  made.time.pass(500);
  expect(made.leaders()).toEqual([]);
  const deadMs = made.time.nowMs();
  made.prove(first);
  made.until("another leads", () => made.leaders().length === 1, 300);
  const second = made.leaders()[0] ?? 0;
  expect(made.units.get(second)?.lease.began.provenDeadMs).toBe(deadMs);
  made.kill(second);
  const start = made.time.nowMs();
  made.until("the third leads", () => made.leaders().length === 1, 10_000);
  expect(made.time.nowMs() - start).toBeGreaterThan(2000);
  const third = made.units.get(made.leaders()[0] ?? 0);
  expect(third?.lease.began.provenDeadMs).toBeNull();
});

test("handed over, and the store did not hear it → said again, until another leads", () => {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  for (let unit = 2; unit <= 3; unit++) made.admit();
  const first = made.leaders()[0] ?? 0;
  const { client } = made.units.get(first) ?? {};
  if (client === undefined) throw new Error("nobody leads");
  const transaction = client.transaction.bind(client);
  let lost = 0;
  client.transaction = (asked) => {
    if (lost === 2 || !asked.deletes?.includes(keys.station)) return transaction(asked);
    lost++;
    return Promise.reject(new Fault("controlStoreAway", "its leader changes"));
  };
  made.ask("maintainUnit", { unit: first, forMs: 3_600_000, force: true });
  made.until("another leads", () => (made.leaders()[0] ?? first) !== first, 30_000);
  expect(lost).toBe(2);
  expect(made.view().station?.unit).toBe(made.leaders()[0] as number);
});

test("stopped in order → its liveness goes at once", () => {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  made.admit();
  const second = made.units.get(2);
  if (second === undefined) throw new Error("it runs");
  made.wait(second.lease.stop());
  made.until("gone", () => !made.view().alive.has(2), 100);
});

test("what it tells of its slices → written when it changes, and only then", () => {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  made.admit();
  const second = made.units.get(2);
  if (second === undefined) throw new Error("it runs");
  const told = () => made.view().alive.get(2)?.slices;
  expect(told()).toBeUndefined();
  second.news = [{ slice: 7, epoch: 1, availability: "waiting", waitsFor: "disk 3 to answer" }];
  made.until("told", () => told()?.[0]?.slice === 7, 3000);
  const revision = made.view().revisionOf(keys.aliveOf(2));
  made.time.pass(20_000);
  expect(made.view().revisionOf(keys.aliveOf(2))).toBe(revision);
  second.news = [];
  made.until("over", () => made.view().alive.has(2) && told() === undefined, 3000);
});
