// SPDX-License-Identifier: Apache-2.0
//
// Generations of a cluster: a restored backup starts a new one (design section 6). Two owners may
// restore at two units at once, so a generation has an id beside its number, and any two are in
// order: everybody ends in the highest one that he hears of.

import { z } from "zod";
import { idSchema } from "./state.ts";
import type { ClusterRecord } from "./state.ts";

export const GenerationSchema = z.object({
  number: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  /** Random; zeros for the first. */
  id: idSchema,
});
export type Generation = z.infer<typeof GenerationSchema>;

export const FIRST_GENERATION: Generation = { number: 1, id: "0".repeat(32) };

export function generationOf(cluster: ClusterRecord): Generation {
  return { number: cluster.generation, id: cluster.generationId ?? FIRST_GENERATION.id };
}

/** Positive: `one` is the higher one; 0: they are the same. */
export function compareGenerations(one: Generation, other: Generation): number {
  if (one.number !== other.number) return one.number - other.number;
  if (one.id === other.id) return 0;
  return one.id > other.id ? 1 : -1;
}

/** As a person is told: "generation 2". */
export function generationInWords({ number }: Generation): string {
  return `generation ${number}`;
}
