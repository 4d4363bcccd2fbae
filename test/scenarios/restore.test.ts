// SPDX-License-Identifier: Apache-2.0
//
// The control state is lost and restored from a backup that is older than what the disks know (R2,
// R3; cluster/restored-slices.ts): epochs, heads and members have moved on since, volumes have
// grown or gone. No acked write is lost, and nobody serves who should not. The last tests make
// mistakes on purpose: each must be found.

import { expect, test } from "bun:test";
import { keys } from "#cluster/state.ts";
import { missingDisks } from "#cluster/restored-slices.ts";
import { SimCluster } from "#test/sim/sim-cluster.ts";
import type { Leave, Settle } from "#test/sim/sim-restore.ts";
import {
  Scenario,
  hasNothingActed,
  nameResyncing,
  planWith,
  scenario,
} from "./scenario-fixture.ts";
import type { ScenarioPlan } from "./scenario-fixture.ts";

const MIB = 1 << 20;
/** Volume 1: both slices on disks 1 (head) and 2; disks 3 and 4 hold nothing. */
const FOUR_UNITS: ScenarioPlan = {
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

/** Disk 1 left the set after the backup; disk 2 went on alone. */
function staleHead(s: Scenario, settle?: Settle): void {
  const backup = s.cluster.backup();
  s.unit(1).kill();
  s.until(
    "disk 2 is alone",
    () => s.inSync(1).join() === "2" && s.inSync(2).join() === "2",
    12_000,
  );
  s.writesGoOn(10_000);
  for (const unit of s.cluster.units) unit.powerCut();
  s.cluster.controlStore.setAway(true);
  const restore = s.cluster.beginGeneration(backup, { settle });
  for (const unit of s.cluster.units) if (unit.number !== 2) restore.enter(unit, "kill");
  if (settle === undefined) hasNothingActed(s, 8000);
  else s.run(8000);
  expect(restore.waiting.length).toBe(settle === undefined ? 2 : restore.waiting.length);
  restore.enter(s.unit(2), "kill");
  s.writesGoOn(30_000);
  s.whole();
}

scenario("restored from before the head was lost: the stale copy waits for the other", {}, (s) =>
  staleHead(s),
);

scenario(
  "all harm is undone while a unit stops to enter: it begins anew once (seed 400000788)",
  {},
  (s) => {
    const backup = s.cluster.backup();
    s.cluster.controlStore.setAway(true);
    const restore = s.cluster.beginGeneration(backup);
    const unit = s.unit(3);
    const { boots } = unit;
    restore.enter(unit, "stop");
    s.cluster.heal();
    s.run(2000);
    expect(unit.boots).toBe(boots + 1);
    s.writesGoOn(30_000);
    s.whole();
  },
);

scenario(
  "restored from before both copies moved: the disks of before serve nothing",
  {
    ...FOUR_UNITS,
    seeds: 2,
  },
  (s) => {
    // The old members hold their stale records: what names them both waits, though both answer.
    const backup = s.cluster.backup();
    s.unit(2).powerCut();
    s.until("disk 2 is out", () => !s.inSync(1).includes(2) && !s.inSync(2).includes(2));
    nameResyncing(s, [3]);
    s.whole();
    s.unit(1).powerCut();
    s.until("disk 3 is alone", () => s.inSync(1).join() === "3" && s.inSync(2).join() === "3");
    s.writesGoOn();
    for (const unit of s.cluster.units) unit.powerCut();
    s.cluster.controlStore.setAway(true);
    const restore = s.cluster.beginGeneration(backup);
    for (const unit of [1, 2, 4]) restore.enter(s.unit(unit), "kill");
    hasNothingActed(s, 8000);
    // What disk 1 has stored names disk 3, which the backup does not.
    restore.enter(s.unit(3), "kill");
    s.writesGoOn(30_000);
    s.whole();
  },
);

scenario(
  "restored while an old head still serves, alone and of the old generation: it is waited for",
  {},
  (s) => {
    const backup = s.cluster.backup();
    // Cut off with a control store that still answers it: nobody's majority is gone yet.
    s.unit(2).powerCut();
    s.until(
      "disk 1 is alone",
      () => s.inSync(1).join() === "1" && s.inSync(2).join() === "1",
      12_000,
    );
    const restore = s.cluster.beginGeneration(backup);
    for (const unit of [2, 3]) restore.enter(s.unit(unit), "kill");
    s.writesGoOn(10_000);
    expect(restore.waiting).toEqual([1, 2]);
    restore.enter(s.unit(1), "stop");
    s.writesGoOn(30_000);
    s.whole();
  },
);

scenario("restored under load, every unit stopped in order when it hears of it", {}, (s) => {
  const backup = s.cluster.backup();
  s.cluster.controlStore.setAway(true);
  const restore = s.cluster.beginGeneration(backup);
  for (const unit of s.cluster.units) {
    restore.enter(unit, "stop");
    s.run(300);
  }
  s.writesGoOn(30_000);
  s.whole();
});

scenario("restored from before a volume grew, and from before that was restored", {}, (s) => {
  const backup = s.cluster.backup();
  s.cluster.grow(1, [2, 3]);
  s.run(3000);
  for (const how of ["kill", "stop"] as const) {
    s.cluster.controlStore.setAway(true);
    // The older backup both times: what the generation between settled is on the disks.
    const restore = s.cluster.beginGeneration(backup);
    for (const unit of s.cluster.units) restore.enter(unit, how);
    s.until("all is settled", () => s.cluster.controlStore.read(keys.slices).entries.length === 3);
    s.writesGoOn(30_000);
    s.whole();
  }
});

/** Anything may have happened before, since and during: seeded. */
function atRandom(s: Scenario, settle?: Settle): void {
  const prng = s.cluster.simulation.prng.fork();
  const { units } = s.cluster;
  const harm = () => {
    const unit = prng.pick(units);
    if (unit.process === null) return unit.boot();
    if (prng.chance(0.3)) unit.powerCut();
    else if (prng.chance(0.5)) unit.kill();
    else {
      const members = s.inSync(1);
      const free = [1, 2, 3, 4].filter((disk) => !members.includes(disk));
      nameResyncing(s, [prng.pick(free)]);
    }
  };
  for (let step = prng.below(3); step > 0; step--) {
    harm();
    s.run(prng.between(100, 4000));
  }
  const backup = s.cluster.backup();
  for (let step = prng.between(1, 4); step > 0; step--) {
    harm();
    s.run(prng.between(100, 6000));
  }
  if (prng.chance(0.7)) s.cluster.controlStore.setAway(true);
  const restore = s.cluster.beginGeneration(backup, { settle });
  const left = [...units];
  while (left.length > 0) {
    const [unit] = left.splice(prng.below(left.length), 1);
    if (unit !== undefined) restore.enter(unit, prng.pick<Leave>(["stop", "kill", "power"]));
    s.run(prng.between(0, 5000));
  }
  const isIn = () => units.every(({ process }) => process?.ready && process.generation > 1);
  s.until("all are in the new generation", isIn, 20_000);
  // A disk that was named and never brought up holds nothing, which is no answer: the owner says
  // that all disks there are have told.
  s.run(1000);
  restore.accept();
  expect(restore.waiting).toEqual([]);
  s.whole(60_000);
  // As the control station does with targets that nobody needs.
  if ([1, 2].some((slice) => s.cluster.record(slice).resyncing.length > 0)) nameResyncing(s, []);
}

scenario("restored at random", { ...FOUR_UNITS, seeds: 8 }, (s) => atRandom(s));

// The judge is judged.

const mistakes: { what: string; settle: Settle; play: (s: Scenario, settle: Settle) => void }[] = [
  {
    what: "a slice goes on by the backup's record as soon as one of its disks is there",
    settle: (claim) => {
      const { record, held } = claim;
      if (record === null || held.length === 0) return null;
      return { ...record, epoch: record.epoch + 1000 };
    },
    play: staleHead,
  },
  {
    what: "a disk that holds nothing of it any more counts as one that answered",
    settle: (claim) => {
      const { record, held } = claim;
      // Of the two that the backup names one has told, and the other has been let go since.
      if (record === null || held.length === 0 || missingDisks(claim).length > 1) return null;
      return { ...record, epoch: record.epoch + 1000 };
    },
    play: atRandom,
  },
];

for (const { what, settle, play } of mistakes) {
  test(`mistake: ${what} → found`, () => {
    let found = 0;
    for (let seed = 1; seed <= 24 && found === 0; seed++) {
      const plan = play === atRandom ? FOUR_UNITS : {};
      const cluster = new SimCluster(planWith(seed, plan));
      cluster.start();
      cluster.work();
      cluster.run(1500);
      play(new Scenario(cluster), settle);
      cluster.finish();
      found = cluster.sentences.filter((sentence) => sentence.includes("sector")).length;
    }
    expect(found).toBeGreaterThan(0);
  });
}
