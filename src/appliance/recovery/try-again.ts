// SPDX-License-Identifier: Apache-2.0
//
// When the recovery starts the daemon again by itself: what made that end (a machine that was too
// busy, a disk that was away) may have passed, and nobody may be there to press the button. Not
// while somebody is signed in and at work, who would lose the page.

import type { Timers } from "#base/world.ts";

/** After the recovery began, and after somebody signed in has last asked for something, ms. */
export const TRY_AGAIN_MS = 120_000;

export interface TryAgainFacts {
  nowMs: number;
  /** Of this recovery. */
  sinceMs: number;
  /** When somebody signed in was seen last; -Infinity: nobody was. */
  usedMs: number;
  /** What made the daemon end passes by itself: not where the box has no state. */
  mayPass: boolean;
}

/** How long until the daemon is started again, ms; null: never by itself. */
export function tryAgainInMs({ nowMs, sinceMs, usedMs, mayPass }: TryAgainFacts): number | null {
  if (!mayPass) return null;
  return Math.max(0, Math.max(sinceMs, usedMs) + TRY_AGAIN_MS - nowMs);
}

/** Acts once it is due, which may move while it waits. Answers how to end the waiting. */
export function whenDue(timers: Timers, dueInMs: () => number | null, act: () => void): () => void {
  let cancel = () => {};
  const wait = () => {
    const ms = dueInMs();
    if (ms === null) return;
    if (ms === 0) return act();
    cancel = timers.after(ms, wait);
  };
  wait();
  return () => cancel();
}
