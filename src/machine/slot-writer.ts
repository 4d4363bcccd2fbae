// SPDX-License-Identifier: Apache-2.0
//
// Writes an update into the slot that does not run, and arms it: from then on the boot loader takes
// it first, on trial (docs/decisions/0010).
//
// Invariants
// - The running slot's partitions and its unified kernel image (UKI) are never written. A power cut
//   at any moment leaves a machine that starts the running version: the other slot has no UKI until
//   both its partitions are written, read back from the disk, and named; its UKI appears under its
//   own name by one rename, as the last act.
// - The other slot's old UKI goes before its partitions are touched, so that no UKI ever stands for
//   partitions that are not its own.
// - Everything can be done again from any point; nothing that was left half done is used.
// - What is written comes from a payload that was verified when it came; it is held against the
//   manifest again as it is read here, and once more as the disk gives it back.

import { createHash, randomUUID } from "node:crypto";
import { readdirSync, renameSync, rmSync } from "node:fs";
import { open, statfs, type FileHandle } from "node:fs/promises";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { compareVersions } from "#base/release.ts";
import { libc } from "./libc.ts";
import { EMPTY_LABEL, namePartition, slotLabel, slotPairs } from "./slot-disk.ts";
import type { SlotPair, SlotPartition } from "./slot-disk.ts";
import { TRIES_MAX, listSlots, parseUkiName, runningSystem, ukiFileName } from "./slots.ts";
import type { RunningSystem, SlotPlaces } from "./slots.ts";
import { syncFolder } from "./state-directory.ts";

const PIECE_BYTES = 1 << 20;
/** Written and not yet on the disk, bytes. */
const DIRTY_BYTES_MAX = 8 << 20;
/** Left free on the EFI system partition. */
const ESP_RESERVE_BYTES = 1 << 20;
const FRESH = ".new";
// linux/fs.h: writes out and forgets what is cached of a block device, so that reading reads it.
const BLKFLSBUF = 0x1261;
// linux/fs.h: makes a range of a block device read zero, by the device itself where it can.
const BLKZEROOUT = 0x127f;
const POSIX_FADV_DONTNEED = 4;

export interface SlotFile {
  path: string;
  bytes: number;
  /** Hex. */
  sha256: string;
}

export interface SlotPayload {
  version: string;
  uki: SlotFile;
  root: SlotFile & { partitionId: string };
  hash: SlotFile & { partitionId: string };
}

export interface SlotWriterOptions {
  /** The boot disk: slot-disk.ts finds it. */
  disk: string;
  places: SlotPlaces;
  /** Told before each step; what it throws ends the writing there. For progress, and for tests. */
  onStep?: (step: string) => void;
}

/**
 * Writes the other slot: its partitions, and its UKI under a name that the boot loader does not
 * take. Throws a Fault that says why not; the running slot is untouched in any case.
 */
export async function writeSlot(payload: SlotPayload, options: SlotWriterOptions): Promise<void> {
  const { disk, places } = options;
  const step = options.onStep ?? (() => {});
  step("look");
  const system = theRunning(places);
  const { running, other } = await slotPairs(disk, system.rootHash);
  checkPayload(payload, system, { running, other });
  checkTrial(places);
  await checkRoom(payload, places, system);
  removeOtherUkis(places, system, step);
  for (const role of ["hash", "root"] as const) {
    const partition = other[role];
    if (partition.label === EMPTY_LABEL) continue;
    step(`empty ${role}`);
    await namePartition(disk, partition.number, { label: EMPTY_LABEL, id: randomUUID() });
  }
  for (const role of ["root", "hash"] as const) {
    await fill(disk, other[role], payload[role], (at) => step(`write ${role} ${at}`));
    step(`read back ${role}`);
    await readBack(disk, { file: payload[role], offsetBytes: other[role].offsetBytes }, role);
    await readZero(disk, restOf(other[role], payload[role]), role);
  }
  for (const role of ["root", "hash"] as const) {
    step(`name ${role}`);
    const as = { label: slotLabel(payload.version, role), id: payload[role].partitionId };
    await namePartition(disk, other[role].number, as);
  }
  step("read the table back");
  await checkNames(disk, payload, system);
  const fresh = freshUki(places, payload.version);
  await copyUki(payload.uki, fresh, (at) => step(`copy uki ${at}`));
  step("read back uki");
  await readBack(fresh, { file: payload.uki, offsetBytes: 0 }, "uki");
  syncFolder(places.ukiDirectory);
}

/**
 * Arms what `writeSlot` has written: the next start is its first trial. An older version than the
 * running one takes precedence by marking the running one as without tries, which the boot loader
 * puts last and still starts when the trial fails.
 */
export async function armSlot(payload: SlotPayload, options: SlotWriterOptions): Promise<void> {
  const { disk, places } = options;
  const step = options.onStep ?? (() => {});
  step("look again");
  const system = theRunning(places);
  checkTrial(places);
  await checkNames(disk, payload, system);
  const fresh = freshUki(places, payload.version);
  await readBack(fresh, { file: payload.uki, offsetBytes: 0 }, "uki");
  const { version } = payload;
  const isNewer = compareVersions(version, system.version) > 0;
  // Put last for an older version that was never started, it would come after a trial that failed.
  if (isNewer && putFirst(places, system)) step("the running one is good");
  step("place uki");
  const tries = { left: TRIES_MAX, done: 0 };
  renameSync(fresh, path.join(places.ukiDirectory, ukiFileName({ version, tries })));
  syncFolder(places.ukiDirectory);
  if (isNewer) return;
  step("put the running one last");
  const own = listSlots(places).find((slot) => slot.running);
  if (own !== undefined) {
    const last = ukiFileName({ version: system.version, tries: { left: 0, done: 0 } });
    renameSync(path.join(places.ukiDirectory, own.file), path.join(places.ukiDirectory, last));
    syncFolder(places.ukiDirectory);
  }
}

/** Takes back what was armed or written and not started: the running version is the only one. */
export function withdrawSlot(options: Pick<SlotWriterOptions, "places">): void {
  const { places } = options;
  const system = theRunning(places);
  putFirst(places, system);
  removeOtherUkis(places, system, () => {});
}

/** Takes back that the running one was put last; false: it was not. */
function putFirst(places: SlotPlaces, system: RunningSystem): boolean {
  const own = listSlots(places).find((slot) => slot.running);
  if (own?.tries?.left !== 0 || own.tries.done !== 0) return false;
  const good = ukiFileName({ version: system.version, tries: null });
  renameSync(path.join(places.ukiDirectory, own.file), path.join(places.ukiDirectory, good));
  syncFolder(places.ukiDirectory);
  return true;
}

function theRunning(places: SlotPlaces): RunningSystem {
  const system = runningSystem(places);
  if (system === null) throw new Fault("notAppliance", "it was not started from an image of ours");
  return system;
}

function checkPayload(
  payload: SlotPayload,
  system: RunningSystem,
  pairs: { running: SlotPair; other: SlotPair },
): void {
  const { version } = payload;
  if (version === system.version) {
    throw new Fault("notFitting", `version ${version} runs, and is not written over`);
  }
  for (const role of ["root", "hash"] as const) {
    const file = payload[role];
    const { sizeBytes } = pairs.other[role];
    if (file.bytes > sizeBytes) {
      const [needs, has] = [file.bytes, sizeBytes].map((bytes) => Math.ceil(bytes / 2 ** 20));
      throw new Fault(
        "notFitting",
        `the ${role} of version ${version} needs ${needs} MiB, its partition has ${has}`,
      );
    }
    if (file.partitionId === pairs.running[role].id) {
      throw new Fault("notFitting", `version ${version} has the same ${role} as the running one`);
    }
  }
}

/** On trial the other slot is the one to go back to. */
function checkTrial(places: SlotPlaces): void {
  const running = listSlots(places).find((slot) => slot.running);
  if (running?.state === "trial") {
    throw new Fault("notReady", `version ${running.version} is still on trial here`);
  }
}

async function checkRoom(
  payload: SlotPayload,
  places: SlotPlaces,
  system: RunningSystem,
): Promise<void> {
  const { bavail, bsize } = await statfs(places.ukiDirectory);
  const freed = listSlots(places)
    .filter((slot) => slot.version !== system.version)
    .reduce((sum, slot) => sum + slot.bytes, 0);
  if (bavail * bsize + freed < payload.uki.bytes + ESP_RESERVE_BYTES) {
    throw new Fault("noSpace", "the EFI system partition has no room for another kernel image");
  }
}

function removeOtherUkis(
  places: SlotPlaces,
  system: RunningSystem,
  step: (name: string) => void,
): void {
  for (const file of readdirSync(places.ukiDirectory)) {
    const name = parseUkiName(file.endsWith(FRESH) ? file.slice(0, -FRESH.length) : file);
    if (name === null || (name.version === system.version && !file.endsWith(FRESH))) continue;
    step(`remove ${file}`);
    rmSync(path.join(places.ukiDirectory, file));
  }
  syncFolder(places.ukiDirectory);
}

function freshUki(places: SlotPlaces, version: string): string {
  return path.join(places.ukiDirectory, ukiFileName({ version, tries: null }) + FRESH);
}

async function fill(
  disk: string,
  partition: SlotPartition,
  file: SlotFile,
  step: (at: number) => void,
): Promise<void> {
  const target = await opened(disk, "r+");
  try {
    await pour(file, target, { offsetBytes: partition.offsetBytes, step });
    // The hash tree covers the whole partition, and of that a file has only what is not zero.
    await makeZero(target, restOf(partition, file));
    await target.sync();
  } finally {
    await target.close();
  }
}

async function copyUki(file: SlotFile, to: string, step: (at: number) => void): Promise<void> {
  const target = await opened(to, "w");
  try {
    await pour(file, target, { offsetBytes: 0, step });
  } finally {
    await target.close();
  }
}

/**
 * A file's bytes to their place, durable; a file that is not the one of the manifest is refused.
 */
async function pour(
  file: SlotFile,
  target: FileHandle,
  to: { offsetBytes: number; step: (at: number) => void },
): Promise<void> {
  const source = await opened(file.path, "r");
  const hash = createHash("sha256");
  try {
    const buffer = new Uint8Array(PIECE_BYTES);
    let dirtyBytes = 0;
    for (let at = 0; at < file.bytes;) {
      if (at % DIRTY_BYTES_MAX === 0) to.step(at);
      const length = Math.min(PIECE_BYTES, file.bytes - at);
      const { bytesRead } = await source.read(buffer, 0, length, at);
      if (bytesRead === 0) throw altered(file);
      hash.update(buffer.subarray(0, bytesRead));
      await writeAll(target, buffer.subarray(0, bytesRead), to.offsetBytes + at);
      at += bytesRead;
      dirtyBytes += bytesRead;
      if (dirtyBytes < DIRTY_BYTES_MAX) continue;
      await target.datasync();
      dirtyBytes = 0;
    }
    await target.sync();
  } finally {
    await source.close();
  }
  if (hash.digest("hex") !== file.sha256) throw altered(file);
}

async function writeAll(target: FileHandle, bytes: Uint8Array, offsetBytes: number): Promise<void> {
  let at = 0;
  while (at < bytes.length) {
    const { bytesWritten } = await target.write(bytes, at, bytes.length - at, offsetBytes + at);
    if (bytesWritten === 0) throw new Fault("diskFailed", "the boot disk takes no more bytes");
    at += bytesWritten;
  }
}

/** Holds what the disk gives back against the manifest. */
async function readBack(
  from: string,
  what: { file: SlotFile; offsetBytes: number },
  name: string,
): Promise<void> {
  const source = await opened(from, "r");
  const hash = createHash("sha256");
  const { bytes, sha256 } = what.file;
  try {
    forgetCached(source.fd);
    const buffer = new Uint8Array(PIECE_BYTES);
    for (let at = 0; at < bytes;) {
      const length = Math.min(PIECE_BYTES, bytes - at);
      const { bytesRead } = await source.read(buffer, 0, length, what.offsetBytes + at);
      if (bytesRead === 0) break;
      hash.update(buffer.subarray(0, bytesRead));
      at += bytesRead;
    }
  } finally {
    await source.close();
  }
  if (hash.digest("hex") !== sha256) {
    throw new Fault("diskFailed", `the ${name} does not come back from the disk as it was written`);
  }
}

interface Range {
  offsetBytes: number;
  lengthBytes: number;
}

/** What of a partition lies behind its file. */
function restOf(partition: SlotPartition, file: SlotFile): Range {
  return {
    offsetBytes: partition.offsetBytes + file.bytes,
    lengthBytes: partition.sizeBytes - file.bytes,
  };
}

async function makeZero(target: FileHandle, range: Range): Promise<void> {
  const { offsetBytes, lengthBytes } = range;
  const zeros = new Uint8Array(PIECE_BYTES);
  // Up to a whole piece by hand, since the device takes whole sectors only.
  const head = Math.min(lengthBytes, (PIECE_BYTES - (offsetBytes % PIECE_BYTES)) % PIECE_BYTES);
  await writeAll(target, zeros.subarray(0, head), offsetBytes);
  const [start, length] = [offsetBytes + head, lengthBytes - head];
  if (length === 0) return;
  await target.sync();
  const place = new BigUint64Array(512); // large enough not to be moved while the call lasts
  place.set([BigInt(start), BigInt(length)]);
  if (libc.ioctl(target.fd, BLKZEROOUT, place) === 0) return;
  for (let at = 0; at < length; at += PIECE_BYTES) {
    const piece = zeros.subarray(0, Math.min(PIECE_BYTES, length - at));
    await writeAll(target, piece, start + at);
    if ((at + PIECE_BYTES) % DIRTY_BYTES_MAX === 0) await target.datasync();
  }
}

async function readZero(from: string, range: Range, name: string): Promise<void> {
  const source = await opened(from, "r");
  const zeros = Buffer.alloc(PIECE_BYTES);
  const buffer = Buffer.alloc(PIECE_BYTES);
  try {
    for (let at = 0; at < range.lengthBytes;) {
      const length = Math.min(PIECE_BYTES, range.lengthBytes - at);
      const { bytesRead } = await source.read(buffer, 0, length, range.offsetBytes + at);
      if (bytesRead === 0 || !buffer.subarray(0, bytesRead).equals(zeros.subarray(0, bytesRead))) {
        throw new Fault("diskFailed", `the rest of the ${name} partition does not read zero`);
      }
      at += bytesRead;
    }
  } finally {
    await source.close();
  }
}

/** Best effort: where it does not work, the cache is read. */
function forgetCached(fd: number): void {
  libc.ioctl(fd, BLKFLSBUF, null);
  libc.posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

async function checkNames(
  disk: string,
  payload: SlotPayload,
  system: RunningSystem,
): Promise<void> {
  const { other } = await slotPairs(disk, system.rootHash);
  for (const role of ["root", "hash"] as const) {
    const right =
      other[role].id === payload[role].partitionId &&
      other[role].label === slotLabel(payload.version, role);
    if (!right) {
      throw new Fault(
        "diskFailed",
        `the ${role} partition of version ${payload.version} is not so`,
      );
    }
  }
}

async function opened(file: string, flags: "r" | "r+" | "w"): Promise<FileHandle> {
  try {
    return await open(file, flags);
  } catch (cause) {
    const code = String((cause as { code?: unknown }).code);
    throw new Fault("badMachine", `${file} cannot be opened (${code})`, { cause });
  }
}

function altered(file: SlotFile): Fault {
  return new Fault("notTrusted", `${path.basename(file.path)} is not the file that was signed`);
}
