// SPDX-License-Identifier: Apache-2.0
//
// A volume grows (H11): more slices are placed behind those that it has, and its last one becomes
// larger where it was not a whole one. Nothing ever becomes smaller.
//
// Invariants
// - What was asked for is written down first (`growth`), with the numbers of the slices to come;
//   the station places them in parts. The volume's size, its row of slices and the record of its
//   last slice change in one transaction, once all of them are there: nobody ever sees half of it,
//   whichever station does it and whoever dies in between.
// - What a growing volume may come to hold is counted against its disks before it is promised.
// - Members follow the record that they store (store/metadata.ts), so the last slice grows while it
//   is served; units of before feature level 2 could not, so a cluster that has such grows nothing.
// - Asked again for the same size: done, or under way, already.

import { z } from "zod";
import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { BLOCK_BYTES } from "#base/grains.ts";
import { VOLUME_SLICES_MAX } from "#base/limits.ts";
import { carriedOver, disksOf } from "#base/record.ts";
import type { SliceRecord, VolumeNumber } from "#base/record.ts";
import type { CommandArguments } from "./commands.ts";
import { diskInWords } from "./disk-changes.ts";
import { Draft } from "./draft.ts";
import { SLICES_PER_DRAFT, headOf, putSlices } from "./new-slices.ts";
import { bytesInWords, placeSlices, placeVolume, sliceSizeAt, sliceSizes } from "./placement.ts";
import type { DiskRoom, PlacedSlice, VolumeShape } from "./placement.ts";
import { recordRefusal } from "./record-rules.ts";
import { headedBytes, poolRooms } from "./rooms.ts";
import { keys } from "./state.ts";
import type { VolumeRecord } from "./state.ts";
import type { ClusterView } from "./view.ts";

/** From this feature level on a member becomes as large as the record that it stores. */
export const GROWTH_LEVEL = 2;

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);

/** Arguments of the commands decided here. */
export const growthCommands = {
  /** `sizeBytes`: of the whole volume, then. */
  growVolume: z.object({ volume: positive, sizeBytes: positive }),
} as const;

export interface PlannedGrowth {
  volume: VolumeRecord;
  /** The slices to come, by their places in the volume. */
  placed: PlacedSlice[];
}

/** Where what is added would lie, or the Fault that says why not. Pure: what a dry run shows. */
export function planGrowth(
  view: ClusterView,
  { volume: number, sizeBytes }: CommandArguments<"growVolume">,
): PlannedGrowth {
  const volume = growable(view, number);
  checkSize(volume, sizeBytes);
  for (const slice of volume.slices) {
    if (view.slices.has(slice)) continue;
    throw new Fault("notReady", `volume ${volume.name} waits for a disk, after a restore`);
  }
  const last = lastSlice(view, volume, sizeBytes);
  if (last !== null && !view.diskServes(last.record.head)) {
    const where = diskInWords(view, last.record.head);
    const why = `its last part is not served (${where} is away): it grows once it is`;
    throw new Fault("notReady", `volume ${volume.name} does not grow now: ${why}`);
  }
  const lacking = last === null ? null : lackingDisk(view, last);
  if (lacking !== null) throw new Fault("noSpace", lacking);
  const restBytes = sizeBytes - volume.slices.length * volume.sliceBytes;
  if (restBytes <= 0) return { volume, placed: [] };
  const answer = placeVolume(roomsBeside(view, volume, last), shapeOf(view, volume, restBytes));
  if (!answer.ok) throw new Fault("noSpace", refusalSentence(volume, sizeBytes, answer));
  const placed = answer.slices.map((slice) => {
    return { ...slice, index: volume.slices.length + slice.index };
  });
  return { volume, placed };
}

function growable(view: ClusterView, number: VolumeNumber): VolumeRecord {
  const { cluster } = view;
  if (cluster === null) throw new Fault("notReady", "the control state is not read");
  if (cluster.state === "yielding") {
    throw new Fault("notReady", "this cluster is giving way to another one");
  }
  const volume = view.volumes.get(number);
  if (volume === undefined || volume.state === "deleting") {
    throw new Fault("notFound", `no volume ${number}`);
  }
  if (cluster.featureLevel < GROWTH_LEVEL) {
    const why = `the cluster speaks feature level ${cluster.featureLevel}, volumes grow from`;
    throw new Fault("versionMismatch", `${why} ${GROWTH_LEVEL} on: update all its units first`);
  }
  if (volume.state === "creating") throw new Fault("notReady", "it is being made still");
  if (volume.canary !== undefined) throw new Fault("conflict", "it is a drill's, and goes with it");
  if (volume.trash !== undefined) {
    throw new Fault("conflict", `volume ${volume.name} is deleted: take it back first`);
  }
  const { growth } = volume;
  if (growth === undefined) return volume;
  const to = bytesInWords(growth.sizeBytes);
  const how = growth.ended === true ? "what was placed is being taken back" : "see its page";
  throw new Fault("conflict", `volume ${volume.name} is growing to ${to} already: ${how}`);
}

function checkSize(volume: VolumeRecord, sizeBytes: number): void {
  if (sizeBytes % BLOCK_BYTES !== 0) {
    throw new Fault("badRequest", `a volume's size is a multiple of ${BLOCK_BYTES} bytes`);
  }
  const most = VOLUME_SLICES_MAX * volume.sliceBytes;
  if (sizeBytes > most) {
    throw new Fault("tooLarge", `a volume has at most ${bytesInWords(most)} here`);
  }
  if (sizeBytes > volume.sizeBytes) return;
  const has = bytesInWords(volume.sizeBytes);
  throw new Fault(
    "conflict",
    `volume ${volume.name} has ${has} (${volume.sizeBytes} bytes) and is never made smaller: ` +
      "what lies behind a smaller end would be lost",
  );
}

interface LastSlice {
  record: SliceRecord;
  /** What it is to have, more than it has. */
  sizeBytes: number;
}

/** The last slice where it has to become larger; null: it need not. */
function lastSlice(view: ClusterView, volume: VolumeRecord, sizeBytes: number): LastSlice | null {
  const index = volume.slices.length - 1;
  const record = view.slices.get(volume.slices[index] ?? 0);
  const wanted = sliceSizeAt({ sizeBytes, sliceBytes: volume.sliceBytes }, index);
  if (record === undefined || wanted <= record.sizeBytes) return null;
  return { record, sizeBytes: wanted };
}

/** Why its last slice cannot become larger where it is; null: there is room. */
function lackingDisk(view: ClusterView, { record, sizeBytes }: LastSlice): string | null {
  const moreBytes = sizeBytes - record.sizeBytes;
  for (const disk of disksOf(record)) {
    const known = view.disks.get(disk);
    if (known === undefined) continue;
    const freeBytes = Math.max(0, known.sizeBytes - view.promisedBytes(disk));
    if (freeBytes >= moreBytes) continue;
    const mayHave = bytesInWords(freeBytes);
    return (
      `the volume's last part lies on ${diskInWords(view, disk)}, which has ${mayHave} left, and ` +
      `needs ${bytesInWords(moreBytes)} more there: ask for less, or let the disk be retired, ` +
      "so that the part moves to a larger one"
    );
  }
  return null;
}

/** Rooms for the slices to come, beside what the last one takes. */
function roomsBeside(
  view: ClusterView,
  volume: VolumeRecord,
  last: LastSlice | null,
): readonly DiskRoom[] {
  const rooms = poolRooms(view, volume.pool);
  if (last === null) return rooms;
  const moreBytes = last.sizeBytes - last.record.sizeBytes;
  const named = disksOf(last.record);
  return rooms.map((room) => {
    return named.includes(room.disk) ? { ...room, freeBytes: room.freeBytes - moreBytes } : room;
  });
}

function shapeOf(view: ClusterView, volume: VolumeRecord, restBytes: number): VolumeShape {
  const before = view.slices.get(volume.slices.at(-1) ?? 0);
  return {
    sizeBytes: restBytes,
    sliceBytes: volume.sliceBytes,
    protection: volume.protection,
    headedBytes: headedBytes(view),
    head: before === undefined ? null : headOf(view, before),
  };
}

function refusalSentence(
  volume: VolumeRecord,
  sizeBytes: number,
  { sentence, missingBytes }: { sentence: string; missingBytes: number },
): string {
  if (missingBytes === 0) return sentence;
  const most = bytesInWords(sizeBytes - missingBytes);
  return (
    `${bytesInWords(missingBytes)} is missing: volume ${volume.name} may have at most ${most} ` +
    `now, ${bytesInWords(sizeBytes)} was asked for`
  );
}

export function growVolume(
  draft: Draft,
  args: CommandArguments<"growVolume">,
): Record<string, never> {
  const known = draft.view.volumes.get(args.volume);
  if (known?.state === "ready" && isAskedAgain(known, args.sizeBytes)) return {};
  const { volume, placed } = planGrowth(draft.view, args);
  const { sizeBytes } = args;
  const first = placed.length === 0 ? 0 : draft.take("slice", placed.length);
  const slices = placed.map((_, index) => first + index);
  draft.put(keys.volume(volume.number), { ...volume, growth: { sizeBytes, slices } });
  draft.tell({
    kind: "volume-grows",
    severity: "info",
    sentence:
      `volume ${volume.name} is to grow from ${bytesInWords(volume.sizeBytes)} to ` +
      `${bytesInWords(sizeBytes)}: ${added(placed.length)}`,
    volume: volume.number,
  });
  return {};
}

function isAskedAgain({ growth, sizeBytes }: VolumeRecord, asked: number): boolean {
  if (growth === undefined) return sizeBytes === asked;
  return growth.sizeBytes === asked && growth.ended !== true;
}

function added(slices: number): string {
  if (slices === 0) return "its last slice becomes larger";
  return `${slices} ${slices === 1 ? "slice is" : "slices are"} added`;
}

/** Upkeep: a step of a volume that grows; null: none has one to take now. */
export function growVolumes(view: ClusterView): Draft | null {
  for (const volume of view.volumes.values()) {
    const { growth } = volume;
    if (growth === undefined || volume.state !== "ready") continue;
    const step = growth.ended === true ? takeBack(view, volume) : grow(view, volume);
    if (step !== null) return step;
  }
  return fitSlices(view);
}

/**
 * After a restore a disk may tell of more of a volume when what was its last slice is settled
 * already: that one is to be a whole one then.
 */
function fitSlices(view: ClusterView): Draft | null {
  const draft = new Draft(view);
  for (const volume of view.volumes.values()) {
    const isFound = volume.foundOnDisks === true || volume.foundFrom !== undefined;
    if (!isFound || volume.state !== "ready") continue;
    for (const [index, slice] of volume.slices.entries()) {
      const record = view.slices.get(slice);
      const sizeBytes = sliceSizeAt(volume, index);
      if (record === undefined || record.sizeBytes >= sizeBytes || draft.isFull) continue;
      if (!view.diskServes(record.head)) continue;
      draft.relyOn(keys.volume(volume.number));
      draft.put(keys.slice(slice), enlarged({ record, sizeBytes }));
    }
  }
  return draft.isEmpty ? null : draft;
}

/** Places the next slices; after the last one the volume has its new size. */
function grow(view: ClusterView, volume: VolumeRecord): Draft | null {
  const growth = growthOf(volume);
  const draft = new Draft(view);
  draft.relyOn(keys.volume(volume.number));
  const last = lastSlice(view, volume, growth.sizeBytes);
  const next = growth.slices.findIndex((number) => !view.slices.has(number));
  if (next >= 0) {
    const first = volume.slices.length + next;
    const restBytes = growth.sizeBytes - first * volume.sliceBytes;
    const placed = placeSlices(roomsBeside(view, volume, last), {
      shape: shapeOf(view, volume, restBytes),
      sizes: sliceSizes(restBytes, volume.sliceBytes),
    });
    if (placed === null) return end(draft, volume, "the room that it was promised went to others");
    const made = placed.map((slice) => {
      const number = growth.slices[next + slice.index] ?? 0;
      return { ...slice, index: first + slice.index, number };
    });
    putSlices(draft, volume, made);
    return draft;
  }
  if (last !== null) {
    // Its head tells the others of the record: until there is one, the volume stays as it is.
    if (!view.diskServes(last.record.head)) return null;
    const lacking = lackingDisk(view, last);
    if (lacking !== null) return end(draft, volume, lacking);
    draft.put(keys.slice(last.record.slice), enlarged(last));
  }
  const { growth: _, ...kept } = volume;
  const slices = [...volume.slices, ...growth.slices];
  draft.put(keys.volume(volume.number), { ...kept, sizeBytes: growth.sizeBytes, slices });
  draft.tell({
    kind: "volume-grown",
    severity: "info",
    sentence:
      `volume ${volume.name} has ${bytesInWords(growth.sizeBytes)} now: hosts see it as they ` +
      "attach anew, those that are attached go on as they are",
    volume: volume.number,
  });
  return draft;
}

function growthOf(volume: VolumeRecord): NonNullable<VolumeRecord["growth"]> {
  assert(volume.growth !== undefined, "the volume grows");
  return volume.growth;
}

function enlarged({ record, sizeBytes }: LastSlice): SliceRecord {
  const next = carriedOver(record, { ...record, epoch: record.epoch + 1, sizeBytes });
  assert(recordRefusal(record, next, "station") === null, "the station keeps its own rules");
  return next;
}

/** It cannot grow any more: what was placed is taken back, and the volume stays as it is. */
function end(draft: Draft, volume: VolumeRecord, why: string): Draft {
  const growth = growthOf(volume);
  draft.put(keys.volume(volume.number), { ...volume, growth: { ...growth, ended: true } });
  draft.tell({
    kind: "volume-growth-refused",
    severity: "warning",
    sentence:
      `volume ${volume.name} could not grow to ${bytesInWords(growth.sizeBytes)} any more, ` +
      `and stays as it is: ${why}`,
    volume: volume.number,
  });
  return draft;
}

/** Nothing was ever written to slices that were no part of the volume yet. */
function takeBack(view: ClusterView, volume: VolumeRecord): Draft {
  const { growth, ...kept } = volume;
  const draft = new Draft(view);
  const left = (growth?.slices ?? []).filter((number) => view.slices.has(number));
  for (const number of left.slice(0, SLICES_PER_DRAFT)) draft.delete(keys.slice(number));
  if (left.length <= SLICES_PER_DRAFT) draft.put(keys.volume(volume.number), kept);
  else draft.relyOn(keys.volume(volume.number));
  return draft;
}
