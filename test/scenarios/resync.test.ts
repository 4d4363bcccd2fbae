// SPDX-License-Identifier: Apache-2.0
//
// Scenarios of contract.md, C: members that were away and come back (R6, R7).

import { expect } from "bun:test";
import { EXTENT_BYTES, SECTOR_BYTES } from "#base/grains.ts";
import { FLAG_KEEP_STAMP, OperationKind } from "#base/operation.ts";
import { keys } from "#cluster/state.ts";
import { Member } from "#store/member.ts";
import { scenario } from "./scenario-fixture.ts";
import type { Scenario } from "./scenario-fixture.ts";

/** Counts the bytes that copies write, on any disk, while `act` runs. */
function copiedBytes(act: () => void): number {
  let copied = 0;
  const { submit } = Member.prototype;
  Member.prototype.submit = function (this: Member, operation) {
    const copies = operation.kind === OperationKind.write;
    if (copies && (operation.flags & FLAG_KEEP_STAMP) !== 0) copied += operation.lengthBytes;
    submit.call(this, operation);
  };
  try {
    act();
  } finally {
    Member.prototype.submit = submit;
  }
  return copied;
}

/** Bytes of the extents that hosts changed since a moment. */
function changedBytes(s: Scenario, since: number): number {
  const extents = new Set<number>();
  for (const act of s.cluster.history.acts) {
    if (act.invoke < since || (act.kind !== "write" && act.kind !== "zero")) continue;
    const first = Math.floor((act.firstSector * SECTOR_BYTES) / EXTENT_BYTES);
    const end = (act.firstSector + act.count) * SECTOR_BYTES;
    for (let extent = first; extent * EXTENT_BYTES < end; extent++) extents.add(extent);
  }
  return extents.size * EXTENT_BYTES;
}

scenario("brief-resync: at most 1.1 times what changed", { seeds: 6 }, (s) => {
  s.cluster.rest();
  // Long enough for every region to become inactive: then only what follows is owed.
  s.run(4000);
  s.unit(2).kill();
  const since = s.cluster.history.moment();
  s.until("disk 2 is dropped", () => !s.inSync(1).includes(2) && !s.inSync(2).includes(2));
  s.cluster.work();
  s.writesGoOn();
  s.run(1500);
  s.cluster.rest();
  s.run(1000);
  const changed = changedBytes(s, since);
  const copied = copiedBytes(() => {
    s.unit(2).boot();
    s.until(
      "both slices whole",
      () => s.inSync(1).length === 2 && s.inSync(2).length === 2,
      30_000,
    );
  });
  expect(changed).toBeGreaterThan(0);
  expect(copied).toBeGreaterThan(0);
  expect(copied).toBeLessThanOrEqual(1.1 * changed);
});

scenario("busy-resync: hosts write all the while", {}, (s) => {
  s.unit(2).kill();
  s.until("disk 2 is dropped", () => !s.inSync(1).includes(2));
  s.run(2500);
  s.unit(2).boot();
  s.until("whole again", () => s.inSync(1).length === 2 && s.inSync(2).length === 2, 30_000);
  s.writesGoOn();
});

for (const how of ["kill", "powerCut"] as const) {
  scenario(`busy-resync-kill-source (${how}): the source goes in the middle`, {}, (s) => {
    s.unit(2).kill();
    s.until("disk 2 is dropped", () => s.inSync(1).length === 1);
    s.run(2000);
    s.unit(2).boot();
    s.until("resync has begun", () => s.cluster.record(1).resyncing.includes(2), 30_000);
    s.run(8);
    s.unit(1)[how]();
    s.run(1500);
    s.unit(1).boot();
    s.writesGoOn(20_000);
  });

  scenario(`busy-resync-kill-target (${how}): the target goes in the middle`, {}, (s) => {
    s.unit(2).kill();
    s.until("disk 2 is dropped", () => s.inSync(1).length === 1);
    for (let time = 0; time < 3; time++) {
      s.run(1200);
      s.unit(2).boot();
      s.until("resync goes on", () => s.cluster.record(1).resyncing.includes(2), 30_000);
      s.run(5 + 7 * time);
      s.unit(2)[how]();
    }
    s.run(500);
    s.unit(2).boot();
    s.until("whole again", () => s.inSync(1).length === 2, 40_000);
  });
}

scenario("resync-during-flush: flushes keep their word", { mix: { flush: 40, fua: 0.5 } }, (s) => {
  s.unit(2).powerCut();
  s.until("disk 2 is dropped", () => s.inSync(1).length === 1);
  s.run(1500);
  s.unit(2).boot();
  s.until("whole again", () => s.inSync(1).length === 2 && s.inSync(2).length === 2, 30_000);
  // What was flushed since must be on both: lose every memory at once.
  for (const unit of s.cluster.units) unit.powerCut();
  for (const unit of s.cluster.units) unit.boot();
  s.writesGoOn(15_000);
});

scenario(
  "trim-versus-resync: what was trimmed meanwhile stays zero",
  { mix: { zero: 25 } },
  (s) => {
    for (let time = 0; time < 2; time++) {
      s.unit(2).kill();
      s.until("disk 2 is dropped", () => s.inSync(1).length === 1);
      s.run(2500);
      s.unit(2).boot();
      s.until("whole again", () => s.inSync(1).length === 2 && s.inSync(2).length === 2, 30_000);
    }
  },
);

scenario("the head goes while the other is away: its own return decides (R3)", {}, (s) => {
  s.unit(2).kill();
  s.until("disk 1 is alone", () => s.inSync(1).join() === "1" && s.inSync(2).join() === "1");
  s.run(1000);
  s.unit(1).kill();
  s.unit(2).boot();
  const before = s.ackedWrites;
  s.run(5000);
  // Disk 2 is behind: it must not serve.
  expect(s.ackedWrites).toBe(before);
  s.unit(1).boot();
  s.writesGoOn(15_000);
  s.until("whole again", () => s.inSync(1).length === 2 && s.inSync(2).length === 2, 30_000);
});

const THIN = {
  seeds: 2,
  volumes: [
    {
      volume: 1,
      copies: 2,
      sliceBytes: 64 << 20,
      slices: [
        [1, 2],
        [2, 1],
      ],
    },
  ],
};

scenario("a thin volume is protected anew: what was written is copied, and no more", THIN, (s) => {
  s.cluster.rest();
  s.run(4000);
  const written = new Set<string>();
  for (const slice of [1, 2]) {
    const entries = s.unit(1).process?.stores.get(1)?.member(slice)?.mapFrom(0, 999) ?? [];
    for (const { extent } of entries) written.add(`${slice}:${extent}`);
  }
  // A hundredth or a tenth of the volume, as hosts happened to write.
  expect(written.size).toBeGreaterThan(2);
  expect(written.size).toBeLessThan(64);
  s.unit(2).powerCut();
  s.until("disk 2 is out", () => s.inSync(1).join() === "1" && s.inSync(2).join() === "1");
  const copied = copiedBytes(() => {
    // As the control station names targets (cluster/upkeep.ts).
    const puts = [1, 2].map((slice) => {
      const record = s.cluster.record(slice);
      const next = { ...record, epoch: record.epoch + 1, resyncing: [3] };
      return { key: keys.slice(slice), value: JSON.stringify(next) };
    });
    s.cluster.controlStore.commit({ ifs: [], puts });
    s.whole();
  });
  expect(copied).toBe(written.size * EXTENT_BYTES);
});
