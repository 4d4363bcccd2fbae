// SPDX-License-Identifier: Apache-2.0
//
// Several reactors, which look like one: who is told what, whose answer is whose, and what is put
// together of their reports.

import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { Outcome, type SliceRecord } from "#base/record.ts";
import { ReactorClient } from "./reactor-client.ts";
import type { Heard, ReactorListeners } from "./reactor-client.ts";
import type { FromReactor, ReactorReport, ToReactor } from "./reactor-messages.ts";
import type { ReactorPlace } from "./unit-reactor.ts";

/** One reactor's end, as the client sees it. */
class FakeReactor {
  onMessage: (message: unknown) => void = () => {};
  readonly got: ToReactor[] = [];
  isClosed = false;
  takes = true;

  post(message: object): boolean {
    if (this.takes) this.got.push(message as ToReactor);
    return this.takes;
  }
  close(): void {
    this.isClosed = true;
  }
  says(message: FromReactor): void {
    this.onMessage(message);
  }
}

class Bench {
  readonly reactors: FakeReactor[] = [];
  readonly places: ReactorPlace[] = [];
  readonly client: ReactorClient;
  readonly failures: string[] = [];
  readonly proposals: Heard<"propose">[] = [];
  readonly reports: ReactorReport[] = [];
  readonly logged: string[] = [];

  constructor(atOnce: number, most = atOnce) {
    const log = { write: (_: string, sentence: string) => void this.logged.push(sentence) };
    const open = (place: ReactorPlace) => {
      this.places.push(place);
      return this.reactors[this.reactors.push(new FakeReactor()) - 1] as FakeReactor;
    };
    this.client = new ReactorClient(open, { atOnce, most }, log);
    this.client.onFailed = (sentence) => void this.failures.push(sentence);
    this.client.listeners = {
      diskOpened: () => {},
      diskReady: () => {},
      propose: (proposal: Heard<"propose">) => void this.proposals.push(proposal),
      reported: (report: ReactorReport) => void this.reports.push(report),
    } as unknown as ReactorListeners;
  }

  /** One of which all have started that start at once, and what that took is forgotten. */
  static started(atOnce: number, most = atOnce): Bench {
    const bench = new Bench(atOnce, most);
    void bench.client.start(START); // what it answers is another test's
    for (const reactor of bench.reactors) reactor.says(STARTED);
    for (const { got } of bench.reactors) got.length = 0;
    return bench;
  }

  reactor(index: number): FakeReactor {
    return this.reactors[index] as FakeReactor;
  }
  kinds(): string[][] {
    return this.reactors.map(({ got }) => got.map(({ kind }) => kind));
  }
}

const START: Extract<ToReactor, { kind: "start" }> = {
  kind: "start",
  nbd: [{ address: "::", port: 10809 }],
  peer: [{ address: "::", port: 1 }],
  nbdUnixPath: "/run/nbd.sock",
  tls: false,
  memoryDirectory: "/dev/shm",
};
const BESIDE: ToReactor = { ...START, nbd: [], peer: [], nbdUnixPath: null };
const STARTED: FromReactor = { kind: "started", nbdPort: 0, peerPort: 0 };
const JOIN: ToReactor = {
  ...{ kind: "join", unit: 7, clusterId: "c" },
  ...{ publicKey: "", privateKey: "", linkKey: "" },
};

function openDisk(uuid: string): ToReactor {
  const place = { path: `/${uuid}`, offsetBytes: 0, sizeBytes: 1, direct: false };
  const identity = { clusterId: "c", uuid };
  return { kind: "openDisk", place, identity, leftClusters: [], anew: false, cacheLost: false };
}

function report(fields: Partial<ReactorReport>): FromReactor {
  const nothing = { slices: [], kept: [], disks: [], links: [], connections: 0, attached: [] };
  return { kind: "report", atMs: 1, report: { ...nothing, waiting: 0, ...fields } };
}

describe("start and stop", () => {
  test("only the first listens; its ports are the unit's, once all have started", async () => {
    const bench = new Bench(2);
    const started = bench.client.start(START);
    bench.reactor(1).says({ kind: "started", nbdPort: 0, peerPort: 0 });
    bench.reactor(0).says({ kind: "started", nbdPort: 5, peerPort: 6 });
    expect(await started).toMatchObject({ nbdPort: 5, peerPort: 6 });
    const [first, second] = bench.reactors.map(({ got }) => got[0]);
    expect(first).toEqual(START);
    expect(second).toEqual(BESIDE);
  });

  test("one cannot → a Fault with its sentence", async () => {
    for (const failed of [0, 1]) {
      const bench = new Bench(2);
      const started = bench.client.start(START);
      bench.reactor(1 - failed).says({ kind: "started", nbdPort: 1, peerPort: 1 });
      bench.reactor(failed).says({ kind: "startFailed", sentence: "the port is taken" });
      const refusal = await started.catch((error: unknown) => error);
      expect(refusal).toBeInstanceOf(Fault);
      expect((refusal as Fault).message).toContain("the port is taken");
    }
  });

  test("stopped → when all are", async () => {
    const bench = Bench.started(3);
    let isStopped = false;
    const stopped = bench.client.stop().then(() => {
      isStopped = true;
    });
    for (const index of [2, 0]) bench.reactor(index).says({ kind: "stopped" });
    await Promise.resolve();
    expect(isStopped).toBe(false);
    bench.reactor(1).says({ kind: "stopped" });
    await stopped;
    expect(bench.kinds()).toEqual([["stop"], ["stop"], ["stop"]]);
    bench.client.close();
    expect(bench.reactors.every(({ isClosed }) => isClosed)).toBe(true);
  });
});

describe("messages", () => {
  test("a disk's → its reactor's; once it is ready all know where it is", async () => {
    const bench = Bench.started(2);
    bench.client.send(JOIN);
    bench.client.send(openDisk("a"));
    bench.reactor(1).says({ kind: "diskReady", uuid: "a", number: 5 });
    expect(bench.kinds()).toEqual([
      ["join", "places"],
      ["join", "openDisk", "places"],
    ]);
    const places = [{ disk: 5, unit: 7, reactor: 1 }];
    for (const { got } of bench.reactors) expect(got.at(-1)).toEqual({ kind: "places", places });
    // What the control state says later does not undo it.
    bench.client.send({ kind: "places", places: [{ disk: 5, unit: 7 }] });
    expect(bench.reactor(0).got.at(-1)).toEqual({ kind: "places", places });
    const held = bench.client.held(5, 0);
    bench.reactor(0).says({ kind: "held", disk: 5, from: 0, records: null, next: null });
    bench.reactor(1).says({ kind: "held", disk: 5, from: 9, records: [], next: null });
    for (let turn = 0; turn < 4; turn++) await Promise.resolve();
    bench.reactor(1).says({ kind: "held", disk: 5, from: 0, records: [], next: 4 });
    expect(await held).toEqual({ records: [], next: 4 });
    expect(bench.kinds().map((kinds) => kinds.includes("tellHeld"))).toEqual([false, true]);
  });

  test("proposals of two with one number → two numbers; each answer to its asker", () => {
    const bench = Bench.started(2);
    const record = { slice: 1 } as SliceRecord;
    const proposal = { kind: "propose", id: 9, next: record, expected: record } as const;
    bench.reactor(0).says(proposal);
    bench.reactor(1).says(proposal);
    const [first, second] = bench.proposals.map(({ id }) => id) as [number, number];
    expect(first).not.toBe(second);
    const answer = { kind: "proposalEnded", outcome: Outcome.committed, current: null } as const;
    bench.client.send({ ...answer, id: second });
    expect(bench.reactors.map(({ got }) => got)).toEqual([[], [{ ...answer, id: 9 }]]);
    bench.client.send({ ...answer, id: first });
    expect(bench.reactor(0).got).toEqual([{ ...answer, id: 9 }]);
  });

  test("one does not take them → said so", () => {
    const bench = Bench.started(2);
    bench.reactor(1).takes = false;
    bench.client.send({ kind: "sliceGone", slice: 1 });
    expect([bench.kinds(), bench.logged.length]).toEqual([[["sliceGone"], []], 1]);
  });
});

describe("one that starts later", () => {
  const kinds = (got: readonly ToReactor[]): string[] => got.map(({ kind }) => kind);
  const record = { slice: 1 } as SliceRecord;

  test("a first disk → the door's; a second → another starts, and both know each other", () => {
    const bench = Bench.started(1, 3);
    bench.client.send(openDisk("a"));
    expect(bench.kinds()).toEqual([["openDisk"]]);
    bench.client.send(openDisk("b"));
    expect(bench.client.count).toBe(2);
    expect(bench.kinds()).toEqual([["openDisk", "sibling"], ["start"]]);
    const ring = bench.places[1]?.rings.get(0) as SharedArrayBuffer;
    expect(bench.reactor(0).got.at(-1)).toEqual({ kind: "sibling", reactor: 1, ring });
    expect(bench.reactor(1).got).toEqual([BESIDE]);
    bench.client.send(openDisk("c")); // before the second has started
    expect([...(bench.places[2]?.rings.keys() ?? [])]).toEqual([0, 1]);
    bench.reactor(1).says(STARTED);
    expect(kinds(bench.reactor(1).got)).toEqual(["start", "openDisk", "sibling"]);
    bench.client.send(openDisk("d")); // there may be no more
    expect(bench.client.count).toBe(3);
    expect(kinds(bench.reactor(1).got)).toEqual(["start", "openDisk", "sibling"]);
  });

  test("it is told what stands, once it has started, and then what was for it", () => {
    const bench = Bench.started(1, 2);
    bench.client.send(JOIN);
    bench.client.send({ kind: "records", records: [record] });
    bench.client.send({ kind: "scrub", disk: 4, urgent: true });
    bench.client.send(openDisk("a"));
    bench.client.send(openDisk("b"));
    bench.client.send({ kind: "numberDisk", uuid: "b", number: 9 });
    const newer: SliceRecord = { ...record, epoch: 2 };
    bench.client.send({ kind: "records", records: [newer] });
    bench.client.send({ kind: "places", places: [{ disk: 5, unit: 8 }] });
    bench.client.send({ kind: "silence", slice: 1, forMs: 1 });
    bench.reactor(1).says(STARTED);
    const told = bench.reactor(1).got;
    const standing = ["start", "join", "places", "records"];
    expect(kinds(told)).toEqual([...standing, "openDisk", "numberDisk", "silence"]);
    expect(told[3]).toEqual({ kind: "records", records: [newer] });
    bench.client.send({ kind: "sliceGone", slice: 1 });
    expect(told.at(-1)).toEqual({ kind: "sliceGone", slice: 1 });
  });

  test("it cannot → said, since its disks would never open", () => {
    const bench = Bench.started(1, 2);
    for (const uuid of ["a", "b"]) bench.client.send(openDisk(uuid));
    bench.reactor(1).says({ kind: "startFailed", sentence: "no memory" });
    expect(bench.failures).toEqual(["no memory"]);
  });

  test("the unit stops → it stops, too, after it has started; none starts any more", async () => {
    const bench = Bench.started(1, 3);
    for (const uuid of ["a", "b"]) bench.client.send(openDisk(uuid));
    const stopped = bench.client.stop();
    bench.client.send(openDisk("c"));
    expect(bench.client.count).toBe(2);
    bench.reactor(1).says(STARTED);
    expect(kinds(bench.reactor(1).got)).toEqual(["start", "openDisk", "stop"]);
    for (const reactor of bench.reactors) reactor.says({ kind: "stopped" });
    await stopped;
  });
});

test("reports → put together; who attached by both counts once", () => {
  const bench = Bench.started(2);
  const host = { volume: 1, address: "10.0.0.1", tls: false, certificate: null };
  const links = [{ unit: 2, up: true }];
  const attached = [{ ...host, connections: 1 }];
  bench.reactor(0).says(report({ links, connections: 1, attached, waiting: 2 }));
  expect(bench.client.report).toMatchObject({ links, connections: 1, waiting: 2 });
  const more = [
    { ...host, connections: 3 },
    { ...host, tls: true, connections: 1 },
  ];
  bench.reactor(1).says(report({ connections: 4, attached: more, waiting: 1 }));
  expect(bench.client.report).toMatchObject({ links, connections: 5, waiting: 3 });
  expect(bench.client.report.attached).toEqual([
    { ...host, connections: 4 },
    { ...host, tls: true, connections: 1 },
  ]);
  // What one said before stands until it says something else.
  bench.reactor(1).says(report({}));
  expect(bench.reports.at(-1)).toMatchObject({ links, connections: 1, waiting: 2 });
});
