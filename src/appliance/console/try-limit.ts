// SPDX-License-Identifier: Apache-2.0
//
// How often a password may be tried: per address, and by all together, so that many addresses do
// not help. Whoever uses up the tries of one address locks out nobody at another, until the limit
// for all is met; the owner's token as a bearer token always works.
//
// Memory is bounded by the number of addresses; the one heard longest ago is forgotten first. An
// IPv6 host has a whole /64, so that is what counts.

import { Fault } from "#base/fault.ts";
import type { Clock } from "#base/world.ts";
import { addressBytes } from "#cluster/address-range.ts";

export const TRIES_MAX = 5;
export const TRIES_OF_ALL_MAX = 60;
export const TRIES_MS = 60_000;
const ADDRESSES_MAX = 256;
const ALL = "all";

export class TryLimit {
  readonly #clock: Pick<Clock, "nowMs">;
  /** When the last tries were, oldest first. */
  readonly #tries = new Map<string, number[]>();

  constructor(clock: Pick<Clock, "nowMs">) {
    this.#clock = clock;
  }

  /** Counts a try from an address; a Fault when there were too many. */
  take(address: string): void {
    const place = placeOf(address);
    const own = this.#recent(place);
    const all = this.#recent(ALL);
    if (own.length >= TRIES_MAX) throw this.#tooMany(own);
    if (all.length >= TRIES_OF_ALL_MAX) throw this.#tooMany(all);
    const nowMs = this.#clock.nowMs();
    this.#keep(place, [...own, nowMs]);
    this.#keep(ALL, [...all, nowMs]);
  }

  /** The person behind the address proved who it is: its tries are forgotten. */
  forget(address: string): void {
    this.#tries.delete(placeOf(address));
  }

  #recent(place: string): number[] {
    const nowMs = this.#clock.nowMs();
    return (this.#tries.get(place) ?? []).filter((atMs) => nowMs - atMs < TRIES_MS);
  }

  #keep(place: string, triesMs: number[]): void {
    this.#tries.delete(place);
    this.#tries.set(place, triesMs);
    if (this.#tries.size <= ADDRESSES_MAX) return;
    for (const oldest of this.#tries.keys()) {
      if (oldest === ALL) continue;
      this.#tries.delete(oldest);
      return;
    }
  }

  #tooMany(triesMs: number[]): Fault {
    const waitMs = TRIES_MS - (this.#clock.nowMs() - (triesMs[0] ?? 0));
    return new Fault("rateLimited", `try again in ${Math.ceil(waitMs / 1000)} s`);
  }
}

function placeOf(address: string): string {
  const bytes = addressBytes(address);
  if (bytes === null) return "unknown";
  const isMapped = bytes.subarray(0, 12).toHex() === `${"00".repeat(10)}ffff`;
  return bytes.subarray(0, isMapped ? 16 : 8).toHex();
}
