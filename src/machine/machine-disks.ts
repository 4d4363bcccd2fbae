// SPDX-License-Identifier: Apache-2.0
//
// Which of the machine's disks a unit may consider by itself, as on an appliance, and which not and
// why. Considering is not touching: what lies on a disk is looked at by disk-tools.ts, the spare
// space of the disk that the machine runs from by spare-partition.ts.
//
// Invariants:
// - A disk that is there by two paths is considered once; the other path is told.
// - Memory sticks and cards, and what cannot be written, are never taken by themselves.

import { readFileSync, readdirSync, realpathSync } from "node:fs";
import path from "node:path";
import { listDisks } from "./disk-tools.ts";
import type { FoundDisk } from "./disk-tools.ts";
import { attachmentOf } from "./keepsake-memory.ts";
import { disksUnder } from "./spare-partition.ts";

export interface DiskCandidate {
  path: string;
  sizeBytes: number;
  /** Which time it was attached: another number is another disk, or the same put in again. */
  attachment: string;
  /** spare: the machine runs from it, so only a partition of ours on it counts. */
  part: "whole" | "spare";
  /** Why it is left alone whatever is on it; null: it may be looked at. */
  refusal: string | null;
}

export interface DiskSearch {
  /** Folders of the file systems that the machine runs from. */
  bootFolders: readonly string[];
  /**
   * Null: all disks of the machine, but no loop devices. Else only those that a link in this
   * directory points to, also loop devices; for trials.
   */
  linksIn: string | null;
}

/** Changes whenever a disk comes or goes. Cheap enough to be asked every other second. */
export function disksMark(search: DiskSearch): string {
  const names = search.linksIn === null ? entriesOf("/sys/class/block") : linked(search.linksIn);
  return names
    .map(
      (name) =>
        `${path.basename(name)}=${wordOf(`/sys/class/block/${path.basename(name)}/diskseq`)}`,
    )
    .sort()
    .join(" ");
}

export async function findCandidates(search: DiskSearch): Promise<DiskCandidate[]> {
  const { linksIn } = search;
  const wanted = linksIn === null ? null : new Set(linked(linksIn));
  const listed = (await listDisks()).filter((disk) =>
    wanted === null ? disk.kind === "disk" : wanted.has(disk.path),
  );
  const boot = disksUnder(search.bootFolders);
  const known = new Map<string, string>();
  return listed.map((disk) => {
    const isBoot = boot.includes(disk.path);
    const first = disk.wwn === null ? undefined : known.get(disk.wwn);
    if (disk.wwn !== null && first === undefined) known.set(disk.wwn, disk.path);
    return {
      path: disk.path,
      sizeBytes: disk.sizeBytes,
      attachment: attachmentOr0(disk.path),
      part: isBoot ? "spare" : "whole",
      refusal: first === undefined ? refusalOf(disk) : `it is the same disk as ${first}`,
    };
  });
}

function attachmentOr0(device: string): string {
  try {
    return attachmentOf(device);
  } catch {
    return "0"; // just taken out: the next look no longer lists it
  }
}

function refusalOf(disk: FoundDisk): string | null {
  if (disk.removable) return "it is removable; name it in the configuration to have it used";
  if (disk.readOnly) return "it is read-only";
  // Areas for a boot loader on eMMC, disks in memory.
  if (/^\/dev\/(mmcblk\d+boot\d|ram\d)/.test(disk.path)) return "it is no disk for storage";
  return null;
}

/** Devices that the links of a directory point to, each once. */
function linked(directory: string): string[] {
  const found = new Set<string>();
  for (const name of entriesOf(directory)) {
    try {
      found.add(realpathSync(path.join(directory, name)));
    } catch {
      continue; // points nowhere (any more)
    }
  }
  return [...found].sort();
}

function entriesOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // a directory that is not there lists nothing
  }
}

function wordOf(file: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    return ""; // a partition has none of its own, nor a device that is just leaving
  }
}
