// SPDX-License-Identifier: Apache-2.0
//
// Volumes that grow in a simulated cluster, as the control station has them grow
// (cluster/volume-growth.ts): the record of the last slice and a new slice's first one in one
// transaction, then units hear of the volume's new size one by one, then hosts use it. What is
// added was never written, so the judge wants zero of it.

import { REGION_BYTES, SECTOR_BYTES } from "#base/grains.ts";
import { OperationKind } from "#base/operation.ts";
import type { Prng } from "#base/prng.ts";
import { carriedOver, disksOf } from "#base/record.ts";
import type { DiskNumber, SliceNumber, SliceRecord } from "#base/record.ts";
import type { VolumeShape } from "#appliance/forwarder.ts";
import { sliceSizeAt } from "#cluster/placement.ts";
import { keys, parseSlice } from "#cluster/state.ts";
import type { SimCluster } from "./sim-cluster.ts";
import type { HostVolume } from "./sim-host.ts";

/** Of one volume: more than that the disks may not hold. */
const SLICES_MAX = 4;
const LOOK_SECTORS = 8;

export interface Wish {
  /** Of the last slice; not said: a whole one where another is added, else as it is. */
  lastBytes?: number;
  /** Where another slice goes, the head first; not said: none is added. */
  disks?: DiskNumber[];
  /** Until the last unit has heard of the volume's new size. */
  withinMs?: number;
}

export class SimGrowth {
  readonly #cluster: SimCluster;
  /** Slices that were added, and on which disks. */
  readonly #added = new Map<SliceNumber, readonly DiskNumber[]>();

  constructor(cluster: SimCluster) {
    this.#cluster = cluster;
  }

  /** A growth of some volume, as it comes; none where nothing can be done now. */
  some(prng: Prng): void {
    const { shapes, plan, simulation } = this.#cluster;
    const shape = prng.pick(shapes);
    const hasBytes = sliceSizeAt(shape, shape.slices.length - 1);
    const copies = plan.volumes.find(({ volume }) => volume === shape.volume)?.copies ?? 1;
    const withinMs = prng.pick([0, 0, 20, 300]);
    if (hasBytes < shape.sliceBytes && prng.chance(0.7)) {
      const room = (shape.sliceBytes - hasBytes) / REGION_BYTES;
      const lastBytes = hasBytes + REGION_BYTES * prng.between(1, room);
      this.grow(shape.volume, { lastBytes, withinMs });
      return;
    }
    const disks = this.#openDisks();
    if (disks.length < copies || shape.slices.length >= SLICES_MAX) return;
    const chosen = Array.from({ length: copies }, () => {
      return disks.splice(prng.below(disks.length), 1)[0] as DiskNumber;
    });
    simulation.trace("grow-by-slice", shape.volume, shape.slices.length);
    this.grow(shape.volume, { disks: chosen, withinMs });
  }

  /** Disks whose run a new record may name. */
  #openDisks(): DiskNumber[] {
    return this.#cluster.portals().flatMap(({ stores }) => {
      return [...stores].flatMap(([disk, store]) => (store.failed ? [] : [disk]));
    });
  }

  /** Answers the number of the slice that was added; null: none was, or nothing was done. */
  grow(volume: number, wish: Wish): SliceNumber | null {
    const cluster = this.#cluster;
    const at = cluster.shapes.findIndex((one) => one.volume === volume);
    const shape = cluster.shapes[at] as VolumeShape;
    const { sliceBytes } = shape;
    const entry = cluster.controlStore.readOne(keys.slice(shape.slices.at(-1) as SliceNumber));
    // Its disks have not told what they hold since the control state was lost.
    if (entry === null) return null;
    const last = parseSlice(entry.key, entry.value);
    const lastBytes = wish.disks === undefined ? wish.lastBytes : sliceBytes;
    const puts = [this.#enlarged(last, lastBytes ?? last.sizeBytes)];
    const slices = [...shape.slices];
    if (wish.disks !== undefined) {
      slices.push(1 + Math.max(...cluster.slicePlaces.keys()));
      puts.push(this.#first(shape, slices, wish.disks));
    }
    const added = slices.length > shape.slices.length ? (slices.at(-1) as SliceNumber) : null;
    const sizeBytes =
      sliceBytes * (shape.slices.length - 1) +
      Math.max(last.sizeBytes, lastBytes ?? 0) +
      (added === null ? 0 : sliceBytes);
    cluster.shapes[at] = { ...shape, sizeBytes, slices };
    cluster.controlStore.commit({
      ifs: [{ key: entry.key, modRevision: entry.modRevision }],
      puts: puts.flatMap((record) => {
        if (record === last) return [];
        return [{ key: keys.slice(record.slice), value: JSON.stringify(record) }];
      }),
    });
    cluster.simulation.trace("grow", volume, sizeBytes);
    if (last.inSync.length < last.copies) cluster.sometimes("a slice grew that lacked a copy");
    cluster.sometimes("a volume grew");
    this.#tell(at, shape.sizeBytes, wish.withinMs ?? 0);
    return added;
  }

  /**
   * A disk that was away when a slice was placed on it, and was given up before it heard, has
   * nothing to come back with: the control station names it again. After a rebuild it may count as
   * one that keeps a copy (R8), which its owner gives up first.
   */
  protect(): void {
    const { controlStore } = this.#cluster;
    for (const [slice, disks] of this.#added) {
      const entry = controlStore.readOne(keys.slice(slice));
      if (entry === null) continue;
      const record = parseSlice(entry.key, entry.value);
      const named = disksOf(record);
      const lacking = disks.filter((disk) => {
        const member = this.#cluster.unitOf(disk).process?.stores.get(disk)?.member(slice);
        return !named.includes(disk) && member === null;
      });
      if (lacking.length === 0 || named.length >= record.copies) continue;
      const resyncing = [...record.resyncing, ...lacking].slice(0, record.copies - 1);
      const kept = (record.kept ?? []).filter(({ disk }) => !lacking.includes(disk));
      const next = carriedOver(record, { ...record, epoch: record.epoch + 1, resyncing });
      controlStore.commit({
        ifs: [{ key: entry.key, modRevision: entry.modRevision }],
        puts: [{ key: entry.key, value: JSON.stringify({ ...next, kept }) }],
      });
    }
  }

  #enlarged(last: SliceRecord, sizeBytes: number): SliceRecord {
    if (sizeBytes <= last.sizeBytes) return last;
    return carriedOver(last, { ...last, epoch: last.epoch + 1, sizeBytes });
  }

  #first(shape: VolumeShape, slices: readonly SliceNumber[], disks: DiskNumber[]): SliceRecord {
    const cluster = this.#cluster;
    const { volume, sliceBytes } = shape;
    const index = shape.slices.length;
    const slice = slices.at(-1) as SliceNumber;
    const sectors = sliceBytes / SECTOR_BYTES;
    this.#added.set(slice, disks);
    cluster.slicePlaces.set(slice, { volume, firstSector: index * sectors, sectors });
    return cluster.firstRecord(slice, { volume, index, sizeBytes: sliceBytes, disks });
  }

  /** As hosts do that attach: they read and write what is new, through any unit. */
  #lookAt(volume: HostVolume, hadSectors: number): void {
    const { hosts, simulation } = this.#cluster;
    const { prng } = simulation;
    const wish = { volume, count: LOOK_SECTORS, flags: 0 };
    for (const portal of this.#cluster.portals()) {
      const kind = prng.chance(0.7) ? OperationKind.read : OperationKind.write;
      const firstSector = prng.pick([hadSectors, volume.sectors - LOOK_SECTORS]);
      prng.pick(hosts).act(portal, { ...wish, kind, firstSector }, () => {});
    }
  }

  /** Units first, then hosts: whoever attaches sees the size of the unit where it does. */
  #tell(at: number, hadBytes: number, withinMs: number): void {
    const { simulation, units, shapes, hostVolumes } = this.#cluster;
    const grown = shapes[at] as VolumeShape;
    const prng = simulation.prng;
    for (const unit of units) {
      const tell = () => {
        const { process } = unit;
        process?.deliver(() => process.plane.volumeChanged(shapes[at] as VolumeShape));
      };
      if (withinMs === 0) tell();
      else simulation.after(withinMs * prng.fraction(), tell);
    }
    const use = () => {
      const seen = hostVolumes[at];
      if (seen === undefined) return;
      seen.sectors = Math.max(seen.sectors, grown.sizeBytes / SECTOR_BYTES);
      // Around the end that there was, and at the one that there is.
      for (const [aroundBytes, count] of [
        [hadBytes, 16],
        [hadBytes, 40],
        [grown.sizeBytes, 16],
      ] as const) {
        const first = aroundBytes / SECTOR_BYTES - count / 2;
        seen.hot.push({ firstSector: Math.min(first, seen.sectors - 2 * count), count });
      }
      this.#lookAt(seen, hadBytes / SECTOR_BYTES);
    };
    if (withinMs === 0) use();
    else simulation.after(withinMs + 1, use);
  }
}
