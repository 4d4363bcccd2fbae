// SPDX-License-Identifier: Apache-2.0
//
// Kill enumeration: the process dies after every number of the disk's answers to a series of
// operations, the disk and its cache live on. Everything acked is there in the next run, flushed or
// not (H6, H9; a kill is no era boundary), what was under way is old or new per sector (H3, H8),
// and no block says that it is damaged. Then the same with more deaths while the disk is opened,
// and with a power cut behind the death: then only what was flushed is sure, and nothing foreign
// ever shows.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { FLAG_FUA, OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Bench, MIB, sampleRecord } from "./bench-fixture.ts";
import { planDisk } from "./disk-plan.ts";
import type { DiskPlan } from "./disk-plan.ts";
import { KEEPSAKE_BYTES_MIN } from "./keepsake.ts";
import { BLOCK, DISK_BYTES, Life, SECTOR, SLICE_BYTES, flush } from "./life-fixture.ts";
import { trim, write, zero } from "./life-fixture.ts";
import type { Series } from "./life-fixture.ts";

/** Another process opens the disk, and dies after `calls` answers. */
function dieWhileOpening(bench: Bench, calls: number): void {
  bench.beginAgain();
  for (let call = 0; call < calls && bench.disk.step(); call++);
}

function eachDeath(series: Series, order = 0): number {
  const whole = new Life();
  const calls = whole.run(series, Number.POSITIVE_INFINITY, order);
  for (let at = 0; at <= calls; at++) {
    for (const share of [0, 0.5, 1]) {
      const prng = new Prng(1 + at);
      const life = new Life();
      life.run(series, at, order);
      life.bench.disk.endCalls(share, prng);
      expect(life.bench.restart()).not.toBeNull();
      life.look({ powerCut: false });
      // It goes on as it is: dead again before anything else was flushed.
      expect(life.bench.restart()).not.toBeNull();
      life.look({ powerCut: false });
    }
    // Dead again and again while the next run opens the disk.
    const again = new Life();
    again.run(series, at, order);
    again.bench.disk.endCalls(0.5, new Prng(at));
    for (const opening of [3, 9, 14, 1, 17, 5]) dieWhileOpening(again.bench, opening);
    expect(again.bench.restart()).not.toBeNull();
    again.look({ powerCut: false });
    // The machine's power goes after the process died: before, while and after it is opened.
    for (const opening of [0, 12, 40]) {
      const cut = new Life();
      cut.run(series, at, order);
      cut.bench.disk.endCalls(0.5, new Prng(at));
      if (opening > 0) dieWhileOpening(cut.bench, opening);
      cut.bench.keepsake?.fill(0);
      expect(cut.bench.again(cut.bench.disk.powerCut(new Prng(at + opening)))).not.toBeNull();
      cut.look({ powerCut: true });
    }
  }
  return calls;
}

setDefaultTimeout(60_000);

describe("the process dies at every point of", () => {
  test("first writes, not flushed → there", () => {
    const calls = eachDeath([
      [write(0, 2 * BLOCK, 1), write(64 * BLOCK, BLOCK, 2)],
      [write(4 * MIB, BLOCK, 3), write(MIB, 3 * SECTOR, 4)],
    ]);
    expect(calls).toBeGreaterThan(3);
  });

  test("a first write across extents and regions → there", () => {
    eachDeath([[write(MIB - 4 * BLOCK, 6 * BLOCK, 1)], [write(4 * MIB - SECTOR, 2 * BLOCK, 2)]]);
  });

  test("parts of a block, one after the other → all there, no mismatch", () => {
    eachDeath([
      [write(SECTOR, SECTOR, 1)],
      [write(3 * SECTOR, 2 * SECTOR, 2)],
      [write(SECTOR, 3 * SECTOR, 3)],
      [write(BLOCK - SECTOR, BLOCK, 4)],
    ]);
  });

  test("overwrites of what was not flushed → the newest acked", () => {
    eachDeath([
      [write(0, 2 * BLOCK, 1)],
      [write(0, BLOCK, 2), write(64 * BLOCK, BLOCK, 3)],
      [write(0, 2 * BLOCK, 4)],
    ]);
  });

  test("overwrites of what was flushed → the newest acked", () => {
    eachDeath([
      [write(0, 4 * BLOCK, 1, FLAG_FUA)],
      [write(BLOCK, BLOCK, 2), write(2 * BLOCK + SECTOR, SECTOR, 3)],
      [write(BLOCK, SECTOR, 4)],
    ]);
  });

  test("a trim of a part, a zeroing that keeps its space → they stay zero (H9)", () => {
    eachDeath([
      [write(0, 8 * BLOCK, 1, FLAG_FUA)],
      [trim(BLOCK, 2 * BLOCK), zero(4 * BLOCK, BLOCK)],
      [trim(6 * BLOCK + SECTOR, BLOCK)],
    ]);
  });

  test("a trim of whole extents, then writes there → zero or the new, never the old", () => {
    eachDeath([
      [write(0, 2 * BLOCK, 1), write(MIB, BLOCK, 1)],
      [flush],
      [trim(0, 2 * MIB)],
      [write(BLOCK, BLOCK, 2), write(2 * MIB, BLOCK, 3)],
      [write(MIB, BLOCK, 4)],
    ]);
  });

  test("flushes with writes meanwhile → nothing acked is taken back", () => {
    eachDeath([
      [write(0, BLOCK, 1)],
      [flush, write(64 * BLOCK, BLOCK, 2)],
      [write(BLOCK, BLOCK, 3), flush],
      [trim(0, BLOCK)],
      [flush, write(2 * BLOCK, BLOCK, 4)],
      [write(0, BLOCK, 5)],
    ]);
  });

  for (let order = 1; order <= 2; order++) {
    test(`much at once, answered in another order (${order}) → everything acked is there`, () => {
      eachDeath(
        [
          [write(0, BLOCK, 1), write(2 * BLOCK, BLOCK, 2), write(MIB, BLOCK, 3), flush],
          [write(2 * MIB, BLOCK, 4), trim(2 * BLOCK, BLOCK), write(BLOCK, SECTOR, 5), flush],
          [write(0, BLOCK, 6), trim(MIB, MIB), flush, write(5 * MIB, BLOCK, 7)],
          [write(MIB, BLOCK, 8), write(2 * BLOCK, BLOCK, 9)],
        ],
        order,
      );
    });
  }

  test("more under way than a keepsake has room for → what was acked is there all the same", () => {
    const count = 900;
    const small = KEEPSAKE_BYTES_MIN / 2;
    let acked = 0;
    for (const calls of [0, 200, 650, 700, 850, 899, 900, 901, 903, 906, 2000]) {
      const life = new Life(small);
      const { bench } = life;
      bench.disk.order = new Prng(calls);
      const flushes = bench.disk.flushes;
      // The stride spreads them over the blocks of four extents.
      const acts = Array.from({ length: count }, (_, index) => {
        return write(((index * 7) % 1024) * BLOCK, BLOCK, 1 + (index % 150));
      });
      const begun = new Set(acts);
      for (const act of acts) life.send(act);
      for (let call = 0; call < calls && bench.disk.step(); call++);
      for (const act of life.acked) begun.delete(act);
      acked = life.acked.length;
      expect(life.underWay).toEqual(begun);
      if (acked === count) expect(bench.disk.flushes).toBeGreaterThan(flushes);
      expect(bench.restart()?.bootIncarnation).toBe(1);
      for (const act of life.acked) life.lookAt(act.at ?? 0, { powerCut: false });
    }
    expect(acked).toBe(count);
    // Once there is room again, acks need no flush.
    const life = new Life(small);
    for (let index = 0; index < count; index++) life.send(write(index * BLOCK, BLOCK, 9));
    life.bench.disk.run();
    const { flushes } = life.bench.disk;
    life.send(write(0, BLOCK, 3));
    life.bench.disk.run();
    expect([life.underWay.size, life.bench.disk.flushes]).toEqual([0, flushes]);
    expect(life.bench.restart()?.bootIncarnation).toBe(1);
    life.lookAt(0, { powerCut: false });
  });

  for (const logSlots of [16, 64]) {
    test(`a checkpoint that took the last of ${logSlots} log slots → opens, all there`, () => {
      const plan = planDisk(DISK_BYTES, { logSlots, slicesMax: 4 }) as DiskPlan;
      const bench = new Bench(DISK_BYTES);
      bench.keepsake = new Uint8Array(KEEPSAKE_BYTES_MIN);
      bench.format({ logSlots, slicesMax: 4 });
      bench.open();
      bench.create(1, SLICE_BYTES);
      const { disk } = bench;
      let held: "body" | "header" = "body";
      disk.hold = (kind, offset) => {
        const isCheckpoint = offset >= plan.checkpointOffset && offset < plan.descriptorOffset;
        if (kind !== OperationKind.write || !isCheckpoint) return false;
        const isHeader = (offset - plan.checkpointOffset) % plan.checkpointBytes === 0;
        return isHeader === (held === "header");
      };
      const member = bench.member();
      let acked = 0;
      let epoch = 0;
      const fill = () => {
        for (let more = 0; more < 40 * logSlots; more++) {
          const mine = ++epoch;
          const ancestry = new Array<number>(64).fill(9);
          member.putRecord({ ...sampleRecord(mine), ancestry }, () => {
            acked = mine;
          });
          if (more % 30 === 0) disk.run();
        }
        disk.run();
      };
      // While its body waits the ring fills up but for the part that is kept for it; that goes too,
      // and then more is staged than there is room left.
      fill();
      held = "header";
      disk.run();
      fill();
      expect(acked).toBeGreaterThan(logSlots);
      expect(acked).toBeLessThan(epoch);
      disk.hold = null;
      expect([bench.restart() === null, bench.reason]).toEqual([false, ""]);
      expect(bench.member().record?.epoch).toBeGreaterThanOrEqual(acked);
    });
  }
});
