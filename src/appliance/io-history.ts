// SPDX-License-Identifier: Apache-2.0
//
// What hosts asked of volumes through this unit, over the last hour: a ring of counts per volume,
// and totals since the daemon started. Bounded: the volume that was quiet longest gives way.

import { addCounts, noCounts } from "#base/request-meter.ts";
import type { RequestCounts } from "#base/request-meter.ts";
import type { VolumeNumber } from "#base/record.ts";

/** One point of a chart, ms. */
export const STEP_MS = 10_000;
/** An hour. */
export const STEPS = 360;
/** Volumes whose history is kept. */
export const VOLUMES_KEPT_MAX = 256;

/** What the reactor counted of one volume since it last said so. */
export interface IoTold extends RequestCounts {
  volume: VolumeNumber;
}

/** The last hour of one volume, oldest first: null where nothing was asked for in a step. */
export interface IoChart {
  /** When the last step ended or will, by the wall clock. */
  endsAtMs: number;
  stepMs: number;
  steps: (RequestCounts | null)[];
}

interface Kept {
  totals: RequestCounts;
  ring: (RequestCounts | null)[];
  /** The step that the newest counts belong to. */
  last: number;
}

export class IoHistory {
  readonly #kept = new Map<VolumeNumber, Kept>();

  take(told: readonly IoTold[], nowMs: number): void {
    const step = Math.floor(nowMs / STEP_MS);
    for (const { volume, ...counts } of told) {
      const kept = this.#of(volume, step);
      forward(kept, step);
      const at = step % STEPS;
      const now = kept.ring[at] ?? noCounts();
      addCounts(now, counts);
      kept.ring[at] = now;
      addCounts(kept.totals, counts);
      // Moved to the end: the order is that of their last requests.
      this.#kept.delete(volume);
      this.#kept.set(volume, kept);
    }
  }

  #of(volume: VolumeNumber, step: number): Kept {
    const known = this.#kept.get(volume);
    if (known !== undefined) return known;
    const [quietest] = this.#kept.keys();
    if (this.#kept.size >= VOLUMES_KEPT_MAX && quietest !== undefined) {
      this.#kept.delete(quietest);
    }
    return { totals: noCounts(), ring: new Array(STEPS).fill(null), last: step };
  }

  /** Since the daemon started, or since the volume was taken up again; null: nothing is known. */
  totals(volume: VolumeNumber): RequestCounts | null {
    return this.#kept.get(volume)?.totals ?? null;
  }

  /** Of all volumes, over the last steps. */
  lastSteps(steps: number, nowMs: number): RequestCounts {
    const sum = noCounts();
    const now = Math.floor(nowMs / STEP_MS);
    for (const kept of this.#kept.values()) {
      for (let at = Math.max(0, now - steps); at < now; at++) {
        const counts = at > kept.last || at <= kept.last - STEPS ? null : kept.ring[at % STEPS];
        if (counts != null) addCounts(sum, counts);
      }
    }
    return sum;
  }

  chart(volume: VolumeNumber, now: { nowMs: number; wallMs: number }): IoChart {
    const step = Math.floor(now.nowMs / STEP_MS);
    const endsAtMs = now.wallMs + ((step + 1) * STEP_MS - now.nowMs);
    const kept = this.#kept.get(volume);
    const steps = Array.from({ length: STEPS }, (_, index): RequestCounts | null => {
      const at = step - (STEPS - 1 - index);
      if (kept === undefined || at > kept.last || at <= kept.last - STEPS || at < 0) return null;
      return kept.ring[at % STEPS] ?? null;
    });
    return { endsAtMs: Math.round(endsAtMs), stepMs: STEP_MS, steps };
  }
}

/** Forgets what the ring still holds of an hour ago. */
function forward(kept: Kept, step: number): void {
  for (let at = Math.max(kept.last + 1, step - STEPS + 1); at <= step; at++) {
    kept.ring[at % STEPS] = null;
  }
  kept.last = Math.max(kept.last, step);
}

/** Charts of several units, put together by time: their steps need not begin at one moment. */
export function joinCharts(charts: readonly IoChart[]): IoChart | null {
  const [first] = charts;
  if (first === undefined) return null;
  const endsAtMs = Math.max(...charts.map((chart) => chart.endsAtMs));
  const steps = Array.from({ length: STEPS }, (): RequestCounts | null => null);
  for (const chart of charts) {
    const later = Math.round((endsAtMs - chart.endsAtMs) / STEP_MS);
    for (const [index, counts] of chart.steps.entries()) {
      const at = index - later;
      if (counts === null || at < 0 || at >= STEPS) continue;
      const sum = steps[at] ?? noCounts();
      addCounts(sum, counts);
      steps[at] = sum;
    }
  }
  return { endsAtMs, stepMs: first.stepMs, steps };
}
