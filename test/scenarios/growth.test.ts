// SPDX-License-Identifier: Apache-2.0
//
// Scenarios of contract.md, C: grow-while-degraded, and volumes that grow while their head dies,
// the power goes, a copy is made, or the head does not hear of it (H11). One slice of 4 MiB, on
// disks 1 (head) and 2, that may come to have 16.

import { expect } from "bun:test";
import { scenario } from "./scenario-fixture.ts";
import type { Scenario, ScenarioPlan } from "./scenario-fixture.ts";

const MIB = 1 << 20;
const SECTORS_PER_MIB = MIB / 512;

const PLAN: ScenarioPlan = {
  volumes: [{ volume: 1, copies: 2, sliceBytes: 16 * MIB, lastBytes: 4 * MIB, slices: [[1, 2]] }],
};

function grow(s: Scenario, mib: number): void {
  s.cluster.growth.grow(1, { lastBytes: mib * MIB });
  expect(s.cluster.hostVolumes[0]?.sectors).toBe(mib * SECTORS_PER_MIB);
  expect(s.cluster.record(1).sizeBytes).toBe(mib * MIB);
}

/** Every member is as large as its record. */
function isGrown(s: Scenario, mib: number): void {
  const sizes = () =>
    s.cluster.record(1).inSync.map(({ disk }) => {
      return s.cluster.unitOf(disk).process?.stores.get(disk)?.member(1)?.sizeBytes;
    });
  s.until("all are as large", () => sizes().every((bytes) => bytes === mib * MIB));
}

scenario("grows while hosts work: step by step, then by a slice", PLAN, (s) => {
  for (const mib of [8, 12, 16]) {
    grow(s, mib);
    s.writesGoOn(3000);
    isGrown(s, mib);
  }
  const added = s.cluster.growth.grow(1, { disks: [3, 1] });
  s.writesGoOn();
  expect(s.head(added ?? 0)).toBe(3);
});

scenario("grow-while-degraded: the copy that comes back is as large", PLAN, (s) => {
  s.unit(2).powerCut();
  s.until("disk 2 is out", () => s.inSync(1).join() === "1", 12_000);
  grow(s, 12);
  s.writesGoOn();
  s.unit(2).boot();
  s.whole();
  isGrown(s, 12);
  s.unit(1).powerCut();
  s.until("disk 2 heads it", () => s.head(1) === 2, 12_000);
  s.writesGoOn();
});

for (const how of ["kill", "powerCut"] as const) {
  for (const waitMs of [0, 2, 5, 15, 60]) {
    scenario(`the head is lost (${how}) ${waitMs} ms after it grew`, { ...PLAN, seeds: 2 }, (s) => {
      grow(s, 12);
      s.run(waitMs);
      s.unit(1)[how]();
      s.until("disk 2 heads it", () => s.head(1) === 2, 12_000);
      s.writesGoOn();
      s.unit(1).boot();
      s.whole();
      isGrown(s, 12);
    });
  }
}

for (const waitMs of [0, 3, 40]) {
  scenario(`all power is cut ${waitMs} ms after it grew`, { ...PLAN, seeds: 3 }, (s) => {
    grow(s, 16);
    s.run(waitMs);
    for (const unit of s.cluster.units) unit.powerCut();
    s.run(500);
    for (const unit of s.cluster.units) unit.boot();
    s.writesGoOn(20_000);
    s.whole();
    isGrown(s, 16);
  });
}

scenario(
  "the head does not hear of it for a while → what is new waits, all else goes on",
  PLAN,
  (s) => {
    s.unit(1).setStoreReachable(false);
    s.cluster.growth.grow(1, { lastBytes: 12 * MIB });
    s.writesGoOn();
    s.unit(1).setStoreReachable(true);
    isGrown(s, 12);
    s.writesGoOn();
  },
);

scenario("grows while a copy is made, again and again", { ...PLAN, seeds: 6 }, (s) => {
  for (const [round, mib] of [8, 12, 16].entries()) {
    s.unit(2).kill();
    s.until("disk 2 is out", () => s.inSync(1).join() === "1", 12_000);
    s.writesGoOn();
    s.unit(2).boot();
    s.until("it is being brought up", () => s.cluster.record(1).resyncing.length > 0, 20_000);
    s.run(4 * round);
    s.cluster.growth.grow(1, { lastBytes: mib * MIB });
    s.whole();
    isGrown(s, mib);
  }
});

scenario("the control state is lost right after: rebuilt from disks, as large", PLAN, (s) => {
  grow(s, 12);
  s.run(30);
  const restore = s.cluster.beginGeneration([], { gathers: true });
  restore.answered();
  for (const unit of s.cluster.units) restore.enter(unit, "kill");
  s.until("it is settled", () => restore.isOver, 30_000);
  s.writesGoOn(20_000);
  s.whole();
  isGrown(s, 12);
});

scenario(
  "rebuilt when a copy of what was added never came to be: given up, made anew",
  PLAN,
  (s) => {
    const added = s.cluster.growth.grow(1, { disks: [1, 3] }) ?? 0;
    s.unit(3).powerCut(); // before it hears
    s.run(30);
    const restore = s.cluster.beginGeneration([], { gathers: true });
    restore.answered();
    for (const unit of s.cluster.units) restore.enter(unit, "kill");
    s.until("it is settled", () => restore.isOver, 30_000);
    // Nobody can know that disk 3, which is named, never held any of it.
    expect(s.cluster.record(added).kept?.map(({ disk }) => disk)).toEqual([3]);
    s.cluster.growth.protect();
    s.whole();
    expect(s.inSync(added)).toEqual([1, 3]);
  },
);
