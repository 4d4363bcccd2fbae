// SPDX-License-Identifier: Apache-2.0
//
// Scenarios of contract.md, C: several units gone at once, wall clocks that say anything, requests
// that kill, links that flap, and everybody waiting for everybody (R3, R4, R13, H7).

import { expect } from "bun:test";
import { FORWARD_RESENDS_MAX } from "#base/limits.ts";
import { FLAG_NO_HOLE, OperationKind } from "#base/operation.ts";
import type { SliceRecord } from "#base/record.ts";
import { Member } from "#store/member.ts";
import type { HostVolume } from "#test/sim/sim-host.ts";
import type { UnitProcess } from "#test/sim/sim-unit.ts";
import { MIRROR_3, scenario } from "./scenario-fixture.ts";
import type { Scenario } from "./scenario-fixture.ts";

/** What a unit says that a slice of its disk waits for. */
function waitsFor(s: Scenario, unit: number, slice: number): string {
  const reports = s.unit(unit).process?.plane.sliceReports() ?? [];
  return reports.find((report) => report.slice === slice)?.waitsFor ?? "";
}

for (const kept of [1, 2]) {
  scenario(`all power off while idle: disk ${kept} alone serves`, { seeds: 2 }, (s) => {
    s.cluster.rest();
    // Until every region is inactive: then nobody has forgotten anything (R3).
    s.run(6000);
    for (const unit of s.cluster.units) unit.powerCut();
    s.run(500);
    s.unit(kept).boot();
    s.unit(3).boot();
    const serves = () => s.head(1) === kept && s.head(2) === kept;
    s.until(`disk ${kept} heads both`, serves, 10_000);
    s.cluster.work();
    s.writesGoOn(10_000);
    s.unit(3 - kept).boot();
    s.whole();
  });
}

scenario(
  "all power off under load: who is missing is named within 10 s, and waited for",
  {},
  (s) => {
    for (const unit of s.cluster.units) unit.powerCut();
    s.run(500);
    s.unit(1).boot();
    s.unit(3).boot();
    const isNamed = () => [1, 2].every((slice) => waitsFor(s, 1, slice).includes("disk 2"));
    s.until("disk 2 is named", isNamed, 10_000);
    const before = s.ackedWrites;
    s.run(15_000);
    expect(s.ackedWrites).toBe(before);
    s.unit(2).boot();
    s.writesGoOn(30_000);
    s.whole();
  },
);

scenario(
  "two of three lost, one after the other: the third serves, then alone again",
  MIRROR_3,
  (s) => {
    for (const gone of [2, 3]) {
      s.unit(gone).powerCut();
      s.until(`disk ${gone} is out`, () => !s.inSync(1).includes(gone), 12_000);
      s.writesGoOn(10_000);
    }
    expect(s.inSync(1)).toEqual([1]);
    // Its own memory goes too: it is all there is, and it has flushed what it acked (R1, at risk).
    s.unit(1).powerCut();
    s.run(300);
    s.unit(1).boot();
    s.writesGoOn(20_000);
    for (const gone of [2, 3]) s.unit(gone).boot();
    s.whole();
  },
);

scenario("two of three lost at once", MIRROR_3, (s) => {
  s.unit(2).powerCut();
  s.unit(3).powerCut();
  s.until(
    "disk 1 is alone",
    () => s.inSync(1).join() === "1" && s.inSync(2).join() === "1",
    20_000,
  );
  s.writesGoOn(10_000);
});

scenario("the last copy lost, old ones come back: never served from those (R3)", MIRROR_3, (s) => {
  for (const gone of [2, 3]) {
    s.unit(gone).powerCut();
    s.until(`disk ${gone} is out`, () => !s.inSync(1).includes(gone), 12_000);
  }
  s.writesGoOn(10_000);
  s.unit(1).powerCut();
  s.run(300);
  for (const back of [2, 3]) s.unit(back).boot();
  const before = s.ackedWrites;
  s.run(12_000);
  expect([s.ackedWrites, s.inSync(1)]).toEqual([before, [1]]);
  s.unit(1).boot();
  s.writesGoOn(20_000);
  s.whole();
});

for (const [from, to] of [
  [1, 2],
  [2, 1],
  [3, 1],
  [1, 3],
] as const) {
  scenario(
    `one direction of a link cut, ${from} to ${to}: served on, whole again`,
    { seeds: 2 },
    (s) => {
      s.cluster.net.cut(from, to);
      s.run(4000);
      s.writesGoOn(10_000);
      s.cluster.net.heal(from, to);
      s.whole();
      s.writesGoOn();
    },
  );
}

const SCRUBBED = { seeds: 2, scrub: { everyMs: 3000, bytesPerSecondMax: 8 << 20 } };
const YEAR_MS = 365 * 24 * 3600 * 1000;

scenario("clock-jump, boots-in-1970: wall clocks decide nothing (R4)", SCRUBBED, (s) => {
  const epochs = () => s.cluster.losses.records().map((record) => record.epoch);
  const before = epochs();
  for (const years of [56, 0.001, 70, 56, 30]) {
    for (const unit of s.cluster.units)
      unit.wallMs = years * YEAR_MS * (unit.number === 2 ? 1 : 0.5);
    s.run(800);
    s.writesGoOn(1000);
  }
  expect(epochs()).toEqual(before);
  // A box without a battery: its clock begins anew.
  s.unit(1).powerCut();
  s.unit(1).wallMs = 1;
  s.until("disk 2 takes over", () => s.head(1) === 2);
  s.unit(1).boot();
  s.whole();
});

scenario(
  "flapping-link, for long: each return waits longer, and it serves all the while (R13)",
  {
    seeds: 1,
  },
  (s) => {
    const returns: number[] = [];
    let members = s.inSync(1).length;
    const watch = () => {
      s.cluster.onNextCommit = (record: SliceRecord) => {
        if (record.slice === 1) {
          if (record.inSync.length > members) returns.push(s.cluster.simulation.nowMs);
          members = record.inSync.length;
        }
        watch();
      };
    };
    watch();
    for (let time = 0; time < 10; time++) {
      s.cluster.net.cut(1, 2);
      s.cluster.net.cut(2, 1);
      s.run(1500);
      s.cluster.net.heal(1, 2);
      s.cluster.net.heal(2, 1);
      s.run(1500);
    }
    s.writesGoOn(10_000);
    // Ten times it is good for a moment: without a limit it would come back in each.
    expect(returns.length).toBeGreaterThan(1);
    expect(returns.length).toBeLessThan(8);
  },
);

/** Sectors of the request that kills: no host's own is so long. */
const POISON_SECTORS = 200;

/** Whoever's disk is to take it dies of it; answers how often that was, once all is over. */
function poisoned(s: Scenario, act: () => void): number {
  let deaths = 0;
  const { submit } = Member.prototype;
  Member.prototype.submit = function (this: Member, operation) {
    const isPoison =
      operation.kind === OperationKind.writeZeroes &&
      operation.lengthBytes === POISON_SECTORS * 512;
    if (!isPoison) return submit.call(this, operation);
    const holds = (process: UnitProcess | null) =>
      [...(process?.stores.values() ?? [])].some((store) => store.member(this.slice) === this);
    const unit = s.cluster.units.find(({ process }) => holds(process));
    const { process } = unit ?? {};
    s.cluster.simulation.after(0, () => {
      if (unit === undefined || unit.process !== process) return;
      deaths++;
      unit.kill();
      s.cluster.simulation.after(600, () => unit.boot());
    });
  };
  try {
    act();
  } finally {
    Member.prototype.submit = submit;
  }
  return deaths;
}

scenario(
  "poison-request: kills whoever carries it out, a few times and no more (H7)",
  {
    seeds: 2,
    mix: { zero: 0 },
  },
  (s) => {
    const deaths = poisoned(s, () => {
      const [host] = s.cluster.hosts;
      const volume = s.cluster.hostVolumes[0] as HostVolume;
      const wish = {
        kind: OperationKind.writeZeroes,
        volume,
        flags: FLAG_NO_HOLE,
        firstSector: 64,
      };
      let ended = false;
      const portal = s.unit(3).process as UnitProcess;
      host?.act(portal, { ...wish, count: POISON_SECTORS }, () => {
        ended = true;
      });
      s.until("it ends for its host", () => ended, 30_000);
      s.run(4000);
    });
    // Each sending reaches both members at most.
    expect(deaths).toBeGreaterThan(0);
    expect(deaths).toBeLessThanOrEqual(2 * (1 + FORWARD_RESENDS_MAX));
    s.whole();
    s.writesGoOn(10_000);
  },
);

scenario(
  "crossed heads with more under way than they can hold: nobody waits in a circle (R13)",
  {
    seeds: 1,
    volumes: [
      {
        volume: 1,
        copies: 2,
        sliceBytes: 4 << 20,
        slices: [
          [1, 2],
          [2, 1],
        ],
      },
    ],
    mix: { depth: 48, thinkMs: 4, largestSectors: 512, cold: 0.3, flush: 2, roam: 0.5 },
  },
  (s) => {
    for (const disk of [1, 2]) s.cluster.disk(disk).slowFactor = 8;
    for (let time = 0; time < 3; time++) {
      s.run(400);
      s.writesGoOn(3000);
      // Leases go their own way: nobody is taken for dead because much is under way.
      expect([s.inSync(1).length, s.inSync(2).length]).toEqual([2, 2]);
    }
  },
);
