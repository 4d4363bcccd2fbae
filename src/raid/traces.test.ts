// SPDX-License-Identifier: Apache-2.0
//
// The losing traces of the explicit-state model of R0 to R7, each driven through the slice with the
// clause it is named after in place: the step that loses is refused, or the read is legal. Copies
// 0, 1, 2 of the model are disks 1, 2, 3 here. Steps are quoted from the model's output.

import { describe, expect, test } from "bun:test";
import { OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { VerbKind } from "#base/verbs.ts";
import { Cluster } from "./cluster-fixture.ts";

const BLOCK = 4096;

/** A cluster whose links hold every write to the disks named. */
function holding(copies: number, disks: readonly number[]): Cluster {
  const cluster = new Cluster({ copies });
  cluster.run(500);
  cluster.hold = (verb) => verb.kind === VerbKind.write && disks.includes(verb.toDisk);
  return cluster;
}

/** "copy N cut off": from the others and from the control store. */
function cutOff(cluster: Cluster, disk: number): void {
  cluster.node(disk).hasControl = false;
  for (const other of cluster.nodes.keys()) if (other !== disk) cluster.cut(disk, other);
}

function reachable(cluster: Cluster, disk: number): void {
  cluster.node(disk).hasControl = true;
  for (const other of cluster.nodes.keys()) if (other !== disk) cluster.heal(disk, other);
  cluster.storeBack();
}

function write(cluster: Cluster, disk: number, tag: number) {
  return cluster.submit(disk, OperationKind.write, 0, BLOCK, { tag });
}

describe("the trace that the model prints", () => {
  test("without `read` (R1, R6): a read of a write in flight waits", () => {
    const cluster = holding(2, [2]);
    write(cluster, 1, 1); // 1. host writes 1 to head 0
    cluster.run(20); // 2. copy 0 accepts 1
    expect(cluster.tagOn(1, 0)).toBe(1);
    const read = cluster.submit(1, OperationKind.read, 0, BLOCK);
    cluster.run(300);
    expect(read.status).toBe(null); // 3. host reads 1 from head 0: refused
    cluster.kill(1, { power: true }); // 4. copy 0 loses power
    cluster.letGo();
    cluster.until(() => cluster.record.head === 2); // 5. R3: copy 1 promoted
    expect(cluster.read(0)).toBe(0); // 6. host reads 0 from head 1: legal now
  });

  test("without `amnesia` (R0, R3): who lost its memory does not take over alone", () => {
    const cluster = new Cluster();
    cluster.write(0, 1); // 1. to 4. written, accepted by both, acked
    cutOff(cluster, 2);
    cluster.kill(1, { power: true }); // 5. copy 0 loses power
    cluster.restart(1); // 6. copy 0 restarts
    cluster.run(30_000);
    expect(cluster.record.epoch).toBe(1); // 7. R3: copy 0 promoted: refused
    expect(cluster.node(1).slice.status().availability).toBe("waiting");
    reachable(cluster, 2);
    cluster.until(() => cluster.record.epoch > 1);
    expect(cluster.record.head).toBe(2);
    expect(cluster.read(0)).toBe(1);
  });

  test("without `own` (R7): the one that returns gives up what only it had", () => {
    const cluster = holding(2, [2]);
    const lost = write(cluster, 1, 1); // 1. host writes 1 to head 0
    cluster.run(20); // 2. copy 0 accepts 1
    cutOff(cluster, 1); // 3. copy 0 cut off
    cluster.letGo();
    cluster.until(() => cluster.record.head === 2); // 4. R3: copy 1 promoted
    expect(cluster.read(0)).toBe(0); // 5. host reads 0 from head 1
    reachable(cluster, 1); // 6. copy 0 reachable again
    cluster.settle(); // 7. R7: copy 0 rejoins
    expect(lost.status).toBe(Status.unknownOutcome);
    expect(cluster.tagOn(1, 0)).toBe(0);
    cluster.kill(2, { power: true }); // 8. copy 1 loses power
    cluster.until(() => cluster.record.head === 1); // 9. R3: copy 0 promoted
    expect(cluster.read(0)).toBe(0); // 10. host reads 1 from head 0: not any more
  });

  test("without `al` (R6): nobody clears its own active region", () => {
    const cluster = holding(2, [2]);
    write(cluster, 1, 1); // 1. host writes 1 to head 0
    cluster.run(20); // 2. copy 0 accepts 1
    cluster.node(1).disk.flush(); // 3. copy 0 writes back
    cluster.run(3000);
    expect(cluster.node(1).store.activeRegions()).toEqual([0]); // 4. clears: refused
    cluster.kill(1, { power: true }); // 5. copy 0 loses power
    cluster.letGo();
    cluster.until(() => cluster.record.head === 2); // 6. R3: copy 1 promoted
    expect(cluster.read(0)).toBe(0); // 7. host reads 0 from head 1
    cluster.restart(1); // 8. copy 0 restarts
    cluster.settle(); // 9. R7: copy 0 rejoins
    cluster.kill(2, { power: true }); // 10. copy 1 loses power
    cluster.until(() => cluster.record.head === 1); // 11. R3: copy 0 promoted
    expect(cluster.read(0)).toBe(0); // 12. host reads 1 from head 0: not any more
  });

  test("without `eject` and `union` (R2, R6): active becomes dirty for whoever leaves", () => {
    const cluster = holding(2, []);
    cluster.node(1).store.stuck = true;
    write(cluster, 1, 1); // 1. host writes 1 to head 0
    cluster.run(20); // 2. copy 1 accepts 1
    expect([cluster.tagOn(1, 0), cluster.tagOn(2, 0)]).toEqual([0, 1]);
    cluster.kill(1, { power: true }); // 3. copy 0 loses power
    cluster.until(() => cluster.record.head === 2); // 4. R3: copy 1 promoted
    expect(cluster.read(0)).toBe(1); // 5. host reads 1 from head 1
    cluster.restart(1); // 6. copy 0 restarts
    cluster.settle(); // 7. R7: copy 0 rejoins
    expect(cluster.tagOn(1, 0)).toBe(1);
    cluster.kill(2, { power: true }); // 8. copy 1 loses power
    cluster.until(() => cluster.record.head === 1); // 9. R3: copy 0 promoted
    expect(cluster.read(0)).toBe(1); // 10. host reads 0 from head 0: not any more
  });

  test("without `inherit` (R7): who was brought up owes what its source owed", () => {
    const cluster = holding(3, [3]);
    cluster.node(1).store.stuck = true;
    write(cluster, 1, 1); // 1. host writes 1 to head 0
    cluster.run(20); // 2. copy 1 accepts 1
    expect([1, 2, 3].map((disk) => cluster.tagOn(disk, 0))).toEqual([0, 1, 0]);
    cluster.kill(1, { power: true }); // 3. copy 0 loses power
    cluster.node(3).hasControl = false; // Copy 1 is the one to go.
    cluster.until(() => cluster.record.head === 2); // 4. R3: copy 1 promoted
    cluster.letGo();
    cluster.restart(1); // 5. copy 0 restarts
    cluster.until(() => cluster.inSync.includes(1)); // 6. R7: copy 0 rejoins
    cutOff(cluster, 2); // 7. copy 1 cut off
    cluster.until(() => cluster.record.head === 1); // 8. R3: copy 0 promoted
    expect(cluster.read(0)).toBe(1); // 9. host reads 1 from head 0
    cluster.node(3).hasControl = true;
    cluster.storeBack();
    cutOff(cluster, 1); // 10. copy 0 cut off
    cluster.until(() => cluster.record.head === 3); // 11. R3: copy 2 promoted
    expect(cluster.read(0)).toBe(1); // 12. host reads 0 from head 2: not any more
  });

  test("without `union` (R6): active is dirty for every absent member, at every takeover", () => {
    const cluster = holding(3, [3]);
    cluster.node(1).store.stuck = true;
    write(cluster, 1, 1); // 1. host writes 1 to head 0
    cluster.run(20); // 2. copy 1 accepts 1
    cluster.kill(1, { power: true }); // 3. copy 0 loses power
    cluster.node(2).hasControl = false; // Copy 2 is the one to go, and never reaches copy 1.
    cluster.hold = (verb) => verb.kind === VerbKind.attach && verb.toDisk === 2;
    cluster.until(() => cluster.record.head === 3); // 4. R3: copy 2 promoted
    cluster.restart(1); // 5. copy 0 restarts
    cutOff(cluster, 3); // 6. copy 2 cut off
    cluster.node(2).hasControl = true;
    cluster.storeBack();
    cluster.until(() => cluster.record.head === 2); // 7. R3: copy 1 promoted
    expect(cluster.read(0)).toBe(1); // 8. host reads 1 from head 1
    cluster.until(() => cluster.inSync.includes(1)); // 9. R7: copy 0 rejoins
    expect(cluster.tagOn(1, 0)).toBe(1);
    cutOff(cluster, 2); // 10. copy 1 cut off
    cluster.until(() => cluster.record.head === 1); // 11. R3: copy 0 promoted
    expect(cluster.read(0)).toBe(1); // 12. host reads 0 from head 0: not any more
  });

  test("without `early` (R6): active durably before the write touches", () => {
    const cluster = new Cluster();
    const seen: string[] = [];
    for (const disk of [1, 2]) {
      const { store } = cluster.node(disk);
      const { submit } = store;
      store.submit = (operation) => {
        if (operation.kind === OperationKind.write) seen.push(`${disk}:${store.isActive(0)}`);
        submit.call(store, operation);
      };
    }
    cluster.write(0, 1);
    expect(seen.sort()).toEqual(["1:true", "2:true"]);
  });
});
