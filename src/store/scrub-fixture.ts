// SPDX-License-Identifier: Apache-2.0
//
// A bench whose scrubs are run by hand, in virtual time, and a disk with some blocks written, for
// the tests of scrubs.

import { assert } from "#base/assert.ts";
import { Incident } from "#base/disk-health.ts";
import { FLAG_FUA, OperationKind } from "#base/operation.ts";
import type { Operation } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { Bench, MIB, filled, sampleRecord } from "./bench-fixture.ts";
import type { DiskPlan } from "./disk-plan.ts";
import { planDisk } from "./disk-plan.ts";
import type { Doubt } from "./scrub-doubts.ts";
import type { ScrubListener } from "./scrubber.ts";

export const SIZE = 24 * MIB;
export const PLAN_OPTIONS = { logSlots: 32, slicesMax: 4 };
export const PLAN = planDisk(SIZE, PLAN_OPTIONS) as DiskPlan;
export const TICK_MS = 50;
export const BLOCK = 4096;

/** A bench whose scrubs are run by hand, in virtual time. */
export class ScrubBench extends Bench {
  nowMs = 1000;
  wallMs = 0;
  doubts: Doubt[] = [];
  verified: string[] = [];
  reads: { offset: number; length: number; flags: number }[] = [];
  /** Called with every doubt: the head's part. */
  onDoubt: (doubt: Doubt) => void = () => {};

  static made(): ScrubBench {
    const bench = new ScrubBench(SIZE);
    bench.format(PLAN_OPTIONS);
    bench.start();
    return bench;
  }

  start(): void {
    this.open();
    this.watch();
  }

  watch(): void {
    const { disk } = this;
    const submit = disk.submit.bind(disk);
    disk.submit = (operation: Operation) => {
      const { kind, offsetBytes: offset, lengthBytes: length, flags } = operation;
      if (kind === OperationKind.read) this.reads.push({ offset, length, flags });
      submit(operation);
    };
    const listener: ScrubListener = {
      doubted: (doubt) => {
        this.doubts.push(doubt);
        this.onDoubt(doubt);
      },
      verified: (slice, extent, done) => {
        this.verified.push(`${slice}:${extent}`);
        done();
      },
      sliceVerified: (slice, done) => {
        this.verified.push(`${slice}`);
        done();
      },
      ended: () => this.verified.push("end"),
    };
    if (this.store !== null) this.store.scrub.listener = listener;
  }

  /** The machine restarts; all that was carried out is on the disk. */
  reboot(): void {
    this.again(this.disk.kill());
    this.watch();
  }

  tick(count = 1): void {
    for (let time = 0; time < count; time++) {
      this.nowMs += TICK_MS;
      this.store?.tick(this.nowMs, this.wallMs);
      this.disk.run();
    }
  }

  get scrubs(): number {
    return this.store?.scrub.report().scrub.count ?? 0;
  }

  /** A whole scrub, and what came of its doubts. */
  scrubThrough(ticksMax = 5000): void {
    const before = this.scrubs;
    this.store?.scrub.start({ urgent: false });
    for (let time = 0; time < ticksMax; time++) {
      this.tick();
      if (this.scrubs > before && this.store?.scrub.doubted === 0) return;
    }
    throw new Error("the scrub does not come to its end");
  }

  /** As a head would: the same bytes again, and how it ended. */
  heal(doubt: Doubt, bytes: (offset: number) => Uint8Array): void {
    const member = this.member(doubt.slice);
    const region = Math.floor(doubt.offsetBytes / (4 * MIB));
    this.activate(member, region);
    const end = doubt.offsetBytes + doubt.lengthBytes;
    for (let at = doubt.offsetBytes; at < end; at += BLOCK) {
      if (!doubt.rewrite && this.read(member, at, BLOCK).status === Status.ok) continue;
      const written = this.write(member, at, bytes(at), { flags: FLAG_FUA, epoch: 3 });
      assert(written === Status.ok, "a block is healed");
      if (!doubt.rewrite) member.noteIncident(Incident.healed, at);
    }
  }
}

/** Written: blocks 0 to 79 and 100 of extent 0, block 5 of extent 1, all of extent 4. */
export function filledBench(): ScrubBench {
  const bench = ScrubBench.made();
  bench.create(1, 16 * MIB);
  const member = bench.member();
  bench.put(member, sampleRecord(3, { sizeBytes: 16 * MIB }));
  bench.activate(member, 0, 1);
  const put = (at: number, length: number, value: number) =>
    assert(bench.write(member, at, filled(length, value), { epoch: 3 }) === Status.ok, "written");
  put(0, 80 * BLOCK, 1);
  put(100 * BLOCK, BLOCK, 2);
  put(MIB + 5 * BLOCK, BLOCK, 3);
  put(4 * MIB, MIB, 4);
  assert(bench.flush(member) === Status.ok, "flushed");
  member.deactivate([0, 1]);
  bench.wait((done) => bench.store?.checkpoint(done));
  return bench;
}

export const valueAt = (offset: number) => {
  if (offset < 80 * BLOCK) return filled(BLOCK, 1);
  if (offset === 100 * BLOCK) return filled(BLOCK, 2);
  return filled(BLOCK, offset === MIB + 5 * BLOCK ? 3 : 4);
};

/** A bit of the medium, behind everybody's back. */
export function flip(bench: Bench, offset: number): void {
  for (const image of [bench.disk.current, bench.disk.stable]) {
    const byte = new Uint8Array(1);
    image.read(offset, byte);
    byte[0] = (byte[0] as number) ^ 0x20;
    image.write(offset, byte);
  }
}
