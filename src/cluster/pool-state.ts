// SPDX-License-Identifier: Apache-2.0
//
// What the control state knows of pools: named groups of units in one cluster. A volume lies in one
// pool; a unit says in its own record which one it is in, and as what.

import { z } from "zod";
import { nameSchema } from "./name-schema.ts";

/** The pool that is made with the cluster, and stays: what names no pool means it. */
export const FIRST_POOL = "pool";

export const PoolSchema = z.looseObject({ name: nameSchema });
export type PoolRecord = z.infer<typeof PoolSchema>;

/** Roles of units that pools are made of. */
export const POOL_ROLES = ["member", "spare"] as const;

/** What a unit is to the pools. */
export const PlaceInPoolsSchema = z.object({
  role: z.enum(POOL_ROLES),
  /** Null: a spare for every pool. */
  pool: nameSchema.nullable(),
});
export type PlaceInPools = z.infer<typeof PlaceInPoolsSchema>;

/** `a member of the pool fast`, `a spare for all pools`. */
export function placeInWords({ role, pool }: { role: string; pool: string | null }): string {
  if (role === "witness") return "a witness";
  const of = pool === FIRST_POOL ? "the first pool" : `the pool ${pool}`;
  if (role === "member") return pool === null ? "in no pool" : `a member of ${of}`;
  return pool === null ? "a spare for all pools" : `a spare of ${of}`;
}

/** Whether a unit is on its way out of the cluster's work, not only into another pool. */
export function leavesCluster(unit: { evacuation?: { thenMove?: unknown } | undefined }): boolean {
  return unit.evacuation !== undefined && unit.evacuation.thenMove === undefined;
}
