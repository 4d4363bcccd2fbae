// SPDX-License-Identifier: Apache-2.0
//
// Deaths of the process at any moment, with a keepsake: every acked write, trim and zeroing is
// there afterwards, flushed or not, and what was under way is old or new, sector by sector (H6,
// H8). Power cuts in between take the keepsake with them.

import { expect, setDefaultTimeout, test } from "bun:test";
import { EXTENT_BYTES } from "#base/grains.ts";
import { FLAG_UNVERIFIED, Operation, OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { Bench, MIB } from "./bench-fixture.ts";
import { KEEPSAKE_BYTES_MIN } from "./keepsake.ts";
import { Image } from "./sim-disk-fixture.ts";

setDefaultTimeout(60_000);

const SECTOR = 512;
const SLICE_BYTES = 8 * MIB;
const SECTORS = SLICE_BYTES / SECTOR;

class Run {
  readonly prng: Prng;
  readonly bench: Bench;
  /** What each sector may hold; the last acked value alone unless something is under way. */
  readonly may: number[][] = Array.from({ length: SECTORS }, () => [0]);
  readonly busy = new Set<number>();
  tag = 0;
  acked = 0;
  kills = 0;

  constructor(seed: number) {
    this.prng = new Prng(seed);
    this.bench = new Bench(17 * MIB, { seed, image: new Image(0xa5) });
    this.bench.keepsake = new Uint8Array(KEEPSAKE_BYTES_MIN);
    this.bench.format({ logSlots: 16, slicesMax: 4 });
    this.bench.open();
    this.bench.create(1, SLICE_BYTES);
    this.activate();
    this.bench.disk.order = this.prng.fork();
  }

  activate(): void {
    const member = this.bench.member();
    expect(this.bench.wait((done) => member.activate([0, 1], done))).toBe(Status.ok);
  }

  change(): void {
    const { bench, prng } = this;
    const from = prng.below(6) * (EXTENT_BYTES / SECTOR) + prng.below(40);
    const long = prng.chance(0.1) ? EXTENT_BYTES / SECTOR : 1 + prng.below(20);
    const count = Math.min(long, SECTORS - from);
    const sectors = Array.from({ length: count }, (_, index) => from + index);
    // Whole blocks: two changes of one block are the slice's to order.
    const blocks = new Set(sectors.map((sector) => Math.floor(sector / 8)));
    if ([...blocks].some((block) => this.busy.has(block))) return;
    for (const block of blocks) this.busy.add(block);
    const writes = prng.chance(0.8);
    const operation = new Operation();
    operation.kind = writes ? OperationKind.write : OperationKind.trim;
    operation.offsetBytes = from * SECTOR;
    operation.lengthBytes = count * SECTOR;
    operation.epoch = 1;
    const value = writes ? ++this.tag : 0;
    if (writes) {
      operation.bufferOffset = bench.memory.allocate(count * SECTOR);
      const words = new Uint32Array(bench.memory.bytes.buffer);
      words.fill(value, operation.bufferOffset / 4, (operation.bufferOffset + count * SECTOR) / 4);
    }
    const { memory } = bench;
    for (const sector of sectors) (this.may[sector] as number[]).push(value);
    operation.done = ({ status }) => {
      for (const block of blocks) this.busy.delete(block);
      if (writes) memory.release(operation.bufferOffset);
      if (status === Status.noSpace) return;
      expect(status).toBe(Status.ok);
      this.acked++;
      for (const sector of sectors) this.may[sector] = [value];
    };
    bench.member().submit(operation);
  }

  kill(): void {
    this.kills++;
    const inFlight = new Set(this.busy);
    this.busy.clear();
    expect(this.bench.restart()).not.toBeNull();
    expect(this.bench.store?.bootIncarnation).toBe(1);
    this.activate();
    for (let block = 0; block < SECTORS / 8; block++) this.look(block, inFlight.has(block));
    this.bench.disk.order = this.prng.fork();
  }

  look(block: number, wasBusy: boolean): void {
    const { bench } = this;
    const isTouched = this.may
      .slice(block * 8, block * 8 + 8)
      .some((may) => may.length > 1 || may[0]);
    if (!isTouched) return;
    const buffer = bench.memory.allocate(4096);
    const read = (flags: number) =>
      bench.io(bench.member(), OperationKind.read, block * 4096, 4096, {
        flags,
        bufferOffset: buffer,
      });
    let { status } = read(0);
    // R9: a block that was being written is the slice's to accept.
    if (status === Status.checksumMismatch && wasBusy) ({ status } = read(FLAG_UNVERIFIED));
    expect(status).toBe(Status.ok);
    const words = new Uint32Array(bench.memory.bytes.buffer);
    for (let index = 0; index < 8; index++) {
      const value = words[(buffer + index * SECTOR) / 4] as number;
      const sector = block * 8 + index;
      expect(this.may[sector]).toContain(value);
      this.may[sector] = [value];
    }
    bench.memory.release(buffer);
  }

  go(steps: number): void {
    for (let step = 0; step < steps; step++) {
      if (this.busy.size < 30 && this.prng.chance(0.3)) this.change();
      else this.bench.disk.step();
      if (this.prng.chance(0.02)) this.flush();
      if (this.prng.chance(0.01)) this.kill();
    }
    this.kill();
  }

  flush(): void {
    const operation = new Operation();
    operation.kind = OperationKind.flush;
    operation.done = ({ status }) => expect(status).toBe(Status.ok);
    this.bench.member().submit(operation);
  }
}

test("25 seeds of writes, trims and deaths of the process → nothing acked is missing", () => {
  let acked = 0;
  let kills = 0;
  for (let seed = 1; seed <= 25; seed++) {
    const run = new Run(seed);
    run.go(1200);
    acked += run.acked;
    kills += run.kills;
  }
  expect(acked).toBeGreaterThan(2000);
  expect(kills).toBeGreaterThan(150);
});

test("a power cut takes the keepsake along → a new boot, and the disk opens", () => {
  const run = new Run(99);
  for (let step = 0; step < 400; step++) {
    if (run.prng.chance(0.4)) run.change();
    else run.bench.disk.step();
  }
  run.bench.keepsake?.fill(0);
  const store = run.bench.again(run.bench.disk.powerCut(run.prng));
  expect(store?.bootIncarnation).toBe(2);
  expect(store?.incarnation).toBe(2);
});

test("without a keepsake → every start counts as a loss of memory", () => {
  const run = new Run(7);
  run.bench.keepsake = null;
  expect(run.bench.restart()?.bootIncarnation).toBe(2);
  expect(run.bench.restart()?.bootIncarnation).toBe(3);
});
