// SPDX-License-Identifier: Apache-2.0
//
// The shapes of backups of the control state, and of a restore.

import { z } from "@hono/zod-openapi";
import type {
  BackupsView,
  RebuildView,
  RestoreRequest,
  RestoreView,
  SettleView,
} from "#appliance/control-desk.ts";
import type { KeptBackup } from "#appliance/control-backups.ts";

const PATH_CHARACTERS_MAX = 4096;
const number = z.number().int().min(0);
const id = z.string().regex(/^[0-9a-f]{32}$/);

const factShapes = {
  clusterId: id,
  generation: z.object({ number, id }).describe("of the cluster when it was taken"),
  revision: number.describe("of the control store"),
  takenAtMs: number.describe("by the wall clock of the unit that took it"),
  entries: number.describe("keys in it"),
  bytes: number,
} as const;
export const KeptBackupSchema = z
  .object({ ...factShapes, name: z.string() })
  .openapi("ControlBackup");
export const BackupsSchema = z
  .object({
    here: z.array(KeptBackupSchema).describe("on the unit that is asked, the newest first"),
    units: z
      .array(
        z.object({
          unit: number,
          name: z.string(),
          keptAtMs: number.nullable().describe("when it last kept one, as it says; null: never"),
        }),
      )
      .describe("the units of the cluster"),
  })
  .openapi("ControlBackups");
export const BackupFileSchema = z
  .object({ name: z.string(), base64: z.base64().describe("the sealed file") })
  .openapi("ControlBackupFile");
export const BackupPathSchema = z.object({
  name: z
    .string()
    .min(1)
    .max(63)
    .openapi({ param: { name: "name", in: "path" }, example: "control-backup-0" }),
});
export const RestoreRequestSchema = z
  .strictObject({
    name: z.string().min(1).max(63).optional().describe("one that is kept on the unit"),
    file: z
      .string()
      .min(1)
      .max(PATH_CHARACTERS_MAX)
      .optional()
      .describe("a file on the unit, instead; only its own machine may name one"),
    dryRun: z.boolean().describe("say what it would do, and change nothing"),
  })
  .openapi("ControlRestoreRequest");
export const RestoreSchema = z
  .object({
    backup: z.object(factShapes),
    generation: number.describe("of the cluster afterwards"),
    sentences: z.array(z.string()).describe("what it does, and what it loses, in order"),
    begun: z.boolean().describe("false: nothing was changed"),
  })
  .openapi("ControlRestore");
export const RebuildRequestSchema = z
  .strictObject({ dryRun: z.boolean().describe("say what it would do, and change nothing") })
  .openapi("ControlRebuildRequest");
export const RebuildSchema = z
  .object({
    remembersAtMs: number
      .nullable()
      .describe("as of when the unit remembers units and volumes, by its wall clock; null: not"),
    generation: number.describe("of the cluster afterwards"),
    sentences: z.array(z.string()).describe("what it does, and what it loses, in order"),
    begun: z.boolean().describe("false: nothing was changed"),
  })
  .openapi("ControlRebuild");
export const SettleSchema = z
  .object({ disks: number.describe("that have told what they hold") })
  .openapi("ControlSettle");

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;

/** Compiles only while the schemas say exactly what is answered and asked. */
export const SCHEMAS_MATCH_CONTROL: [
  Same<z.infer<typeof KeptBackupSchema>, KeptBackup>,
  Same<z.infer<typeof BackupsSchema>, BackupsView>,
  Same<z.infer<typeof RestoreRequestSchema>, RestoreRequest>,
  Same<z.infer<typeof RestoreSchema>, RestoreView>,
  Same<z.infer<typeof RebuildSchema>, RebuildView>,
  Same<z.infer<typeof SettleSchema>, SettleView>,
] = [true, true, true, true, true, true];
