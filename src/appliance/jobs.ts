// SPDX-License-Identifier: Apache-2.0
//
// What takes a while, as one list: units and disks that are emptied, copies that are made, scrubs,
// volumes that wait to be gone. Read from what each says of itself; nothing is kept for it. Pure.

import type { DiskView, UnitView, VolumeView } from "./backend.ts";
import type { CopyingView } from "./unit-neighbours.ts";

export const JOB_KINDS = ["evacuation", "retirement", "copy", "scrub", "deletion"] as const;

export interface JobView {
  /** The same as long as it lasts, such as `evacuation-3`. */
  id: string;
  kind: (typeof JOB_KINDS)[number];
  /** What it is about, by name. */
  about: string;
  /** Null: not known. */
  percent: number | null;
  /** Of the pace so far; null: not known. */
  leftMs: number | null;
  sentence: string;
}

export interface JobSources {
  units: readonly UnitView[];
  disks: readonly DiskView[];
  volumes: readonly VolumeView[];
  copying: CopyingView | null;
  wallMs: number;
}

export function jobsOf(sources: JobSources): JobView[] {
  return [
    ...sources.units.flatMap(evacuations),
    ...sources.disks.flatMap(retirements),
    ...copies(sources),
    ...sources.disks.flatMap(scrubs),
    ...sources.volumes.flatMap((volume) => deletions(volume, sources.wallMs)),
  ];
}

function evacuations({ unit, name, evacuation }: UnitView): JobView[] {
  if (evacuation === null) return [];
  const { slices, left, leftMs, sentence } = evacuation;
  const percent = slices === 0 ? 100 : percentOf(slices - left, slices);
  const about = `unit ${name}`;
  return [{ id: `evacuation-${unit}`, kind: "evacuation", about, percent, leftMs, sentence }];
}

function retirements(view: DiskView): JobView[] {
  if (view.state !== "leaving") return [];
  const { disk, slices, reason } = view;
  if (slices.length === 0) return [];
  const left = slices.length === 1 ? "one slice is" : `${slices.length} slices are`;
  const sentence = `${left} still to be copied elsewhere; ${reason}`;
  const job = { id: `retirement-${disk}`, kind: "retirement", about: `disk ${disk}` } as const;
  return [{ ...job, percent: null, leftMs: null, sentence }];
}

function copies({ copying, volumes }: JobSources): JobView[] {
  const byVolume = new Map<number, CopyingView["resyncs"]>();
  for (const one of copying?.resyncs ?? []) {
    byVolume.set(one.volume, [...(byVolume.get(one.volume) ?? []), one]);
  }
  return [...byVolume].map(([volume, resyncs]) => {
    const doneBytes = resyncs.reduce((sum, one) => sum + one.doneBytes, 0);
    const totalBytes = resyncs.reduce((sum, one) => sum + one.totalBytes, 0);
    const name = volumes.find((one) => one.volume === volume)?.name ?? String(volume);
    const many = resyncs.length === 1 ? "one slice is" : `${resyncs.length} slices are`;
    return {
      id: `copy-${volume}`,
      kind: "copy" as const,
      about: `volume ${name}`,
      percent: percentOf(doneBytes, totalBytes),
      leftMs: longest(resyncs.map(({ leftMs }) => leftMs)),
      sentence: `${many} brought up to date; hosts go on`,
    };
  });
}

/** Copies run beside each other: the last one says when it is over. Null where one says nothing. */
function longest(spans: readonly (number | null)[]): number | null {
  let most = 0;
  for (const span of spans) {
    if (span === null) return null;
    most = Math.max(most, span);
  }
  return most;
}

function scrubs({ disk, health }: DiskView): JobView[] {
  const scrub = health?.scrub;
  if (scrub?.running !== true) return [];
  const job = { id: `scrub-${disk}`, kind: "scrub", about: `disk ${disk}` } as const;
  const sentence = scrub.late ? "it is read through, and late" : "it is read through";
  return [{ ...job, percent: scrub.percent, leftMs: null, sentence }];
}

function deletions({ volume, name, deletedAtMs }: VolumeView, wallMs: number): JobView[] {
  if (deletedAtMs === null) return [];
  const leftMs = Math.max(0, deletedAtMs - wallMs);
  const job = { id: `deletion-${volume}`, kind: "deletion", about: `volume ${name}` } as const;
  const sentence = "deleted; gone for good when that time is over";
  return [{ ...job, percent: null, leftMs, sentence }];
}

function percentOf(part: number, whole: number): number {
  return whole === 0 ? 0 : Math.floor((100 * part) / whole);
}
