// SPDX-License-Identifier: Apache-2.0
//
// Carries out a factory reset that was asked for, early in a boot: /var is mounted, the daemon does
// not run. Where the state partition cannot be mounted it is named so that the next boot makes it
// anew (firmware/boot/initrd), and the box restarts. Every step may be done again, and the mark
// goes last, so that a power cut anywhere only means that the next boot does it once more.
//
// One disk that fails does not keep the box from coming back: the others are emptied, the mark
// goes, and what could not be done is told (the report lies in /run/cairn until the next boot).

import { lstatSync, readFileSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import type { Log } from "#base/world.ts";
import { type OnStep, wipeDisk } from "./disk-wipe.ts";
import type { runProgram } from "./program.ts";
import { type ResetLevel, ResetMarks } from "./reset-marks.ts";
import { nameStateForReset } from "./state-partition.ts";
import { RunFolder } from "./run-folder.ts";
import { syncFolder } from "./state-directory.ts";

const RUN_FOLDER = "run/cairn";
export const REPORT_FILE = "reset.json";
/** The daemon's state, and what else makes this box itself: all that begins with this name. */
const STATE_PARENT = "var/lib";
const STATE_NAME = /^cairn/;
const MARKS_NAME = "cairn-reset";
/** Written by the initrd. */
const BOOT_DISK_FILE = "run/cairn/boot-disk";
const STAMP_FILE = "efi/cairn.json";

export interface ResetReport {
  level: ResetLevel;
  /** Disks that are blank now. */
  emptied: string[];
  /** What could not be done, a sentence each. */
  failures: string[];
  /** The rest happens in the next boot, which must begin at once. */
  restart: boolean;
}

export interface ResetOutside {
  /** "/" but in tests. */
  root: string;
  run: typeof runProgram;
  /** Paths of the machine's disks. */
  listDisks(): Promise<string[]>;
  log: Log;
  /** Told before each step; what it throws ends the work there. For tests. */
  onStep?: OnStep;
}

/** Null: nobody asked for one. */
export async function resetIfAsked(outside: ResetOutside): Promise<ResetReport | null> {
  const { root, log } = outside;
  const marks = new ResetMarks(root);
  const level = marks.factory();
  if (level === null) return null;
  log.write("warn", "a factory reset was asked for and begins", { level });
  const report: ResetReport = { level, emptied: [], failures: [], restart: false };
  const step = outside.onStep ?? (() => undefined);
  if (level === "everything") await emptyDisks(outside, report);
  step("state");
  if (marks.stateProblem !== null) await askFreshState(outside, report);
  forgetState(path.join(root, STATE_PARENT));
  if (level === "everything") {
    step("stamp");
    removeFile(path.join(root, STAMP_FILE), report);
    await forgetJournal(outside, report);
  }
  step("marks");
  marks.networkDone();
  new RunFolder(path.join(root, RUN_FOLDER)).write(REPORT_FILE, `${JSON.stringify(report)}\n`);
  step("factory mark");
  marks.factoryDone();
  log.write("warn", "the factory reset is done", { ...report });
  return report;
}

async function emptyDisks(outside: ResetOutside, report: ResetReport): Promise<void> {
  for (const file of await outside.listDisks()) {
    try {
      if ((await wipeDisk(file, outside.onStep)) === "emptied") report.emptied.push(file);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      report.failures.push(error.message);
    }
  }
}

/** The folder of the state stays, with its owner and mode; its mark must outlive this. */
function forgetState(parent: string): void {
  for (const name of namesIn(parent)) {
    if (!STATE_NAME.test(name) || name === MARKS_NAME) continue;
    const own = path.join(parent, name);
    const inside = lstatSync(own).isDirectory() ? namesIn(own) : null;
    for (const one of inside ?? []) rmSync(path.join(own, one), { recursive: true, force: true });
    if (inside === null) rmSync(own, { force: true });
    else syncFolder(own);
  }
  syncFolder(parent);
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (cause) {
    throw new Fault("badMachine", `${folder} cannot be read`, { cause });
  }
}

/** What cannot be mounted cannot be emptied: the next boot makes a new one in its place. */
async function askFreshState(outside: ResetOutside, report: ResetReport): Promise<void> {
  try {
    const disk = readFileSync(path.join(outside.root, BOOT_DISK_FILE), "utf8").trim();
    await nameStateForReset(disk);
    report.restart = true;
  } catch (error) {
    const why = error instanceof Fault ? error.message : `${BOOT_DISK_FILE} cannot be read`;
    report.failures.push(`the state partition is as it was: ${why}`);
  }
}

function removeFile(file: string, report: ResetReport): void {
  try {
    rmSync(file);
    syncFolder(path.dirname(file));
  } catch (cause) {
    const code = String((cause as { code?: unknown }).code);
    if (code !== "ENOENT") report.failures.push(`${file} could not be removed (${code})`);
  }
}

/** The old owner's history. */
async function forgetJournal(outside: ResetOutside, report: ResetReport): Promise<void> {
  try {
    await outside.run("journalctl", ["--rotate"], { debianPackage: "systemd" });
    await outside.run("journalctl", ["--vacuum-time=1s"], { debianPackage: "systemd" });
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    report.failures.push(`the old log is still there: ${error.message}`);
  }
}
