// SPDX-License-Identifier: Apache-2.0
//
// The GPT partitions of the two slots on the boot disk: a root and its verity hash each
// (Discoverable Partitions Specification). A filled one is named `cairn_VERSION_root` or
// `cairn_VERSION_hash`, another one `_empty` (systemd-sysupdate's convention). Which pair runs is
// told by the root hash on the kernel's command line alone; names are for people and for the next
// update.
//
// Invariants
// - The running pair is never renamed, and nothing here writes a partition's content.
// - sfdisk writes the backup table too; firmware repairs a torn primary one from it at the next
//   start.

import { Fault } from "#base/fault.ts";
import { runForJson, runProgram } from "./program.ts";
import { partitionIdsOf } from "./slots.ts";

/** Root (x86-64), and its verity data. */
export const ROOT_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
export const HASH_TYPE = "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5";
export const EMPTY_LABEL = "_empty";
const LABEL_TIMEOUT_MS = 30_000;

export interface SlotPartition {
  number: number;
  offsetBytes: number;
  sizeBytes: number;
  /** Lower case. */
  id: string;
  label: string;
}

export interface SlotPair {
  root: SlotPartition;
  hash: SlotPartition;
}

interface Table {
  label: string;
  sectorsize: number;
  partitions?: {
    node: string;
    start: number;
    size: number;
    type: string;
    uuid: string;
    name?: string;
  }[];
}

export function slotLabel(version: string, role: "root" | "hash"): string {
  return `cairn_${version}_${role}`;
}

/** The disk that the running root lies on. */
export async function findBootDisk(rootHash: string): Promise<string> {
  const { root } = partitionIdsOf(rootHash);
  const args = ["--json", "--list", "--output", "PATH,PARTUUID,PKNAME"];
  const answer = (await runForJson("lsblk", args, { debianPackage: "util-linux" })) as {
    blockdevices?: { path: string; partuuid: string | null; pkname: string | null }[];
  } | null;
  const found = answer?.blockdevices?.find((device) => device.partuuid?.toLowerCase() === root);
  if (found === undefined || found.pkname === null) {
    throw new Fault("badMachine", `the partition of the running root (${root}) is not to be found`);
  }
  return `/dev/${found.pkname}`;
}

/** The running pair, and the one that an update may write. */
export async function slotPairs(
  disk: string,
  rootHash: string,
): Promise<{ running: SlotPair; other: SlotPair }> {
  const roots = await partitionsOf(disk, ROOT_TYPE);
  const hashes = await partitionsOf(disk, HASH_TYPE);
  const ids = partitionIdsOf(rootHash);
  const root = split(disk, roots, { id: ids.root, what: "root" });
  const hash = split(disk, hashes, { id: ids.hash, what: "verity hash" });
  return {
    running: { root: root.running, hash: hash.running },
    other: { root: root.other, hash: hash.other },
  };
}

function split(
  disk: string,
  partitions: readonly SlotPartition[],
  running: { id: string; what: string },
): { running: SlotPartition; other: SlotPartition } {
  const own = partitions.filter((one) => one.id === running.id);
  const others = partitions.filter((one) => one.id !== running.id);
  const [mine, other] = [own[0], others[0]];
  if (own.length !== 1 || mine === undefined) {
    throw new Fault("badMachine", `${disk} has ${own.length} partitions of the running root`);
  }
  if (others.length !== 1 || other === undefined) {
    const count = others.length;
    const what = `${count} ${running.what} partitions besides the running one; one is expected`;
    throw new Fault("badMachine", `${disk} has ${what}`);
  }
  return { running: mine, other };
}

async function partitionsOf(disk: string, type: string): Promise<SlotPartition[]> {
  const answer = (await runForJson("sfdisk", ["--json", disk], {
    statuses: [1],
    debianPackage: "fdisk",
  })) as { partitiontable?: Table } | null;
  const table = answer?.partitiontable;
  if (table === undefined || table.label !== "gpt") {
    throw new Fault("badMachine", `${disk} has no GPT`);
  }
  return (table.partitions ?? [])
    .filter((one) => one.type.toUpperCase() === type)
    .map((one) => ({
      number: Number(/(\d+)$/.exec(one.node)?.[1] ?? 0),
      offsetBytes: one.start * table.sectorsize,
      sizeBytes: one.size * table.sectorsize,
      id: one.uuid.toLowerCase(),
      label: one.name ?? "",
    }));
}

/**
 * Gives a partition an id and then a name, on a disk that is in use: the kernel keeps its own
 * table, which the next start reads anew. Durable when it returns.
 */
export async function namePartition(
  disk: string,
  number: number,
  as: { label: string; id: string },
): Promise<void> {
  const options = { timeoutMs: LABEL_TIMEOUT_MS, debianPackage: "fdisk" };
  const quiet = ["--quiet", "--lock=yes", "--no-reread", "--no-tell-kernel"];
  await runProgram("sfdisk", [...quiet, "--part-uuid", disk, String(number), as.id], options);
  await runProgram("sfdisk", [...quiet, "--part-label", disk, String(number), as.label], options);
}
