// SPDX-License-Identifier: Apache-2.0
//
// What a unit says of itself over auto-configuration: vitals in heartbeats, disks and slices in
// storage information (the original fifth figure: storage volumes S1, S2, each in partitions P1,
// P2).

import type { OwnReport } from "#cluster/discovery.ts";
import { DiskState, Health, SliceState } from "#protocol/autoconfig/autoconfig.wire.ts";
import { loadPermille } from "#machine/load.ts";
import type { ClusterView } from "#cluster/view.ts";
import type { KeptDisk } from "./disk-keeper.ts";
import type { ReactorReport } from "./reactor-messages.ts";

const NO_DISK_ID = new Uint8Array(16);

/** Where a report takes its facts from, at the moment it is asked. */
export interface ReportSources {
  disks(): readonly KeptDisk[];
  reactor(): ReactorReport;
  /** Null while the unit is in no cluster. */
  view(): ClusterView | null;
  uptimeSeconds(): number;
}

export function ownReport(unit: ReportSources): OwnReport {
  return {
    vitals: () => {
      const disks = unit.disks().filter((disk) => disk.state === "ready");
      return {
        sizeBytes: sum(disks, (disk) => disk.opened?.sizeBytes ?? 0),
        freeBytes: sum(disks, (disk) => disk.opened?.freeBytes ?? 0),
        uptimeSeconds: unit.uptimeSeconds(),
        loadPermille: loadPermille(),
        health: unit.disks().some((disk) => disk.state === "failed") ? Health.failed : Health.good,
      };
    },
    storage: () => ({
      disks: unit.disks().map(diskFact),
      slices: sliceFacts(unit),
    }),
  };
}

function diskFact(disk: KeptDisk) {
  const { opened } = disk;
  const sizeBytes = opened?.sizeBytes ?? disk.sizeBytes;
  const freeBytes = opened?.freeBytes ?? 0;
  return {
    diskNumber: opened?.number ?? 0,
    diskId: opened === null ? NO_DISK_ID : Uint8Array.fromHex(opened.uuid),
    state: stateOf(disk),
    health: disk.state === "failed" ? Health.failed : Health.good,
    sizeBytes,
    usedBytes: opened === null ? 0 : sizeBytes - freeBytes,
    freeBytes,
    path: disk.path,
  };
}

function stateOf(disk: KeptDisk): DiskState {
  switch (disk.state) {
    case "examining":
      return DiskState.blank;
    case "refused":
      return DiskState.notBlank;
    case "opening":
    case "open":
    case "ready":
      return DiskState.claimed;
    case "failed":
      return DiskState.absent;
  }
}

function sliceFacts(unit: ReportSources) {
  const view = unit.view();
  return unit.reactor().slices.flatMap((slice) => {
    const record = view?.slices.get(slice.slice);
    if (record === undefined) return [];
    const states = {
      head: SliceState.head,
      member: SliceState.inSync,
      resyncing: SliceState.resyncing,
      outside: SliceState.left,
    } as const;
    return [
      {
        diskNumber: slice.disk,
        slice: slice.slice,
        volume: record.volume,
        index: record.index,
        mappedBytes: slice.mappedBytes,
        state: states[slice.role],
      },
    ];
  });
}

function sum<T>(list: readonly T[], of: (one: T) => number): number {
  return list.reduce((total, one) => total + of(one), 0);
}
