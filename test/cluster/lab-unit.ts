// SPDX-License-Identifier: Apache-2.0
//
// One unit of a lab: a process of the executable in its namespace, with disks that are files, a
// state directory and a log. It can be started, stopped in order, killed, frozen and wiped.
//
// Invariants
// - A process is signalled only while it is our child and has not ended.
// - An end that nobody asked for is kept and told by `stillRuns`.

import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { pidsInside } from "./lab-record.ts";
import type { MountSpace } from "./mount-space.ts";
import { UnitApi } from "./unit-api.ts";
import { pause } from "./until.ts";

/** An orderly stop takes seconds; more is a failure of the daemon. */
const STOP_MS = 30_000;
const TRAIL_LINES = 12;
const TRAIL_BYTES = 64 << 10;
/** Any cluster test with so many reactors in each unit. */
const REACTORS =
  process.env["CAIRN_LAB_REACTORS"] === undefined
    ? {}
    : { reactors: Number(process.env["CAIRN_LAB_REACTORS"]) };
const CLOCK_TICKS_PER_SECOND = 100; // USER_HZ, the same on every Linux we run on

export interface UnitOptions {
  role?: "member" | "spare" | "witness";
  disks?: number;
  diskBytes?: number;
  /** Real blocks behind the disks: several units then share one disk's fsync with less noise. */
  preallocate?: boolean;
  /** Null: without one. */
  joinSecret?: string | null;
  /** Any settings of the unit's configuration besides. */
  settings?: Record<string, unknown>;
  /** As on an appliance: no configuration file, these flags, in this mount namespace. */
  appliance?: ApplianceOptions;
}

export interface ApplianceOptions {
  flags: readonly string[];
  space: Pick<MountSpace, "inside" | "view">;
}

export interface UnitPlace {
  place: number;
  name: string;
  folder: string;
  namespace: string;
  address: string;
  executable: string;
}

export interface Usage {
  rssBytes: number;
  /** Shared pages counted once, as far as the kernel says. */
  pssBytes: number;
  cpuSeconds: number;
}

export class LabUnit {
  readonly place: number;
  readonly name: string;
  readonly address: string;
  readonly namespace: string;
  readonly folder: string;
  readonly stateFolder: string;
  readonly disks: string[];
  readonly api: UnitApi;
  readonly #executable: string;
  readonly #options: UnitOptions;
  #child: ChildProcess | null = null;
  /** Null: it runs, or ended as we wanted. */
  #endedByItself: string | null = null;

  constructor(where: UnitPlace, options: UnitOptions) {
    this.place = where.place;
    this.name = where.name;
    this.address = where.address;
    this.namespace = where.namespace;
    this.folder = where.folder;
    this.stateFolder = path.join(where.folder, "state");
    this.#executable = where.executable;
    this.#options = options;
    const socket = this.#seen(path.join(this.stateFolder, "api.sock"));
    this.api = new UnitApi({ socket }, this.name);
    mkdirSync(this.folder, { recursive: true });
    this.disks = Array.from({ length: options.disks ?? 1 }, (_, index) =>
      path.join(this.folder, `disk${index + 1}.img`),
    );
    for (const disk of this.disks) this.#makeDisk(disk);
    this.writeConfiguration();
  }

  get running(): boolean {
    return this.#child !== null;
  }
  /** Null while it does not run. */
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }
  get configurationFile(): string {
    return path.join(this.folder, "cairn.json");
  }
  get logFile(): string {
    return path.join(this.folder, "log");
  }

  start(): void {
    if (this.#child !== null) throw new Error(`${this.name} runs already`);
    this.#endedByItself = null;
    const log = openSync(this.logFile, "a");
    // A lab that is killed takes its units along; and a Ctrl-C at the terminal is for the lab
    // alone.
    // Only the network is its own: `ip netns exec` would keep copies of this machine's mounts.
    const inside = ["--pdeathsig", "KILL", "nsenter", `--net=/run/netns/${this.namespace}`];
    const child = spawn("setpriv", [...inside, ...this.#words()], {
      stdio: ["ignore", log, log],
      detached: true,
    });
    closeSync(log);
    this.#child = child;
    child.on("error", (error) => {
      this.#endedByItself = error.message;
      this.#child = null;
    });
    child.on("exit", (status, signal) => {
      if (this.#child !== child) return; // we ended it
      this.#endedByItself = signal === null ? `status ${status}` : `signal ${signal}`;
      this.#child = null;
    });
  }

  #words(): readonly string[] {
    const { appliance } = this.#options;
    if (appliance === undefined)
      return [this.#executable, "unit", "--config", this.configurationFile];
    const places = ["--state-directory", this.stateFolder, "--memory-directory", this.folder];
    const words = [this.#executable, "unit", "--appliance", ...places, ...appliance.flags];
    return appliance.space.inside(words);
  }

  /** The path by which we see a file that the unit has. */
  #seen(file: string): string {
    return this.#options.appliance?.space.view(file) ?? file;
  }

  /** SIGTERM, and waits for the end; kills a unit that does not stop, and fails. */
  async stop(): Promise<void> {
    const ended = await this.#end("SIGTERM", STOP_MS);
    if (ended !== "status 0") {
      throw new Error(`${this.name} did not stop in order: ${ended}\n${this.trail()}`);
    }
  }

  /** kill -9, and whatever it started. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL", STOP_MS);
  }

  /** The daemon alone; what it started stands still with it only by itself. */
  freeze(): void {
    this.#signal("SIGSTOP");
  }
  thaw(): void {
    this.#signal("SIGCONT");
  }

  /** New disks and no memory, as a box that was flashed again. It must not run. */
  wipe(): void {
    if (this.#child !== null) throw new Error(`${this.name} runs: it is not wiped`);
    rmSync(this.stateFolder, { recursive: true, force: true });
    for (const disk of this.disks) this.#makeDisk(disk);
  }

  /** Its voter's data is gone for good. It must not run. */
  loseVoter(): void {
    if (this.#child !== null) throw new Error(`${this.name} runs: its voter loses nothing`);
    rmSync(path.join(this.stateFolder, "etcd", "data"), { recursive: true });
  }

  /** And what it keeps of the control state besides: all backups. It must not run. */
  loseBackups(): void {
    if (this.#child !== null) throw new Error(`${this.name} runs: it loses nothing`);
    const lost = readdirSync(this.stateFolder).filter((name) => name.startsWith("control-backup-"));
    for (const name of lost) rmSync(path.join(this.stateFolder, name));
  }

  /** All but its disks is gone, as of a box whose boot medium was made anew. It must not run. */
  loseState(): void {
    if (this.#child !== null) throw new Error(`${this.name} runs: it loses nothing`);
    rmSync(this.stateFolder, { recursive: true });
  }

  /** What it keeps in memory over a kill is gone, as after a power cut. It must not run. */
  forget(): void {
    if (this.#child !== null) throw new Error(`${this.name} runs: it forgets nothing`);
    // A folder for each kind of memory, beside the disks.
    for (const name of readdirSync(this.folder)) {
      if (/^cairn-\d+$/.test(name)) rmSync(path.join(this.folder, name), { recursive: true });
    }
  }

  /** Fails when it ended without being told to. */
  stillRuns(): void {
    if (this.#endedByItself === null) return;
    throw new Error(`${this.name} ended by itself (${this.#endedByItself})\n${this.trail()}`);
  }

  /** Bearer token of its API on TCP. */
  token(): string {
    return readFileSync(this.#seen(path.join(this.stateFolder, "api-token")), "utf8").trim();
  }

  /** The last lines of its log, for a failure. */
  trail(lines = TRAIL_LINES): string {
    if (!existsSync(this.logFile)) return `${this.name}: no log\n`;
    const bytes = readFileSync(this.logFile).subarray(-TRAIL_BYTES);
    const last = bytes.toString("utf8").trimEnd().split("\n").slice(-lines);
    const state = this.running ? "running" : (this.#endedByItself ?? "stopped by the lab");
    return `--- ${this.name} (${state}), ${this.logFile}\n${last.join("\n")}\n`;
  }

  /** What the daemon and its children use; with a voter etcd is among them. */
  usage(): Usage {
    const usage: Usage = { rssBytes: 0, pssBytes: 0, cpuSeconds: 0 };
    for (const pid of pidsInside(this.namespace)) addUsage(usage, pid);
    return usage;
  }

  /** The pid of its etcd, or null. */
  etcdPid(): number | null {
    const isEtcd = (word: string) => word.startsWith("--listen-peer-urls=");
    const found = pidsInside(this.namespace).find((pid) => readWords(pid).some(isEtcd));
    return found ?? null;
  }

  writeConfiguration(more: Record<string, unknown> = {}): void {
    const { joinSecret = null, role = "member", settings = {} } = this.#options;
    const configuration = {
      name: this.name,
      stateDirectory: this.stateFolder,
      // Goes with the lab; the page cache keeps it over a kill as well as memory does.
      memoryDirectory: this.folder,
      disks: this.disks,
      role,
      ...(joinSecret === null ? {} : { joinSecret }),
      ...REACTORS,
      ...settings,
      ...more,
    };
    const text = `${JSON.stringify(configuration, null, 2)}\n`;
    writeFileSync(this.configurationFile, text, { mode: 0o600 });
  }

  #makeDisk(disk: string): void {
    const { diskBytes = 1 << 30, preallocate = false } = this.#options;
    writeFileSync(disk, "");
    truncateSync(disk, diskBytes);
    if (!preallocate) return;
    const result = spawnSync("fallocate", ["--length", String(diskBytes), disk]);
    if (result.status !== 0) throw new Error(`no room for ${disk}, ${diskBytes} bytes`);
  }

  #signal(signal: NodeJS.Signals): void {
    const pid = this.#child?.pid;
    if (pid !== undefined) process.kill(pid, signal);
  }

  async #end(signal: NodeJS.Signals, limitMs: number): Promise<string> {
    this.stillRuns();
    const child = this.#child;
    if (child === null) return "status 0";
    // The exit is waited for before the signal is sent, so that it cannot be missed.
    const exit = once(child, "exit") as Promise<[number | null, string | null]>;
    this.#child = null;
    child.kill(signal);
    const late = pause(limitMs).then(() => null);
    const ended = await Promise.race([exit, late]);
    for (const pid of pidsInside(this.namespace)) {
      // Its children die with it by themselves: the kernel's signal may still be on its way.
      await goneSoon(pid);
    }
    if (ended === null) return `it did not end within ${limitMs / 1000} s and was killed`;
    return ended[1] === null ? `status ${ended[0]}` : `signal ${ended[1]}`;
  }
}

async function goneSoon(pid: number): Promise<void> {
  for (let look = 0; look < 100; look++) {
    if (!existsSync(`/proc/${pid}`)) return;
    await pause(20);
  }
  process.kill(pid, "SIGKILL");
}

function addUsage(usage: Usage, pid: number): void {
  try {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    const kibibytes = (name: string) =>
      Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(rollup)?.[1] ?? 0);
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    usage.rssBytes += kibibytes("Rss") * 1024;
    usage.pssBytes += kibibytes("Pss") * 1024;
    usage.cpuSeconds += (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_SECOND;
  } catch (error) {
    // A short-lived child that ended between the list and the look.
    if (!/ENOENT|ESRCH/.test(String((error as { code?: string }).code))) throw error;
  }
}

function readWords(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    return []; // it has just ended
  }
}

/** Bytes that files of a folder take on this machine's disk. */
export function storedBytes(folder: string): number {
  let bytes = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    bytes += statSync(path.join(entry.parentPath, entry.name)).blocks * 512;
  }
  return bytes;
}
