// SPDX-License-Identifier: Apache-2.0
//
// Rolling an update over the cluster, one unit at a time, by the control station: a view in, at
// most one draft out, like all upkeep. The units do what their phase says (appliance/update-agent):
//
//   install   it fetches the payload and writes its other slot
//   restart   it is in maintenance (maintenance.ts), arms that slot and restarts; heads that have
//             not left it by then do so in the orderly stop
//   settle    it is back with the new version; on trial until its health is seen, then until every
//             replicated volume is protected again
//
// Invariants
// - No unit is sent into its restart while anything stands in the way (obstacles), and none before
//   the one ahead of it has settled.
// - The first trouble that outlasts its limit stops the roll, with the sentence why; nothing
//   continues after that until the owner starts it again.
// - All that a successor needs stands in the record. Only waiting is by this station's clock; a new
//   station waits anew.

import type { UnitNumber } from "#base/record.ts";
import { Draft } from "./draft.ts";
import { raiseFeatureLevel } from "./feature-level.ts";
import { beginMaintenance, updateLetsGo } from "./maintenance.ts";
import { keys } from "./state.ts";
import { consequencesOf, obstacles, unitNameOf, updateOrder, updatePlan } from "./update-plan.ts";
import type { KnownVoters } from "./update-plan.ts";
import { UPDATE_SETTINGS_DEFAULT, isInWindow } from "./update-state.ts";
import type { UnitUpdateRecord, UpdatePhase, UpdateRecord } from "./update-state.ts";
import type { ClusterView } from "./view.ts";

const MINUTE_MS = 60_000;
/** How long each kind of waiting may take before it is trouble. */
export const UPDATE_LIMITS = {
  /** Fetching and writing on a slow unit. */
  installMs: 60 * MINUTE_MS,
  /** Arming, orderly stop, and going down. */
  restartMs: 15 * MINUTE_MS,
  /** Firmware of large boxes, up to three trials, and the way back to the old slot. */
  returnMs: 60 * MINUTE_MS,
  /** From its return until it is blessed: health waits for up to 15 minutes. */
  blessMs: 30 * MINUTE_MS,
  /** Resync of what was written meanwhile. */
  protectMs: 120 * MINUTE_MS,
  /** Another unit away, a volume not protected, before a restart. */
  obstacleMs: 5 * MINUTE_MS,
  /** The unit whose turn it is away without having been sent into its restart. */
  awayMs: 5 * MINUTE_MS,
  /** All is well for this long before the next unit's turn. */
  calmMs: 10_000,
};
export type UpdateLimits = typeof UPDATE_LIMITS;

export interface RollFacts {
  nowMs: number;
  /** For the window of automatic updates only. */
  wallMs: number;
  voters: KnownVoters;
  limits: UpdateLimits;
}

/** How long things have been so, by this station's clock. */
export class RollClock {
  #step = "";
  readonly #sinceMs = new Map<string, number>();

  /** Forgets what belongs to another step of the roll. */
  look(update: UpdateRecord | null): void {
    const { state, attempt, current, done } = update ?? {};
    const step = JSON.stringify([state, attempt, current?.unit, current?.phase, done?.length]);
    if (step === this.#step) return;
    this.#step = step;
    this.#sinceMs.clear();
  }

  /** For how long something has held without a break; 0 when it does not hold now. */
  heldMs(what: string, holds: boolean, nowMs: number): number {
    if (!holds) {
      this.#sinceMs.delete(what);
      return 0;
    }
    const sinceMs = this.#sinceMs.get(what) ?? nowMs;
    this.#sinceMs.set(what, sinceMs);
    return nowMs - sinceMs;
  }
}

/** The next change of a roll, or null while there is nothing to do but to wait. */
export function nextRoll(view: ClusterView, clock: RollClock, facts: RollFacts): Draft | null {
  const { update, cluster } = view;
  clock.look(update);
  if (update === null || cluster === null) return null;
  if (update.state === "loaded") return startByItself(view, update, facts);
  if (update.state !== "rolling") return null;
  if (update.current === null) return nextTurn(view, clock, facts, update);
  const turn = { view, clock, facts, update, current: update.current };
  switch (update.current.phase) {
    case "install":
      return whileInstalling(turn);
    case "restart":
      return whileRestarting(turn);
    case "settle":
      return whileSettling(turn);
  }
}

/** Begins a roll. Whether it may is decided before (updatePlan). */
export function beginRoll(
  draft: Draft,
  update: UpdateRecord,
  options: Pick<UpdateRecord, "accept" | "downgrade" | "only">,
): void {
  const next: UpdateRecord = {
    ...update,
    ...options,
    state: "rolling",
    attempt: update.attempt + 1,
    current: null,
    done: [],
    sentence: `version ${update.version} begins to roll`,
  };
  draft.put(keys.update, next);
  tell(draft, "info", "update-started", next.sentence);
}

/** Ends a roll before its end; it continues only by a new start. */
export function stopRoll(draft: Draft, update: UpdateRecord, why: string): void {
  const sentence = `the update to version ${update.version} stopped: ${why}`;
  draft.put(keys.update, { ...update, state: "stopped", current: null, sentence });
  updateLetsGo(draft, update.current?.unit);
  tell(draft, "alarm", "update-stopped", sentence, update.current?.unit);
}

function startByItself(view: ClusterView, update: UpdateRecord, facts: RollFacts): Draft | null {
  const settings = view.settings.update ?? UPDATE_SETTINGS_DEFAULT;
  if (!settings.auto || !isInWindow(settings.window, facts.wallMs)) return null;
  const wanted = { ...update, only: null, downgrade: false };
  const { refusals, consequences } = updatePlan(view, wanted, facts.voters);
  // What somebody must accept, or cannot be now, waits for somebody, or for another moment.
  if (refusals.length > 0 || consequences.length > 0) return null;
  const draft = new Draft(view);
  beginRoll(draft, update, { accept: false, downgrade: false, only: null });
  return draft;
}

interface Turn {
  view: ClusterView;
  clock: RollClock;
  facts: RollFacts;
  update: UpdateRecord;
  current: NonNullable<UpdateRecord["current"]>;
}

function nextTurn(
  view: ClusterView,
  clock: RollClock,
  facts: RollFacts,
  update: UpdateRecord,
): Draft | null {
  const [unit] = updateOrder(view, update, facts.voters);
  if (unit === undefined) return finish(view, update);
  const report = view.unitUpdates.get(unit);
  const why = inTheWay(view, facts, update, unit);
  const waitedMs = clock.heldMs("obstacle", why !== null || report === undefined, facts.nowMs);
  if (why !== null || report === undefined) {
    if (waitedMs < facts.limits.obstacleMs) return null;
    return stopped(view, update, why ?? `${unitNameOf(view, unit)} does not say what it runs`);
  }
  if (!report.appliance) {
    return stopped(view, update, `${unitNameOf(view, unit)} is not an appliance`);
  }
  return toPhase({ view, facts, update }, { unit, phase: "install", fromBoot: report.bootId });
}

function whileInstalling(turn: Turn): Draft | null {
  const { view, clock, facts, update, current } = turn;
  const { limits } = facts;
  const name = unitNameOf(view, current.unit);
  const report = view.unitUpdates.get(current.unit);
  const alive = view.isAlive(current.unit) && report !== undefined;
  const awayMs = clock.heldMs("away", !alive, facts.nowMs);
  const tookMs = clock.heldMs("install", true, facts.nowMs);
  if (awayMs >= limits.awayMs) return stopped(view, update, `${name} is away`);
  if (!alive) return null;
  // It restarted by itself after it had been armed by an earlier turn; it counts all the same.
  if (report.version === update.version) {
    return toPhase(turn, { ...current, phase: "settle" });
  }
  const { task } = report;
  const isOurs = task?.digest === update.digest && task.attempt === update.attempt;
  if (isOurs && task.state === "failed") {
    return stopped(view, update, `${name}: ${task.sentence}`);
  }
  if (!isOurs || task.state !== "installed") {
    if (tookMs < limits.installMs) return null;
    return stopped(view, update, `${name} did not write its slot ${within(limits.installMs)}`);
  }
  const why = inTheWay(view, facts, update, current.unit);
  if (clock.heldMs("obstacle", why !== null, facts.nowMs) >= limits.obstacleMs) {
    return stopped(view, update, why ?? "");
  }
  if (why !== null) return null;
  return toPhase(turn, { ...current, phase: "restart", fromBoot: report.bootId });
}

function whileRestarting(turn: Turn): Draft | null {
  const { view, clock, facts, update, current } = turn;
  const { limits } = facts;
  const name = unitNameOf(view, current.unit);
  const report = view.unitUpdates.get(current.unit);
  const tookMs = clock.heldMs("restart", true, facts.nowMs);
  const alive = view.isAlive(current.unit) && report !== undefined;
  if (alive && report.bootId !== current.fromBoot) {
    if (report.version === update.version) {
      return toPhase(turn, { ...current, phase: "settle" });
    }
    return stopped(view, update, fellBack(name, update, report));
  }
  const { task } = report ?? { task: null };
  if (alive && task?.attempt === update.attempt && task.state === "failed") {
    return stopped(view, update, `${name}: ${task.sentence}`);
  }
  const stayedMs = clock.heldMs("same boot", alive, facts.nowMs);
  if (stayedMs >= limits.restartMs) {
    return stopped(view, update, `${name} did not restart ${within(limits.restartMs)}`);
  }
  if (tookMs < limits.returnMs) return null;
  return stopped(view, update, `${name} did not come back ${within(limits.returnMs)}`);
}

function whileSettling(turn: Turn): Draft | null {
  const { view, clock, facts, update, current } = turn;
  const { limits } = facts;
  const name = unitNameOf(view, current.unit);
  const report = view.unitUpdates.get(current.unit);
  const alive = view.isAlive(current.unit) && report !== undefined;
  const awayMs = clock.heldMs("away", !alive, facts.nowMs);
  if (awayMs >= limits.returnMs) {
    const time = within(limits.returnMs);
    return stopped(view, update, `${name} went away again, and is not back ${time}`);
  }
  const trialMs = clock.heldMs("trial", alive && report.trial, facts.nowMs);
  if (trialMs >= limits.blessMs) {
    return stopped(view, update, `${name} was not found healthy ${within(limits.blessMs)}`);
  }
  const why = obstacles(view, current.unit, facts.voters)[0] ?? null;
  const troubleMs = clock.heldMs("trouble", why !== null, facts.nowMs);
  const well = alive && !report.trial && why === null;
  const calmMs = clock.heldMs("calm", well, facts.nowMs);
  if (!alive) return null;
  if (report.version !== update.version) {
    return stopped(view, update, fellBack(name, update, report));
  }
  if (troubleMs >= limits.protectMs) {
    const after = `${minutes(limits.protectMs)} after ${name} came back`;
    return stopped(view, update, `${why ?? ""}, ${after}`);
  }
  if (!well || calmMs < limits.calmMs) return null;
  const draft = new Draft(view);
  const sentence = `${name} runs version ${update.version}`;
  const done = [...update.done, current.unit];
  draft.put(keys.update, { ...update, current: null, done, sentence });
  updateLetsGo(draft, current.unit);
  tell(draft, "info", "update-unit-done", sentence, current.unit);
  return draft;
}

function inTheWay(
  view: ClusterView,
  facts: RollFacts,
  update: UpdateRecord,
  unit: UnitNumber,
): string | null {
  const [obstacle] = obstacles(view, unit, facts.voters);
  if (obstacle !== undefined) return obstacle;
  // Made since the start, or nobody was asked because nothing was there to accept.
  const [consequence] = update.accept ? [] : consequencesOf(view, unit, facts.voters);
  return consequence ?? null;
}

function fellBack(name: string, update: UpdateRecord, report: UnitUpdateRecord): string {
  const came = `${name} came back with version ${report.version}`;
  return `${came}: ${update.version} failed its trial there`;
}

function within(milliseconds: number): string {
  return `within ${minutes(milliseconds)}`;
}

function minutes(milliseconds: number): string {
  const count = Math.round(milliseconds / MINUTE_MS);
  return count === 1 ? "1 minute" : `${count} minutes`;
}

const PHASE_WORDS: Record<UpdatePhase, string> = {
  install: "is writing",
  restart: "restarts for",
  settle: "is back with",
};

function toPhase(
  { view, facts, update }: Pick<Turn, "view" | "facts" | "update">,
  current: NonNullable<UpdateRecord["current"]>,
): Draft {
  const draft = new Draft(view);
  const name = unitNameOf(view, current.unit);
  const sentence = `${name} ${PHASE_WORDS[current.phase]} version ${update.version}`;
  draft.put(keys.update, { ...update, current, sentence });
  const unit = view.units.get(current.unit);
  if (current.phase === "restart" && unit !== undefined) {
    const { wallMs, limits } = facts;
    beginMaintenance(draft, unit, { by: "update", forMs: limits.returnMs, wallMs });
    tell(draft, "info", "update-unit-restarts", sentence, current.unit);
  }
  return draft;
}

function stopped(view: ClusterView, update: UpdateRecord, why: string): Draft {
  const draft = new Draft(view);
  stopRoll(draft, update, why);
  return draft;
}

function finish(view: ClusterView, update: UpdateRecord): Draft {
  const draft = new Draft(view);
  const who = update.only === null ? "all units run" : "the units named run";
  const sentence = `${who} version ${update.version}`;
  draft.put(keys.update, { ...update, state: "done", sentence });
  tell(draft, "info", "update-done", sentence);
  raiseFeatureLevel(draft);
  return draft;
}

function tell(
  draft: Draft,
  severity: "info" | "alarm",
  kind: string,
  sentence: string,
  unit?: UnitNumber,
): void {
  draft.tell({ kind, severity, sentence, ...(unit === undefined ? {} : { unit }) });
}
