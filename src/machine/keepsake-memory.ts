// SPDX-License-Identifier: Apache-2.0
//
// Memory that outlives the process and not the machine's power: a file mapped shared, named after
// the boot. When the process dies its pages stay in the kernel; after a restart of the machine the
// name is another, and what an old file holds is removed unread. The store keeps in it what it has
// not made durable yet (store/keepsake.ts, H6).
//
// A disk that was pulled out and put in again while the machine ran has another number (diskseq),
// and with it another file. One that lost its power without the kernel's notice is not seen here:
// whoever notices must remove its keepsake before the disk is opened (`dropKeepsake`).
//
// Locked while mapped: of two copies of one disk, opened by two daemons, one goes without.

import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
} from "node:fs";
import { totalmem } from "node:os";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { mappedBytes } from "./arena.ts";
import { cString, errno, errnoName, libc, mappedAddress } from "./libc.ts";
import { patiently } from "./patience.ts";

const KEEPSAKE_BYTES_MIN = 8 << 20;
const KEEPSAKE_BYTES_MAX = 64 << 20;
/** Of the machine's memory. */
const KEEPSAKE_SHARE = 1 / 512;
/**
 * Per disk. With the least of it a flush cycle begins by itself after about 26,000 writes and has
 * as many as 80,000 more to end in; each cycle writes all checksums that changed, so that random
 * writes are cheaper with more. Pages that were never needed take no memory.
 */
export const KEEPSAKE_BYTES = Math.min(
  KEEPSAKE_BYTES_MAX,
  Math.max(KEEPSAKE_BYTES_MIN, Math.floor((totalmem() * KEEPSAKE_SHARE) / 2 ** 20) * 2 ** 20),
);

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const LOCK_EX_NB = 2 | 4;
const O_CLOEXEC = 0x80000;
/** Memory as a file system: a mapped page is never waited for while it is written back. */
export const MEMORY_DIRECTORY = "/dev/shm";
const OTHERS_MODE = 0o077;

export interface KeepsakePlace {
  /** Of the unit alone. Any file system will do; the best one is in memory. */
  directory: string;
  /** Of the disk: letters, digits, dashes. */
  name: string;
  /** Which time it was attached to the machine (`attachmentOf`): letters and digits. */
  attachment?: string;
}

/** Mapped by this process, by file: opened again it is the same. */
const mapped = new Map<string, Uint8Array>();

/** Where this user's daemons keep theirs; null where the machine has no such place. */
export function keepsakeDirectory(parent: string = MEMORY_DIRECTORY): string | null {
  const uid = process.geteuid?.() ?? 0;
  const directory = path.join(parent, `cairn-${uid}`);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch {
    return null; // no such file system, or not ours to write
  }
  // Anybody may make names in there: only a directory that nobody else can write to is believed.
  const stat = lstatSync(directory);
  const ours = stat.isDirectory() && stat.uid === uid && (stat.mode & OTHERS_MODE) === 0;
  return ours ? directory : null;
}

/** The number the kernel gave the disk when it was attached; "0" for files. */
export function attachmentOf(diskPath: string): string {
  const name = path.basename(realpathSync(diskPath));
  // A GPT partition has its disk's.
  for (const place of [`${name}/diskseq`, `${name}/../diskseq`]) {
    try {
      return readFileSync(`/sys/class/block/${place}`, "utf8").trim();
    } catch {
      continue; // no block device, or a kernel before 5.15
    }
  }
  return "0";
}

/**
 * The disk's memory as the last process of this boot left it, or zero. Mapped and locked for good.
 * Throws Fault diskRefused where another process has it.
 */
export function openKeepsake(place: KeepsakePlace): Uint8Array {
  const file = `${place.name}.${bootId()}.${place.attachment ?? "0"}`;
  const whole = path.join(place.directory, file);
  const known = mapped.get(whole);
  if (known !== undefined) return known;
  mkdirSync(place.directory, { recursive: true, mode: 0o700 });
  removeOthers(place, `.${bootId()}.`);
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | O_CLOEXEC;
  const fd = libc.open(cString(whole), flags, 0o600);
  if (fd < 0) throw new Fault("badMachine", `no keepsake in ${whole} (${errnoName(errno())})`);
  // The descriptor stays open: the lock hangs on it.
  const lock = () => libc.flock(fd, LOCK_EX_NB);
  if (patiently(lock, (got) => got !== 0) !== 0) {
    closeSync(fd);
    throw new Fault("diskRefused", `the keepsake ${file} is in use by another process`);
  }
  // What another version left stays as long as it is: where things stand hangs on the length.
  const left = fstatSync(fd).size;
  const isWhole = left >= KEEPSAKE_BYTES_MIN && left <= KEEPSAKE_BYTES_MAX;
  const length = isWhole ? left : KEEPSAKE_BYTES;
  ftruncateSync(fd, length);
  const answer = libc.mmap(null, length, PROT_READ_WRITE, MAP_SHARED, fd, 0);
  const start = mappedAddress(answer);
  if (start === null) {
    const reason = errnoName(errno());
    closeSync(fd);
    throw new Fault("badMachine", `no shared memory for a disk (${reason})`);
  }
  const bytes = new Uint8Array(mappedBytes(start, length));
  mapped.set(whole, bytes);
  return bytes;
}

/** Forgets what stands there: the disk's cache is gone, too. Not while the disk is open. */
export function dropKeepsake(place: KeepsakePlace): void {
  removeOthers(place, null);
}

/** The disk's files; those with `kept` in their names stay, another process may have them. */
function removeOthers({ directory, name }: KeepsakePlace, kept: string | null): void {
  for (const entry of readdirSync(directory)) {
    if (!entry.startsWith(`${name}.`) || (kept !== null && entry.includes(kept))) continue;
    rmSync(path.join(directory, entry), { force: true });
    mapped.delete(path.join(directory, entry));
  }
}

function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}
