// SPDX-License-Identifier: Apache-2.0
//
// Crash enumeration: a power cut at every point of every operation that changes what the disk
// remembers. After each the disk opens, its state is the old or the new one, nothing acked is lost,
// no bytes of another owner are seen (H6, H9), and it works on.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { EXTENT_BYTES } from "#base/grains.ts";
import { FLAG_FUA, FLAG_UNVERIFIED, OperationKind } from "#base/operation.ts";
import type { MemberStore } from "#base/member-store.ts";
import { Status } from "#base/status.ts";
import { Bench, MIB, filled, sampleRecord } from "./bench-fixture.ts";
import { eachCrash } from "./crash-fixture.ts";
import { Image } from "./sim-disk-fixture.ts";

const SIZE = 16 * MIB;
/** What lay on the disk before it was ours: somebody's. */
const FOREIGN = 0xa5;

interface Scenario {
  /** Brings a formatted, opened disk to where the operation begins. */
  before?: (bench: Bench) => void;
  /** The operation; notes what was acked. */
  act: (bench: Bench, note: (what: string) => void) => void;
  /** What must hold after the crash. */
  after: (bench: Bench, acked: Set<string>) => void;
  logSlots?: number;
}

function formatted(logSlots = 16): Bench {
  const bench = new Bench(SIZE, { image: new Image(FOREIGN) });
  expect(bench.format({ logSlots, slicesMax: 4 })).toBe(Status.ok);
  expect(bench.open()).not.toBeNull();
  return bench;
}

function enumerate(scenario: Scenario): number {
  const bench = formatted(scenario.logSlots);
  scenario.before?.(bench);
  bench.disk.run();
  const { disk } = bench;
  const base = disk.startRecord();
  scenario.act(bench, (what) => disk.note(what));
  disk.run();
  return eachCrash(base, disk.record ?? [], ({ image, notes }) => {
    const crashed = new Bench(SIZE, { image });
    const store = crashed.open();
    if (store === null) throw new Error(`not opened: ${crashed.reason} after ${notes.join()}`);
    scenario.after(crashed, new Set(notes));
    sound(crashed);
  });
}

/**
 * What holds of every store at any time: space adds up, nothing foreign, nothing inactive is
 * damaged.
 */
function sound(bench: Bench): void {
  const { store } = bench;
  let mapped = 0;
  for (const slice of store?.slices() ?? []) {
    const member = bench.member(slice);
    for (const { extent } of member.mapFrom(0, 999)) {
      mapped++;
      const at = extent * EXTENT_BYTES;
      // The tests write only into the first and the last blocks of an extent.
      for (const part of [at, at + EXTENT_BYTES - 16384]) {
        const verified = bench.read(member, part, 16384);
        const damaged = verified.status !== Status.ok;
        if (damaged) expect(member.isActive(extent >> 2)).toBe(true);
        const raw = bench.read(member, part, 16384, { flags: FLAG_UNVERIFIED });
        const foreign =
          raw.bytes.includes(FOREIGN) || (!damaged && verified.bytes.includes(FOREIGN));
        if (foreign || raw.status !== Status.ok) throw new Error(`foreign bytes in ${extent}`);
      }
    }
  }
  const { extents, free } = store?.totals ?? { extents: 0, free: 0 };
  expect(free + mapped).toBe(extents);
}

/** Each sector, verified or not, holds one of the values. */
function sectorsAmong(bench: Bench, at: number, length: number, values: number[], slice = 1): void {
  for (const flags of [0, FLAG_UNVERIFIED]) {
    const { status, bytes } = bench.read(bench.member(slice), at, length, { flags });
    if (status === Status.checksumMismatch) continue;
    expect(status).toBe(Status.ok);
    for (let byte = 0; byte < length; byte++) {
      const value = bytes[byte] as number;
      // A sector is of one write, and of one of these (H3).
      const whole = value === bytes[byte - (byte % 512)];
      if (!whole || !values.includes(value)) throw new Error(`byte ${at + byte} is ${value}`);
    }
  }
}

function exactly(bench: Bench, at: number, length: number, value: number, slice = 1): void {
  const { status, bytes } = bench.read(bench.member(slice), at, length);
  expect(status).toBe(Status.ok);
  if (!bytes.every((byte) => byte === value)) expect(bytes).toEqual(filled(length, value));
}

function withMember(bench: Bench): MemberStore {
  expect(bench.create(1, 8 * MIB)).toBe(Status.ok);
  return bench.member();
}

// Thousands of openings each; a busy machine takes its time.
setDefaultTimeout(60_000);

describe("a power cut at every point of", () => {
  test("format → no store or a whole one", () => {
    const bench = new Bench(SIZE, { image: new Image(FOREIGN) });
    const base = bench.disk.startRecord();
    bench.format();
    bench.disk.note("formatted");
    let opened = 0;
    const states = eachCrash(base, bench.disk.record ?? [], ({ image, notes }) => {
      const crashed = new Bench(SIZE, { image });
      const store = crashed.open();
      if (notes.includes("formatted")) expect(store).not.toBeNull();
      if (store === null) return expect(crashed.reason).toContain("superblock");
      opened++;
      expect(crashed.create(1, 4 * MIB)).toBe(Status.ok);
    });
    expect(opened).toBeGreaterThan(5);
    expect(states).toBeGreaterThan(10);
  });

  test("opening → the incarnation rises, always (R0)", () => {
    const bench = formatted();
    let base = bench.disk.kill();
    for (let run = 2; run < 5; run++) {
      const next = new Bench(SIZE, { image: base.over() });
      const { disk } = next;
      disk.startRecord();
      expect(next.open()?.incarnation).toBe(run);
      disk.note("opened");
      eachCrash(base, disk.record ?? [], ({ image, notes }) => {
        const crashed = new Bench(SIZE, { image });
        const incarnation = crashed.open()?.incarnation ?? 0;
        expect(incarnation).toBeGreaterThan(notes.includes("opened") ? run : run - 1);
      });
      base = disk.kill();
    }
  });

  test("create → not there or empty", () => {
    enumerate({
      act: (bench, note) => {
        bench.create(1, 8 * MIB);
        note("created");
        bench.create(2, 4 * MIB);
        note("second");
      },
      after: (bench, acked) => {
        const slices = bench.store?.slices() ?? [];
        if (acked.has("created")) expect(slices).toContain(1);
        if (acked.has("second")) expect(slices).toContain(2);
        for (const slice of slices) expect(bench.member(slice).mapFrom(0, 9)).toEqual([]);
      },
    });
  });

  test("setNumber → 0 or the number", () => {
    enumerate({
      act: (bench, note) => {
        bench.wait((done) => bench.store?.setNumber(5, done));
        note("numbered");
      },
      after: (bench, acked) => {
        const among = acked.has("numbered") ? [5] : [0, 5];
        expect(among).toContain(bench.store?.number ?? -1);
      },
    });
  });

  test("activate, deactivate → active once acked (R6), inactive only after the order", () => {
    enumerate({
      before: (bench) => {
        withMember(bench);
      },
      act: (bench, note) => {
        bench.activate(bench.member(), 1);
        note("one");
        bench.activate(bench.member(), 0);
        note("both");
        note("order");
        bench.member().deactivate([1]);
        bench.store?.tick(0);
      },
      after: (bench, acked) => {
        const active = bench.member().activeRegions();
        if (acked.has("both")) expect(active).toContain(0);
        if (acked.has("one") && !acked.has("order")) expect(active).toContain(1);
      },
    });
  });

  test("a first write with FUA → zero or new per sector; new once acked", () => {
    const states = enumerate({
      before: (bench) => {
        bench.activate(withMember(bench), 0);
      },
      act: (bench, note) => {
        bench.write(bench.member(), 4096, filled(6144, 3), { flags: FLAG_FUA });
        note("acked");
      },
      after: (bench, acked) => {
        if (acked.has("acked")) exactly(bench, 4096, 6144, 3);
        else sectorsAmong(bench, 4096, 6144, [0, 3]);
        exactly(bench, 0, 4096, 0);
      },
    });
    expect(states).toBeGreaterThan(500);
  });

  test("overwrites, flushed → old or new per sector; new once acked", () => {
    enumerate({
      before: (bench) => {
        const member = withMember(bench);
        bench.activate(member, 0);
        bench.write(member, 0, filled(12288, 1), { flags: FLAG_FUA });
      },
      act: (bench, note) => {
        const member = bench.member();
        bench.write(member, 0, filled(2048, 2));
        bench.write(member, 4096, filled(4096, 2));
        bench.flush(member);
        note("first");
        bench.write(member, 4096, filled(4096, 3));
        bench.flush(member);
        note("second");
      },
      after: (bench, acked) => {
        if (acked.has("second")) exactly(bench, 4096, 4096, 3);
        else if (acked.has("first")) sectorsAmong(bench, 4096, 4096, [2, 3]);
        else sectorsAmong(bench, 4096, 4096, [1, 2]);
        if (acked.has("first")) exactly(bench, 0, 2048, 2);
        else sectorsAmong(bench, 0, 2048, [1, 2]);
        exactly(bench, 8192, 4096, 1);
      },
    });
  });

  test("write, flush, deactivate → an inactive region reads exactly what was flushed", () => {
    enumerate({
      before: (bench) => {
        bench.activate(withMember(bench), 0);
      },
      act: (bench, note) => {
        const member = bench.member();
        bench.write(member, 8192, filled(4096, 6));
        bench.flush(member);
        note("flushed");
        member.deactivate([0]);
        bench.store?.tick(0);
        bench.disk.run();
      },
      after: (bench, acked) => {
        if (acked.has("flushed")) exactly(bench, 8192, 4096, 6);
        else expect(bench.member().isActive(0)).toBe(true);
      },
    });
  });

  test("putRecord → old with old stamps, or new with new ones (R2, R6)", () => {
    enumerate({
      before: (bench) => {
        const member = withMember(bench);
        bench.wait((done) => bench.store?.setNumber(5, done));
        bench.put(member, sampleRecord(3));
        bench.activate(member, 0, 1);
        bench.write(member, 0, filled(512, 1), { epoch: 3 });
        bench.write(member, 4 * MIB, filled(512, 1), { epoch: 3, flags: FLAG_FUA });
        member.deactivate([1]);
        bench.store?.tick(0);
      },
      act: (bench, note) => {
        bench.put(bench.member(), sampleRecord(4));
        note("stored");
        bench.put(bench.member(), sampleRecord(8, { inSync: [{ disk: 6, incarnation: 3 }] }));
        note("again");
      },
      after: (bench, acked) => {
        const member = bench.member();
        const epoch = member.record?.epoch ?? 0;
        expect(acked.has("again") ? [8] : acked.has("stored") ? [4, 8] : [3, 4]).toContain(epoch);
        expect(member.stampOf(0)).toBe(epoch);
        expect(member.stampOf(4)).toBe(3);
        expect(member.syncedEpoch).toBe(Math.min(epoch, 4));
      },
    });
  });

  test("trim, then the space used by another slice → nobody sees the other's bytes (H9)", () => {
    const states = enumerate({
      before: (bench) => {
        const member = withMember(bench);
        bench.activate(member, 0);
        bench.write(member, 0, filled(8192, 1), { flags: FLAG_FUA });
        bench.write(member, MIB, filled(4096, 1), { flags: FLAG_FUA });
        // All space but these two extents is taken, so that they are used again.
        expect(bench.create(2, 16 * MIB)).toBe(Status.ok);
        bench.activate(bench.member(2), 0, 1, 2, 3);
        const { free } = bench.store?.totals ?? { free: 0 };
        const rest = bench.io(bench.member(2), OperationKind.writeZeroes, 0, free * MIB, {
          flags: 2,
        });
        expect(rest.status).toBe(Status.ok);
        bench.flush(member);
      },
      act: (bench, note) => {
        const { extents } = bench.store?.totals ?? { extents: 0 };
        bench.io(bench.member(), OperationKind.trim, 0, MIB);
        bench.flush(bench.member());
        note("trimmed");
        const other = bench.member(2);
        const at = (extents - 2) * MIB;
        expect(bench.write(other, at + 512, filled(1024, 9))).toBe(Status.ok);
        note("written");
        bench.flush(other);
        note("flushed");
      },
      after: (bench, acked) => {
        const { extents } = bench.store?.totals ?? { extents: 0 };
        const at = (extents - 2) * MIB;
        if (acked.has("trimmed")) exactly(bench, 0, 8192, 0);
        else sectorsAmong(bench, 0, 8192, [0, 1]);
        exactly(bench, MIB, 4096, 1);
        if (acked.has("flushed")) exactly(bench, at + 512, 1024, 9, 2);
        else sectorsAmong(bench, at, 8192, [0, 9], 2);
      },
    });
    expect(states).toBeGreaterThan(200);
  });

  test("partial trim, then written again → never the value from before the trim (H6)", () => {
    enumerate({
      before: (bench) => {
        const member = withMember(bench);
        bench.activate(member, 0);
        bench.write(member, 0, filled(8192, 1), { flags: FLAG_FUA });
      },
      act: (bench, note) => {
        const member = bench.member();
        bench.io(member, OperationKind.trim, 512, 8192 - 512);
        bench.flush(member);
        note("trimmed");
        bench.write(member, 4096, filled(4096, 2));
        bench.flush(member);
        note("written");
      },
      after: (bench, acked) => {
        if (acked.has("written")) exactly(bench, 4096, 4096, 2);
        else if (acked.has("trimmed")) sectorsAmong(bench, 4096, 4096, [0, 2]);
        else sectorsAmong(bench, 512, 7680, [0, 1]);
        sectorsAmong(bench, 0, 512, [1]);
      },
    });
  });

  test("checkpoint → nothing changes", () => {
    enumerate({
      before: (bench) => {
        const member = withMember(bench);
        bench.put(member, sampleRecord(3));
        bench.activate(member, 0, 1);
        bench.write(member, 0, filled(4096, 1), { epoch: 3 });
        bench.write(member, 5 * MIB, filled(4096, 2), { epoch: 3, flags: FLAG_FUA });
        member.deactivate([1]);
      },
      act: (bench) => {
        bench.wait((done) => bench.store?.checkpoint(done));
        bench.wait((done) => bench.store?.checkpoint(done));
        bench.wait((done) => bench.store?.checkpoint(done));
      },
      after: (bench) => {
        const member = bench.member();
        expect(member.record).toEqual(sampleRecord(3));
        expect(member.isActive(0)).toBe(true);
        expect(member.mapFrom(0, 9)).toEqual([
          { extent: 0, stamp: 3 },
          { extent: 5, stamp: 3 },
        ]);
        exactly(bench, 0, 4096, 1);
        exactly(bench, 5 * MIB, 4096, 2);
      },
    });
  });

  test("close → nothing flushed is lost, everything there once it is done", () => {
    enumerate({
      before: (bench) => {
        const member = withMember(bench);
        bench.activate(member, 0);
        bench.write(member, 0, filled(4096, 1), { flags: FLAG_FUA });
        bench.write(member, 4096, filled(4096, 2));
      },
      act: (bench, note) => {
        bench.wait((done) => bench.store?.close(done));
        note("closed");
      },
      after: (bench, acked) => {
        exactly(bench, 0, 4096, 1);
        if (acked.has("closed")) exactly(bench, 4096, 4096, 2);
        else sectorsAmong(bench, 4096, 4096, [0, 2]);
      },
    });
  });

  test("drop → there as it was, or gone with all its space", () => {
    enumerate({
      before: (bench) => {
        const member = withMember(bench);
        bench.activate(member, 0);
        bench.write(member, 0, filled(4096, 1), { flags: FLAG_FUA });
      },
      act: (bench, note) => {
        bench.wait((done) => bench.member().drop(done));
        note("dropped");
        bench.create(3, 4 * MIB);
        const member = bench.member(3);
        bench.activate(member, 0);
        bench.write(member, 0, filled(512, 4), { flags: FLAG_FUA });
        note("used");
      },
      after: (bench, acked) => {
        const slices = bench.store?.slices() ?? [];
        if (acked.has("dropped")) expect(slices).not.toContain(1);
        if (slices.includes(1)) exactly(bench, 0, 4096, 1);
        if (acked.has("used")) exactly(bench, 0, 512, 4, 3);
        else if (slices.includes(3)) sectorsAmong(bench, 0, 4096, [0, 4], 3);
      },
    });
  });
});
