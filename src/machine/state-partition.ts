// SPDX-License-Identifier: Apache-2.0
//
// The state partition of the boot disk, found by its type (Discoverable Partitions Specification,
// "variable data"). Its name is a word to the initrd: with this one it is made anew before anything
// is mounted from it, and gets its usual name back (firmware/boot/initrd/usr/lib/cairn/state).

import { Fault } from "#base/fault.ts";
import { runForJson, runProgram } from "./program.ts";

export const STATE_TYPE = "4D21B016-B534-45C2-A9FB-5C16E091FD2D";
export const STATE_RESET_LABEL = "cairn-state-reset";
const LABEL_TIMEOUT_MS = 30_000;

interface Table {
  partitions?: { node: string; type: string }[];
}

/**
 * Durable when it returns; the disk may be in use, and the kernel keeps its own table meanwhile.
 */
export async function nameStateForReset(disk: string): Promise<void> {
  const options = { timeoutMs: LABEL_TIMEOUT_MS, debianPackage: "fdisk" };
  const answer = (await runForJson("sfdisk", ["--json", disk], options)) as {
    partitiontable?: Table;
  } | null;
  const all = answer?.partitiontable?.partitions ?? [];
  const found = all.filter((one) => one.type.toUpperCase() === STATE_TYPE);
  const number = /(\d+)$/.exec(found[0]?.node ?? "")?.[1];
  if (found.length !== 1 || number === undefined) {
    throw new Fault("badMachine", `${disk} has ${found.length} state partitions; one is expected`);
  }
  const how = ["--quiet", "--lock=yes", "--no-reread", "--no-tell-kernel"];
  await runProgram("sfdisk", [...how, "--part-label", disk, number, STATE_RESET_LABEL], options);
}
