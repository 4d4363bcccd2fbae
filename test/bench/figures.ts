// SPDX-License-Identifier: Apache-2.0
//
// What the machine says of itself while a benchmark runs: time, steal, the CPU seconds of a
// server; and the arithmetic of ratios.

import { readFileSync, readdirSync } from "node:fs";

const CLOCK_TICKS_PER_SECOND = 100; // USER_HZ, the same on every Linux we run on

export interface MachineTime {
  stolenSeconds: number;
  busySeconds: number;
  allSeconds: number;
}

export function machineTime(): MachineTime {
  const first = readFileSync("/proc/stat", "utf8").split("\n")[0] ?? "";
  const ticks = first.split(/\s+/).slice(1, 9).map(Number);
  const all = ticks.reduce((sum, one) => sum + one, 0);
  const [idle = 0, waiting = 0, stolen = 0] = [ticks[3], ticks[4], ticks[7]];
  return {
    stolenSeconds: stolen / CLOCK_TICKS_PER_SECOND,
    busySeconds: (all - idle - waiting - stolen) / CLOCK_TICKS_PER_SECOND,
    allSeconds: all / CLOCK_TICKS_PER_SECOND,
  };
}

/** CPU seconds of processes and of children they have waited for: all that a server has used. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const stat = statOf(pid);
    if (stat === null) continue;
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    for (const index of [11, 12, 13, 14]) ticks += Number(fields[index]);
  }
  return ticks / CLOCK_TICKS_PER_SECOND;
}

/** Null: it has ended. */
function statOf(pid: number): string | null {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch (error) {
    if (/ENOENT|ESRCH/.test(String((error as { code?: string }).code))) return null;
    throw error;
  }
}

/** A process and those it started (nbd-server has one per connection). */
export function familyOf(pid: number): number[] {
  const family = [pid];
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const children = readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").trim();
    if (children === "") continue;
    for (const child of children.split(" ")) family.push(...familyOf(Number(child)));
  }
  return family;
}

/** The value below which `share` of them lie, between neighbours in proportion. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((left, right) => left - right);
  const at = (sorted.length - 1) * share;
  const low = sorted[Math.floor(at)] ?? 0;
  const high = sorted[Math.ceil(at)] ?? low;
  return low + (high - low) * (at - Math.floor(at));
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Anonymous and shared memory of a process. */
export function heldMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const kibibytes = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0);
  return (kibibytes("RssAnon") + kibibytes("RssShmem")) / 1024;
}

/** Least squares, per step. */
export function slopeOf(values: readonly number[]): number {
  const middle = (values.length - 1) / 2;
  const mean = values.reduce((sum, one) => sum + one, 0) / Math.max(1, values.length);
  let [up, across] = [0, 0];
  for (const [index, value] of values.entries()) {
    up += (index - middle) * (value - mean);
    across += (index - middle) ** 2;
  }
  return across === 0 ? 0 : up / across;
}
