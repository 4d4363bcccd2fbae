// SPDX-License-Identifier: Apache-2.0
//
// What a unit tells all others of the slices it heads, with its liveness (state.ts, `/alive/<n>`):
// a hint for people and for decisions that wait, never a reason to change a record.

import { z } from "zod";

export const NEWS_CHARACTERS_MAX = 256;
export const AVAILABILITIES = ["online", "read-only", "waiting", "offline"] as const;
/** Slices that a unit tells about at once; those that serve and copy nothing are not told. */
export const SLICE_NEWS_MAX = 128;
/** What a unit says of a slice whose head's disk it has, as long as it is not just online. */
export const SliceNewsSchema = z.looseObject({
  slice: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  /** Of the record that it goes by: of an older one it says nothing any more. */
  epoch: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  availability: z.enum(AVAILABILITIES),
  /** The rest of "it waits for"; empty: for nothing. */
  waitsFor: z.string().max(NEWS_CHARACTERS_MAX),
  /** How much of a resync is done; not there: none is under way. */
  rebuiltPercent: z.number().int().min(0).max(100).optional(),
});
export type SliceNews = z.infer<typeof SliceNewsSchema>;
