// SPDX-License-Identifier: Apache-2.0
//
// One life of a disk under a series of acts, and what each of its sectors may hold afterwards: when
// the process died, when the power was cut, and when an act ended with an error (H3, H6, H8).

import { assert } from "#base/assert.ts";
import { NO_BUFFER } from "#base/memory.ts";
import {
  FLAG_FUA,
  FLAG_NO_HOLE,
  FLAG_UNVERIFIED,
  Operation,
  OperationKind,
} from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status, statusName } from "#base/status.ts";
import { Bench, MIB } from "./bench-fixture.ts";
import { planDisk } from "./disk-plan.ts";
import type { DiskPlan, PlanOptions } from "./disk-plan.ts";
import { KEEPSAKE_BYTES_MIN } from "./keepsake.ts";
import { Image } from "./sim-disk-fixture.ts";

export const SECTOR = 512;
export const BLOCK = 4096;
export const SLICE_BYTES = 8 * MIB;
export const DISK_BYTES = 16 * MIB;
/** What lay on the disk before it was ours. */
const FOREIGN = 0xa5;
/** Places a series may touch, each looked at after a crash. */
const PLACES = [0, 64 * BLOCK, MIB - 4 * BLOCK, MIB, 2 * MIB, 3 * MIB, 4 * MIB, 5 * MIB];
const PLACE_BYTES = 8 * BLOCK;

type Step = "write" | "zero" | "trim" | "flush" | "call";

export interface Act {
  what: Step;
  at?: number;
  length?: number;
  /** Any but 0 and FOREIGN. */
  value?: number;
  flags?: number;
  /** Of a call, which is no operation of the member: how it is known, and what it does. */
  name?: string;
  call?: (bench: Bench, done: (status: Status) => void) => void;
}

/** Acts of one wave are sent together; the next wave when all have ended. */
export type Series = readonly (readonly Act[])[];

export const write = (at: number, length: number, value: number, flags = 0): Act => ({
  what: "write",
  at,
  length,
  value,
  flags,
});
export const trim = (at: number, length: number): Act => ({ what: "trim", at, length, value: 0 });
export const zero = (at: number, length: number, flags = FLAG_NO_HOLE): Act => {
  return { what: "zero", at, length, value: 0, flags };
};
export const flush: Act = { what: "flush" };
export const call = (name: string, act: NonNullable<Act["call"]>): Act => {
  return { what: "call", name, call: act };
};

const KINDS = {
  write: OperationKind.write,
  zero: OperationKind.writeZeroes,
  trim: OperationKind.trim,
  flush: OperationKind.flush,
} as const;

/** How a life ended, as far as it decides what may be read. */
export interface Look {
  /** Unflushed values may have fallen back. */
  powerCut: boolean;
  /** The disk could not read something: blocks may say that they are damaged, never lie. */
  honest?: boolean;
}

/** One life of a disk under a series, and what its sectors may hold. */
export class Life {
  bench = new Bench(DISK_BYTES, { image: new Image(FOREIGN) });
  readonly plan: DiskPlan;
  /** Acts that have ended, in that order, and how. */
  readonly ended: { act: Act; status: Status }[] = [];
  readonly underWay = new Set<Act>();
  /** Acts acked before the sending of a flush that was acked; FUA writes. */
  readonly stable = new Set<Act>();
  /** Blocks whose bytes have rotted on the disk: damaged, or right. */
  readonly rotten = new Set<number>();
  /** The disk fails: acts may end with an error. */
  mayFail = false;

  constructor(keepsakeBytes = KEEPSAKE_BYTES_MIN, options: PlanOptions = {}) {
    this.bench.keepsake = new Uint8Array(keepsakeBytes);
    const plan = { logSlots: 64, slicesMax: 4, ...options };
    this.plan = planDisk(DISK_BYTES, plan) as DiskPlan;
    this.bench.format(plan);
    assert(this.bench.open() !== null, "it opens");
    this.bench.create(1, SLICE_BYTES);
    this.bench.activate(this.bench.member(), 0, 1);
    this.bench.disk.run();
  }

  /** Acts in the order in which they were acked. */
  get acked(): Act[] {
    return this.ended.filter(({ status }) => status === Status.ok).map(({ act }) => act);
  }

  /** Runs the series for at most `calls` answers of the disk; answers how many there were. */
  run(series: Series, calls = Number.POSITIVE_INFINITY, order = 0): number {
    const { disk } = this.bench;
    if (order > 0) disk.order = new Prng(order);
    let made = 0;
    for (const wave of series) {
      for (const act of wave) this.send(act);
      while (this.underWay.size > 0) {
        if (made === calls) return made;
        if (!disk.step()) throw new Error("an operation never ends");
        made++;
      }
    }
    return made;
  }

  send(act: Act): void {
    const before = this.acked;
    this.underWay.add(act);
    const ended = (status: Status) => {
      assert(this.mayFail || status === Status.ok, `${act.what}: ${statusName(status)}`);
      this.underWay.delete(act);
      this.ended.push({ act, status });
      if (status !== Status.ok) return;
      if (act.what === "flush") for (const one of before) this.stable.add(one);
      if (((act.flags ?? 0) & FLAG_FUA) !== 0) this.stable.add(act);
    };
    if (act.what === "call") act.call?.(this.bench, ended);
    else this.#submit(act, KINDS[act.what], ended);
  }

  #submit(act: Act, kind: OperationKind, ended: (status: Status) => void): void {
    const { bench } = this;
    const operation = new Operation();
    operation.kind = kind;
    operation.epoch = 1;
    operation.flags = act.flags ?? 0;
    operation.offsetBytes = act.at ?? 0;
    operation.lengthBytes = act.length ?? 0;
    const buffer = act.what === "write" ? bench.memory.allocate(operation.lengthBytes) : NO_BUFFER;
    if (buffer !== NO_BUFFER) {
      operation.bufferOffset = buffer;
      bench.memory.bytes.fill(act.value ?? 0, buffer, buffer + operation.lengthBytes);
    }
    operation.done = ({ status }) => {
      if (buffer !== NO_BUFFER) bench.memory.release(buffer);
      ended(status);
    };
    bench.member().submit(operation);
  }

  /** What a sector may hold now; after a power cut acked values may have fallen back. */
  candidates(at: number, powerCut: boolean): number[] {
    let values = [0];
    for (const { act, status } of this.ended) {
      if (!covers(act, at, SECTOR)) continue;
      const value = act.value ?? 0;
      const settled = status === Status.ok && !(powerCut && !this.stable.has(act));
      values = settled ? [value] : [...values, value];
    }
    for (const act of this.underWay) if (covers(act, at, SECTOR)) values.push(act.value ?? 0);
    return values;
  }

  /** Reads at every place what the acts touched, and a block beside, and compares. */
  look(how: Look): void {
    const acts = [...this.ended.map(({ act }) => act), ...this.underWay];
    for (const place of PLACES) {
      for (let at = place; at < place + PLACE_BYTES; at += BLOCK) {
        if (at === place || acts.some((act) => covers(act, at - BLOCK, 2 * BLOCK))) {
          this.lookAt(at, how);
        }
      }
    }
  }

  lookAt(at: number, { powerCut, honest = false }: Look): void {
    const { bench } = this;
    let { status, bytes } = bench.read(bench.member(), at, BLOCK);
    if (status === Status.checksumMismatch && this.rotten.has(at)) return;
    // R9: torn by what was under way, in an active region. Of nothing else, where no power was cut.
    const isHit = [...this.underWay].some((act) => covers(act, at, BLOCK));
    const failed = this.ended.some((one) => one.status !== Status.ok && covers(one.act, at, BLOCK));
    if (status === Status.checksumMismatch && (powerCut || isHit || failed || honest)) {
      ({ status, bytes } = bench.read(bench.member(), at, BLOCK, { flags: FLAG_UNVERIFIED }));
    }
    if (honest && status === Status.mediumError) return;
    if (honest && status === Status.ioError && bench.store?.failed === true) return;
    if (status !== Status.ok) throw new Error(`${at} answers ${statusName(status)}`);
    for (let sector = 0; sector < BLOCK; sector += SECTOR) {
      const value = bytes[sector] as number;
      const isWhole = bytes.subarray(sector, sector + SECTOR).every((byte) => byte === value);
      const may = this.candidates(at + sector, powerCut);
      if (isWhole && may.includes(value)) continue;
      throw new Error(`${at + sector} holds ${value}, may hold ${may.join()}`);
    }
  }
}

function covers(act: Act, at: number, length: number): boolean {
  if (act.what === "flush" || act.what === "call") return false;
  return (act.at ?? 0) < at + length && at < (act.at ?? 0) + (act.length ?? 0);
}
