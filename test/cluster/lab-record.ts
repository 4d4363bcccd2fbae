// SPDX-License-Identifier: Apache-2.0
//
// What a lab has made on this machine, written down before it is made, so that all of it can be
// removed: by the lab itself, or by the next one after a kill -9.
//
// Invariants
// - A lab's folder `cairn-lab-<n>` holds `made.json`; the folder's number is in the name of
//   everything else (namespaces, the link into this machine), and mkdir gives it out once.
// - Processes are named by pid and start time, so that a number used again is never signalled.
// - Removing is safe to repeat, to break off and to do twice at once: what is gone is fine.

import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { spawnSync } from "node:child_process";
import path from "node:path";

/** Not the usual temporary folder: that one is often memory, and disks of units are large. */
const FOLDER = realpathSync(process.env["CAIRN_LAB_DIRECTORY"] ?? "/var/tmp");
const NAME = /^cairn-lab-(\d{1,3})$/;
const NUMBERS = 250;
/** A folder without a record is one that is being made, unless it is this old. */
const HALF_MADE_MS = 60_000;
const COMMAND_MS = 15_000;
const LOOP_LOOKS = 100;
const LOOP_LOOK_MS = 50;

interface ProcessName {
  pid: number;
  startTicks: number;
}

interface Made {
  owner: ProcessName;
  namespaces: string[];
  links: string[];
  loops: string[];
  processes: ProcessName[];
}

const LISTS = ["namespaces", "links", "loops"] as const;
type ListName = (typeof LISTS)[number];

export class LabRecord {
  readonly number: number;
  readonly folder: string;
  readonly #made: Made;

  private constructor(number: number) {
    this.number = number;
    this.folder = folderOf(number);
    this.#made = {
      owner: processName(process.pid) ?? { pid: process.pid, startTicks: 0 },
      namespaces: [],
      links: [],
      loops: [],
      processes: [],
    };
    this.#write();
  }

  /** Takes the next free number and its folder. */
  static take(): LabRecord {
    for (let number = 1; number <= NUMBERS; number++) {
      try {
        mkdirSync(folderOf(number), { mode: 0o700 });
      } catch (error) {
        if ((error as { code?: string }).code === "EEXIST") continue;
        throw error;
      }
      return new LabRecord(number);
    }
    throw new Error(`${NUMBERS} labs in ${FOLDER}: none of them is free`);
  }

  /** To be called before it is made. */
  willMake(list: ListName, name: string): void {
    this.#made[list].push(name);
    this.#write();
  }

  removed(list: ListName, name: string): void {
    this.#made[list] = this.#made[list].filter((one) => one !== name);
    this.#write();
  }

  /** A process outside the lab's namespaces; those inside are found by their namespace. */
  started(pid: number): void {
    const name = processName(pid);
    if (name !== null) this.#made.processes.push(name);
    this.#write();
  }

  ended(pid: number): void {
    this.#made.processes = this.#made.processes.filter((one) => one.pid !== pid);
    // A process may end after the lab was removed already, or kept under another name.
    if (existsSync(this.folder)) this.#write();
  }

  /** Removes everything, the folder last. Answers what is still there, in words. */
  removeAll(): string[] {
    return removeMade(this.folder, this.#made);
  }

  /** Like removeAll, but disks and logs stay, under a name that no lab looks at. */
  removeButKeep(): { left: string[]; kept: string } {
    const left = removeProcesses(this.folder, this.#made);
    const kept = path.join(FOLDER, `cairn-kept-${this.number}-${process.pid}-${Date.now()}`);
    renameSync(this.folder, kept);
    return { left, kept };
  }

  #write(): void {
    const file = path.join(this.folder, "made.json");
    writeFileSync(`${file}.new`, JSON.stringify(this.#made, null, 1));
    renameSync(`${file}.new`, file);
  }
}

/** Removes what labs left behind whose process is gone. Answers how many there were. */
export function removeOrphans(): number {
  let count = 0;
  for (const entry of readdirSync(FOLDER)) {
    if (!NAME.test(entry)) continue;
    const folder = path.join(FOLDER, entry);
    const made = readMade(folder);
    if (made === null ? !isOld(folder) : isAlive(made.owner)) continue;
    removeMade(folder, made ?? emptyMade());
    count++;
  }
  return count;
}

function folderOf(number: number): string {
  return path.join(FOLDER, `cairn-lab-${number}`);
}

function emptyMade(): Made {
  const owner = { pid: 0, startTicks: 0 };
  return { owner, namespaces: [], links: [], loops: [], processes: [] };
}

function readMade(folder: string): Made | null {
  try {
    const made = JSON.parse(readFileSync(path.join(folder, "made.json"), "utf8")) as Made;
    return LISTS.every((list) => Array.isArray(made[list])) ? made : null;
  } catch {
    return null; // half made, or being removed by another
  }
}

function isOld(folder: string): boolean {
  try {
    return Date.now() - statSync(folder).mtimeMs > HALF_MADE_MS;
  } catch {
    return false; // gone meanwhile
  }
}

/**
 * Field 22 of /proc/pid/stat; the name before it may hold anything but ends at the last bracket.
 */
function processName(pid: number): ProcessName | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { pid, startTicks: Number(fields[19]) };
  } catch {
    return null; // no such process
  }
}

function isAlive(name: ProcessName): boolean {
  return processName(name.pid)?.startTicks === name.startTicks;
}

function killNow(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as { code?: string }).code !== "ESRCH") throw error;
  }
}

function succeeds(command: string, ...args: string[]): boolean {
  // Of its own session: the terminal's Ctrl-C is for us, not for the one who cleans up.
  const words = ["--wait", command, ...args];
  const result = spawnSync("setsid", words, { timeout: COMMAND_MS, killSignal: "SIGKILL" });
  return result.status === 0;
}

/** Processes of a namespace of ours: all of them are ours. */
export function pidsInside(namespace: string): number[] {
  const answer = spawnSync("ip", ["netns", "pids", namespace], { encoding: "utf8" });
  return (answer.stdout ?? "")
    .split("\n")
    .map(Number)
    .filter((pid) => pid > 1);
}

function removeMade(folder: string, made: Made): string[] {
  const left = removeProcesses(folder, made);
  // With something left the record stays too, for the next lab to try again.
  if (left.length === 0) rmSync(folder, { recursive: true, force: true });
  return left;
}

/** Everything but the folder. */
function removeProcesses(folder: string, made: Made): string[] {
  const left: string[] = [];
  // First who writes, then who serves, then what they stood on.
  for (const one of made.processes) if (isAlive(one)) killNow(one.pid);
  // Mounts go with the processes of their namespace; a loop device that is busy until then
  // detaches itself.
  for (const loop of made.loops) {
    if (!detachLoop(loop, folder)) left.push(loop);
  }
  for (const namespace of made.namespaces) {
    for (const pid of pidsInside(namespace)) killNow(pid);
  }
  for (const namespace of made.namespaces) {
    if (!existsSync(`/run/netns/${namespace}`)) continue;
    if (!succeeds("ip", "netns", "delete", namespace)) left.push(`namespace ${namespace}`);
  }
  for (const link of made.links) {
    if (existsSync(`/sys/class/net/${link}`)) succeeds("ip", "link", "delete", link);
    if (existsSync(`/sys/class/net/${link}`)) left.push(`link ${link}`);
  }
  return left;
}

/** Its mount ends when the last process of its namespace is really gone, which takes a moment. */
function detachLoop(loop: string, folder: string): boolean {
  for (let look = 0; look < LOOP_LOOKS && isLoopOf(loop, folder); look++) {
    succeeds("losetup", "--detach", loop);
    if (isLoopOf(loop, folder)) Bun.sleepSync(LOOP_LOOK_MS);
  }
  return !isLoopOf(loop, folder);
}

/**
 * A loop device's number is used again by others: it is ours only if its file lies in our folder.
 */
function isLoopOf(loop: string, folder: string): boolean {
  try {
    const file = `/sys/block/${path.basename(loop)}/loop/backing_file`;
    return readFileSync(file, "utf8").startsWith(`${folder}/`);
  } catch {
    return false; // it has no file any more
  }
}
