// SPDX-License-Identifier: Apache-2.0
//
// The control proxy: the conformance cases over a link, links that die at the worst moment, voters
// without a majority, and who may write what.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { Prng } from "#base/prng.ts";
import type { SliceRecord } from "#base/record.ts";
import { controlStoreCases } from "./control-store-conformance-fixture.ts";
import type { Transaction, WatchEvent } from "./control-store.ts";
import { ControlProxyServer } from "./control-proxy-server.ts";
import { ControlProxyClient } from "./control-proxy.ts";
import { MemoryControlStore } from "./memory-control-store.ts";
import type { MemoryControlClient } from "./memory-control-store.ts";
import { pipePair } from "./message-pipe.ts";
import type { MessagePipe } from "./message-pipe.ts";
import { proxyRules, transactionRefusal } from "./proxy-rules.ts";
import { StationFixture } from "./station-fixture.ts";
import { keys, valueText } from "./state.ts";
import { VirtualTime } from "./virtual-time-fixture.ts";

const allowAll = {
  voters: null,
  mayWrite: () => Promise.resolve(null),
  isStation: () => Promise.resolve(false),
};

/** Three voters over one store, and units that reach them by proxy. */
class Rig {
  readonly time = new VirtualTime(drainMicrotasks);
  readonly core: MemoryControlStore;
  readonly voters = new Map<number, MemoryControlClient>();
  readonly down = new Set<number>();
  readonly links: { voter: number; pipe: MessagePipe }[] = [];
  readonly dialled: number[] = [];

  constructor(latencyMs = { least: 1, most: 3 }) {
    const { time } = this;
    this.core = new MemoryControlStore({
      clock: time,
      timers: time,
      prng: new Prng(1),
      latencyMs,
    });
    for (const voter of [1, 2, 3]) this.voters.set(voter, this.core.client(`voter ${voter}`));
  }

  client(order: number[] = [1, 2, 3]): ControlProxyClient {
    const prng = new Prng(7);
    const world = {
      log: { write: () => {} },
      random: { fill: () => {}, fraction: () => prng.fraction() },
    };
    return new ControlProxyClient(world, this.time, {
      voters: () => order,
      dial: async (voter) => {
        this.dialled.push(voter);
        const store = this.voters.get(voter);
        if (store === undefined || this.down.has(voter)) {
          throw new Fault("controlStoreAway", "nobody there");
        }
        const [near, far] = pipePair();
        new ControlProxyServer({ ...allowAll, store }, 9, far);
        this.links.push({ voter, pipe: far });
        return near;
      },
    });
  }

  /** Every link to a voter dies. */
  cut(voter: number): void {
    for (const link of this.links) if (link.voter === voter) link.pipe.close("cut");
  }

  outcome<T>(promise: Promise<T>): { value?: T; code?: string } {
    const state: { value?: T; code?: string } = {};
    promise.then(
      (value) => {
        state.value = value;
      },
      (cause: unknown) => {
        state.code = cause instanceof Fault ? cause.code : String(cause);
      },
    );
    return state;
  }
}

describe("control proxy conforms", () => {
  for (const { name, run } of controlStoreCases) {
    test(name, async () => {
      // Without latency nothing needs time to pass but what the case lets pass.
      const rig = new Rig({ least: 0, most: 0 });
      await run({
        store: rig.client(),
        other: rig.client([2, 3, 1]),
        pass: (milliseconds) => Promise.resolve(rig.time.pass(milliseconds)),
        compact: (revision) => Promise.resolve(rig.core.compact(revision)),
      });
    });
  }
});

const PUT: Transaction = { ifs: [], puts: [{ key: "/k", value: "1" }] };

describe("links that die", () => {
  test("with a transaction under way → unknownOutcome; a read goes over to another voter", () => {
    const rig = new Rig();
    const client = rig.client();
    rig.outcome(client.get("/k"));
    rig.time.pass(100);
    const write = rig.outcome(client.transaction(PUT));
    const read = rig.outcome(client.get("/k"));
    const lease = rig.outcome(client.grantLease(3000));
    drainMicrotasks();
    rig.cut(1);
    rig.time.pass(500);
    expect(write.code).toBe("unknownOutcome");
    expect(lease.code).toBe("unknownOutcome");
    expect(read.value?.revision).toBeGreaterThan(0);
    expect(client.voter).toBe(2);
  });

  test("no voter reachable → controlStoreAway in time, after a bounded number of tries", () => {
    const rig = new Rig();
    for (const voter of [1, 2, 3]) rig.down.add(voter);
    const client = rig.client();
    const write = rig.outcome(client.transaction(PUT));
    const read = rig.outcome(client.get("/k"));
    rig.time.pass(6000);
    expect([write.code, read.code]).toEqual(["controlStoreAway", "controlStoreAway"]);
    expect(rig.dialled.length).toBeLessThan(60);
    rig.down.clear();
    rig.time.pass(1500);
    const again = rig.outcome(client.get("/k"));
    rig.time.pass(100);
    expect(again.value?.entry).toBeNull();
  });

  test("a voter that takes requests and says nothing → the next one after a while", () => {
    const rig = new Rig();
    rig.voters.get(1)?.setConnected(false);
    const client = rig.client();
    const read = rig.outcome(client.get("/k"));
    rig.time.pass(4900);
    expect(read.value?.revision).toBeGreaterThan(0);
    expect(client.voter).not.toBe(1);
  });

  test("a watch misses nothing and repeats nothing over any number of cuts", () => {
    const rig = new Rig();
    const writer = rig.core.client("writer");
    const client = rig.client();
    const seen: WatchEvent[] = [];
    const lost: string[] = [];
    client.watch("/w/", 1, {
      onEvents: (events) => seen.push(...events),
      onLost: (reason) => lost.push(reason),
    });
    const prng = new Prng(3);
    for (let round = 1; round <= 60; round++) {
      rig.outcome(writer.transaction({ ifs: [], puts: [{ key: "/w/k", value: String(round) }] }));
      rig.time.pass(prng.between(0, 60));
      if (prng.chance(0.3)) rig.cut(client.voter ?? 1);
    }
    rig.time.pass(3000);
    expect(lost).toEqual([]);
    expect(seen.map((event) => Number(event.value))).toEqual(
      Array.from({ length: 60 }, (_, index) => index + 1),
    );
  });

  test("increments through links that keep dying → exactly the known ones are counted", () => {
    const rig = new Rig();
    const client = rig.client();
    const prng = new Prng(5);
    let sure = 0;
    let unknown = 0;
    for (let round = 0; round < 200; round++) {
      const read = rig.outcome(client.get("/n"));
      rig.time.pass(300);
      if (read.value === undefined) continue;
      const { entry } = read.value;
      const write = rig.outcome(
        client.transaction({
          ifs: [{ key: "/n", modRevision: entry?.modRevision ?? 0 }],
          puts: [{ key: "/n", value: String(Number(entry?.value ?? 0) + 1) }],
        }),
      );
      if (prng.chance(0.4)) {
        rig.time.pass(prng.between(0, 3));
        rig.cut(client.voter ?? 1);
      }
      rig.time.pass(300);
      if (write.value?.committed === true) sure++;
      else if (write.code === "unknownOutcome") unknown++;
      else throw new Error(`neither sure nor unknown: ${JSON.stringify(write)}`);
    }
    const counted = Number(rig.core.readOne("/n")?.value ?? 0);
    expect(counted).toBeGreaterThanOrEqual(sure);
    expect(counted).toBeLessThanOrEqual(sure + unknown);
    expect(unknown).toBeGreaterThan(10);
  });

  test("a better voter appears → used from then on", () => {
    const rig = new Rig();
    const order = [2];
    const client = rig.client(order);
    rig.outcome(client.get("/k"));
    rig.time.pass(50);
    expect(client.voter).toBe(2);
    order.unshift(1);
    client.votersChanged();
    rig.outcome(client.get("/k"));
    rig.time.pass(200);
    expect(client.voter).toBe(1);
  });
});

describe("a better voter appears while a change is under way", () => {
  const change = (key: string) => ({ ifs: [], puts: [{ key, value: "1" }] });

  test("the change ends first, without a doubt; what comes meanwhile goes there", () => {
    for (let underWayMs = 0; underWayMs < 8; underWayMs++) {
      const rig = new Rig();
      const order = [2];
      const client = rig.client(order);
      rig.outcome(client.get("/k"));
      rig.time.pass(50);
      const first = rig.outcome(client.transaction(change("/first")));
      rig.time.pass(underWayMs);
      order.unshift(1);
      client.votersChanged();
      const second = rig.outcome(client.transaction(change("/second")));
      rig.time.pass(200);
      expect([first.value?.committed, second.value?.committed]).toEqual([true, true]);
      expect(client.voter).toBe(1);
    }
  });

  test("its link dies before it ended → an unknown outcome, and on to the better one", () => {
    const rig = new Rig();
    const order = [2];
    const client = rig.client(order);
    rig.outcome(client.get("/k"));
    rig.time.pass(50);
    const first = rig.outcome(client.transaction(change("/first")));
    rig.time.pass(1);
    order.unshift(1);
    client.votersChanged();
    for (const { pipe } of rig.links) pipe.close("cut");
    rig.time.pass(2000);
    expect(first.code).toBe("unknownOutcome");
    expect(client.voter).toBe(1);
  });
});

describe("the server", () => {
  test("requests that make no sense end the link, and nothing else", () => {
    const rig = new Rig();
    const store = rig.core.client("x");
    const bad = [null, 7, "x", {}, { kind: "get" }, { kind: "get", id: 0, key: "/k" }];
    for (const message of [
      ...bad,
      { kind: "transaction", id: 1, ifs: [{}], puts: [], deletes: [] },
    ]) {
      const [near, far] = pipePair();
      let closed = "";
      near.onClose = (reason) => (closed = reason);
      new ControlProxyServer({ ...allowAll, store }, 9, far);
      near.send(message as object);
      drainMicrotasks();
      expect(closed).toBe("a request that makes no sense");
    }
  });

  test("only the control station changes the voters", () => {
    const rig = new Rig();
    const asked: string[] = [];
    const voters = {
      addLearner: (url: string) => {
        asked.push(url);
        return Promise.resolve("1");
      },
      promote: () => Promise.resolve(true),
      removeMember: () => Promise.resolve(),
    };
    for (const station of [false, true]) {
      const [near, far] = pipePair();
      const answers: unknown[] = [];
      near.onMessage = (message) => answers.push(message);
      const isStation = () => Promise.resolve(station);
      const store = rig.core.client("x");
      new ControlProxyServer({ ...allowAll, voters, isStation, store }, 9, far);
      near.send({ kind: "addLearner", id: 1, peerUrl: "https://x" });
      drainMicrotasks();
      expect(answers).toMatchObject([station ? { value: "1" } : { code: "forbidden" }]);
    }
    expect(asked).toEqual(["https://x"]);
  });
});

describe("who may write what", () => {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  made.addDisk(1, 10);
  for (let unit = 2; unit <= 3; unit++) made.addDisk(made.admit(), 10);
  made.createVolume("v", 1, "mirror-2");
  const view = made.view();
  const record = [...view.slices.values()][0] as SliceRecord;
  const unitOf = (disk: number) => view.disks.get(disk)?.unit ?? 0;
  const head = unitOf(record.head);
  const other = record.inSync.find((member) => member.disk !== record.head)?.disk ?? 0;
  const stranger =
    [1, 2, 3].find((unit) => !record.inSync.some((m) => unitOf(m.disk) === unit)) ?? 0;

  function refusal(unit: number, key: string, value: object | null, isStation = false) {
    const ifs = [view.compare(key)];
    const transaction =
      value === null
        ? { ifs, deletes: [key] }
        : { ifs, puts: [{ key, value: valueText(value), lease: "1" }] };
    return transactionRefusal(view, unit, transaction, isStation);
  }
  const key = keys.slice(record.slice);
  const alone = record.inSync.filter((member) => member.disk === record.head);
  const shrunk: SliceRecord = { ...record, epoch: 2, inSync: alone };
  const taken: SliceRecord = {
    ...record,
    epoch: 2,
    head: other,
    inSync: record.inSync.filter((member) => member.disk === other),
  };
  const target = [...view.disks.values()].find((disk) => disk.unit === stranger)?.number ?? 0;
  const widened: SliceRecord = { ...record, epoch: 2, resyncing: [target] };

  test("a slice: its head shrinks it, a member takes over, the station names targets", () => {
    expect(refusal(head, key, shrunk)).toBeNull();
    expect(refusal(unitOf(other), key, shrunk)).toContain("another unit");
    expect(refusal(stranger, key, shrunk)).toContain("another unit");
    expect(refusal(unitOf(other), key, taken)).toBeNull();
    expect(refusal(head, key, taken)).toContain("another unit");
    expect(refusal(stranger, key, widened)).toContain("another unit");
    expect(refusal(stranger, key, widened, true)).toBeNull();
    expect(refusal(stranger, key, shrunk, true)).toContain("in sync");
    expect(refusal(head, key, null)).toContain("control station");
  });

  test("a slice record without a compare, or by a revision unknown here → refused", () => {
    const put = { key, value: valueText(shrunk) };
    expect(transactionRefusal(view, head, { ifs: [], puts: [put] })).toContain("compared");
    const ahead = [{ key, modRevision: view.revisionOf(key) + 1 }];
    expect(transactionRefusal(view, head, { ifs: ahead, puts: [put] })).toContain("not know");
    const stale = [{ key, modRevision: view.revisionOf(key) - 1 }];
    expect(transactionRefusal(view, head, { ifs: stale, puts: [put] })).toBeNull();
  });

  test("a voter whose view is behind → it is away for this, and refuses nothing", async () => {
    const put = { key, value: valueText(shrunk) };
    const ahead = { ifs: [{ key, modRevision: view.revisionOf(key) + 1 }], puts: [put] };
    const store = { get: () => Promise.resolve({ entry: null, revision: view.revision + 1 }) };
    let isReached = false;
    const mayWrite = proxyRules(store, { view, reached: () => Promise.resolve(isReached) });
    await expect(mayWrite(head, ahead)).rejects.toMatchObject({ code: "controlStoreAway" });
    isReached = true;
    expect(await mayWrite(head, ahead)).toContain("not know");
    const own = { ifs: [view.compare(key)], puts: [put] };
    expect(await mayWrite(head, own)).toBeNull();
  });

  test("liveness, station and commands: only one's own", () => {
    const run = "0".repeat(32);
    expect(refusal(2, keys.aliveOf(2), { unit: 2, run })).toBeNull();
    expect(refusal(2, keys.aliveOf(3), { unit: 3, run })).toContain("another unit");
    expect(refusal(2, keys.aliveOf(2), { unit: 3, run })).toContain("another unit");
    expect(refusal(2, keys.aliveOf(3), null)).toContain("another unit");
    expect(refusal(2, keys.station, { unit: 2, term: 9 })).toBeNull();
    expect(refusal(2, keys.station, { unit: 1, term: 9 })).toContain("another unit");
    const command = { id: run, unit: 2, name: "x", arguments: {}, lease: "1", state: "asked" };
    expect(refusal(2, keys.command(run), command)).toBeNull();
    expect(refusal(3, keys.command(run), command)).toContain("another unit");
    expect(refusal(2, keys.command(run), { ...command, state: "done" })).toContain("station");
  });

  test("units, disks, voters: what is one's own and changes nobody's place", () => {
    const unit = view.units.get(2);
    const disk = view.disksOfUnit(2)[0];
    if (unit === undefined || disk === undefined) throw new Error("they are there");
    expect(refusal(2, keys.unit(2), { ...unit, addresses: ["10.9.9.9"] })).toBeNull();
    expect(refusal(2, keys.unit(2), { ...unit, role: "spare" })).toContain("control station");
    expect(refusal(3, keys.unit(2), unit)).toContain("another unit");
    const at = keys.disk(disk.number);
    expect(refusal(2, at, { ...disk, incarnation: 2, state: "failed" })).toBeNull();
    expect(refusal(2, at, { ...disk, incarnation: 0 })).not.toBeNull();
    expect(refusal(2, at, { ...disk, unit: 3 })).toContain("control station");
    expect(refusal(3, at, disk)).toContain("another unit");
    expect(refusal(2, keys.cluster, { ...view.cluster })).toContain("control station");
    expect(refusal(2, keys.volumeName("w"), { volume: 7 })).toContain("control station");
    expect(refusal(7, keys.aliveOf(7), { unit: 7, run: "0".repeat(32) })).toContain("not in the");
  });
});
