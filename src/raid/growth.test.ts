// SPDX-License-Identifier: Apache-2.0
//
// A slice that grows (H11) by a record of the control station: what is added reads zero and is
// written like any of it, with members away, being brought up, or dying meanwhile.

import { describe, expect, test } from "bun:test";
import { OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { VerbKind } from "#base/verbs.ts";
import { Cluster } from "./cluster-fixture.ts";

const MIB = 1 << 20;
const BLOCK = 4096;
const BLOCKS = 16 * 256;
/** The last block before the end that there was. */
const LAST = BLOCKS - 1;
const GROWN = { blocks: 24 * 256, bytes: 24 * MIB };

/** Blocks on both sides of the end that there was, and the last one there is now. */
function readAround(cluster: Cluster): number[] {
  return [LAST, BLOCKS, BLOCKS + 1, GROWN.blocks - 1].map((block) => cluster.read(block));
}

/** As a volume does: again while the head does not know of its record yet. */
function writeGrown(cluster: Cluster, block: number, tag: number): void {
  cluster.until(() => {
    const { head } = cluster.record;
    if (!cluster.head.alive) return false;
    const request = cluster.submit(head, OperationKind.write, block * BLOCK, BLOCK, { tag });
    cluster.until(() => request.status !== null);
    return request.status === Status.ok;
  });
}

describe("a slice grows", () => {
  test("beyond the end: busy until its record is here, then zero, then written on all", () => {
    const cluster = new Cluster({ copies: 3 });
    cluster.write(LAST, 7);
    const early = cluster.submit(1, OperationKind.read, BLOCKS * BLOCK, BLOCK);
    expect(early.status).toBe(Status.busy);
    const far = cluster.submit(1, OperationKind.read, 64 * 1024 * MIB, BLOCK);
    expect(far.status).toBe(Status.outOfRange);
    cluster.grow(GROWN.bytes);
    cluster.until(() => cluster.node(1).store.sizeBytes === GROWN.bytes);
    expect(readAround(cluster)).toEqual([7, 0, 0, 0]);
    writeGrown(cluster, BLOCKS, 8);
    writeGrown(cluster, GROWN.blocks - 1, 9);
    expect(readAround(cluster)).toEqual([7, 8, 0, 9]);
    for (const disk of [1, 2, 3]) expect(cluster.tagOn(disk, BLOCKS)).toBe(8);
    cluster.settle();
    expect(cluster.record.epoch).toBe(2);
  });

  test("one write over the end that there was → whole on all", () => {
    const cluster = new Cluster();
    cluster.grow(GROWN.bytes);
    cluster.run(100);
    const at = 16 * MIB - 3 * BLOCK;
    const request = cluster.submit(1, OperationKind.write, at, 5 * MIB, { tag: 5 });
    cluster.until(() => request.status !== null);
    expect(request.status).toBe(Status.ok);
    for (const disk of [1, 2]) {
      expect([LAST, BLOCKS, BLOCKS + 1200].map((one) => cluster.tagOn(disk, one))).toEqual([
        5, 5, 5,
      ]);
    }
  });

  test("a member has not stored the record → nothing behind the old end is acked (R2)", () => {
    const cluster = new Cluster();
    cluster.hold = (verb) => verb.kind === VerbKind.attach;
    cluster.node(2).hasControl = false;
    cluster.grow(GROWN.bytes);
    cluster.until(() => cluster.node(1).store.sizeBytes === GROWN.bytes);
    const request = cluster.submit(1, OperationKind.write, BLOCKS * BLOCK, BLOCK, { tag: 5 });
    cluster.run(300);
    expect(request.status).toBeNull();
    expect(cluster.node(2).store.sizeBytes).toBe(16 * MIB);
    cluster.letGo();
    cluster.until(() => request.status !== null);
    expect(request.status).toBe(Status.ok);
    expect(cluster.tagOn(2, BLOCKS)).toBe(5);
  });

  for (const power of [false, true]) {
    for (const waitMs of [0, 3, 6, 12, 25, 60]) {
      const how = power ? "with its power" : "alone";
      test(`head dies ${how} ${waitMs} ms later → the next one serves all of it`, () => {
        const cluster = new Cluster({ seed: 3 });
        cluster.write(LAST, 7);
        cluster.flush();
        cluster.grow(GROWN.bytes);
        cluster.run(waitMs);
        cluster.kill(1, { power });
        writeGrown(cluster, GROWN.blocks - 1, 4);
        expect(readAround(cluster)).toEqual([7, 0, 0, 4]);
        cluster.restart(1);
        cluster.settle();
        expect(cluster.record.sizeBytes).toBe(GROWN.bytes);
        expect(cluster.node(1).store.sizeBytes).toBe(GROWN.bytes);
        expect([cluster.tagOn(1, LAST), cluster.tagOn(1, GROWN.blocks - 1)]).toEqual([7, 4]);
      });
    }
  }

  test("away meanwhile → as large when it is back, and given what it lacks, no more", () => {
    const cluster = new Cluster();
    cluster.write(LAST, 1);
    cluster.run(3000);
    cluster.kill(2);
    cluster.until(() => cluster.inSync.length === 1);
    cluster.grow(GROWN.bytes);
    writeGrown(cluster, GROWN.blocks - 1, 2);
    cluster.restart(2);
    cluster.settle();
    expect(cluster.node(2).store.sizeBytes).toBe(GROWN.bytes);
    expect(cluster.tagOn(2, GROWN.blocks - 1)).toBe(2);
    expect(cluster.node(1).slice.status().counters.resyncedBytes).toBeLessThan(3 * MIB);
  });

  for (const phase of ["comparing", "copying", "flushing"]) {
    test(`a copy is being made, ${phase} → it comes to its end, with what was added`, () => {
      const cluster = new Cluster({ seed: 5 });
      cluster.write(1, 1);
      cluster.kill(2);
      cluster.until(() => cluster.inSync.length === 1);
      for (let extent = 0; extent < 12; extent++) cluster.write(extent * 256, extent + 20);
      const kinds: Record<string, number> = {
        comparing: VerbKind.mapRead,
        copying: VerbKind.write,
        flushing: VerbKind.flush,
      };
      cluster.hold = (verb) => verb.kind === kinds[phase] && verb.toDisk === 2;
      cluster.restart(2);
      cluster.until(() => cluster.held.length > 0);
      cluster.grow(GROWN.bytes);
      writeGrown(cluster, BLOCKS, 3);
      cluster.letGo();
      writeGrown(cluster, GROWN.blocks - 1, 4);
      cluster.settle();
      writeGrown(cluster, BLOCKS + 1, 5);
      expect(cluster.node(2).store.sizeBytes).toBe(GROWN.bytes);
      const there = [0, 256, BLOCKS, BLOCKS + 1, GROWN.blocks - 1];
      expect(there.map((block) => cluster.tagOn(2, block))).toEqual([20, 21, 3, 5, 4]);
    });
  }

  test("a member holds more than the slice goes to, active → it is let be, nothing fails", () => {
    const cluster = new Cluster();
    cluster.write(1, 6);
    cluster.kill(2);
    cluster.until(() => cluster.inSync.length === 1);
    const { disk } = cluster.node(2);
    disk.sizeBytes = 32 * MIB;
    disk.active.add(6);
    disk.cache.set(25, { stamp: 1, blocks: new Map() });
    cluster.restart(2);
    cluster.until(() => cluster.inSync.length === 2);
    cluster.write(1, 7);
    expect(cluster.tagOn(2, 1)).toBe(7);
    disk.active.add(6);
    cluster.kill(1);
    cluster.until(() => cluster.record.head === 2);
    expect(cluster.read(1)).toBe(7);
    // And as a head, which has its record's extents made equal and no others.
    cluster.restart(1);
    cluster.until(() => cluster.inSync.length === 2);
    expect(cluster.node(1).disk.cache.has(25)).toBe(false);
    cluster.write(1, 8);
    expect(cluster.tagOn(1, 1)).toBe(8);
    expect(cluster.inSync).toEqual([1, 2]);
  });
});
