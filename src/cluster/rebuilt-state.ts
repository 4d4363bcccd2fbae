// SPDX-License-Identifier: Apache-2.0
//
// What a control state begins with that is rebuilt without a backup: the keys that a backup would
// have, made of what a unit still remembers (its catalogue), which may be nothing. Pure. They go
// the way of a backup's from here on (restored-state.ts), so slices are claims that disks settle.
//
// - Hosts, requests, people, tokens and settings are remembered by no unit; nor is who owns the
//   cluster.
// - Numbers begin above what the generations before gave out, whatever they were: each began less
//   than three jumps above the one before.
// - Until its owner says that all disks are there that are left, such a state gathers what they
//   hold and settles nothing (restored-changes.ts): which disks there were is not known.

import type { SliceRecord } from "#base/record.ts";
import type { BackupEntry } from "./control-backup.ts";
import { FIRST_GENERATION } from "./generation.ts";
import type { Generation } from "./generation.ts";
import { JUMPS } from "./restored-state.ts";
import { firstState, keys, valueText } from "./state.ts";
import type {
  ClusterRecord,
  DiskRecord,
  NumbersRecord,
  SettingsRecord,
  UnitRecord,
  VolumeRecord,
} from "./state.ts";

/** What a unit knew of the control state when it last reached it. */
export interface Remembered {
  units: readonly UnitRecord[];
  disks: readonly DiskRecord[];
  volumes: readonly VolumeRecord[];
  slices: readonly SliceRecord[];
}
export const NOTHING_REMEMBERED: Remembered = { units: [], disks: [], volumes: [], slices: [] };

/** Beyond one generation's start the next one begins, in jumps, at most. */
const JUMPS_PER_GENERATION = 3;

/** `generation`: the one that is lost. */
export function rebuiltState(
  remembered: Remembered,
  lost: {
    uuid: string;
    name: string;
    generation: Generation;
    /** Of units that are not remembered. */
    featureLevel: number;
    sliceBytes: number;
    settings: Partial<SettingsRecord>;
  },
): BackupEntry[] {
  const { units, disks, volumes, slices } = remembered;
  const { generation, ...wish } = lost;
  const admitted = units.filter(({ state }) => state === "admitted");
  const featureLevel = Math.min(wish.featureLevel, ...admitted.map((unit) => unit.featureLevel));
  const first = firstState({ ...wish, featureLevel });
  const entries = new Map<string, string>(first.map(({ key, value }) => [key, value]));
  const put = (key: string, record: object) => entries.set(key, valueText(record));
  for (const name of [...units, ...volumes].map(({ pool }) => pool)) {
    if (name !== null) put(keys.pool(name), { name });
  }
  for (const unit of units) {
    put(keys.unit(unit.number), unit);
    put(keys.unitId(unit.id), { unit: unit.number });
  }
  for (const disk of disks) {
    put(keys.disk(disk.number), disk);
    put(keys.diskUuid(disk.uuid), { disk: disk.number });
  }
  for (const volume of volumes) {
    put(keys.volume(volume.number), ofNobody(volume));
    if (volume.state !== "deleting") put(keys.volumeName(volume.name), { volume: volume.number });
  }
  for (const slice of slices) put(keys.slice(slice.slice), slice);
  put(keys.numbers, numbersAbove(remembered, generation));
  const cluster: ClusterRecord = {
    ...JSON.parse(entries.get(keys.cluster) ?? "{}"),
    generation: generation.number,
    ...(generation.id === FIRST_GENERATION.id ? {} : { generationId: generation.id }),
    state: "used",
    gathering: true,
  };
  put(keys.cluster, cluster);
  return [...entries];
}

/** Assigned to nobody; one that was deleted, and could be taken back, is back. */
function ofNobody(volume: VolumeRecord): VolumeRecord {
  const { requestedBy: _by, trash: _trash, ...kept } = volume;
  return { ...kept, hosts: [], allow: [] };
}

function numbersAbove(remembered: Remembered, { number }: Generation): NumbersRecord {
  const { units, disks, volumes, slices } = remembered;
  const named = slices.flatMap(({ inSync, resyncing }) => [
    ...inSync.map(({ disk }) => disk),
    ...resyncing,
  ]);
  const known: Partial<Record<keyof typeof JUMPS, readonly number[]>> = {
    unit: units.map((unit) => unit.number),
    disk: [...disks.map((disk) => disk.number), ...named],
    volume: volumes.map((volume) => volume.number),
    slice: [...slices.map(({ slice }) => slice), ...volumes.flatMap((volume) => volume.slices)],
  };
  const above = (kind: keyof typeof JUMPS): number => {
    const start = 1 + JUMPS_PER_GENERATION * (number - 1) * JUMPS[kind];
    return (known[kind] ?? []).reduce((most, one) => Math.max(most, one + 1), start);
  };
  return {
    unit: above("unit"),
    disk: above("disk"),
    volume: above("volume"),
    slice: above("slice"),
    event: above("event"),
    host: above("host"),
    request: above("request"),
  };
}
