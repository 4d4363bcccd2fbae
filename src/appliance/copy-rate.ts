// SPDX-License-Identifier: Apache-2.0
//
// How fast this unit makes copies anew, measured while it does; and whether it must hurry to keep a
// deadline. Pure: fed with the reactor's reports, on the control thread.

import type { SliceNumber } from "#base/record.ts";
import type { SliceReport } from "./data-plane.ts";

/** Less than this says too little. */
const MEASURED_BYTES_MIN = 64 << 20;
/** Older measurements fade: half of what was counted goes once so much has been copied. */
const MEASURED_BYTES_MAX = 2 ** 34;
/** Reports further apart than this belong to different times. */
const APART_MS_MAX = 2000;
/** Part of the time that is left for what is left, before it hurries. */
const CALM_SHARE = 0.7;

type Copied = Pick<SliceReport, "slice" | "resync" | "counters">;

export class CopyRate {
  #bytes = 0;
  #ms = 0;
  #lastMs: number | null = null;
  #lastBytes = 0;
  /** Since when slices headed here lack a copy, by the clock of the reports. */
  readonly #sinceMs = new Map<SliceNumber, number>();
  #leftBytes = 0;

  /** Bytes per second; null: not measured yet. */
  get bytesPerSecond(): number | null {
    if (this.#bytes < MEASURED_BYTES_MIN || this.#ms <= 0) return null;
    return Math.round((1000 * this.#bytes) / this.#ms);
  }

  /** `lacking`: slices that this unit heads and that lack a copy. */
  reported(nowMs: number, slices: readonly Copied[], lacking: ReadonlySet<SliceNumber>): void {
    for (const slice of this.#sinceMs.keys()) if (!lacking.has(slice)) this.#sinceMs.delete(slice);
    for (const slice of lacking) {
      if (!this.#sinceMs.has(slice)) this.#sinceMs.set(slice, nowMs);
    }
    const bytes = slices.reduce((sum, { counters }) => sum + counters.resyncedBytes, 0);
    const copying = slices.filter(({ resync }) => resync !== null && resync.totalBytes > 0);
    this.#leftBytes = copying.reduce((sum, { resync }) => {
      return sum + Math.max(0, (resync?.totalBytes ?? 0) - (resync?.doneBytes ?? 0));
    }, 0);
    const sinceMs = this.#lastMs === null ? 0 : nowMs - this.#lastMs;
    const moved = bytes - this.#lastBytes;
    this.#lastMs = copying.length === 0 ? null : nowMs;
    this.#lastBytes = bytes;
    // Counters begin anew with a slice's object.
    if (sinceMs <= 0 || sinceMs > APART_MS_MAX || moved <= 0) return;
    this.#bytes += moved;
    this.#ms += sinceMs;
    if (this.#bytes < MEASURED_BYTES_MAX) return;
    this.#bytes /= 2;
    this.#ms /= 2;
  }

  /**
   * Whether what is being copied would come too late at the pace measured, or half time is over.
   */
  mustHurry(nowMs: number, withinMs: number): boolean {
    if (withinMs <= 0 || this.#sinceMs.size === 0) return false;
    const since = Math.min(...this.#sinceMs.values());
    const leftMs = since + withinMs - nowMs;
    const rate = this.bytesPerSecond;
    if (rate === null || this.#leftBytes === 0) return leftMs < withinMs / 2;
    return (1000 * this.#leftBytes) / rate > leftMs * CALM_SHARE;
  }
}
