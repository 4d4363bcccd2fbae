// SPDX-License-Identifier: Apache-2.0
//
// The record of a slice as it is kept in the control store (base/record.ts says what it means).

import { z } from "zod";
import { REGION_BYTES, SLICE_BYTES_MAX } from "#base/grains.ts";
import { COPIES_MAX, MEMBERS_MAX, VOLUME_SLICES_MAX } from "#base/limits.ts";

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
const countOrZero = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

/** Copies of lost lineages that one slice keeps, at most. */
export const KEPT_COPIES_MAX = 16;
const KeptCopySchema = z.looseObject({
  disk: positive,
  lineage: positive,
  epoch: positive,
  before: positive,
  atMs: countOrZero,
  untilMs: countOrZero.optional(),
  bytes: countOrZero.optional(),
});

export const SliceSchema = z
  .looseObject({
    slice: positive,
    volume: positive,
    index: z.number().int().min(0).max(VOLUME_SLICES_MAX),
    sizeBytes: z.number().int().min(REGION_BYTES).max(SLICE_BYTES_MAX).multipleOf(REGION_BYTES),
    copies: z.number().int().min(1).max(COPIES_MAX),
    lineage: positive,
    ancestry: z.array(positive).max(1024),
    epoch: positive,
    head: positive,
    inSync: z
      .array(z.looseObject({ disk: positive, incarnation: positive }))
      .min(1)
      .max(MEMBERS_MAX),
    resyncing: z.array(positive).max(MEMBERS_MAX),
    former: z
      .array(z.looseObject({ disk: positive, epoch: positive, isMixed: z.boolean().optional() }))
      .max(MEMBERS_MAX)
      .default([]),
    kept: z.array(KeptCopySchema).max(KEPT_COPIES_MAX).default([]),
  })
  .refine((record) => record.inSync.some((member) => member.disk === record.head), {
    message: "the head is one of the in-sync members",
  });
