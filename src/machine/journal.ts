// SPDX-License-Identifier: Apache-2.0
//
// The last words of a service, from systemd's journal, and how it ended, from systemd itself.

import { Fault } from "#base/fault.ts";
import type { runProgram } from "./program.ts";

/** A service's name goes to a program: never one that reads as an option. */
const SERVICE = /^[A-Za-z0-9][A-Za-z0-9@:._-]{0,200}$/;
const LOG_TIMEOUT_MS = 20_000;

type Run = typeof runProgram;

/** Its last lines of this boot as it wrote them, oldest first. */
export async function lastLogLines(run: Run, service: string, linesMax: number): Promise<string[]> {
  const which = ["--unit", checked(service), "--boot", "--lines", String(linesMax)];
  const how = ["--output", "cat", "--no-pager", "--quiet"];
  const { output } = await run("journalctl", [...which, ...how], {
    timeoutMs: LOG_TIMEOUT_MS,
    debianPackage: "systemd",
  });
  return output.split("\n").filter((line) => line.trim() !== "");
}

/** How a service is, and how its process ended last. */
export interface ServiceEnd {
  /**
   * systemd's word: success, exit-code, signal, watchdog, oom-kill, timeout, start-limit-hit ...
   */
  result: string;
  /** exited, killed, dumped; empty while nothing ended yet. */
  how: string;
  /** Exit status, or the signal's number. */
  status: number;
  /** How often systemd started it again by itself. */
  restarts: number;
}

const ENDS: Readonly<Record<string, string>> = { "1": "exited", "2": "killed", "3": "dumped" };

export async function serviceEnd(run: Run, service: string): Promise<ServiceEnd> {
  const names = ["Result", "ExecMainCode", "ExecMainStatus", "NRestarts"];
  const args = ["show", checked(service), `--property=${names.join(",")}`];
  const { output } = await run("systemctl", args, { debianPackage: "systemd" });
  const values = new Map<string, string>();
  for (const line of output.split("\n")) {
    const at = line.indexOf("=");
    if (at > 0) values.set(line.slice(0, at), line.slice(at + 1).trim());
  }
  const code = values.get("ExecMainCode") ?? "";
  return {
    result: values.get("Result") ?? "",
    how: ENDS[code] ?? (code === "0" ? "" : code),
    status: Number(values.get("ExecMainStatus") ?? 0),
    restarts: Number(values.get("NRestarts") ?? 0),
  };
}

function checked(service: string): string {
  if (SERVICE.test(service)) return service;
  throw new Fault("badRequest", `"${service}" is no name of a service`);
}
