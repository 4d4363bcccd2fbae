// SPDX-License-Identifier: Apache-2.0
//
// Every structure on a disk times every fault of one page of it: it cannot be read; it is stale, as
// if its last write had been lost; it holds what was meant for another place; it is torn; it is
// zero. The disk opens and everything is right, or what is not says so, or the disk is left out
// with a reason in words; never wrong data, and the next start fares no worse (R9, H8).

import { expect, setDefaultTimeout, test } from "bun:test";
import { OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { Bench, MIB, filled, sampleRecord } from "./bench-fixture.ts";
import { planDisk } from "./disk-plan.ts";
import type { DiskPlan } from "./disk-plan.ts";
import { PAGE_BYTES } from "./format.wire.ts";
import { Life, flush, trim, write } from "./life-fixture.ts";
import { Image } from "./sim-disk-fixture.ts";

setDefaultTimeout(60_000);

const SIZE = 16 * MIB;
const PLAN_OPTIONS = { logSlots: 16, slicesMax: 4 };
const PLAN = planDisk(SIZE, PLAN_OPTIONS) as DiskPlan;
const FOREIGN = 0xa5;
const BLOCK = 4096;
const EPOCH = 24;

const FAULTS = ["error", "stale", "misdirected", "torn", "torn the other way", "zero"] as const;
type Fault = (typeof FAULTS)[number];
/** Right in all; honest where something says that it is damaged; refused in words. */
type Verdict = "right" | "honest" | "refused";

/** What is on the disk, by blocks of slice 1, and what each holds. */
const HELD: readonly (readonly [at: number, value: number])[] = [
  [0, 1],
  [BLOCK, 3],
  [2 * BLOCK, 0], // trimmed
  [3 * BLOCK, 4], // written after the descriptor's first writing
  [9 * BLOCK, 0], // never written
  [4 * MIB, 5],
  [4 * MIB + BLOCK, 0], // trimmed
  [5 * MIB, 0], // trimmed as a whole
];

interface Sample {
  image: Image;
  /** Pages as they were before they were last written. */
  before: Image;
}

/** A disk that was used long enough for everything on it to have been written more than once. */
function sample(last: "a trim" | "writes" = "a trim"): Sample {
  const bench = new Bench(SIZE, { image: new Image(FOREIGN) });
  bench.disk.record = [];
  bench.format(PLAN_OPTIONS);
  bench.open();
  bench.create(1, 8 * MIB);
  bench.wait((done) => bench.store?.setNumber(5, done));
  const member = bench.member();
  bench.activate(member, 0, 1);
  const put = (at: number, value: number) =>
    expect(bench.write(member, at, filled(BLOCK, value), { epoch: 3 })).toBe(Status.ok);
  const trim = (at: number, length: number) => bench.io(member, OperationKind.trim, at, length);
  for (const at of [0, 2 * BLOCK, 4 * MIB, 4 * MIB + BLOCK, 5 * MIB]) put(at, 9);
  put(BLOCK, 3);
  bench.flush(member);
  // Three times around the ring.
  for (let epoch = 3; epoch <= EPOCH; epoch++) {
    const ancestry = new Array<number>(64).fill(9);
    expect(bench.put(member, sampleRecord(epoch, { ancestry }))).toBe(Status.ok);
  }
  put(0, 1);
  put(4 * MIB, 5);
  const rounds = [
    () => put(3 * BLOCK, 4),
    () => {
      trim(2 * BLOCK, BLOCK);
      trim(4 * MIB + BLOCK, BLOCK);
      trim(5 * MIB, MIB);
    },
  ];
  if (last === "writes") rounds.reverse();
  for (const round of rounds) {
    round();
    bench.flush(member);
  }
  member.deactivate([0]);
  bench.store?.tick(0);
  bench.disk.run();
  // Behind it, so that it is known to be durable; twice, so that both twins are followed.
  for (const region of [1, 0]) bench.activate(bench.member(), region);
  member.deactivate([0]);
  bench.store?.tick(0);
  bench.disk.run();
  const before = previous(bench.disk.record ?? []);
  return { image: bench.disk.kill(), before };
}

function previous(events: readonly { what: string }[]): Image {
  const now = new Image(FOREIGN);
  const before = new Image(FOREIGN);
  const page = new Uint8Array(PAGE_BYTES);
  for (const event of events as { what: string; offset: number; bytes: Uint8Array }[]) {
    if (event.what !== "write") continue;
    for (let at = 0; at < event.bytes.length; at += PAGE_BYTES) {
      now.read(event.offset + at, page);
      before.write(event.offset + at, page);
    }
    now.write(event.offset, event.bytes);
  }
  return before;
}

/** Pages of one kind, and what one bad page of them may come to. */
interface Structure {
  name: string;
  pages: number[];
  /** Beside "right". */
  may: readonly Verdict[];
  /** So many pages from there on are hit together. */
  together?: number;
  faults?: readonly Fault[];
  last?: "a trim" | "writes";
}

const checkpointPages = [0, 1].flatMap((slot) => {
  const at = PLAN.checkpointOffset + slot * PLAN.checkpointBytes;
  return [at, at + PAGE_BYTES];
});
const logPages = Array.from({ length: 32 }, (_, page) => PLAN.logOffset + page * PAGE_BYTES);
const descriptorPages = Array.from({ length: 2 * 2 }, (_, page) => {
  return PLAN.descriptorOffset + page * PAGE_BYTES;
});
const dataPages = [0, 1, 2, 3, 256, 257].map((block) => PLAN.dataOffset + block * BLOCK);

const STRUCTURES: readonly Structure[] = [
  { name: "superblock", pages: [0, SIZE - PAGE_BYTES], may: [] },
  { name: "twin of a log record", pages: logPages, may: [] },
  { name: "checkpoint, header or body", pages: checkpointPages, may: [] },
  { name: "slot of a descriptor", pages: descriptorPages, may: ["honest"] },
  {
    name: "slot of a descriptor, written once since",
    pages: descriptorPages,
    may: ["honest"],
    last: "writes",
    // Stale: nothing on the disk knows better; found while memory does (scrubber.test.ts).
    faults: ["error", "misdirected", "torn", "zero"],
  },
  { name: "data", pages: dataPages, may: ["honest"] },
  {
    name: "log record with its twin",
    pages: logPages.filter((_, page) => page % 2 === 0),
    may: ["refused"],
    together: 2,
  },
  {
    name: "both slots of a descriptor",
    pages: descriptorPages.filter((_, page) => page % 2 === 0),
    may: ["honest"],
    together: 2,
    // They lie side by side: a bad stretch of the disk takes both.
    faults: ["error"],
  },
];

/** The disk with the fault in it. */
function faulty(made: Sample, structure: Structure, page: number, fault: Fault): Bench {
  const image = made.image.over();
  const together = structure.together ?? 1;
  const end = page + together * PAGE_BYTES;
  for (let at = page; at < end; at += PAGE_BYTES) {
    const bytes = new Uint8Array(PAGE_BYTES);
    const other = new Uint8Array(PAGE_BYTES);
    made.image.read(at, bytes);
    made.before.read(at, other);
    const half = PAGE_BYTES / 2;
    if (fault === "stale") bytes.set(other);
    if (fault === "torn") bytes.set(other.subarray(half), half);
    if (fault === "torn the other way") bytes.set(other.subarray(0, half));
    if (fault === "misdirected") made.image.read(neighbour(structure, at, together), bytes);
    if (fault === "zero") bytes.fill(0);
    image.write(at, bytes);
  }
  const bench = new Bench(SIZE, { image });
  if (fault === "error") failing(bench, page, end);
  return bench;
}

function failing({ disk }: Bench, from: number, end: number): void {
  disk.failWhen = (kind, offset, length) =>
    kind === OperationKind.read && offset < end && from < offset + length;
}

/** Another page of the same kind: what was meant for it came here. */
function neighbour(structure: Structure, at: number, together: number): number {
  const index = structure.pages.indexOf(at - (at % (together * PAGE_BYTES)));
  const { pages } = structure;
  const from = index < 0 ? at : (pages[(index + 1) % pages.length] as number);
  return index < 0 ? from : from + (at - (pages[index] as number));
}

/** How the disk fares; throws where it says something that is wrong. */
function verdictOf(bench: Bench): Verdict {
  if (bench.open() === null) {
    bench.disk.run();
    expect(bench.reason).not.toBe("");
    expect(bench.memory.usedBytes).toBe(0);
    return "refused";
  }
  const member = bench.member();
  expect(member.record?.epoch).toBe(EPOCH);
  expect(member.activeRegions()).toEqual([1]);
  expect(member.mapFrom(0, 9).map(({ extent }) => extent)).toEqual([0, 4]);
  expect(bench.store?.number).toBe(5);
  let verdict: Verdict = "right";
  for (const [at, value] of HELD) {
    const { status, bytes } = bench.read(member, at, BLOCK);
    if (status === Status.checksumMismatch) verdict = "honest";
    else if (status !== Status.ok) throw new Error(`${at} answers ${status}`);
    else if (!bytes.every((byte) => byte === value)) throw new Error(`${at} holds ${bytes[0]}`);
  }
  return verdict;
}

for (const structure of STRUCTURES) {
  for (const fault of structure.faults ?? FAULTS) {
    test(`${structure.name}, ${fault}`, () => {
      const made = sample(structure.last);
      for (const page of structure.pages) {
        const bench = faulty(made, structure, page, fault);
        const may: Verdict[] = ["right", ...structure.may];
        const first = verdictOf(bench);
        expect([page, may.includes(first), first]).toEqual([page, true, first]);
        // Once more, with what that start left: no worse, and no loop.
        const { failWhen } = bench.disk;
        const again = new Bench(SIZE, { image: bench.disk.kill() });
        again.disk.failWhen = failWhen;
        const second = verdictOf(again);
        if (first === "refused") expect(second).toBe("refused");
        else expect([page, may.includes(second), second]).toEqual([page, true, second]);
      }
    });
  }
}

// The keepsake is no part of the disk: a bad one is as if the power had been cut (H6).
const HALVES = { magic: [0, 64], older: [64, 0.5], newer: [0.5, 1] } as const;

for (const [part, [from, to]] of Object.entries(HALVES)) {
  for (const fault of ["zero", "torn", "misdirected", "rotten"] as const) {
    test(`keepsake, ${part}, ${fault}`, () => {
      for (const rounds of [1, 2, 3]) {
        const life = new Life();
        const { bench } = life;
        const kept = bench.keepsake as Uint8Array;
        life.run([[write(0, 8 * BLOCK, 1)], [flush]]);
        // From now on no flush ends: each round's notes go on into the half that is written.
        bench.disk.hold = (kind) => kind === OperationKind.flush;
        const acts = [write(BLOCK, BLOCK, 2), trim(0, BLOCK), flush, write(2 * BLOCK, BLOCK, 3)];
        for (const act of acts.slice(0, rounds + 1)) {
          life.send(act);
          bench.disk.run();
        }
        const at = (share: number) => Math.floor(share <= 1 ? kept.length * share : share);
        const half = kept.subarray(at(from), at(to));
        if (fault === "zero") half.fill(0);
        if (fault === "torn") half.fill(0, Math.floor(half.length / 64));
        if (fault === "misdirected") half.set(kept.slice(kept.length - half.length));
        if (fault === "rotten")
          for (let byte = 5; byte < half.length; byte += 40) half.fill(0xff, byte, byte + 1);
        bench.disk.hold = null;
        expect([bench.restart() === null, bench.reason]).toEqual([false, ""]);
        life.look({ powerCut: true });
        expect(bench.restart()).not.toBeNull();
        life.look({ powerCut: true });
      }
    });
  }
}
