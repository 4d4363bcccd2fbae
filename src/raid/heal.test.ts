// SPDX-License-Identifier: Apache-2.0
//
// R9 at the head: doubts of scrubs, its own and its members', healed under the range lock; members
// compared; blocks that nobody can read, carried to a new copy and never in the way of one.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Incident } from "#base/disk-health.ts";
import { FLAG_FUA, OperationKind } from "#base/operation.ts";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import { VerbKind } from "#base/verbs.ts";
import { Cluster } from "./cluster-fixture.ts";
import { doubtOfEntry, entryOfDoubt } from "./doubt.ts";
import { HappeningKind } from "./happening.ts";

setDefaultTimeout(30_000);

const BLOCK = 4096;
const EXTENT = 1 << 20;
const BLOCKS = 256;

/** As the scrub of a disk does: said again until it is right. */
function doubt(cluster: Cluster, disk: number, block: number, blocks = 1, rewrite = false): void {
  const range = { offsetBytes: block * BLOCK, lengthBytes: blocks * BLOCK, rewrite };
  cluster.node(disk).slice.doubted(range);
}

function healedUntil(cluster: Cluster, disk: number, block: number): void {
  cluster.until(() => {
    doubt(cluster, disk, block - (block % BLOCKS), BLOCKS);
    cluster.run(100);
    return !cluster.node(disk).disk.bad.has(block);
  });
}

function counters(cluster: Cluster, disk = cluster.record.head) {
  return cluster.node(disk).slice.status().counters;
}

describe("a doubt", () => {
  for (const disk of [1, 2, 3]) {
    const role = disk === 1 ? "the head" : `member ${disk}`;
    test(`of ${role} about a wrong block → healed, read back, counted on that disk`, () => {
      const cluster = new Cluster({ copies: 3 });
      cluster.write(5, 1);
      cluster.node(disk).disk.bad.add(5);
      healedUntil(cluster, disk, 5);
      expect(cluster.tagOn(disk, 5)).toBe(1);
      expect(counters(cluster).healed).toBe(1);
      for (const other of [1, 2, 3]) {
        const wanted = other === disk ? [{ incident: Incident.healed, block: 5 }] : [];
        expect(cluster.node(other).store.incidents).toEqual(wanted);
      }
      const told = cluster.happenings.map(({ kind, disk: at, offsetBytes }) => {
        return [kind, at, offsetBytes / BLOCK];
      });
      expect(told).toEqual([[HappeningKind.healed, disk, 5]]);
      // On the medium, not only in a cache.
      expect(cluster.node(disk).disk.media.get(0)?.blocks.get(5)?.[0]).toBe(1);
      cluster.settle();
    });
  }

  test("that was none → nothing is written", () => {
    const cluster = new Cluster();
    cluster.write(5, 1, FLAG_FUA);
    cluster.settle();
    const kinds: VerbKind[] = [];
    cluster.onDelivered = ({ kind }) => void kinds.push(kind);
    for (const disk of [1, 2]) doubt(cluster, disk, 5);
    cluster.run(1000);
    expect(kinds).toContain(VerbKind.read);
    expect(kinds).not.toContain(VerbKind.write);
    expect(counters(cluster).healed).toBe(0);
    expect(cluster.node(1).store.activeRegions()).toEqual([]);
  });

  test("about many blocks of an extent → all healed, in turns, with hosts in between", () => {
    const cluster = new Cluster();
    for (let block = 0; block < 60; block++) cluster.write(block, 1 + (block % 7));
    for (let block = 0; block < 60; block++) cluster.node(2).disk.bad.add(block);
    cluster.until(() => {
      doubt(cluster, 2, 0, 60);
      cluster.run(50);
      return cluster.node(2).disk.bad.size === 0;
    });
    for (let block = 0; block < 60; block++) expect(cluster.tagOn(2, block)).toBe(1 + (block % 7));
    expect(counters(cluster).healed).toBe(60);
  });

  test("about a descriptor alone → one block is written again, and counts for nothing", () => {
    for (const disk of [1, 2]) {
      const cluster = new Cluster();
      cluster.write(5, 1);
      cluster.settle();
      const { media } = cluster.node(disk).disk;
      doubt(cluster, disk, 5, 1, true);
      // The rewriting ends with a flush.
      cluster.until(() => cluster.node(disk).disk.media !== media);
      cluster.settle();
      expect(cluster.tagOn(disk, 5)).toBe(1);
      expect([cluster.happenings, cluster.node(disk).store.incidents]).toEqual([[], []]);
    }
  });

  test("wrong on all → medium errors, told once, and again right when it is written", () => {
    const cluster = new Cluster();
    cluster.write(5, 1);
    for (const disk of [1, 2]) cluster.node(disk).disk.bad.add(5);
    for (let time = 0; time < 5; time++) {
      for (const disk of [1, 2]) doubt(cluster, disk, 5);
      cluster.run(400);
    }
    const told = cluster.happenings.filter(({ kind }) => kind === HappeningKind.unreadable);
    expect(told.map(({ offsetBytes }) => offsetBytes)).toEqual([5 * BLOCK]);
    expect(cluster.node(1).store.incidents).toContainEqual({
      incident: Incident.unhealed,
      block: 5,
    });
    cluster.write(5, 2);
    expect(cluster.read(5)).toBe(2);
  });

  test("under load: what hosts write meanwhile is never written over by what is healed", () => {
    for (let seed = 1; seed <= 30; seed++) {
      const prng = new Prng(seed);
      const cluster = new Cluster({ copies: 3, seed, linkMs: prng.pick([1, 20]) });
      const tags = new Array<number>(16).fill(0);
      for (let step = 0; step < 300; step++) {
        const block = prng.below(16);
        const tag = 1 + prng.below(250);
        const head = cluster.record.head;
        cluster.submit(head, OperationKind.write, block * BLOCK, BLOCK, { tag });
        tags[block] = tag;
        const rotten = prng.below(16);
        // Never the last right copy.
        const disk = 1 + prng.below(3);
        const others = [1, 2, 3].filter((other) => other !== disk);
        const isKept = others.every((other) => !cluster.node(other).disk.bad.has(rotten));
        if (tags[rotten] !== 0 && isKept) cluster.node(disk).disk.bad.add(rotten);
        for (const one of [1, 2, 3]) doubt(cluster, one, 0, 16);
        cluster.run(prng.pick([1, 3, 10]));
      }
      for (let time = 0; time < 20; time++) {
        for (const disk of [1, 2, 3]) doubt(cluster, disk, 0, 16);
        cluster.run(300);
      }
      for (const disk of [1, 2, 3]) {
        expect([...cluster.node(disk).disk.bad]).toEqual([]);
        expect(tags.map((_, block) => cluster.tagOn(disk, block))).toEqual(tags);
      }
      cluster.run(1000);
      cluster.settle();
      const used = [...cluster.nodes.values()].map((node) => node.memory.usedBytes);
      expect({ seed, used }).toEqual({ seed, used: [0, 0, 0] });
    }
  });

  test("the link is away, or the head dies → said again, healed by whoever heads then", () => {
    const cluster = new Cluster({ copies: 3 });
    cluster.write(5, 1);
    cluster.node(3).disk.bad.add(5);
    cluster.hold = (verb) => verb.kind === VerbKind.grant && verb.entries !== null;
    doubt(cluster, 3, 5);
    cluster.run(600);
    cluster.kill(1);
    cluster.until(() => cluster.record.head === 2);
    cluster.letGo();
    healedUntil(cluster, 3, 5);
    expect(cluster.tagOn(3, 5)).toBe(1);
  });

  test("travels in a grant and comes out the same; nonsense is refused", () => {
    for (const [block, blocks, rewrite] of [
      [0, 1, false],
      [255, 1, true],
      [256, 256, false],
      [16383 * 256 + 17, 239, true],
    ] as const) {
      const range = { offsetBytes: block * BLOCK, lengthBytes: blocks * BLOCK, rewrite };
      expect(doubtOfEntry(entryOfDoubt(range))).toEqual(range);
    }
    expect(doubtOfEntry({ extent: 0, stamp: 5 })).toBeNull();
    expect(doubtOfEntry({ extent: 0, stamp: 2 * 256 ** 2 })).toBeNull();
  });
});

test("what a crash tore is made good and is no fault of the disk: never counted against it", () => {
  const cluster = new Cluster();
  for (let block = 0; block < 10; block++) cluster.write(block, 1, FLAG_FUA);
  for (const disk of [1, 2]) cluster.kill(disk, { power: true, tears: false });
  for (let block = 0; block < 5; block++) cluster.node(1).disk.bad.add(block);
  for (let block = 5; block < 10; block++) cluster.node(2).disk.bad.add(block);
  for (const disk of [1, 2]) cluster.restart(disk);
  cluster.until(() => cluster.inSync.length === 2);
  cluster.settle();
  for (let block = 0; block < 10; block++) expect(cluster.read(block)).toBe(1);
  for (const disk of [1, 2]) expect(cluster.node(disk).store.incidents).toEqual([]);
  expect(cluster.happenings).toEqual([]);
  expect(counters(cluster).healed).toBe(5);
});

describe("a write of parts of blocks", () => {
  test("one end is wrong on the head, the other on a member → both right, all alike (H2)", () => {
    for (const [first, last] of [
      [1, 2],
      [2, 1],
      [2, 3],
    ] as const) {
      const cluster = new Cluster({ copies: 3, linkMs: 4 });
      cluster.write(5, 1);
      cluster.write(7, 1);
      cluster.node(first).disk.bad.add(5);
      cluster.node(last).disk.bad.add(7);
      const write = cluster.submit(1, OperationKind.write, 5 * BLOCK + 512, 2 * BLOCK, { tag: 2 });
      cluster.until(() => write.status !== null);
      expect(write.status).toBe(Status.ok);
      for (const disk of [1, 2, 3]) {
        expect(cluster.node(disk).disk.bad.size).toBe(0);
        const blocks = cluster.node(disk).disk.cache.get(0)?.blocks;
        const bytes = [blocks?.get(5)?.[0], blocks?.get(5)?.[512], blocks?.get(7)?.[511]];
        expect(bytes.concat(blocks?.get(7)?.[512])).toEqual([1, 2, 2, 1]);
      }
    }
  });

  test("a member cannot take it for good → an error, who took it is made equal (H8)", () => {
    const cluster = new Cluster();
    cluster.write(5, 1);
    cluster.write(7, 1);
    // The head's copy of the end rots while the member asks for it.
    cluster.node(2).disk.bad.add(7);
    cluster.onDelivered = ({ kind, status }) => {
      const asks = kind === VerbKind.done && status === Status.checksumMismatch;
      if (asks) cluster.node(1).disk.bad.add(7);
    };
    const write = cluster.submit(1, OperationKind.write, 6 * BLOCK, BLOCK + 512, { tag: 2 });
    cluster.until(() => write.status !== null);
    cluster.onDelivered = null;
    expect(write.status).toBe(Status.mediumError);
    cluster.run(3000);
    expect(cluster.tagOn(1, 6)).toBe(cluster.tagOn(2, 6));
  });

  test("a member that does not answer the question may have the block: no error for that", () => {
    const cluster = new Cluster();
    cluster.write(5, 1);
    cluster.node(1).disk.bad.add(5);
    let answers = 0;
    cluster.onDelivered = (verb) => {
      if (verb.kind !== VerbKind.done || verb.payloadBytes === 0 || answers++ > 0) return;
      verb.status = Status.staleEpoch;
    };
    expect(cluster.read(5)).toBe(1);
    expect(answers).toBeGreaterThan(1);
  });
});

describe("a disk that does not keep what is written to it", () => {
  test("the head's, another has the block → that one takes over, no host sees an error", () => {
    const cluster = new Cluster();
    cluster.write(5, 1);
    cluster.node(1).disk.bad.add(5);
    cluster.node(1).disk.broken.add(5);
    expect(cluster.read(5)).toBe(1);
    expect(cluster.record.head).toBe(2);
    const kinds = cluster.happenings.map(({ kind, disk }) => [kind, disk]);
    expect(kinds).toContainEqual([HappeningKind.keepsNothing, 1]);
  });

  test("a member's → it leaves the set", () => {
    const cluster = new Cluster({ copies: 3 });
    cluster.write(5, 1);
    cluster.node(2).disk.bad.add(5);
    cluster.node(2).disk.broken.add(5);
    doubt(cluster, 2, 5);
    cluster.until(() => !cluster.inSync.includes(2));
    expect(cluster.read(5)).toBe(1);
  });
});

describe("members compared", () => {
  const verified = (cluster: Cluster, extent: number) => {
    let isDone = false;
    cluster.head.slice.verified(extent, () => {
      isDone = true;
    });
    cluster.until(() => isDone);
  };

  test("equal → nothing; written on one side only, zero on both → equal too", () => {
    const cluster = new Cluster({ copies: 3 });
    cluster.write(5, 1);
    cluster.settle();
    cluster.node(2).disk.cache.get(0)?.blocks.set(9, new Uint8Array(BLOCK));
    verified(cluster, 0);
    verified(cluster, 3);
    expect([counters(cluster).diverged, cluster.happenings]).toEqual([0, []]);
  });

  test("different though both match → counted and told once, and nobody guesses", () => {
    const cluster = new Cluster({ copies: 3 });
    cluster.write(5, 1);
    cluster.write(EXTENT / BLOCK, 1);
    cluster.settle();
    for (const block of [7, 8]) {
      cluster.node(3).disk.cache.get(0)?.blocks.set(block, new Uint8Array(BLOCK).fill(4));
    }
    for (let time = 0; time < 3; time++) verified(cluster, 0);
    verified(cluster, 1);
    expect(counters(cluster).diverged).toBe(2);
    expect(cluster.happenings).toEqual([
      { kind: HappeningKind.diverged, disk: 3, offsetBytes: 7 * BLOCK, blocks: 2 },
    ]);
    expect([cluster.tagOn(1, 7), cluster.tagOn(3, 7)]).toEqual([0, 4]);
  });

  test("an active region is left alone: its members may differ", () => {
    const cluster = new Cluster();
    cluster.write(5, 1);
    cluster.node(2).disk.cache.get(0)?.blocks.set(7, new Uint8Array(BLOCK).fill(4));
    verified(cluster, 0);
    expect(counters(cluster).diverged).toBe(0);
  });

  test("mapped by a member alone → found at the end of the scrub", () => {
    const cluster = new Cluster();
    cluster.write(5, 1);
    cluster.settle();
    const blocks = new Map([[9 * BLOCKS, new Uint8Array(BLOCK).fill(4)]]);
    cluster.node(2).disk.cache.set(9, { stamp: 1, blocks });
    let isDone = false;
    cluster.head.slice.allVerified(() => {
      isDone = true;
    });
    cluster.until(() => isDone);
    expect(cluster.happenings.map(({ offsetBytes }) => offsetBytes)).toEqual([9 * EXTENT]);
  });

  test("beside writes, kills and lost links → never a divergence that is none", () => {
    for (let seed = 1; seed <= 12; seed++) {
      const prng = new Prng(seed);
      const cluster = new Cluster({ copies: 3, seed, linkMs: prng.pick([1, 20]) });
      let isComparing = false;
      for (let step = 0; step < 400; step++) {
        const kind = prng.chance(0.8) ? OperationKind.write : OperationKind.trim;
        const at = prng.below(8) * EXTENT + prng.below(4) * BLOCK;
        if (prng.chance(0.3) && cluster.head.alive) {
          cluster.submit(cluster.record.head, kind, at, BLOCK, { tag: 1 + prng.below(250) });
        }
        if (prng.chance(0.01)) {
          const disk = 1 + prng.below(3);
          if (cluster.node(disk).alive) cluster.kill(disk, { power: prng.chance(0.5) });
          cluster.later(prng.below(3000), () => {
            if (!cluster.node(disk).alive) cluster.restart(disk);
          });
        }
        if (!isComparing && cluster.head.alive) {
          isComparing = true;
          cluster.head.slice.verified(prng.below(8), () => {
            isComparing = false;
          });
        }
        if (prng.chance(0.02)) isComparing = false; // its head died with it
        cluster.run(prng.pick([5, 30, 200]));
      }
      expect(cluster.happenings.filter(({ kind }) => kind === HappeningKind.diverged)).toEqual([]);
    }
  });
});

describe("blocks that nobody can read", () => {
  /** Disk 2 was away while its copy went out of date; block 5 of disk 1 has rotted. */
  function short(written: (cluster: Cluster) => void): Cluster {
    const cluster = new Cluster();
    for (const block of [4, 5, 6, 300]) cluster.write(block, 1, FLAG_FUA);
    cluster.kill(2, { power: true });
    cluster.until(() => cluster.inSync.length === 1);
    written(cluster);
    cluster.node(1).disk.bad.add(5);
    cluster.restart(2);
    return cluster;
  }

  test("a copy meets one → protected again, and it gives medium errors there too (H8)", () => {
    const cluster = short((one) => one.write(5, 2));
    cluster.settle();
    expect(cluster.inSync).toEqual([1, 2]);
    expect([...cluster.node(2).disk.lost]).toEqual([5]);
    expect(counters(cluster).carried).toBe(1);
    expect([cluster.tagOn(2, 4), cluster.tagOn(2, 6), cluster.tagOn(2, 300)]).toEqual([1, 1, 1]);
    const told = cluster.happenings.map(({ kind, offsetBytes }) => [kind, offsetBytes / BLOCK]);
    expect(told).toContainEqual([HappeningKind.carried, 5]);
    // Also when the new copy serves alone.
    cluster.kill(1, { power: true });
    cluster.until(() => cluster.record.head === 2);
    const read = cluster.submit(2, OperationKind.read, 4 * BLOCK, 2 * BLOCK);
    cluster.until(() => read.status !== null);
    expect(read.status).toBe(Status.mediumError);
    expect(cluster.read(4)).toBe(1);
    cluster.write(5, 7);
    expect(cluster.read(5)).toBe(7);
    expect(cluster.node(2).disk.lost.size).toBe(0);
  });

  test("the disk that comes back has the very bytes → healed from it", () => {
    const cluster = short((one) => one.write(4, 2));
    cluster.settle();
    expect([...cluster.node(1).disk.bad, ...cluster.node(2).disk.bad]).toEqual([]);
    expect([cluster.tagOn(1, 5), cluster.tagOn(2, 5), cluster.tagOn(2, 4)]).toEqual([1, 1, 2]);
    expect(cluster.happenings.map(({ kind }) => kind)).toEqual([HappeningKind.healed]);
  });

  test("what it has is older → not believed (H8)", () => {
    const cluster = short((one) => one.write(5, 2));
    const read = cluster.submit(1, OperationKind.read, 5 * BLOCK, BLOCK);
    cluster.until(() => read.status !== null);
    expect(read.status).toBe(Status.mediumError);
  });

  test("the target dies after the marks, before the bytes → begins again, to the end", () => {
    for (let writes = 0; writes < 4; writes++) {
      const cluster = short((one) => {
        one.write(5, 2);
        one.write(6, 2);
      });
      let left = writes;
      cluster.onDelivered = (verb) => {
        if (verb.toDisk !== 2 || !cluster.node(2).alive) return;
        const isPart = verb.kind === VerbKind.write || verb.kind === VerbKind.trim;
        if (isPart && left-- === 0) cluster.later(0.6, () => cluster.kill(2, { power: true }));
      };
      cluster.until(() => !cluster.node(2).alive);
      cluster.onDelivered = null;
      cluster.restart(2);
      cluster.settle();
      expect([...cluster.node(2).disk.lost]).toEqual([5]);
      expect([cluster.tagOn(2, 4), cluster.tagOn(2, 6)]).toEqual([1, 2]);
    }
  });

  test("one in a region that was active at a crash → the other blocks are made equal (H2)", () => {
    const cluster = new Cluster();
    for (const block of [4, 5, 6]) cluster.write(block, 1, FLAG_FUA);
    // Under way on disk 2 only.
    cluster.node(1).store.stuck = true;
    cluster.submit(1, OperationKind.write, 6 * BLOCK, BLOCK, { tag: 2 });
    cluster.run(40);
    expect(cluster.tagOn(2, 6)).toBe(2);
    cluster.kill(1, { power: true });
    cluster.kill(2, { power: true, tears: false });
    cluster.node(2).disk.cache.get(0)?.blocks.set(6, new Uint8Array(BLOCK).fill(2));
    for (const disk of [1, 2]) {
      cluster.node(disk).disk.bad.add(5);
      cluster.node(disk).disk.lost.add(5);
    }
    for (const disk of [1, 2]) cluster.restart(disk);
    cluster.until(() => cluster.inSync.length === 2 && cluster.head.slice.status().waitsFor === "");
    cluster.run(3000);
    const seen = cluster.read(6);
    for (const disk of [1, 2]) expect(cluster.tagOn(disk, 6)).toBe(seen);
    const read = cluster.submit(cluster.record.head, OperationKind.read, 5 * BLOCK, BLOCK);
    cluster.until(() => read.status !== null);
    expect(read.status).toBe(Status.mediumError);
  });

  test("a member that knows no marks refuses them → it stays out, and answers no zeros", () => {
    const cluster = short((one) => one.write(5, 2));
    cluster.onDelivered = (verb) => {
      // As an older version reads it: no list, no flag.
      if (verb.kind !== VerbKind.trim || verb.lengthBytes > 0) return;
      verb.regions = null;
      verb.flags = 0;
    };
    cluster.run(8000);
    expect(cluster.inSync).toEqual([1]);
  });
});
