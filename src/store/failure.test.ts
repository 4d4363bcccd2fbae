// SPDX-License-Identifier: Apache-2.0
//
// R10, crash-only disks: whichever call of the disk fails, a write or a flush that did ejects it
// once, everything ends, nothing is retried, and what was acked before is there when it is opened
// again. And the log's ring: used many times over, with checkpoints in time.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { FLAG_FUA, Operation, OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { Bench, MIB, filled, sampleRecord } from "./bench-fixture.ts";
import { planDisk } from "./disk-plan.ts";
import type { DiskPlan } from "./disk-plan.ts";

function ready(logSlots = 16): Bench {
  const bench = new Bench(16 * MIB);
  expect(bench.format({ logSlots, slicesMax: 4 })).toBe(Status.ok);
  expect(bench.open()).not.toBeNull();
  return bench;
}

/** A little of everything, sent at once; answers what was acked by name, and counts what ended. */
function busy(bench: Bench): { sent: number; ended: number; acked: Set<string> } {
  const outcome = { sent: 0, ended: 0, acked: new Set<string>() };
  const member = bench.member();
  const done = (name: string) => {
    outcome.sent++;
    return (status: Status) => {
      outcome.ended++;
      if (status === Status.ok) outcome.acked.add(name);
      else expect(status).toBe(Status.ioError);
    };
  };
  const send = (name: string, fields: Partial<Operation>) => {
    const operation = Object.assign(new Operation(), fields);
    operation.epoch = 1;
    const ended = done(name);
    operation.done = ({ status }) => ended(status);
    member.submit(operation);
  };
  const buffer = bench.memory.allocate(65536);
  bench.memory.bytes.fill(5, buffer, buffer + 65536);
  const { write, flush, trim } = OperationKind;
  const at = (offsetBytes: number, lengthBytes: number) => ({
    offsetBytes,
    lengthBytes,
    bufferOffset: buffer,
  });
  send("first", { kind: write, ...at(MIB, 8192), flags: FLAG_FUA });
  send("part", { kind: write, ...at(512, 1024), flags: FLAG_FUA });
  send("tail", { kind: write, ...at(2 * MIB - 512, 1024) });
  send("trim", { kind: trim, ...at(3 * MIB, MIB), flags: FLAG_FUA });
  send("flush", { kind: flush });
  member.putRecord(sampleRecord(2), done("record"));
  member.activate([1], done("active"));
  bench.store?.createMember(2, 4 * MIB, done("created"));
  bench.store?.checkpoint(done("checkpoint"));
  bench.disk.run();
  bench.memory.release(buffer);
  return outcome;
}

setDefaultTimeout(60_000);

describe("the n-th call of the disk fails", () => {
  test("→ ejected once, everything ends, what was acked is there again", () => {
    let ejected = 0;
    for (let failing = 1; failing < 60; failing++) {
      const bench = ready();
      bench.create(1, 8 * MIB);
      const member = bench.member();
      bench.activate(member, 0);
      bench.write(member, 0, filled(4096, 1));
      bench.write(member, 3 * MIB, filled(4096, 2), { flags: FLAG_FUA });
      bench.disk.run();
      const reasons: string[] = [];
      const { store, disk } = bench;
      if (store !== null) store.onFailed = (reason) => reasons.push(reason);
      let failedRead = false;
      disk.calls = 0;
      disk.failWhen = (kind) => {
        if (disk.calls !== failing) return false;
        failedRead = kind === OperationKind.read;
        return true;
      };
      const { sent, ended, acked } = busy(bench);
      if (disk.calls < failing) break;
      expect(store?.failed).toBe(!failedRead);
      if (failedRead) continue;
      ejected++;
      expect(ended).toBe(sent);
      expect(reasons.length).toBe(1);
      expect(store?.failure).toBe(reasons[0] ?? "");
      const { calls } = disk;
      expect(bench.read(member, MIB, 512).status).toBe(Status.ioError);
      expect(bench.flush(member)).toBe(Status.ioError);
      expect(bench.activate(member, 1)).toBe(Status.ioError);
      expect(bench.create(3, 4 * MIB)).toBe(Status.ioError);
      store?.tick(0);
      disk.run();
      expect(disk.calls).toBe(calls);
      expect(bench.wait((done) => store?.close(done))).toBe(Status.ioError);
      expect(bench.memory.usedBytes).toBe(0);
      expect(bench.again(disk.powerCut(new Prng(failing)))).not.toBeNull();
      const after = bench.member();
      if (acked.has("first")) expect(bench.read(after, MIB, 8192).bytes).toEqual(filled(8192, 5));
      if (acked.has("trim")) expect(bench.read(after, 3 * MIB, 512).bytes).toEqual(filled(512, 0));
      if (acked.has("record")) expect(after.record).toEqual(sampleRecord(2));
      if (acked.has("active")) expect(after.isActive(1)).toBe(true);
      if (acked.has("created")) expect(bench.store?.slices()).toEqual([1, 2]);
    }
    expect(ejected).toBeGreaterThan(10);
  });

  test("while opening → not opened, with a reason, no buffers kept; or whole", () => {
    const bench = ready();
    bench.create(1, 8 * MIB);
    bench.activate(bench.member(), 0);
    bench.write(bench.member(), 0, filled(4096, 3), { flags: FLAG_FUA });
    const image = bench.disk.kill();
    let refused = 0;
    for (let failing = 1; failing < 30; failing++) {
      const next = new Bench(16 * MIB, { image: image.over() });
      next.disk.failAt = failing;
      if (next.open() === null) {
        refused++;
        expect(next.reason).not.toBe("");
        expect(next.memory.usedBytes).toBe(0);
      } else {
        expect(next.read(next.member(), 0, 4096).bytes).toEqual(filled(4096, 3));
      }
    }
    expect(refused).toBeGreaterThan(1);
  });

  test("formatting → failed, never half a store that opens as a whole one", () => {
    for (let failing = 1; failing <= 6; failing++) {
      const bench = new Bench(16 * MIB);
      bench.disk.failAt = failing;
      expect(bench.format()).toBe(Status.ioError);
      expect(bench.memory.usedBytes).toBe(0);
    }
  });
});

describe("the log's ring", () => {
  test("used twenty times over → nothing forgotten, checkpoints came in time", () => {
    let bench = ready(16);
    bench.create(1, 8 * MIB);
    for (let epoch = 1; epoch <= 320; epoch++) {
      const region = epoch % 2;
      const member = bench.member();
      expect(bench.put(member, sampleRecord(epoch))).toBe(Status.ok);
      expect(bench.activate(member, region)).toBe(Status.ok);
      const at = region * 4 * MIB + (epoch % 64) * 4096;
      const bytes = filled(4096, epoch % 251);
      expect(bench.write(member, at, bytes, { epoch, flags: FLAG_FUA })).toBe(Status.ok);
      member.deactivate([region]);
      if (epoch % 40 !== 0) continue;
      expect(bench.again(bench.disk.powerCut(new Prng(epoch)))).not.toBeNull();
      expect(bench.member().record?.epoch).toBe(epoch);
      expect(bench.read(bench.member(), at, 4096).bytes).toEqual(bytes);
      expect(bench.member().stampOf(region * 4)).toBe(epoch);
    }
    expect(bench.store?.incarnation).toBe(9);
    bench = new Bench(16 * MIB, { image: bench.disk.kill() });
    expect(bench.open()?.incarnation).toBe(10);
  });

  test("a checkpoint that takes too long → commits wait for it, then go on", () => {
    const options = { logSlots: 16, slicesMax: 4 };
    const plan = planDisk(16 * MIB, options) as DiskPlan;
    for (let heldAt = 1; heldAt < 16; heldAt++) {
      const bench = ready(16);
      bench.create(1, 8 * MIB);
      let acked = 0;
      const member = bench.member();
      const { disk } = bench;
      const isCheckpoint = (kind: OperationKind, offset: number) =>
        kind === OperationKind.write &&
        offset >= plan.checkpointOffset &&
        offset < plan.descriptorOffset;
      for (let epoch = 1; epoch <= 120; epoch++) {
        if (epoch % 20 === heldAt) disk.hold = isCheckpoint;
        const ancestry = new Array<number>(64).fill(9);
        member.putRecord({ ...sampleRecord(epoch), ancestry }, (status) => {
          expect(status).toBe(Status.ok);
          acked++;
        });
        disk.run();
        if (epoch % 20 === 0) disk.hold = null;
        disk.run();
        if (epoch % 20 === 0) expect(acked).toBe(epoch);
      }
      bench.again(disk.powerCut(new Prng(4)));
      expect(bench.member().record?.epoch).toBe(120);
    }
  });

  test("full to the last when it crashes → opens, again and again, also when that crashes", () => {
    const options = { logSlots: 16, slicesMax: 4 };
    const plan = planDisk(16 * MIB, options) as DiskPlan;
    const slots = [plan.checkpointOffset, plan.checkpointOffset + plan.checkpointBytes];
    for (const burst of [1, 2, 3, 5, 8, 13, 24, 40, 100]) {
      const bench = ready(16);
      bench.create(1, 8 * MIB);
      const member = bench.member();
      // Checkpoints do everything but become whole.
      const { disk } = bench;
      disk.hold = (kind, offset) => kind === OperationKind.write && slots.includes(offset);
      let acked = 0;
      for (let epoch = 1; epoch <= 200; epoch++) {
        const ancestry = new Array<number>(64).fill(9);
        member.putRecord({ ...sampleRecord(epoch), ancestry }, (status) => {
          if (status === Status.ok) acked = epoch;
        });
        if (epoch % burst === 0) disk.run();
      }
      disk.run();
      expect(acked).toBeLessThan(200);
      let image = disk.kill();
      for (let run = 0; run < 240; run++) {
        const half = new Bench(16 * MIB, { image });
        half.begin();
        // Each moment of opening several times in a row.
        for (let step = 0; step < run / 8; step++) half.disk.step();
        image = half.disk.powerCut(new Prng(run));
      }
      const next = new Bench(16 * MIB, { image });
      expect([next.open() === null, next.reason]).toEqual([false, ""]);
      expect(next.member().record?.epoch).toBeGreaterThanOrEqual(acked);
      for (let epoch = 1001; epoch <= 1100; epoch++) {
        expect(next.put(next.member(), sampleRecord(epoch))).toBe(Status.ok);
      }
    }
  });

  test("opened a hundred times without anything else → a hundred incarnations (R0)", () => {
    let image = ready(16).disk.kill();
    for (let run = 2; run <= 101; run++) {
      const bench = new Bench(16 * MIB, { image });
      expect(bench.open()?.incarnation).toBe(run);
      bench.disk.run();
      image = bench.disk.powerCut(new Prng(run));
    }
  });
});
