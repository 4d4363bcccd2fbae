// SPDX-License-Identifier: Apache-2.0
//
// The n-th I/O of an operation fails: for every n until the operation ends without it, in every way
// a disk can fail, and with every outcome of the failed write. Then the disk is opened again, by a
// process that found the other one dead, after a power cut, and by the same process (decision
// 0022): no wrong data, nothing acked is missing, nothing throws, and it works on (R0, R6, R10, H3,
// H8).

import { assert } from "#base/assert.ts";
import { FLAG_FUA, OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { Bench, MIB, filled, sampleRecord } from "./bench-fixture.ts";
import type { DiskPlan, PlanOptions } from "./disk-plan.ts";
import type { DiskStore } from "./disk-store.ts";
import { BLOCK, DISK_BYTES, Life } from "./life-fixture.ts";
import type { Look, Series } from "./life-fixture.ts";
import type { Image, SimDisk } from "./sim-disk-fixture.ts";

/** How it goes on failing once the n-th I/O has failed. */
const WAYS = ["once", "for ever", "that place for ever"] as const;
type Way = (typeof WAYS)[number];
type Leaves = SimDisk["failedWriteLeaves"];

export interface Case {
  keepsakeBytes?: number;
  plan?: PlanOptions;
  /** Brings an open disk to where the operation begins; nothing fails yet. */
  before?: (life: Life) => void;
  act?: Series | ((life: Life) => void);
  /** The operation is the opening by the next process. */
  opens?: boolean;
  /** The power was cut before it. */
  powerCut?: boolean;
  /** The operation closes the disk. */
  closes?: boolean;
  /** Answers of the disk in another order. */
  order?: number;
  /** What else must hold of a disk opened again; `acked` are the calls that were. */
  holds?: (bench: Bench, acked: Set<string>, look: Look) => void;
}

/** Makes the n-th call fail, and what the way says of those behind it. */
class Fault {
  first: { kind: OperationKind; offset: number } | null = null;
  /** A write or a flush failed: the disk is ejected. */
  ejects = false;
  /** A read of descriptors or data failed: blocks may say so. */
  blinds = false;
  #calls = 0;
  readonly #n: number;
  readonly #way: Way;
  readonly #blindFrom: number;

  constructor(n: number, way: Way, plan: DiskPlan) {
    this.#n = n;
    this.#way = way;
    this.#blindFrom = plan.descriptorOffset;
  }

  /** The disk fails after a start as well. */
  get goesOn(): boolean {
    return this.#way !== "once" && this.first !== null;
  }

  install(disk: SimDisk): void {
    disk.failWhen = (kind, offset, length) => {
      this.#calls++;
      const isFirst = this.#calls === this.#n;
      if (isFirst) this.first = { kind, offset };
      if (!isFirst && !this.#failsOn(kind, offset, length)) return false;
      if (kind !== OperationKind.read) this.ejects = true;
      else if (offset >= this.#blindFrom) this.blinds = true;
      return true;
    };
  }

  #failsOn(kind: OperationKind, offset: number, length: number): boolean {
    const { first } = this;
    if (first === null || this.#way === "once") return false;
    if (this.#way === "for ever") return true;
    if (kind !== first.kind) return false;
    return offset <= first.offset && (length === 0 || first.offset < offset + length);
  }
}

/** Fails each I/O of the case in turn; answers how many there were. */
export function eachFailure(one: Case): number {
  let most = 0;
  for (const way of WAYS) {
    for (let n = 1; ; n++) {
      const kind = attempt(one, { n, way, leaves: "nothing" });
      if (kind === null) break;
      most = Math.max(most, n);
      if (kind !== OperationKind.write) continue;
      if (way !== "once") continue;
      for (const leaves of ["half", "all"] as const) attempt(one, { n, way, leaves });
    }
  }
  return most;
}

/** Answers the kind of the I/O that failed, or null: the operation ended before it. */
function attempt(one: Case, how: { n: number; way: Way; leaves: Leaves }): OperationKind | null {
  const life = new Life(one.keepsakeBytes, one.plan);
  const fault = new Fault(how.n, how.way, life.plan);
  const { bench } = life;
  try {
    one.before?.(life);
    const incarnation = bench.store?.incarnation ?? 0;
    life.mayFail = true;
    bench.disk.failedWriteLeaves = how.leaves;
    fault.install(bench.disk);
    if (one.opens === true) expectOpening(bench, () => bench.restart());
    else work(life, one, fault);
    if (fault.first === null) return null;
    judge(life, one, { fault, incarnation });
  } catch (cause) {
    const { first } = fault;
    const where = first === null ? "" : `, of kind ${first.kind} at ${first.offset}`;
    const sentence = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`I/O ${how.n}${where}, fails ${how.way}, leaves ${how.leaves}: ${sentence}`, {
      cause,
    });
  }
  return fault.first?.kind ?? null;
}

/** Opened; or not, with a reason in words and no buffer kept. */
function expectOpening(bench: Bench, open: () => DiskStore | null): boolean {
  if (open() !== null) return true;
  bench.disk.run();
  assert(bench.reason !== "", "a disk that is left out says why");
  assert(bench.memory.usedBytes === 0, "all buffers come back");
  return false;
}

function work(life: Life, one: Case, fault: Fault): void {
  const { store, disk } = life.bench;
  const reasons: string[] = [];
  if (store !== null) store.onFailed = (reason) => reasons.push(reason);
  if (typeof one.act === "function") one.act(life);
  else life.run(one.act ?? [], Number.POSITIVE_INFINITY, one.order ?? 0);
  disk.run();
  // R10: a write or a flush that failed ejects it, once; a read does not.
  const told = store?.failed === fault.ejects && reasons.length === (fault.ejects ? 1 : 0);
  assert(told, `ejected ${store?.failed}, told ${reasons.length} times`);
}

interface Found {
  fault: Fault;
  /** Of the run before. */
  incarnation: number;
}

function judge(life: Life, one: Case, found: Found): void {
  const { bench } = life;
  const { disk, memory } = bench;
  const kept = bench.keepsake?.slice() ?? new Uint8Array();
  const none = () => new Uint8Array(kept.length);
  const killed = disk.fork(memory).kill();
  const cut = disk.fork(memory).powerCut(new Prng(disk.calls));
  if (bench.store !== null && !one.closes) close(life, found.fault, one.powerCut === true);
  const closed = disk.fork(memory).kill();
  reopen(life, one, { ...found, image: killed, keepsake: kept, powerCut: one.powerCut === true });
  reopen(life, one, { ...found, image: cut, keepsake: none(), powerCut: true });
  // By the same process: what it had not made durable is not asked for.
  reopen(life, one, { ...found, image: closed, keepsake: none(), powerCut: true });
}

/** Reads what can be read while the disk still fails, and closes: all buffers come back. */
function close(life: Life, fault: Fault, powerCut: boolean): void {
  const { bench } = life;
  if (!fault.ejects) life.look({ powerCut, honest: true });
  const { store } = bench;
  const status = bench.wait((done) => store?.close(done));
  bench.disk.run();
  if (status === null || (fault.ejects && status === Status.ok)) throw new Error("closed wrongly");
  assert(bench.memory.usedBytes === 0, "all buffers come back");
}

/** Another opening: while the disk fails on, then once it works again. */
function reopen(
  life: Life,
  one: Case,
  how: Found & { image: Image; keepsake: Uint8Array; powerCut: boolean },
): void {
  const { fault, powerCut } = how;
  let image = how.image;
  const on = (next: Image) => {
    life.bench = new Bench(DISK_BYTES, { image: next });
    life.bench.keepsake = how.keepsake;
    return life.bench;
  };
  for (let time = 0; time < 2 && fault.goesOn; time++) {
    const failing = on(image);
    fault.install(failing.disk);
    if (expectOpening(failing, () => failing.open())) life.look({ powerCut, honest: true });
    image = failing.disk.kill();
  }
  const bench = on(image);
  const incarnation = bench.open()?.incarnation ?? 0;
  assert(incarnation > how.incarnation, `incarnation ${incarnation}, ${bench.reason}`);
  const look = { powerCut, honest: fault.blinds };
  if (bench.store?.slices().includes(1)) life.look(look);
  addsUp(bench);
  const acked = new Set(life.acked.flatMap(({ name }) => name ?? []));
  one.holds?.(bench, acked, look);
  worksOn(bench);
}

function addsUp(bench: Bench): void {
  let mapped = 0;
  for (const slice of bench.store?.slices() ?? [])
    mapped += bench.member(slice).mapFrom(0, 99).length;
  const { extents, free } = bench.store?.totals ?? { extents: 0, free: 0 };
  assert(free + mapped === extents, `${free} free, ${mapped} mapped of ${extents}`);
}

/** It takes writes and records as ever, and has them after the next start. */
function worksOn(bench: Bench): void {
  const at = 7 * MIB;
  const made = bench.create(4, 8 * MIB);
  const member = bench.member(4);
  const statuses = [
    made,
    bench.put(member, sampleRecord(70, { slice: 4 })),
    bench.activate(member, 1),
    bench.write(member, at, filled(BLOCK, 77), { flags: FLAG_FUA }),
    bench.wait((done) => bench.store?.checkpoint(done)),
  ];
  assert(
    statuses.every((status) => status === Status.ok),
    `it goes on: ${statuses.join()}`,
  );
  assert(bench.restart() !== null, `it opens once more: ${bench.reason}`);
  assert(bench.member(4).record?.epoch === 70, "it has the record");
  const { bytes } = bench.read(bench.member(4), at, BLOCK);
  assert(
    bytes.every((byte) => byte === 77),
    "it has the bytes",
  );
}
