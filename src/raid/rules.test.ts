// SPDX-License-Identifier: Apache-2.0
//
// The rules one by one (contract.md), each at the moment where breaking it would lose something.

import { describe, expect, test } from "bun:test";
import { FLAG_FUA, FLAG_RESENT, OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { VerbKind } from "#base/verbs.ts";
import { Cluster } from "./cluster-fixture.ts";
import type { Request } from "./cluster-fixture.ts";

const BLOCK = 4096;
const EXTENT = 1 << 20;

describe("R1: acks", () => {
  test("overlapping writes end alike on all members, in order of arrival", () => {
    const cluster = new Cluster({ copies: 3, linkMs: 20 });
    cluster.write(0, 9);
    const requests = [1, 2, 3, 4, 5].map((tag) =>
      cluster.submit(1, OperationKind.write, 0, 8 * BLOCK, { tag }),
    );
    cluster.until(() => requests.every((request) => request.status === Status.ok));
    for (const disk of [1, 2, 3]) {
      for (let block = 0; block < 8; block++) expect(cluster.tagOn(disk, block)).toBe(5);
    }
    const ends = requests.map((request) => request.endedMs);
    expect(ends).toEqual([...ends].sort((a, b) => a - b));
  });

  test("at risk, plain acks wait for media; with two members they do not", () => {
    const cluster = new Cluster();
    cluster.write(0, 1);
    expect(cluster.node(1).disk.media.size).toBe(0);
    cluster.kill(2);
    cluster.until(() => cluster.inSync.length === 1);
    cluster.write(0, 2);
    expect(cluster.node(1).disk.media.get(0)?.blocks.get(0)?.[0]).toBe(2);
  });

  test("written plainly, acked after the set shrank to one → on media first", () => {
    const cluster = new Cluster();
    cluster.hold = (verb) => verb.kind === VerbKind.write;
    const request = cluster.submit(1, OperationKind.write, 0, BLOCK, { tag: 3 });
    cluster.run(50);
    cluster.kill(2);
    cluster.until(() => request.status !== null);
    expect(request.status).toBe(Status.ok);
    expect(cluster.node(1).disk.media.get(0)?.blocks.get(0)?.[0]).toBe(3);
  });

  test("FUA → on media of every member at the ack (H5)", () => {
    const cluster = new Cluster({ copies: 3 });
    cluster.write(0, 4, FLAG_FUA);
    for (const disk of [1, 2, 3]) {
      expect(cluster.node(disk).disk.media.get(0)?.blocks.get(0)?.[0]).toBe(4);
    }
  });

  test("the buffer is the host's again only after every link let go of it", () => {
    const cluster = new Cluster({ copies: 3 });
    cluster.run(200);
    cluster.hold = (verb) => verb.kind === VerbKind.write && verb.toDisk === 3;
    const request = cluster.submit(1, OperationKind.write, 0, BLOCK, { tag: 7 });
    cluster.run(100);
    // Dropped by its disk's answer to something else: nobody waits for it any more but its link.
    cluster.node(3).alive = false;
    cluster.node(1).slice.linkDown(3);
    cluster.until(() => !cluster.inSync.includes(3));
    cluster.run(500);
    expect(request.status).toBe(null);
    cluster.node(3).alive = true;
    cluster.letGo();
    cluster.run(50);
    expect(request.status).toBe(Status.ok);
  });
});

describe("R2: shrink before ack", () => {
  test("committed, but another member has not stored the record → no ack", () => {
    const cluster = new Cluster({ copies: 3 });
    cluster.write(0, 1);
    cluster.hold = (verb) => verb.kind === VerbKind.write && verb.toDisk === 3;
    const request = cluster.submit(1, OperationKind.write, 0, BLOCK, { tag: 2 });
    cluster.run(20);
    cluster.hold = (verb) => verb.kind === VerbKind.attached;
    cluster.kill(3);
    cluster.until(() => cluster.inSync.length === 2);
    cluster.run(300);
    expect(cluster.tagOn(1, 0)).toBe(2);
    expect(cluster.tagOn(2, 0)).toBe(2);
    expect(request.status).toBe(null);
    cluster.letGo();
    cluster.until(() => request.status !== null);
    expect(request.status).toBe(Status.ok);
    expect(cluster.node(2).disk.record?.epoch).toBe(cluster.record.epoch);
  });

  test("the control store away → the write waits however long, and the console is told", () => {
    const cluster = new Cluster();
    cluster.write(0, 1);
    cluster.storeAway = true;
    cluster.kill(2);
    const request = cluster.submit(1, OperationKind.write, 0, BLOCK, { tag: 2 });
    cluster.run(60_000);
    expect(request.status).toBe(null);
    const { availability, waitsFor } = cluster.node(1).slice.status();
    expect(availability).toBe("waiting");
    expect(waitsFor).toContain("control store");
    cluster.storeBack();
    cluster.until(() => request.status === Status.ok);
  });

  test("healthy I/O without the control store goes on (R14)", () => {
    const cluster = new Cluster({ copies: 3 });
    cluster.storeAway = true;
    for (let tag = 1; tag <= 50; tag++) {
      cluster.write(tag % 7, tag);
      cluster.run(1000);
    }
    expect(cluster.read(50 % 7)).toBe(50);
    expect(cluster.record.epoch).toBe(1);
  });
});

describe("R4: fencing and grants", () => {
  test("a member does not grant → reads wait once its last grant ran out, writes go on", () => {
    const cluster = new Cluster();
    cluster.write(0, 1);
    cluster.run(500);
    cluster.hold = (verb) => verb.kind === VerbKind.grant;
    cluster.run(2100);
    const read = cluster.submit(1, OperationKind.read, 0, BLOCK);
    cluster.run(200);
    expect(read.status).toBe(null);
    cluster.write(1, 2);
    cluster.hold = null;
    cluster.until(() => read.status === Status.ok);
    expect(read.tags).toEqual([1]);
  });

  test("the member takes over no sooner than L after its last grant", () => {
    const cluster = new Cluster();
    cluster.write(0, 1);
    let lastGrantMs = 0;
    cluster.hold = (verb) => {
      if (verb.kind === VerbKind.grant) lastGrantMs = cluster.nowMs;
      return false;
    };
    cluster.run(1000);
    cluster.node(1).hasControl = false;
    cluster.cut(1, 2);
    cluster.until(() => cluster.record.head === 2);
    expect(cluster.nowMs - lastGrantMs).toBeGreaterThanOrEqual(2000);
    expect(cluster.nowMs - lastGrantMs).toBeLessThan(2400);
    // Told once it serves, with the time since the head before was heard last.
    expect(cluster.takeovers).toEqual([]);
    cluster.until(() => cluster.takeovers.length > 0);
    const [told] = cluster.takeovers;
    expect(told?.from).toBe(1);
    expect(told?.pauseMs).toBeGreaterThanOrEqual(2000);
    expect(told?.pauseMs).toBeLessThan(3500);
    cluster.run(2000);
    expect(cluster.takeovers).toHaveLength(1);
  });

  test("a write of a deposed head that arrives late → refused, its host is told the truth", () => {
    const cluster = new Cluster({ copies: 3 });
    cluster.write(0, 1);
    cluster.hold = (verb) => verb.kind === VerbKind.beacon || verb.kind === VerbKind.write;
    const late = cluster.submit(1, OperationKind.write, 0, BLOCK, { tag: 2 });
    cluster.run(20);
    cluster.node(1).hasControl = false;
    cluster.cut(1, 2);
    cluster.until(() => cluster.record.head !== 1, 10_000);
    cluster.hold = null;
    cluster.held = cluster.held.filter((sent) => sent.verb.kind === VerbKind.write);
    cluster.until(() => cluster.node(cluster.record.head).slice.status().availability === "online");
    cluster.deliverHeld();
    cluster.run(1000);
    expect(late.status).toBe(Status.unknownOutcome);
    expect(cluster.read(0)).toBe(1);
    cluster.heal(1, 2);
    cluster.node(1).hasControl = true;
    cluster.storeBack();
    cluster.settle();
    expect(cluster.tagOn(1, 0)).toBe(1);
  });

  test("a head that slept through its own deposition answers nothing", () => {
    const cluster = new Cluster();
    cluster.write(0, 1);
    const asleep = cluster.node(1);
    asleep.alive = false; // Paused: no ticks, no verbs; its links stay up.
    cluster.until(() => cluster.record.head === 2);
    cluster.until(() => cluster.node(2).slice.status().availability === "online");
    cluster.write(0, 2);
    asleep.alive = true;
    const read = cluster.submit(1, OperationKind.read, 0, BLOCK);
    expect(read.status).toBe(null);
    cluster.storeBack();
    cluster.run(100);
    expect(read.status).toBe(Status.notHead);
  });

  test("a member that was not heard of for long because we slept → not dropped", () => {
    const cluster = new Cluster();
    cluster.write(0, 1);
    const asleep = cluster.node(2);
    cluster.node(1).alive = false;
    asleep.alive = false;
    cluster.run(20_000);
    cluster.node(1).alive = true;
    asleep.alive = true;
    cluster.run(3000);
    expect(cluster.record.epoch).toBe(1);
    expect(cluster.read(0)).toBe(1);
  });
});

describe("R6: activity", () => {
  test("an order to make inactive overtaken by a write → the region stays active", () => {
    const cluster = new Cluster();
    cluster.write(0, 1);
    cluster.hold = (verb) => verb.kind === VerbKind.deactivate;
    cluster.until(() => cluster.held.length > 0);
    cluster.write(1, 2);
    cluster.deliverHeld();
    expect(cluster.node(2).store.activeRegions()).toEqual([0]);
    cluster.hold = null;
    cluster.run(3000);
    expect(cluster.node(2).store.activeRegions()).toEqual([]);
  });

  test("a sole copy → regions beside one written to are active too, all inactive when idle", () => {
    const cluster = new Cluster({ copies: 1, sizeBytes: 40 * (4 << 20) });
    cluster.write(33 * 1024, 1);
    cluster.run(200);
    const active = () => cluster.node(1).store.activeRegions();
    expect(active()).toEqual([32, 33, 34, 35, 36, 37, 38, 39]);
    cluster.run(15_000);
    expect(active()).toEqual([]);
  });

  test("a sole copy, writes go on to the next region → the next group is active ahead too", () => {
    const cluster = new Cluster({ copies: 1, sizeBytes: 60 * (4 << 20) });
    const active = () => cluster.node(1).store.activeRegions();
    cluster.write(3 * 1024, 1);
    cluster.run(200);
    expect(active()).toHaveLength(16);
    cluster.write(9 * 1024, 1);
    cluster.run(200);
    expect(active()).toHaveLength(16);
    cluster.write(4 * 1024, 1);
    cluster.run(200);
    expect(active()).toHaveLength(32);
    cluster.write(5 * 1024, 1);
    cluster.run(200);
    expect(Math.max(...active())).toBe(31);
  });

  test("the last of two copies → only what is written to, since the other is owed the rest", () => {
    const cluster = new Cluster({ sizeBytes: 40 * (4 << 20) });
    cluster.write(33 * 1024, 1);
    cluster.run(200);
    expect(cluster.node(1).store.activeRegions()).toEqual([33]);
    cluster.kill(2);
    cluster.until(() => cluster.inSync.length === 1);
    cluster.write(3 * 1024, 2);
    cluster.run(200);
    const active = cluster.node(1).store.activeRegions();
    expect(active.every((region) => region === 3 || region === 33)).toBe(true);
  });

  test("more regions than may be active → writes wait for the oldest, none is refused", () => {
    const [regions, most] = [300, 256];
    const slice = { activeRegionsMax: most };
    const cluster = new Cluster({ sizeBytes: regions * (4 << 20), slice });
    const requests: Request[] = [];
    for (let region = 0; region < regions; region++) {
      const at = region * (4 << 20);
      requests.push(cluster.submit(1, OperationKind.write, at, BLOCK, { tag: 1 }));
    }
    let seen = 0;
    cluster.until(() => {
      seen = Math.max(seen, cluster.node(1).store.activeRegions().length);
      return requests.every((request) => request.status !== null);
    });
    expect(requests.every((request) => request.status === Status.ok)).toBe(true);
    expect(seen).toBeGreaterThan(most / 2);
    expect(seen).toBeLessThanOrEqual(most);
  });
});

describe("R10: credit", () => {
  test("a sole copy, more new extents at once than its credit → none waits for a tick", () => {
    const cluster = new Cluster({ copies: 1, sizeBytes: 64 << 20 });
    cluster.write(0, 1);
    const startMs = cluster.nowMs;
    const requests: Request[] = [];
    for (let extent = 1; extent < 64; extent++) {
      const at = extent * EXTENT;
      requests.push(cluster.submit(1, OperationKind.write, at, BLOCK, { tag: 1 }));
    }
    cluster.until(() => requests.every((request) => request.status !== null));
    expect(requests.every((request) => request.status === Status.ok)).toBe(true);
    expect(cluster.nowMs - startMs).toBeLessThan(50);
  });
});

describe("R7: rejoin", () => {
  test("target restarts while proposed → nothing acked without it until that is known", () => {
    const cluster = new Cluster();
    cluster.write(0, 1);
    cluster.kill(2, { power: true });
    cluster.until(() => cluster.inSync.length === 1);
    cluster.write(0, 2);
    cluster.restart(2);
    cluster.until(() => cluster.record.resyncing.length === 1);
    cluster.storeAway = true; // The proposal to name it in sync hangs.
    cluster.run(3000);
    expect(cluster.tagOn(2, 0)).toBe(2);
    cluster.kill(2, { power: true });
    cluster.restart(2);
    const request = cluster.submit(1, OperationKind.write, 0, BLOCK, { tag: 3 });
    cluster.run(2000);
    expect(request.status).toBe(null);
    cluster.storeBack();
    cluster.until(() => request.status !== null);
    expect(request.status).toBe(Status.ok);
    cluster.settle();
    expect(cluster.tagOn(2, 0)).toBe(3);
  });

  test("trimmed while it was away → trimmed there; nothing else is copied", () => {
    const cluster = new Cluster();
    cluster.write(0, 1);
    cluster.write(2000, 1);
    cluster.run(3000);
    cluster.kill(2);
    cluster.until(() => cluster.inSync.length === 1);
    const trim = cluster.submit(1, OperationKind.trim, 0, EXTENT);
    cluster.until(() => trim.status === Status.ok);
    cluster.run(3000);
    cluster.restart(2);
    cluster.settle();
    expect(cluster.node(2).disk.cache.has(0)).toBe(false);
    expect(cluster.node(1).slice.status().counters.resyncedBytes).toBe(0);
  });

  test("others already keep the promise → a former member is not taken back", () => {
    const cluster = new Cluster({ disks: 3, copies: 2 });
    cluster.write(0, 1);
    cluster.kill(2);
    cluster.until(() => cluster.inSync.length === 1);
    cluster.commit({ ...cluster.record, epoch: cluster.record.epoch + 1, resyncing: [3] });
    cluster.settle();
    cluster.restart(2);
    cluster.run(5000);
    expect(cluster.inSync).toEqual([1, 3]);
    expect(cluster.record.resyncing).toEqual([]);
    expect(cluster.node(2).slice.status().role).toBe("outside");
  });

  test("the target goes for good → its place is free again; it comes back all the same", () => {
    const cluster = new Cluster();
    cluster.write(0, 1);
    cluster.kill(2);
    cluster.until(() => cluster.inSync.length === 1);
    cluster.hold = (verb) => verb.kind === VerbKind.map;
    cluster.restart(2);
    cluster.until(() => cluster.record.resyncing.length === 1);
    cluster.run(1000);
    cluster.kill(2);
    cluster.letGo();
    cluster.run(8000);
    expect(cluster.record.resyncing).toEqual([2]);
    cluster.run(4000);
    expect(cluster.record.resyncing).toEqual([]);
    cluster.restart(2);
    cluster.settle();
    expect(cluster.tagOn(2, 0)).toBe(1);
  });

  test("the source dies in the middle → the next head begins again, to the end", () => {
    const cluster = new Cluster({ copies: 3 });
    for (let extent = 0; extent < 16; extent++) cluster.write(extent * 256, extent + 1);
    cluster.kill(3, { power: true });
    cluster.until(() => cluster.inSync.length === 2);
    for (let extent = 0; extent < 16; extent++) cluster.write(extent * 256, extent + 101);
    cluster.restart(3);
    const copied = () => cluster.node(1).slice.status().counters.resyncedBytes;
    cluster.until(() => copied() >= 4 * EXTENT);
    cluster.kill(1, { power: true });
    cluster.until(() => cluster.record.head === 2);
    cluster.restart(1);
    cluster.settle();
    for (const disk of [1, 2, 3]) {
      for (let extent = 0; extent < 16; extent++) {
        expect(cluster.tagOn(disk, extent * 256)).toBe(extent + 101);
      }
    }
  });
});

describe("R9: checksums", () => {
  test("a bad block of the head → read from another member, rewritten, counted", () => {
    const cluster = new Cluster();
    cluster.write(5, 1);
    cluster.node(1).disk.bad.add(5);
    expect(cluster.read(5)).toBe(1);
    expect(cluster.node(1).disk.bad.size).toBe(0);
    expect(cluster.node(1).slice.status().counters.healed).toBe(1);
  });

  test("bad on all → mediumError, never stale or zero; a whole write makes it good (H8)", () => {
    const cluster = new Cluster();
    cluster.write(5, 1);
    for (const disk of [1, 2]) cluster.node(disk).disk.bad.add(5);
    const read = cluster.submit(1, OperationKind.read, 4 * BLOCK, 4 * BLOCK);
    cluster.until(() => read.status !== null);
    expect(read.status).toBe(Status.mediumError);
    cluster.write(5, 2);
    expect(cluster.read(5)).toBe(2);
  });

  test("a write of part of a block that is bad here or there → repaired, then written", () => {
    for (const bad of [1, 2]) {
      const cluster = new Cluster();
      cluster.write(5, 1);
      cluster.node(bad).disk.bad.add(5);
      const part = cluster.submit(1, OperationKind.write, 5 * BLOCK + 512, 512, { tag: 2 });
      cluster.until(() => part.status !== null);
      expect(part.status).toBe(Status.ok);
      for (const disk of [1, 2]) {
        expect(cluster.node(disk).disk.bad.size).toBe(0);
        const block = cluster.node(disk).disk.cache.get(0)?.blocks.get(5);
        expect([block?.[0], block?.[512], block?.[1024]]).toEqual([1, 2, 1]);
      }
    }
  });
});

describe("R10: space", () => {
  for (const full of [1, 2]) {
    test(`no room on disk ${full} → noSpace before any member was touched`, () => {
      const cluster = new Cluster();
      cluster.node(full).disk.capacityExtents = 3;
      for (let extent = 0; extent < 3; extent++) cluster.write(extent * 256, 1);
      cluster.run(1000);
      const request = cluster.submit(1, OperationKind.write, 3 * EXTENT, BLOCK, { tag: 1 });
      cluster.until(() => request.status !== null);
      expect(request.status).toBe(Status.noSpace);
      for (const disk of [1, 2]) expect(cluster.node(disk).disk.cache.has(3)).toBe(false);
      expect(cluster.inSync).toEqual([1, 2]);
      cluster.write(0, 2); // What is allocated can be overwritten,
      const trim = cluster.submit(1, OperationKind.trim, EXTENT, EXTENT);
      cluster.until(() => trim.status === Status.ok);
      cluster.run(600);
      cluster.write(3 * 256, 3); // and what is freed can be used again.
      expect(cluster.read(3 * 256)).toBe(3);
    });
  }
});

describe("H7: a request sent again takes effect at most once", () => {
  const origin = 2 ** 40 + 7;

  test("applied by the member that takes over → acked without a second effect", () => {
    const cluster = new Cluster();
    cluster.write(9, 1);
    cluster.node(1).store.stuck = true;
    cluster.submit(1, OperationKind.write, 0, BLOCK, { tag: 1, origin });
    cluster.run(50);
    expect(cluster.tagOn(2, 0)).toBe(1);
    cluster.kill(1);
    cluster.until(() => cluster.record.head === 2);
    cluster.write(0, 2); // Another host's, acked.
    const again = cluster.submit(2, OperationKind.write, 0, BLOCK, {
      tag: 1,
      origin,
      flags: FLAG_RESENT,
    });
    cluster.until(() => again.status !== null);
    expect(again.status).toBe(Status.ok);
    expect(cluster.read(0)).toBe(2);
  });

  test("never arrived at the member that takes over → carried out now", () => {
    const cluster = new Cluster();
    cluster.write(9, 1);
    cluster.hold = (verb) => verb.kind === VerbKind.write;
    cluster.submit(1, OperationKind.write, 0, BLOCK, { tag: 1, origin });
    cluster.run(50);
    cluster.kill(1);
    cluster.hold = null;
    cluster.held = [];
    cluster.until(() => cluster.record.head === 2);
    const again = cluster.submit(2, OperationKind.write, 0, BLOCK, {
      tag: 1,
      origin,
      flags: FLAG_RESENT,
    });
    cluster.until(() => again.status !== null);
    expect(again.status).toBe(Status.ok);
    expect(cluster.read(0)).toBe(1);
  });

  for (const [when, rotten, isReadFirst] of [
    ["at once", 0, false],
    ["after it was healed", 0, true],
    ["after its last block was healed", 1, true],
  ] as const) {
    test(`applied where its block rots: sent again ${when} → never acked and gone (R9)`, () => {
      const cluster = new Cluster({ copies: 3 });
      cluster.write(0, 9);
      cluster.write(1, 9);
      cluster.node(1).store.stuck = true;
      cluster.hold = (verb) => verb.kind === VerbKind.write && verb.toDisk === 3;
      cluster.submit(1, OperationKind.write, 0, 2 * BLOCK, { tag: 1, origin });
      cluster.run(50);
      expect([2, 3].map((disk) => cluster.tagOn(disk, rotten))).toEqual([1, 9]);
      cluster.kill(1);
      cluster.hold = null;
      cluster.held = [];
      cluster.node(2).disk.bad.add(rotten);
      cluster.until(() => cluster.record.head === 2);
      if (isReadFirst) expect(cluster.read(rotten)).toBe(9);
      const more = { tag: 1, origin, flags: FLAG_RESENT };
      const again = cluster.submit(2, OperationKind.write, 0, 2 * BLOCK, more);
      cluster.until(() => again.status !== null);
      cluster.run(5000); // also by what is made good afterwards
      if (again.status === Status.ok) expect(cluster.read(rotten)).toBe(1);
      else expect([again.status, cluster.read(rotten)]).toEqual([Status.unknownOutcome, 9]);
    });
  }

  test("a trim of more than an extent, partly copied over since → never acked and undone", () => {
    const cluster = new Cluster({ copies: 3 });
    const [from, kept] = [0, 300];
    cluster.write(kept, 9);
    cluster.settle();
    // Only disk 2 takes it; disk 3 takes over and makes disk 2 what itself is.
    cluster.node(1).store.stuck = true;
    cluster.hold = (verb) => verb.kind === VerbKind.trim && verb.toDisk === 3;
    cluster.submit(1, OperationKind.trim, from, 2 * EXTENT, { origin });
    cluster.run(50);
    expect([2, 3].map((disk) => cluster.tagOn(disk, kept))).toEqual([0, 9]);
    cluster.node(2).hasControl = false;
    cluster.kill(1);
    // Its last extent comes first; the first one never does.
    cluster.hold = (verb) => verb.kind === VerbKind.trim && verb.offsetBytes === from;
    cluster.until(() => cluster.record.head === 3 && cluster.tagOn(2, kept) === 9);
    cluster.node(2).hasControl = true;
    cluster.storeBack();
    cluster.run(50);
    cluster.kill(3);
    cluster.hold = null;
    cluster.held = [];
    cluster.until(() => cluster.record.head === 2);
    const more = { origin, flags: FLAG_RESENT };
    const again = cluster.submit(2, OperationKind.trim, from, 2 * EXTENT, more);
    cluster.until(() => again.status !== null);
    expect([again.status, cluster.read(kept)]).toEqual([Status.unknownOutcome, 9]);
  });

  test("the head restarted and forgot → refused, outcome unknown", () => {
    const cluster = new Cluster({ copies: 1 });
    cluster.submit(1, OperationKind.write, 0, BLOCK, { tag: 1, origin });
    cluster.run(50);
    cluster.kill(1);
    cluster.restart(1);
    cluster.until(() => cluster.record.epoch === 2);
    cluster.write(0, 2);
    const again = cluster.submit(1, OperationKind.write, 0, BLOCK, {
      tag: 1,
      origin,
      flags: FLAG_RESENT,
    });
    cluster.until(() => again.status !== null);
    expect(again.status).toBe(Status.unknownOutcome);
    expect(cluster.read(0)).toBe(2);
  });

  test("too old, or its host is gone, by the time it could start → untouched", () => {
    const cluster = new Cluster();
    cluster.write(0, 1);
    cluster.storeAway = true;
    cluster.kill(2); // Nothing can start until it is dropped.
    const old = cluster.submit(1, OperationKind.write, 0, BLOCK, { tag: 2 });
    old.operation.notAfterMs = cluster.nowMs + 2000;
    const orphan = cluster.submit(1, OperationKind.write, 0, BLOCK, { tag: 3 });
    orphan.operation.cancelled = true;
    cluster.run(3000);
    cluster.storeBack();
    cluster.until(() => old.status !== null && orphan.status !== null);
    expect(old.status).toBe(Status.expired);
    expect(orphan.status).toBe(Status.cancelled);
    expect(cluster.read(0)).toBe(1);
  });
});
