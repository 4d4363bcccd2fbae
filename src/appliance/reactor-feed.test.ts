// SPDX-License-Identifier: Apache-2.0
//
// What the reactor is told of volumes: who may attach, and that on an appliance it is nobody before
// the cluster has an owner.

import { expect, test } from "bun:test";
import { keys } from "#cluster/state.ts";
import { ClusterView } from "#cluster/view.ts";
import { ReactorFeed } from "./reactor-feed.ts";
import type { ToReactor } from "./reactor-messages.ts";

const volume = (number: number, hosts: number[]) => ({
  number,
  uuid: "ab".repeat(16),
  name: `v${number}`,
  sizeBytes: 1 << 30,
  protection: "none",
  sliceBytes: 1 << 30,
  slices: [number],
  pool: "pool",
  hosts,
  state: "ready",
});

class Bench {
  readonly view = new ClusterView();
  readonly sent: ToReactor[] = [];

  constructor(exportsUnclaimed: boolean) {
    const send = (message: ToReactor) => void this.sent.push(message);
    new ReactorFeed({ send }, this.view, { ownUnit: 1, exportsUnclaimed });
  }
  put(key: string, record: object): void {
    const modRevision = this.view.revision + 1;
    const value = JSON.stringify(record);
    const event = { kind: "put", key, value, modRevision, createRevision: 1, lease: null } as const;
    this.view.apply([event], modRevision);
  }
  claim(): void {
    const record = { name: "owner", tokenHash: "ab".repeat(32), createdAtMs: 0 };
    this.put(keys.administrator("owner"), record);
  }
  drop(key: string): void {
    const modRevision = this.view.revision + 1;
    this.view.apply([{ kind: "delete", key, value: "", modRevision }], modRevision);
  }
  /** The last word on each volume: which hosts may attach. */
  hosts(): Record<number, number[]> {
    const last: Record<number, number[]> = {};
    for (const message of this.sent) {
      if (message.kind === "volume") last[message.volume.volume] = message.volume.hosts;
    }
    return last;
  }
}

test("an appliance → nobody may attach before the claim, then the hosts that are assigned", () => {
  const bench = new Bench(false);
  bench.put(keys.volume(1), volume(1, [1]));
  bench.put(keys.volume(2), volume(2, [2]));
  expect(bench.hosts()).toEqual({ 1: [], 2: [] });
  bench.put(keys.volume(1), volume(1, [1, 2]));
  expect(bench.hosts()).toEqual({ 1: [], 2: [] });
  bench.claim();
  expect(bench.hosts()).toEqual({ 1: [1, 2], 2: [2] });
  bench.put(keys.volume(3), volume(3, [3]));
  expect(bench.hosts()[3]).toEqual([3]);
});

test("claimed before the first volume → exported at once", () => {
  const bench = new Bench(false);
  bench.claim();
  bench.put(keys.volume(1), volume(1, [1]));
  expect(bench.hosts()).toEqual({ 1: [1] });
});

test("a process on somebody's machine → exported as assigned, claimed or not", () => {
  const bench = new Bench(true);
  bench.put(keys.volume(1), volume(1, [1]));
  expect(bench.hosts()).toEqual({ 1: [1] });
});

test("hosts → where they come from, and when they are gone", () => {
  const bench = new Bench(false);
  const host = { number: 7, name: "db1", addresses: ["10.0.0.7"], createdAtMs: 0 };
  bench.put(keys.host(7), host);
  const certificates = [{ fingerprint: "ab".repeat(32), fromMs: 1, untilMs: 2 }];
  bench.put(keys.host(7), { ...host, addresses: [], certificates });
  bench.drop(keys.host(7));
  expect(bench.sent).toEqual([
    { kind: "host", host: { host: 7, addresses: ["10.0.0.7"], certificates: [] } },
    { kind: "host", host: { host: 7, addresses: [], certificates: ["ab".repeat(32)] } },
    { kind: "hostGone", host: 7 },
  ]);
});

test("a list of before there were hosts → a host without a number, until it is adopted", () => {
  const bench = new Bench(true);
  bench.put(keys.volume(4), { ...volume(4, [1]), allow: ["10.0.0.0/8"] });
  expect(bench.sent).toContainEqual({
    kind: "host",
    host: { host: -4, addresses: ["10.0.0.0/8"], certificates: [] },
  });
  expect(bench.hosts()).toEqual({ 4: [1, -4] });
  bench.put(keys.volume(4), volume(4, [1, 2]));
  expect(bench.hosts()).toEqual({ 4: [1, 2] });
});
