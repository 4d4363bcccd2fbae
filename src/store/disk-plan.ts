// SPDX-License-Identifier: Apache-2.0
//
// Where everything lies on a disk: computed once when it is formatted, then read from the
// superblock (format.wire.ts). Works for areas from a few MiB (tests) to 64 TiB.

import { EXTENT_BYTES } from "#base/grains.ts";
import {
  CHECKPOINT_BODY,
  DESCRIPTOR_PAIR_BYTES,
  ENTRY_MAP,
  EXTENTS_MAX,
  LOG_SLOT_BYTES,
  LOG_SLOTS_MAX,
  LOG_SLOTS_MIN,
  PAGE_BYTES,
  SLICES_PER_DISK_MAX,
} from "./format.wire.ts";

export interface DiskPlan {
  /** Size of the area the plan was made for, a multiple of 4 KiB. */
  readonly areaBytes: number;
  readonly extents: number;
  readonly slicesMax: number;
  readonly logOffset: number;
  readonly logSlots: number;
  readonly checkpointOffset: number;
  /** Of one slot, header page included. */
  readonly checkpointBytes: number;
  readonly descriptorOffset: number;
  readonly dataOffset: number;
}

export interface PlanOptions {
  /** Ring slots of the metadata log; default by size. */
  logSlots?: number;
  /** Members the disk can hold; default by size. */
  slicesMax?: number;
}

/** Null when the area is too small to hold even one extent, or larger than 64 TiB. */
export function planDisk(sizeBytes: number, options: PlanOptions = {}): DiskPlan | null {
  const areaBytes = Math.floor(sizeBytes / PAGE_BYTES) * PAGE_BYTES;
  const rough = Math.floor(areaBytes / EXTENT_BYTES);
  const logSlots = options.logSlots ?? clamp(Math.floor(rough / 16), 64, 4096);
  const slicesMax = options.slicesMax ?? clamp(Math.floor(rough / 64), 64, 16384);
  for (let extents = Math.min(rough, EXTENTS_MAX); extents > 0;) {
    const plan = layOut(areaBytes, extents, logSlots, slicesMax);
    const over = plan.dataOffset + extents * EXTENT_BYTES + PAGE_BYTES - areaBytes;
    if (over <= 0) return plan;
    extents -= Math.ceil(over / (EXTENT_BYTES + DESCRIPTOR_PAIR_BYTES + 2 * ENTRY_MAP.size));
  }
  return null;
}

function layOut(areaBytes: number, extents: number, logSlots: number, slicesMax: number): DiskPlan {
  // The worst case of a checkpoint: every extent a run of its own, a quarter on top because slices
  // are written one after the other while extents move between them, a page for each slice's rest.
  const mapsPerPage = Math.floor((PAGE_BYTES - CHECKPOINT_BODY.size) / ENTRY_MAP.size);
  const pages = 1 + slicesMax + Math.ceil((extents * 1.25) / mapsPerPage) + 2;
  const logOffset = PAGE_BYTES;
  const checkpointOffset = logOffset + logSlots * LOG_SLOT_BYTES;
  const checkpointBytes = pages * PAGE_BYTES;
  const descriptorOffset = checkpointOffset + 2 * checkpointBytes;
  const dataFrom = descriptorOffset + extents * DESCRIPTOR_PAIR_BYTES;
  return {
    areaBytes,
    extents,
    slicesMax,
    logOffset,
    logSlots,
    checkpointOffset,
    checkpointBytes,
    descriptorOffset,
    dataOffset: Math.ceil(dataFrom / EXTENT_BYTES) * EXTENT_BYTES,
  };
}

/** Why a plan read from a superblock cannot be believed, or null. */
export function invalidPlan(plan: DiskPlan): string | null {
  if (plan.extents < 1 || plan.extents > EXTENTS_MAX) return "number of extents out of range";
  if (plan.logSlots < LOG_SLOTS_MIN || plan.logSlots > LOG_SLOTS_MAX) return "log out of range";
  if (plan.slicesMax < 1 || plan.slicesMax > SLICES_PER_DISK_MAX) return "slices out of range";
  const ends: readonly (readonly [number, number])[] = [
    [plan.logOffset, PAGE_BYTES],
    [plan.checkpointOffset, plan.logOffset + plan.logSlots * LOG_SLOT_BYTES],
    [plan.descriptorOffset, plan.checkpointOffset + 2 * plan.checkpointBytes],
    [plan.dataOffset, plan.descriptorOffset + plan.extents * DESCRIPTOR_PAIR_BYTES],
    [plan.areaBytes, plan.dataOffset + plan.extents * EXTENT_BYTES + PAGE_BYTES],
  ];
  for (const [offset, earliest] of ends) {
    if (!Number.isSafeInteger(offset) || offset % PAGE_BYTES !== 0) return "an offset is off grid";
    if (offset < earliest) return "two parts overlap";
  }
  return null;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
