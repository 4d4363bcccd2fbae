// SPDX-License-Identifier: Apache-2.0
//
// An owner's override of a volume that stands still (R3), and what it left behind (R8): as the
// console shows them, and as a unit asks the control station for them, part by part where a volume
// has more slices than one transaction takes.

import { Fault } from "#base/fault.ts";
import type { DiskNumber, SliceNumber, UnitNumber, VolumeNumber } from "#base/record.ts";
import type { CommandClient } from "#cluster/commands.ts";
import { goOnOffer, keptSentence, keptVolumes } from "#cluster/lineages.ts";
import type { UnitRecord, VolumeRecord } from "#cluster/state.ts";
import type { ClusterView } from "#cluster/view.ts";

/** What is kept of a volume from before its owner went on without it. */
export interface KeptView {
  /** Which override it is from before, from 1. */
  number: number;
  /** Hosts of the volume read it under this name. */
  name: string;
  /** When its owner went on, by the wall clock. */
  wentOnAtMs: number;
  /** Written until then at least, when its disks were last known to be there; null: not known. */
  untilMs: number | null;
  readable: boolean;
  sentence: string;
  /** What it holds; null: not known until its disks are back. */
  bytes: number | null;
  slices: {
    slice: SliceNumber;
    index: number;
    disk: DiskNumber;
    unit: UnitNumber;
    bytes: number | null;
    there: boolean;
  }[];
  /** NBD URIs, best first: where it lies. */
  uris: string[];
}

/** What a volume that stands still could go on from. */
export interface GoOnView {
  from: string;
  /** What that loses. */
  costs: string;
}

/** Parts that a whole volume may take: each does several slices. */
const PARTS_MAX = 1024;
const PATHS_MAX = 8;

export function keptViews(
  view: ClusterView,
  volume: VolumeRecord,
  uriOf: (unit: UnitRecord, name: string) => string | null,
): KeptView[] {
  return keptVolumes(view, volume).map((kept) => {
    const slices = kept.copies.map(({ slice, index, disk, bytes, isThere }) => {
      const unit = view.disks.get(disk)?.unit ?? 0;
      return { slice, index, disk, unit, bytes, there: isThere };
    });
    const holders = new Set(slices.filter((one) => one.there).map((one) => one.unit));
    const uris = [...holders].slice(0, PATHS_MAX).flatMap((number) => {
      const unit = view.units.get(number);
      const uri = unit === undefined ? null : uriOf(unit, kept.name);
      return uri === null ? [] : [uri];
    });
    const known = slices.every((one) => one.bytes !== null);
    const bytes = slices.reduce((sum, one) => sum + (one.bytes ?? 0), 0);
    return {
      number: kept.number,
      name: kept.name,
      wentOnAtMs: kept.atMs,
      untilMs: kept.untilMs,
      readable: kept.isReadable,
      sentence: keptSentence(view, kept),
      bytes: known ? bytes : null,
      slices,
      uris: kept.isReadable ? uris : [],
    };
  });
}

export function goOnView(view: ClusterView, volume: VolumeRecord): GoOnView | null {
  if (volume.state !== "ready" || volume.trash !== undefined) return null;
  return goOnOffer(view, volume);
}

export async function goOn(
  commands: Pick<CommandClient, "ask">,
  volume: VolumeNumber,
): Promise<void> {
  let { number, left } = await commands.ask("goOn", { volume });
  for (let part = 1; left > 0; part++) {
    if (part >= PARTS_MAX) throw new Fault("notReady", "not all of it goes on yet; ask again");
    ({ number, left } = await commands.ask("goOn", { volume, number }));
  }
}

export async function discardCopy(
  commands: Pick<CommandClient, "ask">,
  of: { volume: VolumeNumber; number: number },
): Promise<void> {
  for (let part = 0; part < PARTS_MAX; part++) {
    const { left } = await commands.ask("discardCopy", of);
    if (left === 0) return;
  }
  throw new Fault("notReady", "not all of it is given up yet; ask again");
}
