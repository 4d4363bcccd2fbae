// SPDX-License-Identifier: Apache-2.0
//
// A unit's liveness lease, and the election of the control station by it (design section 6).
//
// The lease holds `/alive/<n>` and, on the unit that leads, `/control-station` with its term. Both
// are hints: nothing is safe because a unit believes it leads (safety is the compare-and-swap of
// every change). A unit stops believing by its own clock: the lease counts from when its last
// renewal was
// *sent*, so it ends here before it ends in the store.

import { Fault } from "#base/fault.ts";
import type { UnitNumber } from "#base/record.ts";
import type { Timers, World } from "#base/world.ts";
import type { ControlStore, LeaseId } from "./control-store.ts";
import { StationSchema, keys, parseValue, valueText } from "./state.ts";
import type { UnitFigures } from "./deadline.ts";
import type { SliceNews } from "./slice-news.ts";
import type { ViewFollower } from "./view-follower.ts";

/** Long enough for a busy machine to renew four times; nothing on the data path waits for it. */
export const LEASE_TTL_MS = 4000;
/** A renewal this slow counts as a sign of a slow control store or a slow self. */
const SLOW_MS = 1000;
/** So many slow ones in a row: the station hands over, and does not stand for a while. */
const SLOW_ROUNDS = 8;
const STAND_BACK_MS = 60_000;

export interface UnitLeaseOptions {
  unit: UnitNumber;
  /** Random per start of the daemon. */
  run: string;
  /** A witness or a unit on its way out does not stand, and hands over where others can. */
  mayLead(): boolean;
  ttlMs?: number;
  /** Since when a unit's daemon is dead for certain; null: nobody knows (death-proof.ts). */
  deadSince?(unit: UnitNumber): number | null;
  /** What others are to know of its slices, bounded as AliveSchema is. */
  news?(): readonly SliceNews[];
  /** What it holds and how fast it copies, rounded. */
  figures?(): UnitFigures;
}

export class UnitLease {
  readonly #world: Pick<World, "clock" | "log" | "random">;
  readonly #timers: Timers;
  readonly #store: ControlStore;
  readonly #follower: ViewFollower;
  readonly #options: UnitLeaseOptions;
  readonly #ttlMs: number;
  #lease: LeaseId | null = null;
  /** The value of `/alive/<n>` that is in the store, as far as is known. */
  #said = "";
  /** CLOCK_BOOTTIME until which the lease holds for sure. */
  #heldUntilMs = 0;
  #term = 0;
  #began: { atMs: number; provenDeadMs: number | null } = { atMs: 0, provenDeadMs: null };
  #slowRounds = 0;
  #standBackUntilMs = 0;
  #cancelNext: (() => void) | null = null;
  #unlisten: (() => void) | null = null;
  #busy = false;
  #again = false;
  #stopped = false;
  /** Called when this unit begins or ends to be the control station. */
  onLead: (leads: boolean, term: number) => void = () => {};

  constructor(
    world: Pick<World, "clock" | "log" | "random">,
    timers: Timers,
    parts: { store: ControlStore; follower: ViewFollower; options: UnitLeaseOptions },
  ) {
    this.#world = world;
    this.#timers = timers;
    this.#store = parts.store;
    this.#follower = parts.follower;
    this.#options = parts.options;
    this.#ttlMs = parts.options.ttlMs ?? LEASE_TTL_MS;
  }

  /** Whether this unit is the control station, as far as it can know; the term it leads in. */
  get leads(): boolean {
    return this.#term > 0 && this.#world.clock.nowMs() < this.#heldUntilMs;
  }
  get term(): number {
    return this.#term;
  }
  /** For how long it leads for certain without another renewal, ms; 0: it does not lead. */
  get leadsForMs(): number {
    return this.#term > 0 ? Math.max(0, this.#heldUntilMs - this.#world.clock.nowMs()) : 0;
  }
  /**
   * When it began to lead, and since when its predecessor was proven dead; null: it ended itself.
   */
  get began(): { atMs: number; provenDeadMs: number | null } {
    return this.#began;
  }
  /** Looks at once: something that bears on who leads may have changed. */
  wake(): void {
    this.#wake();
  }

  start(): void {
    // A vacant station is filled at once, not at the next round.
    this.#unlisten = this.#follower.view.onChange((changes) => {
      if (changes.some((change) => change.kind === "station" && change.value === null))
        this.#wake();
    });
    this.#wake();
  }

  /** Gives up lead and liveness in order: others need not wait for the lease to run out. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#unlisten?.();
    this.#cancelNext?.();
    const lease = this.#lease;
    this.#lose();
    if (lease === null) return;
    try {
      await this.#store.revokeLease(lease);
    } catch (error) {
      if (!(error instanceof Fault)) throw error; // away: it runs out by itself
    }
  }

  #wake(): void {
    if (this.#stopped) return;
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#cancelNext?.();
    this.#cancelNext = null;
    void this.#round();
  }

  async #round(): Promise<void> {
    this.#busy = true;
    this.#again = false;
    try {
      await this.#renew();
      if (!this.#stopped && this.#lease !== null) await this.#stand(this.#lease);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#world.log.write("debug", "the unit's lease was not renewed", { reason: error.message });
    }
    this.#busy = false;
    if (this.#stopped) return;
    if (this.#term > 0 && !this.leads) this.#lose();
    const delayMs = this.#again
      ? 0
      : (this.#ttlMs / 4) * (0.9 + 0.2 * this.#world.random.fraction());
    this.#cancelNext = this.#timers.after(delayMs, () => this.#wake());
  }

  async #renew(): Promise<void> {
    const sentMs = this.#world.clock.nowMs();
    if (this.#lease !== null && !(await this.#store.keepAlive(this.#lease))) this.#lose();
    if (this.#stopped) return;
    if (this.#lease === null) {
      const { lease } = await this.#store.grantLease(this.#ttlMs);
      await this.#sayAlive(lease);
      if (this.#stopped) return;
      this.#lease = lease;
    } else if (
      // An answer that was lost earlier may have tied the key to a lease that has ended since.
      !this.#follower.view.alive.has(this.#options.unit) ||
      this.#aliveText() !== this.#said
    ) {
      await this.#sayAlive(this.#lease);
    }
    this.#heldUntilMs = sentMs + this.#ttlMs;
    const slow = this.#world.clock.nowMs() - sentMs > SLOW_MS;
    this.#slowRounds = slow ? this.#slowRounds + 1 : 0;
    if (this.#term === 0) return;
    if (this.#slowRounds >= SLOW_ROUNDS) await this.#handOver("commits are slow here");
    else if (!this.#options.mayLead()) await this.#handOver("this unit is on its way out");
  }

  async #sayAlive(lease: LeaseId): Promise<void> {
    const value = this.#aliveText();
    const put = { key: keys.aliveOf(this.#options.unit), value, lease };
    await this.#store.transaction({ ifs: [], puts: [put] });
    this.#said = value;
  }

  #aliveText(): string {
    const { unit, run, news, figures } = this.#options;
    const slices = news?.() ?? [];
    return valueText({ unit, run, ...figures?.(), ...(slices.length === 0 ? {} : { slices }) });
  }

  /** Gray failure: who cannot commit in time lets another try (design section 6). */
  async #handOver(why: string): Promise<void> {
    this.#standBackUntilMs = this.#world.clock.nowMs() + STAND_BACK_MS;
    this.#slowRounds = 0;
    if (!this.#hasOthers) return;
    this.#world.log.write("warn", `${why}: the control station is handed over`);
    this.#resign();
    await this.#giveBack();
  }

  get #hasOthers(): boolean {
    return [...this.#follower.view.alive.keys()].some((unit) => unit !== this.#options.unit);
  }

  async #giveBack(): Promise<void> {
    const ifs = [this.#follower.view.compare(keys.station)];
    await this.#store.transaction({ ifs, deletes: [keys.station] });
  }

  async #stand(lease: LeaseId): Promise<void> {
    const view = this.#follower.view;
    if (this.#term > 0 || view.cluster === null) return;
    const mayStand = this.#options.mayLead() && this.#world.clock.nowMs() >= this.#standBackUntilMs;
    if (view.station?.unit === this.#options.unit) {
      // What handed it over was lost on its way: the key would stay as long as the lease does.
      return mayStand || !this.#hasOthers ? this.#adopt(lease) : this.#giveBack();
    }
    if (!mayStand) return;
    // One that is dead for certain need not be waited for: its lease protects nobody.
    const deadSinceMs = this.#deadSince(view.station?.unit ?? null);
    if (view.station !== null && deadSinceMs === null) return;
    const term = view.term + 1;
    const station = { unit: this.#options.unit, term };
    const sentMs = this.#world.clock.nowMs();
    const { committed } = await this.#store.transaction({
      ifs: [view.compare(keys.station), view.compare(keys.term), view.compare(keys.cluster)],
      puts: [
        { key: keys.station, value: valueText(station), lease },
        { key: keys.term, value: JSON.stringify(term) },
      ],
    });
    if (!committed || this.#stopped || this.#lease !== lease) return;
    if (this.#world.clock.nowMs() - sentMs > this.#ttlMs) return; // too late to count on it
    this.#began = { atMs: this.#world.clock.nowMs(), provenDeadMs: deadSinceMs };
    this.#term = term;
    this.onLead(true, term);
  }

  #deadSince(unit: UnitNumber | null): number | null {
    return unit === null ? null : (this.#options.deadSince?.(unit) ?? null);
  }

  /** Elected without knowing: the answer was lost. With an earlier run's lease it is not ours. */
  async #adopt(lease: LeaseId): Promise<void> {
    const { entry } = await this.#store.get(keys.station);
    if (entry === null || entry.lease !== lease || this.#lease !== lease || this.#stopped) return;
    const record = parseValue(StationSchema, keys.station, entry.value);
    if (record.unit !== this.#options.unit) return;
    this.#began = { atMs: this.#world.clock.nowMs(), provenDeadMs: null };
    this.#term = record.term;
    this.onLead(true, record.term);
  }

  /** The lease is gone, or may be. */
  #lose(): void {
    this.#lease = null;
    this.#heldUntilMs = 0;
    this.#resign();
  }

  #resign(): void {
    if (this.#term === 0) return;
    const term = this.#term;
    this.#term = 0;
    this.onLead(false, term);
  }
}
