// SPDX-License-Identifier: Apache-2.0
//
// Carries out a factory reset that was asked for, early in a boot: /var is mounted, the daemon does
// not run. Every step may be done again, and the mark goes last, so that a power cut anywhere only
// means that the next boot does it once more.
//
// One disk that fails does not keep the box from coming back: the others are emptied, the mark goes,
// and what could not be done is told (the report lies in /run/cairn until the next boot).

import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import type { Log } from "#base/world.ts";
import { wipeDisk } from "./disk-wipe.ts";
import type { runProgram } from "./program.ts";
import { type ResetLevel, ResetMarks } from "./reset-marks.ts";
import { syncFolder } from "./state-directory.ts";

export const REPORT_FILE = "run/cairn/reset.json";
const STATE_FOLDER = "var/lib/cairn";
const STAMP_FILE = "efi/cairn.json";

export interface ResetReport {
  level: ResetLevel;
  /** Disks that are blank now. */
  emptied: string[];
  /** What could not be done, a sentence each. */
  failures: string[];
}

export interface ResetOutside {
  /** "/" but in tests. */
  root: string;
  run: typeof runProgram;
  /** Paths of the machine's disks. */
  listDisks(): Promise<string[]>;
  log: Log;
}

/** Null: nobody asked for one. */
export async function resetIfAsked(outside: ResetOutside): Promise<ResetReport | null> {
  const { root, log } = outside;
  const marks = new ResetMarks(root);
  const level = marks.factory();
  if (level === null) return null;
  log.write("warn", "a factory reset was asked for and begins", { level });
  const report: ResetReport = { level, emptied: [], failures: [] };
  if (level === "everything") await emptyDisks(outside, report);
  emptyFolder(path.join(root, STATE_FOLDER));
  if (level === "everything") {
    removeFile(path.join(root, STAMP_FILE), report);
    await forgetJournal(outside, report);
  }
  marks.networkDone();
  writeReport(root, report);
  marks.factoryDone();
  log.write("warn", "the factory reset is done", { ...report });
  return report;
}

async function emptyDisks(outside: ResetOutside, report: ResetReport): Promise<void> {
  for (const file of await outside.listDisks()) {
    try {
      if ((await wipeDisk(file)) === "emptied") report.emptied.push(file);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      report.failures.push(error.message);
    }
  }
}

function emptyFolder(folder: string): void {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (cause) {
    if ((cause as { code?: string }).code === "ENOENT") return;
    throw new Fault("badMachine", `${folder} cannot be emptied`, { cause });
  }
  for (const name of names) rmSync(path.join(folder, name), { recursive: true, force: true });
  syncFolder(folder);
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

/** In memory and for people only: it need not outlive this boot. */
function writeReport(root: string, report: ResetReport): void {
  const file = path.join(root, REPORT_FILE);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(report)}\n`, { mode: 0o600 });
}
