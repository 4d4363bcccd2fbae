// SPDX-License-Identifier: Apache-2.0
//
// The slice in its ordinary life: writes, reads, flushes, loss of members and heads, and their
// return.

import { describe, expect, test } from "bun:test";
import { OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { VerbKind } from "#base/verbs.ts";
import { Cluster } from "./cluster-fixture.ts";

const BLOCK = 4096;

describe("healthy", () => {
  test("write, read back; both members hold it when it is acked (R1)", () => {
    const cluster = new Cluster();
    cluster.write(3, 41);
    expect(cluster.tagOn(1, 3)).toBe(41);
    expect(cluster.tagOn(2, 3)).toBe(41);
    expect(cluster.read(3)).toBe(41);
    expect(cluster.read(4)).toBe(0);
    expect(cluster.history.length).toBe(1); // R14: nothing was proposed.
  });

  test("a request to a member → notHead", () => {
    const cluster = new Cluster();
    const request = cluster.submit(2, OperationKind.read, 0, BLOCK);
    expect(request.status).toBe(Status.notHead);
  });

  test("a write across extents and regions arrives whole; idle ends without active regions", () => {
    const cluster = new Cluster({ copies: 3 });
    const bytes = 9 << 20;
    const request = cluster.submit(1, OperationKind.write, (1 << 20) - 512, bytes, { tag: 9 });
    cluster.until(() => request.status !== null);
    expect(request.status).toBe(Status.ok);
    expect(cluster.node(3).store.activeRegions()).toEqual([0, 1, 2]);
    const back = cluster.submit(1, OperationKind.read, 1 << 20, 8 << 20);
    cluster.until(() => back.status !== null);
    expect(new Set(back.tags)).toEqual(new Set([9]));
    cluster.run(3000);
    for (const disk of [1, 2, 3]) expect(cluster.node(disk).store.activeRegions()).toEqual([]);
    for (const node of cluster.nodes.values()) expect(node.memory.usedBytes).toBe(0);
  });

  test("flush acked → on media of every member (H4)", () => {
    const cluster = new Cluster();
    cluster.write(1, 5);
    cluster.flush();
    for (const disk of [1, 2]) {
      expect(cluster.node(disk).disk.media.get(0)?.blocks.get(1)?.[0]).toBe(5);
    }
  });

  test("trim of all → zero on all, extents freed (H9)", () => {
    const cluster = new Cluster();
    cluster.write(1, 5);
    cluster.write(700, 6);
    const trim = cluster.submit(1, OperationKind.trim, 0, 16 << 20);
    cluster.until(() => trim.status !== null);
    expect(trim.status).toBe(Status.ok);
    expect(cluster.read(1)).toBe(0);
    for (const disk of [1, 2]) expect(cluster.node(disk).disk.cache.size).toBe(0);
  });

  test("every verb twice → nothing happens twice", () => {
    const cluster = new Cluster();
    cluster.duplicates = true;
    for (let tag = 1; tag <= 20; tag++) cluster.write(tag % 3, tag);
    expect(cluster.read(2)).toBe(20);
    cluster.run(3000);
    expect(cluster.tagOn(2, 2)).toBe(20);
    expect(cluster.node(2).store.activeRegions()).toEqual([]);
    for (const node of cluster.nodes.values()) expect(node.memory.usedBytes).toBe(0);
  });
});

describe("a member is lost", () => {
  test("no ack before the commit without it; then acked; it comes back by a short resync", () => {
    const cluster = new Cluster();
    cluster.write(1, 1);
    cluster.write(600, 1);
    cluster.run(3000);
    cluster.storeAway = true;
    cluster.kill(2, { power: true });
    const request = cluster.submit(1, OperationKind.write, BLOCK, BLOCK, { tag: 2 });
    cluster.run(1500);
    expect(request.status).toBe(null); // R2, R14
    cluster.storeBack();
    cluster.until(() => request.status !== null);
    expect(request.status).toBe(Status.ok);
    expect(cluster.inSync).toEqual([1]);
    expect(cluster.node(1).slice.status().protection).toBe("at-risk");
    cluster.restart(2);
    cluster.settle();
    expect(cluster.inSync).toEqual([1, 2]);
    expect(cluster.tagOn(2, 1)).toBe(2);
    // Only what changed was copied: one extent, and the stamp of its neighbour in the region.
    const { resyncedBytes } = cluster.node(1).slice.status().counters;
    expect(resyncedBytes).toBeGreaterThanOrEqual(1 << 20);
    expect(resyncedBytes).toBeLessThanOrEqual((1 << 20) * 1.1);
  });

  test("link away for less than the grace → same epoch, the write is sent again and acked", () => {
    const cluster = new Cluster();
    cluster.write(1, 1);
    const request = cluster.submit(1, OperationKind.write, BLOCK, BLOCK, { tag: 2 });
    cluster.cut(1, 2);
    cluster.run(100);
    cluster.heal(1, 2);
    cluster.until(() => request.status !== null);
    expect(request.status).toBe(Status.ok);
    expect(cluster.record.epoch).toBe(1);
    expect(cluster.tagOn(2, 1)).toBe(2);
  });

  test("its disk fails a write → dropped, the write is acked by the others (R10)", () => {
    const cluster = new Cluster({ copies: 3 });
    cluster.write(1, 1);
    cluster.node(3).store.fault = () => Status.ioError;
    cluster.write(1, 2);
    expect(cluster.inSync).toEqual([1, 2]);
    expect(cluster.read(1)).toBe(2);
  });

  test("it makes no progress for 5 s → dropped (R13)", () => {
    const cluster = new Cluster();
    cluster.write(1, 1);
    cluster.node(2).store.stuck = true;
    const request = cluster.submit(1, OperationKind.write, BLOCK, BLOCK, { tag: 2 });
    cluster.run(4000);
    expect(request.status).toBe(null);
    cluster.run(2500);
    expect(request.status).toBe(Status.ok);
    expect(cluster.inSync).toEqual([1]);
  });
});

describe("the head is lost", () => {
  for (const power of [false, true]) {
    test(`killed ${power ? "with its power" : "alone"} → the other serves within 2.5 s`, () => {
      const cluster = new Cluster();
      cluster.write(1, 1);
      cluster.write(2, 7);
      const killedMs = cluster.nowMs;
      cluster.kill(1, { power });
      cluster.until(() => cluster.record.head === 2);
      expect(cluster.read(1)).toBe(1);
      expect(cluster.nowMs - killedMs).toBeLessThan(2600);
      cluster.write(1, 3);
      cluster.restart(1);
      cluster.settle();
      expect(cluster.tagOn(1, 1)).toBe(3);
      expect(cluster.tagOn(1, 2)).toBe(7);
    });
  }

  test("orderly release → taken over without waiting for grants (R4)", () => {
    const cluster = new Cluster();
    cluster.write(1, 1);
    let released = false;
    cluster.node(1).slice.release(() => {
      released = true;
    });
    cluster.until(() => released, 500);
    expect(cluster.node(1).store.activeRegions()).toEqual([]);
    const releasedMs = cluster.nowMs;
    cluster.until(() => cluster.record.head === 2);
    expect(cluster.nowMs - releasedMs).toBeLessThan(400);
    expect(cluster.read(1)).toBe(1);
  });

  test("its disk fails → it gives up, another takes over; a write's outcome is unknown", () => {
    const cluster = new Cluster({ copies: 3 });
    cluster.write(1, 1);
    cluster.node(1).store.fault = () => Status.ioError;
    const request = cluster.submit(1, OperationKind.write, BLOCK, BLOCK, { tag: 2 });
    cluster.until(() => request.status !== null);
    expect(request.status).toBe(Status.unknownOutcome);
    cluster.until(() => cluster.record.head !== 1);
    expect([1, 2]).toContain(cluster.read(1));
    cluster.write(1, 3);
    expect(cluster.read(1)).toBe(3);
  });

  test("the only copy restarts → it serves again, what was flushed is there", () => {
    const cluster = new Cluster({ copies: 1 });
    cluster.write(1, 1);
    cluster.flush();
    cluster.kill(1, { power: true });
    cluster.restart(1);
    cluster.until(() => cluster.record.epoch === 2);
    expect(cluster.read(1)).toBe(1);
  });

  test("isolated with the member → its reads stop before the member serves (R4)", () => {
    const cluster = new Cluster();
    cluster.write(1, 1);
    cluster.node(1).hasControl = false;
    cluster.cut(1, 2);
    cluster.until(() => cluster.record.head === 2);
    const stale = cluster.submit(1, OperationKind.read, BLOCK, BLOCK);
    cluster.write(1, 2);
    cluster.run(3000);
    expect(stale.status).toBe(null);
    cluster.node(1).hasControl = true;
    cluster.storeBack();
    cluster.heal(1, 2);
    cluster.until(() => stale.status !== null);
    expect(stale.status).toBe(Status.notHead);
    cluster.settle();
    expect(cluster.tagOn(1, 1)).toBe(2);
  });
});

describe("all lost power", () => {
  test("all restarted, regions active → waits for all; then equal, flushed data kept (R3)", () => {
    const cluster = new Cluster();
    cluster.write(1, 1);
    cluster.flush();
    cluster.write(1, 2);
    cluster.kill(1, { power: true });
    cluster.kill(2, { power: true });
    cluster.restart(2);
    cluster.run(8000);
    expect(cluster.record.epoch).toBe(1); // Disk 1 may hold what 2 lost.
    expect(cluster.node(2).slice.status().waitsFor).toContain("disk 1");
    cluster.restart(1);
    cluster.until(() => cluster.record.epoch > 1);
    expect(cluster.inSync).toEqual([1, 2]);
    expect([1, 2]).toContain(cluster.read(1));
    cluster.run(3000);
    expect(cluster.tagOn(1, 1)).toBe(cluster.tagOn(2, 1));
  });

  test("all restarted without active regions → served at once, both kept", () => {
    const cluster = new Cluster();
    cluster.write(1, 1);
    cluster.run(4000);
    cluster.kill(1, { power: true });
    cluster.kill(2, { power: true });
    cluster.restart(1);
    cluster.restart(2);
    cluster.until(() => cluster.record.epoch > 1, 3000);
    expect(cluster.read(1)).toBe(1);
    expect(cluster.inSync).toEqual([1, 2]);
  });
});

describe("a new member", () => {
  test("named by the control station → filled beside writes, then in sync (R7)", () => {
    const cluster = new Cluster({ disks: 3, copies: 2 });
    for (let block = 0; block < 40; block++) cluster.write(block * 100, block + 1);
    cluster.kill(2);
    cluster.until(() => cluster.inSync.length === 1);
    cluster.commit({ ...cluster.record, epoch: cluster.record.epoch + 1, resyncing: [3] });
    let tag = 100;
    cluster.until(() => {
      cluster.write((tag * 37) % 4000, tag % 250);
      tag++;
      return cluster.inSync.includes(3);
    }, 60_000);
    cluster.settle();
    for (let block = 0; block < 4096; block++) {
      expect(cluster.tagOn(3, block)).toBe(cluster.tagOn(1, block));
    }
  });

  test("a copy is held up while its extent is written → old data never lands on new", () => {
    const cluster = new Cluster({ disks: 3, copies: 2 });
    cluster.write(5, 1);
    cluster.kill(2);
    cluster.until(() => cluster.inSync.length === 1);
    cluster.hold = (verb) => verb.kind === VerbKind.write && verb.toDisk === 3;
    cluster.commit({ ...cluster.record, epoch: cluster.record.epoch + 1, resyncing: [3] });
    cluster.until(() => cluster.held.length > 0);
    const request = cluster.submit(1, OperationKind.write, 5 * BLOCK, BLOCK, { tag: 2 });
    cluster.run(500);
    expect(request.status).toBe(null); // The copy holds the extent.
    cluster.letGo();
    cluster.until(() => request.status !== null);
    cluster.settle();
    expect(cluster.tagOn(3, 5)).toBe(2);
  });
});
