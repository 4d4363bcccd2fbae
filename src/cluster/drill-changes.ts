// SPDX-License-Identifier: Apache-2.0
//
// What the control station decides about drills: a canary volume that nobody may attach to is made,
// its head is told to fall silent as if its unit were dead to it, and it is deleted again, with a
// sentence about what was seen. The unit that was asked writes and reads meanwhile
// (appliance/unit-drill.ts).
//
// Invariants
// - Only a canary's head is ever told to fall silent.
// - A canary goes with the run of the unit that made it: what was broken off leaves nothing behind.
// - One drill at a time: the canary's name is taken.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import { layouts } from "#base/layout.ts";
import type { Protection } from "#base/layout.ts";
import type { UnitNumber, VolumeNumber } from "#base/record.ts";
import type { CommandArguments } from "./commands.ts";
import { Draft } from "./draft.ts";
import type { EventDraft } from "./draft.ts";
import { runSchema } from "./canary.ts";
import type { CanaryRecord } from "./canary.ts";
import { keys } from "./state.ts";
import type { VolumeRecord } from "./state.ts";
import type { ClusterView } from "./view.ts";
import { startDeleting } from "./volume-ends.ts";

/** Taken while a drill is under way. */
export const CANARY_NAME = "cairn-drill";

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const positive = count.min(1);

/** What a drill saw. */
export const DrillOutcomeSchema = z.object({
  /** Between two answers that a host got: the longest time, ms; null: no answer came any more. */
  gapMs: count.nullable(),
  /** Who headed the canary before and after; the same: nobody took over. */
  fromUnit: positive,
  toUnit: positive,
  writes: count,
  reads: count,
  /** Blocks that were read back at the end, and of all reads those with other bytes. */
  verifiedBlocks: count,
  wrongBlocks: count,
  /** Requests that ended with an error. */
  errors: count,
  /** From the failing to all copies again, ms; null: not while it was waited for. */
  protectedMs: count.nullable(),
  /** Why it came to no end; null: it did. */
  failure: z.string().max(256).nullable(),
});
export type DrillOutcome = z.infer<typeof DrillOutcomeSchema>;

/** Arguments of the commands decided here. */
export const drillCommands = {
  /** The asking unit, in this run of it, wants a canary. */
  beginDrill: z.object({
    sizeBytes: positive,
    protection: z.enum(Object.keys(layouts) as [Protection, ...Protection[]]),
    run: runSchema,
    /** Who is to head it and to fall silent; null: as placement has it. */
    head: positive.nullable(),
  }),
  /** Its head is to fall silent now. */
  failDrill: z.object({ volume: positive }),
  endDrill: z.object({ volume: positive, outcome: DrillOutcomeSchema }),
} as const;

/** A volume that createVolume makes, and what a drill says besides. */
export interface CanaryWish {
  name: string;
  sizeBytes: number;
  protection: Protection;
  canary: CanaryRecord;
}

export function beginDrill(
  draft: Draft,
  args: CommandArguments<"beginDrill">,
  facts: { asker: UnitNumber; create(wish: CanaryWish): { volume: VolumeNumber } },
): { volume: VolumeNumber } {
  const { sizeBytes, protection, run, head } = args;
  if (draft.view.volumeByName(CANARY_NAME)?.state !== undefined) {
    throw new Fault("conflict", `a drill is under way: there is a volume ${CANARY_NAME}`);
  }
  if (layouts[protection].copies < 2) {
    throw new Fault("badRequest", "a volume of one copy fails over to nobody");
  }
  const canary: CanaryRecord = { unit: facts.asker, run, ...(head === null ? {} : { head }) };
  return facts.create({ name: CANARY_NAME, sizeBytes, protection, canary });
}

export function failDrill(
  draft: Draft,
  args: CommandArguments<"failDrill">,
  asker: UnitNumber,
): { unit: UnitNumber } {
  const { view } = draft;
  const volume = canaryOf(view, args.volume, asker);
  const number = volume.slices[0] ?? 0;
  const record = view.slices.get(number);
  const unit = record === undefined ? null : view.unitOfDisk(record.head);
  if (record === undefined || unit === null) throw new Fault("notReady", "it is not placed yet");
  const asked = (volume.canary.silenced?.asked ?? 0) + 1;
  const silenced = { asked, slice: number, disk: record.head };
  draft.put(keys.volume(volume.number), { ...volume, canary: { ...volume.canary, silenced } });
  return { unit: unit.number };
}

export function endDrill(
  draft: Draft,
  args: CommandArguments<"endDrill">,
  asker: UnitNumber,
): Record<string, never> {
  const volume = canaryOf(draft.view, args.volume, asker);
  startDeleting(draft, volume);
  draft.tell(outcomeEvent(draft.view, args.outcome));
  return {};
}

function canaryOf(
  view: ClusterView,
  number: VolumeNumber,
  asker: UnitNumber,
): VolumeRecord & { canary: CanaryRecord } {
  const volume = view.volumes.get(number);
  const { canary } = volume ?? {};
  if (volume === undefined || canary === undefined || volume.state === "deleting") {
    throw new Fault("notFound", `no drill has a volume ${number}`);
  }
  if (canary.unit !== asker) throw new Fault("forbidden", "another unit's drill");
  return { ...volume, canary };
}

/** A canary whose unit has ended the run that made it is deleted. */
export function forgetDrills(view: ClusterView): Draft | null {
  for (const volume of view.volumes.values()) {
    const { canary } = volume;
    if (canary === undefined || volume.state === "deleting") continue;
    if (view.alive.get(canary.unit)?.run === canary.run) continue;
    const draft = new Draft(view);
    const unit = view.units.get(canary.unit)?.name ?? `unit ${canary.unit}`;
    startDeleting(draft, volume);
    draft.tell({
      kind: "drill",
      severity: "warning",
      sentence: `a drill was broken off: ${unit}, which ran it, went away or began anew`,
      unit: canary.unit,
    });
    return draft;
  }
  return null;
}

/** Whether it did what one expects of the cluster. */
export function isPassed({ failure, wrongBlocks, errors, gapMs }: DrillOutcome): boolean {
  return failure === null && wrongBlocks === 0 && errors === 0 && gapMs !== null;
}

function outcomeEvent(view: ClusterView, outcome: DrillOutcome): EventDraft {
  const severity = isPassed(outcome) ? "info" : "alarm";
  const unit = outcome.failure === null ? outcome.fromUnit : null;
  return { kind: "drill", severity, sentence: `drill: ${outcomeSentence(view, outcome)}`, unit };
}

/** What was seen, as a person says it. */
export function outcomeSentence(view: ClusterView, outcome: DrillOutcome): string {
  const name = (unit: UnitNumber) => view.units.get(unit)?.name ?? `unit ${unit}`;
  const { fromUnit, toUnit, gapMs, writes, reads, verifiedBlocks, wrongBlocks } = outcome;
  const { errors, protectedMs, failure } = outcome;
  if (failure !== null) return `it came to no end: ${failure}`;
  const moved = `${name(fromUnit)} fell silent to a canary volume, ${name(toUnit)} took it over`;
  const waited = gapMs === null ? "no answer came any more" : `a host waited ${seconds(gapMs)}`;
  const right =
    wrongBlocks === 0
      ? `all ${verifiedBlocks} blocks read back right`
      : `${wrongBlocks} BLOCKS READ WRONG`;
  const failed = errors === 0 ? "" : `, ${errors} of them failed`;
  const whole =
    protectedMs === null ? "not protected again yet" : `protected ${seconds(protectedMs)}`;
  const after = protectedMs === null ? "" : " after it";
  const done = `${writes} writes and ${reads} reads${failed}`;
  return `${moved}; ${waited}; ${done}; ${right}; ${whole}${after}`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
