// SPDX-License-Identifier: Apache-2.0
//
// The history that the judge judges: what every host did and saw, in one order of moments. A moment
// is a number that rises with every recorded event, so it respects real time and never ties.

import type { SectorValue } from "./sector-tags.ts";

export type Moment = number;
export const NEVER: Moment = Number.POSITIVE_INFINITY;

export type HostActKind = "read" | "write" | "zero" | "flush";

/** What is known about a write's effect: it happened, it may have, it must not have (refused). */
export type Effect = "sure" | "unknown" | "none";

export interface HostAct {
  kind: HostActKind;
  volume: number;
  firstSector: number;
  count: number;
  /** Of a write; 0 else. */
  tag: number;
  fua: boolean;
  invoke: Moment;
  /** NEVER while, and if, no answer came. */
  ack: Moment;
  /** H7: after this a write without an answer takes no effect any more. */
  fence: Moment;
  effect: Effect;
  /** Of a read that was answered: one per sector. */
  values: Int32Array | null;
  /** Who, and through which unit: for people. */
  host: number;
  unit: number;
}

/** H6: at this moment no in-sync member of these sectors had kept its memory. */
export interface Loss {
  volume: number;
  firstSector: number;
  count: number;
  moment: Moment;
}

export class History {
  readonly acts: HostAct[] = [];
  readonly losses: Loss[] = [];
  #moment = 0;

  moment(): Moment {
    return ++this.#moment;
  }

  begin(
    kind: HostActKind,
    place: { volume: number; firstSector: number; count: number; tag?: number; fua?: boolean },
    who: { host: number; unit: number } = { host: 0, unit: 0 },
  ): HostAct {
    const act: HostAct = {
      kind,
      volume: place.volume,
      firstSector: place.firstSector,
      count: place.count,
      tag: place.tag ?? 0,
      fua: place.fua ?? false,
      invoke: this.moment(),
      ack: NEVER,
      fence: NEVER,
      effect: "unknown",
      values: null,
      host: who.host,
      unit: who.unit,
    };
    this.acts.push(act);
    return act;
  }

  /** The host got its answer: done. */
  acked(act: HostAct, values: readonly SectorValue[] | Int32Array | null = null): void {
    act.ack = this.moment();
    act.effect = "sure";
    act.values = values === null ? null : Int32Array.from(values);
  }

  /** The host was told that nothing was done. */
  refused(act: HostAct): void {
    act.effect = "none";
    act.fence = this.moment();
  }

  /** From now on the act takes no effect any more, if it did not before (H7). */
  fenced(act: HostAct): void {
    if (act.effect === "unknown" && act.fence === NEVER) act.fence = this.moment();
  }

  lost(volume: number, firstSector: number, count: number): void {
    this.losses.push({ volume, firstSector, count, moment: this.moment() });
  }
}
