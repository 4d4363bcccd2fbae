// SPDX-License-Identifier: Apache-2.0
//
// What placement may count on, read from the view: disks with room, of units that are up, by pool.

import type { DiskNumber, UnitNumber } from "#base/record.ts";
import type { DiskRoom } from "./placement.ts";
import type { UnitRecord } from "./state.ts";
import type { ClusterView } from "./view.ts";

/** Disks of units for which `may` holds, that work and take new members: none in maintenance. */
function roomsWhere(view: ClusterView, may: (unit: UnitRecord) => boolean): DiskRoom[] {
  const rooms: DiskRoom[] = [];
  for (const disk of view.disks.values()) {
    const unit = view.units.get(disk.unit);
    if (unit === undefined || disk.state !== "ready" || !view.isAlive(disk.unit)) continue;
    if (!may(unit) || view.diskLeaves(disk.number) || view.isMaintained(disk.number)) continue;
    const freeBytes = Math.max(0, disk.sizeBytes - view.promisedBytes(disk.number));
    rooms.push({ disk: disk.number, unit: disk.unit, freeBytes });
  }
  return rooms;
}

export function poolRooms(view: ClusterView, pool: string): DiskRoom[] {
  return roomsWhere(view, (unit) => unit.role === "member" && unit.pool === pool);
}

/** Spares of one pool alone; null: those in no pool, which every pool may use. */
export function spareRooms(view: ClusterView, pool: string | null): DiskRoom[] {
  return roomsWhere(view, (unit) => unit.role === "spare" && unit.pool === pool);
}

/** Bytes of the slices that each unit heads. */
export function headedBytes(view: ClusterView): Map<UnitNumber, number> {
  const headed = new Map<UnitNumber, number>();
  for (const record of view.slices.values()) {
    const unit = view.disks.get(record.head)?.unit;
    if (unit !== undefined) headed.set(unit, (headed.get(unit) ?? 0) + record.sizeBytes);
  }
  return headed;
}

/** Units on which the given disks are now. */
export function unitsOf(view: ClusterView, disks: readonly DiskNumber[]): UnitNumber[] {
  const units = new Set<UnitNumber>();
  for (const disk of disks) {
    const record = view.disks.get(disk);
    if (record !== undefined) units.add(record.unit);
  }
  return [...units];
}
