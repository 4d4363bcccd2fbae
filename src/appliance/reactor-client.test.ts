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
  readonly reactors: FakeReactor[];
  readonly client: ReactorClient;
  readonly proposals: Heard<"propose">[] = [];
  readonly reports: ReactorReport[] = [];
  readonly logged: string[] = [];

  constructor(count: number) {
    this.reactors = Array.from({ length: count }, () => new FakeReactor());
    const log = { write: (_: string, sentence: string) => void this.logged.push(sentence) };
    this.client = new ReactorClient(this.reactors, log);
    this.client.listeners = {
      diskOpened: () => {},
      diskReady: () => {},
      propose: (proposal: Heard<"propose">) => void this.proposals.push(proposal),
      reported: (report: ReactorReport) => void this.reports.push(report),
    } as unknown as ReactorListeners;
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
  creditBytes: 1,
  memoryDirectory: "/dev/shm",
};

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
    expect(second).toEqual({ ...START, nbd: [], peer: [], nbdUnixPath: null });
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
    const bench = new Bench(3);
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
    const bench = new Bench(2);
    const keys = { publicKey: "", privateKey: "", linkKey: "" };
    bench.client.send({ kind: "join", unit: 7, clusterId: "c", ...keys });
    const place = { path: "/a", offsetBytes: 0, sizeBytes: 1, direct: false };
    const identity = { clusterId: "c", uuid: "a" };
    const rest = { leftClusters: [], anew: false, cacheLost: false };
    bench.client.send({ kind: "openDisk", place, identity, ...rest });
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
    const bench = new Bench(2);
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
    const bench = new Bench(2);
    bench.reactor(1).takes = false;
    bench.client.send({ kind: "sliceGone", slice: 1 });
    expect([bench.kinds(), bench.logged.length]).toEqual([[["sliceGone"], []], 1]);
  });
});

test("reports → put together; who attached by both counts once", () => {
  const bench = new Bench(2);
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
