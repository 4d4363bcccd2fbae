// SPDX-License-Identifier: Apache-2.0
//
// A volume as the console shows it, from the control state and what this unit's data plane says of
// the slices it heads. What is the same for all volumes is read once, since a page looks at
// thousands of them. Pure.

import type { SliceNumber, SliceRecord, UnitNumber } from "#base/record.ts";
import { hostsOfVolume } from "#cluster/host-state.ts";
import type { UnitRecord, VolumeRecord } from "#cluster/state.ts";
import type { ClusterView } from "#cluster/view.ts";
import { volumeState } from "#cluster/volume-state.ts";
import type { SliceReport } from "#cluster/volume-state.ts";
import type { VolumeView } from "./backend.ts";
import { goOnView, keptViews } from "./volume-lineages.ts";

/** Ways to a volume that are named: every other unit takes it as well. */
const PATHS_MAX = 8;

export interface SharedByVolumes {
  view: ClusterView;
  reports: Map<SliceNumber, SliceReport>;
  /** Units that offer volumes, those that are up first. */
  units: readonly UnitRecord[];
  /** Why no volume can be used yet; empty: they can. */
  wait: readonly string[];
}

export function pathUnits(view: ClusterView): UnitRecord[] {
  const units = [...view.units.values()].filter((unit) => unit.state === "admitted");
  const up = units.filter((unit) => view.isAlive(unit.number));
  return [...up, ...units.filter((unit) => !view.isAlive(unit.number))];
}

/**
 * What few pages show of a volume is worked out when it is read, from the same view: whoever keeps
 * the answer for longer than it takes to write it down copies it first.
 */
export function volumeView(volume: VolumeRecord, shared: SharedByVolumes): VolumeView {
  const { view, wait } = shared;
  const { availability, protection, rebuiltShare, waitsFor } = volumeState(
    view,
    volume,
    shared.reports,
  );
  return {
    volume: volume.number,
    uuid: volume.uuid,
    name: volume.name,
    sizeBytes: volume.sizeBytes,
    growingToBytes: volume.growth?.ended === true ? null : (volume.growth?.sizeBytes ?? null),
    usedBytes: null,
    protection: volume.protection,
    pool: volume.pool,
    availability,
    state: protection,
    rebuildingPercent: rebuiltShare === null ? null : Math.floor(rebuiltShare * 100),
    sentence: [...wait, ...waitsFor].join("; "),
    hosts: hostsOfVolume(view, volume).map(({ number, name }) => ({ host: number, name })),
    tls: volume.tls,
    get front() {
      return frontOf(view, view.slicesOfVolume(volume));
    },
    deletedAtMs: volume.trash?.untilMs ?? null,
    get kept() {
      return keptViews(view, volume, (unit, name) => uriOf(unit, { ...volume, name }));
    },
    get goOn() {
      return goOnView(view, volume);
    },
    get uris() {
      return this.paths.map(({ uri }) => uri);
    },
    get paths() {
      return pathsOf(volume, this.front, shared);
    },
    get slices() {
      const records = view.slicesOfVolume(volume);
      return records.flatMap((record) => (record === null ? [] : [sliceView(view, record)]));
    },
  };
}

/** The unit that heads most of a volume's slices. */
function frontOf(view: ClusterView, records: readonly (SliceRecord | null)[]): UnitNumber | null {
  const heads = new Map<UnitNumber, number>();
  for (const record of records) {
    const unit = record === null ? undefined : view.disks.get(record.head)?.unit;
    if (unit !== undefined) heads.set(unit, (heads.get(unit) ?? 0) + 1);
  }
  let front: UnitNumber | null = null;
  for (const [unit, count] of heads) {
    if (front === null || count > (heads.get(front) ?? 0)) front = unit;
  }
  return front;
}

function pathsOf(
  volume: VolumeRecord,
  front: UnitNumber | null,
  { units }: SharedByVolumes,
): VolumeView["paths"] {
  const first = units.filter(({ number }) => number === front);
  const others = units.slice(0, PATHS_MAX).filter(({ number }) => number !== front);
  return [...first, ...others].slice(0, PATHS_MAX).flatMap((unit) => {
    const uri = uriOf(unit, volume);
    return uri === null ? [] : [{ unit: unit.number, uri }];
  });
}

function uriOf(unit: UnitRecord, { name, tls }: VolumeRecord): string | null {
  const address = unit.addresses[0] ?? unit.ula;
  const host = address.includes(":") ? `[${address}]` : address;
  const scheme = tls === "required" ? "nbds" : "nbd";
  return unit.ports.nbd === undefined ? null : `${scheme}://${host}:${unit.ports.nbd}/${name}`;
}

function sliceView(view: ClusterView, record: SliceRecord): VolumeView["slices"][number] {
  const place = (disk: number) => ({ disk, unit: view.disks.get(disk)?.unit ?? 0 });
  return {
    slice: record.slice,
    index: record.index,
    epoch: record.epoch,
    head: record.head,
    members: [
      ...record.inSync.map(({ disk }) => ({ ...place(disk), state: "in-sync" as const })),
      ...record.resyncing.map((disk) => ({ ...place(disk), state: "resyncing" as const })),
    ],
  };
}
