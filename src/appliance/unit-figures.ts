// SPDX-License-Identifier: Apache-2.0
//
// What a unit sees of itself: load, memory, links, what it copies, what hosts ask of it, and its
// drives. Asked by pages and CLI of any unit, by way of unit-questions.ts.

import { z } from "zod";
import type { RequestCounts } from "#base/request-meter.ts";

const count = z.number().min(0);

export const RequestCountsSchema = z.object({
  reads: count,
  writes: count,
  others: count.describe("flushes, trims and the like"),
  errors: count,
  readBytes: count,
  writeBytes: count,
  readMs: count.describe("sum over all reads"),
  writeMs: count.describe("sum over all writes"),
  longestMs: count.describe("of one request: what a host waited at most"),
}) satisfies z.ZodType<RequestCounts>;

export const DriveSchema = z.object({
  disk: count.describe("its number; 0: not ours (yet)"),
  path: z.string().max(4096),
  model: z.string().max(256).nullable(),
  serial: z.string().max(256).nullable(),
  kind: z.enum(["flash", "rotating", "unknown"]),
  bay: z.string().max(256).nullable().describe("as its enclosure calls it"),
  light: z.boolean().nullable().describe("at its bay: on, off, or there is none"),
  smart: z
    .object({
      passed: z.boolean(),
      temperatureCelsius: z.number().nullable(),
      powerOnHours: z.number().nullable(),
      wearPercent: z.number().nullable(),
      mediaErrors: z.number().nullable(),
    })
    .nullable(),
  smartMissing: z.string().max(256).describe("why there is none"),
});
export type DriveView = z.infer<typeof DriveSchema>;

export const UnitFiguresSchema = z.object({
  unit: count,
  uptimeSeconds: count.describe("of its daemon"),
  version: z.string().max(64),
  kernel: z.string().max(256),
  cores: count,
  loadPermille: count.describe("runnable tasks per core over the last minute"),
  memorySizeBytes: count,
  memoryAvailableBytes: count,
  linksUp: count,
  links: count,
  connections: count.describe("of hosts"),
  waitingRequests: count,
  headedSlices: count,
  resyncedBytes: count.describe("since its daemon started"),
  resyncs: z
    .array(
      z.object({
        slice: count,
        volume: count,
        target: count.describe("the disk that is brought up"),
        doneBytes: count,
        totalBytes: count,
        leftMs: count.nullable().describe("at the pace of the last minute; null: not known yet"),
      }),
    )
    .max(4096),
  io: RequestCountsSchema.describe("what hosts asked of it in the last minute"),
  isSearched: z.boolean().describe("its screen says that it is the one looked for"),
  cards: z.array(z.object({ name: z.string().max(64), cable: z.boolean().nullable() })).max(256),
  drives: z.array(DriveSchema).max(1024),
});
export type UnitFigures = z.infer<typeof UnitFiguresSchema>;

export const IoChartSchema = z.object({
  endsAtMs: count,
  stepMs: count.min(1),
  steps: z.array(RequestCountsSchema.nullable()).max(1024).describe("oldest first; null: nothing"),
});
