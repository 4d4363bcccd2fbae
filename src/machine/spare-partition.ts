// SPDX-License-Identifier: Apache-2.0
//
// The spare space of the disk that the machine runs from: a GPT partition of our type beside those
// that are mounted. It is the one thing on a disk in use that may be taken.
//
// Invariants:
// - It is used by its own device node and never through the whole disk: the kernel keeps every
//   write inside it. The node is found by start and length, which must be those of the GPT.
// - It is taken only if an exclusive opening of that node succeeds: the kernel's own word that
//   neither it nor the whole disk is mounted, a member of something, or held by another process.
// - Nothing else on that disk is written, the GPT neither.

import { readFileSync, readdirSync, realpathSync, statSync } from "node:fs";
import path from "node:path";
import {
  CLEARED_BYTES,
  clear,
  deviceNumbers,
  DISK_BYTES_MIN,
  findOurs,
  isZero,
  readStretch,
  whoHolds,
} from "./disk-tools.ts";
import type { DiskExamination, DiskPlace } from "./disk-tools.ts";

const SECTOR_BYTES = 512; // sysfs counts in 512 always
const PAGE_BYTES = 4096;
/** What every page of a store begins with: "CAIR" (store/format.wire.ts). */
const STORE_MAGIC = "CAIR";
/** Devices stacked on devices, as dm-verity on a partition. */
const DEPTH_MAX = 8;

/**
 * Paths of the whole disks that the file systems of these folders lie on; a folder that is not
 * there, or lies in memory or on the network, adds none.
 */
export function disksUnder(folders: readonly string[]): string[] {
  const found = new Set<string>();
  for (const folder of folders) {
    // The dot mounts what is mounted on first use.
    const stat = statSync(`${folder}/.`, { throwIfNoEntry: false });
    if (stat === undefined) continue;
    addDisksOf(`/sys/dev/block/${deviceNumbers(stat.dev)}`, found, 0);
  }
  return [...found].sort();
}

function addDisksOf(folder: string, found: Set<string>, depth: number): void {
  const real = realFolder(folder);
  if (real === null || depth > DEPTH_MAX) return;
  const below = entriesOf(path.join(real, "slaves"));
  if (below.length > 0) {
    for (const name of below) addDisksOf(`/sys/class/block/${name}`, found, depth + 1);
    return;
  }
  const disk = entriesOf(real).includes("partition") ? path.dirname(real) : real;
  const name = deviceName(disk);
  if (name !== null) found.add(name);
}

/** Looks at the spare space of a disk in use, and touches nothing. */
export async function examineSpare(disk: string): Promise<DiskExamination> {
  const refused = (reason: string, sizeBytes = 0): DiskExamination => {
    return { path: disk, sizeBytes, state: "refused", reasons: [reason], ours: null };
  };
  const onDisk = await findOurs(disk);
  if (onDisk === null) return refused("this unit runs from it, and no part of it is spare");
  const { sizeBytes, partitionId } = onDisk;
  if (sizeBytes < DISK_BYTES_MIN) return refused("its spare part is too small", sizeBytes);
  const node = nodeOf(disk, onDisk);
  if (node === null) return refused("the kernel shows no device for its spare part", sizeBytes);
  const held = whoHolds(node);
  if (held !== null) return refused(`of its spare part: ${held}`, sizeBytes);
  const ours: DiskPlace = { path: node, offsetBytes: 0, sizeBytes, partitionId };
  return { path: node, sizeBytes, state: "ours", reasons: [], ours };
}

export type SpareContent = "empty" | "store" | "other";

/** What lies at the two places where a store says that it is one. */
export function spareContent(place: DiskPlace): SpareContent {
  const lastAt = Math.floor(place.sizeBytes / PAGE_BYTES) * PAGE_BYTES - PAGE_BYTES;
  const starts = [0, lastAt];
  if (starts.every((at) => isZero(place.path, at, PAGE_BYTES))) return "empty";
  const isStore = starts.some((at) => startsWithMagic(place.path, at));
  return isStore ? "store" : "other";
}

/** Zeroes both ends, so that nothing of what once lay there is taken for a store. */
export function clearSpare(place: DiskPlace): void {
  const ends = Math.min(CLEARED_BYTES, place.sizeBytes);
  clear(place.path, 0, ends);
  clear(place.path, place.sizeBytes - ends, ends);
}

function startsWithMagic(file: string, offsetBytes: number): boolean {
  const bytes = readStretch(file, offsetBytes, STORE_MAGIC.length);
  return new TextDecoder("latin1").decode(bytes) === STORE_MAGIC;
}

/** The device of the partition that lies just there. */
function nodeOf(disk: string, place: DiskPlace): string | null {
  const folder = realFolder(`/sys/dev/block/${deviceNumbers(statSync(disk).rdev)}`);
  if (folder === null) return null;
  for (const entry of entriesOf(folder)) {
    const part = path.join(folder, entry);
    const start = numberOf(path.join(part, "start"));
    const size = numberOf(path.join(part, "size"));
    if (numberOf(path.join(part, "partition")) === null || start === null || size === null)
      continue;
    if (start * SECTOR_BYTES !== place.offsetBytes) continue;
    if (size * SECTOR_BYTES !== place.sizeBytes) continue;
    const name = deviceName(part);
    const rdev = name === null ? undefined : statSync(name, { throwIfNoEntry: false })?.rdev;
    const same = rdev !== undefined && deviceNumbers(rdev) === wordOf(path.join(part, "dev"));
    return same ? name : null;
  }
  return null;
}

/** `/dev/sda1` of /sys's folder of a block device. */
function deviceName(folder: string): string | null {
  const name = /^DEVNAME=(.+)$/m.exec(wordOf(path.join(folder, "uevent")) ?? "")?.[1];
  return name === undefined ? null : `/dev/${name}`;
}

function realFolder(folder: string): string | null {
  try {
    return realpathSync(folder);
  } catch {
    return null; // no block device, as of a file system in memory
  }
}

function entriesOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // devices come and go
  }
}

function wordOf(file: string): string | null {
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    return null; // devices come and go
  }
}

function numberOf(file: string): number | null {
  const word = wordOf(file);
  return word !== null && /^\d{1,15}$/.test(word) ? Number(word) : null;
}
