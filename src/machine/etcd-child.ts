// SPDX-License-Identifier: Apache-2.0
//
// etcd as a supervised child of a unit that has a vote: unpacked from the executable, started with
// our flags, started again when it ends, killed by the kernel when we die.
//
// R12: an amnesiac voter is never readmitted under its old identity. A directory without data is
// started only with a ticket that was never used here: the ticket's mark is on disk before etcd's
// first start, and a mark without data (lost, or a crash in between) is not started again.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { readdirSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import type { Log } from "#base/world.ts";
import type { EtcdCertificates } from "./etcd-certificates.ts";
import { pageOut } from "./idle-memory.ts";

const RESTART_LEAST_MS = 200;
const RESTART_MOST_MS = 5000;
/** Having run this long counts as healthy: the next restart waits the least again. */
const HEALTHY_MS = 30_000;
/** Past this it has opened its data; what cannot be bound or read ends it at once. */
const RAN_MS = 3000;
/** etcd maps its whole file at the start, 16 MiB at least; what it uses of it is little. */
const PAGE_OUT_AFTER_MS = 10_000;
const STOP_MS = 5000;
const LINES_KEPT = 20;
const LINE_CHARACTERS_MAX = 500;
/** Ours come before the I/O of hosts: a late heartbeat costs an election. */
const NICENESS = -15;
/**
 * Its garbage collector, before it is told otherwise, lets the heap double: with a state of a few
 * MB that is 20 MB for nothing. It allocates little, so the collector's work is not seen.
 */
const GO_MEMORY = { GOGC: "30", GOMEMLIMIT: "384MiB" };
/**
 * Go's scheduler wakes further threads to look for work, at every heartbeat; one on a small box
 * does what we ask of it at two thirds of the idle cost. It may still wait in any number of system
 * calls.
 */
const SMALL_BOX_CORES = 3;

export interface EtcdPlace {
  /** Of etcd alone; holds data, certificates, socket and the ticket's mark. */
  directory: string;
  binary: string;
  /** Unique in the cluster. */
  name: string;
  /** The unit's address among units; on one of its links before etcd starts. */
  address: string;
  peerPort: number;
  /** Milliseconds; a slow disk wants longer elections (platform-notes, "etcd from Bun"). */
  heartbeatMs?: number;
  electionMs?: number;
}

/** How it starts: with what its directory holds, or into an empty one by a ticket. */
export type EtcdStart =
  | { kind: "resume" }
  | { kind: "first"; ticket: string; initialCluster: string; found: boolean; token: string };

export function etcdSocketPath(directory: string): string {
  return path.join(directory, "client.sock");
}

export function etcdPeerUrl(address: string, port: number): string {
  return `https://${address.includes(":") ? `[${address}]` : address}:${port}`;
}

export function etcdFlags(place: EtcdPlace, start: EtcdStart): string[] {
  const within = (name: string) => path.join(place.directory, name);
  const peerUrl = etcdPeerUrl(place.address, place.peerPort);
  const settings: Record<string, string | number | boolean> = {
    name: place.name,
    "data-dir": within("data"),
    // Clients come by the unix socket only: the gateway does not know who asks.
    "listen-client-urls": `unix://${etcdSocketPath(place.directory)}`,
    "advertise-client-urls": "http://localhost:2379",
    "listen-peer-urls": peerUrl,
    "initial-advertise-peer-urls": peerUrl,
    "peer-client-cert-auth": true,
    "peer-trusted-ca-file": within("authority.pem"),
    "peer-cert-file": within("certificate.pem"),
    "peer-key-file": within("key.pem"),
    // A peer proves itself by the cluster's authority; from which of its addresses it calls is
    // chance.
    "experimental-peer-skip-client-san-verification": true,
    "heartbeat-interval": place.heartbeatMs ?? 200,
    "election-timeout": place.electionMs ?? 1000,
    "auto-compaction-mode": "periodic",
    "auto-compaction-retention": "10m",
    "quota-backend-bytes": 1 << 30,
    "snapshot-count": 10_000,
    "max-snapshots": 2,
    "max-wals": 2,
    "experimental-initial-corrupt-check": true,
    "log-level": "warn",
  };
  if (start.kind === "first") {
    settings["initial-cluster"] = start.initialCluster;
    settings["initial-cluster-state"] = start.found ? "new" : "existing";
    settings["initial-cluster-token"] = start.token;
  }
  return Object.entries(settings).map(([name, value]) => `--${name}=${value}`);
}

/** What an etcd directory holds: data of a member, and the ticket it was started with. */
export function etcdDirectoryState(directory: string): { hasData: boolean; ticket: string | null } {
  const logs = path.join(directory, "data", "member", "wal");
  const hasData = existsSync(logs) && readdirSync(logs).some((name) => name.endsWith(".wal"));
  const mark = path.join(directory, "ticket");
  const ticket = existsSync(mark) ? readFileSync(mark, "utf8").trim() : null;
  return { hasData, ticket: ticket === "" ? null : ticket };
}

/** Forgets a membership that has ended (removed by the control station). etcd must not run. */
export function clearEtcdDirectory(directory: string): void {
  if (!existsSync(directory)) return; // never a voter
  rmSync(path.join(directory, "data"), { recursive: true, force: true });
  syncDirectory(directory);
  // The mark goes last: data without a mark could be started, a mark without data cannot.
  rmSync(path.join(directory, "ticket"), { force: true });
  syncDirectory(directory);
}

/**
 * Puts a directory of an older generation aside, under that of the new one; etcd must not run. The
 * second time in one step it is the new one's, half made: cleared.
 */
export function putAsideEtcd(directory: string, generationId: string): void {
  const aside = asideOf(directory, generationId);
  if (existsSync(aside)) return clearEtcdDirectory(directory);
  // Told apart from a step that was not begun, also where there was no voter.
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  renameSync(directory, aside);
  syncDirectory(path.dirname(directory));
}

/** Undoes `putAsideEtcd`. */
export function bringBackEtcd(directory: string, generationId: string): void {
  rmSync(directory, { recursive: true, force: true });
  renameSync(asideOf(directory, generationId), directory);
  syncDirectory(path.dirname(directory));
}

/** Of what was put aside only the newest is kept, for whoever looks for what was in it. */
export function forgetEtcdAside(directory: string, generationId: string): void {
  const folder = path.dirname(directory);
  const prefix = `${path.basename(directory)}-before-`;
  for (const name of readdirSync(folder)) {
    if (!name.startsWith(prefix) || name === `${prefix}${generationId}`) continue;
    rmSync(path.join(folder, name), { recursive: true, force: true });
  }
}

function asideOf(directory: string, generationId: string): string {
  return `${directory}-before-${generationId}`;
}

/** Unpacks the embedded etcd (zstd) beside the state; answers the path of the program. */
export function unpackEtcd(archivePath: string, directory: string, archive: Uint8Array): string {
  const hash = createHash("sha256").update(archive).digest("hex").slice(0, 16);
  const target = path.join(directory, `etcd-${hash}`);
  if (existsSync(target)) return target;
  mkdirSync(directory, { recursive: true });
  for (const name of readdirSync(directory)) {
    // Those of earlier versions; their processes ended with ours.
    if (/^etcd-[0-9a-f]{16}(\.new)?$/.test(name)) rmSync(path.join(directory, name));
  }
  let program: Uint8Array;
  try {
    program = Bun.zstdDecompressSync(archive);
  } catch (cause) {
    throw new Fault("corrupt", `the embedded etcd (${archivePath})`, { cause });
  }
  writeDurably(`${target}.new`, program, 0o755);
  renameSync(`${target}.new`, target);
  syncDirectory(directory);
  return target;
}

export class EtcdChild {
  readonly place: EtcdPlace;
  readonly #log: Log;
  #child: ChildProcess | null = null;
  #start: EtcdStart = { kind: "resume" };
  #wanted = false;
  #restartMs = RESTART_LEAST_MS;
  #restart: ReturnType<typeof setTimeout> | null = null;
  #pageOut: ReturnType<typeof setTimeout> | undefined;
  #lines: string[] = [];

  constructor(log: Log, place: EtcdPlace) {
    this.#log = log;
    this.place = place;
  }

  /** Between `start` and `stop`, also while it is being started again. */
  get wanted(): boolean {
    return this.#wanted;
  }
  get running(): boolean {
    return this.#child !== null;
  }
  get processId(): number | null {
    return this.#child?.pid ?? null;
  }
  /** The last lines that etcd wrote, for the event history. */
  get lastLines(): readonly string[] {
    return this.#lines;
  }

  /** Starts it and keeps it running until `stop`. Throws a Fault where R12 forbids it. */
  start(start: EtcdStart, certificates: EtcdCertificates): void {
    if (this.#wanted) throw new Fault("conflict", "etcd is started already");
    const { directory } = this.place;
    mkdirSync(path.join(directory, "data"), { recursive: true, mode: 0o700 });
    const now = etcdDirectoryState(directory);
    if (start.kind === "resume" && !now.hasData) {
      throw new Fault("conflict", "this voter's data is gone; it needs a new ticket (R12)");
    }
    if (start.kind === "first") {
      if (now.hasData) throw new Fault("conflict", "this voter has data already");
      if (now.ticket === start.ticket) {
        throw new Fault("conflict", "this voter's ticket was used already (R12)");
      }
    }
    writeDurably(path.join(directory, "authority.pem"), certificates.authorityPem, 0o600);
    writeDurably(path.join(directory, "certificate.pem"), certificates.certificatePem, 0o600);
    writeDurably(path.join(directory, "key.pem"), certificates.keyPem, 0o600);
    if (start.kind === "first") {
      writeDurably(path.join(directory, "ticket"), `${start.ticket}\n`, 0o600);
      syncDirectory(directory);
    }
    this.#start = start;
    this.#wanted = true;
    this.#spawn();
  }

  /** Ends it in order (a leader hands over first); kills it when that takes too long. */
  async stop(): Promise<void> {
    this.#wanted = false;
    if (this.#restart !== null) clearTimeout(this.#restart);
    this.#restart = null;
    const child = this.#child;
    if (child === null) return;
    const gone = new Promise<void>((resolve) => child.once("close", () => resolve()));
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
    await gone;
    clearTimeout(timer);
  }

  #spawn(): void {
    const { hasData } = etcdDirectoryState(this.place.directory);
    // What the ticket allowed has been done once data is there.
    if (hasData) this.#start = { kind: "resume" };
    if (!hasData && this.#start.kind === "resume") {
      // R12: started without data and without a ticket, etcd would make a cluster of its own.
      this.#log.write("error", "this voter's data is gone; it needs a new ticket");
      this.#wanted = false;
      return;
    }
    rmSync(etcdSocketPath(this.place.directory), { force: true });
    const flags = etcdFlags(this.place, this.#start);
    const nice = ["-n", String(NICENESS), "ionice", "-c", "2", "-n", "0"];
    // Each of these replaces itself by the next, so that the child's process id is etcd's.
    const chain = [...nice, "setpriv", "--pdeathsig", "SIGKILL", "--", this.place.binary, ...flags];
    const startedMs = performance.now();
    const child = spawn("nice", chain, {
      cwd: this.place.directory,
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...goSettings(), PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin" },
    });
    this.#child = child;
    this.#pageOut = setTimeout(() => {
      const { pid } = child;
      if (this.#child === child && pid !== undefined)
        pageOut(pid, databaseOf(this.place.directory));
    }, PAGE_OUT_AFTER_MS);
    child.stderr?.setEncoding("utf8");
    child.stderr?.on("data", (text: string) => this.#keep(text));
    child.once("error", (error) => this.#ended(startedMs, error.message));
    child.once("close", (code, signal) => this.#ended(startedMs, signal ?? `exit status ${code}`));
  }

  #ended(startedMs: number, reason: string): void {
    if (this.#child === null) return; // `error` and `close` may both come
    this.#child = null;
    clearTimeout(this.#pageOut);
    if (!this.#wanted) return;
    const ranMs = performance.now() - startedMs;
    if (ranMs > HEALTHY_MS) this.#restartMs = RESTART_LEAST_MS;
    const lines = this.#lines.slice(-3);
    this.#log.write("warn", "etcd ended and is started again", { reason, lines });
    // Ran, and left nothing: its data was lost under it, and the ticket is spent (R12).
    if (ranMs > RAN_MS) this.#start = { kind: "resume" };
    this.#restart = setTimeout(() => this.#spawn(), this.#restartMs);
    this.#restartMs = Math.min(RESTART_MOST_MS, this.#restartMs * 2);
  }

  #keep(text: string): void {
    for (const line of text.split("\n")) {
      if (line !== "") this.#lines.push(line.slice(0, LINE_CHARACTERS_MAX));
    }
    this.#lines = this.#lines.slice(-LINES_KEPT);
  }
}

function databaseOf(directory: string): string {
  return path.join(directory, "data", "member", "snap", "db");
}

function goSettings(): Record<string, string> {
  const processors = availableParallelism() <= SMALL_BOX_CORES ? 1 : 2;
  return { ...GO_MEMORY, GOMAXPROCS: String(processors) };
}

function writeDurably(file: string, content: string | Uint8Array, mode: number): void {
  const descriptor = openSync(`${file}.tmp`, "w", mode);
  try {
    const bytes = typeof content === "string" ? Buffer.from(content) : content;
    for (let at = 0; at < bytes.length;) at += writeSync(descriptor, bytes, at);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(`${file}.tmp`, file);
}

function syncDirectory(directory: string): void {
  if (!statSync(directory).isDirectory()) return;
  const descriptor = openSync(directory, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
