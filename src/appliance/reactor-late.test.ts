// SPDX-License-Identifier: Apache-2.0
//
// A real reactor that starts when a second disk is given to the unit: what is headed there is
// served through the door, and both end in order.

import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { REGION_BYTES } from "#base/grains.ts";
import type { SliceRecord } from "#base/record.ts";
import { ControlEnd } from "#machine/control-channel.ts";
import type { ProbeFacts } from "./drill-probe.ts";
import { ReactorClient, type ReactorListeners } from "./reactor-client.ts";
import type { ExportedVolume, OpenedDisk, ToReactor } from "./reactor-messages.ts";
import type { ReactorPlace } from "./unit-reactor.ts";

const DISK_BYTES = 256 << 20;
const SIZE_BYTES = REGION_BYTES * 4;
const CLUSTER = "c1".repeat(16);
const JOIN: ToReactor = {
  kind: "join",
  unit: 1,
  clusterId: CLUSTER,
  publicKey: "ab".repeat(32),
  privateKey: "cd".repeat(32),
  linkKey: "12".repeat(32),
};

const folder = mkdtempSync(path.join(tmpdir(), "cairn-late-"));
const workers: Worker[] = [];
afterEach(() => {
  for (const worker of workers) worker.terminate();
  rmSync(folder, { recursive: true });
});

function openWorker(place: ReactorPlace): ControlEnd {
  const worker = new Worker(new URL("./reactor-main.ts", import.meta.url).href);
  workers.push(worker);
  return new ControlEnd(worker, { memoryBytes: 64 << 20, place });
}

/** A unit's reactors, and what they say, to be waited for. */
class Bench {
  readonly client = new ReactorClient(
    openWorker,
    { atOnce: 1, most: 2 },
    { write: (_level, sentence) => void this.logged.push(sentence) },
  );
  readonly logged: string[] = [];
  readonly #waits = new Map<string, (said: unknown) => void>();

  constructor() {
    this.client.listeners = {
      diskOpened: (disk: OpenedDisk) => this.#said(`opened ${disk.path}`, disk),
      diskRefused: (_path: string, sentence: string) => this.logged.push(sentence),
      diskReady: (_uuid: string, number: number) => this.#said(`ready ${number}`, number),
      reported: () => {},
    } as unknown as ReactorListeners;
  }

  #said(what: string, said: unknown): void {
    this.#waits.get(what)?.(said);
  }
  next<T>(what: string): Promise<T> {
    return new Promise((resolve) => {
      this.#waits.set(what, resolve as (said: unknown) => void);
    });
  }

  async start(): Promise<void> {
    const nowhere = { nbd: [], peer: [], nbdUnixPath: null, tls: false };
    await this.client.start({ kind: "start", ...nowhere, memoryDirectory: folder });
  }

  /** A new disk with that number, once it is in use. */
  async addDisk(number: number): Promise<OpenedDisk> {
    const file = path.join(folder, `disk-${number}`);
    writeFileSync(file, "");
    truncateSync(file, DISK_BYTES);
    const uuid = `d${number}`.repeat(16);
    const place = { path: file, offsetBytes: 0, sizeBytes: DISK_BYTES, direct: false };
    const identity = { clusterId: CLUSTER, uuid };
    const opened = this.next<OpenedDisk>(`opened ${file}`);
    const ready = this.next(`ready ${number}`);
    const how = { leftClusters: [], anew: false, cacheLost: false };
    this.client.send({ kind: "openDisk", place, identity, ...how });
    const disk = await opened;
    this.client.send({ kind: "numberDisk", uuid, number });
    await ready;
    return disk;
  }

  /** A drill's host, in the door, until it has read back what it wrote. */
  probe(volume: number): Promise<ProbeFacts | null> {
    return new Promise((resolve) => {
      let isFinished = false;
      this.client.onProbed = (facts) => {
        if (facts === null || facts.verifiedBlocks !== null) return resolve(facts);
        if (facts.writes < 50 || isFinished) return;
        isFinished = true;
        this.client.send({ kind: "probe", act: "finish" });
      };
      this.client.send({ kind: "probe", act: "start", volume, sizeBytes: SIZE_BYTES });
    });
  }
}

test("a second disk → a second reactor, headed there is served through the door", async () => {
  const bench = new Bench();
  await bench.start();
  const { client } = bench;
  client.send(JOIN);
  const first = await bench.addDisk(1);
  expect([client.count, first.number]).toEqual([1, 0]);
  const shape = { volume: 3, sizeBytes: SIZE_BYTES, sliceBytes: SIZE_BYTES, slices: [5] };
  const shown = { name: "v", uuid: "e".repeat(32), hosts: [], tls: "optional", copies: [] };
  client.send({ kind: "volume", volume: { ...shape, ...shown } as unknown as ExportedVolume });
  const second = await bench.addDisk(2);
  expect(client.count).toBe(2);
  const record: SliceRecord = {
    ...{ slice: 5, volume: 3, index: 0, sizeBytes: SIZE_BYTES, copies: 1 },
    ...{ lineage: 1, ancestry: [], epoch: 1, head: 2, resyncing: [] },
    inSync: [{ disk: 2, incarnation: second.incarnation }],
  };
  client.send({ kind: "records", records: [record] });
  const facts = await bench.probe(3);
  expect(facts).toMatchObject({ errors: 0, wrongBlocks: 0 });
  expect(facts?.verifiedBlocks).toBeGreaterThan(0);
  await client.stop();
  client.close();
  expect(bench.logged).toEqual(["slice served"]);
}, 60_000);
