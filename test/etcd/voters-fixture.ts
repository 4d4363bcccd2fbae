// SPDX-License-Identifier: Apache-2.0
//
// Units with an etcd each in network namespaces, doing about their voter records what the daemon
// does. For tests.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { EtcdControlStore } from "#cluster/etcd-control-store.ts";
import { UnitSchema, VoterSchema, keys, parseValue } from "#cluster/state.ts";
import type { UnitRecord, VoterRecord } from "#cluster/state.ts";
import { ViewFollower } from "#cluster/view-follower.ts";
import { VoterKeeper, voterAct } from "#cluster/voters.ts";
import { etcdDirectoryState, etcdSocketPath } from "#machine/etcd-child.ts";
import { EtcdUnixTransport } from "#machine/etcd-transport.ts";
import { ETCD_BINARY, pass, realTimers, until } from "./etcd-fixture.ts";
import type { UnitSettings } from "./etcd-unit-fixture.ts";
import { Namespaces } from "./network-fixture.ts";

export const SECRET = "5e".repeat(32);

export const voterWorld = {
  clock: { nowMs: () => performance.now(), wallMs: () => Date.now() },
  log: { write: () => {} },
  random: {
    fill: (bytes: Uint8Array) => void crypto.getRandomValues(bytes),
    fraction: () => Math.random(),
  },
};

export function unitRecord(number: number, ula: string): UnitRecord {
  const record = {
    number,
    id: String(number).padStart(32, "0"),
    publicKey: String(number).padStart(64, "0"),
    name: `box${number}`,
    addresses: [],
    ula,
    ports: {},
    role: "member",
    pool: "pool",
    state: "admitted",
    featureLevel: 1,
    version: "0",
    admittedAtMs: 0,
  };
  return parseValue(UnitSchema, keys.unit(number), JSON.stringify(record));
}

export class VoterRig {
  readonly net: Namespaces;
  readonly directory = mkdtempSync(path.join(tmpdir(), "cairn-voters-"));
  readonly #running = new Map<number, ChildProcess>();

  constructor(label: string, units: number) {
    this.net = new Namespaces(label, units);
  }

  async dispose(): Promise<void> {
    for (const unit of [...this.#running.keys()]) await this.kill(unit);
    this.net[Symbol.dispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }

  place(unit: number): string {
    return path.join(this.directory, `unit${unit}`);
  }
  store(unit: number): EtcdControlStore {
    const transport = new EtcdUnixTransport(etcdSocketPath(this.place(unit)));
    return new EtcdControlStore(realTimers, transport);
  }

  /** Starts a program of this folder in a unit's namespace. */
  run(unit: number, program: string, ...words: string[]): ChildProcess {
    const file = path.join(import.meta.dir, program);
    const [command = "", ...rest] = [...this.net.prefix(unit), process.execPath, file, ...words];
    return spawn(command, rest, { stdio: ["ignore", "pipe", "inherit"] });
  }

  /** Starts a unit's etcd as its daemon does. */
  async start(unit: number, more: Partial<UnitSettings> = {}): Promise<void> {
    const settings: UnitSettings = {
      directory: this.place(unit),
      binary: ETCD_BINARY,
      name: `unit-${unit}`,
      address: this.net.address(unit),
      peerPort: 2380,
      clusterSecret: SECRET,
      ...more,
    };
    const child = this.run(unit, "etcd-unit-fixture.ts", JSON.stringify(settings));
    this.#running.set(unit, child);
    await new Promise((resolve) => child.stdout?.once("data", resolve));
  }

  /** Kills the daemon; its etcd is to go with it. */
  async kill(unit: number): Promise<void> {
    const child = this.#running.get(unit);
    this.#running.delete(unit);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
    await until(`the etcd of unit ${unit} is gone`, () =>
      socketIsDead(etcdSocketPath(this.place(unit))),
    );
  }

  async answers(unit: number): Promise<boolean> {
    try {
      await this.store(unit).get("/");
      return true;
    } catch {
      return false; // not yet; whoever asks has the limit
    }
  }

  /** What a unit does about its voter record, once. */
  async act(unit: number): Promise<string> {
    const key = keys.voter(unit);
    const { entry } = await this.store(1).get(key);
    const record = entry === null ? null : parseValue(VoterSchema, key, entry.value);
    const act = voterAct(etcdDirectoryState(this.place(unit)), record);
    const become = (state: VoterRecord["state"]) =>
      this.store(1).transaction({
        ifs: [{ key, modRevision: entry?.modRevision ?? 0 }],
        puts: [{ key, value: JSON.stringify({ ...record, state }) }],
      });
    if (act.kind === "start" && record !== null && (await become("used")).committed) {
      const { ticket, initialCluster } = record;
      const first = { ticket, initialCluster, found: false, token: "cairn" };
      await this.start(unit, { first, clear: true });
    }
    if (act.kind === "report-lost") await become("lost");
    return act.kind;
  }

  /** Lets the voter keeper and the units work until `holds`; answers what the keeper said. */
  async settle(what: string, units: number[], holds: () => Promise<boolean>): Promise<string[]> {
    const follower = new ViewFollower(voterWorld, realTimers, this.store(1));
    follower.start();
    await follower.ready();
    const keeper = new VoterKeeper(voterWorld, this.store(1), this.store(1));
    const said: string[] = [];
    keeper.onEvent = (sentence) => said.push(sentence);
    try {
      await until(what, async () => {
        await keeper.step(follower.view);
        for (const unit of units) await this.act(unit);
        await pass(200);
        return holds();
      });
    } finally {
      follower.stop();
    }
    return said;
  }
}

function socketIsDead(socket: string): Promise<boolean> {
  if (!existsSync(socket)) return Promise.resolve(true);
  return new Promise((resolve) => {
    const probe = connect(socket, () => {
      probe.destroy();
      resolve(false);
    });
    probe.once("error", () => resolve(true));
  });
}
