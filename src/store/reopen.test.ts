// SPDX-License-Identifier: Apache-2.0
//
// Opening again and again under faults, after something was acked as durable: power cuts while the
// disk is being opened, several in a row, and reads that fail while it is opened. What was acked is
// there in the end; in between it may be refused or damaged, never forgotten (H4, H5, H8, R0).

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { FLAG_FUA, OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { Bench, MIB, filled, sampleRecord } from "./bench-fixture.ts";
import { eachCrash } from "./crash-fixture.ts";
import { planDisk } from "./disk-plan.ts";
import type { DiskPlan } from "./disk-plan.ts";
import { LOG_SLOT_BYTES, PAGE_BYTES } from "./format.wire.ts";
import type { Image } from "./sim-disk-fixture.ts";

const SIZE = 16 * MIB;
const PLAN_OPTIONS = { logSlots: 16, slicesMax: 4 };
const PLAN = planDisk(SIZE, PLAN_OPTIONS) as DiskPlan;

/** Acked with FUA: where, and the byte it is full of. The second one only the newer slot knows. */
const ACKED = [
  [0, 1],
  [4096, 2],
  [4 * MIB, 3],
] as const;
/** Overwritten without an ack, in the extent of the first two. */
const UNACKED = 8192;

/** A disk with active regions and the acked writes in them; its record is the log's last word. */
function acked(): Bench {
  const bench = new Bench(SIZE);
  expect(bench.format(PLAN_OPTIONS)).toBe(Status.ok);
  expect(bench.open()).not.toBeNull();
  expect(bench.create(1, 8 * MIB)).toBe(Status.ok);
  const member = bench.member();
  expect(bench.activate(member, 0, 1)).toBe(Status.ok);
  for (const [at, value] of ACKED) {
    expect(bench.write(member, at, filled(4096, value), { flags: FLAG_FUA })).toBe(Status.ok);
  }
  expect(bench.put(member, sampleRecord(3))).toBe(Status.ok);
  return bench;
}

/** What must be so whenever the disk is open; with `all`, that nothing is damaged either. */
function nothingForgotten(bench: Bench, { all }: { all: boolean }): void {
  const member = bench.member();
  expect(member.record).toEqual(sampleRecord(3));
  expect(member.activeRegions()).toEqual([0, 1]);
  for (const [at, value] of ACKED) {
    const { status, bytes } = bench.read(member, at, 4096);
    if (status === Status.checksumMismatch && !all) continue;
    expect(status).toBe(Status.ok);
    if (bytes.some((byte) => byte !== value)) throw new Error(`${at} reads ${bytes[0]}`);
  }
}

/** Some of the states a power cut can leave while `image` is opened. */
function cutsWhileOpening(image: Image, prng: Prng, count: number): Image[] {
  const bench = new Bench(SIZE, { image });
  const base = bench.disk.startRecord();
  const incarnation = bench.open()?.incarnation;
  bench.disk.note("opened");
  nothingForgotten(bench, { all: true });
  const states: Image[] = [];
  eachCrash(
    base,
    bench.disk.record ?? [],
    (state) => {
      states.push(state.image);
    },
    2,
  );
  // R0: the last state is the one after opening.
  const last = new Bench(SIZE, { image: (states.at(-1) as Image).over() });
  expect(last.open()?.incarnation).toBe((incarnation as number) + 1);
  return Array.from({ length: count }, () => prng.pick(states).over());
}

setDefaultTimeout(60_000);

describe("opening again, after an FUA write was acked", () => {
  test("power cuts in a write behind it, then twice while opening → the acked bytes (H5)", () => {
    const prng = new Prng(11);
    const bench = acked();
    const base = bench.disk.startRecord();
    bench.write(bench.member(), UNACKED, filled(4096, 9), { flags: FLAG_FUA });
    bench.write(bench.member(), UNACKED, filled(4096, 8), { flags: FLAG_FUA });
    let ends = 0;
    eachCrash(
      base,
      bench.disk.record ?? [],
      ({ image }) => {
        for (const second of cutsWhileOpening(image, prng, 3)) {
          for (const third of cutsWhileOpening(second, prng, 2)) {
            const last = new Bench(SIZE, { image: third });
            expect(last.open()).not.toBeNull();
            nothingForgotten(last, { all: true });
            ends++;
          }
        }
      },
      2,
    );
    expect(ends).toBeGreaterThan(200);
  });

  test("any two pages unreadable → refused or damaged, and all there when read again (H8)", () => {
    const image = acked().disk.kill();
    const pages = [0, SIZE - PAGE_BYTES, PLAN.checkpointOffset];
    pages.push(PLAN.checkpointOffset + PLAN.checkpointBytes);
    for (let page = 0; page < 4; page++) pages.push(PLAN.descriptorOffset + page * PAGE_BYTES);
    for (let page = 0; page < (8 * LOG_SLOT_BYTES) / PAGE_BYTES; page++) {
      pages.push(PLAN.logOffset + page * PAGE_BYTES);
    }
    const seen = { refused: 0, damaged: 0 };
    for (const one of pages) {
      for (const two of pages) {
        const bench = new Bench(SIZE, { image: image.over() });
        bench.disk.failWhen = (kind, offset, length) =>
          kind === OperationKind.read &&
          [one, two].some((page) => page >= offset && page < offset + length);
        if (bench.open() === null) seen.refused++;
        else nothingForgotten(bench, { all: false });
        if ((bench.store?.damagedDescriptors ?? 0) > 0) seen.damaged++;
        const next = new Bench(SIZE, { image: bench.disk.powerCut(new Prng(one + two)) });
        expect(next.open()).not.toBeNull();
        nothingForgotten(next, { all: true });
      }
    }
    expect(Math.min(seen.refused, seen.damaged)).toBeGreaterThan(2);
  });

  test("reads failing at random and power cuts, over and over → all there in the end", () => {
    const prng = new Prng(5047);
    let opened = 0;
    let refused = 0;
    for (let round = 0; round < 300; round++) {
      let image = acked().disk.kill();
      const share = prng.pick([0.02, 0.2, 0.5]);
      for (let boot = 0; boot < 4; boot++) {
        const bench = new Bench(SIZE, { image });
        bench.disk.failWhen = (kind) => kind === OperationKind.read && prng.chance(share);
        if (bench.open() === null) refused++;
        else opened++;
        if (bench.store !== null) nothingForgotten(bench, { all: false });
        image = bench.disk.powerCut(prng);
      }
      const last = new Bench(SIZE, { image });
      expect(last.open()).not.toBeNull();
      nothingForgotten(last, { all: true });
    }
    expect(Math.min(opened, refused)).toBeGreaterThan(50);
  });

  test("reads failing for a while, a write meanwhile → nothing beside it is lost (H8)", () => {
    const descriptors = (kind: OperationKind, offset: number) =>
      kind === OperationKind.read &&
      offset >= PLAN.descriptorOffset &&
      offset < PLAN.descriptorOffset + 4 * PAGE_BYTES;
    for (const failing of [0, 1, 2]) {
      const bench = new Bench(SIZE, { image: acked().disk.kill() });
      // The pair, and slot A, slot B or both of the first extent.
      bench.disk.failWhen = (kind, offset, length) =>
        descriptors(kind, offset) &&
        (failing === 2 || length > PAGE_BYTES || offset === PLAN.descriptorOffset + failing * 4096);
      expect(bench.open()).not.toBeNull();
      const member = bench.member();
      expect(bench.write(member, UNACKED, filled(4096, 7))).toBe(Status.ok);
      // An overwrite of what was flushed, seen through one slot or none.
      expect(bench.write(member, 4096, filled(4096, 2))).toBe(Status.ok);
      bench.disk.failWhen = null;
      expect(bench.flush(member)).toBe(Status.ok);
      nothingForgotten(bench, { all: true });
      const next = new Bench(SIZE, { image: bench.disk.powerCut(new Prng(failing)) });
      expect(next.open()).not.toBeNull();
      nothingForgotten(next, { all: true });
      expect(next.read(next.member(), UNACKED, 4096).bytes).toEqual(filled(4096, 7));
      expect(next.read(next.member(), 12288, 4096)).toMatchObject({ status: Status.ok });
    }
  });

  test("reads failing for a while, nothing written → read right once the disk reads (H8)", () => {
    const bench = new Bench(SIZE, { image: acked().disk.kill() });
    bench.disk.failWhen = (kind, offset) =>
      kind === OperationKind.read && offset >= PLAN.descriptorOffset && offset < PLAN.dataOffset;
    expect(bench.open()).not.toBeNull();
    nothingForgotten(bench, { all: false });
    bench.disk.failWhen = null;
    nothingForgotten(bench, { all: true });
  });
});
