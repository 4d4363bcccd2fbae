// SPDX-License-Identifier: Apache-2.0
//
// Emptying disks that are Cairn's: afterwards they are blank, and claimed like new ones.
// Superblocks and GPT go; the rest of the bytes stays where it was, which is no secure erasure.
//
// Invariants
// - Only a disk with a GPT partition of our type is touched, or one that an earlier attempt began
//   with: it carries the mark of disk-wipe.wire.ts.
// - The mark is the first that is written and the last that goes, a single sector each time. A
//   power cut in between leaves a disk that the next attempt knows, whatever is left of its GPT.
// - A disk that is shared (the boot disk: other GPT partitions beside ours) keeps its GPT; only
//   what lies in our partition is emptied, which may be done again and again.

import { closeSync, constants, fsyncSync, openSync, readSync, statSync, writeSync } from "node:fs";
import { Fault } from "#base/fault.ts";
import { diskBytes, findOurs } from "./disk-tools.ts";
import { FIRST_SECTOR, WIPE_MARK_MAGIC } from "./disk-wipe.wire.ts";
import { runForJson } from "./program.ts";

const MIB = 1 << 20;
/** At both ends: GPT, alignment, superblocks and the beginning of the metadata log. */
const CLEARED_BYTES = 16 * MIB;
/** What a single write to the first sector may take along, on disks with sectors of 4 KiB. */
const FIRST_BYTES = 4096;

/** `notOurs`: it was left as it was. */
export type WipeOutcome = "emptied" | "notOurs";

/** Told before each step; what it throws ends the work there, as a power cut would. For tests. */
export type OnStep = (step: string) => void;

/** Throws Fault diskFailed or diskRefused; what was done by then is done. */
export async function wipeDisk(
  file: string,
  onStep: OnStep = () => undefined,
): Promise<WipeOutcome> {
  const begun = hasMark(file);
  const ours = await findOurs(file).catch((error: unknown) => {
    if (begun) return null; // half of a GPT may read like anything
    throw error;
  });
  if (!begun && ours === null) return "notOurs";
  const sizeBytes = diskBytes(file);
  if (!begun && (await partitionCount(file)) > 1) {
    if (ours !== null) withDisk(file, "shared", (fd) => clearEnds(fd, ours, onStep));
    return "emptied";
  }
  withDisk(file, "alone", (fd) => {
    onStep("mark");
    writeMark(fd);
    if (ours !== null) clearEnds(fd, ours, onStep);
    clear(fd, Math.max(FIRST_BYTES, sizeBytes - CLEARED_BYTES), sizeBytes, onStep);
    clear(fd, FIRST_BYTES, Math.min(CLEARED_BYTES, sizeBytes), onStep);
    clear(fd, 0, FIRST_BYTES, onStep);
  });
  return "emptied";
}

function hasMark(file: string): boolean {
  return withDisk(file, "looks", (fd) => {
    const sector = new Uint8Array(FIRST_SECTOR.size);
    if (readSync(fd, sector, 0, sector.length, 0) < sector.length) return false;
    const { wipeMark } = FIRST_SECTOR.view().at(sector, 0);
    return Buffer.compare(wipeMark, WIPE_MARK_MAGIC) === 0;
  });
}

function writeMark(fd: number): void {
  const sector = new Uint8Array(FIRST_SECTOR.size);
  readSync(fd, sector, 0, sector.length, 0);
  FIRST_SECTOR.view().at(sector, 0).wipeMark = WIPE_MARK_MAGIC;
  writeAll(fd, sector, 0);
  fsyncSync(fd);
}

interface Area {
  offsetBytes: number;
  sizeBytes: number;
}

function clearEnds(fd: number, { offsetBytes, sizeBytes }: Area, onStep: OnStep): void {
  const end = offsetBytes + sizeBytes;
  clear(fd, offsetBytes, Math.min(offsetBytes + CLEARED_BYTES, end), onStep);
  clear(fd, Math.max(offsetBytes, end - CLEARED_BYTES), end, onStep);
}

/** Zeroes, durable when it returns. */
function clear(fd: number, start: number, end: number, onStep: OnStep): void {
  const zeroes = new Uint8Array(MIB);
  for (let at = start; at < end; at += MIB) {
    onStep(`clear ${at}`);
    writeAll(fd, zeroes.subarray(0, Math.min(MIB, end - at)), at);
  }
  fsyncSync(fd);
}

function writeAll(fd: number, bytes: Uint8Array, offsetBytes: number): void {
  let at = 0;
  while (at < bytes.length) {
    at += writeSync(fd, bytes, at, bytes.length - at, offsetBytes + at);
  }
}

async function partitionCount(file: string): Promise<number> {
  const answer = (await runForJson("sfdisk", ["--json", file], {
    debianPackage: "fdisk",
  })) as { partitiontable?: { partitions?: unknown[] } } | null;
  return answer?.partitiontable?.partitions?.length ?? 0;
}

/** `alone`: refused while it, or a partition of it, is mounted or held. */
function withDisk<T>(file: string, how: "looks" | "shared" | "alone", act: (fd: number) => T): T {
  const access = how === "looks" ? constants.O_RDONLY : constants.O_RDWR;
  let fd = -1;
  try {
    const isDevice = statSync(file).isBlockDevice();
    fd = openSync(file, access | (how === "alone" && isDevice ? constants.O_EXCL : 0));
    return act(fd);
  } catch (cause) {
    const { code } = cause as { code?: unknown };
    if (typeof code !== "string") throw cause; // not the system's refusal
    if (code === "EBUSY") throw new Fault("diskRefused", `${file} is in use`, { cause });
    throw new Fault("diskFailed", `${file} cannot be emptied (${code})`, { cause });
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}
