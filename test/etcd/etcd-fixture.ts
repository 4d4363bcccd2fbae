// SPDX-License-Identifier: Apache-2.0
//
// Real etcd processes for tests: one member on loopback, with a unix socket for clients. Where the
// binary has not been set up the tests say so and are left out, but never in CI.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { EtcdControlStore } from "#cluster/etcd-control-store.ts";
import { EtcdUnixTransport } from "#machine/etcd-transport.ts";
import type { Timers } from "#base/world.ts";

export const ETCD_BINARY = path.join(import.meta.dir, "../../.cache/etcd/etcd");

/** True when the tests can run; in CI a missing binary is a failure, not an excuse. */
export function etcdIsThere(): boolean {
  if (existsSync(ETCD_BINARY)) return true;
  if (process.env.CI) throw new Error("etcd is missing: npm run setup puts it into .cache/etcd");
  process.stderr.write("etcd is missing, its tests are left out: npm run setup\n");
  return false;
}

export const realTimers: Timers = {
  after(delayMs, act) {
    const timer = setTimeout(act, delayMs);
    return () => clearTimeout(timer);
  },
};

export function pass(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    realTimers.after(milliseconds, resolve);
  });
}

export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  rounds = 400,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    if (await holds()) return;
    await pass(25);
  }
  throw new Error(`never came to pass: ${what}`);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** One etcd member in a directory of its own; stopped and removed at the end of its scope. */
export class SingleEtcd implements AsyncDisposable {
  readonly directory = mkdtempSync(path.join(tmpdir(), "cairn-etcd-"));
  readonly socketPath = path.join(this.directory, "client.sock");
  #child: ChildProcess | null = null;
  #peerPort = 0;

  static async start(): Promise<SingleEtcd> {
    const made = new SingleEtcd();
    made.#peerPort = await freePort();
    await made.run();
    return made;
  }

  async run(): Promise<void> {
    const peer = `http://127.0.0.1:${this.#peerPort}`;
    const settings = {
      name: "a",
      "data-dir": path.join(this.directory, "data"),
      "listen-client-urls": `unix://${this.socketPath}`,
      "advertise-client-urls": "http://localhost:2379",
      "listen-peer-urls": peer,
      "initial-advertise-peer-urls": peer,
      "initial-cluster": `a=${peer}`,
      "log-level": "error",
    };
    const flags = Object.entries(settings).map(([name, value]) => `--${name}=${value}`);
    this.#child = spawn(ETCD_BINARY, flags, { stdio: "ignore" });
    await until("etcd answers", async () => {
      try {
        await this.store().get("/");
        return true;
      } catch {
        return false; // not yet; `until` has the limit
      }
    });
  }

  /** Ends the process; its data stays. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  store(): EtcdControlStore {
    return new EtcdControlStore(realTimers, new EtcdUnixTransport(this.socketPath), {
      timeoutMs: 3000,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
