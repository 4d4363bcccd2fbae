// SPDX-License-Identifier: Apache-2.0
//
// How long resyncs will take, by the pace that was seen: of each slice that is brought up, what was
// done at which time over the last minute. Before a few seconds of it nobody knows, and nothing is
// guessed.

import type { SliceNumber } from "#base/record.ts";

/** Over which the pace is taken, and from which on it says something, ms. */
const WINDOW_MS = 60_000;
const LEAST_MS = 5_000;

export interface Progress {
  slice: SliceNumber;
  resync: { doneBytes: number; totalBytes: number } | null;
}

interface Point {
  atMs: number;
  doneBytes: number;
}

export class ResyncPace {
  readonly #points = new Map<SliceNumber, Point[]>();

  take(slices: readonly Progress[], nowMs: number): void {
    const seen = new Set<SliceNumber>();
    for (const { slice, resync } of slices) {
      if (resync === null) continue;
      seen.add(slice);
      const points = this.#points.get(slice) ?? [];
      const last = points.at(-1);
      // It began anew: what was before tells nothing.
      if (last !== undefined && resync.doneBytes < last.doneBytes) points.length = 0;
      points.push({ atMs: nowMs, doneBytes: resync.doneBytes });
      while ((points[1]?.atMs ?? nowMs) <= nowMs - WINDOW_MS) points.shift();
      this.#points.set(slice, points);
    }
    for (const slice of this.#points.keys()) if (!seen.has(slice)) this.#points.delete(slice);
  }

  /** Null: not known yet, or nothing moved in the last minute. */
  leftMs(slice: SliceNumber, totalBytes: number): number | null {
    const points = this.#points.get(slice);
    const first = points?.[0];
    const last = points?.at(-1);
    if (first === undefined || last === undefined) return null;
    const passedMs = last.atMs - first.atMs;
    const moved = last.doneBytes - first.doneBytes;
    if (passedMs < LEAST_MS || moved <= 0) return null;
    return Math.round((Math.max(0, totalBytes - last.doneBytes) / moved) * passedMs);
  }
}
