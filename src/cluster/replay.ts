// SPDX-License-Identifier: Apache-2.0
//
// The control station's decisions once more: a journal's inputs through the code of this version,
// and what it decides held against what was decided then. Pure. The same version decides the same;
// another one shows by its differences what changed.

import { Fault } from "#base/fault.ts";
import type { Decision, Journal } from "./decision-journal.ts";
import { Draft } from "./draft.ts";
import { nextTelling } from "./events.ts";
import { keyParts, keys } from "./state.ts";
import { maintenanceOver } from "./maintenance.ts";
import { decide } from "./station-changes.ts";
import { LackClock, nextUpkeep } from "./upkeep.ts";
import { ClusterView } from "./view.ts";
import { endGrace } from "./volume-ends.ts";

export interface Replayed {
  /** In the journal's order, from 1. */
  number: number;
  by: string;
  wallMs: number;
  outcome: "same" | "different" | "not replayed";
  /** Keys that were written otherwise then, or now; why it was not replayed. */
  differences: string[];
}

const DIFFERENCES_MAX = 16;

export function replayJournal(journal: Journal): Replayed[] {
  const replay = new Replay();
  replay.take(journal.base);
  const found: Replayed[] = [];
  for (const step of journal.steps) {
    if (step.kind === "changes") replay.take(step.changes);
    else found.push(replay.decide(step, found.length + 1));
  }
  return found;
}

class Replay {
  readonly #view = new ClusterView();

  take(changes: readonly (readonly [string, unknown])[]): void {
    const revision = this.#view.revision + 1;
    const events = changes.map(([key, value]) => ({
      kind: value === null ? ("delete" as const) : ("put" as const),
      key,
      value: value === null ? "" : JSON.stringify(value),
      modRevision: revision,
    }));
    this.#view.apply(events, revision);
  }

  decide(then: Decision, number: number): Replayed {
    const { by, wallMs } = then;
    let draft: Draft | null;
    try {
      draft = this.#draft(then);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      return { number, by, wallMs, outcome: "not replayed", differences: [error.message] };
    }
    const differences = draft === null ? ["nothing is decided now"] : compared(then, draft);
    const outcome = differences.length === 0 ? "same" : "different";
    return { number, by, wallMs, outcome, differences };
  }

  #draft(then: Decision): Draft | null {
    if (then.by === "upkeep") {
      return nextUpkeep(this.#view, LackClock.of(then.lacks ?? NO_LACKS), then.nowMs);
    }
    if (then.by === "grace") {
      return endGrace(this.#view, then.wallMs) ?? maintenanceOver(this.#view, then.wallMs);
    }
    if (then.by === "telling") return nextTelling(this.#view);
    if (then.command === undefined) throw new Fault("badRequest", `${then.by} is not replayed`);
    return this.#command(then, then.command);
  }

  /** As the station carries one out; its answer is a part of what it writes. */
  #command(then: Decision, id: string): Draft {
    const command = this.#view.commands.get(id);
    if (command === undefined) throw new Fault("notFound", "the command is not in the journal");
    const ids = [...(then.ids ?? [])];
    const facts = {
      asker: command.unit,
      wallMs: then.wallMs,
      newId: () => ids.shift() ?? "",
      voters: then.voters ?? null,
    };
    const draft = new Draft(this.#view, { actor: command.actor ?? null });
    try {
      const answer = decide(draft, command, facts);
      draft.put(keys.command(id), { ...command, state: "done", answer });
      return draft;
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      const refused = new Draft(this.#view);
      refused.put(keys.command(id), { ...command, state: "failed" });
      return refused;
    }
  }
}

const NO_LACKS = { units: [], slices: [] };

function compared(then: Decision, draft: Draft): string[] {
  const { puts = [], deletes = [] } = draft.transaction(then.wallMs);
  // Indexes of names and ids are no part of a view, so neither of a journal's state.
  const isKnown = (key: string) => keyParts(key) !== null;
  const before = new Map(then.puts.filter(([key]) => isKnown(key)));
  const differences: string[] = [];
  for (const { key, value } of puts) {
    if (!isKnown(key)) continue;
    const was = before.get(key);
    before.delete(key);
    if (!sameRecord(key, was, JSON.parse(value))) differences.push(`${key} is written otherwise`);
  }
  for (const key of before.keys()) differences.push(`${key} is not written now`);
  for (const key of then.deletes.filter(isKnown)) {
    if (!deletes.includes(key)) differences.push(`${key} stays now`);
  }
  for (const key of deletes.filter(isKnown)) {
    if (!then.deletes.includes(key)) differences.push(`${key} goes now`);
  }
  return differences.slice(0, DIFFERENCES_MAX);
}

/** The words of a command's fault are for people. */
function sameRecord(key: string, was: unknown, now: unknown): boolean {
  if (was === undefined) return false;
  const plain = (value: unknown) => {
    if (!key.startsWith(keys.commands)) return value;
    const { fault: _, ...rest } = value as Record<string, unknown>;
    return rest;
  };
  return JSON.stringify(sorted(plain(was))) === JSON.stringify(sorted(plain(now)));
}

/** With members in the order of their names: records are read through schemas, which reorder. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1));
  return Object.fromEntries(entries.map(([name, one]) => [name, sorted(one)]));
}
