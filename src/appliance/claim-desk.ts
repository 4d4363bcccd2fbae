// SPDX-License-Identifier: Apache-2.0
//
// Claiming the cluster with a code, at one unit: the code itself, and how often it may be tried.
//
// Invariants
// - At most TRIES_MAX wrong tries in any TRIES_MS, whoever asks, and after those the right code is
//   refused too: what is told by a code of 46 bits is then safe for longer than a box lives.
//   Whoever uses up the tries keeps the owner from claiming by code meanwhile, but not by the
//   socket or a token.
// - The right code is no guess, and does not count: a claim may be made again and again.
// - What was typed is compared in equal time, and stands in no message and no log.

import { Fault } from "#base/fault.ts";
import type { World } from "#base/world.ts";
import { sameCode } from "./claim-code.ts";

export const TRIES_MAX = 5;
export const TRIES_MS = 60_000;

export class ClaimDesk {
  /** Null: no code is taken here, since the boot medium names the owner. */
  readonly code: string | null;
  readonly #world: Pick<World, "clock" | "seal" | "log">;
  /** When the last wrong tries were, oldest first. */
  #triesMs: number[] = [];

  constructor(world: Pick<World, "clock" | "seal" | "log">, code: string | null) {
    this.#world = world;
    this.code = code;
  }

  /** Returns if it is the code; else throws the Fault that is the answer. */
  check(typed: string): void {
    const nowMs = this.#world.clock.nowMs();
    this.#triesMs = this.#triesMs.filter((atMs) => nowMs - atMs < TRIES_MS);
    if (this.#triesMs.length >= TRIES_MAX) {
      const waitMs = TRIES_MS - (nowMs - (this.#triesMs[0] ?? nowMs));
      const seconds = Math.ceil(waitMs / 1000);
      throw new Fault("rateLimited", `the claim code may be tried again in ${seconds} s`);
    }
    if (this.code !== null && sameCode(this.#world.seal, typed, this.code)) return;
    this.#triesMs.push(nowMs);
    if (this.code === null) {
      throw new Fault("forbidden", "no code is taken here: the boot medium names the owner");
    }
    const tries = this.#triesMs.length;
    this.#world.log.write("warn", "a wrong claim code was tried", { tries });
    const left = TRIES_MAX - tries;
    throw new Fault(
      "forbidden",
      `that is not this unit's claim code; ${left} more tries this minute`,
    );
  }
}
