// SPDX-License-Identifier: Apache-2.0
//
// A lab: several units on this one machine, each a process of the executable in a network
// namespace of its own, on one bridge; this machine is their host, at `hostAddress`. Its record and
// its end are those of lab-scope.ts.

import { existsSync, readFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import path from "node:path";
import { LabNetwork } from "./lab-network.ts";
import { LabScope, type ScopeOptions } from "./lab-scope.ts";
import { LabUnit, type UnitOptions } from "./lab-unit.ts";
import { NotYet } from "./until.ts";

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

export interface LabOptions extends ScopeOptions {
  /** For every unit of this lab. */
  unit?: UnitOptions;
  /** What its units run; the one of this tree by default. */
  executable?: string;
}

export class Lab extends LabScope {
  readonly joinSecret: string;
  readonly network: LabNetwork;
  readonly units: LabUnit[] = [];
  readonly #unitOptions: UnitOptions;
  readonly #executable: string;

  constructor(options: LabOptions = {}) {
    requireMachine();
    super(options);
    this.#unitOptions = options.unit ?? {};
    this.#executable = options.executable ?? executable();
    this.joinSecret = `trial-${randomBytes(16).toString("hex")}`;
    this.network = this.making(() => new LabNetwork(this.record));
  }

  get hostAddress(): string {
    return this.network.hostAddress;
  }

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
        executable: this.#executable,
      },
      { joinSecret: this.joinSecret, ...this.#unitOptions, ...options },
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

  /** For a failure: how the units see the cluster, and what they wrote last. */
  override async trail(): Promise<string> {
    const views = await Promise.all(this.running.map((unit) => viewOf(unit)));
    return [...views, ...this.units.map((unit) => unit.trail())].join("");
  }

  protected override checkRunning(): void {
    for (const unit of this.units) unit.stillRuns();
  }
  protected override async stopAll(): Promise<void> {
    await Promise.all(this.units.map((unit) => unit.kill().catch(() => null)));
  }
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

/** Lines of a file so far; none when there is no such file. */
export function linesOf(file: string): string[] {
  return existsSync(file) ? readFileSync(file, "utf8").trimEnd().split("\n") : [];
}
