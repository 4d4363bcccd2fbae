// SPDX-License-Identifier: Apache-2.0
//
// A disk whose unit is in maintenance: what it heads goes to another member in order, it comes back
// in as a member, and while it is away its place is kept.

import { describe, expect, test } from "bun:test";
import { OperationKind } from "#base/operation.ts";
import type { DiskPlans } from "#base/record.ts";
import { NO_PLANS } from "#base/record.ts";
import { Status } from "#base/status.ts";
import { VerbKind } from "#base/verbs.ts";
import { Cluster } from "./cluster-fixture.ts";

const BLOCK = 4096;

function plan(cluster: Cluster, plans: DiskPlans): void {
  for (const node of cluster.nodes.values()) node.slice.setPlans(plans);
}
function maintain(cluster: Cluster, ...disks: number[]): void {
  plan(cluster, { leaving: new Set(), maintained: new Set(disks) });
}

describe("the head's unit is in maintenance", () => {
  test("→ the other heads it within a tick or two, both are in sync, nothing is copied", () => {
    const cluster = new Cluster();
    for (let block = 0; block < 9; block++) cluster.write(block * 300, block + 1);
    maintain(cluster, 1);
    const begunMs = cluster.nowMs;
    cluster.until(() => cluster.record.head === 2);
    expect(cluster.nowMs - begunMs).toBeLessThan(500);
    cluster.until(() => cluster.inSync.join() === "1,2");
    expect(cluster.node(2).slice.status().counters.resyncedBytes).toBe(0);
    for (let block = 0; block < 9; block++) expect(cluster.read(block * 300)).toBe(block + 1);
    cluster.run(20_000);
    expect([cluster.record.head, cluster.inSync.join()]).toEqual([2, "1,2"]);
  });

  test("hosts write all the while → every ack is kept, and none fails", () => {
    const cluster = new Cluster({ disks: 3, copies: 3 });
    const tags = new Map<number, number>();
    for (let step = 0; step < 300; step++) {
      if (step === 50) maintain(cluster, 1);
      if (step === 150) maintain(cluster, 1, 2);
      const block = (step * 7) % 40;
      const tag = 1 + (step % 250);
      const { head } = cluster.record;
      const write = cluster.submit(head, OperationKind.write, block * BLOCK, BLOCK, { tag });
      cluster.until(() => write.status !== null);
      // Nothing was done: the next head is on its way.
      if (write.status === Status.notHead) cluster.run(20);
      else expect(write.status).toBe(Status.ok);
      if (write.status === Status.ok) tags.set(block, tag);
    }
    cluster.until(() => cluster.record.head === 3 && cluster.inSync.join() === "1,2,3");
    expect(tags.size).toBe(40);
    for (const [block, tag] of tags) expect(cluster.read(block)).toBe(tag);
  });

  test("no other member is in sync, or all are in maintenance → it goes on", () => {
    const cluster = new Cluster();
    cluster.write(0, 1);
    maintain(cluster, 1, 2);
    cluster.run(5000);
    expect(cluster.record.head).toBe(1);
    cluster.kill(2);
    maintain(cluster, 1);
    cluster.until(() => cluster.inSync.join() === "1");
    expect(cluster.read(0)).toBe(1);
    cluster.run(5000);
    expect([cluster.record.head, cluster.read(0)]).toEqual([1, 1]);
  });

  test("it released, and nobody can commit → it serves in a later epoch, never in that one", () => {
    const cluster = new Cluster();
    cluster.write(0, 1);
    cluster.node(2).hasControl = false;
    let releasedIn = 0;
    cluster.onDelivered = (verb) => {
      if (verb.kind === VerbKind.release) releasedIn = verb.epoch;
    };
    maintain(cluster, 1);
    cluster.until(() => releasedIn > 0);
    const { epoch } = cluster.record;
    expect(epoch).toBe(releasedIn);
    // Records come twice: this one does not make it the head again.
    cluster.node(1).slice.recordChanged(cluster.record);
    const early = cluster.submit(1, OperationKind.read, 0, BLOCK);
    cluster.run(100);
    expect(early.status).toBe(Status.notHead);
    cluster.until(() => cluster.record.epoch > epoch);
    expect(cluster.record.head).toBe(1);
    plan(cluster, NO_PLANS);
    expect(cluster.read(0)).toBe(1);
    cluster.write(0, 2);
    cluster.node(2).hasControl = true;
    cluster.storeBack();
    cluster.run(5000);
    expect([cluster.read(0), cluster.inSync.join()]).toEqual([2, "1,2"]);
  });

  test("a request hangs on a stuck member → it serves on instead of waiting for ever", () => {
    const cluster = new Cluster({ disks: 3, copies: 3 });
    cluster.write(0, 1);
    cluster.node(3).store.stuck = true;
    const write = cluster.submit(1, OperationKind.write, 0, BLOCK, { tag: 2 });
    maintain(cluster, 1);
    cluster.run(1500);
    const next = cluster.submit(1, OperationKind.write, 300 * BLOCK, BLOCK, { tag: 3 });
    cluster.until(() => next.status !== null && write.status !== null);
    expect([write.status, next.status]).toEqual([Status.ok, Status.ok]);
    cluster.until(() => cluster.record.head === 2);
    expect([cluster.read(0), cluster.read(300)]).toEqual([2, 3]);
  });
});

describe("a member's unit is in maintenance and away", () => {
  test("→ its place is kept as a target's; back, it copies what was written and no more", () => {
    const cluster = new Cluster({ disks: 3 });
    for (let block = 0; block < 9; block++) cluster.write(block * 300, block + 1);
    maintain(cluster, 2);
    cluster.kill(2);
    cluster.until(() => cluster.inSync.join() === "1");
    expect(cluster.record.resyncing).toEqual([2]);
    cluster.write(600, 77);
    cluster.run(60_000);
    expect(cluster.record.resyncing).toEqual([2]);
    cluster.restart(2);
    maintain(cluster, 2);
    cluster.until(() => cluster.inSync.join() === "1,2");
    expect(cluster.tagOn(2, 600)).toBe(77);
    expect(cluster.head.slice.status().counters.resyncedBytes).toBeLessThan(8 << 20);
  });

  test("it was the head and did not hand on → the next head keeps its place", () => {
    const cluster = new Cluster({ disks: 3 });
    cluster.write(0, 1);
    cluster.kill(1);
    maintain(cluster, 1);
    cluster.until(() => cluster.record.head === 2);
    cluster.until(() => cluster.record.resyncing.join() === "1");
    cluster.run(30_000);
    expect(cluster.record.resyncing).toEqual([1]);
  });

  test("the maintenance ends while it is away → its place is free after a while", () => {
    const cluster = new Cluster({ disks: 3 });
    cluster.write(0, 1);
    maintain(cluster, 2);
    cluster.kill(2);
    cluster.until(() => cluster.record.resyncing.join() === "2");
    plan(cluster, NO_PLANS);
    cluster.until(() => cluster.record.resyncing.length === 0);
    expect(cluster.inSync).toEqual([1]);
  });
});
