// SPDX-License-Identifier: Apache-2.0
//
// Scenarios of an owner's override (contract.md, R3, R8): a volume goes on from an old copy; the
// one that lost is kept when it comes back, both are read with what was acked in each, and they
// never merge.

import { expect, setDefaultTimeout } from "bun:test";
import { OperationKind } from "#base/operation.ts";
import { carriedOver } from "#base/record.ts";
import { Status } from "#base/status.ts";
import { keys } from "#cluster/state.ts";
import type { Moment } from "#test/sim/history.ts";
import { LostLineage } from "./lineage-fixture.ts";
import { scenario } from "./scenario-fixture.ts";
import type { Scenario } from "./scenario-fixture.ts";

// Of the fixture it holds for the first file alone that imports it.
setDefaultTimeout(120_000);

const SOME = { seeds: 2 };

/** Disk 2 leaves, disk 1 goes on alone and takes writes. */
function alone(s: Scenario): Moment {
  const leftAt = s.cluster.history.moment();
  s.unit(2).kill();
  const isAlone = () => [1, 2].every((slice) => s.inSync(slice).join() === "1");
  s.until("disk 1 is alone", isAlone, 15_000);
  s.writesGoOn(10_000);
  s.run(2000);
  return leftAt;
}

/** Hosts rest until each request has ended one way or the other. */
function quiet(s: Scenario): void {
  s.cluster.rest();
  s.run(8000);
}

function member(s: Scenario, slice: number) {
  return s.unit(1).process?.stores.get(1)?.member(slice) ?? null;
}

function readThroughAll(s: Scenario, lost: LostLineage): void {
  for (const process of s.cluster.portals()) {
    expect(`${process.unit}: ${lost.readAll(process)}`).toBe(`${process.unit}: ${Status.ok}`);
  }
}

/** Disk 1 is back: it keeps what it has, which is read through every unit, and nothing else. */
function isKept(s: Scenario, lost: LostLineage): void {
  const held = () => [1, 2].map((slice) => member(s, slice)?.mappedExtents);
  s.until("its members are kept", () => s.unit(1).process?.plane.keptReports().length === 2);
  const before = held();
  s.cluster.work();
  s.writesGoOn(10_000);
  readThroughAll(s, lost);
  for (const process of s.cluster.portals()) {
    for (const kind of [OperationKind.write, OperationKind.trim, OperationKind.writeZeroes]) {
      expect(lost.ask(process, { kind, firstSector: 0, count: 8 })).toBe(Status.readOnly);
    }
  }
  s.run(5000);
  expect(held()).toEqual(before);
  for (const slice of [1, 2]) {
    expect(member(s, slice)?.record?.lineage).toBe(1);
    expect(s.inSync(slice)).not.toContain(1);
    expect(s.cluster.record(slice).resyncing).not.toContain(1);
  }
  readThroughAll(s, lost);
}

/** The owner gives it up: disk 1 takes the current lineage again. */
function givenUp(s: Scenario, lost: LostLineage): void {
  lost.judge();
  expect(lost.reads).toBeGreaterThan(0);
  lost.discard();
  s.whole();
  for (const slice of [1, 2]) expect(s.cluster.record(slice).ancestry).toEqual([1]);
}

for (const end of ["kill", "powerCut"] as const) {
  scenario(
    `keep-both: the newer copy is lost by ${end}, and comes back after an override`,
    SOME,
    (s) => {
      const leftAt = alone(s);
      quiet(s);
      s.unit(1)[end]();
      s.unit(2).boot();
      s.run(5000);
      expect(s.inSync(1)).toEqual([1]);
      const lost = LostLineage.override(s.cluster, leftAt);
      s.until("disk 2 heads both", () => s.head(1) === 2 && s.head(2) === 2);
      s.cluster.work();
      s.writesGoOn(10_000);
      s.unit(1).boot();
      isKept(s, lost);
      // It starts again, and a power cut takes its memory: it is kept all the same.
      s.unit(1).powerCut();
      s.run(500);
      s.unit(1).boot();
      isKept(s, lost);
      givenUp(s, lost);
    },
  );
}

scenario("keep-both: the old head was only cut off, and hears of the override", {}, (s) => {
  const leftAt = alone(s);
  quiet(s);
  s.isolate(1);
  s.unit(2).boot();
  s.run(4000);
  const lost = LostLineage.override(s.cluster, leftAt);
  s.until("disk 2 heads both", () => s.head(1) === 2 && s.head(2) === 2);
  s.run(3000);
  s.join(1);
  isKept(s, lost);
  givenUp(s, lost);
});

scenario("keep-both: another disk is brought up beside it; given up, its room is back", {}, (s) => {
  const leftAt = alone(s);
  quiet(s);
  s.unit(1).kill();
  s.unit(2).boot();
  s.run(4000);
  const lost = LostLineage.override(s.cluster, leftAt);
  s.until("disk 2 heads both", () => s.head(1) === 2 && s.head(2) === 2);
  for (const slice of [1, 2]) {
    const record = s.cluster.record(slice);
    const next = carriedOver(record, { ...record, epoch: record.epoch + 1, resyncing: [3] });
    const put = { key: keys.slice(slice), value: JSON.stringify(next) };
    s.cluster.controlStore.commit({ ifs: [], puts: [put] });
  }
  s.unit(1).boot();
  s.whole();
  expect(s.inSync(1).toSorted()).toEqual([2, 3]);
  isKept(s, lost);
  lost.judge();
  lost.discard();
  s.until("its room is back", () => member(s, 1) === null && member(s, 2) === null);
});
