// SPDX-License-Identifier: Apache-2.0
//
// What the control station decides about pools: made, removed, and which units are in them. A unit
// that holds nothing changes its pool at once. One that holds slices of volumes is emptied first,
// as an evacuated unit is (unit-changes.ts), but keeps its vote; it changes once it is empty.
//
// Invariants:
// - The pool made with the cluster is always there: what names no pool means it.
// - A pool with a volume, a unit, or a unit on its way to it is not removed.
// - A spare is placed on by nobody. One of no pool serves any pool that lacks a copy, one of a pool
//   that pool alone.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import { POOLS_MAX } from "#base/limits.ts";
import type { CommandArguments } from "./commands.ts";
import type { Draft } from "./draft.ts";
import { nameSchema } from "./name-schema.ts";
import { FIRST_POOL, POOL_ROLES } from "./pool-state.ts";
import type { PlaceInPools } from "./pool-state.ts";
import { keys } from "./state.ts";
import type { UnitRecord } from "./state.ts";
import { putInPlace, startEvacuation, unitOf } from "./unit-changes.ts";
import type { ClusterView } from "./view.ts";

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);

/** Arguments of the commands decided here. */
export const poolCommands = {
  createPool: z.object({ name: nameSchema }),
  deletePool: z.object({ name: nameSchema }),
  /** Null: in no pool, a spare for all. */
  moveUnit: z.object({
    unit: positive,
    role: z.enum(POOL_ROLES),
    pool: nameSchema.nullable(),
  }),
} as const;

export function createPool(
  draft: Draft,
  { name }: CommandArguments<"createPool">,
): Record<string, never> {
  const { pools } = draft.view;
  if (pools.has(name)) throw new Fault("conflict", `a pool named ${name} exists`);
  if (pools.size >= POOLS_MAX) {
    throw new Fault("tooLarge", `a cluster has at most ${POOLS_MAX} pools`);
  }
  draft.put(keys.pool(name), { name });
  draft.tell({
    kind: "pool-created",
    severity: "info",
    sentence: `the pool ${name} was created; units are moved into it`,
  });
  return {};
}

export function deletePool(
  draft: Draft,
  { name }: CommandArguments<"deletePool">,
): Record<string, never> {
  const { view } = draft;
  if (!view.pools.has(name)) throw new Fault("notFound", `no pool named ${name}`);
  if (name === FIRST_POOL) {
    throw new Fault("conflict", `${name} is the pool that new units join: it stays`);
  }
  const units = [...view.units.values()].filter((unit) => isOf(unit, name));
  const volumes = [...view.volumes.values()].filter((volume) => volume.pool === name);
  const held = [
    ...units.map((unit) => `unit ${unit.name}`),
    ...volumes.map((volume) => `volume ${volume.name}`),
  ];
  if (held.length > 0) {
    const more = held.length > 3 ? ` and ${held.length - 3} more` : "";
    const what = held.slice(0, 3).join(", ") + more;
    throw new Fault("conflict", `the pool ${name} is not empty: move or delete ${what} first`);
  }
  draft.delete(keys.pool(name));
  draft.tell({ kind: "pool-deleted", severity: "info", sentence: `the pool ${name} was deleted` });
  return {};
}

/** In the pool, or on its way there. */
function isOf(unit: UnitRecord, pool: string): boolean {
  if (unit.state !== "admitted") return false;
  return unit.pool === pool || unit.evacuation?.thenMove?.pool === pool;
}

export function moveUnit(
  draft: Draft,
  args: CommandArguments<"moveUnit">,
  wallMs: number,
): Record<string, never> {
  const { view } = draft;
  const unit = unitOf(view, args.unit);
  const place: PlaceInPools = { role: args.role, pool: args.pool };
  checkPlace(view, place);
  const known = unit.evacuation;
  if (known !== undefined) {
    const { thenMove } = known;
    if (thenMove !== undefined && isSame(thenMove, place)) return {};
    throw new Fault("conflict", `${unit.name} is being emptied already; keep it first`);
  }
  if (unit.role === "witness") {
    throw new Fault("conflict", `${unit.name} is a witness: it has no disks for a pool`);
  }
  if (isSame(unit, place)) return {};
  if (isHeldBack(view, unit, place)) {
    if (!hasOthers(view, unit)) {
      const why = "no other unit of its pool, and no spare, could take over what it holds";
      throw new Fault("conflict", `${unit.name} cannot be moved: ${why}`);
    }
    startEvacuation(draft, unit, { thenRemove: false, thenMove: place, wallMs, instead: null });
  } else {
    putInPlace(draft, unit, place);
  }
  if (place.pool !== null) draft.relyOn(keys.pool(place.pool));
  return {};
}

function checkPlace(view: ClusterView, { role, pool }: PlaceInPools): void {
  if (pool === null && role === "member") {
    throw new Fault("badRequest", "a member is in a pool; a spare may be in none");
  }
  if (pool !== null && !view.pools.has(pool)) throw new Fault("notFound", `no pool named ${pool}`);
}

function isSame(one: PlaceInPools | UnitRecord, other: PlaceInPools): boolean {
  return one.role === other.role && one.pool === other.pool;
}

/** It holds something that has to stay in its pool. */
function isHeldBack(view: ClusterView, unit: UnitRecord, place: PlaceInPools): boolean {
  // A spare that gets members of its own pool keeps what it may hold.
  const stays = place.role === "member" && place.pool === unit.pool;
  return !stays && view.slicesOfUnit(unit.number).length > 0;
}

/** Units that could take over what it holds, as far as their place goes. */
function hasOthers(view: ClusterView, unit: UnitRecord): boolean {
  for (const other of view.units.values()) {
    const isThere = other.state === "admitted" && other.evacuation === undefined;
    if (other.number === unit.number || !isThere) continue;
    if (other.pool === unit.pool || (other.role === "spare" && other.pool === null)) return true;
  }
  return false;
}
