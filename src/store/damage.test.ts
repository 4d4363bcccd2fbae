// SPDX-License-Identifier: Apache-2.0
//
// Rotten, foreign and misdirected bytes in every structure of a store: found, and never wrong data.
// One damaged copy loses nothing where there are two; where there is none the disk is refused, or
// the blocks are damaged and say so (R9, H8).

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Memory } from "#base/memory.ts";
import { FLAG_FUA, FLAG_UNVERIFIED } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { Bench, MIB, filled, sampleRecord } from "./bench-fixture.ts";
import { planDisk } from "./disk-plan.ts";
import type { DiskPlan } from "./disk-plan.ts";
import { DESCRIPTOR_PAIR_BYTES, LOG_SLOT_BYTES, PAGE_BYTES } from "./format.wire.ts";
import type { Image } from "./sim-disk-fixture.ts";
import { SimDisk } from "./sim-disk-fixture.ts";

const SIZE = 16 * MIB;
const PLAN_OPTIONS = { logSlots: 32, slicesMax: 4 };
const PLAN = planDisk(SIZE, PLAN_OPTIONS) as DiskPlan;

/** A disk with a record, an active region, an inactive one, data in both; not closed. */
function sample(): Image {
  const bench = new Bench(SIZE);
  bench.format(PLAN_OPTIONS);
  bench.open();
  bench.create(1, 8 * MIB);
  const member = bench.member();
  bench.put(member, sampleRecord(3));
  bench.activate(member, 0, 1);
  bench.write(member, 0, filled(4096, 1), { epoch: 3, flags: FLAG_FUA });
  bench.write(member, 50 * 4096, filled(8192, 4), { epoch: 3, flags: FLAG_FUA });
  bench.write(member, 4 * MIB, filled(4096, 2), { epoch: 3, flags: FLAG_FUA });
  member.deactivate([0]);
  bench.store?.tick(0);
  bench.disk.run();
  // Entries behind the deactivation, so that it is known to be durable.
  bench.put(member, sampleRecord(4));
  return bench.disk.kill();
}

function flipped(image: Image, offset: number, prng: Prng): Image {
  const over = image.over();
  const page = new Uint8Array(PAGE_BYTES);
  over.read(offset, page);
  page[prng.below(PAGE_BYTES)] = prng.below(256);
  const at = prng.below(200);
  page[at] = (page[at] as number) ^ (1 << prng.below(8));
  over.write(offset, page);
  return over;
}

/** Everything as it was written, or damaged and saying so; never anything else. */
function right(bench: Bench, whole: boolean): void {
  const member = bench.member();
  expect(member.record).toEqual(sampleRecord(4));
  expect(member.activeRegions()).toEqual([1]);
  expect(member.mapFrom(0, 9)).toEqual([
    { extent: 0, stamp: 3 },
    { extent: 4, stamp: 4 },
  ]);
  for (const [at, length, value] of [
    [0, 4096, 1],
    [50 * 4096, 8192, 4],
    [4 * MIB, 4096, 2],
    [8192, 4096, 0],
  ] as const) {
    const { status, bytes } = bench.read(member, at, length);
    if (whole) expect(status).toBe(Status.ok);
    if (status === Status.ok) expect(bytes).toEqual(filled(length, value));
    else expect(status).toBe(Status.checksumMismatch);
  }
}

function opened(image: Image): Bench {
  const bench = new Bench(SIZE, { image });
  bench.open();
  return bench;
}

setDefaultTimeout(60_000);

describe("damage in", () => {
  const prng = new Prng(77);

  test("either superblock → the other serves, and it is written again", () => {
    const image = sample();
    for (const offset of [0, SIZE - PAGE_BYTES]) {
      for (let round = 0; round < 40; round++) {
        const bench = opened(flipped(image, offset, prng));
        right(bench, true);
        const other = offset === 0 ? SIZE - PAGE_BYTES : 0;
        right(opened(flipped(bench.disk.kill(), other, prng)), true);
      }
    }
  });

  test("both superblocks → refused", () => {
    const bench = opened(flipped(flipped(sample(), 0, prng), SIZE - PAGE_BYTES, prng));
    expect(bench.store).toBeNull();
    expect(bench.reason).toContain("superblock");
    expect(bench.memory.usedBytes).toBe(0);
  });

  test("one twin of any log record → nothing lost", () => {
    const image = sample();
    for (let page = 0; page < 2 * 16; page++) {
      const bench = opened(flipped(image, PLAN.logOffset + page * PAGE_BYTES, prng));
      expect([bench.reason, bench.store === null]).toEqual(["", false]);
      right(bench, true);
    }
  });

  test("both twins of a log record → refused, unless nobody can know it was acked", () => {
    const image = sample();
    let refused = 0;
    for (let slot = 1; slot < 32; slot++) {
      const at = PLAN.logOffset + slot * LOG_SLOT_BYTES;
      const once = flipped(image, at, prng);
      const bench = opened(flipped(once, at + PAGE_BYTES, prng));
      if (bench.store === null) {
        refused++;
        expect(bench.reason).toContain("log");
        continue;
      }
      // The last record: as if its commit had never been. Behind it nothing was written.
      const record = bench.member().record;
      expect([sampleRecord(3), sampleRecord(4)]).toContainEqual(record as never);
    }
    expect(refused).toBeGreaterThan(5);
  });

  test("the newest checkpoint, header or body → the older one and the log serve", () => {
    const bench = opened(sample());
    for (let round = 0; round < 3; round++) {
      expect(bench.wait((done) => bench.store?.checkpoint(done))).toBe(Status.ok);
    }
    const image = bench.disk.kill();
    for (const slot of [0, 1]) {
      for (const page of [0, 1]) {
        const at = PLAN.checkpointOffset + slot * PLAN.checkpointBytes + page * PAGE_BYTES;
        for (let round = 0; round < 20; round++) right(opened(flipped(image, at, prng)), true);
      }
    }
    const both = [0, 1].reduce(
      (damaged, slot) =>
        flipped(damaged, PLAN.checkpointOffset + slot * PLAN.checkpointBytes, prng),
      image,
    );
    const refused = opened(both);
    expect([refused.store, refused.reason]).toEqual([null, "both checkpoints are damaged"]);
  });

  test("either slot of any descriptor → right data or a mismatch, never zero for it (H8)", () => {
    const image = sample();
    let mismatches = 0;
    for (let page = 0; page < 2 * 4; page++) {
      for (let round = 0; round < 20; round++) {
        const bench = opened(flipped(image, PLAN.descriptorOffset + page * PAGE_BYTES, prng));
        right(bench, false);
        if (bench.read(bench.member(), 8192, 4096).status !== Status.ok) mismatches++;
      }
    }
    expect(mismatches).toBeGreaterThan(0);
  });

  test("what only a lost slot knew → damaged, and stays so until written anew", () => {
    const image = sample();
    // Both slots of the first extent, whose region is inactive.
    let bench = opened(
      flipped(
        flipped(image, PLAN.descriptorOffset, prng),
        PLAN.descriptorOffset + PAGE_BYTES,
        prng,
      ),
    );
    const status = (flags = 0) => bench.read(bench.member(), 8192, 4096, { flags }).status;
    expect([status(), status(FLAG_UNVERIFIED)]).toEqual([
      Status.checksumMismatch,
      Status.mediumError,
    ]);
    bench.activate(bench.member(), 0);
    expect(bench.write(bench.member(), 0, filled(4096, 9), { flags: FLAG_FUA })).toBe(Status.ok);
    bench = opened(bench.disk.powerCut(prng));
    expect(bench.read(bench.member(), 0, 4096).bytes).toEqual(filled(4096, 9));
    expect([status(), status(FLAG_UNVERIFIED)]).toEqual([
      Status.checksumMismatch,
      Status.mediumError,
    ]);
    expect(bench.write(bench.member(), 8192, filled(4096, 7), { flags: FLAG_FUA })).toBe(Status.ok);
    bench = opened(bench.disk.powerCut(prng));
    expect(bench.read(bench.member(), 8192, 4096).bytes).toEqual(filled(4096, 7));
  });

  test("data → checksumMismatch", () => {
    const image = sample();
    for (let block = 0; block < 52; block++) {
      const at = PLAN.dataOffset + block * PAGE_BYTES;
      right(opened(flipped(image, at, prng)), false);
    }
  });

  test("descriptors written to each other's place (misdirected) → not believed", () => {
    const image = sample();
    const swapped = image.over();
    const [first, second] = [new Uint8Array(8192), new Uint8Array(8192)];
    image.read(PLAN.descriptorOffset, first);
    image.read(PLAN.descriptorOffset + DESCRIPTOR_PAIR_BYTES, second);
    swapped.write(PLAN.descriptorOffset, second);
    swapped.write(PLAN.descriptorOffset + DESCRIPTOR_PAIR_BYTES, first);
    const bench = opened(swapped);
    expect(bench.read(bench.member(), 0, 4096).status).toBe(Status.checksumMismatch);
  });

  test("formatted again with the same identity → nothing of the earlier life counts", () => {
    const bench = new Bench(SIZE, { image: sample(), seed: 9 });
    expect(bench.format(PLAN_OPTIONS)).toBe(Status.ok);
    expect(bench.open()?.slices()).toEqual([]);
    expect(bench.store?.incarnation).toBe(1);
  });

  test("any page of the metadata replaced by a page of another disk → never wrong data", () => {
    const other = new Bench(SIZE, { seed: 5 });
    other.format(PLAN_OPTIONS);
    other.open();
    other.create(1, 8 * MIB);
    other.activate(other.member(), 0);
    other.write(other.member(), 0, filled(4096, 0x66), { flags: FLAG_FUA });
    const foreign = other.disk.kill();
    const image = sample();
    const page = new Uint8Array(PAGE_BYTES);
    let pages = 0;
    for (const at of foreign.pages.keys()) {
      if (at * PAGE_BYTES >= PLAN.dataOffset) continue;
      foreign.read(at * PAGE_BYTES, page);
      const mixed = image.over();
      mixed.write(at * PAGE_BYTES, page);
      const bench = opened(mixed);
      pages++;
      if (bench.store !== null) right(bench, false);
    }
    expect(pages).toBeGreaterThan(10);
  });
});

describe("an area", () => {
  test("smaller than its store → refused; grown → opened", () => {
    const image = sample();
    const refused = new Bench(SIZE - PAGE_BYTES, { image: image.over() });
    expect(refused.open()).toBeNull();
    expect(refused.reason).toContain("smaller");
    const grown = new Bench(SIZE + 5 * MIB, { image: image.over() });
    expect(grown.open()).not.toBeNull();
    right(grown, true);
  });

  test("of 64 MiB to 64 TiB → formatted, opened, used at both ends", () => {
    for (const sizeBytes of [64 * MIB, 2 ** 40 + 512, 64 * 2 ** 40]) {
      const bench = new Bench(sizeBytes, { alignBytes: 4096 });
      expect(bench.format({})).toBe(Status.ok);
      expect(bench.open()).not.toBeNull();
      const extents = bench.store?.totals.extents ?? 0;
      expect(extents * MIB).toBeGreaterThan(sizeBytes * (sizeBytes > 2 ** 30 ? 0.99 : 0.9));
      expect(bench.create(1, 64 * 2 ** 30)).toBe(Status.ok);
      const member = bench.member();
      const last = 64 * 2 ** 30 - 4096;
      bench.activate(member, 0, 16383);
      expect(bench.write(member, 0, filled(4096, 1))).toBe(Status.ok);
      expect(bench.write(member, last, filled(4096, 2), { flags: FLAG_FUA })).toBe(Status.ok);
      expect(bench.wait((done) => bench.store?.close(done))).toBe(Status.ok);
      bench.again(bench.disk.powerCut(new Prng(1)));
      expect(bench.read(bench.member(), last, 4096).bytes).toEqual(filled(4096, 2));
    }
  }, 30_000);

  test("too small → refused", () => {
    const memory = new Memory(new ArrayBuffer(1 << 16));
    const bench = new Bench(MIB);
    expect(bench.format({}, new SimDisk(memory, MIB))).toBe(Status.invalid);
  });
});
