// SPDX-License-Identifier: Apache-2.0
//
// The control state is lost with all its backups, and rebuilt from what disks hold (R2, R3, R8;
// cluster/restored-slices.ts, rebuilt-state.ts): nothing is served before the owner's word that all
// disks have told, no acked write is lost, and a history that an owner went on with once is not
// passed over for an older one that is there first. The last tests make mistakes on purpose.

import { expect, setDefaultTimeout, test } from "bun:test";
import { keys } from "#cluster/state.ts";
import type { Moment } from "#test/sim/history.ts";
import { SimCluster } from "#test/sim/sim-cluster.ts";
import type { Leave, RestoreOptions } from "#test/sim/sim-restore.ts";
import { LostLineage } from "./lineage-fixture.ts";
import {
  Scenario,
  hasNothingActed,
  nameResyncing,
  planWith,
  scenario,
} from "./scenario-fixture.ts";

// Of the fixture it holds for the first file alone that imports it.
setDefaultTimeout(120_000);

const REBUILT: RestoreOptions = { gathers: true };

function lose(s: Scenario): void {
  s.cluster.controlStore.setAway(true);
}

scenario("rebuilt under load: nothing is served before the owner's word, then all is", {}, (s) => {
  lose(s);
  const restore = s.cluster.beginGeneration([], REBUILT);
  for (const unit of s.cluster.units) {
    restore.enter(unit, "stop");
    s.run(300);
  }
  s.run(4000);
  hasNothingActed(s, 6000);
  expect(restore.waiting).toEqual([1, 2]);
  restore.gathered();
  s.writesGoOn(30_000);
  s.whole();
});

scenario("rebuilt after a head was lost: its stale copy alone is not enough", {}, (s) => {
  s.unit(1).kill();
  const isAlone = () => [1, 2].every((slice) => s.inSync(slice).join() === "2");
  s.until("disk 2 is alone", isAlone, 12_000);
  s.writesGoOn(10_000);
  for (const unit of s.cluster.units) unit.powerCut();
  lose(s);
  const restore = s.cluster.beginGeneration([], REBUILT);
  for (const unit of [1, 3]) restore.enter(s.unit(unit), "kill");
  s.run(4000);
  // The owner believes that those are all; the highest record says otherwise.
  restore.gathered();
  hasNothingActed(s, 6000);
  expect(restore.waiting).toEqual([1, 2]);
  restore.enter(s.unit(2), "kill");
  s.writesGoOn(30_000);
  s.whole();
});

/** Disk 2 leaves, disk 1 goes on alone; the owner goes on with disk 2, and disk 1 is kept. */
function overridden(s: Scenario): LostLineage {
  const leftAt: Moment = s.cluster.history.moment();
  s.unit(2).kill();
  const isAlone = () => [1, 2].every((slice) => s.inSync(slice).join() === "1");
  s.until("disk 1 is alone", isAlone, 15_000);
  s.writesGoOn(10_000);
  s.run(2000);
  s.cluster.rest();
  s.run(8000);
  s.unit(1).kill();
  s.unit(2).boot();
  s.run(5000);
  const lost = LostLineage.override(s.cluster, leftAt);
  s.until("disk 2 heads both", () => s.head(1) === 2 && s.head(2) === 2);
  s.cluster.work();
  s.writesGoOn(10_000);
  nameResyncing(s, [3]);
  s.whole();
  s.unit(1).boot();
  s.until("it is kept", () => s.unit(1).process?.plane.keptReports().length === 2);
  return lost;
}

/** The copy of before the override is there first, and knows of nobody else. */
function keptFirst(s: Scenario, options: RestoreOptions): LostLineage {
  const lost = overridden(s);
  for (const unit of s.cluster.units) unit.kill();
  lose(s);
  const restore = s.cluster.beginGeneration([], options);
  restore.enter(s.unit(1), "kill");
  s.run(8000);
  for (const unit of [2, 3]) restore.enter(s.unit(unit), "kill");
  s.run(4000);
  restore.gathered();
  return lost;
}

scenario("rebuilt after an override: the kept copy, though there first, stays kept", {}, (s) => {
  const lost = keptFirst(s, REBUILT);
  s.writesGoOn(30_000);
  s.whole();
  for (const slice of [1, 2]) {
    expect(s.inSync(slice).toSorted()).toEqual([2, 3]);
    expect(s.cluster.record(slice).kept?.map(({ disk }) => disk)).toEqual([1]);
  }
  const { process } = s.unit(3);
  if (process !== null) lost.readAll(process);
  lost.judge();
  expect(lost.reads).toBeGreaterThan(0);
  lost.discard();
});

scenario("a history that nobody waited for comes late: its disk keeps it (R8)", {}, (s) => {
  s.unit(2).kill();
  const isAlone = () => [1, 2].every((slice) => s.inSync(slice).join() === "1");
  s.until("disk 1 is alone", isAlone, 15_000);
  s.cluster.rest();
  s.run(8000);
  s.unit(1).kill();
  s.unit(2).boot();
  s.run(3000);
  // The owner goes on with disk 2; no host is there meanwhile.
  const puts = [1, 2].map((slice) => {
    const record = s.cluster.record(slice);
    const { lineage, epoch } = record;
    const incarnation = s.unit(2).process?.stores.get(2)?.incarnation ?? 0;
    const inSync = [{ disk: 2, incarnation }];
    const kept = [{ disk: 1, lineage, epoch, before: 1, atMs: 0 }];
    const next = { ...record, lineage: 555, ancestry: [lineage], epoch: epoch + 1, head: 2 };
    return {
      key: keys.slice(slice),
      value: JSON.stringify({ ...next, inSync, resyncing: [], former: [], kept }),
    };
  });
  s.cluster.controlStore.commit({ ifs: [], puts });
  const lineageOf = (slice: number) =>
    s.unit(2).process?.stores.get(2)?.member(slice)?.record?.lineage ?? 0;
  s.until("disk 2 has stored it", () => [1, 2].every((slice) => lineageOf(slice) === 555));
  for (const unit of s.cluster.units) unit.kill();
  lose(s);
  const restore = s.cluster.beginGeneration([], REBUILT);
  for (const unit of [1, 3]) restore.enter(s.unit(unit), "kill");
  s.run(4000);
  restore.gathered();
  s.cluster.work();
  s.writesGoOn(20_000);
  nameResyncing(s, [3]);
  s.whole();
  restore.enter(s.unit(2), "kill");
  s.run(8000);
  expect([1, 2].map(lineageOf)).toEqual([555, 555]);
});

/** Anything may have happened before and during: seeded. */
function atRandom(s: Scenario, options: RestoreOptions): void {
  const prng = s.cluster.simulation.prng.fork();
  const { units } = s.cluster;
  for (let step = prng.between(1, 5); step > 0; step--) {
    const unit = prng.pick(units);
    if (unit.process === null) unit.boot();
    else if (prng.chance(0.4)) unit.powerCut();
    else if (prng.chance(0.5)) unit.kill();
    else nameResyncing(s, [prng.pick([1, 2, 3].filter((disk) => !s.inSync(1).includes(disk)))]);
    s.run(prng.between(100, 6000));
  }
  if (prng.chance(0.7)) lose(s);
  const restore = s.cluster.beginGeneration([], options);
  restore.answered();
  const left = [...units];
  while (left.length > 0) {
    const [unit] = left.splice(prng.below(left.length), 1);
    if (unit !== undefined) restore.enter(unit, prng.pick<Leave>(["stop", "kill", "power"]));
    s.run(prng.between(0, 5000));
  }
  s.until("all is settled", () => restore.isOver, 30_000);
  s.whole(60_000);
}

scenario("rebuilt at random", { seeds: 8 }, (s) => atRandom(s, REBUILT));

// The judge is judged.

const mistakes: { what: string; play: (s: Scenario) => void }[] = [
  {
    what: "slices are settled before the owner's word",
    play: (s) => void keptFirst(s, {}),
  },
  {
    what: "the first record that is told counts",
    play: (s) => {
      const settle: RestoreOptions["settle"] = ({ record, held }) => {
        return record === null || held.length === 0 ? null : { ...record, epoch: 1_000_000 };
      };
      atRandom(s, { settle });
    },
  },
];

for (const { what, play } of mistakes) {
  test(`mistake: ${what} → found`, () => {
    let found = 0;
    for (let seed = 1; seed <= 24 && found === 0; seed++) {
      const cluster = new SimCluster(planWith(seed, {}));
      cluster.start();
      cluster.work();
      cluster.run(1500);
      play(new Scenario(cluster));
      cluster.finish();
      found = cluster.sentences.filter((sentence) => sentence.includes("sector")).length;
    }
    expect(found).toBeGreaterThan(0);
  });
}
