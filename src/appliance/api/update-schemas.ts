// SPDX-License-Identifier: Apache-2.0
//
// The shapes that REST speaks about updates and health, as zod schemas; held against the backend's
// types at the foot, as in schemas.ts.

import { z } from "@hono/zod-openapi";
import { UNITS_MAX } from "#base/limits.ts";
import { isVersion } from "#base/release.ts";
import { MANIFEST_BYTES_MAX, SIGNATURE_BYTES_MAX } from "#cluster/update-manifest.ts";
import { UpdateSettingsSchema } from "#cluster/update-state.ts";
import type { Health } from "#appliance/health.ts";
import type {
  UpdatePlanView,
  UpdateRollView,
  UpdateStart,
  UpdateStatusView,
  UploadState,
} from "#appliance/update-backend.ts";

const PLACE_CHARACTERS_MAX = 4096;
/** Bytes of a file in one request; below the limit of every request's body. */
export const UPLOAD_PIECE_BYTES_MAX = 48 << 10;

const number = z.number().int().min(0);
const sentence = z.string();
const unitNumber = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);

export const HealthSchema = z
  .object({ healthy: z.boolean(), sentence: sentence.describe("why not, or as what it is") })
  .openapi("Health");

const RollSchema = z
  .object({
    version: z.string(),
    state: z.enum(["loaded", "rolling", "stopped", "done"]),
    sentence: sentence.describe("how it stands, or why it stopped"),
    current: z.object({ unit: number, name: z.string(), phase: z.string() }).nullable(),
    done: z.array(number),
    waiting: z.array(number),
  })
  .openapi("UpdateRoll");

const windowSchema = z.object({ from: z.string(), to: z.string() }).nullable();

export const UpdateStatusSchema = z
  .object({
    appliance: z.boolean().describe("false: it is updated where it came from"),
    version: z.string(),
    trial: z.boolean().describe("its version is on trial, and not blessed yet"),
    slots: z.array(
      z.object({
        version: z.string(),
        state: z.enum(["good", "trial", "bad"]),
        running: z.boolean(),
        triesLeft: number.nullable(),
      }),
    ),
    holds: z.string().nullable().describe("the version whose files are whole on this unit"),
    work: z.object({ sentence, doneBytes: number, totalBytes: number }).nullable(),
    sentence: sentence.describe("how the last work or trial here ended"),
    failed: z
      .object({ code: z.string(), message: z.string() })
      .nullable()
      .describe("why the last work here failed"),
    roll: RollSchema.nullable(),
    units: z.array(
      z.object({
        unit: number,
        name: z.string(),
        alive: z.boolean(),
        version: z.string(),
        appliance: z.boolean(),
        trial: z.boolean(),
        holds: z.boolean(),
        sentence,
      }),
    ),
    automatic: z.object({ auto: z.boolean(), window: windowSchema }),
  })
  .openapi("UpdateStatus");

export const UpdatePlanSchema = z
  .object({
    version: z.string(),
    order: z.array(z.object({ unit: number, name: z.string() })),
    consequences: z.array(z.string()).describe("what goes offline meanwhile: to be accepted"),
    refusals: z.array(z.string()).describe("why it may not begin now"),
  })
  .openapi("UpdatePlan");

export const UploadStateSchema = z
  .object({
    version: z.string(),
    wants: z
      .object({ name: z.string(), offsetBytes: number, leftBytes: number })
      .nullable()
      .describe("what comes next; null: the update is whole"),
  })
  .openapi("UploadState");

export const LoadUpdateSchema = z
  .strictObject({
    source: z
      .string()
      .min(1)
      .max(PLACE_CHARACTERS_MAX)
      .describe("a folder of the unit (absolute path), or an http(s) URL"),
  })
  .openapi("LoadUpdate");

export const BeginUploadSchema = z
  .strictObject({
    manifest: z.string().max(MANIFEST_BYTES_MAX).describe("manifest.json, exactly as signed"),
    signature: z.string().max(SIGNATURE_BYTES_MAX).describe("manifest.json.sig"),
  })
  .openapi("BeginUpload");

export const StartUpdateSchema = z
  .strictObject({
    version: z
      .string()
      .max(32)
      .refine(isVersion, "three numbers with dots")
      .nullable()
      .default(null),
    only: z
      .array(unitNumber)
      .min(1)
      .max(UNITS_MAX)
      .nullable()
      .default(null)
      .describe("units; null: the whole cluster"),
    accept: z.boolean().default(false).describe("the consequences that the plan names"),
    downgrade: z.boolean().default(false).describe("an older version is wanted"),
  })
  .openapi("StartUpdate");

export const StartAloneSchema = z
  .strictObject({ downgrade: z.boolean().default(false) })
  .openapi("StartUpdateAlone");

export const AutomaticUpdateSchema = z
  .strictObject({
    auto: z.boolean().describe("a loaded update starts by itself"),
    window: z
      .strictObject({
        from: UpdateSettingsSchema.shape.window.unwrap().shape.from,
        to: UpdateSettingsSchema.shape.window.unwrap().shape.to,
      })
      .nullable()
      .default(null)
      .describe("when it may start, UTC; null: at any time"),
  })
  .openapi("AutomaticUpdate");

export const UploadPathSchema = z.object({
  name: z
    .string()
    .min(1)
    .max(96)
    .openapi({ param: { name: "name", in: "path" }, description: "the file's name" }),
});
export const UploadQuerySchema = z.object({
  offset: z
    .string()
    .regex(/^\d{1,15}$/, "a whole number")
    .openapi({ description: "the first byte's place in the file" }),
});

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;

/** Compiles only while every schema says exactly what the backend's type says. */
export const UPDATE_SCHEMAS_MATCH_BACKEND: [
  Same<z.infer<typeof HealthSchema>, Health>,
  Same<z.infer<typeof UpdateStatusSchema>, UpdateStatusView>,
  Same<z.infer<typeof RollSchema>, UpdateRollView>,
  Same<z.infer<typeof UpdatePlanSchema>, UpdatePlanView>,
  Same<z.infer<typeof UploadStateSchema>, UploadState>,
  Same<z.infer<typeof StartUpdateSchema>, UpdateStart>,
] = [true, true, true, true, true, true];
