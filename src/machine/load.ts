// SPDX-License-Identifier: Apache-2.0
//
// How busy the machine is, and how much of its memory is in use.

import { readFileSync } from "node:fs";
import { availableParallelism, loadavg, release } from "node:os";

/** Runnable tasks per core over the last minute, in thousandths, at most 65535. */
export function loadPermille(): number {
  const load = (loadavg()[0] ?? 0) / Math.max(1, availableParallelism());
  return Math.min(65_535, Math.round(load * 1000));
}

export function machineKernel(): { kernel: string; cores: number } {
  return { kernel: release(), cores: Math.max(1, availableParallelism()) };
}

export interface MachineMemory {
  /** What the kernel has to give: less than what is plugged in. */
  sizeBytes: number;
  /** What could be had without swapping: free, or given back when asked for (page cache). */
  availableBytes: number;
}

export function machineMemory(): MachineMemory {
  return memoryFrom(readFileSync("/proc/meminfo", "utf8"));
}

/** From the text of /proc/meminfo (proc_meminfo(5)), whose kB are KiB. */
export function memoryFrom(text: string): MachineMemory {
  const bytes = (name: string) => {
    const found = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text)?.[1];
    if (found === undefined) throw new Error(`/proc/meminfo does not tell ${name}`);
    return Number(found) * 1024;
  };
  return { sizeBytes: bytes("MemTotal"), availableBytes: bytes("MemAvailable") };
}
