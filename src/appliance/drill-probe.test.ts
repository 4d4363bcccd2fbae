// SPDX-License-Identifier: Apache-2.0
//
// A drill's host: it finds what a host would find, and counts how long it waited.

import { describe, expect, test } from "bun:test";
import { BLOCK_BYTES } from "#base/grains.ts";
import { Memory } from "#base/memory.ts";
import { OperationKind } from "#base/operation.ts";
import type { Operation } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { MemoryVolume } from "#protocol/nbd/memory-volume-fixture.ts";
import { DrillProbe } from "./drill-probe.ts";

const BLOCKS = 16;

class Bench {
  readonly memory = new Memory(new ArrayBuffer(1 << 20));
  readonly volume = new MemoryVolume(this.memory, BLOCKS * BLOCK_BYTES);
  nowMs = 1000;
  readonly probe: DrillProbe;

  constructor() {
    const { memory, volume } = this;
    const clock = { nowMs: () => this.nowMs };
    const made = DrillProbe.start({ clock, memory, target: volume }, BLOCKS * BLOCK_BYTES);
    if (made === null) throw new Error("there is memory");
    this.probe = made;
  }

  ticks(count: number): this {
    for (let left = count; left > 0; left--) {
      this.nowMs += 50;
      this.probe.tick();
    }
    return this;
  }

  end() {
    this.probe.finish();
    this.ticks(3);
    return this.probe.facts();
  }
}

describe("a drill's host", () => {
  test("a healthy volume → every block written is read back right, and nothing is kept", () => {
    const bench = new Bench().ticks(10);
    const facts = bench.end();
    expect(facts).toMatchObject({ verifiedBlocks: BLOCKS, wrongBlocks: 0, errors: 0, gapMs: 50 });
    expect(facts.writes).toBe(80);
    expect(facts.reads).toBeGreaterThan(BLOCKS);
    expect(bench.probe.isOver).toBe(true);
    expect(bench.memory.usedBytes).toBe(0);
  });

  test("no answer for a while → the wait is counted, while it lasts and afterwards", () => {
    const bench = new Bench().ticks(4);
    const held: Operation[] = [];
    bench.volume.held = held;
    bench.ticks(60);
    expect(held).toHaveLength(2); // one write and one read wait
    expect(bench.probe.facts()).toMatchObject({ gapMs: 3000, silentMs: 3000 });
    bench.volume.held = null;
    for (const operation of held) bench.volume.complete(operation);
    bench.ticks(4);
    expect(bench.probe.facts().gapMs).toBe(3000);
    expect(bench.end()).toMatchObject({ verifiedBlocks: BLOCKS, wrongBlocks: 0, gapMs: 3000 });
  });

  test.each(["a flipped byte", "an older write", "another block's bytes", "zeros"])(
    "%s → found",
    (what) => {
      const bench = new Bench().ticks(1);
      const before = bench.volume.data.slice(0, BLOCK_BYTES);
      bench.ticks(6);
      const { data } = bench.volume;
      if (what === "a flipped byte") data[100] = (data[100] ?? 0) ^ 1;
      if (what === "an older write") data.set(before, 0);
      if (what === "another block's bytes") data.copyWithin(0, BLOCK_BYTES, 2 * BLOCK_BYTES);
      if (what === "zeros") data.fill(0, 0, BLOCK_BYTES);
      const facts = bench.end();
      expect(facts).toMatchObject({ wrongBlocks: 1, verifiedBlocks: BLOCKS - 1 });
    },
  );

  test("a write that failed → its block may hold the old or the new bytes", () => {
    for (const takes of [false, true]) {
      const bench = new Bench().ticks(5);
      const held: Operation[] = [];
      bench.volume.held = held;
      bench.ticks(1);
      const write = held.find(({ kind }) => kind === OperationKind.write) as Operation;
      const others = held.filter((operation) => operation !== write);
      bench.volume.held = null;
      for (const operation of others) bench.volume.complete(operation);
      bench.probe.finish();
      if (takes) {
        const { offsetBytes, bufferOffset } = write;
        const bytes = bench.memory.bytes.subarray(bufferOffset, bufferOffset + BLOCK_BYTES);
        bench.volume.data.set(bytes, offsetBytes);
      }
      write.complete(Status.ioError);
      const facts = bench.end();
      expect(facts).toMatchObject({ errors: 1, wrongBlocks: 0, verifiedBlocks: BLOCKS });
    }
  });

  test("given up → waits for its last answers, then gives its buffers back", () => {
    const bench = new Bench().ticks(2);
    const held: Operation[] = [];
    bench.volume.held = held;
    bench.ticks(1);
    bench.probe.abandon();
    expect(bench.ticks(3).probe.isOver).toBe(false);
    expect(held.every(({ cancelled }) => cancelled)).toBe(true);
    for (const operation of held) operation.complete(Status.cancelled);
    expect(bench.ticks(1).probe.isOver).toBe(true);
    expect(bench.memory.usedBytes).toBe(0);
    expect(bench.probe.facts().errors).toBe(0);
  });
});
