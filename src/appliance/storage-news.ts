// SPDX-License-Identifier: Apache-2.0
//
// What a unit says when its storage changes. At once, over auto-configuration, as a hint: `storage
// changed` has the control station ask anew what is here. And for certain, by a command that is
// asked until it is taken (disk-watch.ts): a disk that is out of use is not counted on any more.

import type { Discovery } from "#cluster/discovery.ts";
import type { DiskRecord } from "#cluster/state.ts";
import { StorageChange } from "#protocol/autoconfig/autoconfig.wire.ts";
import type { StorageChanged } from "#protocol/autoconfig/message-types.ts";
import type { KeptDisk } from "./disk-keeper.ts";
import type { DiskWatch } from "./disk-watch.ts";

/** A disk here came into use, or went out of it: `why`, empty where it came. */
export function tellStorage(
  to: { discovery: Discovery; watch: DiskWatch | null },
  disk: KeptDisk,
  why: string,
): void {
  const { opened, path, isOut } = disk;
  if (opened === null || opened.number === 0) return; // not the cluster's (yet)
  const { uuid, number, sizeBytes, incarnation } = opened;
  const isLost = disk.state === "failed";
  to.discovery.storageChanged({
    change: !isLost ? StorageChange.added : isOut ? StorageChange.removed : StorageChange.failing,
    diskId: Uint8Array.fromHex(uuid),
    diskNumber: number,
    sizeBytes,
    path,
    reason: why,
  });
  if (isLost) to.watch?.lost({ disk: number, incarnation, isOut, reason: why.slice(0, 256) });
  else to.watch?.back(number);
}

/** The record of a disk here changed: retired, or returned to use. */
export function tellRetired(discovery: Discovery, disk: DiskRecord): void {
  const { uuid, number, sizeBytes, path, why } = disk;
  discovery.storageChanged({
    change: why === undefined ? StorageChange.added : StorageChange.failing,
    diskId: Uint8Array.fromHex(uuid),
    diskNumber: number,
    sizeBytes,
    path,
    reason: why ?? "it is used again",
  });
}

const CHANGE_WORDS: Record<StorageChange, string> = {
  [StorageChange.added]: "came",
  [StorageChange.removed]: "went",
  [StorageChange.failing]: "fails",
};

/** For the control station's log. */
export function storageFacts(unitId: string, changed: StorageChanged): Record<string, unknown> {
  const { change, diskNumber, path, reason } = changed;
  return { unitId, disk: diskNumber, change: CHANGE_WORDS[change], path, reason };
}
