// SPDX-License-Identifier: Apache-2.0
//
// The shapes of what an owner does with units, and of what would happen if something were lost.

import { z } from "@hono/zod-openapi";
import {
  MAINTENANCE_MS_DEFAULT,
  MAINTENANCE_MS_MAX,
  MAINTENANCE_MS_MIN,
} from "#cluster/maintenance.ts";
import { nameSchema } from "#cluster/name-schema.ts";
import { POOL_ROLES } from "#cluster/pool-state.ts";
import type { Question } from "#cluster/questions.ts";
import type { LossRow } from "#cluster/volume-state.ts";
import type { WhatIf } from "#appliance/what-if.ts";

const number = z.number().int().min(0);
const protection = z.enum(["protected", "degraded", "at-risk", "rebuilding"]);
const REFERENCE_CHARACTERS_MAX = 63;

export const WhatIfSchema = z
  .object({
    volumes: z
      .array(
        z.object({
          name: z.string(),
          availability: z.enum(["online", "waiting", "read-only", "offline"]),
          protection: protection.describe("once heads and members have done what they can"),
          later: protection.describe("once new copies are made, where there is room"),
          sentence: z.string(),
        }),
      )
      .describe("volumes that would notice"),
    untouched: number.describe("volumes that would not"),
    controlStops: z.boolean().describe("the control store would have no majority"),
    copiesBytesMax: number.describe("what would be copied at most; thin volumes copy less"),
    afterMs: number.describe("how long the cluster waits before that"),
    withoutRoom: number.nullable().describe("slices that find no room; null: not computed"),
    sentences: z.array(z.string()),
  })
  .openapi("WhatIf");

export const LossSchema = z
  .object({
    unit: number,
    name: z.string(),
    stops: z.array(z.string()).describe("volumes that stop until it is back"),
    waits: z.array(z.string()).describe("volumes that wait, for want of the control store"),
    weakened: z.array(z.string()).describe("volumes that go on with a copy fewer"),
    controlStops: z.boolean().describe("the control store would have no majority"),
    sentences: z.array(z.string()),
  })
  .openapi("Loss");
export const LossesSchema = z.object({ losses: z.array(LossSchema) }).openapi("Losses");

export const QuestionSchema = z
  .object({
    about: z.string(),
    sentence: z.string(),
    answers: z.array(
      z.object({
        answer: z.string().describe("what to do; a command where there is one"),
        costs: z.string().describe("what it loses, or that it loses nothing"),
      }),
    ),
  })
  .openapi("Question");
export const QuestionsSchema = z
  .object({ questions: z.array(QuestionSchema) })
  .openapi("Questions");

const reference = z.string().min(1).max(REFERENCE_CHARACTERS_MAX);

export const WhatIfQuerySchema = z.object({
  unit: reference.optional().openapi({ description: "a unit's name or number" }),
  disk: z
    .string()
    .regex(/^[1-9]\d{0,14}$/, "a disk's number")
    .optional()
    .openapi({ description: "a disk's number" }),
  maintenance: reference
    .optional()
    .openapi({ description: "a unit's name or number: switched off while in maintenance" }),
  link: z
    .string()
    .max(2 * REFERENCE_CHARACTERS_MAX + 1)
    .regex(/^[^,]+,[^,]+$/, "two units, as box1,box2")
    .optional()
    .openapi({ description: "two units, as box1,box2" }),
});

export const UnitPathSchema = z.object({
  unit: reference.openapi({
    param: { name: "unit", in: "path" },
    description: "name or number",
    example: "box1",
  }),
});

export const EvacuateSchema = z
  .strictObject({
    thenRemove: z.boolean().default(false).describe("once it holds nothing it is removed"),
    force: z.boolean().default(false).describe("also where not everything finds room"),
    dryRun: z.boolean().default(false).describe("say what it comes to, change nothing"),
  })
  .openapi("Evacuate");

export const MoveSchema = z
  .strictObject({
    pool: nameSchema.nullable().describe("null: a spare for every pool"),
    role: z.enum(POOL_ROLES).describe("a spare is placed on only when a copy is lacking"),
    force: z.boolean().default(false).describe("also where not everything finds room"),
    dryRun: z.boolean().default(false).describe("say what it comes to, change nothing"),
  })
  .openapi("Move");

export const MaintainSchema = z
  .strictObject({
    forMs: z
      .number()
      .int()
      .min(MAINTENANCE_MS_MIN)
      .max(MAINTENANCE_MS_MAX)
      .default(MAINTENANCE_MS_DEFAULT)
      .describe("how long at most; afterwards its copies are made anew as those of any other"),
    force: z.boolean().default(false).describe("what stops meanwhile is accepted"),
    dryRun: z.boolean().default(false).describe("say what it comes to, change nothing"),
  })
  .openapi("Maintain");

export const ReplaceSchema = z
  .strictObject({ by: reference.describe("the unit that takes its place, by name or number") })
  .openapi("Replace");

export const RemoveQuerySchema = z.object({
  force: z
    .enum(["true", "false"])
    .default("false")
    .openapi({ description: "true: fewer copies and votes are accepted; never lost data" }),
});

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;

/** Compiles only while the answers' schemas say exactly what is answered. */
export const SCHEMAS_MATCH_FLEET: [
  Same<z.infer<typeof WhatIfSchema>, WhatIf>,
  Same<z.infer<typeof QuestionSchema>, Question>,
  Same<z.infer<typeof LossSchema>, LossRow>,
] = [true, true, true];
