// SPDX-License-Identifier: Apache-2.0
//
// What makes a volume a drill's canary (drill-changes.ts), in its record.

import { z } from "zod";

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);

/** A run of a daemon: 16 bytes as 32 hex digits. */
export const runSchema = z.string().regex(/^[0-9a-f]{32}$/);

export const CanarySchema = z.looseObject({
  /** The unit that runs the drill, and its run: with it the canary ends. */
  unit: positive,
  run: runSchema,
  /** The unit that is to head it first; not there: as placement has it. */
  head: positive.optional(),
  /** The disk that headed the slice is to fall silent; its unit acts when `asked` rises. */
  silenced: z.looseObject({ asked: positive, slice: positive, disk: positive }).optional(),
});
export type CanaryRecord = z.infer<typeof CanarySchema>;
