// SPDX-License-Identifier: Apache-2.0
//
// Decisions about who is in a slice's set: the records that heads and members propose (R2, R3, R7),
// and when a former member may come back. Pure, so that each decision can be read and tested by
// itself.

import { disksOf } from "#base/record.ts";
import type { DiskNumber, InSyncMember, SliceRecord } from "#base/record.ts";

/** One change that a head proposes. */
export interface HeadChange {
  /** R2: these leave. */
  lost?: readonly DiskNumber[];
  /** Those of them that are to be brought up again once they are back: nobody takes their place. */
  awaited?: readonly DiskNumber[];
  /** R7: this target is complete. */
  ready?: InSyncMember;
  /** R7: this former member is to be brought up again. */
  returning?: DiskNumber;
  /** These targets were away too long: others may be brought up in their place. */
  gone?: readonly DiskNumber[];
}

export function nextRecord(record: SliceRecord, change: HeadChange): SliceRecord {
  const { lost = [], awaited = [], ready, returning, gone = [] } = change;
  const inSync = record.inSync.filter((member) => !lost.includes(member.disk));
  if (ready !== undefined) inSync.push(ready);
  const resyncing = record.resyncing.filter((disk) => disk !== ready?.disk && !gone.includes(disk));
  resyncing.push(...awaited);
  if (returning !== undefined) resyncing.push(returning);
  return { ...record, epoch: record.epoch + 1, inSync, resyncing };
}

/** In sync this long, a member has shown that it stays. */
const STEADY_MS = 60_000;

interface Return {
  heardMs: number;
  notBeforeMs: number;
  delayMs: number;
  cameMs: number;
  wasMember: boolean;
}

/** Former members that are heard of again; those that flap wait longer each time. */
export class Returns {
  readonly #delayMs: number;
  readonly #delayMaxMs: number;
  readonly #disks = new Map<DiskNumber, Return>();

  constructor(options: { delayMs: number; delayMaxMs: number }) {
    this.#delayMs = options.delayMs;
    this.#delayMaxMs = options.delayMaxMs;
  }

  heard(disk: DiskNumber, nowMs: number): void {
    this.#of(disk).heardMs = nowMs;
  }

  /** It is in sync (again). */
  came(disk: DiskNumber, nowMs: number): void {
    this.#of(disk).cameMs = nowMs;
  }

  /** It had to leave. The first time it may come back at once; soon again, it waits. */
  left(disk: DiskNumber, nowMs: number): void {
    const known = this.#of(disk);
    known.wasMember = true;
    if (nowMs - known.cameMs >= STEADY_MS) {
      known.delayMs = 0;
    } else {
      known.delayMs = Math.min(this.#delayMaxMs, Math.max(this.#delayMs, known.delayMs * 2));
    }
    known.notBeforeMs = nowMs + known.delayMs;
  }

  /** It was the head before this one. */
  led(disk: DiskNumber): void {
    this.#of(disk).wasMember = true;
  }

  /** A former member, not named, that is waited for though nobody hears it; null: none. */
  awaited(record: SliceRecord, maintained: ReadonlySet<DiskNumber>): DiskNumber | null {
    const named = disksOf(record);
    for (const disk of maintained) {
      if (this.#disks.get(disk)?.wasMember === true && !named.includes(disk)) return disk;
    }
    return null;
  }

  /** One that may come back now, or null: not named, heard just now, linked. */
  next(nowMs: number, record: SliceRecord, links: ReadonlySet<DiskNumber>): DiskNumber | null {
    const named = disksOf(record);
    for (const [disk, known] of this.#disks) {
      if (named.includes(disk)) continue;
      if (nowMs - known.heardMs > 3000 || nowMs < known.notBeforeMs || !links.has(disk)) continue;
      return disk;
    }
    return null;
  }

  #of(disk: DiskNumber): Return {
    const known = this.#disks.get(disk);
    if (known !== undefined) return known;
    const never = Number.NEGATIVE_INFINITY;
    const made = {
      heardMs: never,
      notBeforeMs: never,
      delayMs: 0,
      cameMs: never,
      wasMember: false,
    };
    this.#disks.set(disk, made);
    return made;
  }
}
