// SPDX-License-Identifier: Apache-2.0
//
// The control station: carries out what is asked of it (commands.ts) and what its upkeep finds
// (upkeep.ts, events.ts), on the unit that holds the lease (unit-lease.ts).
//
// One change at a time: decide by the view, commit by compare-and-swap, wait until the view has it,
// decide again. A conflict, an unknown outcome or a lost lead need no repair: the next decision
// starts from what is there. So two stations at once are harmless: of two changes decided by one
// state only one commits.

import { Fault } from "#base/fault.ts";
import type { UnitNumber } from "#base/record.ts";
import type { Timers, World } from "#base/world.ts";
import type { ControlStore } from "./control-store.ts";
import { DecisionJournal } from "./decision-journal.ts";
import type { Decision } from "./decision-journal.ts";
import { Draft } from "./draft.ts";
import { nextTelling } from "./events.ts";
import type { JournalRecorder } from "./journal-recorder.ts";
import type { NearCluster } from "./formation.ts";
import { maintenanceOver } from "./maintenance.ts";
import { keys } from "./state.ts";
import type { CommandRecord } from "./state.ts";
import { decide } from "./station-changes.ts";
import type { ChangeFacts } from "./station-changes.ts";
import { RollClock, UPDATE_LIMITS, nextRoll } from "./update-roll.ts";
import type { UpdateLimits } from "./update-roll.ts";
import { LackClock, nextUpkeep } from "./upkeep.ts";
import type { ViewFollower } from "./view-follower.ts";
import { endGrace } from "./volume-ends.ts";
import { newId } from "./voters.ts";
import type { VoterKeeper } from "./voters.ts";

const TICK_MS = 500;
/** Changes made in one go before others on this thread get their turn for a tick. */
const CHANGES_PER_ROUND = 64;
/** How long to wait for the view to have what was committed. */
const VIEW_LIMIT_MS = 3000;
/** Voters are looked at less often, since it asks etcd; seldom once there are enough of them. */
const VOTERS_EVERY_MS = 1000;
const VOTERS_SETTLED_EVERY_MS = 5000;

export interface StationParts {
  store: ControlStore;
  follower: ViewFollower;
  /** Only where this unit can reach etcd itself; null: voters are left as they are. */
  voters: VoterKeeper | null;
  /** Whether this unit leads at this moment. */
  leads(): boolean;
  /** Who votes in the control store, as it last said; null: not known. */
  votingUnits(): readonly UnitNumber[] | null;
  /** Other clusters in use with our join secret that are heard; null: not known (yet). */
  near?(): readonly NearCluster[] | null;
  /** Where decisions are kept beyond this run; null: nowhere. */
  recorder?: JournalRecorder | null;
  /** Patience with the units of a rolling update; shorter in tests. */
  updateLimits?: UpdateLimits;
}

/** What a decision knew besides the view and the time. */
type Why = Pick<Decision, "by"> & Partial<Omit<Decision, "kind" | "wallMs" | "puts" | "deletes">>;
type Ending = "committed" | "conflict" | "unknown";

export class ControlStation {
  readonly #world: Pick<World, "clock" | "log" | "random">;
  readonly #timers: Timers;
  readonly #parts: StationParts;
  /** What it decided lately, and by what. */
  readonly journal: DecisionJournal;
  #lacks = new LackClock();
  #roll = new RollClock();
  #cancelTick: (() => void) | null = null;
  #unlisten: (() => void) | null = null;
  #busy = false;
  #again = false;
  #stopped = false;
  #votersAtMs = 0;

  constructor(world: Pick<World, "clock" | "log" | "random">, timers: Timers, parts: StationParts) {
    this.#world = world;
    this.#timers = timers;
    this.#parts = parts;
    this.journal = new DecisionJournal(parts.follower.view, parts.recorder ?? null);
    if (parts.voters !== null) {
      parts.voters.onEvent = (sentence, unit) => void this.#tellVoters(sentence, unit);
    }
  }

  start(): void {
    this.#unlisten = this.#parts.follower.view.onChange((changes) => {
      if (changes.some((change) => change.kind !== "event" && change.kind !== "told")) this.wake();
    });
    this.wake();
  }

  stop(): void {
    this.#stopped = true;
    this.#unlisten?.();
    this.#cancelTick?.();
  }

  /** This unit begins to lead: what it knew of absences is from another time. */
  beganToLead(): void {
    this.#lacks = new LackClock();
    this.#roll = new RollClock();
    this.wake();
  }

  wake(): void {
    if (this.#stopped) return;
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#cancelTick?.();
    this.#cancelTick = null;
    void this.#round();
  }

  async #round(): Promise<void> {
    this.#busy = true;
    this.#again = false;
    if (this.#parts.leads()) {
      try {
        await this.#work();
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        this.#world.log.write("debug", "the control station waits", { reason: error.message });
      }
    }
    this.#busy = false;
    if (this.#stopped) return;
    this.#cancelTick = this.#timers.after(this.#again ? 0 : TICK_MS, () => this.wake());
  }

  async #work(): Promise<void> {
    const { view } = this.#parts.follower;
    if (view.cluster === null) return;
    if (view.cluster.state === "yielding") return this.#refuseAll();
    for (let changes = 0; changes < CHANGES_PER_ROUND; changes++) {
      if (this.#stopped || !this.#parts.leads()) return;
      if (!(await this.#one())) break;
    }
    const nowMs = this.#world.clock.nowMs();
    const { voters } = this.#parts;
    if (voters === null) return;
    const everyMs = voters.isSettled(view) ? VOTERS_SETTLED_EVERY_MS : VOTERS_EVERY_MS;
    if (nowMs - this.#votersAtMs < everyMs) return;
    this.#votersAtMs = nowMs;
    await voters.step(view);
  }

  /** One change at most; false when there is nothing to do. */
  async #one(): Promise<boolean> {
    const { view } = this.#parts.follower;
    for (const command of view.commands.values()) {
      if (command.state !== "asked") continue;
      await this.#carryOut(command);
      return true;
    }
    const nowMs = this.#world.clock.nowMs();
    this.#lacks.look(view, nowMs);
    const upkeep = nextUpkeep(view, this.#lacks, nowMs);
    // A conflict twice in a row means that the view runs behind: wait for its next change.
    const { lacks } = this.#lacks;
    if (upkeep !== null) return this.#decided(upkeep, { by: "upkeep", lacks, nowMs });
    const wallMs = this.#world.clock.wallMs();
    const ended = endGrace(view, wallMs) ?? maintenanceOver(view, wallMs);
    if (ended !== null) return this.#decided(ended, { by: "grace" }, wallMs);
    const roll = this.#rollOn(nowMs);
    if (roll !== null) return this.#decided(roll, { by: "roll" });
    const telling = nextTelling(view, this.#parts.near?.() ?? null);
    return telling === null ? false : this.#decided(telling, { by: "telling" });
  }

  async #decided(draft: Draft, why: Why, wallMs?: number): Promise<boolean> {
    return (await this.#commit(draft, why, wallMs)) === "committed";
  }

  #rollOn(nowMs: number): Draft | null {
    const { follower } = this.#parts;
    const voters = this.#parts.votingUnits();
    return nextRoll(follower.view, this.#roll, {
      nowMs,
      wallMs: this.#world.clock.wallMs(),
      voters,
      limits: this.#parts.updateLimits ?? UPDATE_LIMITS,
    });
  }

  async #carryOut(command: CommandRecord): Promise<void> {
    const { view } = this.#parts.follower;
    const draft = new Draft(view, { actor: command.actor ?? null });
    const ids: string[] = [];
    const wallMs = this.#world.clock.wallMs();
    const voters = this.#parts.votingUnits();
    const draw = () => {
      const id = newId(this.#world);
      ids.push(id);
      return id;
    };
    const facts: ChangeFacts = { asker: command.unit, wallMs, newId: draw, voters };
    let ended: CommandRecord;
    let effect = draft;
    try {
      ended = { ...command, state: "done", answer: decide(draft, command, facts) };
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      effect = new Draft(view); // nothing of what was drafted before it failed
      const fault = { code: error.code, detail: detailOf(error) };
      ended = { ...command, state: "failed", fault };
    }
    effect.put(keys.command(command.id), ended, command.lease);
    const known = { command: command.id, ids, voters: voters === null ? null : [...voters] };
    try {
      await this.#commit(effect, { by: command.name, ...known }, wallMs);
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== "badRequest") throw error;
      // Too much for one transaction: refused, or it would stand in everybody's way for ever.
      await this.#refuse(command, error);
    }
  }

  /** Nothing is done any more in a cluster that gives way, and nobody is to wait for it. */
  async #refuseAll(): Promise<void> {
    const reason = new Fault("notReady", "this cluster is giving way to another one; ask again");
    for (const command of [...this.#parts.follower.view.commands.values()]) {
      if (command.state === "asked" && this.#parts.leads()) await this.#refuse(command, reason);
    }
  }

  async #refuse(command: CommandRecord, reason: Fault): Promise<void> {
    const draft = new Draft(this.#parts.follower.view);
    const fault = { code: reason.code, detail: detailOf(reason) };
    draft.put(keys.command(command.id), { ...command, state: "failed", fault }, command.lease);
    await this.#commit(draft);
  }

  /** Commits and waits until the view has it, so that the next decision does not start behind. */
  async #commit(
    draft: Draft,
    why: Why | null = null,
    wallMs = this.#world.clock.wallMs(),
  ): Promise<Ending> {
    const { store, follower } = this.#parts;
    const transaction = draft.transaction(wallMs);
    const nowMs = this.#world.clock.nowMs();
    if (why !== null) this.journal.decided({ nowMs, ...why, wallMs }, transaction);
    try {
      const result = await store.transaction(transaction);
      await follower.reached(result.revision, VIEW_LIMIT_MS);
      return result.committed ? "committed" : "conflict";
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      switch (error.code) {
        case "notFound": // a command whose asker went away, with its lease
          await this.#catchUp();
          return "conflict";
        case "unknownOutcome":
          await this.#catchUp();
          return "unknown";
        default:
          throw error;
      }
    }
  }

  /** What is there now is what the next decision starts from. */
  async #catchUp(): Promise<void> {
    const { revision } = await this.#parts.store.get(keys.cluster);
    await this.#parts.follower.reached(revision, VIEW_LIMIT_MS);
  }

  async #tellVoters(sentence: string, unit: UnitNumber | null): Promise<void> {
    const draft = new Draft(this.#parts.follower.view);
    draft.tell({ kind: "voters", severity: "info", sentence, unit });
    try {
      await this.#commit(draft);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#world.log.write("info", sentence);
    }
  }
}

/** A Fault's detail without the table's text, which its code brings along again. */
function detailOf(fault: Fault): string {
  const at = fault.message.indexOf(": ");
  return (at < 0 ? fault.message : fault.message.slice(at + 2)).slice(0, 1000);
}
