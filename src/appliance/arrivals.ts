// SPDX-License-Identifier: Apache-2.0
//
// Units that come in by their owner's word: those without a join secret, by the words that their
// screens show or whatever asks within a window; and a removed one that is made new.
//
// A window is this unit's alone, in memory: it ends by its clock, with its number of units, or with
// the daemon; it can be forgotten, never stay open.

import { Fault } from "#base/fault.ts";
import type { Timers, World } from "#base/world.ts";
import { WINDOW_SECONDS_MAX, WINDOW_UNITS_MAX } from "#cluster/arrival-changes.ts";
import type { Stranger } from "#cluster/discovery-units.ts";
import { endDryRun } from "./dry-run.ts";
import type { StrangerView } from "./backend.ts";
import type { ClusterLife } from "./cluster-life.ts";
import type { Unit } from "./unit.ts";

const LOOK_EVERY_MS = 1000;
/** A unit in the window that could not be given the secret is tried again after this. */
const AGAIN_MS = 15_000;

export interface WindowView {
  secondsLeft: number;
  unitsLeft: number;
}

export interface ArrivalsView {
  waiting: StrangerView[];
  /** Null: closed, at this unit. */
  window: WindowView | null;
}

export interface Arrivals {
  list(): ArrivalsView;
  /** Gives the join secret to the waiting unit with these words. */
  admit(words: string): Promise<StrangerView>;
  /** Gives it to whatever waits or comes within `seconds`, to so many units at most. */
  openWindow(options: { seconds: number; units: number }): Promise<WindowView>;
  closeWindow(): Promise<void>;
  /** Makes this unit new after it was removed from its cluster. */
  renew(): void;
}

interface Window {
  untilMs: number;
  unitsLeft: number;
  came: number;
  /** When each was tried last. */
  tried: Map<string, number>;
}

/** What it needs of the unit; `life` throws while that is in no cluster. */
type ArrivalUnit = Pick<Unit, "giveSecret" | "renew" | "stopping"> & {
  discovery: Pick<Unit["discovery"], "strangers">;
};

export class UnitArrivals implements Arrivals {
  readonly #world: Pick<World, "clock" | "log">;
  readonly #timers: Timers;
  readonly #unit: ArrivalUnit;
  readonly #life: () => Pick<ClusterLife, "commands">;
  #window: Window | null = null;

  constructor(
    world: Pick<World, "clock" | "log">,
    timers: Timers,
    parts: { unit: ArrivalUnit; life: () => Pick<ClusterLife, "commands"> },
  ) {
    this.#world = world;
    this.#timers = timers;
    this.#unit = parts.unit;
    this.#life = parts.life;
  }

  list(): ArrivalsView {
    const window = this.#window;
    const waiting = this.#unit.discovery.strangers.map(viewOf);
    if (window === null) return { waiting, window: null };
    const leftMs = Math.max(0, window.untilMs - this.#world.clock.nowMs());
    const secondsLeft = Math.ceil(leftMs / 1000);
    return { waiting, window: { secondsLeft, unitsLeft: window.unitsLeft } };
  }

  async admit(words: string): Promise<StrangerView> {
    const wanted = words
      .trim()
      .toLowerCase()
      .split(/[\s-]+/)
      .join(" ");
    const stranger = this.#unit.discovery.strangers.find((one) => one.words === wanted);
    if (stranger === undefined) {
      const hint = "its words are on its screen and in the list of units that wait";
      throw new Fault("notFound", `no unit with these words waits here; ${hint}`);
    }
    await this.#letIn(stranger, "words");
    return viewOf(stranger);
  }

  async openWindow({ seconds, units }: { seconds: number; units: number }): Promise<WindowView> {
    const isLimited = seconds <= WINDOW_SECONDS_MAX && units <= WINDOW_UNITS_MAX;
    if (!isLimited || seconds < 1 || units < 1) {
      const most = `at most ${WINDOW_SECONDS_MAX} s and ${WINDOW_UNITS_MAX} units`;
      throw new Fault("badRequest", `a window is open for ${most}`);
    }
    await this.#life().commands.ask("tellWindow", { kind: "opened", seconds, units });
    const untilMs = this.#world.clock.nowMs() + seconds * 1000;
    const isNew = this.#window === null;
    const { came, tried } = this.#window ?? { came: 0, tried: new Map<string, number>() };
    this.#window = { untilMs, unitsLeft: units, came, tried };
    if (isNew) void this.#watch();
    return { secondsLeft: seconds, unitsLeft: units };
  }

  async closeWindow(): Promise<void> {
    endDryRun("nobody is let in without a join secret any more");
    const window = this.#window;
    this.#window = null;
    if (window === null) return;
    await this.#life().commands.ask("tellWindow", { kind: "closed", came: window.came });
  }

  renew(): void {
    this.#unit.renew();
  }

  async #watch(): Promise<void> {
    for (let window = this.#window; window !== null; window = this.#window) {
      const nowMs = this.#world.clock.nowMs();
      if (this.#unit.stopping) return;
      if (nowMs >= window.untilMs || window.unitsLeft === 0) {
        await this.#quietly("the window is closed", () => this.closeWindow());
        return;
      }
      const next = this.#unit.discovery.strangers.find((one) => {
        return nowMs - (window.tried.get(one.unitId) ?? Number.NEGATIVE_INFINITY) >= AGAIN_MS;
      });
      if (next !== undefined) {
        window.tried.set(next.unitId, nowMs);
        await this.#quietly("a unit was not let in", async () => {
          await this.#letIn(next, "window");
          window.unitsLeft--;
          window.came++;
        });
      }
      await new Promise<void>((resolve) => this.#timers.after(LOOK_EVERY_MS, resolve));
    }
  }

  async #quietly(what: string, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#world.log.write("warn", what, { reason: error.message });
    }
  }

  /** First it is written down, then done: there is no arrival that nobody told of. */
  async #letIn(stranger: Stranger, by: "words" | "window"): Promise<void> {
    const life = this.#life();
    const { unitId, words } = stranger;
    const name = stranger.name === "" ? unitId.slice(0, 8) : stranger.name.slice(0, 63);
    await life.commands.ask("letIn", { unitId, name, words, by });
    await this.#unit.giveSecret(stranger);
  }
}

export function viewOf({ unitId, name, softwareVersion, where, words }: Stranger): StrangerView {
  const address = where.address;
  return { unitId, name, version: softwareVersion, address, words: words.split(" ") };
}
