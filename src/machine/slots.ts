// SPDX-License-Identifier: Apache-2.0
//
// The two slots of a booted appliance as the boot loader sees them: unified kernel images named
// `cairn_VERSION.efi`, with `+LEFT-DONE` behind the version while a slot is on trial (Automatic
// Boot Assessment, systemd.io: tries left, tries done; none left is bad). Reads only; what writes a
// slot is slot-writer.ts.
//
// Which slot runs follows from the kernel's command line: `roothash=` names the running root, and
// its two halves are the ids of the two GPT partitions it lies on (Discoverable Partitions
// Specification). Where the command line has no `roothash=` this machine is no appliance.

import { readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { compareVersions, isVersion } from "#base/release.ts";

/** Tries that the boot loader gives a slot on trial. */
export const TRIES_MAX = 3;
/** Nothing else in the boot loader's folder is ours. */
const UKI_NAME = /^cairn_(\d{1,6}\.\d{1,6}\.\d{1,6})(?:\+(\d{1,2})(?:-(\d{1,2}))?)?\.efi$/;
const SMALL_FILE_BYTES_MAX = 64 << 10;

/** Where things lie on an appliance; other folders in tests. */
export interface SlotPlaces {
  /** The boot loader's folder of unified kernel images. */
  ukiDirectory: string;
  commandLineFile: string;
  /** One line: the version of the running image. */
  versionFile: string;
  bootIdFile: string;
}

export const SLOT_PLACES: SlotPlaces = {
  ukiDirectory: "/efi/EFI/Linux",
  commandLineFile: "/proc/cmdline",
  versionFile: "/usr/share/cairn/version",
  bootIdFile: "/proc/sys/kernel/random/boot_id",
};

export interface UkiName {
  version: string;
  /** Null once the slot is good: blessed, or never counted. */
  tries: { left: number; done: number } | null;
}

export interface Slot extends UkiName {
  file: string;
  bytes: number;
  /** `bad`: no try is left; the boot loader takes it last. */
  state: "good" | "trial" | "bad";
  running: boolean;
}

/** What the running system says of itself; null where it is no appliance. */
export interface RunningSystem {
  version: string;
  /** SHA-256 of the running root's verity tree, 64 hex digits. */
  rootHash: string;
  /** Another one after every boot. */
  bootId: string;
}

export function parseUkiName(file: string): UkiName | null {
  const match = UKI_NAME.exec(file);
  if (match === null) return null;
  const [, version = "", left, done = "0"] = match;
  if (left === undefined) return { version, tries: null };
  return { version, tries: { left: Number(left), done: Number(done) } };
}

export function ukiFileName({ version, tries }: UkiName): string {
  const counters = tries === null ? "" : `+${tries.left}-${tries.done}`;
  return `cairn_${version}${counters}.efi`;
}

/**
 * The ids of the GPT partitions of a root: data by the first half of its hash, verity by the last.
 */
export function partitionIdsOf(rootHash: string): { root: string; hash: string } {
  return { root: asPartitionId(rootHash.slice(0, 32)), hash: asPartitionId(rootHash.slice(-32)) };
}

function asPartitionId(hex: string): string {
  return hex.toLowerCase().replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Null where this machine was not booted from an image of ours. */
export function runningSystem(places: SlotPlaces = SLOT_PLACES): RunningSystem | null {
  const rootHash = /(?:^|\s)roothash=([0-9a-fA-F]{64})(?:\s|$)/.exec(
    readSmall(places.commandLineFile) ?? "",
  )?.[1];
  const version = readSmall(places.versionFile)?.trim() ?? "";
  const bootId = readBootId(places);
  if (rootHash === undefined || !isVersion(version) || bootId === "") return null;
  return { version, rootHash: rootHash.toLowerCase(), bootId };
}

/** 32 hex digits, another one after every boot; empty where the kernel does not say. */
export function readBootId(places: SlotPlaces = SLOT_PLACES): string {
  return readSmall(places.bootIdFile)?.trim().replaceAll("-", "") ?? "";
}

/** The slots with a unified kernel image, newest version first; empty where there is no folder. */
export function listSlots(places: SlotPlaces = SLOT_PLACES): Slot[] {
  const running = runningSystem(places)?.version ?? null;
  const slots: Slot[] = [];
  for (const file of ukiFiles(places)) {
    const name = parseUkiName(file);
    if (name === null) continue;
    const { version, tries } = name;
    const state = tries === null ? "good" : tries.left > 0 ? "trial" : "bad";
    const { size } = statSync(path.join(places.ukiDirectory, file));
    // A trial's last try runs with none left, and is bad only when it has failed; one that was put
    // last for an older version (slot-writer.ts) has none left and none done.
    const isRunning = version === running;
    const shown = !isRunning || state !== "bad" ? state : tries?.done === 0 ? "good" : "trial";
    slots.push({ version, tries, file, bytes: size, state: shown, running: isRunning });
  }
  return slots.sort((one, other) => compareVersions(other.version, one.version));
}

function ukiFiles(places: SlotPlaces): string[] {
  try {
    return readdirSync(places.ukiDirectory);
  } catch (cause) {
    if ((cause as { code?: string }).code === "ENOENT") return [];
    throw new Fault("badMachine", `${places.ukiDirectory} cannot be read`, { cause });
  }
}

function readSmall(file: string): string | null {
  try {
    return readFileSync(file, "utf8").slice(0, SMALL_FILE_BYTES_MAX);
  } catch (cause) {
    const code = (cause as { code?: string }).code;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw new Fault("badMachine", `${file} cannot be read`, { cause });
  }
}
