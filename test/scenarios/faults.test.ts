// SPDX-License-Identifier: Apache-2.0
//
// Scenarios of contract.md, C: disks that fail, fill up or dawdle, power cuts of everything, and a
// control store that is away (R10, R13, R14, H4, H6).

import { expect } from "bun:test";
import { OperationKind } from "#base/operation.ts";
import type { Operation } from "#base/operation.ts";
import { Status, statusName } from "#base/status.ts";
import { planDisk } from "#store/disk-plan.ts";
import type { DiskPlan } from "#store/disk-plan.ts";
import type { HostVolume } from "#test/sim/sim-host.ts";
import { MIRROR_3, scenario } from "./scenario-fixture.ts";
import type { Scenario } from "./scenario-fixture.ts";

const MIB = 1 << 20;

// Flushes with nothing to flush are answered without the disk, which hides that it is stuck.
const NO_FLUSH = { mix: { flush: 0 } };

scenario("disk-timeout: a member whose disk stops answering is dropped (R13)", NO_FLUSH, (s) => {
  s.cluster.disk(2).fault = () => "stuck";
  s.until("disk 2 is out", () => !s.inSync(1).includes(2) && s.head(2) === 1, 20_000);
  s.writesGoOn();
});

scenario(
  "disk-timeout at the head: another takes over (R13)",
  { ...MIRROR_3, ...NO_FLUSH },
  (s) => {
    s.cluster.disk(1).fault = () => "stuck";
    s.until("disk 1 heads nothing", () => s.head(1) !== 1, 20_000);
    s.writesGoOn(10_000);
  },
);

/** First written to, then only read. */
const READS = { mix: { write: 4, zero: 0, flush: 0, read: 96 } };

/** Which part of the disk an operation touches. */
function inPart(part: "data" | "metadata" | "log", plan: DiskPlan, operation: Operation): boolean {
  const { offsetBytes, kind } = operation;
  if (kind !== OperationKind.write) return false;
  const logEnd = plan.logOffset + plan.logSlots * 4096;
  if (offsetBytes >= plan.dataOffset) return part === "data";
  if (offsetBytes >= plan.logOffset && offsetBytes < logEnd) return part === "log";
  return part === "metadata";
}

for (const part of ["data", "metadata", "log"] as const) {
  for (const disk of [1, 2]) {
    const role = disk === 1 ? "head" : "member";
    scenario(`io-errors-${part} at the ${role}: ejected, nothing lost (R10)`, { seeds: 2 }, (s) => {
      const plan = planDisk(s.cluster.plan.diskBytes) as DiskPlan;
      const before = s.cluster.disk(disk).counts.errors;
      s.cluster.disk(disk).fault = (operation) => (inPart(part, plan, operation) ? "error" : null);
      s.until(`disk ${disk} is out`, () => !s.inSync(1).includes(disk), 20_000);
      expect(s.cluster.disk(disk).counts.errors).toBeGreaterThan(before);
      s.writesGoOn(10_000);
      // A new disk run: fault gone, comes back by resync.
      s.cluster.disk(disk).fault = null;
      s.unit(disk).kill();
      s.run(300);
      s.unit(disk).boot();
      s.until("whole again", () => s.inSync(1).length === 2, 30_000);
    });
  }
}

scenario("flush errors at a member: it leaves, the flush succeeds on the others (H4)", {}, (s) => {
  const flushes = s.cluster.counts.ackedFlushes;
  s.cluster.disk(2).fault = ({ kind }) => (kind === OperationKind.flush ? "error" : null);
  s.until("disk 2 is out", () => !s.inSync(1).includes(2), 20_000);
  s.until("flushes are acked", () => s.cluster.counts.ackedFlushes > flushes + 2, 20_000);
  expect(s.cluster.counts.failed.get(statusName(Status.ioError)) ?? 0).toBe(0);
});

const FULL = {
  seeds: 2,
  // Slice 1 is promised 64 MiB on disks 1 and 2; volume 2 may take up to 64 MiB of disk 2 alone.
  volumes: [
    { volume: 1, copies: 2, sliceBytes: 64 * MIB, slices: [[1, 2]] },
    { volume: 2, copies: 1, sliceBytes: 64 * MIB, slices: [[2]] },
  ],
  mix: { cold: 0.9, zero: 0, flush: 4, thinkMs: 6 },
};

scenario(
  "enospc-on-one-member: refused before any member is touched (R10)",
  FULL,
  (s: Scenario) => {
    const refused = () => s.cluster.counts.failed.get(statusName(Status.noSpace)) ?? 0;
    s.until("the disk is full", () => refused() > 20, 60_000);
    // Full is no failure: members stay, and what is mapped already is written on.
    expect(s.inSync(1)).toEqual([1, 2]);
    s.run(2000);
    // What is trimmed is space again (H9).
    const [, second] = s.cluster.hostVolumes;
    s.trim(second as HostVolume);
    const before = refused();
    s.writesGoOn();
    expect(refused()).toBeLessThan(before + 20);
  },
);

scenario("slow-disk: slower than usual, but nobody is dropped for it", {}, (s) => {
  s.cluster.disk(2).slowFactor = 20;
  s.run(6000);
  expect(s.inSync(1).length).toBe(2);
  s.writesGoOn();
});

scenario("slow-disk, very: dropped or not, nothing is lost", {}, (s) => {
  s.cluster.disk(2).slowFactor = 2000;
  s.run(8000);
  s.cluster.disk(2).slowFactor = 1;
  s.writesGoOn(15_000);
});

scenario(
  "all-power-cut: what was flushed is there, the rest falls back by H6",
  { seeds: 8 },
  (s) => {
    for (let time = 0; time < 3; time++) {
      s.run(900);
      for (const unit of s.cluster.units) unit.powerCut();
      s.run(200);
      for (const unit of s.cluster.units) unit.boot();
      s.writesGoOn(20_000);
    }
    expect(s.cluster.history.losses.length).toBeGreaterThan(0);
  },
);

scenario("all-power-cut one after the other, one comes back late (R3)", MIRROR_3, (s) => {
  s.unit(1).powerCut();
  s.run(60);
  s.unit(2).powerCut();
  s.run(60);
  s.unit(3).powerCut();
  s.run(500);
  s.unit(2).boot();
  s.unit(3).boot();
  s.run(3000);
  s.unit(1).boot();
  s.writesGoOn(20_000);
});

scenario("every process killed at once: nothing acked is lost (C: no era boundary)", {}, (s) => {
  for (let time = 0; time < 3; time++) {
    s.run(700);
    for (const unit of s.cluster.units) unit.kill();
    s.run(100);
    for (const unit of s.cluster.units) unit.boot();
    s.writesGoOn(20_000);
  }
  expect(s.cluster.history.losses.length).toBe(0);
});

scenario("control-store-away: healthy I/O goes on without it (R14)", {}, (s) => {
  s.cluster.controlStore.setAway(true);
  s.writesGoOn(1000);
  s.run(20_000);
  s.writesGoOn(1000);
  s.cluster.controlStore.setAway(false);
});

scenario("control-store-away while a member dies: waits, then goes on (R14)", {}, (s) => {
  s.cluster.controlStore.setAway(true);
  s.unit(2).kill();
  s.run(1000);
  const before = s.ackedWrites;
  s.run(8000);
  // Every write needs disk 2 or a new record: none may be acked.
  expect(s.ackedWrites).toBe(before);
  s.cluster.controlStore.setAway(false);
  s.writesGoOn(10_000);
});

scenario("control store unsure of its answers all the time (R2)", {}, (s) => {
  Object.assign(s.cluster.controlStore.faults, { requestLost: 0.3, answerLost: 0.3, late: 0.3 });
  s.unit(1).kill();
  s.until("disk 2 takes over", () => s.head(1) === 2, 60_000);
  s.unit(1).boot();
  s.until("whole again", () => s.inSync(1).length === 2, 60_000);
});

scenario("corrupt-one-of-two-superblocks: the disk opens by the other", {}, (s) => {
  const incarnation = s.cluster.record(1).inSync.find((m) => m.disk === 2)?.incarnation ?? 0;
  s.unit(2).kill();
  s.until("disk 2 is dropped", () => s.inSync(1).length === 1);
  expect(s.cluster.disk(2).rot(100)).toBe(true);
  s.unit(2).boot();
  s.until("whole again", () => s.inSync(1).length === 2, 30_000);
  const now = s.cluster.record(1).inSync.find((m) => m.disk === 2)?.incarnation ?? 0;
  expect(now).toBeGreaterThan(incarnation);
});

const ONE_SLICE = {
  volumes: [{ volume: 1, copies: 2, sliceBytes: 4 * MIB, slices: [[1, 2]] }],
};

scenario(
  "rotten bytes at the head: read from the other, made good, counted (R9)",
  ONE_SLICE,
  (s) => {
    const plan = planDisk(s.cluster.plan.diskBytes) as DiskPlan;
    s.cluster.rest();
    s.run(4000);
    let rotten = 0;
    for (let block = 0; block < 4 * 256; block += 3) {
      if (s.cluster.disk(1).rot(plan.dataOffset + block * 4096 + 77)) rotten++;
    }
    expect(rotten).toBeGreaterThan(2);
    s.cluster.work();
    s.writesGoOn();
    s.run(4000);
    // What no host came across is read at the end: through the head, so all of it is healed by
    // then.
    const healed = () => s.unit(1).process?.plane.sliceReports()[0]?.counters.healed ?? 0;
    expect(healed()).toBeGreaterThan(0);
    expect(s.cluster.counts.failed.get(statusName(Status.mediumError)) ?? 0).toBe(0);
  },
);

for (const disk of [1, 2]) {
  const role = disk === 1 ? "head" : "member";
  scenario(`disk-pulled-and-put-back at the ${role}: no restart needed, nothing lost`, {}, (s) => {
    for (const noticeMs of [0, 40, 2500]) {
      s.unit(disk).pullDisk(disk, noticeMs);
      s.until(`disk ${disk} is out`, () => !s.inSync(1).includes(disk), 12_000);
      s.writesGoOn(10_000);
      const { boots } = s.unit(disk);
      s.run(noticeMs);
      s.unit(disk).putBack(disk);
      s.whole();
      expect(s.unit(disk).boots).toBe(boots);
      s.run(1500);
    }
  });
}

const ONE_COPY = {
  volumes: [{ volume: 1, copies: 1, sliceBytes: 4 * MIB, slices: [[1]] }],
};

// Seed 20001820: a read of what was trimmed needs no disk, so it is answered until the pull is
// noticed; the trim was lost with the disk's cache all the same.
scenario("disk-pulled, unnoticed: what still answers comes before the loss (H6)", ONE_COPY, (s) => {
  const [volume] = s.cluster.hostVolumes as [HostVolume];
  s.ask(OperationKind.write, volume, 64);
  s.ask(OperationKind.flush, volume, 0);
  s.trim(volume);
  s.unit(1).pullDisk(1, 3000);
  s.ask(OperationKind.read, volume, 8);
  s.run(3500);
  expect(s.cluster.history.losses.length).toBe(1);
  s.unit(1).putBack(1);
  s.writesGoOn(10_000);
  s.ask(OperationKind.read, volume, 8);
});

// Seed 30002100.
scenario("disk-pulled while its unit starts: it is opened when it is back", ONE_COPY, (s) => {
  s.unit(1).kill();
  s.unit(1).boot();
  s.unit(1).pullDisk(1, 100);
  s.run(500);
  expect(s.unit(1).process?.stores.size).toBe(0);
  s.unit(1).putBack(1);
  s.writesGoOn(10_000);
});

scenario("disk-pulled while hosts only read: they wait for nobody", READS, (s) => {
  s.run(6000);
  const reads = () => s.cluster.counts.acked - s.ackedWrites;
  const before = reads();
  s.unit(2).pullDisk(2);
  s.run(1000);
  expect(s.inSync(1)).toEqual([1]);
  s.run(2000);
  expect(reads()).toBeGreaterThan(before + 20);
  s.unit(2).putBack(2);
  s.whole();
});

scenario("disks of both members pulled and put back: one copy is never taken for two", {}, (s) => {
  s.unit(2).pullDisk(2, 100);
  s.until("disk 2 is out", () => !s.inSync(1).includes(2), 12_000);
  s.run(800);
  // Until it is noticed, what only it has cannot be read (H8).
  s.cluster.rotten = true;
  s.unit(1).pullDisk(1, 100);
  s.unit(2).putBack(2);
  s.run(3000);
  // Only disk 1 has all that was acked.
  expect(s.head(1)).toBe(1);
  s.unit(1).putBack(1);
  s.whole();
  s.writesGoOn(10_000);
});

scenario("disk put back in another unit's absence, and pulled at once again", {}, (s) => {
  s.unit(1).kill();
  s.unit(2).pullDisk(2, 50);
  s.unit(2).putBack(2);
  s.run(300);
  s.unit(2).pullDisk(2, 50);
  s.unit(2).putBack(2);
  s.run(500);
  s.unit(1).boot();
  s.whole();
  s.writesGoOn(10_000);
});
