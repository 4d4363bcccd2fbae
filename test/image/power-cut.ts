// SPDX-License-Identifier: Apache-2.0
//
// Cuts of power at random moments of something that a box does. Moments are drawn from a seed, as a
// share of what the whole takes, and the clock is the work that the emulation has done for the box
// (this machine's processor time): a busy machine does not move them.
//
// CAIRN_POWER_CUTS says how many cuts there are, and CAIRN_POWER_CUT_SEED where.

import { Prng } from "#base/prng.ts";
import { pause } from "#test/cluster/until.ts";
import type { Box } from "./box.ts";
import type { Forgotten } from "./lossy-disk.ts";

const LOOK_MS = 50;

/**
 * How many cuts of first boots and of updates, and from which seed; a failure prints the seed.
 */
export function cutsWanted(): { firstBoots: number; updates: number; seed: number } {
  const number = (name: string, initial: number) => {
    const value = Number(process.env[name] ?? initial);
    if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${name} is no whole number`);
    return value;
  };
  const count = number("CAIRN_POWER_CUTS", 3);
  const firstBoots = Math.ceil(count / 2);
  return { firstBoots, updates: count - firstBoots, seed: number("CAIRN_POWER_CUT_SEED", 1) };
}

export class CutMoments {
  readonly seed: number;
  /** What a disk forgets. */
  readonly dice: Prng;
  readonly #prng: Prng;

  constructor(seed: number) {
    this.seed = seed;
    this.#prng = new Prng(seed);
    this.dice = this.#prng.fork();
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
  dice: Prng,
): Promise<Forgotten | null> {
  while (box.processorSeconds() - cut.sinceSeconds < cut.workSeconds) {
    box.stillRuns();
    await pause(LOOK_MS);
  }
  return box.powerCut(dice);
}

/** For a person. */
export function forgottenInWords(forgotten: Forgotten | null): string {
  if (forgotten === null) return "its disk kept all it was given";
  const { kept, lost, torn } = forgotten;
  return `of what was not flushed its disk kept ${kept} writes, lost ${lost} and tore ${torn}`;
}
