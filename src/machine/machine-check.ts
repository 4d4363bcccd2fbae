// SPDX-License-Identifier: Apache-2.0
//
// Whether this machine can be a unit, before anything is started: said in plain words if not.

import { endianness, release } from "node:os";
import { Fault } from "#base/fault.ts";
import { probeRing } from "./ring.ts";

/**
 * Throws Fault badMachine with the first thing that is missing; else what was found, for the log.
 */
export function checkMachine(): { kernel: string; ringFeatures: readonly string[] } {
  if (process.platform !== "linux" || endianness() !== "LE") {
    throw new Fault("badMachine", "a unit needs Linux on a little-endian 64-bit processor");
  }
  if (process.getuid?.() !== 0) {
    throw new Fault("badMachine", "a unit must run as root (for disks and network addresses)");
  }
  try {
    return { kernel: release(), ringFeatures: probeRing().features };
  } catch (cause) {
    if (!(cause instanceof Fault)) throw cause;
    throw new Fault("badMachine", `kernel ${release()}: ${cause.message}`, { cause });
  }
}
