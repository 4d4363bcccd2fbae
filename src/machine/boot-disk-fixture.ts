// SPDX-License-Identifier: Apache-2.0
//
// A made-up appliance for tests: a disk image with the GPT of a booted box, its running root on it,
// a folder in place of the EFI system partition, and payloads to install.

import { createHash } from "node:crypto";
import { closeSync, mkdirSync, openSync, readFileSync, readdirSync, readSync } from "node:fs";
import { truncateSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";
import { runProgram } from "./program.ts";
import { EMPTY_LABEL, HASH_TYPE, ROOT_TYPE, slotPairs } from "./slot-disk.ts";
import type { SlotPayload } from "./slot-writer.ts";
import { partitionIdsOf, type SlotPlaces } from "./slots.ts";

const MIB = 1 << 20;
const ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
const VAR_TYPE = "4D21B016-B534-45C2-A9FB-5C16E091FD2D";

export const ROOT_HASH = "11111111111111111111111111111111aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const NEXT_HASH = "22222222222222222222222222222222bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const LATER_HASH = "33333333333333333333333333333333cccccccccccccccccccccccccccccccc";

export interface BootDisk {
  disk: string;
  places: SlotPlaces;
  /** The running version is 0.2.0. */
  payload(version: string): SlotPayload;
  /** What a start from this disk would find, for comparing. */
  running(): Promise<{ root: string; hash: string; uki: string; labels: string[] }>;
  ukis(): string[];
}

/** Bytes that differ for every name, and in every page. */
function bytesOf(seed: string, length: number): Uint8Array {
  const bytes = Buffer.alloc(length, createHash("sha256").update(seed).digest());
  for (let at = 0; at + 4 <= length; at += 4096) bytes.writeUInt32LE(at, at);
  return bytes;
}

export async function makeBootDisk(folder: string): Promise<BootDisk> {
  const disk = path.join(folder, "boot.raw");
  writeFileSync(disk, "");
  truncateSync(disk, 64 * MIB);
  const ids = partitionIdsOf(ROOT_HASH);
  const script = [
    "label: gpt",
    `size=4MiB, type=${ESP_TYPE}, name=esp`,
    `size=10MiB, type=${ROOT_TYPE}, uuid=${ids.root}, name=cairn_0.2.0_root`,
    `size=2MiB, type=${HASH_TYPE}, uuid=${ids.hash}, name=cairn_0.2.0_hash`,
    `size=10MiB, type=${ROOT_TYPE}, name=${EMPTY_LABEL}`,
    `size=2MiB, type=${HASH_TYPE}, name=${EMPTY_LABEL}`,
    `type=${VAR_TYPE}, name=cairn-state`,
    "",
  ].join("\n");
  await runProgram("sfdisk", ["--quiet", disk], { input: script });
  const { running, other } = await slotPairs(disk, ROOT_HASH);
  // What an earlier life of the disk left behind.
  writeAt(disk, other.root.offsetBytes, new Uint8Array(other.root.sizeBytes).fill(0xee));
  writeAt(disk, other.hash.offsetBytes, new Uint8Array(other.hash.sizeBytes).fill(0xee));
  writeAt(disk, running.root.offsetBytes, bytesOf("0.2.0 root", 9 * MIB));
  writeAt(disk, running.hash.offsetBytes, bytesOf("0.2.0 hash", MIB));
  const places = makePlaces(folder);
  const made = new Map<string, SlotPayload>();
  return {
    disk,
    places,
    payload: (version) => {
      const payload = made.get(version) ?? makePayload(folder, version);
      made.set(version, payload);
      return payload;
    },
    running: () => lookAtRunning(disk, places),
    ukis: () => readdirSync(places.ukiDirectory).sort(),
  };
}

function makePlaces(folder: string): SlotPlaces {
  const places = {
    ukiDirectory: path.join(folder, "efi"),
    commandLineFile: path.join(folder, "cmdline"),
    versionFile: path.join(folder, "version"),
    bootIdFile: path.join(folder, "boot_id"),
  };
  mkdirSync(places.ukiDirectory);
  writeFileSync(path.join(places.ukiDirectory, "cairn_0.2.0.efi"), bytesOf("0.2.0 uki", MIB));
  writeFileSync(places.commandLineFile, `roothash=${ROOT_HASH}\n`);
  writeFileSync(places.versionFile, "0.2.0\n");
  writeFileSync(places.bootIdFile, "8f3c6e2e-9e55-4ec6-a2b4-5b8f3a0f5a11\n");
  return places;
}

function makePayload(folder: string, version: string): SlotPayload {
  const ids = partitionIdsOf(version === "0.3.0" ? NEXT_HASH : LATER_HASH);
  const file = (role: string, length: number) => {
    const bytes = bytesOf(`${version} ${role}`, length);
    const name = path.join(folder, `cairn_${version}.${role}`);
    writeFileSync(name, bytes);
    return { path: name, bytes: length, sha256: sha256(bytes) };
  };
  return {
    version,
    uki: file("efi", MIB + 77),
    root: { ...file("root.raw", 7 * MIB + 4096), partitionId: ids.root },
    hash: { ...file("hash.raw", MIB - 512), partitionId: ids.hash },
  };
}

async function lookAtRunning(disk: string, places: SlotPlaces) {
  const { running } = await slotPairs(disk, ROOT_HASH);
  const uki = readdirSync(places.ukiDirectory).find((name) => /^cairn_0\.2\.0.*\.efi$/.test(name));
  return {
    root: sha256(readAt(disk, running.root.offsetBytes, running.root.sizeBytes)),
    hash: sha256(readAt(disk, running.hash.offsetBytes, running.hash.sizeBytes)),
    uki: uki === undefined ? "" : sha256(readFileSync(path.join(places.ukiDirectory, uki))),
    labels: [running.root.label, running.hash.label],
  };
}

export function readAt(file: string, offsetBytes: number, lengthBytes: number): Uint8Array {
  const fd = openSync(file, "r");
  const bytes = new Uint8Array(lengthBytes);
  readSync(fd, bytes, 0, lengthBytes, offsetBytes);
  closeSync(fd);
  return bytes;
}

function writeAt(file: string, offsetBytes: number, bytes: Uint8Array): void {
  const fd = openSync(file, "r+");
  writeSync(fd, bytes, 0, bytes.length, offsetBytes);
  closeSync(fd);
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
