// SPDX-License-Identifier: Apache-2.0
//
// What a page knows of the cluster at one moment, read once from the backend. A unit that is in no
// cluster yet has status and disks alone; the rest is null, and the pages say so.

import { Fault } from "#base/fault.ts";
import type { Question } from "#cluster/questions.ts";
import type { LossRow } from "#cluster/volume-state.ts";
import type {
  Backend,
  DiskView,
  EventView,
  RecoveryView,
  StrangerView,
  UnitStatus,
  UnitView,
  VolumeView,
} from "#appliance/backend.ts";
import type { PoolView } from "#appliance/pools.ts";
import type { HostView, RequestView } from "#appliance/host-backend.ts";

export interface Reading {
  status: UnitStatus;
  disks: DiskView[];
  units: UnitView[] | null;
  volumes: VolumeView[] | null;
  pools: PoolView[] | null;
  hosts: HostView[] | null;
  requests: RequestView[] | null;
  strangers: StrangerView[];
  recovery: RecoveryView;
  /** What only the owner can decide. */
  questions: Question[];
}

/** Each is read when a page first asks for it: few pages need all of it. */
export function readAll(backend: Backend): Reading {
  const units = () => sortedUnits(ifReady(() => backend.units()));
  return lazily<Reading>({
    status: () => backend.status(),
    disks: () => sortedDisks(backend.disks(), units()),
    units,
    volumes: () => ifReady(() => backend.volumes()),
    pools: () => ifReady(() => backend.pools.list()),
    hosts: () => ifReady(() => backend.hosts.list()),
    requests: () => ifReady(() => backend.hosts.requests()),
    strangers: () => backend.arrivals.list().waiting,
    recovery: () => backend.recovery(),
    questions: () => ifReady(() => backend.fleet.questions()) ?? [],
  });
}

/** By name, as people number their boxes. */
function sortedUnits(units: UnitView[] | null): UnitView[] | null {
  return units?.toSorted((one, other) => compareNames(one.name, other.name)) ?? null;
}

const names = new Intl.Collator("en", { numeric: true });
function compareNames(one: string, other: string): number {
  return names.compare(one, other);
}

/** By the unit that they are in; of one unit those in use first, then the others by their path. */
function sortedDisks(disks: DiskView[], units: readonly UnitView[] | null): DiskView[] {
  const places = new Map((units ?? []).map(({ unit }, at) => [unit, at]));
  const placeOf = ({ unit }: DiskView) => places.get(unit) ?? places.size;
  const numberOf = ({ disk }: DiskView) => (disk === 0 ? Number.MAX_SAFE_INTEGER : disk);
  return disks.toSorted(
    (one, other) =>
      placeOf(one) - placeOf(other) ||
      numberOf(one) - numberOf(other) ||
      compareNames(one.path, other.path),
  );
}

function lazily<T extends object>(reads: { [K in keyof T]: () => T[K] }): T {
  const known = {};
  for (const name of Object.keys(reads) as (keyof T & string)[]) {
    const read = reads[name];
    const values: unknown[] = [];
    const get = () => {
      if (values.length === 0) values.push(read());
      return values[0];
    };
    Object.defineProperty(known, name, { get, enumerable: true });
  }
  return known as T;
}

/** R5: looks at every slice for every unit, so it is read only for the page that shows it. */
export function readLosses(backend: Backend): LossRow[] {
  return ifReady(() => backend.fleet.losses()) ?? [];
}

/** The newest, oldest of them first; `actor`: of those that somebody of this name asked for. */
export function readEvents(backend: Backend, limit: number, actor?: string): EventView[] | null {
  return ifReady(() => backend.events(0, limit, actor));
}

export function ifReady<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (error instanceof Fault && error.code === "notReady") return null;
    throw error;
  }
}

/** What another unit tells; null where it does not. */
export async function ifAnswered<T>(asked: Promise<T>): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof Fault) return null;
    throw error;
  }
}

export function unitName(units: readonly UnitView[] | null, unit: number | null): string {
  if (unit === null || unit === 0) return "–";
  return units?.find((one) => one.unit === unit)?.name ?? `unit ${unit}`;
}

/** One page of a long list: what is shown, and where it stands. */
export interface Part<T> {
  rows: T[];
  page: number;
  pages: number;
  total: number;
}

export const ROWS_OF_PAGE = 50;

export function partOf<T>(list: readonly T[], page: string | undefined): Part<T> {
  const pages = Math.max(1, Math.ceil(list.length / ROWS_OF_PAGE));
  const asked = /^\d{1,6}$/.test(page ?? "") ? Number(page) : 1;
  const at = Math.min(Math.max(1, asked), pages);
  const rows = list.slice((at - 1) * ROWS_OF_PAGE, at * ROWS_OF_PAGE);
  return { rows, page: at, pages, total: list.length };
}
