// SPDX-License-Identifier: Apache-2.0
//
// The record of a slice as it is kept in the control store (base/record.ts says what it means).

import { z } from "zod";
import { REGION_BYTES, SLICE_BYTES_MAX } from "#base/grains.ts";
import { COPIES_MAX, MEMBERS_MAX, VOLUME_SLICES_MAX } from "#base/limits.ts";

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);

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
  })
  .refine((record) => record.inSync.some((member) => member.disk === record.head), {
    message: "the head is one of the in-sync members",
  });
