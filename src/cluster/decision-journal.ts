// SPDX-License-Identifier: Apache-2.0
//
// What the control station decided lately, and by what: the control state as it was, its changes
// since, and each decision with its time and what else it knew. So that whoever looks for a fault
// can have the same code decide again (replay.ts).
//
// Invariants
// - Bounded: the oldest changes are folded into the state that the rest begins from, the decisions
//   among them are forgotten.
// - It holds references to records, which are replaced and never changed.
// - Each step is told to `recorder`, if there is one, before it is a part of the state.
// - Secrets are in it as hashes only; whoever hands it out takes those away as well (redact.ts).

import { z } from "zod";
import type { Transaction } from "./control-store.ts";
import type { EarlierJournal, JournalRecorder } from "./journal-recorder.ts";
import type { ClusterView, ViewChange } from "./view.ts";

/** Changes and decisions kept. */
const STEPS_MAX = 2000;
const KEY_CHARACTERS_MAX = 512;
/** Entries of a state that is read back. */
const ENTRIES_MAX = 1_000_000;

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const key = z.string().max(KEY_CHARACTERS_MAX);
const entry = z.tuple([key, z.unknown()]);

/** Since when units are away and slices lack a copy, as a decision knew it (upkeep.ts). */
export const LacksSchema = z.object({
  units: z.array(z.tuple([count, z.number()])).max(ENTRIES_MAX),
  slices: z.array(z.tuple([count, z.number()])).max(ENTRIES_MAX),
});
export type Lacks = z.infer<typeof LacksSchema>;

const DecisionSchema = z.object({
  kind: z.literal("decision"),
  /** What decided: upkeep, grace, telling, roll, or the name of a command. */
  by: z.string().max(64),
  nowMs: z.number(),
  wallMs: z.number(),
  /** Of upkeep. */
  lacks: LacksSchema.optional(),
  /** Of a command: its id, the ids that were drawn for it, and who voted. */
  command: z.string().max(64).optional(),
  ids: z.array(z.string().max(64)).max(64).optional(),
  voters: z.array(count).max(256).nullable().optional(),
  puts: z.array(entry).max(256),
  deletes: z.array(key).max(256),
});
export type Decision = z.infer<typeof DecisionSchema>;

const ChangesSchema = z.object({
  kind: z.literal("changes"),
  /** Null: deleted. */
  changes: z.array(entry).max(ENTRIES_MAX),
});
export type Step = Decision | z.infer<typeof ChangesSchema>;

export const JournalSchema = z.object({
  /** The state that the steps begin from. */
  base: z.array(entry).max(ENTRIES_MAX),
  steps: z.array(z.discriminatedUnion("kind", [DecisionSchema, ChangesSchema])).max(2 * STEPS_MAX),
});
export type Journal = z.infer<typeof JournalSchema>;

export class DecisionJournal {
  readonly #base = new Map<string, unknown>();
  #steps: Step[] = [];

  readonly #recorder: JournalRecorder | null;

  constructor(view: ClusterView, recorder: JournalRecorder | null = null) {
    this.#recorder = recorder;
    view.onChange((changes) => this.#changed(changes));
  }

  #changed(changes: readonly ViewChange[]): void {
    this.#push({ kind: "changes", changes: changes.map(({ key: of, value }) => [of, value]) });
  }

  decided(decision: Omit<Decision, "kind" | "puts" | "deletes">, transaction: Transaction): void {
    const { puts = [], deletes = [] } = transaction;
    this.#push({
      kind: "decision",
      ...decision,
      puts: puts.map((put) => [put.key, JSON.parse(put.value) as unknown]),
      deletes: [...deletes],
    });
  }

  #push(step: Step): void {
    this.#recorder?.step(step, () => this.#state());
    this.#steps.push(step);
    if (this.#steps.length <= STEPS_MAX) return;
    const oldest = this.#steps.shift();
    if (oldest?.kind === "changes") applyChanges(this.#base, oldest.changes);
  }

  /** The control state after all steps. */
  #state(): Map<string, unknown> {
    const state = new Map(this.#base);
    for (const step of this.#steps) if (step.kind === "changes") applyChanges(state, step.changes);
    return state;
  }

  /** What runs before this one left on disk, oldest first. */
  earlier(): EarlierJournal[] {
    return this.#recorder?.earlier() ?? [];
  }

  journal(): Journal {
    return { base: [...this.#base], steps: [...this.#steps] };
  }
}

export function applyChanges(
  state: Map<string, unknown>,
  changes: readonly (readonly [string, unknown])[],
): void {
  for (const [of, value] of changes) {
    if (value === null) state.delete(of);
    else state.set(of, value);
  }
}
