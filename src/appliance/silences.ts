// SPDX-License-Identifier: Apache-2.0
//
// Slices that drills keep silent (decision 0040): until when, and what each would have done.

import type { SliceNumber, UnitNumber } from "#base/record.ts";

export interface Silence {
  untilMs: number;
  /** What it would propose; one at a time per slice: whoever waited before is stopped. */
  proposal: (() => void) | null;
  /** Forwarded requests that came meanwhile, as the forwarders' credit bounds them. */
  readonly unanswered: { from: UnitNumber; sequence: number }[];
}

export class Silences {
  readonly #silent = new Map<SliceNumber, Silence>();

  /** Null: it is not silent. */
  of(slice: SliceNumber): Silence | null {
    return this.#silent.get(slice) ?? null;
  }

  begin(slice: SliceNumber, untilMs: number): void {
    const known = this.#silent.get(slice);
    if (known !== undefined) known.untilMs = untilMs;
    else this.#silent.set(slice, { untilMs, proposal: null, unanswered: [] });
  }

  /** Those that are over; they are forgotten. */
  takeEnded(nowMs: number): [SliceNumber, Silence][] {
    if (this.#silent.size === 0) return [];
    const ended = [...this.#silent].filter(([, { untilMs }]) => nowMs >= untilMs);
    for (const [slice] of ended) this.#silent.delete(slice);
    return ended;
  }
}
