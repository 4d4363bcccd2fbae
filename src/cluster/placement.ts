// SPDX-License-Identifier: Apache-2.0
//
// Placement: which disks a slice's members lie on. Pure: candidates in, disks or a plain refusal
// out.
//
// Rules: members of a slice never share a unit. The slices of a volume have one head while there is
// room. Space is counted by what members may come to hold, not by what they hold, so that a thin
// volume cannot run full behind its owner's back.
//
// Feasibility: n slices of equal size with k members each fit if and only if the sum over units of
// min(places of the unit, n) is at least k * n. A head is kept on one unit only as long as what
// remains stays feasible, so a volume is never refused because its head was preferred.

import { REGION_BYTES } from "#base/grains.ts";
import { layouts } from "#base/layout.ts";
import type { Protection } from "#base/layout.ts";
import { VOLUME_SLICES_MAX } from "#base/limits.ts";
import type { DiskNumber, UnitNumber } from "#base/record.ts";

/** A disk that may take members: its unit is up, it works, it is in the pool. */
export interface DiskRoom {
  disk: DiskNumber;
  unit: UnitNumber;
  freeBytes: number;
}

/** Past this many slices a refusal names whole slices only, which is near enough and cheap. */
const REFINED_SLICES_MAX = 256;

export interface PlacedSlice {
  index: number;
  sizeBytes: number;
  /** The head's disk first. */
  disks: DiskNumber[];
}

export type PlacementAnswer =
  | { ok: true; slices: PlacedSlice[] }
  /**
   * `missingBytes`: of the volume's size, as far as it can be said; 0 when space is not the reason.
   */
  | { ok: false; sentence: string; missingBytes: number };

export interface VolumeShape {
  sizeBytes: number;
  sliceBytes: number;
  protection: Protection;
  /** Bytes each unit heads already: the least laden takes the volume's head. */
  headedBytes?: ReadonlyMap<UnitNumber, number>;
  /** The unit that heads the volume's slices so far, when it is placed in parts. */
  head?: UnitNumber | null;
}

/** The sizes of a volume's slices: whole ones, and a last one of whole regions. */
export function sliceSizes(sizeBytes: number, sliceBytes: number): number[] {
  const whole = Math.floor(sizeBytes / sliceBytes);
  const sizes = new Array<number>(whole).fill(sliceBytes);
  const rest = sizeBytes - whole * sliceBytes;
  if (rest > 0) sizes.push(Math.ceil(rest / REGION_BYTES) * REGION_BYTES);
  return sizes;
}

/** The size of a volume's slice in that place. */
export function sliceSizeAt(
  { sizeBytes, sliceBytes }: { sizeBytes: number; sliceBytes: number },
  index: number,
): number {
  const restBytes = Math.max(0, sizeBytes - index * sliceBytes);
  return Math.min(sliceBytes, Math.ceil(restBytes / REGION_BYTES) * REGION_BYTES);
}

export function placeVolume(rooms: readonly DiskRoom[], shape: VolumeShape): PlacementAnswer {
  const layout = layouts[shape.protection];
  const count = Math.ceil(shape.sizeBytes / shape.sliceBytes);
  if (count > VOLUME_SLICES_MAX) {
    const most = bytesInWords(VOLUME_SLICES_MAX * shape.sliceBytes);
    return { ok: false, sentence: `a volume has at most ${most} here`, missingBytes: 0 };
  }
  const units = new Set(rooms.map((room) => room.unit)).size;
  if (units < layout.copies) {
    const have = units === 0 ? "none has" : units === 1 ? "only one has" : `only ${units} have`;
    return {
      ok: false,
      sentence:
        `${layout.name} needs working disks on ${layout.copies} ` +
        `${layout.copies === 1 ? "unit" : "different units"}; ${have} one in this pool`,
      missingBytes: 0,
    };
  }
  const sizes = sliceSizes(shape.sizeBytes, shape.sliceBytes);
  const slices = placeSlices(rooms, { shape, sizes });
  if (slices !== null) return { ok: true, slices };
  return refusal(rooms, shape);
}

/**
 * One more member for a slice: the unit and disk with most room, none of `without`; null: no room.
 */
export function placeMember(
  rooms: readonly DiskRoom[],
  need: { sizeBytes: number; withoutUnits: readonly UnitNumber[] },
): DiskNumber | null {
  const board = new Board(rooms);
  const unit = board
    .unitsByRoom(need.sizeBytes)
    .find((candidate) => !need.withoutUnits.includes(candidate));
  return unit === undefined ? null : board.take(unit, need.sizeBytes);
}

/** The largest volume that would fit now, bytes. */
export function largestVolume(rooms: readonly DiskRoom[], shape: VolumeShape): number {
  const copies = layouts[shape.protection].copies;
  const board = new Board(rooms);
  const places = board.places(shape.sliceBytes);
  let low = 0;
  let high = Math.min(
    VOLUME_SLICES_MAX,
    places.reduce((sum, each) => sum + each, 0),
  );
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(places, middle, copies)) low = middle;
    else high = middle - 1;
  }
  const whole = new Array<number>(low).fill(shape.sliceBytes);
  // What a last, smaller slice can add to it, in whole regions.
  let most = 0;
  let step = low > REFINED_SLICES_MAX ? 0 : Math.floor(shape.sliceBytes / REGION_BYTES / 2);
  for (; step >= 1; step = Math.floor(step / 2)) {
    const regions = most + step;
    const sizes = [...whole, regions * REGION_BYTES];
    if (placeSlices(rooms, { shape, sizes }) !== null) most = regions;
  }
  return low * shape.sliceBytes + most * REGION_BYTES;
}

function refusal(rooms: readonly DiskRoom[], shape: VolumeShape): PlacementAnswer {
  const most = largestVolume(rooms, shape);
  const missing = shape.sizeBytes - most;
  return {
    ok: false,
    sentence:
      `${bytesInWords(missing)} is missing: a ${shape.protection} volume here may have at most ` +
      `${bytesInWords(most)} now, ${bytesInWords(shape.sizeBytes)} was asked for`,
    missingBytes: missing,
  };
}

/** Places slices of these sizes, in order; null: no room. */
export function placeSlices(
  rooms: readonly DiskRoom[],
  wanted: { shape: VolumeShape; sizes: readonly number[] },
): PlacedSlice[] | null {
  const { shape, sizes } = wanted;
  return (
    placeWith(new Board(rooms), shape, sizes, { keepHead: true }) ??
    placeWith(new Board(rooms), shape, sizes, { keepHead: false })
  );
}

function placeWith(
  board: Board,
  shape: VolumeShape,
  sizes: readonly number[],
  options: { keepHead: boolean },
): PlacedSlice[] | null {
  const copies = layouts[shape.protection].copies;
  const placed: PlacedSlice[] = [];
  const headed = new Map(shape.headedBytes ?? []);
  let head: UnitNumber | null = shape.head ?? null;
  for (const [index, sizeBytes] of sizes.entries()) {
    const candidates = board.unitsByRoom(sizeBytes);
    const whole = sizes.length - index - 1;
    if (head === null || !candidates.includes(head)) head = leastLaden(candidates, headed);
    if (head === null) return null;
    const first = options.keepHead ? head : (candidates[0] ?? head);
    let chosen = choose(candidates, first, copies);
    if (chosen === null) return null;
    if (!board.staysFeasible(chosen, { sizeBytes, count: whole, copies, full: shape.sliceBytes })) {
      chosen = candidates.slice(0, copies);
    }
    // The volume's head where it is among the chosen, else the least laden of them.
    const leader = chosen.includes(head) ? head : (leastLaden(chosen, headed) ?? head);
    headed.set(leader, (headed.get(leader) ?? 0) + sizeBytes);
    const disks = [leader, ...chosen.filter((unit) => unit !== leader)].map((unit) =>
      board.take(unit, sizeBytes),
    );
    if (disks.some((disk) => disk === null)) return null;
    placed.push({ index, sizeBytes, disks: disks as DiskNumber[] });
  }
  return placed;
}

function choose(
  candidates: readonly UnitNumber[],
  first: UnitNumber,
  copies: number,
): UnitNumber[] | null {
  const others = candidates.filter((unit) => unit !== first);
  if (others.length < copies - 1) return null;
  return [first, ...others.slice(0, copies - 1)];
}

function leastLaden(
  candidates: readonly UnitNumber[],
  headed: ReadonlyMap<UnitNumber, number>,
): UnitNumber | null {
  let best: UnitNumber | null = null;
  for (const unit of candidates) {
    if (best === null || (headed.get(unit) ?? 0) < (headed.get(best) ?? 0)) best = unit;
  }
  return best;
}

function fits(places: readonly number[], slices: number, copies: number): boolean {
  let sum = 0;
  for (const each of places) sum += Math.min(each, slices);
  return sum >= copies * slices;
}

/** Free space while a volume is being placed. */
class Board {
  readonly #free = new Map<DiskNumber, number>();
  readonly #disks = new Map<UnitNumber, DiskNumber[]>();

  constructor(rooms: readonly DiskRoom[]) {
    for (const room of rooms) {
      this.#free.set(room.disk, room.freeBytes);
      const disks = this.#disks.get(room.unit) ?? [];
      disks.push(room.disk);
      this.#disks.set(room.unit, disks);
    }
  }

  /** Units with a disk that has room for it, the one with most space first, then by number. */
  unitsByRoom(sizeBytes: number): UnitNumber[] {
    const found: { unit: UnitNumber; freeBytes: number }[] = [];
    for (const [unit, disks] of this.#disks) {
      let freeBytes = 0;
      let room = false;
      for (const disk of disks) {
        const free = this.#free.get(disk) ?? 0;
        freeBytes += Math.max(0, free);
        if (free >= sizeBytes) room = true;
      }
      if (room) found.push({ unit, freeBytes });
    }
    found.sort((a, b) => b.freeBytes - a.freeBytes || a.unit - b.unit);
    return found.map((each) => each.unit);
  }

  /** Takes room on the unit's emptiest disk. */
  take(unit: UnitNumber, sizeBytes: number): DiskNumber | null {
    let best: DiskNumber | null = null;
    for (const disk of this.#disks.get(unit) ?? []) {
      const free = this.#free.get(disk) ?? 0;
      if (free < sizeBytes) continue;
      if (best === null || free > (this.#free.get(best) ?? 0)) best = disk;
    }
    if (best !== null) this.#free.set(best, (this.#free.get(best) ?? 0) - sizeBytes);
    return best;
  }

  /** Whole slices each unit has room for. */
  places(sliceBytes: number, without: readonly UnitNumber[] = [], sizeBytes = 0): number[] {
    const counts: number[] = [];
    for (const [unit, disks] of this.#disks) {
      const taken = without.includes(unit) ? this.#emptiest(disks, sizeBytes) : null;
      let count = 0;
      for (const disk of disks) {
        const free = (this.#free.get(disk) ?? 0) - (disk === taken ? sizeBytes : 0);
        count += Math.max(0, Math.floor(free / sliceBytes));
      }
      counts.push(count);
    }
    return counts;
  }

  /** Whether `count` whole slices still fit once `chosen` each took one member. */
  staysFeasible(
    chosen: readonly UnitNumber[],
    next: { sizeBytes: number; count: number; copies: number; full: number },
  ): boolean {
    const places = this.places(next.full, chosen, next.sizeBytes);
    return fits(places, next.count, next.copies);
  }

  #emptiest(disks: readonly DiskNumber[], sizeBytes: number): DiskNumber | null {
    let best: DiskNumber | null = null;
    for (const disk of disks) {
      const free = this.#free.get(disk) ?? 0;
      if (free >= sizeBytes && (best === null || free > (this.#free.get(best) ?? 0))) best = disk;
    }
    return best;
  }
}

const SIZE_WORDS = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** A size for a person: 1536 MiB reads "1.5 GiB". */
export function bytesInWords(bytes: number): string {
  let value = bytes;
  let step = 0;
  while (value >= 1024 && step < SIZE_WORDS.length - 1) {
    value /= 1024;
    step++;
  }
  const digits = value >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)} ${SIZE_WORDS[step]}`;
}
