// SPDX-License-Identifier: Apache-2.0
//
// The control station's inputs and decisions on disk (decision-journal.ts), so that they outlive
// its daemon: lines of JSON, a file of them begins with the state that its steps begin from. Only a
// unit that leads writes, and only when there is something: an idle cluster costs nothing.
//
// Invariants
// - Bounded: files by the lines' own limit, steps of one file by JOURNAL_STEPS_MAX. When either is
//   reached, the next file begins with the state as it is then.
// - A file's steps follow each other without a gap: what was not written ends the file.

import type { Log } from "#base/world.ts";
import { z } from "zod";
import type { Step } from "./decision-journal.ts";

/** Steps of one file: as many as are kept in memory. */
const JOURNAL_STEPS_MAX = 2000;

/** Files of lines that outlive the process; failures are answered by false. */
export interface JournalLines {
  begin(line: string): boolean;
  append(line: string): boolean;
  /** The newest file first. */
  read(): string[][];
}

const HeadSchema = z.object({
  kind: z.literal("base"),
  version: z.string().max(64),
  atMs: z.number(),
  base: z.array(z.unknown()),
});

/** What an earlier run of the daemon left: its journal is checked by whoever replays it. */
export interface EarlierJournal {
  version: string;
  atMs: number;
  journal: { base: unknown[]; steps: unknown[] };
}

export interface RecorderOptions {
  version: string;
  /** Whether this unit is the control station at this moment. */
  leads(): boolean;
  wallMs(): number;
}

export class JournalRecorder {
  readonly #lines: JournalLines;
  readonly #log: Log;
  readonly #options: RecorderOptions;
  /** Files begun in this run. */
  #begun = 0;
  #steps = 0;
  #isOpen = false;
  #isBroken = false;

  constructor(lines: JournalLines, log: Log, options: RecorderOptions) {
    this.#lines = lines;
    this.#log = log;
    this.#options = options;
  }

  /** The next step; `state`: the control state before it. */
  step(step: Step, state: () => ReadonlyMap<string, unknown>): void {
    if (this.#isBroken) return;
    if (!this.#options.leads()) {
      this.#isOpen = false;
      return;
    }
    // What changed before the first decision is in the state that it is decided by.
    if (!this.#isOpen && step.kind === "changes") return;
    const line = JSON.stringify(step);
    if (this.#isOpen && this.#steps < JOURNAL_STEPS_MAX && this.#lines.append(line)) {
      this.#steps++;
      return;
    }
    if (this.#begin(state()) && this.#lines.append(line)) {
      this.#steps = 1;
      return;
    }
    this.#isOpen = false;
    this.#isBroken = true;
    this.#log.write("warn", "decisions are not kept on disk any more in this run", {});
  }

  #begin(state: ReadonlyMap<string, unknown>): boolean {
    const { version } = this.#options;
    const head = { kind: "base", version, atMs: this.#options.wallMs(), base: [...state] };
    this.#isOpen = this.#lines.begin(JSON.stringify(head));
    if (this.#isOpen) this.#begun++;
    return this.#isOpen;
  }

  /** What runs before this one left, oldest first; a file is taken up to its first bad line. */
  earlier(): EarlierJournal[] {
    const files = this.#lines.read().slice(this.#begun);
    return files.flatMap((lines) => readJournal(lines) ?? []).reverse();
  }
}

function readJournal([head, ...lines]: readonly string[]): EarlierJournal | null {
  const first = HeadSchema.safeParse(parsed(head ?? ""));
  if (!first.success) return null;
  const { version, atMs, base } = first.data;
  const steps: unknown[] = [];
  for (const line of lines) {
    const step = parsed(line);
    if (step === null || steps.length === JOURNAL_STEPS_MAX) break;
    steps.push(step);
  }
  return { version, atMs, journal: { base, steps } };
}

/** Null: no JSON. */
function parsed(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
