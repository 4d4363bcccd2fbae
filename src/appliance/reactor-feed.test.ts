// SPDX-License-Identifier: Apache-2.0
//
// What the reactor is told of volumes: who may attach, and that on an appliance it is nobody before
// the cluster has an owner.

import { expect, test } from "bun:test";
import { keys } from "#cluster/state.ts";
import { ClusterView } from "#cluster/view.ts";
import { ReactorFeed } from "./reactor-feed.ts";
import type { ToReactor } from "./reactor-messages.ts";

const volume = (number: number, allow: string[]) => ({
  number,
  uuid: "ab".repeat(16),
  name: `v${number}`,
  sizeBytes: 1 << 30,
  protection: "none",
  sliceBytes: 1 << 30,
  slices: [number],
  pool: "pool",
  allow,
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
  /** The last word on each volume: who may attach. */
  allowed(): Record<number, string[]> {
    const last: Record<number, string[]> = {};
    for (const message of this.sent) {
      if (message.kind === "volume") last[message.volume.volume] = message.volume.allow;
    }
    return last;
  }
}

test("an appliance → nobody may attach before the claim, then whom the lists name", () => {
  const bench = new Bench(false);
  bench.put(keys.volume(1), volume(1, ["10.0.0.0/8"]));
  bench.put(keys.volume(2), volume(2, ["10.0.0.7"]));
  expect(bench.allowed()).toEqual({ 1: [], 2: [] });
  bench.put(keys.volume(1), volume(1, ["192.168.0.0/16"]));
  expect(bench.allowed()).toEqual({ 1: [], 2: [] });
  bench.claim();
  expect(bench.allowed()).toEqual({ 1: ["192.168.0.0/16"], 2: ["10.0.0.7"] });
  bench.put(keys.volume(3), volume(3, ["::/0"]));
  expect(bench.allowed()[3]).toEqual(["::/0"]);
});

test("claimed before the first volume → exported at once", () => {
  const bench = new Bench(false);
  bench.claim();
  bench.put(keys.volume(1), volume(1, ["10.0.0.0/8"]));
  expect(bench.allowed()).toEqual({ 1: ["10.0.0.0/8"] });
});

test("a process on somebody's machine → exported as the lists say, claimed or not", () => {
  const bench = new Bench(true);
  bench.put(keys.volume(1), volume(1, ["10.0.0.0/8"]));
  expect(bench.allowed()).toEqual({ 1: ["10.0.0.0/8"] });
});
