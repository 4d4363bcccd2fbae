// SPDX-License-Identifier: Apache-2.0
//
// Disks that went out of use in this run of the unit, by identity: whether one is taken again by
// itself. One that was taken out and put in again is, as after a start of the unit, unless it comes
// and goes; one that gave an I/O error only when its owner says so (R10: nothing is retried into
// success).

import type { World } from "#base/world.ts";

/** A disk that was taken out so often within this time is left to its owner. */
const TAKEN_OUT_MAX = 5;
const WITHIN_MS = 3_600_000;
/** Identities remembered; the longest lost is forgotten first, and would be taken again. */
const LOST_MAX = 1024;

interface Lost {
  /** It was taken out; else it failed. */
  isOut: boolean;
  /** When it was taken out, ms. */
  timesMs: number[];
}

export class LostDisks {
  readonly #clock: World["clock"];
  readonly #disks = new Map<string, Lost>();

  constructor(clock: World["clock"]) {
    this.#clock = clock;
  }

  failed(uuid: string): void {
    this.#put(uuid, { isOut: false, timesMs: this.#times(uuid) });
  }

  takenOut(uuid: string): void {
    this.#put(uuid, { isOut: true, timesMs: [...this.#times(uuid), this.#clock.nowMs()] });
  }

  /** Why it is not taken again by itself, the rest of a sentence; null: it is. */
  refusal(uuid: string): string | null {
    const lost = this.#disks.get(uuid);
    if (lost === undefined) return null;
    if (!lost.isOut) return "it failed";
    if (this.#times(uuid).length < TAKEN_OUT_MAX) return null;
    return `it was taken out ${TAKEN_OUT_MAX} times within an hour`;
  }

  /** Whether what it had not made durable is gone: it was out of use in this run. */
  hasLostCache(uuid: string): boolean {
    return this.#disks.has(uuid);
  }

  /** The owner wants it. */
  pardon(uuid: string): void {
    if (this.#disks.has(uuid)) this.#put(uuid, { isOut: true, timesMs: [] });
  }

  #times(uuid: string): number[] {
    const sinceMs = this.#clock.nowMs() - WITHIN_MS;
    return (this.#disks.get(uuid)?.timesMs ?? []).filter((atMs) => atMs > sinceMs);
  }

  #put(uuid: string, lost: Lost): void {
    this.#disks.delete(uuid);
    this.#disks.set(uuid, lost);
    const [oldest] = this.#disks.keys();
    if (this.#disks.size > LOST_MAX && oldest !== undefined) this.#disks.delete(oldest);
  }
}
