// SPDX-License-Identifier: Apache-2.0
//
// Memory that outlives the process and not the machine's power: a file mapped shared, named after
// the boot. When the process dies its pages stay in the kernel; after a restart of the machine the
// name is another, and what an old file holds is removed unread. The store keeps in it what it has
// not made durable yet (store/keepsake.ts, H6).
//
// A disk that lost its own power while the machine ran (pulled out and put in again) is not seen
// here: whoever notices must remove its keepsake before the disk is opened (`dropKeepsake`).

import {
  closeSync,
  constants,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
} from "node:fs";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { mappedBytes } from "./arena.ts";
import { errno, errnoName, libc, mappedAddress } from "./libc.ts";

/** Per disk; full once this much is under way between two flushes, then a flush comes by itself. */
export const KEEPSAKE_BYTES = 1 << 20;

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

export interface KeepsakePlace {
  /** Of the unit alone. Any file system will do; the best one is in memory. */
  directory: string;
  /** Of the disk: letters, digits, dashes. */
  name: string;
}

/** The disk's memory as the last process of this boot left it, or zero. Mapped for good. */
export function openKeepsake(place: KeepsakePlace): Uint8Array {
  const file = `${place.name}.${bootId()}`;
  mkdirSync(place.directory, { recursive: true, mode: 0o700 });
  removeOthers(place, file);
  const flags = constants.O_RDWR | constants.O_CREAT;
  const fd = openSync(path.join(place.directory, file), flags, 0o600);
  try {
    ftruncateSync(fd, KEEPSAKE_BYTES);
    const mapped = libc.mmap(null, KEEPSAKE_BYTES, PROT_READ_WRITE, MAP_SHARED, fd, 0);
    const start = mappedAddress(mapped);
    if (start === null) {
      throw new Fault("badMachine", `no shared memory for a disk (${errnoName(errno())})`);
    }
    return new Uint8Array(mappedBytes(start, KEEPSAKE_BYTES));
  } finally {
    closeSync(fd);
  }
}

/** Forgets what stands there: the disk's cache is gone, too. Not while the disk is open. */
export function dropKeepsake(place: KeepsakePlace): void {
  removeOthers(place, null);
}

/** Files of the same disk from other boots; `file`, if given, stays. */
function removeOthers({ directory, name }: KeepsakePlace, file: string | null): void {
  for (const entry of readdirSync(directory)) {
    if (!entry.startsWith(`${name}.`) || entry === file) continue;
    rmSync(path.join(directory, entry), { force: true });
  }
}

function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}
