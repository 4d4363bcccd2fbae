// SPDX-License-Identifier: Apache-2.0
//
// Scenarios of contract.md, C: disks that move between units, members that come and go while others
// are away, volumes that grow meanwhile (R0, R3, R6, R7).

import { expect } from "bun:test";
import { nameResyncing, scenario } from "./scenario-fixture.ts";
import type { ScenarioPlan } from "./scenario-fixture.ts";

const MIB = 1 << 20;

for (const disk of [1, 2]) {
  const role = disk === 1 ? "head" : "member";
  scenario(`disk-moved-between-units, the ${role}'s unit off: serves there`, { seeds: 2 }, (s) => {
    s.unit(disk).powerCut();
    s.until(`disk ${disk} is out`, () => !s.inSync(1).includes(disk), 12_000);
    s.writesGoOn(10_000);
    s.cluster.moveDisk(disk, 3);
    s.whole();
    // Its old unit comes back without it, and forwards.
    s.unit(disk).boot();
    s.run(1000);
    s.writesGoOn();
    // The other copy goes: all that was acked is on the disk that moved.
    s.unit(3 - disk).powerCut();
    s.until(`disk ${disk} heads both`, () => s.head(1) === disk && s.head(2) === disk, 12_000);
    s.writesGoOn(10_000);
  });
}

scenario("disk-moved-between-units that run, and back again", { seeds: 2 }, (s) => {
  for (const to of [3, 1]) {
    s.cluster.unitOf(1).pullDisk(1, 40);
    s.until("disk 1 is out", () => !s.inSync(1).includes(1), 12_000);
    s.run(200);
    s.cluster.moveDisk(1, to);
    s.whole();
    s.writesGoOn();
  }
});

scenario(
  "both disks of a volume moved, all units off: it is the same volume",
  { seeds: 2 },
  (s) => {
    for (const unit of s.cluster.units) unit.powerCut();
    s.run(200);
    // Two disks change their boxes; the third box has none any more.
    s.cluster.moveDisk(1, 2);
    s.cluster.moveDisk(2, 3);
    for (const unit of s.cluster.units) unit.boot();
    s.writesGoOn(20_000);
    s.whole();
  },
);

const FOUR_UNITS: ScenarioPlan = {
  seeds: 2,
  units: 4,
  volumes: [
    {
      volume: 1,
      copies: 2,
      sliceBytes: 4 * MIB,
      slices: [
        [1, 2],
        [1, 2],
      ],
    },
  ],
};

scenario("join-while-degraded: another takes the place of one that is away", FOUR_UNITS, (s) => {
  s.unit(2).powerCut();
  s.until("disk 2 is out", () => s.inSync(1).join() === "1" && s.inSync(2).join() === "1");
  nameResyncing(s, [3]);
  s.whole();
  expect([s.inSync(1), s.inSync(2)]).toEqual([
    [1, 3],
    [1, 3],
  ]);
  s.writesGoOn();
  // It comes back, and is a member no more; nothing that it has is taken for current.
  s.unit(2).boot();
  s.run(3000);
  s.unit(1).kill();
  s.until("disk 3 heads both", () => s.head(1) === 3 && s.head(2) === 3, 12_000);
  s.writesGoOn();
  expect(s.inSync(1)).not.toContain(2);
});

scenario("remove-unit-while-resyncing: its target goes, another is taken", FOUR_UNITS, (s) => {
  s.unit(2).powerCut();
  s.until("disk 2 is out", () => s.inSync(1).join() === "1" && s.inSync(2).join() === "1");
  s.cluster.disk(3).slowFactor = 40;
  nameResyncing(s, [3]);
  s.run(400);
  expect(s.inSync(1)).not.toContain(3);
  s.unit(3).kill();
  nameResyncing(s, []);
  s.writesGoOn();
  nameResyncing(s, [4]);
  s.whole();
  expect([...s.inSync(1), ...s.inSync(2)]).toEqual([1, 4, 1, 4]);
  s.writesGoOn();
});

scenario(
  "grow-while-degraded: the new slice serves, the old ones are whole again",
  FOUR_UNITS,
  (s) => {
    s.unit(2).powerCut();
    s.until("disk 2 is out", () => s.inSync(1).join() === "1" && s.inSync(2).join() === "1");
    const third = s.cluster.grow(1, [3, 4]);
    const before = s.cluster.hostVolumes[0]?.sectors ?? 0;
    expect(before).toBe((3 * 4 * MIB) / 512);
    s.writesGoOn();
    s.run(2000);
    s.unit(2).boot();
    s.whole();
    s.unit(3).kill();
    s.until("the new slice is taken over", () => s.head(third) === 4, 12_000);
    s.writesGoOn();
  },
);
