// SPDX-License-Identifier: Apache-2.0
//
// The support bundle: one file of what a unit knows, without secrets, and what its control station
// decided lately with all inputs, also before its daemon began anew, so that the same code can
// decide again (`cairn replay`). Bounded: what does not fit is left out, and named.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import { DECISION_FILES_MAX } from "#base/limits.ts";
import { JournalSchema } from "#cluster/decision-journal.ts";
import type { Journal } from "#cluster/decision-journal.ts";
import type { EarlierJournal } from "#cluster/journal-recorder.ts";
import { redacted } from "#cluster/redact.ts";
import { replayJournal } from "#cluster/replay.ts";
import type { Replayed } from "#cluster/replay.ts";
import { timeInWords } from "./api/words.ts";
import type { Backend } from "./backend.ts";
import { VERSION } from "./version.ts";

const FORMAT = "cairn-support-bundle";
const FORMAT_VERSION = 1;
/** Characters of a bundle; what is read back may not be longer. */
export const BUNDLE_CHARACTERS_MAX = 32 << 20;
const EVENTS = 500;

/** One part of the facts, or the journal. */
const part = z.unknown();
export const SupportBundleSchema = z.object({
  format: z.literal(FORMAT),
  formatVersion: z.literal(FORMAT_VERSION),
  /** Of the program that made it. */
  version: z.string().max(64),
  madeAtMs: z.number(),
  /** Status, units, disks, volumes and more, as the API shows them; a sentence where it failed. */
  facts: z.record(z.string().max(64), part),
  /** Null: this unit was in no cluster, or it did not fit. */
  journal: part.nullable(),
  /** What the daemon's runs before this one left on disk of theirs, oldest first. */
  earlier: z
    .array(z.object({ version: z.string().max(64), atMs: z.number(), journal: part }))
    .max(DECISION_FILES_MAX)
    .default([]),
  /** Parts that did not fit. */
  leftOut: z.array(z.string().max(64)).max(64),
});
export type SupportBundle = z.infer<typeof SupportBundleSchema>;

export function makeBundle(
  backend: Backend,
  made: { journal: Journal | null; earlier?: readonly EarlierJournal[]; wallMs: number },
  charactersMax = BUNDLE_CHARACTERS_MAX,
): SupportBundle {
  const { claim, ...status } = backend.status();
  const facts: Record<string, unknown> = { status: { ...status, claimed: claim.claimed } };
  const read = (name: string, reading: () => unknown) => {
    try {
      facts[name] = reading();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      facts[name] = error.message;
    }
  };
  read("health", () => backend.health());
  read("units", () => backend.units());
  read("disks", () => backend.disks());
  read("volumes", () => backend.volumes());
  read("settings", () => backend.settings());
  read("recovery", () => backend.recovery());
  read("questions", () => backend.fleet.questions());
  read("losses", () => backend.fleet.losses());
  read("drill", () => backend.drills.state());
  read("events", () => backend.events(0, EVENTS));
  const { journal, earlier = [] } = made;
  const whole = redacted({ facts, journal, earlier }) as Whole;
  return fitted(whole, made.wallMs, charactersMax);
}

type Whole = Pick<SupportBundle, "facts" | "journal" | "earlier">;

/** Without its largest parts, until it fits. */
function fitted(whole: Whole, wallMs: number, charactersMax: number): SupportBundle {
  const bundle: SupportBundle = {
    format: FORMAT,
    formatVersion: FORMAT_VERSION,
    version: VERSION,
    madeAtMs: Math.floor(wallMs),
    facts: { ...whole.facts },
    journal: whole.journal,
    earlier: [],
    leftOut: [],
  };
  const sizes = Object.entries(bundle.facts).map(([name, value]) => ({
    name,
    size: JSON.stringify(value)?.length ?? 0,
  }));
  sizes.push({ name: "journal", size: JSON.stringify(bundle.journal).length });
  sizes.sort((left, right) => right.size - left.size);
  let total = sizes.reduce((sum, one) => sum + one.size, 0);
  for (const { name, size } of sizes) {
    if (total <= charactersMax) break;
    if (name === "journal") bundle.journal = null;
    else delete bundle.facts[name];
    bundle.leftOut.push(name);
    total -= size;
  }
  // The newest of before first: it is nearest to whatever is looked for.
  for (const one of whole.earlier.toReversed()) {
    total += JSON.stringify(one).length;
    if (total > charactersMax) {
      bundle.leftOut.push(`decisions before ${timeInWords(one.atMs)}`);
      break;
    }
    bundle.earlier.unshift(one);
  }
  return bundle;
}

/** Decisions of one run of a daemon, made again. */
export interface ReplayedRun {
  /** Of the program that decided. */
  version: string;
  replayed: Replayed[];
}

/**
 * A bundle's decisions by this version's code, run by run, oldest first; a Fault where it is none,
 * or holds none.
 */
export function replayBundle(text: string): ReplayedRun[] {
  if (text.length > BUNDLE_CHARACTERS_MAX) {
    throw new Fault("tooLarge", `a bundle has at most ${BUNDLE_CHARACTERS_MAX} characters`);
  }
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (cause) {
    throw new Fault("badRequest", "it is no support bundle: no JSON", { cause });
  }
  const bundle = SupportBundleSchema.safeParse(raw);
  if (!bundle.success) throw new Fault("badRequest", "it is no support bundle of this format");
  const { version, journal, earlier, leftOut } = bundle.data;
  if (journal === null && earlier.length === 0) {
    const why = leftOut.includes("journal") ? "it did not fit" : "its unit was in no cluster";
    throw new Fault("notFound", `the bundle holds no decisions: ${why}`);
  }
  const runs = journal === null ? earlier : [...earlier, { version, journal }];
  return runs.map((run) => {
    const parsed = JournalSchema.safeParse(run.journal);
    if (!parsed.success) throw new Fault("badRequest", "the bundle's decisions cannot be read");
    return { version: run.version, replayed: replayJournal(parsed.data) };
  });
}
