// SPDX-License-Identifier: Apache-2.0
//
// Cuts of power at random moments of something that a box does. Moments are drawn from a seed, as a
// share of what the whole takes, and the clock is the work that the emulation has done for the box
// (this machine's processor time): a busy machine does not move them.

import { Prng } from "#base/prng.ts";
import { pause } from "#test/cluster/until.ts";
import type { Box } from "./box.ts";

const LOOK_MS = 50;

/** How many cuts, and from which seed; a failure prints the seed. */
export function cutsWanted(): { count: number; seed: number } {
  const number = (name: string, initial: number) => {
    const value = Number(process.env[name] ?? initial);
    if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${name} is no whole number`);
    return value;
  };
  return { count: number("CAIRN_POWER_CUTS", 3), seed: number("CAIRN_POWER_CUT_SEED", 1) };
}

export class CutMoments {
  readonly seed: number;
  readonly #prng: Prng;

  constructor(seed: number) {
    this.seed = seed;
    this.#prng = new Prng(seed);
  }

  /** Work after which to cut, of something that takes `workSeconds`. */
  next(workSeconds: number): number {
    return (this.#prng.below(10_000) / 10_000) * workSeconds;
  }
}

/** Cuts the box once it has done this much work since `sinceSeconds` of its clock. */
export async function cutAfter(
  box: Box,
  cut: { sinceSeconds: number; workSeconds: number },
): Promise<void> {
  while (box.processorSeconds() - cut.sinceSeconds < cut.workSeconds) {
    box.stillRuns();
    await pause(LOOK_MS);
  }
  await box.powerCut();
}
