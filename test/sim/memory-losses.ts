// SPDX-License-Identifier: Apache-2.0
//
// Where eras end (contract.md, H6): the moments at which no in-sync member of a slice had kept its
// memory. Follows the committed records as the control store commits them, and the power cuts. The
// death of a process is no loss: the disk's cache outlives it.

import type { DiskNumber, Incarnation, SliceNumber, SliceRecord } from "#base/record.ts";

export interface SlicePlace {
  volume: number;
  firstSector: number;
  sectors: number;
}

export class MemoryLosses {
  readonly #places: ReadonlyMap<SliceNumber, SlicePlace>;
  readonly #onLoss: (slice: SliceNumber, place: SlicePlace) => void;
  readonly #records = new Map<SliceNumber, SliceRecord>();
  /** The newest incarnation of each disk that was seen. */
  readonly #newest = new Map<DiskNumber, Incarnation>();
  /** Incarnations up to this one have lost their memory. */
  readonly #lostUpTo = new Map<DiskNumber, Incarnation>();
  /** The epoch for which a slice's loss was told. */
  readonly #told = new Map<SliceNumber, number>();

  constructor(
    places: ReadonlyMap<SliceNumber, SlicePlace>,
    onLoss: (slice: SliceNumber, place: SlicePlace) => void,
  ) {
    this.#places = places;
    this.#onLoss = onLoss;
  }

  record(slice: SliceNumber): SliceRecord | null {
    return this.#records.get(slice) ?? null;
  }
  records(): SliceRecord[] {
    return [...this.#records.values()];
  }

  committed(record: SliceRecord): void {
    this.#records.set(record.slice, record);
    for (const { disk, incarnation } of record.inSync) this.started(disk, incarnation);
    this.#check(record);
  }

  started(disk: DiskNumber, incarnation: Incarnation): void {
    this.#newest.set(disk, Math.max(incarnation, this.#newest.get(disk) ?? 0));
  }

  /** The disk's cache is gone, and with it all that its incarnations so far had not flushed. */
  powerCut(disk: DiskNumber): void {
    this.#lostUpTo.set(disk, this.#newest.get(disk) ?? 0);
    for (const record of this.#records.values()) this.#check(record);
  }

  #check(record: SliceRecord): void {
    const allLost = record.inSync.every(
      ({ disk, incarnation }) => incarnation <= (this.#lostUpTo.get(disk) ?? 0),
    );
    if (!allLost || this.#told.get(record.slice) === record.epoch) return;
    this.#told.set(record.slice, record.epoch);
    const place = this.#places.get(record.slice);
    if (place !== undefined) this.#onLoss(record.slice, place);
  }
}
