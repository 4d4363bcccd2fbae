// SPDX-License-Identifier: Apache-2.0
//
// Seeded random use of a store by a model that knows what every sector may hold: concurrent
// operations in any order of completion, records, activity, reuse of space, members dropped and
// made again, power cuts and kills at any moment, also while opening. Each sector names its slice,
// its place and its write, so that a torn, foreign, misplaced or resurrected one is seen at once
// (H3, H6, H8, H9).

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { EXTENT_BYTES, REGION_BYTES } from "#base/grains.ts";
import {
  FLAG_FUA,
  FLAG_NO_HOLE,
  FLAG_UNVERIFIED,
  Operation,
  OperationKind,
} from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { Bench, MIB, sampleRecord } from "./bench-fixture.ts";
import type { DiskStore } from "./disk-store.ts";
import { Image } from "./sim-disk-fixture.ts";

const SECTOR = 512;
const SLICE_BYTES = 8 * MIB;
const SECTORS = SLICE_BYTES / SECTOR;
const DISK_BYTES = 17 * MIB;
const REGIONS = SLICE_BYTES / REGION_BYTES;

/** Versions of sectors: every write, trim or zeroing has its own; an odd one reads zero. */
const reads = (version: number) => (version % 2 === 1 ? 0 : version);

/** What a sector may hold: after a power cut any of these, the first being what was flushed. */
class SectorStates {
  readonly now = new Uint32Array(SECTORS);
  readonly stable = new Uint32Array(SECTORS);
  readonly since = new Map<number, number[]>();

  set(sector: number, version: number): void {
    this.now[sector] = version;
    const list = this.since.get(sector);
    if (list === undefined) this.since.set(sector, [version]);
    else list.push(version);
  }
  candidates(sector: number): number[] {
    return [this.stable[sector] as number, ...(this.since.get(sector) ?? [])].map(reads);
  }
}

class ModelSlice {
  readonly slice: number;
  states = new SectorStates();
  busy: { from: number; end: number; writes: boolean }[] = [];
  /** Acked active, and not ordered inactive since. */
  active = new Set<number>();
  epochAcked = 0;
  epochSent = 0;
  constructor(slice: number) {
    this.slice = slice;
  }
  overlaps(from: number, end: number): boolean {
    return this.busy.some((range) => range.from < end && from < range.end);
  }
}

class Model {
  readonly prng: Prng;
  readonly bench: Bench;
  readonly slices = [1, 2, 3].map((slice) => new ModelSlice(slice));
  tag = 0;
  inFlight = 0;
  readonly seen = { writes: 0, noSpace: 0, mismatches: 0, cuts: 0, kills: 0, twice: 0, drops: 0 };

  constructor(seed: number) {
    this.prng = new Prng(seed);
    const alignBytes = this.prng.pick([512, 4096]);
    this.bench = new Bench(DISK_BYTES, { seed, alignBytes, image: new Image(0xa5) });
    this.bench.limits = { ...this.bench.limits, descriptorBytesMax: 4 * 1536 };
    this.bench.format({ logSlots: 16, slicesMax: 4 });
    this.bench.open();
    for (const { slice } of this.slices) this.bench.create(slice, SLICE_BYTES);
    this.bench.disk.order = this.prng.fork();
  }

  run(steps: number): void {
    for (let step = 0; step < steps; step++) {
      if (this.inFlight < 12 && this.prng.chance(0.3)) this.act();
      else if (!this.bench.disk.step()) this.act();
      if (this.prng.chance(0.004)) this.crash();
    }
    this.settle();
    this.crash();
  }

  act(): void {
    const kind = this.prng.below(100);
    const slice = this.prng.pick(this.slices);
    if (kind < 45) this.write(slice, OperationKind.write);
    else if (kind < 65) this.read(slice);
    else if (kind < 72) this.write(slice, OperationKind.trim);
    else if (kind < 75) this.write(slice, OperationKind.writeZeroes);
    else if (kind < 85) this.flush(slice);
    else if (kind < 90) this.deactivate(slice);
    else if (kind < 94) this.putRecord(slice);
    else if (kind < 95) this.drop(slice);
    else this.bench.store?.tick(0);
  }

  /** A range that overlaps nothing in flight; few places, so that they are used again and again. */
  range(slice: ModelSlice, largeShare = 0.1): { from: number; end: number } | null {
    const large = this.prng.chance(largeShare);
    const sectors = large ? 1 + this.prng.below(5000) : 1 + this.prng.below(40);
    const base = this.prng.below(8) * (EXTENT_BYTES / SECTOR);
    const grid = this.prng.chance(0.3);
    let from = base + this.prng.below(64);
    if (grid) from = Math.floor(from / 8) * 8;
    if (large && this.prng.chance(0.5)) from = base;
    let end = Math.min(SECTORS, from + sectors);
    if (grid) end = Math.max(from + 8, Math.floor(end / 8) * 8);
    return slice.overlaps(from, end) ? null : { from, end };
  }

  begin(slice: ModelSlice, range: { from: number; end: number; writes: boolean }): () => void {
    slice.busy.push(range);
    this.inFlight++;
    return () => {
      slice.busy.splice(slice.busy.indexOf(range), 1);
      this.inFlight--;
    };
  }

  submit(
    slice: ModelSlice,
    fields: Partial<Operation>,
    ended: (operation: Operation) => void,
  ): void {
    const operation = Object.assign(new Operation(), fields);
    operation.epoch = Math.max(1, slice.epochAcked);
    const { bench } = this;
    operation.done = (done) => {
      // What an earlier life answers counts for nothing.
      if (this.bench.store === null || bench.memory !== this.bench.memory) return;
      ended(done);
    };
    bench.member(slice.slice).submit(operation);
  }

  write(slice: ModelSlice, kind: OperationKind): void {
    // Whole extents are trimmed often, so that space changes hands.
    const range = this.range(slice, kind === OperationKind.write ? 0.1 : 0.6);
    if (range === null) return;
    const { from, end } = range;
    const region = Math.floor((from * SECTOR) / REGION_BYTES);
    const last = Math.floor((end * SECTOR - 1) / REGION_BYTES);
    for (let at = region; at <= last; at++) {
      if (!slice.active.has(at)) return this.activate(slice, at);
    }
    this.tag += 2;
    const version = kind === OperationKind.write ? this.tag : this.tag + 1;
    const shift = this.prng.pick([0, 0, 512, 1536]);
    const lengthBytes = (end - from) * SECTOR;
    const buffer = this.bench.memory.allocate(lengthBytes + 4096);
    if (buffer < 0) return;
    const bufferOffset = buffer + shift;
    for (let sector = from; sector < end; sector++) {
      fill(this.bench, bufferOffset + (sector - from) * SECTOR, [slice.slice, sector, version]);
    }
    const release = this.begin(slice, { from, end, writes: true });
    const { states } = slice;
    const before = states.now.slice(from, end);
    for (let sector = from; sector < end; sector++) states.set(sector, version);
    let flags = this.prng.chance(0.15) ? FLAG_FUA : 0;
    if (kind === OperationKind.writeZeroes && this.prng.chance(0.6)) flags |= FLAG_NO_HOLE;
    const fields = { kind, offsetBytes: from * SECTOR, lengthBytes, bufferOffset, flags };
    this.submit(slice, fields, ({ status }) => {
      release();
      this.bench.memory.release(buffer);
      if (status === Status.noSpace) {
        this.seen.noSpace++;
        states.now.set(before, from);
        for (let sector = from; sector < end; sector++) {
          const list = states.since.get(sector) as number[];
          list.splice(list.indexOf(version), 1);
          if (list.length === 0) states.since.delete(sector);
        }
        return;
      }
      expect(status).toBe(Status.ok);
      this.seen.writes++;
      if ((flags & FLAG_FUA) !== 0) this.madeStable(slice, from, end, states.now.slice(from, end));
    });
  }

  madeStable(slice: ModelSlice, from: number, end: number, values: Uint32Array): void {
    const { stable, since } = slice.states;
    for (let sector = from; sector < end; sector++) {
      const value = values[sector - from] as number;
      const list = since.get(sector);
      if (list === undefined) continue;
      stable[sector] = value;
      const rest = list.slice(list.indexOf(value) + 1);
      if (rest.length === 0) since.delete(sector);
      else since.set(sector, rest);
    }
  }

  flush(slice: ModelSlice): void {
    // What was acked before it was sent: of every slice, for a flush covers the disk.
    const covered = this.slices.map((each) => {
      const acked = new Map<number, number>();
      for (const sector of each.states.since.keys()) {
        const pending = each.busy.some(
          (range) => range.writes && range.from <= sector && sector < range.end,
        );
        if (!pending) acked.set(sector, each.states.now[sector] as number);
      }
      return { states: each.states, acked };
    });
    this.inFlight++;
    this.submit(slice, { kind: OperationKind.flush }, ({ status }) => {
      this.inFlight--;
      expect(status).toBe(Status.ok);
      for (const [index, { states, acked }] of covered.entries()) {
        const each = this.slices[index] as ModelSlice;
        if (each.states !== states) continue;
        for (const [sector, value] of acked) {
          this.madeStable(each, sector, sector + 1, new Uint32Array([value]));
        }
      }
    });
  }

  read(slice: ModelSlice): void {
    const range = this.range(slice);
    if (range === null) return;
    const { from, end } = range;
    const lengthBytes = (end - from) * SECTOR;
    const buffer = this.bench.memory.allocate(lengthBytes + 4096);
    if (buffer < 0) return;
    const bufferOffset = buffer + this.prng.pick([0, 512, 3584]);
    const release = this.begin(slice, { from, end, writes: false });
    const fields = {
      kind: OperationKind.read,
      offsetBytes: from * SECTOR,
      lengthBytes,
      bufferOffset,
    };
    this.submit(slice, fields, ({ status }) => {
      release();
      expect(status).toBe(Status.ok);
      for (let sector = from; sector < end; sector++) {
        const tag = tagAt(this.bench, bufferOffset + (sector - from) * SECTOR, slice, sector);
        expect(tag).toBe(reads(slice.states.now[sector] as number));
      }
      this.bench.memory.release(buffer);
    });
  }

  activate(slice: ModelSlice, region: number): void {
    const { bench } = this;
    this.inFlight++;
    bench.member(slice.slice).activate([region], (status) => {
      if (bench.memory !== this.bench.memory) return;
      this.inFlight--;
      expect(status).toBe(Status.ok);
      slice.active.add(region);
    });
  }

  /** As a head does: only where everything is done and flushed. */
  deactivate(slice: ModelSlice): void {
    for (const region of slice.active) {
      const from = (region * REGION_BYTES) / SECTOR;
      const end = from + REGION_BYTES / SECTOR;
      if (slice.overlaps(from, end)) continue;
      let unflushed = false;
      for (const sector of slice.states.since.keys()) {
        if (sector >= from && sector < end) unflushed = true;
      }
      if (unflushed) continue;
      this.bench.member(slice.slice).deactivate([region]);
      slice.active.delete(region);
    }
  }

  putRecord(slice: ModelSlice): void {
    const epoch = ++slice.epochSent;
    const { bench } = this;
    this.inFlight++;
    const record = { ...sampleRecord(epoch), slice: slice.slice };
    bench.member(slice.slice).putRecord(record, (status) => {
      if (bench.memory !== this.bench.memory) return;
      this.inFlight--;
      expect(status).toBe(Status.ok);
      slice.epochAcked = Math.max(slice.epochAcked, epoch);
      for (const region of slice.active) {
        const first = (region * REGION_BYTES) / EXTENT_BYTES;
        for (const { extent, stamp } of bench.member(slice.slice).mapFrom(first, 4)) {
          if (extent < first + 4) expect(stamp).toBeGreaterThanOrEqual(epoch);
        }
      }
    });
  }

  /** Drops the member and makes it again; nothing else runs meanwhile. */
  drop(slice: ModelSlice): void {
    if (this.inFlight > 0 || this.prng.chance(0.7)) return;
    const member = this.bench.member(slice.slice);
    expect(this.bench.wait((done) => member.drop(done))).toBe(Status.ok);
    expect(this.bench.create(slice.slice, SLICE_BYTES)).toBe(Status.ok);
    this.seen.drops++;
    slice.states = new SectorStates();
    slice.active.clear();
    slice.epochAcked = 0;
    slice.epochSent = 0;
  }

  /** Ends everything in flight. */
  settle(): void {
    this.bench.disk.run();
    expect(this.inFlight).toBe(0);
    this.bench.store?.tick(0);
    this.bench.disk.run();
  }

  crash(): void {
    const { bench, prng } = this;
    const cut = prng.chance(0.7);
    this.seen[cut ? "cuts" : "kills"]++;
    bench.store = null;
    this.inFlight = 0;
    for (const slice of this.slices) slice.busy = [];
    const store = cut ? this.afterPowerCut() : bench.restart();
    if (store === null) throw new Error(`not opened: ${bench.reason}`);
    bench.disk.order = prng.fork();
    for (const slice of this.slices) this.look(slice);
    const { extents, free } = store.totals;
    let mapped = 0;
    for (const { slice } of this.slices) mapped += bench.member(slice).mapFrom(0, 99).length;
    expect(free + mapped).toBe(extents);
  }

  /** Sometimes the power fails again while the disk is opened. */
  afterPowerCut(): DiskStore | null {
    const { bench, prng } = this;
    let image = bench.disk.powerCut(prng);
    while (prng.chance(0.3)) {
      const half = new Bench(DISK_BYTES, { image, alignBytes: bench.disk.alignBytes });
      half.begin();
      for (let step = prng.below(60); step > 0; step--) half.disk.step();
      image = half.disk.powerCut(prng);
      this.seen.twice++;
    }
    return bench.again(image);
  }

  /** What a slice finds after a crash, and R9's choice where a block does not match. */
  look(slice: ModelSlice): void {
    const member = this.bench.member(slice.slice);
    const epoch = member.record?.epoch ?? 0;
    expect(epoch).toBeGreaterThanOrEqual(slice.epochAcked);
    expect(epoch).toBeLessThanOrEqual(slice.epochSent);
    slice.epochAcked = epoch;
    slice.epochSent = epoch;
    for (const region of slice.active) expect(member.isActive(region)).toBe(true);
    const step = 65536;
    for (let at = 0; at < SLICE_BYTES; at += step) {
      const whole = this.bench.read(member, at, step);
      if (whole.status === Status.ok) this.adopt(slice, at, whole.bytes);
      else this.recover(slice, at, step);
    }
    this.bench.flush(member);
    for (let region = 0; region < REGIONS; region++) {
      if (member.isActive(region)) slice.active.add(region);
    }
    slice.states.since.clear();
  }

  recover(slice: ModelSlice, from: number, length: number): void {
    const member = this.bench.member(slice.slice);
    for (let at = from; at < from + length; at += 4096) {
      let found = this.bench.read(member, at, 4096);
      if (found.status !== Status.ok) {
        expect(found.status).toBe(Status.checksumMismatch);
        expect(found.fault).toBe(at);
        expect(member.isActive(Math.floor(at / REGION_BYTES))).toBe(true);
        found = this.bench.read(member, at, 4096, { flags: FLAG_UNVERIFIED });
        expect(found.status).toBe(Status.ok);
        this.seen.mismatches++;
        expect(this.bench.write(member, at, found.bytes, { flags: FLAG_FUA })).toBe(Status.ok);
      }
      this.adopt(slice, at, found.bytes);
    }
  }

  adopt(slice: ModelSlice, at: number, bytes: Uint8Array): void {
    const { states } = slice;
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    for (let index = 0; index < bytes.length / SECTOR; index++) {
      const sector = at / SECTOR + index;
      const tag = decode(words, index * 128, slice, sector);
      const might = states.candidates(sector);
      if (!might.includes(tag)) {
        throw new Error(`slice ${slice.slice} sector ${sector}: ${tag}, may be ${might.join()}`);
      }
      states.now[sector] = tag;
      states.stable[sector] = tag;
    }
  }
}

function fill(bench: Bench, at: number, [slice, sector, tag]: [number, number, number]): void {
  const words = new Uint32Array(bench.memory.bytes.buffer, at, 128);
  words.fill(tag);
  words[0] = slice;
  words[1] = sector;
}

function tagAt(bench: Bench, at: number, slice: ModelSlice, sector: number): number {
  return decode(new Uint32Array(bench.memory.bytes.buffer, at, 128), 0, slice, sector);
}

/** The tag of a sector, 0 when it is zero; anything torn, foreign or misplaced throws. */
function decode(words: Uint32Array, at: number, slice: ModelSlice, sector: number): number {
  const tag = words[at + 2] as number;
  for (let index = 2; index < 128; index++) {
    if (words[at + index] !== tag) throw new Error(`slice ${slice.slice} sector ${sector} is torn`);
  }
  if (tag === 0 && words[at] === 0 && words[at + 1] === 0) return 0;
  if (words[at] !== slice.slice || words[at + 1] !== sector) {
    throw new Error(`slice ${slice.slice} sector ${sector} holds ${words[at]} ${words[at + 1]}`);
  }
  return tag;
}

const SEEDS = Number(process.env["CAIRN_STORE_SEEDS"] ?? 12);
const FIRST = Number(process.env["CAIRN_STORE_FIRST"] ?? 1);

setDefaultTimeout(60_000);

describe("a store used at random", () => {
  const seen: Record<string, number> = {};
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    test(`seed ${seed} → every read legal, nothing flushed lost`, () => {
      const model = new Model(seed);
      model.run(4000);
      for (const [what, count] of Object.entries(model.seen)) {
        seen[what] = (seen[what] ?? 0) + count;
      }
    });
  }

  test("the seeds together reached what they are for", () => {
    for (const what of ["writes", "noSpace", "mismatches", "cuts", "kills", "twice", "drops"]) {
      expect(`${what}: ${(seen[what] ?? 0) > 0}`).toBe(`${what}: true`);
    }
  });
});
