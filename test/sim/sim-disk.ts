// SPDX-License-Identifier: Apache-2.0
//
// A simulated disk with its volatile cache, as an Area.
//
// - A completed write is in the cache: reads see it, the death of the process (`kill`) leaves it,
//   and a power cut loses it unless a flush that was submitted after its completion has completed,
//   or it was written with FUA itself.
// - At a power cut each 512-byte sector of what was not flushed falls back by itself to any of its
//   unflushed values or the last flushed one, and writes under way are there in part. So
//   multi-sector writes tear; sectors do not (H3).
// - What is under way when the process dies is done, in part or not at all.
// - Writes under way at the same time complete in any order.
// - On demand: I/O errors, I/O that never ends, slowness, rotten bytes, writes that are lost or go
//   to another place.
// - Pulled out while a process has it, it fails what is under way and all that comes, and its cache
//   is lost.

import { assert } from "#base/assert.ts";
import type { Memory } from "#base/memory.ts";
import { FLAG_FUA, OperationKind } from "#base/operation.ts";
import type { Area, Operation } from "#base/operation.ts";
import type { Prng } from "#base/prng.ts";
import { SECTOR_BYTES } from "#base/grains.ts";
import { Status } from "#base/status.ts";
import { KEEPSAKE_BYTES_MIN } from "#store/keepsake.ts";
import type { Simulation } from "./simulation.ts";

const PAGE_BYTES = 4096;

/** What becomes of a write that is acked all the same. */
export type Lie = { kind: "lost" } | { kind: "misdirected"; offsetBytes: number };

/** What a fault does to one operation: null lets it be. */
export type DiskFault = "error" | "stuck" | null;

/** What an unflushed write replaced, in the order of completion. */
interface Undo {
  offset: number;
  old: Uint8Array;
}

export interface DiskSpeed {
  readMs: number;
  writeMs: number;
  flushMs: number;
}

export const SPEED_USUAL: DiskSpeed = { readMs: 0.2, writeMs: 0.2, flushMs: 1.5 };

export class SimDisk {
  readonly name: string;
  readonly sizeBytes: number;
  speed: DiskSpeed = SPEED_USUAL;
  slowFactor = 1;
  /** The machine's memory for this disk: outlives its process, goes with its power (H6). */
  keepsake = new Uint8Array(KEEPSAKE_BYTES_MIN);
  /** Told once, of the next write that is submitted: to do harm while one is under way. */
  onNextWrite: (() => void) | null = null;
  /** Asked for every operation as it is submitted. */
  fault: ((operation: Operation) => DiskFault) | null = null;
  /** Asked for every write as it is carried out: whether the disk lies about it. */
  lie: ((operation: Operation) => Lie | null) | null = null;
  /** Figures for "sometimes": what really happened here. */
  readonly counts = { lostSectors: 0, tornWrites: 0, errors: 0, stuck: 0, flushes: 0, writes: 0 };
  readonly #simulation: Simulation;
  readonly #prng: Prng;
  readonly #pages = new Map<number, Uint8Array>();
  #undo: Undo[] = [];
  /** Undo entries ever dropped or made: a flush drops those before its submission. */
  #completed = 0;
  #run: DiskRun | null = null;

  constructor(simulation: Simulation, name: string, sizeBytes: number) {
    this.#simulation = simulation;
    this.#prng = simulation.prng.fork();
    this.name = name;
    this.sizeBytes = sizeBytes;
  }

  /** A process opens the disk; what an earlier one still had under way must have been ended. */
  attach(memory: Memory, deliver: (act: () => void) => void): Area {
    assert(this.#run === null, "one process at a time has the disk");
    this.#run = new DiskRun(this, memory, deliver);
    return this.#run;
  }

  /** The process dies: the cache stays. */
  kill(): void {
    const run = this.#run;
    this.#run = null;
    if (run === null) return;
    for (const operation of run.end()) {
      if (operation.kind !== OperationKind.write || this.#prng.chance(0.4)) continue;
      const part = this.#prng.chance(0.5) ? 1 : 0.5;
      this.#applyPart(run.memory, operation, PAGE_BYTES, part);
    }
  }

  /** The power goes: what was not flushed falls back, sector by sector. */
  powerCut(): void {
    const run = this.#run;
    this.#run = null;
    for (const operation of run?.end() ?? []) {
      if (operation.kind !== OperationKind.write || run === null) continue;
      this.counts.tornWrites++;
      this.#applyPart(run.memory, operation, SECTOR_BYTES, this.#prng.pick([0, 0.3, 0.7]));
    }
    this.#fallBack(this.#prng.pick([0, 0, 0.5, 0.9, 1]));
    this.keepsake.fill(0);
  }

  /** Pulled out: whoever has it meets errors, and the next one what a power cut left. */
  pull(): void {
    const run = this.#run;
    this.#run = null;
    for (const operation of run?.pull() ?? []) {
      if (operation.kind !== OperationKind.write || run === null) continue;
      this.#applyPart(run.memory, operation, SECTOR_BYTES, this.#prng.pick([0, 0.3, 0.7]));
    }
    this.#fallBack(this.#prng.pick([0, 0.5, 1]));
    // Another one: whoever had it may still note something in its own.
    this.keepsake = new Uint8Array(KEEPSAKE_BYTES_MIN);
  }

  /** Flips a bit that was written before: true if there was one at the place. */
  rot(offset: number): boolean {
    const page = this.#pages.get(Math.floor(offset / PAGE_BYTES));
    if (page === undefined) return false;
    const at = offset % PAGE_BYTES;
    page[at] = (page[at] as number) ^ 0x10;
    return true;
  }

  /** Whether anything was ever written there. */
  holds(offset: number): boolean {
    return this.#pages.has(Math.floor(offset / PAGE_BYTES));
  }

  /** For the run: how long an operation takes now. */
  latencyMs(kind: OperationKind): number {
    const { readMs, writeMs, flushMs } = this.speed;
    const usual =
      kind === OperationKind.read ? readMs : kind === OperationKind.write ? writeMs : flushMs;
    const long = this.#prng.chance(0.02) ? 10 : 1;
    return usual * this.slowFactor * long * (0.5 + this.#prng.fraction());
  }

  writeSubmitted(): void {
    const { onNextWrite } = this;
    this.onNextWrite = null;
    onNextWrite?.();
  }

  get completed(): number {
    return this.#completed;
  }

  /** Performs what has taken its time. */
  perform(operation: Operation, memory: Memory, completedBefore: number): void {
    const { offsetBytes, lengthBytes, bufferOffset } = operation;
    const buffer = memory.bytes;
    switch (operation.kind) {
      case OperationKind.read:
        this.read(offsetBytes, buffer.subarray(bufferOffset, bufferOffset + lengthBytes));
        return;
      case OperationKind.write: {
        this.counts.writes++;
        const lie = this.lie?.(operation) ?? null;
        if (lie?.kind === "lost") return;
        const at = lie === null ? offsetBytes : lie.offsetBytes;
        const source = buffer.subarray(bufferOffset, bufferOffset + lengthBytes);
        if ((operation.flags & FLAG_FUA) !== 0) this.#writeStable(at, source);
        else this.#write(at, source);
        return;
      }
      default:
        this.counts.flushes++;
        // All that had completed when the flush was submitted; later ones stay volatile.
        this.#undo.splice(0, this.#undo.length - (this.#completed - completedBefore));
    }
  }

  /** What the cache holds now. */
  read(offset: number, target: Uint8Array): void {
    for (let done = 0; done < target.length;) {
      const at = offset + done;
      const inPage = at % PAGE_BYTES;
      const length = Math.min(PAGE_BYTES - inPage, target.length - done);
      const page = this.#pages.get(Math.floor(at / PAGE_BYTES));
      if (page === undefined) target.fill(0, done, done + length);
      else target.set(page.subarray(inPage, inPage + length), done);
      done += length;
    }
  }

  #write(offset: number, source: Uint8Array): void {
    const old = new Uint8Array(source.length);
    this.read(offset, old);
    this.#undo.push({ offset, old });
    this.#completed++;
    this.#put(offset, source);
  }

  /** It stays at a power cut: whatever was there before, a sector falls back to this at most. */
  #writeStable(offset: number, source: Uint8Array): void {
    for (const { offset: at, old } of this.#undo) {
      const from = Math.max(offset, at);
      const to = Math.min(offset + source.length, at + old.length);
      if (from < to) old.set(source.subarray(from - offset, to - offset), from - at);
    }
    this.#put(offset, source);
  }

  #put(offset: number, source: Uint8Array): void {
    for (let done = 0; done < source.length;) {
      const at = offset + done;
      const inPage = at % PAGE_BYTES;
      const length = Math.min(PAGE_BYTES - inPage, source.length - done);
      const number = Math.floor(at / PAGE_BYTES);
      let page = this.#pages.get(number);
      if (page === undefined) {
        page = new Uint8Array(PAGE_BYTES);
        this.#pages.set(number, page);
      }
      page.set(source.subarray(done, done + length), inPage);
      done += length;
    }
  }

  /** Applies about `share` of the grains of a write under way. */
  #applyPart(memory: Memory, operation: Operation, grain: number, share: number): void {
    for (let at = 0; at < operation.lengthBytes; at += grain) {
      if (!this.#prng.chance(share)) continue;
      const length = Math.min(grain, operation.lengthBytes - at);
      const from = operation.bufferOffset + at;
      this.#write(operation.offsetBytes + at, memory.bytes.subarray(from, from + length));
    }
  }

  /** Each sector keeps its newest value with probability `keep`, else falls back one, and so on. */
  #fallBack(keep: number): void {
    const kept = new Set<number>();
    for (let index = this.#undo.length - 1; index >= 0; index--) {
      const { offset, old } = this.#undo[index] as Undo;
      for (let at = 0; at < old.length; at += SECTOR_BYTES) {
        const sector = (offset + at) / SECTOR_BYTES;
        if (kept.has(sector)) continue;
        if (keep > 0 && this.#prng.chance(keep)) {
          kept.add(sector);
          continue;
        }
        this.counts.lostSectors++;
        this.#put(offset + at, old.subarray(at, at + SECTOR_BYTES));
      }
    }
    this.#undo = [];
  }

  after(delayMs: number, act: () => void): void {
    this.#simulation.after(delayMs, act);
  }
}

/** One process's hold on a disk. */
class DiskRun implements Area {
  readonly sizeBytes: number;
  readonly alignBytes = SECTOR_BYTES;
  readonly memory: Memory;
  readonly #disk: SimDisk;
  readonly #deliver: (act: () => void) => void;
  readonly #underWay = new Set<Operation>();
  #ended = false;
  #isOut = false;

  constructor(disk: SimDisk, memory: Memory, deliver: (act: () => void) => void) {
    this.#disk = disk;
    this.memory = memory;
    this.#deliver = deliver;
    this.sizeBytes = disk.sizeBytes;
  }

  submit(operation: Operation): void {
    assert(!this.#ended, "a dead process submits nothing");
    assert(!this.#underWay.has(operation), "an operation is submitted once at a time");
    const { kind, offsetBytes, lengthBytes, bufferOffset } = operation;
    if (kind !== OperationKind.flush) {
      assert(kind === OperationKind.read || kind === OperationKind.write, "a kind disks know");
      assert(offsetBytes % SECTOR_BYTES === 0, "an aligned offset");
      assert(lengthBytes % SECTOR_BYTES === 0 && lengthBytes > 0, "an aligned length");
      assert(bufferOffset >= 0 && bufferOffset % SECTOR_BYTES === 0, "an aligned buffer");
      assert(offsetBytes + lengthBytes <= this.sizeBytes, "within the disk");
    }
    if (this.#isOut) return this.#fail(operation);
    this.#underWay.add(operation);
    const fault = this.#disk.fault?.(operation) ?? null;
    if (fault === "stuck") {
      this.#disk.counts.stuck++;
      return;
    }
    if (kind === OperationKind.write) this.#disk.writeSubmitted();
    const completedBefore = this.#disk.completed;
    this.#disk.after(this.#disk.latencyMs(kind), () => {
      if (this.#ended || this.#isOut) return;
      if (fault === "error") this.#disk.counts.errors++;
      else this.#disk.perform(operation, this.memory, completedBefore);
      this.#underWay.delete(operation);
      this.#deliver(() => operation.complete(fault === "error" ? Status.ioError : Status.ok));
    });
  }

  #fail(operation: Operation): void {
    this.#disk.counts.errors++;
    this.#disk.after(0, () => {
      if (!this.#ended) this.#deliver(() => operation.complete(Status.ioError));
    });
  }

  /** The disk is pulled out; what was under way on it, and fails. */
  pull(): Operation[] {
    this.#isOut = true;
    const left = [...this.#underWay];
    this.#underWay.clear();
    for (const operation of left) this.#fail(operation);
    return left;
  }

  /** The process is gone; what it had under way. */
  end(): Operation[] {
    this.#ended = true;
    const left = [...this.#underWay];
    this.#underWay.clear();
    return left;
  }
}
