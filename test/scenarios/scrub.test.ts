// SPDX-License-Identifier: Apache-2.0
//
// Scenarios of contract.md, C, about wrong bytes (R9): corrupt-under-load, scrubs while units come
// and go, a disk that lies about its writes, what nobody can read, a disk that is retired. The
// judge reads every sector at the end, and a last scrub must find nothing.

import { expect } from "bun:test";
import { Prng } from "#base/prng.ts";
import type { DiskNumber } from "#base/record.ts";
import { statusName, Status } from "#base/status.ts";
import { HappeningKind } from "#raid/happening.ts";
import { keys } from "#cluster/state.ts";
import { MIRROR_3, scenario } from "./scenario-fixture.ts";
import type { Scenario, ScenarioPlan } from "./scenario-fixture.ts";

const MIB = 1 << 20;
const TICK_MS = 50;
/** Scrubs all the time, as fast as hosts let them. */
const SCRUBBED: ScenarioPlan = { scrub: { everyMs: 1000, bytesPerSecondMax: 100 * MIB } };

function disksOf(s: Scenario): DiskNumber[] {
  return s.cluster.units.map((unit) => unit.number);
}

function sumOf(s: Scenario, what: "found" | "healed" | "unhealed"): number {
  const stores = s.cluster.units.flatMap((unit) => [...(unit.process?.stores.values() ?? [])]);
  return stores.reduce((sum, store) => sum + store.scrub.report()[what], 0);
}

/** Every disk is read through from its beginning to its end. */
function scrubAll(s: Scenario): void {
  for (const round of [1, 2]) {
    const stores = s.cluster.units.flatMap((unit) => [...(unit.process?.stores.values() ?? [])]);
    const before = stores.map((store) => store.scrub.report().scrub.count);
    for (const store of stores) store.scrub.start({ urgent: true });
    const isThrough = () =>
      stores.every((store, index) => {
        return store.scrub.report().scrub.count > (before[index] ?? 0) && store.scrub.doubted === 0;
      });
    s.until(`scrub ${round} is through`, isThrough, 60_000);
  }
}

/** Flips so many bits, on all disks in turn; answers how many. */
function flip(s: Scenario, bits: number, prng: Prng, pauseMs: number): number {
  let flipped = 0;
  for (let bit = 0; bit < bits; bit++) {
    if (s.cluster.rot.flip(prng, prng.pick(disksOf(s))) !== null) flipped++;
    s.run(pauseMs);
  }
  return flipped;
}

function noErrors(s: Scenario): void {
  for (const status of [Status.mediumError, Status.ioError]) {
    expect(s.cluster.counts.failed.get(statusName(status)) ?? 0).toBe(0);
  }
}

for (const [name, plan] of [
  ["mirror-2", SCRUBBED],
  ["mirror-3", { ...SCRUBBED, ...MIRROR_3 }],
] as const) {
  scenario(`corrupt-under-load, ${name}: every read right, every flip healed`, plan, (s) => {
    const prng = new Prng(7);
    const flipped = flip(s, 150, prng, TICK_MS);
    expect(flipped).toBeGreaterThan(50);
    s.cluster.rest();
    s.run(3000);
    // All that is left, while nobody writes: each flip of another block is found and healed.
    scrubAll(s);
    const before = sumOf(s, "healed");
    const blocks = new Set<string>();
    for (let bit = 0; bit < 40; bit++) {
      const place = s.cluster.rot.flip(prng, prng.pick(disksOf(s)));
      if (place !== null) blocks.add(`${place.disk}:${place.slice}:${place.block}`);
    }
    scrubAll(s);
    const healed = sumOf(s, "healed") - before;
    // What was flipped where nothing was ever written hurts nobody; a bit flipped twice is right.
    expect(healed).toBeGreaterThan(blocks.size / 2);
    expect(healed).toBeLessThanOrEqual(blocks.size);
    expect([sumOf(s, "found"), sumOf(s, "unhealed")]).toEqual([sumOf(s, "healed"), 0]);
    noErrors(s);
    const told = s.cluster.happenings.filter(({ kind }) => kind === HappeningKind.healed);
    expect(told.length).toBeGreaterThanOrEqual(healed);
  });
}

scenario("corrupt-under-load while units are killed and come back", SCRUBBED, (s) => {
  const prng = new Prng(3);
  for (let round = 0; round < 4; round++) {
    const unit = s.unit(1 + (round % 2));
    flip(s, 20, prng, TICK_MS);
    unit.kill();
    flip(s, 10, prng, TICK_MS);
    unit.boot();
    flip(s, 20, prng, TICK_MS);
    s.whole();
  }
  scrubAll(s);
});

scenario(
  "a disk that loses writes, and one that puts them elsewhere → found, healed",
  SCRUBBED,
  (s) => {
    const prng = new Prng(5);
    for (let time = 0; time < 30; time++) {
      const how = time % 2 === 0 ? "lost" : "misdirected";
      s.cluster.rot.deceive(prng, prng.pick([1, 2]), how);
      s.run(150);
    }
    const { lost, misdirected } = s.cluster.rot.counts;
    expect(lost + misdirected).toBeGreaterThan(8);
    s.cluster.rest();
    s.run(3000);
    scrubAll(s);
    expect(sumOf(s, "unhealed")).toBe(0);
    noErrors(s);
  },
);

const QUIET_AFTER: ScenarioPlan = { mix: { cold: 0.4 } };

scenario(
  "unreadable on the last copy → protected again all the same, never zero or stale (H8)",
  QUIET_AFTER,
  (s) => {
    const prng = new Prng(11);
    s.run(2000);
    s.cluster.rest();
    s.run(3000);
    // Of unit 1's disk, while unit 2 still is in sync; then unit 2 is away for writes.
    let harmed = 0;
    for (let bit = 0; bit < 60; bit++) if (s.cluster.rot.flip(prng, 1) !== null) harmed++;
    expect(harmed).toBeGreaterThan(10);
    s.unit(2).powerCut();
    s.until("disk 2 is out", () => s.inSync(1).join() === "1" && s.inSync(2).join() === "1");
    s.cluster.work();
    s.run(3000);
    s.cluster.rest();
    s.unit(2).boot();
    s.whole();
    // Where disk 2 had it, it was healed from there; what was written since is not believed there.
    const told = new Set(s.cluster.happenings.map(({ kind }) => kind));
    expect(told.has(HappeningKind.healed)).toBe(true);
  },
);

const RETIRED: ScenarioPlan = {
  ...SCRUBBED,
  units: 4,
  volumes: [
    {
      volume: 1,
      copies: 2,
      sliceBytes: 4 * MIB,
      slices: [
        [1, 2],
        [2, 1],
      ],
    },
  ],
};

scenario("a retired disk is replaced under load, then let go", RETIRED, (s) => {
  const retired = 1;
  const plans = { leaving: new Set([retired]), maintained: new Set<number>() };
  for (const { process } of s.cluster.units) process?.plane.setPlans(plans);
  // As the control station names targets (cluster/upkeep.ts).
  const puts = [1, 2].map((slice) => {
    const record = s.cluster.record(slice);
    const next = { ...record, epoch: record.epoch + 1, resyncing: [slice + 2] };
    return { key: keys.slice(slice), value: JSON.stringify(next) };
  });
  s.cluster.controlStore.commit({ ifs: [], puts });
  for (const slice of [1, 2]) {
    s.until(`slice ${slice} is off the disk`, () => !s.inSync(slice).includes(retired), 40_000);
    expect(s.inSync(slice).length).toBe(2);
  }
  s.writesGoOn();
  s.run(5000);
  for (const slice of [1, 2]) expect(s.inSync(slice)).toEqual([2, slice + 2]);
});
