// SPDX-License-Identifier: Apache-2.0
//
// A disk that is taken out, or is to be opened anew: its slice gives it up and says so, so that
// nobody waits for answers or grants that will not come (R2, R4, R10).

import { describe, expect, test } from "bun:test";
import { MEMBER_STALL_MS } from "#base/limits.ts";
import { Cluster } from "./cluster-fixture.ts";

function give(cluster: Cluster, disk: number): void {
  cluster.nodes.get(disk)?.slice.giveUp("its disk was taken out");
}

describe("a disk that was taken out", () => {
  test("a member's, while nobody writes → dropped at once; reads go on", () => {
    const cluster = new Cluster({ copies: 3 });
    cluster.write(0, 7);
    cluster.run(2000);
    give(cluster, 2);
    cluster.run(MEMBER_STALL_MS / 5);
    expect(cluster.inSync).toEqual([1, 3]);
    expect(cluster.read(0)).toBe(7);
  });

  test("a member's, its last words lost → dropped by its answer to the next beacon", () => {
    const cluster = new Cluster({ copies: 2 });
    cluster.write(0, 7);
    cluster.run(2000);
    cluster.cut(1, 2);
    give(cluster, 2);
    cluster.heal(1, 2);
    cluster.run(MEMBER_STALL_MS / 5);
    expect(cluster.inSync).toEqual([1]);
    expect(cluster.read(0)).toBe(7);
  });

  test("the head's → another member takes over without waiting for grants to run out", () => {
    const cluster = new Cluster({ copies: 2 });
    cluster.write(0, 7);
    cluster.run(2000);
    give(cluster, 1);
    cluster.run(1000);
    expect(cluster.record).toMatchObject({ head: 2 });
    expect(cluster.inSync).toEqual([2]);
    expect(cluster.read(0)).toBe(7);
  });

  test("the only copy's → errors, never old bytes; nobody takes it over", () => {
    const cluster = new Cluster({ copies: 2 });
    cluster.write(0, 7);
    give(cluster, 2);
    cluster.until(() => cluster.inSync.join() === "1");
    cluster.write(0, 8);
    give(cluster, 1);
    cluster.run(20_000);
    expect(cluster.record.head).toBe(1);
    expect(cluster.nodes.get(1)?.slice.status().availability).toBe("offline");
  });
});
