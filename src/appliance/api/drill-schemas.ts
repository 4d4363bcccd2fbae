// SPDX-License-Identifier: Apache-2.0
//
// The shapes of drills: what one would do, how far it is, what was seen.

import { z } from "@hono/zod-openapi";
import { layouts } from "#base/layout.ts";
import type { Protection } from "#base/layout.ts";
import { DrillOutcomeSchema } from "#cluster/drill-changes.ts";
import { DRILL_PHASES } from "#appliance/drills.ts";
import type { DrillPlan, DrillState } from "#appliance/drills.ts";

const REFERENCE_CHARACTERS_MAX = 63;
const reference = z.string().min(1).max(REFERENCE_CHARACTERS_MAX);
const number = z.number().int().min(0);

const PlanSchema = z
  .object({
    protection: z.enum(Object.keys(layouts) as [Protection, ...Protection[]]),
    sizeBytes: number,
    head: z.string().nullable().describe("the unit that is to fall silent; null: whoever heads it"),
    sentences: z.array(z.string()).describe("what will be done, in order"),
  })
  .openapi("DrillPlan");
export const DrillStateSchema = z
  .object({
    phase: z.enum([...DRILL_PHASES, "over"]),
    sentence: z.string().describe("what is being done, or what was seen"),
    startedAtMs: number,
    outcome: DrillOutcomeSchema.nullable().describe("null: it is under way"),
    passed: z.boolean().nullable().describe("all was as promised; null: it is under way"),
  })
  .openapi("DrillState");
export const DrillSchema = z
  .object({
    plan: PlanSchema.nullable().describe("what one would do now; null: none can be done"),
    refusal: z.string().nullable().describe("why none can be done"),
    state: DrillStateSchema.nullable().describe("of the last one that this unit ran, or runs"),
  })
  .openapi("Drill");
export const DrillRequestSchema = z
  .strictObject({
    unit: reference.optional().describe("who is to head the canary and to fall silent"),
  })
  .openapi("DrillRequest");
export const DrillQuerySchema = z.object({
  unit: reference.optional().openapi({ description: "who is to fall silent, by name or number" }),
});

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;

/** Compiles only while the answers' schemas say exactly what is answered. */
export const SCHEMAS_MATCH_DRILLS: [
  Same<z.infer<typeof PlanSchema>, DrillPlan>,
  Same<z.infer<typeof DrillStateSchema>, DrillState>,
] = [true, true];
