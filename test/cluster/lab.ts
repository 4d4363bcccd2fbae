// SPDX-License-Identifier: Apache-2.0
//
// A lab: several units on this one machine, each a process of the executable in a network
// namespace of its own, on one bridge; this machine is their host, at `hostAddress`.
//
// Invariants
// - Whatever the lab makes is recorded before (lab-record.ts) and removed at its end: when its
//   scope ends, at SIGINT, SIGTERM or SIGHUP at any moment, or by the next lab after a kill -9.
// - After the end began nothing new is made.

import { existsSync, readFileSync, statfsSync } from "node:fs";
import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import path from "node:path";
import { LabNetwork } from "./lab-network.ts";
import { LabRecord, removeOrphans } from "./lab-record.ts";
import { LabUnit, type UnitOptions } from "./lab-unit.ts";
import { NotYet, until, type UntilOptions } from "./until.ts";

const ROOT = path.resolve(import.meta.dir, "..", "..");
const PROGRAMS = [
  "ip",
  "nft",
  "nsenter",
  "setpriv",
  "setsid",
  "sysctl",
  "fallocate",
  "losetup",
  "unshare",
];
const EXIT_INTERRUPTED = 130;

/** What a lab needs and this machine lacks, in words; empty when it can be made. */
export function missing(options: { programs?: readonly string[] } = {}): string[] {
  const found: string[] = [];
  if (process.getuid?.() !== 0) found.push("root: it makes network namespaces, mounts and loops");
  for (const name of [...PROGRAMS, ...(options.programs ?? [])]) {
    if (Bun.which(name) === null) found.push(`the program ${name} (npm run setup installs it)`);
  }
  if (!existsSync(executable())) found.push(`${executable()} (npm run build makes it)`);
  return found;
}

export function executable(): string {
  return process.env["CAIRN_EXECUTABLE"] ?? path.join(ROOT, "dist", "cairn");
}

/** Fails when the machine lacks something: in CI nothing is skipped in silence. */
export function requireMachine(options: { programs?: readonly string[] } = {}): void {
  const lacking = missing(options);
  if (lacking.length > 0) throw new Error(`this machine lacks ${lacking.join("; ")}`);
}

export interface LabOptions {
  /** For every unit of this lab. */
  unit?: UnitOptions;
  /** Bytes that must be free for disks; the lab is not begun without. */
  needsBytes?: number;
  /** Keeps folder and logs at the end; not said: if CAIRN_LAB_KEEP is set. */
  keep?: boolean;
  /** A line of progress for a person. */
  say?: (line: string) => void;
}

type Ending = () => void | Promise<void>;

export class Lab implements AsyncDisposable {
  readonly joinSecret: string;
  readonly network: LabNetwork;
  readonly record: LabRecord;
  readonly units: LabUnit[] = [];
  readonly #options: LabOptions;
  readonly #endings: Ending[] = [];
  readonly #onSignal = (signal: NodeJS.Signals) => this.#interrupted(signal);
  #end: Promise<void> | null = null;

  constructor(options: LabOptions = {}) {
    requireMachine();
    this.#options = options;
    const orphans = removeOrphans();
    if (orphans > 0) options.say?.(`removed what ${orphans} killed run(s) had left behind`);
    this.record = LabRecord.take();
    // From here on there is something to remove.
    for (const signal of SIGNALS) process.on(signal, this.#onSignal);
    try {
      this.#requireRoom();
      this.joinSecret = `trial-${randomBytes(16).toString("hex")}`;
      this.network = new LabNetwork(this.record);
    } catch (error) {
      this.#removeAll();
      throw error;
    }
  }

  get folder(): string {
    return this.record.folder;
  }
  get hostAddress(): string {
    return this.network.hostAddress;
  }
  /** The signal that ended it early, or null. */
  interruptedBy: string | null = null;

  /** A new unit, not started yet. */
  add(options: UnitOptions = {}): LabUnit {
    this.checkOpen();
    const place = this.units.length + 1;
    this.network.addUnit(place);
    const name = `unit-${place}`;
    const unit = new LabUnit(
      {
        place,
        name,
        folder: path.join(this.folder, name),
        namespace: this.network.namespaceOf(place),
        address: this.network.unitAddress(place),
        executable: executable(),
      },
      { joinSecret: this.joinSecret, ...this.#options.unit, ...options },
    );
    this.units.push(unit);
    return unit;
  }

  /** The unit at a place, counted from 1. */
  unit(place: number): LabUnit {
    const found = this.units[place - 1];
    if (found === undefined) throw new Error(`the lab has no unit ${place}`);
    return found;
  }

  /** A unit by its number in the cluster. */
  async unitOfNumber(number: number): Promise<LabUnit> {
    for (const view of await this.anyApi().units()) {
      if (view.unit !== number) continue;
      const found = this.units.find((unit) => unit.name === view.name);
      if (found !== undefined) return found;
    }
    throw new NotYet(`no unit of the lab has number ${number}`);
  }

  get running(): LabUnit[] {
    return this.units.filter((unit) => unit.running);
  }
  /** Of some unit that runs. */
  anyApi(): LabUnit["api"] {
    const [first] = this.running;
    if (first === undefined) throw new Error("no unit runs");
    return first.api;
  }

  /** Waits; fails early when a unit ended by itself or the lab ends, and shows the units' logs. */
  until<T>(
    what: string,
    look: () => T | null | Promise<T | null>,
    limitMs: number,
    options: Partial<UntilOptions> = {},
  ): Promise<T> {
    return until(what, look, {
      limitMs,
      stillWorthIt: () => {
        this.checkOpen();
        for (const unit of this.units) unit.stillRuns();
      },
      trail: () => this.trail(),
      ...options,
    });
  }

  /** For a failure: how the units see the cluster, and what they wrote last. */
  async trail(): Promise<string> {
    const views = await Promise.all(this.running.map((unit) => viewOf(unit)));
    return [...views, ...this.units.map((unit) => unit.trail())].join("");
  }

  /** A program on this machine that ends with the lab; its output goes to a file in the folder. */
  spawn(name: string, command: string, words: string[], options: SpawnOptions = {}): ChildProcess {
    this.checkOpen();
    const child = spawn("setpriv", ["--pdeathsig", "KILL", command, ...words], {
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
      env: { ...process.env, ...options.env },
    });
    const { pid } = child;
    if (pid === undefined) throw new Error(`${name} did not start: ${command}`);
    this.record.started(pid);
    child.on("exit", () => this.record.ended(pid));
    return child;
  }

  /** What is to be undone before the units are stopped; the last one first. */
  atEnd(ending: Ending): void {
    this.#endings.push(ending);
  }

  checkOpen(): void {
    if (this.#end !== null) throw new Error("the lab is being removed");
  }

  /** Removes everything; safe to call again. */
  end(): Promise<void> {
    this.#end ??= this.#endOnce();
    return this.#end;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }

  async #endOnce(): Promise<void> {
    const failures: string[] = [];
    for (const ending of this.#endings.reverse()) {
      try {
        await ending();
      } catch (error) {
        failures.push(error instanceof Error ? error.message : String(error));
      }
    }
    await Promise.all(this.units.map((unit) => unit.kill().catch(() => null)));
    failures.push(...this.#removeAll());
    if (failures.length > 0) throw new Error(`not removed: ${failures.join("; ")}`);
  }

  #removeAll(): string[] {
    try {
      const keep = this.#options.keep ?? process.env["CAIRN_LAB_KEEP"] !== undefined;
      if (!keep) return this.record.removeAll();
      const { left, kept } = this.record.removeButKeep();
      this.#options.say?.(`disks and logs are kept in ${kept}`);
      return left;
    } finally {
      for (const signal of SIGNALS) process.off(signal, this.#onSignal);
    }
  }

  #interrupted(signal: NodeJS.Signals): void {
    if (this.#end !== null) return; // it is being removed already: let it
    this.interruptedBy = signal;
    this.#options.say?.(`\n${signal}: removing everything this run made`);
    this.end().then(
      () => process.exit(EXIT_INTERRUPTED),
      (error: unknown) => {
        process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
        process.exit(EXIT_INTERRUPTED);
      },
    );
  }

  #requireRoom(): void {
    const { needsBytes = 0 } = this.#options;
    const { bavail, bsize } = statfsSync(this.folder);
    const freeBytes = bavail * bsize;
    if (freeBytes >= needsBytes) return;
    const gibibytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
    throw new Error(
      `${path.dirname(this.folder)} has ${gibibytes(freeBytes)} free, ` +
        `${gibibytes(needsBytes)} are needed; CAIRN_LAB_DIRECTORY names another folder`,
    );
  }
}

interface SpawnOptions {
  env?: Record<string, string>;
}

async function viewOf({ name, api }: LabUnit): Promise<string> {
  try {
    const [status, units, disks] = await Promise.all([api.status(), api.units(), api.disks()]);
    const [volumes, recovery] = await Promise.all([api.volumes(), api.recovery()]);
    const { sentence, voters, controlStation, staleMs } = status;
    const alive = units.map((unit) => `${unit.unit} ${unit.alive ? "alive" : "away"} ${unit.link}`);
    const parts = [
      `${sentence} voters ${voters} station ${controlStation} stale ${staleMs} ms`,
      `units ${alive.join(", ")}`,
      ...disks.map((one) => `disk ${one.disk} of ${one.unit}: ${one.state}, ${one.reason}`),
      ...volumes.map((one) => JSON.stringify(one)),
      JSON.stringify(recovery),
    ];
    return `--- as ${name} sees it\n${parts.join("\n")}\n`;
  } catch (error) {
    return `--- ${name}: ${error instanceof Error ? error.message : String(error)}\n`;
  }
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Lines of a file so far; none when there is no such file. */
export function linesOf(file: string): string[] {
  return existsSync(file) ? readFileSync(file, "utf8").trimEnd().split("\n") : [];
}
