// SPDX-License-Identifier: Apache-2.0
//
// A drill as the unit that was asked carries it out: a canary volume by commands to the control
// station, a writing and reading host in this unit's reactor (drill-probe.ts), and the words of
// what was seen. Everything waits with a limit; whatever happens the canary is deleted, by this
// unit or, when its run ends, by the control station.

import { Fault } from "#base/fault.ts";
import type { UnitNumber, VolumeNumber } from "#base/record.ts";
import type { Clock, Log, Timers } from "#base/world.ts";
import type { CommandClient } from "#cluster/commands.ts";
import { isPassed, outcomeSentence } from "#cluster/drill-changes.ts";
import type { DrillOutcome } from "#cluster/drill-changes.ts";
import type { ViewFollower } from "#cluster/view-follower.ts";
import type { ProbeFacts } from "./drill-probe.ts";
import { drillPlan } from "./drills.ts";
import type { DrillPlan, DrillState, Drills } from "./drills.ts";
import { findUnit } from "./fleet.ts";
import type { ReactorClient } from "./reactor-client.ts";
import { SILENT_MS } from "./reactor-feed.ts";

const LOOK_EVERY_MS = 200;
/** To be made and placed. */
const MADE_MS_MAX = 15_000;
/** To answer so many writes before its head falls silent. */
const STEADY_WRITES = 200;
const STEADY_MS_MAX = 20_000;
/** To be taken over and to answer again: twice what any failover may take. */
const TAKEOVER_MS_MAX = 20_000;
/** Of answers after the takeover. */
const AFTERWARDS_MS = 1000;
const CHECK_MS_MAX = 30_000;
/** To have all copies again; the silent one is silent for a while. */
const PROTECT_MS_MAX = 60_000;

export interface DrillParts {
  /** In the cluster; a Fault notReady where it is in none. */
  cluster(): {
    unit: UnitNumber;
    follower: Pick<ViewFollower, "view">;
    commands: Pick<CommandClient, "ask">;
  };
  reactor: Pick<ReactorClient, "send" | "onProbed">;
}

const NO_OUTCOME: DrillOutcome = {
  gapMs: null,
  fromUnit: 1,
  toUnit: 1,
  writes: 0,
  reads: 0,
  verifiedBlocks: 0,
  wrongBlocks: 0,
  errors: 0,
  protectedMs: null,
  failure: null,
};

export class UnitDrills implements Drills {
  readonly #world: { clock: Clock; log: Log };
  readonly #timers: Timers;
  readonly #parts: DrillParts;
  #state: DrillState | null = null;
  #facts: ProbeFacts | null = null;

  constructor(world: { clock: Clock; log: Log }, timers: Timers, parts: DrillParts) {
    this.#world = world;
    this.#timers = timers;
    this.#parts = parts;
    parts.reactor.onProbed = (facts) => {
      this.#facts = facts;
    };
  }

  plan(unit?: string): DrillPlan {
    const { headUnit: _, ...plan } = this.#plan(unit);
    return plan;
  }

  #plan(unit: string | undefined) {
    const { view } = this.#parts.cluster().follower;
    return drillPlan(view, unit === undefined ? null : findUnit(view, unit), SILENT_MS);
  }

  begin(unit?: string): DrillState {
    if (this.#state !== null && this.#state.phase !== "over") {
      throw new Fault("conflict", "a drill is under way on this unit");
    }
    const plan = this.#plan(unit);
    const startedAtMs = Math.floor(this.#world.clock.wallMs());
    const sentence = "making the canary volume";
    this.#state = { phase: "making", sentence, startedAtMs, outcome: null, passed: null };
    void this.#run(plan);
    return this.#state;
  }

  state(): DrillState | null {
    return this.#state;
  }

  async #run(plan: ReturnType<typeof drillPlan>): Promise<void> {
    let volume: VolumeNumber | null = null;
    let outcome: DrillOutcome = NO_OUTCOME;
    try {
      volume = await this.#make(plan);
      outcome = await this.#fail(volume, plan.sizeBytes);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      outcome = { ...outcome, failure: error.message.slice(0, 256) };
    }
    this.#parts.reactor.send({ kind: "probe", act: "abandon" });
    await this.#end(volume, outcome);
  }

  #say(phase: DrillState["phase"], sentence: string): void {
    if (this.#state !== null) this.#state = { ...this.#state, phase, sentence };
  }

  /** As it is now: the reactor changes it while this waits. */
  #seen(): ProbeFacts | null {
    return this.#facts;
  }

  async #make(plan: ReturnType<typeof drillPlan>): Promise<VolumeNumber> {
    const { unit, follower, commands } = this.#parts.cluster();
    const { view } = follower;
    const run = view.alive.get(unit)?.run;
    if (run === undefined) throw new Fault("notReady", "this unit does not count as alive");
    const { sizeBytes, protection, headUnit: head } = plan;
    const { volume } = await commands.ask("beginDrill", { sizeBytes, protection, run, head });
    const isMade = () => view.volumes.get(volume)?.state === "ready";
    if (!(await this.#until(MADE_MS_MAX, isMade))) {
      throw new Fault("notReady", "the canary volume was not placed in time");
    }
    return volume;
  }

  async #fail(volume: VolumeNumber, sizeBytes: number): Promise<DrillOutcome> {
    const { follower, commands } = this.#parts.cluster();
    const { view } = follower;
    this.#facts = null;
    this.#say("writing", "writing to the canary volume and reading from it");
    this.#parts.reactor.send({ kind: "probe", act: "start", volume, sizeBytes });
    const isSteady = () => (this.#seen()?.writes ?? 0) >= STEADY_WRITES;
    if (!(await this.#until(STEADY_MS_MAX, isSteady))) {
      throw new Fault("notReady", "the canary volume did not answer before anything failed");
    }
    const slice = view.volumes.get(volume)?.slices[0] ?? 0;
    const { unit: fromUnit } = await commands.ask("failDrill", { volume });
    const name = view.units.get(fromUnit)?.name ?? `unit ${fromUnit}`;
    this.#say("failing", `${name} is silent to it: waiting for another copy to take over`);
    const failedMs = this.#world.clock.nowMs();
    const headUnit = () => view.headUnit(slice)?.number ?? fromUnit;
    // Those of before may still be on their way when the head falls silent.
    const isBack = () => headUnit() !== fromUnit && (this.#seen()?.silentMs ?? 1e9) < LOOK_EVERY_MS;
    const isTakenOver = await this.#until(TAKEOVER_MS_MAX, isBack);
    if (isTakenOver) await this.#until(AFTERWARDS_MS, () => false);
    const { gapMs, isAnswering } = this.#waited();
    this.#say("checking", "reading back every block that was written");
    this.#parts.reactor.send({ kind: "probe", act: "finish" });
    const isRead = () => (this.#seen()?.verifiedBlocks ?? null) !== null;
    if (!(await this.#until(CHECK_MS_MAX, isRead))) {
      throw new Fault("notReady", `after ${name} fell silent not every block could be read back`);
    }
    const toUnit = headUnit();
    const protectedMs = await this.#protectedAfter(slice, failedMs);
    const { writes = 0, reads = 0, errors = 0, wrongBlocks = 0 } = this.#seen() ?? {};
    const verifiedBlocks = this.#seen()?.verifiedBlocks ?? 0;
    const failure = isTakenOver ? null : `no other copy took over from ${name}`;
    return {
      gapMs: isAnswering ? gapMs : null,
      fromUnit,
      toUnit,
      writes,
      reads,
      verifiedBlocks,
      wrongBlocks,
      errors,
      protectedMs,
      failure,
    };
  }

  #waited(): { gapMs: number; isAnswering: boolean } {
    const { gapMs = 0, silentMs = null } = this.#seen() ?? {};
    return { gapMs, isAnswering: silentMs !== null };
  }

  async #protectedAfter(slice: number, failedMs: number): Promise<number | null> {
    const { view } = this.#parts.cluster().follower;
    this.#say("protecting", "waiting for all copies again");
    const isWhole = () => {
      const record = view.slices.get(slice);
      return record !== undefined && record.inSync.length >= record.copies;
    };
    if (!(await this.#until(PROTECT_MS_MAX, isWhole))) return null;
    return Math.round(this.#world.clock.nowMs() - failedMs);
  }

  async #end(volume: VolumeNumber | null, outcome: DrillOutcome): Promise<void> {
    let sentence = outcome.failure ?? "";
    try {
      const { follower, commands } = this.#parts.cluster();
      sentence = outcomeSentence(follower.view, outcome);
      if (volume !== null) await commands.ask("endDrill", { volume, outcome });
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#world.log.write("warn", "a drill's volume could not be deleted", {
        reason: error.message,
      });
    }
    const passed = isPassed(outcome);
    this.#world.log.write(passed ? "info" : "error", `drill: ${sentence}`, { ...outcome });
    if (this.#state === null) return;
    this.#state = { ...this.#state, phase: "over", sentence, outcome, passed };
  }

  /** Looks again until it holds; false: not in time. */
  async #until(limitMs: number, holds: () => boolean): Promise<boolean> {
    const endMs = this.#world.clock.nowMs() + limitMs;
    while (!holds()) {
      if (this.#world.clock.nowMs() >= endMs) return false;
      await new Promise<void>((resolve) => void this.#timers.after(LOOK_EVERY_MS, resolve));
    }
    return true;
  }
}
