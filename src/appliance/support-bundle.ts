// SPDX-License-Identifier: Apache-2.0
//
// The support bundle: one file of what a unit knows, without secrets, and what its control station
// decided lately with all inputs, so that the same code can decide again (`cairn replay`). Bounded:
// what does not fit is left out, and named.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import { JournalSchema } from "#cluster/decision-journal.ts";
import type { Journal } from "#cluster/decision-journal.ts";
import { redacted } from "#cluster/redact.ts";
import { replayJournal } from "#cluster/replay.ts";
import type { Replayed } from "#cluster/replay.ts";
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
  /** Parts that did not fit. */
  leftOut: z.array(z.string().max(64)).max(64),
});
export type SupportBundle = z.infer<typeof SupportBundleSchema>;

export function makeBundle(
  backend: Backend,
  made: { journal: Journal | null; wallMs: number },
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
  const whole = redacted({ facts, journal: made.journal }) as Pick<
    SupportBundle,
    "facts" | "journal"
  >;
  return fitted(whole, made.wallMs, charactersMax);
}

/** Without its largest parts, until it fits. */
function fitted(
  whole: Pick<SupportBundle, "facts" | "journal">,
  wallMs: number,
  charactersMax: number,
): SupportBundle {
  const bundle: SupportBundle = {
    format: FORMAT,
    formatVersion: FORMAT_VERSION,
    version: VERSION,
    madeAtMs: Math.floor(wallMs),
    facts: { ...whole.facts },
    journal: whole.journal,
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
  return bundle;
}

/** A bundle's decisions by this version's code; a Fault where it is none, or holds no journal. */
export function replayBundle(text: string): { version: string; replayed: Replayed[] } {
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
  const { version, journal, leftOut } = bundle.data;
  if (journal === null) {
    const why = leftOut.includes("journal") ? "it did not fit" : "its unit was in no cluster";
    throw new Fault("notFound", `the bundle holds no decisions: ${why}`);
  }
  const parsed = JournalSchema.safeParse(journal);
  if (!parsed.success) throw new Fault("badRequest", "the bundle's decisions cannot be read");
  return { version, replayed: replayJournal(parsed.data) };
}
