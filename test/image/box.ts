// SPDX-License-Identifier: Apache-2.0
//
// One storage box: a guest that boots the image, with a boot disk that is an overlay over the image
// and blank data disks. It can be powered on, reset, cut from power at any moment, asked to power
// off, looked at and typed to.
//
// Invariants
// - A guest runs in the wire's namespace and dies with the process that started it.
// - An end that nobody asked for is kept and told by `stillRuns`.
// - Disks outlive a power cut, nothing else does.

import { closeSync, copyFileSync, existsSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { rmSync } from "node:fs";
import { spawn, type ChildProcess } from "node:child_process";
import path from "node:path";
import { ConsoleLog } from "./console-log.ts";
import type { Forgotten, LossyDisk } from "./lossy-disk.ts";
import { FILES, qemuWords, type Firmware, type GuestShape } from "./qemu-words.ts";
import { InsideShell, typeOn } from "./inside-shell.ts";
import { Qmp } from "./qmp.ts";
import { EMULATOR } from "./tools-tree.ts";
import type { Prng } from "#base/prng.ts";
import { until } from "#test/cluster/until.ts";

const QMP_MS = 30_000;
const END_MS = 60_000;
const TRAIL_LINES = 40;
const CLOCK_TICKS_PER_SECOND = 100; // USER_HZ, the same on every Linux we run on

export interface BoxPlace {
  place: number;
  name: string;
  folder: string;
  namespace: string;
  address: string;
}

/** Firmware that is still to be given its own store of variables. */
export type BoxFirmware =
  | { kind: "uefi"; code: string; variables: string; secureBoot: boolean }
  | Extract<Firmware, { kind: "direct" }>;

export class Box {
  readonly place: number;
  readonly name: string;
  readonly address: string;
  readonly folder: string;
  /** The first serial line: kernel, systemd, the screen. */
  readonly serial: ConsoleLog;
  /** The second one, which nothing of the image writes to: for units that a test brings along. */
  readonly second: ConsoleLog;
  /** On the second one; answers only in a box that was given SHELL_CREDENTIALS. */
  readonly shell: InsideShell;
  /** Of performance.now(), when it was powered on last. */
  poweredOnMs = 0;
  readonly #namespace: string;
  readonly #shape: GuestShape;
  #child: ChildProcess | null = null;
  #qmp: Qmp | null = null;
  #endedByItself: string | null = null;

  constructor(at: BoxPlace, shape: Omit<GuestShape, "name" | "folder">) {
    this.place = at.place;
    this.name = at.name;
    this.address = at.address;
    this.folder = at.folder;
    this.#namespace = at.namespace;
    mkdirSync(at.folder, { recursive: true, mode: 0o700 });
    const firmware = ownVariables(shape.firmware, at.folder);
    this.#shape = { ...shape, firmware, name: at.name, folder: at.folder };
    this.serial = new ConsoleLog(path.join(at.folder, FILES.serial));
    this.second = new ConsoleLog(path.join(at.folder, FILES.second));
    this.shell = new InsideShell(path.join(at.folder, FILES.secondSocket), this.second);
  }

  get running(): boolean {
    return this.#child !== null;
  }
  get apiUrl(): string {
    return `http://${this.address}:7480`;
  }
  get shape(): GuestShape {
    return this.#shape;
  }

  get #lossy(): LossyDisk | null {
    const { bootDisk } = this.#shape;
    return "lossy" in bootDisk ? bootDisk.lossy : null;
  }

  /** Changes what the box is made of; it must be off. */
  refit(change: Partial<Omit<GuestShape, "name" | "folder">>): void {
    if (this.#child !== null) throw new Error(`${this.name} is on: it is not opened`);
    Object.assign(this.#shape, change);
  }

  async powerOn(): Promise<void> {
    if (this.#child !== null) throw new Error(`${this.name} is on already`);
    this.#endedByItself = null;
    this.#lossy?.begin();
    for (const name of ["qmp", "serialSocket", "secondSocket"] as const) {
      rmSync(path.join(this.folder, FILES[name]), { force: true });
    }
    const log = openSync(path.join(this.folder, FILES.qemu), "a");
    const inside = ["--pdeathsig", "KILL", "nsenter", `--net=/run/netns/${this.#namespace}`];
    this.poweredOnMs = performance.now();
    const words = [...inside, ...EMULATOR.words, ...qemuWords(this.#shape)];
    const child = spawn("setpriv", words, {
      stdio: ["ignore", log, log],
      detached: true,
      env: { ...process.env, ...EMULATOR.env },
    });
    closeSync(log);
    this.#child = child;
    child.on("error", (error) => this.#ended(child, error.message));
    child.on("exit", (status, signal) => {
      this.#ended(child, signal === null ? `status ${status}` : `signal ${signal}`);
    });
    this.#qmp = await until(
      `${this.name}'s control connection`,
      () => Qmp.open(path.join(this.folder, FILES.qmp)),
      { limitMs: QMP_MS, stillWorthIt: () => this.stillRuns(), trail: () => this.trail() },
    );
  }

  /**
   * The cable is pulled: QEMU is killed. With dice, a disk that forgets then forgets; without, what
   * the guest gave to its disks is on them.
   */
  async powerCut(dice: Prng | null = null): Promise<Forgotten | null> {
    const child = this.#child;
    if (child === null) return null;
    this.#child = null;
    this.#qmp?.close();
    child.kill("SIGKILL");
    // Not by the child's event: bun's test runner ends children of a test that it gives up.
    const gone = () => (isGone(child.pid) ? true : null);
    await until(`${this.name} without power`, gone, { limitMs: END_MS, lookMs: 10 });
    if (dice !== null && this.#lossy !== null) return this.#lossy.cut(dice);
    this.#lossy?.end();
    return null;
  }

  /** The power button, and waits until the box is off. */
  async powerButton(limitMs: number): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    await this.control("system_powerdown");
    await until(`${this.name} off`, () => (child.exitCode === null ? null : true), {
      limitMs,
      trail: () => this.trail(),
    });
    if (child.exitCode !== 0) throw new Error(`${this.name} ended with status ${child.exitCode}`);
    this.#child = null;
    this.#endedByItself = null;
    this.#lossy?.end();
  }

  /** The reset button. */
  async reset(): Promise<void> {
    await this.control("system_reset");
  }

  /** What its screen shows, as a PNG. */
  async screenshot(file: string): Promise<void> {
    await this.control("screendump", { filename: file, format: "png" });
  }

  /** Types on the first serial line. */
  async type(text: string): Promise<void> {
    await typeOn(path.join(this.folder, FILES.serialSocket), text);
  }

  control(command: string, words: Record<string, unknown> = {}): Promise<unknown> {
    if (this.#qmp === null) throw new Error(`${this.name} is off`);
    return this.#qmp.run(command, words);
  }

  /** How often it was reset since it was powered on, as QEMU saw it. */
  resets(): { byGuest: number; byWatchdog: number } {
    const events = this.#qmp?.events ?? [];
    const count = (holds: (one: (typeof events)[number]) => boolean) => events.filter(holds).length;
    return {
      byGuest: count((one) => one.event === "RESET" && one.data?.["guest"] === true),
      byWatchdog: count((one) => one.event === "WATCHDOG"),
    };
  }

  /** Fails when it ended without being told to. */
  stillRuns(): void {
    if (this.#endedByItself === null) return;
    throw new Error(`${this.name} went off by itself (${this.#endedByItself})\n${this.trail()}`);
  }

  /** Seconds since it was powered on. */
  secondsOn(): number {
    return (performance.now() - this.poweredOnMs) / 1000;
  }

  /** Of this machine's processors, since it was powered on: what a boot costs, however busy. */
  processorSeconds(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) return 0;
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_SECOND;
  }

  /** For a failure: the end of its serial line and of what QEMU said. */
  trail(lines = TRAIL_LINES): string {
    const file = path.join(this.folder, FILES.qemu);
    const said = existsSync(file) ? readFileSync(file, "utf8").trimEnd() : "";
    const state = this.running ? "on" : (this.#endedByItself ?? "off");
    const qemu = said === "" ? "" : `\n--- QEMU said\n${said.slice(-2000)}`;
    return `--- ${this.name} (${state}), ${this.serial.file}\n${this.serial.trail(lines)}${qemu}\n`;
  }

  #ended(child: ChildProcess, how: string): void {
    if (this.#child !== child) return; // we ended it
    this.#endedByItself = how;
    this.#child = null;
    this.#qmp?.close();
  }
}

function isGone(pid: number | undefined): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
  } catch {
    return true; // no such process
  }
}

/** A box keeps its firmware's settings: each has a store of its own. */
function ownVariables(firmware: BoxFirmware, folder: string): Firmware {
  if (firmware.kind === "direct") return firmware;
  const variables = path.join(folder, "firmware-variables.fd");
  copyFileSync(firmware.variables, variables);
  return { ...firmware, variables };
}
