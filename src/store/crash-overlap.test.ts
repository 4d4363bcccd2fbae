// SPDX-License-Identifier: Apache-2.0
//
// Crash enumeration where two things overlap: a second operation begins after every number of the
// disk's answers to the first, and after every power cut from then on the state is a legal one.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Operation, OperationKind } from "#base/operation.ts";
import { FLAG_UNVERIFIED } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { Bench, MIB, filled } from "./bench-fixture.ts";
import { eachCrash } from "./crash-fixture.ts";
import type { CrashState } from "./crash-fixture.ts";
import { Image } from "./sim-disk-fixture.ts";

const FOREIGN = 0xa5;
/** Blocks whose checksums lie in different sectors of the descriptor, so that it can tear. */
const PLACES = [0, 100 * 4096, 50 * 4096, 230 * 4096] as const;

interface Overlap {
  before: (bench: Bench) => void;
  first: (bench: Bench, note: (what: string) => void) => void;
  second: (bench: Bench, note: (what: string) => void) => void;
  after: (bench: Bench, acked: Set<string>) => void;
  /** Answers of the disk to the first operation until it has ended, at most. */
  steps: number;
}

function overlapped(overlap: Overlap): void {
  for (let steps = 0; steps <= overlap.steps; steps++) {
    const bench = new Bench(16 * MIB, { image: new Image(FOREIGN) });
    expect(bench.format({ logSlots: 64, slicesMax: 4 })).toBe(Status.ok);
    expect(bench.open()).not.toBeNull();
    overlap.before(bench);
    bench.disk.run();
    const { disk } = bench;
    const base = disk.startRecord();
    overlap.first(bench, (what) => disk.note(what));
    for (let step = 0; step < steps; step++) disk.step();
    overlap.second(bench, (what) => disk.note(what));
    disk.run();
    const check = ({ image, notes }: CrashState) => {
      const crashed = new Bench(16 * MIB, { image });
      const store = crashed.open();
      if (store === null) throw new Error(`not opened: ${crashed.reason} (${steps})`);
      overlap.after(crashed, new Set(notes));
    };
    // Many runs: smaller windows than for one operation alone (crash.test.ts).
    eachCrash(base, disk.record ?? [], check, 4);
  }
}

function send(bench: Bench, fields: Partial<Operation>, note: () => void, slice = 1): void {
  const operation = Object.assign(new Operation(), fields);
  operation.epoch = 1;
  operation.done = ({ status }) => {
    expect(status).toBe(Status.ok);
    note();
  };
  bench.member(slice).submit(operation);
}

function sendWrite(
  bench: Bench,
  write: { at: number; length: number; value: number; slice?: number },
  note: () => void,
): void {
  const { at, length, value } = write;
  const bufferOffset = bench.memory.allocate(length);
  bench.memory.bytes.fill(value, bufferOffset, bufferOffset + length);
  const kind = OperationKind.write;
  send(bench, { kind, offsetBytes: at, lengthBytes: length, bufferOffset }, note, write.slice);
}

function among(bench: Bench, at: number, length: number, values: number[], slice = 1): void {
  for (const flags of [0, FLAG_UNVERIFIED]) {
    const { status, bytes } = bench.read(bench.member(slice), at, length, { flags });
    if (status === Status.checksumMismatch) continue;
    expect(status).toBe(Status.ok);
    for (const byte of bytes) if (!values.includes(byte)) expect(values).toContain(byte);
  }
}

setDefaultTimeout(60_000);

describe("a power cut at every point of", () => {
  test("a flush with a first write to the same extent meanwhile → never foreign bytes (H9)", () => {
    overlapped({
      steps: 7,
      before: (bench) => {
        bench.create(1, 8 * MIB);
        bench.activate(bench.member(), 0);
        bench.write(bench.member(), 0, filled(4096, 1));
      },
      first: (bench, note) => {
        send(bench, { kind: OperationKind.flush }, () => note("flushed"));
      },
      second: (bench) => {
        sendWrite(bench, { at: 4096, length: 4096, value: 2 }, () => {});
      },
      after: (bench, acked) => {
        const { status, bytes } = bench.read(bench.member(), 0, 4096);
        if (acked.has("flushed")) expect([status, bytes]).toEqual([Status.ok, filled(4096, 1)]);
        among(bench, 0, 4096, [0, 1]);
        among(bench, 4096, 4096, [0, 2]);
      },
    });
  });

  test("three flushes of first writes to one extent → none takes back the one before", () => {
    overlapped({
      steps: 9,
      before: (bench) => {
        bench.create(1, 8 * MIB);
        bench.activate(bench.member(), 0);
        bench.write(bench.member(), 0, filled(4096, 1));
        bench.flush(bench.member());
        bench.write(bench.member(), PLACES[1], filled(4096, 2));
        bench.flush(bench.member());
        bench.write(bench.member(), PLACES[2], filled(4096, 3));
      },
      first: (bench, note) => {
        send(bench, { kind: OperationKind.flush }, () => note("third"));
      },
      second: (bench, note) => {
        sendWrite(bench, { at: PLACES[3], length: 4096, value: 4 }, () => {
          send(bench, { kind: OperationKind.flush }, () => note("fourth"));
        });
      },
      after: (bench, acked) => {
        for (let index = 0; index < 4; index++) {
          const sure = index < 2 || (index === 2 ? acked.has("third") : acked.has("fourth"));
          const { status, bytes } = bench.read(bench.member(), PLACES[index] as number, 4096);
          if (sure) expect([status, bytes]).toEqual([Status.ok, filled(4096, index + 1)]);
          among(bench, PLACES[index] as number, 4096, [0, index + 1]);
        }
      },
    });
  });

  test("a trim during a commit, its space wanted → given out only when durable (H9)", () => {
    overlapped({
      steps: 4,
      before: (bench) => {
        bench.create(1, 16 * MIB);
        bench.create(2, 16 * MIB);
        bench.activate(bench.member(1), 0, 1, 2, 3);
        bench.activate(bench.member(2), 0, 1, 2, 3);
        bench.write(bench.member(1), 0, filled(4096, 1));
        const { free } = bench.store?.totals ?? { free: 0 };
        bench.io(bench.member(1), OperationKind.writeZeroes, MIB, free * MIB, { flags: 2 });
        bench.flush(bench.member(1));
        expect(bench.store?.totals.free).toBe(0);
      },
      first: (bench) => {
        bench.member(2).deactivate([3]);
        bench.store?.tick(0);
        send(bench, { kind: OperationKind.trim, offsetBytes: 0, lengthBytes: MIB }, () => {});
      },
      second: (bench, note) => {
        bench.disk.step();
        bench.disk.step();
        if ((bench.store?.totals.free ?? 0) > 0) {
          sendWrite(bench, { at: 0, length: 4096, value: 2, slice: 2 }, () => {
            send(bench, { kind: OperationKind.flush }, () => note("flushed"), 2);
          });
        }
      },
      after: (bench, acked) => {
        among(bench, 0, 4096, [0, 1], 1);
        among(bench, 0, 4096, [0, 2], 2);
        if (acked.has("flushed")) among(bench, 0, 4096, [2], 2);
      },
    });
  });

  test("a checkpoint with entries appended meanwhile → opens, and knows what was acked", () => {
    overlapped({
      steps: 10,
      before: (bench) => {
        bench.create(1, 8 * MIB);
        bench.activate(bench.member(), 0, 1);
        bench.wait((done) => bench.store?.checkpoint(done));
      },
      first: (bench) => bench.store?.checkpoint(() => {}),
      second: (bench, note) => {
        bench.member().deactivate([1]);
        bench.store?.createMember(2, 4 * MIB, () => note("created"));
      },
      after: (bench, acked) => {
        expect(bench.member().isActive(0)).toBe(true);
        if (acked.has("created")) expect(bench.store?.slices()).toEqual([1, 2]);
        if (acked.has("created")) expect(bench.member().isActive(1)).toBe(false);
      },
    });
  });

  test("a commit of several records, torn, twice → no record of the torn one counts", () => {
    const GIB = 1 << 30;
    const bench = new Bench(16 * MIB);
    bench.format({ logSlots: 64, slicesMax: 4 });
    bench.open();
    bench.create(1, 8 * GIB);
    const { disk } = bench;
    const base = disk.startRecord();
    const regions = [...new Array(2000).keys()];
    bench.member().activate(regions, () => disk.note("active"));
    disk.run();
    let torn = 0;
    eachCrash(base, disk.record ?? [], ({ image, notes }) => {
      const crashed = new Bench(16 * MIB, { image });
      expect(crashed.open()).not.toBeNull();
      const { length } = crashed.member().activeRegions();
      if (notes.includes("active")) return expect(length).toBe(2000);
      if (length > 0) return;
      torn++;
      // The incarnation took the place of the first record; those behind it lie there still.
      const again = new Bench(16 * MIB, { image: crashed.disk.kill() });
      expect([again.open() === null, again.reason]).toEqual([false, ""]);
      expect(again.member().activeRegions()).toEqual([]);
      expect(again.store?.incarnation).toBe(3);
    });
    expect(torn).toBeGreaterThan(100);
  });
});
