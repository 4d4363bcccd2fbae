// SPDX-License-Identifier: Apache-2.0
//
// A disk that is being retired: it serves as a source until another member has taken its place, and
// is let go then; also when it is the head's own.

import { describe, expect, test } from "bun:test";
import { OperationKind } from "#base/operation.ts";
import type { DiskPlans } from "#base/record.ts";
import { Status } from "#base/status.ts";
import { Cluster } from "./cluster-fixture.ts";

const BLOCK = 4096;

function retired(disk: number): DiskPlans {
  return { leaving: new Set([disk]), maintained: new Set() };
}

/** Two copies on three disks; `leaving` is being retired, disk 3 named in its place. */
function retiring(leaving: number): Cluster {
  const cluster = new Cluster({ disks: 3, copies: 2 });
  for (let block = 0; block < 13; block++) cluster.write(block * 300, block + 1);
  for (const node of cluster.nodes.values()) node.slice.setPlans(retired(leaving));
  const { record } = cluster;
  cluster.commit({ ...record, epoch: record.epoch + 1, resyncing: [3] });
  return cluster;
}

describe("a retired disk", () => {
  for (const leaving of [1, 2]) {
    const role = leaving === 1 ? "the head's" : "a member's";
    test(`${role} → two good copies at any time, then it is let go; nothing lost`, () => {
      const cluster = retiring(leaving);
      const stays = leaving === 1 ? 2 : 1;
      let fewest = 9;
      cluster.until(() => {
        fewest = Math.min(fewest, cluster.inSync.length);
        return cluster.inSync.join() === [stays, 3].join();
      });
      expect(fewest).toBe(2);
      for (let block = 0; block < 13; block++) expect(cluster.read(block * 300)).toBe(block + 1);
      cluster.run(5000);
      // It does not come back.
      expect(cluster.inSync).toEqual([stays, 3]);
      expect(cluster.record.resyncing).toEqual([]);
      for (let block = 0; block < 13; block++) {
        expect(cluster.tagOn(3, block * 300)).toBe(block + 1);
      }
    });
  }

  test("hosts write all the while → every ack is kept", () => {
    for (const leaving of [1, 2]) {
      const cluster = retiring(leaving);
      const tags = new Map<number, number>();
      for (let step = 0; step < 400; step++) {
        const block = (step * 7) % 40;
        const tag = 1 + (step % 250);
        const { head } = cluster.record;
        const write = cluster.submit(head, OperationKind.write, block * BLOCK, BLOCK, { tag });
        cluster.until(() => write.status !== null);
        if (write.status === Status.ok) tags.set(block, tag);
        else if (write.status === Status.unknownOutcome) tags.delete(block);
        // Nothing was done; the next head is on its way.
        else cluster.run(20);
      }
      cluster.until(() => !cluster.inSync.includes(leaving) && cluster.inSync.length === 2);
      expect(tags.size).toBeGreaterThan(30);
      for (const [block, tag] of tags) expect(cluster.read(block)).toBe(tag);
    }
  });

  test("nobody takes its place → it stays, however long", () => {
    const cluster = new Cluster({ copies: 2 });
    cluster.write(0, 1);
    for (const node of cluster.nodes.values()) node.slice.setPlans(retired(2));
    cluster.run(20_000);
    expect(cluster.inSync).toEqual([1, 2]);
  });

  test("a target that is not needed, with no disk retired → stays out, as before", () => {
    const cluster = new Cluster({ disks: 3, copies: 2 });
    cluster.write(0, 1);
    const { record } = cluster;
    cluster.commit({ ...record, epoch: record.epoch + 1, resyncing: [3] });
    cluster.run(5000);
    expect(cluster.inSync).toEqual([1, 2]);
  });
});
