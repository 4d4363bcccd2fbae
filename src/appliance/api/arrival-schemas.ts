// SPDX-License-Identifier: Apache-2.0
//
// The shapes of units that come in by their owner's word.

import { z } from "@hono/zod-openapi";
import { WINDOW_SECONDS_MAX, WINDOW_UNITS_MAX } from "#cluster/arrival-changes.ts";
import type { ArrivalsView, WindowView } from "#appliance/arrivals.ts";

const number = z.number().int().min(0);
const WORDS_CHARACTERS_MAX = 64;

export const WaitingSchema = z
  .object({
    unitId: z.string(),
    name: z.string(),
    version: z.string(),
    address: z.string(),
    words: z.array(z.string()).describe("as its screen shows them, to compare"),
  })
  .openapi("WaitingUnit");

export const WindowSchema = z
  .object({ secondsLeft: number, unitsLeft: number })
  .openapi("ArrivalWindow");

export const ArrivalsSchema = z
  .object({
    waiting: z.array(WaitingSchema).describe("without a join secret, as this unit hears them"),
    window: WindowSchema.nullable().describe("open at this unit; null: closed"),
  })
  .openapi("Arrivals");

export const AdmitSchema = z
  .strictObject({
    words: z
      .string()
      .min(1)
      .max(WORDS_CHARACTERS_MAX)
      .describe("the words of a waiting unit, with blanks or dashes between them"),
  })
  .openapi("Admit");

export const OpenWindowSchema = z
  .strictObject({
    seconds: z.number().int().min(1).max(WINDOW_SECONDS_MAX).default(WINDOW_SECONDS_MAX),
    units: z.number().int().min(1).max(WINDOW_UNITS_MAX).default(8).describe("let in at most"),
  })
  .openapi("OpenArrivalWindow");

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;

/** Compiles only while the answers' schemas say exactly what is answered. */
export const SCHEMAS_MATCH_ARRIVALS: [
  Same<z.infer<typeof ArrivalsSchema>, ArrivalsView>,
  Same<z.infer<typeof WindowSchema>, WindowView>,
] = [true, true];
