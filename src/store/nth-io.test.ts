// SPDX-License-Identifier: Apache-2.0
//
// Every operation of a store, with each of its I/Os failing in turn (nth-io-fixture.ts): R10, H3,
// H8, H9.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { FLAG_FUA, FLAG_LOST, FLAG_NO_HOLE, OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { Bench, MIB, filled, sampleRecord } from "./bench-fixture.ts";
import { LOG_SLOT_BYTES } from "./format.wire.ts";
import { KEEPSAKE_BYTES_MIN } from "./keepsake.ts";
import { BLOCK, DISK_BYTES, SECTOR, call, flush, trim, write, zero } from "./life-fixture.ts";
import type { Life } from "./life-fixture.ts";
import { eachFailure } from "./nth-io-fixture.ts";
import type { Case } from "./nth-io-fixture.ts";
import type { Doubt } from "./scrub-doubts.ts";
import { flip } from "./scrub-fixture.ts";

setDefaultTimeout(60_000);

const FUA = FLAG_FUA;

/** Where nothing else is looked at. */
const LOST_AT = MIB + 20 * BLOCK;

/** Two extents with data, all of it durable. */
const flushed = (life: Life) => {
  life.run([[write(0, 8 * BLOCK, 1), write(MIB, 2 * BLOCK, 2)], [flush]]);
};
/** And some that only the process knows. */
const unflushed = (life: Life) => {
  flushed(life);
  const written = [write(BLOCK, 2 * BLOCK, 3), write(2 * MIB, BLOCK, 4)];
  life.run([written, [trim(4 * BLOCK, BLOCK)]]);
};

const checkpoint = (name: string) => call(name, ({ store }, done) => store?.checkpoint(done));

/** Whichever slot has rotted, the other one is never written over before it is whole again. */
function scrubWith(slot: 0 | 1): Case {
  return {
    plan: { logSlots: 16 },
    before: (life) => {
      flushed(life);
      const { bench, plan } = life;
      for (let time = 0; time < 2; time++) bench.wait((done) => bench.store?.checkpoint(done));
      const checkpointAt = plan.checkpointOffset + slot * plan.checkpointBytes;
      for (const at of [0, checkpointAt, plan.dataOffset + 3 * BLOCK]) flip(bench, at + 99);
      life.rotten.add(3 * BLOCK);
    },
    act: scrubThrough,
  };
}

const CASES: Record<string, Case> = {
  "a disk's number": {
    act: [[call("number", ({ store }, done) => store?.setNumber(5, done))]],
    holds: ({ store }, acked) =>
      expect(acked.has("number") ? [5] : [0, 5]).toContain(store?.number ?? -1),
  },
  "a new member": {
    act: [[call("two", ({ store }, done) => store?.createMember(2, 4 * MIB, done))]],
    holds: ({ store }, acked) => {
      if (acked.has("two")) expect(store?.slices()).toEqual([1, 2]);
    },
  },
  "activation and deactivation": {
    before: (life) => void life.bench.create(2, 8 * MIB),
    act: [
      [call("active", (bench, done) => bench.member(2).activate([1], done))],
      [
        call("over", (bench, done) => {
          bench.member(2).deactivate([1]);
          bench.member(2).activate([0], done);
        }),
      ],
    ],
    holds: (bench, acked) => {
      const active = bench.member(2).activeRegions();
      if (acked.has("over")) expect(active).toEqual([0]);
      else if (acked.has("active")) expect(active.length).toBeGreaterThan(0);
    },
  },
  "a record": {
    before: (life) => {
      flushed(life);
      life.bench.put(life.bench.member(), sampleRecord(3));
    },
    act: [[call("four", (bench, done) => bench.member().putRecord(sampleRecord(4), done))]],
    holds: (bench, acked) => {
      const { record } = bench.member();
      expect(acked.has("four") ? [4] : [3, 4]).toContain(record?.epoch ?? 0);
      expect(record).toEqual(sampleRecord(record?.epoch ?? 0));
      // R2, R6: both extents lie in active regions.
      expect(bench.member().stampOf(0)).toBe(record?.epoch ?? 0);
    },
  },
  "first writes": {
    act: [
      [write(0, 2 * BLOCK, 1), write(64 * BLOCK, BLOCK, 2)],
      [write(4 * MIB - SECTOR, BLOCK, 3)],
    ],
  },
  "a first write with FUA": { act: [[write(BLOCK, 3 * SECTOR, 1, FUA)]] },
  "parts of blocks": {
    before: flushed,
    act: [[write(SECTOR, SECTOR, 3)], [write(BLOCK - SECTOR, 2 * SECTOR, 4, FUA)]],
  },
  "overwrites and a flush": {
    before: flushed,
    act: [[write(0, 2 * BLOCK, 3), write(MIB, BLOCK, 4)], [flush], [write(BLOCK, BLOCK, 5)]],
  },
  "a flush of much": { before: unflushed, act: [[flush]] },
  "zeroes, and zeroes that keep their space": {
    before: flushed,
    act: [
      [zero(BLOCK, BLOCK), zero(MIB, 2 * BLOCK, 0)],
      [zero(5 * BLOCK + SECTOR, BLOCK, FUA | FLAG_NO_HOLE)],
    ],
  },
  "a trim of whole extents, written again": {
    before: flushed,
    act: [[trim(0, 2 * MIB)], [flush], [write(BLOCK, BLOCK, 5), write(3 * MIB, BLOCK, 6)], [flush]],
  },
  "a trim of parts": {
    before: flushed,
    act: [[trim(BLOCK + SECTOR, 2 * BLOCK)], [flush], [write(2 * BLOCK, BLOCK, 5)]],
  },
  "a member dropped, its space used by another": {
    before: (life) => {
      flushed(life);
      life.bench.create(2, 4 * MIB);
      life.bench.activate(life.bench.member(2), 0);
      life.bench.write(life.bench.member(2), 0, filled(BLOCK, 9), { flags: FUA });
    },
    act: [
      [call("dropped", (bench, done) => bench.member(2).drop(done))],
      [write(2 * MIB, BLOCK, 5, FUA)],
    ],
    holds: (bench, acked) => {
      const slices = bench.store?.slices() ?? [];
      if (acked.has("dropped")) expect(slices).not.toContain(2);
      if (!slices.includes(2)) return;
      expect(bench.read(bench.member(2), 0, BLOCK).bytes).toEqual(filled(BLOCK, 9));
    },
  },
  "blocks marked as lost": {
    before: flushed,
    act: [
      [
        call("lost", (bench, done) => {
          const lose = { flags: FLAG_LOST | FUA, epoch: 1 };
          done(bench.io(bench.member(), OperationKind.write, LOST_AT, BLOCK, lose).status);
        }),
      ],
    ],
    holds: (bench, acked) => {
      const { status } = bench.read(bench.member(), LOST_AT, BLOCK);
      if (acked.has("lost")) expect(status).toBe(Status.checksumMismatch);
    },
  },
  reads: {
    before: (life) => {
      unflushed(life);
      life.bench.restart();
    },
    act: (life) => life.look({ powerCut: false, honest: true }),
  },
  "checkpoints, one after the other": {
    before: unflushed,
    act: [[checkpoint("first")], [checkpoint("second")], [checkpoint("third")]],
    // Each has the flush of all that was written before it.
    holds: (bench, acked, { honest }) => {
      const { status, bytes } = bench.read(bench.member(), BLOCK, BLOCK);
      if (acked.has("first") && (!honest || status === Status.ok)) {
        expect(bytes).toEqual(filled(BLOCK, 3));
      }
    },
  },
  "a ring of the log used up, and again": {
    plan: { logSlots: 16 },
    act: Array.from({ length: 14 }, (_, index) => index + 1).map((epoch) => [
      call(`${epoch}`, (bench, done) => bench.member().putRecord(sampleRecord(epoch), done)),
      ...(epoch % 7 === 0 ? [write(0, BLOCK, epoch, FUA)] : []),
    ]),
    holds: (bench, acked) => {
      const epoch = bench.member().record?.epoch ?? 0;
      expect(epoch).toBeGreaterThanOrEqual(acked.size);
      expect(epoch).toBeLessThanOrEqual(acked.size + 1);
    },
  },
  "much at once": {
    before: unflushed,
    order: 3,
    act: [
      [
        write(0, BLOCK, 6),
        write(2 * MIB, BLOCK, 7, FUA),
        write(3 * MIB + SECTOR, BLOCK, 8),
        trim(MIB, MIB),
        flush,
        call("record", (bench, done) => bench.member().putRecord(sampleRecord(5), done)),
        call("two", ({ store }, done) => store?.createMember(2, 4 * MIB, done)),
        checkpoint("whole"),
      ],
    ],
    holds: (bench, acked) => {
      if (acked.has("two")) expect(bench.store?.slices()).toContain(2);
      if (acked.has("record")) expect(bench.member().record).toEqual(sampleRecord(5));
    },
  },
  "more than the keepsake has room for, and its halves turned": {
    keepsakeBytes: KEEPSAKE_BYTES_MIN / 32,
    act: Array.from({ length: 12 }, (_, index) => {
      const at = ((index * 3) % 8) * BLOCK;
      return [write(at, BLOCK, index + 1), write(64 * BLOCK + at, BLOCK, index + 1)];
    }),
  },
  closing: {
    before: unflushed,
    closes: true,
    act: [[call("closed", ({ store }, done) => store?.close(done))]],
    holds: (bench, acked, { powerCut }) => {
      if (!acked.has("closed") && powerCut) return;
      expect(bench.read(bench.member(), BLOCK, BLOCK).bytes).toEqual(filled(BLOCK, 3));
    },
  },
  "a scrub that finds rot in data and metadata, and its healing": scrubWith(0),
  "a scrub that finds rot in the other checkpoint": scrubWith(1),
  "opening after an orderly end": {
    opens: true,
    before: (life) => {
      unflushed(life);
      life.run([[call("closed", ({ store }, done) => store?.close(done))]]);
      life.run([]);
    },
  },
  "opening after the death of the process": { opens: true, before: unflushed },
  "opening after a power cut": {
    opens: true,
    powerCut: true,
    before: (life) => {
      unflushed(life);
      afterPowerCut(life);
    },
  },
  "opening with a rotten superblock, log record and checkpoint": {
    opens: true,
    before: (life) => {
      unflushed(life);
      const { bench, plan } = life;
      for (let time = 0; time < 2; time++) bench.wait((done) => bench.store?.checkpoint(done));
      bench.put(bench.member(), sampleRecord(2));
      const log = plan.logOffset + LOG_SLOT_BYTES;
      for (const at of [0, plan.checkpointOffset, log]) flip(bench, at + 99);
    },
    holds: (bench) => expect(bench.member().record).toEqual(sampleRecord(2)),
  },
  "opening with a log that is full": {
    opens: true,
    plan: { logSlots: 16 },
    before: (life) => {
      const { disk } = life.bench;
      // No checkpoint becomes whole.
      const { checkpointOffset: from, descriptorOffset: end } = life.plan;
      disk.hold = (kind, offset) => kind === OperationKind.write && offset >= from && offset < end;
      for (let epoch = 1; epoch <= 30; epoch++) {
        life.bench.member().putRecord(sampleRecord(epoch), () => {});
        disk.run();
      }
      disk.hold = null;
    },
    holds: (bench) => expect(bench.member().record?.epoch).toBeGreaterThan(8),
  },
};

describe("each I/O fails in turn:", () => {
  for (const [name, one] of Object.entries(CASES)) {
    test(name, () => {
      expect(eachFailure(one)).toBeGreaterThan(1);
    });
  }
});

test("formatting, each I/O failing in turn → failed, and formatted again it is whole", () => {
  for (const leaves of ["nothing", "half", "all"] as const) {
    for (let n = 1; ; n++) {
      const bench = new Bench(DISK_BYTES);
      bench.disk.failAt = n;
      bench.disk.failedWriteLeaves = leaves;
      const status = bench.format();
      if (status === Status.ok) {
        expect(n).toBe(7);
        break;
      }
      expect([status, bench.memory.usedBytes]).toEqual([Status.ioError, 0]);
      bench.disk.failAt = 0;
      // What it left is no store, or an empty one.
      if (bench.open() === null) expect(bench.reason).toContain("superblock");
      else expect(bench.store?.slices()).toEqual([]);
      const again = new Bench(DISK_BYTES, { image: bench.disk.kill(), seed: 9 });
      expect(again.format()).toBe(Status.ok);
      expect(again.open()?.incarnation).toBe(1);
    }
  }
});

/** As a unit does: in ticks, with a head that heals what is told. */
function scrubThrough(life: Life): void {
  const { bench } = life;
  const { store } = bench;
  if (store === null) return;
  const told: Doubt[] = [];
  store.scrub.listener = {
    doubted: (doubt) => void told.push(doubt),
    verified: (_slice, _extent, done) => done(),
    sliceVerified: (_slice, done) => done(),
    ended: () => {},
  };
  store.scrub.start({ urgent: true });
  const { scrub } = store;
  for (
    let tick = 1;
    tick < 400 && (scrub.report().scrub.count === 0 || scrub.doubted > 0);
    tick++
  ) {
    store.tick(tick * 2000);
    bench.disk.run();
    for (const { offsetBytes, lengthBytes } of told.splice(0)) heal(life, offsetBytes, lengthBytes);
    if (store.failed) return;
  }
  expect([scrub.report().scrub.count, scrub.doubted]).toEqual([1, 0]);
}

/** The blocks that are wrong, with the bytes that another member has. */
function heal({ bench }: Life, offsetBytes: number, lengthBytes: number): void {
  for (let at = offsetBytes; at < offsetBytes + lengthBytes; at += BLOCK) {
    if (bench.read(bench.member(), at, BLOCK).status === Status.ok) continue;
    const value = at < 8 * BLOCK ? 1 : 2;
    bench.write(bench.member(), at, filled(BLOCK, value), { flags: FLAG_FUA });
  }
}

/** The disk as a power cut leaves it; nobody has opened it yet. */
function afterPowerCut({ bench }: Life): void {
  bench.keepsake?.fill(0);
  bench.disk.powerCut(new Prng(5));
}
