// SPDX-License-Identifier: Apache-2.0
//
// What the control state knows of updates: one record of the update that is loaded, rolls over the
// cluster, or has; and what each unit says of itself. State of a roll stands here whole, so that
// any later control station goes on with it.
//
// Invariants
// - The update's record is the control station's alone; a unit's is that unit's alone, and says
//   what is so on it now: versions, levels, which boot it is, how far it is with the update.
// - A roll that has stopped begins again only when it is told to.

import { z } from "zod";
import { isVersion } from "#base/release.ts";
import { UNITS_MAX } from "#base/limits.ts";
import { MANIFEST_BYTES_MAX, SIGNATURE_BYTES_MAX } from "./update-manifest.ts";

const SENTENCE_CHARACTERS_MAX = 1024;
const SLOTS_MAX = 8;

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
const countOrZero = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const units = z.array(positive).max(UNITS_MAX);
/** SHA-256 of a manifest, hex. */
const digest = z.string().regex(/^[0-9a-f]{64}$/);
const bootId = z.string().regex(/^[0-9a-f]{32}$/);
const sentence = z.string().max(SENTENCE_CHARACTERS_MAX);
const versionSchema = z.string().max(32).refine(isVersion, "three numbers with dots");

/** Where the unit whose turn it is stands. */
export const UPDATE_PHASES = ["install", "restart", "settle"] as const;

export const UpdateSchema = z.looseObject({
  version: versionSchema,
  digest,
  /** The manifest as it was signed, for units to check before they fetch anything. */
  manifest: z.string().max(MANIFEST_BYTES_MAX),
  signature: z.string().max(SIGNATURE_BYTES_MAX),
  state: z.enum(["loaded", "rolling", "stopped", "done"]),
  /** Counts starts: what a unit failed at in an earlier one does not count. */
  attempt: countOrZero,
  /** Whether the owner accepted that something goes offline. */
  accept: z.boolean(),
  /** Whether the owner wants an older version than the one that runs. */
  downgrade: z.boolean(),
  /** Only these units; null: the whole cluster. */
  only: units.nullable(),
  current: z
    .looseObject({
      unit: positive,
      phase: z.enum(UPDATE_PHASES),
      /** The boot that the unit was in when its turn came; another one is its return. */
      fromBoot: bootId,
    })
    .nullable(),
  /** Units that this roll has updated. */
  done: units,
  /** How it stands, or why it stopped. */
  sentence,
});
export type UpdateRecord = z.infer<typeof UpdateSchema>;
export type UpdatePhase = (typeof UPDATE_PHASES)[number];

export const UnitUpdateSchema = z.looseObject({
  unit: positive,
  /** False: a process on some other system, which nobody but its owner updates. */
  appliance: z.boolean(),
  /** What runs. */
  version: z.string().max(64),
  bootId,
  /** Runs on trial: not blessed yet. */
  trial: z.boolean(),
  featureLevel: positive,
  /** Highest format of its disks; 0: it has none. */
  diskFormat: countOrZero,
  architecture: z.string().max(32),
  /** The manifest whose payload is whole on this unit. */
  holds: digest.nullable(),
  task: z
    .looseObject({
      digest,
      attempt: countOrZero,
      state: z.enum(["fetching", "installing", "installed", "failed"]),
      sentence,
    })
    .nullable(),
  slots: z
    .array(z.looseObject({ version: z.string().max(64), state: z.string().max(32) }))
    .max(SLOTS_MAX),
});
export type UnitUpdateRecord = z.infer<typeof UnitUpdateSchema>;

const clockTime = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, "a time such as 02:30");

export const UpdateSettingsSchema = z.looseObject({
  /** Whether a loaded update starts by itself. */
  auto: z.boolean(),
  /** When it may start, UTC; null: at any time. Over midnight where `from` is the later one. */
  window: z.looseObject({ from: clockTime, to: clockTime }).nullable(),
});
export type UpdateSettings = z.infer<typeof UpdateSettingsSchema>;
export const UPDATE_SETTINGS_DEFAULT: UpdateSettings = { auto: false, window: null };

/** Whether a moment lies in the window; the wall clock picks a quiet hour, and nothing else. */
export function isInWindow(window: UpdateSettings["window"], wallMs: number): boolean {
  if (window === null) return true;
  const minute = Math.floor(wallMs / 60_000) % (24 * 60);
  const [from, to] = [minutesOf(window.from), minutesOf(window.to)];
  if (from === to) return true;
  return from < to ? minute >= from && minute < to : minute >= from || minute < to;
}

function minutesOf(time: string): number {
  const [hours = 0, minutes = 0] = time.split(":").map(Number);
  return hours * 60 + minutes;
}
