// SPDX-License-Identifier: Apache-2.0
//
// Whether another unit's daemon is dead for certain: the kernel of its box refuses connections to
// its control port, at the address that is that unit's alone. A cut network, a box without power or
// a daemon that hangs refuses nothing and proves nothing; then its lease has to run out.
//
// Invariants
// - A proof is not older than FRESH_MS: the daemon may be started again at any moment.
// - After a link went down it is asked for WATCH_MS, no longer: a unit that is away for days costs
//   nothing.

import type { UnitNumber } from "#base/record.ts";
import type { Clock, Timers } from "#base/world.ts";

const ASK_EVERY_MS = 200;
const WATCH_MS = 15_000;
/** Less than a daemon takes from its start until it can lead anything. */
const FRESH_MS = 600;

interface Suspect {
  downMs: number;
  /** Of an unbroken row of refusals the first and the last; null: none. */
  refused: { firstMs: number; lastMs: number } | null;
  cancel: () => void;
}

export class DeathProof {
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #isRefused: (unit: UnitNumber) => Promise<boolean>;
  readonly #suspects = new Map<UnitNumber, Suspect>();
  /** Called at every proof. */
  onProven: (unit: UnitNumber) => void = () => {};

  /** `isRefused`: whether a connection is refused by the unit's box; never rejects. */
  constructor(
    world: { clock: Clock },
    timers: Timers,
    isRefused: (unit: UnitNumber) => Promise<boolean>,
  ) {
    this.#clock = world.clock;
    this.#timers = timers;
    this.#isRefused = isRefused;
  }

  linkChanged(unit: UnitNumber, { up }: { up: boolean }): void {
    this.#forget(unit);
    if (up) return;
    const downMs = this.#clock.nowMs();
    const suspect: Suspect = { downMs, refused: null, cancel: () => {} };
    this.#suspects.set(unit, suspect);
    void this.#ask(unit, suspect);
  }

  #forget(unit: UnitNumber): void {
    this.#suspects.get(unit)?.cancel();
    this.#suspects.delete(unit);
  }

  /** Since when it is dead without a break (CLOCK_BOOTTIME); null: that is not proven now. */
  deadSince(unit: UnitNumber): number | null {
    const refused = this.#suspects.get(unit)?.refused ?? null;
    if (refused === null || this.#clock.nowMs() - refused.lastMs > FRESH_MS) return null;
    return refused.firstMs;
  }

  stop(): void {
    for (const unit of [...this.#suspects.keys()]) this.#forget(unit);
  }

  async #ask(unit: UnitNumber, suspect: Suspect): Promise<void> {
    const isRefused = await this.#isRefused(unit);
    if (this.#suspects.get(unit) !== suspect) return;
    const nowMs = this.#clock.nowMs();
    const isUnbroken = suspect.refused !== null && nowMs - suspect.refused.lastMs <= FRESH_MS;
    const firstMs = isUnbroken ? (suspect.refused?.firstMs ?? nowMs) : nowMs;
    suspect.refused = isRefused ? { firstMs, lastMs: nowMs } : null;
    if (isRefused) this.onProven(unit);
    if (nowMs - suspect.downMs > WATCH_MS) return this.#forget(unit);
    suspect.cancel = this.#timers.after(ASK_EVERY_MS, () => void this.#ask(unit, suspect));
  }
}
