// SPDX-License-Identifier: Apache-2.0
//
// The superblock: who a disk is and where everything on it lies (format.wire.ts, SUPERBLOCK). Two
// copies, in the first and the last 4 KiB; either is enough, and opening heals the other.

import type { DiskPlan } from "./disk-plan.ts";
import { invalidPlan } from "./disk-plan.ts";
import { NONCE_BYTES, PAGE_BYTES, PageKind, SUPERBLOCK, UUID_BYTES } from "./format.wire.ts";
import { PageState, examinePage, pageSeed, sealPage } from "./page.ts";
import type { PageIdentity } from "./page.ts";

export interface Superblock {
  readonly cluster: Uint8Array;
  readonly disk: Uint8Array;
  readonly nonce: Uint8Array;
  readonly plan: DiskPlan;
}

const view = SUPERBLOCK.view();
const DISK_AT = 16;

/** What the other pages of the disk are sealed with. */
export function identityOf(superblock: Superblock): PageIdentity {
  const { cluster, disk, nonce } = superblock;
  return { disk, seed: pageSeed(cluster, disk, nonce) };
}

export function encodeSuperblock(
  target: Uint8Array,
  start: number,
  superblock: Superblock,
  copy: 0 | 1,
): void {
  const { plan } = superblock;
  target.fill(0, start, start + PAGE_BYTES);
  view.at(target, start);
  view.cluster = superblock.cluster;
  view.nonce = superblock.nonce;
  view.areaBytes = plan.areaBytes;
  view.extents = plan.extents;
  view.slicesMax = plan.slicesMax;
  view.logOffset = plan.logOffset;
  view.logSlots = plan.logSlots;
  view.copy = copy;
  view.checkpointOffset = plan.checkpointOffset;
  view.checkpointBytes = plan.checkpointBytes;
  view.descriptorOffset = plan.descriptorOffset;
  view.dataOffset = plan.dataOffset;
  const identity = { disk: superblock.disk, seed: 0 };
  sealPage(target, start, PageKind.superblock, SUPERBLOCK.size, identity);
}

/** The superblock at `start`, or why there is none. */
export function decodeSuperblock(source: Uint8Array, start: number): Superblock | string {
  const disk = source.slice(start + DISK_AT, start + DISK_AT + UUID_BYTES);
  const state = examinePage(source, start, PageKind.superblock, { disk, seed: 0 });
  if (state === PageState.blank) return "no superblock";
  if (state === PageState.newer) return "the superblock is of a newer format";
  if (state !== PageState.ok) return "the superblock is damaged";
  view.at(source, start);
  if (!view.reservedIsZero()) return "the superblock has unknown fields";
  const plan: DiskPlan = {
    areaBytes: view.areaBytes,
    extents: view.extents,
    slicesMax: view.slicesMax,
    logOffset: view.logOffset,
    logSlots: view.logSlots,
    checkpointOffset: view.checkpointOffset,
    checkpointBytes: view.checkpointBytes,
    descriptorOffset: view.descriptorOffset,
    dataOffset: view.dataOffset,
  };
  const wrong = invalidPlan(plan);
  if (wrong !== null) return `the superblock does not add up: ${wrong}`;
  const nonce = view.nonce.slice(0, NONCE_BYTES);
  return { cluster: view.cluster.slice(), disk, nonce, plan };
}
