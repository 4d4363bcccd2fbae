// SPDX-License-Identifier: Apache-2.0
//
// Disks as the control thread sees them: which there are, whether one is blank and if not why,
// claiming a blank one with a GPT and a GPT partition of our type, and finding ours again. A disk
// here is a block device or a plain file, both named by path.
//
// Invariants:
// - Nothing is written to a disk that is not blank unless the owner said so (`evenIfNotBlank`), and
//   never to one that is mounted or held. Blank: no signature by wipefs and by blkid -p, and the
//   first and last MiB zero.
// - A GPT partition is used by its offset in the whole disk, never by a device node of its own:
//   files and loop devices have none.

import {
  closeSync,
  constants,
  fsyncSync,
  openSync,
  readSync,
  readdirSync,
  statSync,
  writeSync,
} from "node:fs";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { patiently } from "./patience.ts";
import { runForJson, runProgram } from "./program.ts";

/** The type of our GPT partitions. Never changes: disks carry it. */
export const PARTITION_TYPE = "CA12DA7A-5D15-4C1E-B10C-CA12C0FFEE01";
/** Below this a disk is not worth claiming: superblock and metadata log want their place. */
export const DISK_BYTES_MIN = 32 << 20;
const MIB = 1 << 20;
/** Cleared at both ends of a disk before its GPT appears, so that nobody finds an older store. */
export const CLEARED_BYTES = 8 * MIB;
const LABEL_TIMEOUT_MS = 30_000;

export interface FoundDisk {
  path: string;
  kind: "disk" | "loop" | "file";
  sizeBytes: number;
  model: string | null;
  serial: string | null;
  /** As the bus says: nvme, sata, virtio ... */
  transport: string | null;
  rotational: boolean;
  removable: boolean;
  readOnly: boolean;
  /** Names the disk itself, whatever path leads to it; many have none. */
  wwn: string | null;
}

/** Where our GPT partition lies. */
export interface DiskPlace {
  path: string;
  offsetBytes: number;
  sizeBytes: number;
  /** The GPT partition's own id, lower case. */
  partitionId: string;
}

export interface DiskExamination {
  path: string;
  sizeBytes: number;
  /** ours: has our GPT partition. refused: left alone, `reasons` say why. */
  state: "blank" | "ours" | "refused";
  reasons: string[];
  ours: DiskPlace | null;
}

interface LsblkDevice {
  path: string;
  type: string;
  size: number;
  model: string | null;
  serial: string | null;
  tran: string | null;
  rota: boolean;
  rm: boolean;
  ro: boolean;
  wwn: string | null;
}

/**
 * The machine's disks; loop devices that are set up too. Not the ones nobody can use (size 0, ROM).
 */
export async function listDisks(): Promise<FoundDisk[]> {
  const columns = "PATH,TYPE,SIZE,MODEL,SERIAL,TRAN,ROTA,RM,RO,WWN";
  const args = ["--json", "--bytes", "--nodeps", "--output", columns];
  const answer = (await runForJson("lsblk", args, { debianPackage: "util-linux" })) as {
    blockdevices?: LsblkDevice[];
  } | null;
  const found: FoundDisk[] = [];
  for (const device of answer?.blockdevices ?? []) {
    const kind = device.type === "disk" ? "disk" : device.type === "loop" ? "loop" : null;
    if (kind === null || device.size === 0 || device.path.startsWith("/dev/zram")) continue;
    found.push({
      path: device.path,
      kind,
      sizeBytes: device.size,
      model: device.model?.trim() ?? null,
      serial: device.serial?.trim() ?? null,
      transport: device.tran,
      rotational: device.rota,
      removable: device.rm,
      readOnly: device.ro,
      wwn: device.wwn,
    });
  }
  return found;
}

/** Looks and touches nothing. Throws Fault notFound or diskFailed when it cannot even be read. */
export async function examineDisk(file: string): Promise<DiskExamination> {
  const { isDevice, sizeBytes } = measure(file);
  const reasons: string[] = [];
  const signatures = await findSignatures(file);
  const ours = signatures.includes("gpt") ? await findOurs(file) : null;
  const held = isDevice ? whoHolds(file) : null;
  if (held !== null) reasons.push(held);
  if (ours !== null) {
    const state = held === null ? "ours" : "refused";
    return { path: file, sizeBytes, state, reasons, ours };
  }
  if (sizeBytes < DISK_BYTES_MIN) {
    const least = DISK_BYTES_MIN / MIB;
    reasons.push(`it is too small (${Math.floor(sizeBytes / MIB)} MiB; at least ${least} MiB)`);
  }
  for (const signature of signatures) reasons.push(`it holds ${signatureWords(signature)}`);
  if (signatures.length === 0) {
    if (!isZero(file, 0, Math.min(MIB, sizeBytes))) {
      reasons.push("its first MiB is not empty");
    } else if (!isZero(file, Math.max(0, sizeBytes - MIB), Math.min(MIB, sizeBytes))) {
      reasons.push("its last MiB is not empty");
    }
  }
  const state = reasons.length === 0 ? "blank" : "refused";
  return { path: file, sizeBytes, state, reasons, ours: null };
}

/**
 * Makes a disk ours: a GPT with one partition of our type over all of it. A disk that is ours
 * already is answered as it is. Throws Fault diskRefused with the reasons.
 */
export async function claimDisk(
  file: string,
  options: { evenIfNotBlank: boolean; name: string },
): Promise<DiskPlace> {
  const examination = await examineDisk(file);
  const { isDevice, sizeBytes } = measure(file);
  const held = isDevice ? whoHolds(file) : null;
  if (examination.ours !== null && held === null) return examination.ours;
  const mayOverride = options.evenIfNotBlank && held === null && sizeBytes >= DISK_BYTES_MIN;
  if (examination.state !== "blank" && !mayOverride) {
    throw new Fault("diskRefused", `${file}: ${examination.reasons.join("; ")}`);
  }
  if (examination.state !== "blank") {
    await runProgram("wipefs", ["--all", "--force", file], { debianPackage: "util-linux" });
  }
  // Cleared before the GPT stands, so that a crash in between leaves a blank disk.
  clear(file, 0, Math.min(CLEARED_BYTES, sizeBytes));
  clear(file, Math.max(0, sizeBytes - CLEARED_BYTES), Math.min(CLEARED_BYTES, sizeBytes));
  const script = `label: gpt\nname="${gptName(options.name)}", type=${PARTITION_TYPE}\n`;
  await runProgram("sfdisk", ["--quiet", "--wipe", "always", "--wipe-partitions", "always", file], {
    input: script,
    timeoutMs: LABEL_TIMEOUT_MS,
    debianPackage: "fdisk",
  });
  const ours = await findOurs(file);
  if (ours === null) throw new Fault("diskFailed", `${file}: the GPT just written is not there`);
  return ours;
}

/** Why even its owner's word does not make a disk ours; null: it does. */
export function whyNotErased(file: string): string | null {
  const { isDevice, sizeBytes } = measure(file);
  if (sizeBytes < DISK_BYTES_MIN) return `it is too small (at least ${DISK_BYTES_MIN / MIB} MiB)`;
  return isDevice ? whoHolds(file) : null;
}

/** Our GPT partition on a disk, or null. Throws Fault diskRefused when there are several. */
export async function findOurs(file: string): Promise<DiskPlace | null> {
  const answer = (await runForJson("sfdisk", ["--json", file], {
    statuses: [1], // no partition table: prints nothing
    debianPackage: "fdisk",
  })) as { partitiontable?: PartitionTable } | null;
  const table = answer?.partitiontable;
  if (table === undefined || table.label !== "gpt") return null;
  const ours = (table.partitions ?? []).filter(
    (partition) => partition.type.toUpperCase() === PARTITION_TYPE,
  );
  const found = ours[0];
  if (found === undefined) return null;
  if (ours.length > 1) {
    const count = ours.length;
    throw new Fault("diskRefused", `${file} has ${count} partitions of ours; one is expected`);
  }
  const sectorBytes = table.sectorsize;
  const place = {
    path: file,
    offsetBytes: found.start * sectorBytes,
    sizeBytes: found.size * sectorBytes,
    partitionId: found.uuid.toLowerCase(),
  };
  const inside = place.offsetBytes + place.sizeBytes <= measure(file).sizeBytes;
  if (!inside) throw new Fault("diskRefused", `${file} is shorter than its GPT says`);
  return place;
}

interface PartitionTable {
  label: string;
  sectorsize: number;
  partitions?: { node: string; start: number; size: number; type: string; uuid: string }[];
}

/** Of a block device or a plain file. */
export function diskBytes(file: string): number {
  return measure(file).sizeBytes;
}

function measure(file: string): { isDevice: boolean; sizeBytes: number } {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat === undefined) throw new Fault("notFound", `there is no ${file}`);
  if (stat.isFile()) return { isDevice: false, sizeBytes: stat.size };
  if (!stat.isBlockDevice()) {
    throw new Fault("diskRefused", `${file} is neither a file nor a block device`);
  }
  const sectors = readSysNumber(file, "size");
  if (sectors === null) throw new Fault("diskFailed", `${file}: its size is not known`);
  return { isDevice: true, sizeBytes: sectors * 512 }; // sysfs counts in 512 always
}

function readSysNumber(device: string, attribute: string): number | null {
  const fd = tryOpen(path.join(sysFolder(device), attribute), constants.O_RDONLY);
  if (typeof fd === "string") return null;
  const bytes = new Uint8Array(64);
  const length = readSync(fd, bytes, 0, bytes.length, 0);
  closeSync(fd);
  const value = Number(new TextDecoder().decode(bytes.subarray(0, length)).trim());
  return Number.isSafeInteger(value) ? value : null;
}

/** /sys's folder of a block device, found by its numbers, so that links in /dev do not matter. */
function sysFolder(device: string): string {
  return `/sys/dev/block/${deviceNumbers(statSync(device).rdev)}`;
}

/** "8:1" of a device number as stat(2) gives it. */
export function deviceNumbers(device: number): string {
  const major = ((device >> 8) & 0xfff) | (Math.floor(device / 2 ** 32) & ~0xfff);
  const minor = (device & 0xff) | ((device >> 12) & 0xfff00);
  return `${major}:${minor}`;
}

/** The descriptor, or the errno's name. */
function tryOpen(file: string, flags: number): number | string {
  try {
    return openSync(file, flags);
  } catch (cause) {
    return (cause as { code?: string }).code ?? "EIO";
  }
}

/** Who uses a block device, in words; null: nobody. */
export function whoHolds(device: string): string | null {
  // The kernel's own answer: an exclusive opening fails while it or a part of it is in use.
  const attempt = () => tryOpen(device, constants.O_RDONLY | constants.O_EXCL);
  const fd = patiently(attempt, (answer) => answer === "EBUSY");
  if (typeof fd === "number") {
    closeSync(fd);
    return null;
  }
  if (fd !== "EBUSY") throw new Fault("diskFailed", `${device} cannot be opened (${fd})`);
  const holders = readdirSync(path.join(sysFolder(device), "holders"));
  if (holders.length > 0) return `it is part of ${holders.join(", ")}`;
  return "it, or a partition of it, is mounted or in use";
}

async function findSignatures(file: string): Promise<string[]> {
  const wiped = (await runForJson("wipefs", ["--no-act", "--json", file], {
    debianPackage: "util-linux",
  })) as { signatures?: { type: string }[] } | null;
  const found = new Set((wiped?.signatures ?? []).map((signature) => signature.type));
  found.delete("PMBR"); // part of every GPT
  // Status 2: nothing known. 8: contradictory signatures, which is something too.
  const probed = await runProgram("blkid", ["--probe", "--output", "export", file], {
    statuses: [2, 8],
    debianPackage: "util-linux",
  });
  if (probed.status === 8) found.add("ambiguous");
  for (const line of probed.output.split("\n")) {
    const [key, value] = line.split("=");
    if ((key === "TYPE" || key === "PTTYPE") && value !== undefined) found.add(value);
  }
  return [...found];
}

function signatureWords(signature: string): string {
  switch (signature) {
    case "gpt":
      return "a partition table (GPT) that is not ours";
    case "dos":
      return "a partition table (MBR)";
    case "ambiguous":
      return "several contradictory signatures";
    case "LVM2_member":
      return "an LVM physical volume";
    case "linux_raid_member":
      return "a member of a Linux RAID";
    case "crypto_LUKS":
      return "an encrypted volume (LUKS)";
    case "swap":
      return "a swap area";
    default:
      return `a signature of ${signature}`;
  }
}

export function isZero(file: string, offsetBytes: number, lengthBytes: number): boolean {
  return readStretch(file, offsetBytes, lengthBytes).every((byte) => byte === 0);
}

/** Throws Fault diskFailed when it cannot be read whole. */
export function readStretch(file: string, offsetBytes: number, lengthBytes: number): Uint8Array {
  const fd = tryOpen(file, constants.O_RDONLY);
  if (typeof fd === "string") throw new Fault("diskFailed", `${file} cannot be opened (${fd})`);
  try {
    const bytes = Buffer.alloc(lengthBytes, 0xff);
    readExactly(fd, bytes, offsetBytes, file);
    return bytes;
  } finally {
    closeSync(fd);
  }
}

function readExactly(fd: number, bytes: Buffer, offsetBytes: number, file: string): void {
  let at = 0;
  while (at < bytes.length) {
    let got = 0;
    try {
      got = readSync(fd, bytes, at, bytes.length - at, offsetBytes + at);
    } catch (cause) {
      throw new Fault("diskFailed", `${file} cannot be read`, { cause });
    }
    if (got === 0) throw new Fault("diskFailed", `${file} ends early`);
    at += got;
  }
}

/** Zeroes a stretch, durably. */
export function clear(file: string, offsetBytes: number, lengthBytes: number): void {
  const fd = tryOpen(file, constants.O_RDWR);
  if (typeof fd === "string") throw new Fault("diskFailed", `${file} cannot be opened (${fd})`);
  try {
    const zeroes = Buffer.alloc(lengthBytes);
    let at = 0;
    while (at < lengthBytes) at += writeSync(fd, zeroes, at, lengthBytes - at, offsetBytes + at);
    fsyncSync(fd);
  } catch (cause) {
    throw new Fault("diskFailed", `${file} cannot be written`, { cause });
  } finally {
    closeSync(fd);
  }
}

/** A GPT name: 36 UTF-16 units, and nothing that sfdisk's script would read as its own. */
function gptName(name: string): string {
  return name.replace(/[^A-Za-z0-9 ._-]/g, "-").slice(0, 36);
}

/** Disks are root's. A daemon checks more before it starts: machine-check.ts. */
export function requireRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new Fault("badMachine", "a unit must run as root (disks, network addresses)");
}
