// SPDX-License-Identifier: Apache-2.0
//
// How many reactors a unit may come to have, and how much memory each of them (decision 0060).
//
// Invariants
// - One core is left to everything else.
// - What the arenas of all may come to hold fits in half of the box's memory, but for that of the
//   one reactor that every unit has (R13).
// - What all hosts of a unit may hold meets in the memory of one reactor at the worst, and half of
//   that is theirs; each reactor's share has room for the largest request of a host.

import { REACTORS_MAX } from "#base/limits.ts";

/** Of one reactor: address space, of which it takes what it needs. */
const ARENA_BYTES_MIN = 256 << 20;
/** What hosts of one reactor may hold at least; more than REQUEST_BYTES_MAX. */
const CREDIT_BYTES_MIN = 40 << 20;
const ARENAS_SHARE = 1 / 2;

export interface ReactorCounts {
  /** These start with the unit; the others with the first disk that needs one. */
  atOnce: number;
  most: number;
  /** Of each. */
  arenaBytes: number;
}

/** `configured`: so many, all with the unit; null: by the box. */
export function reactorCounts(
  configured: number | null,
  box: { cores: number; memoryBytes: number },
): ReactorCounts {
  if (configured !== null) return { atOnce: configured, ...arenas(configured) };
  const fits = (count: number) =>
    count * arenas(count).arenaBytes <= box.memoryBytes * ARENAS_SHARE;
  let most = Math.max(1, Math.min(box.cores - 1, REACTORS_MAX));
  while (most > 1 && !fits(most)) most--;
  return { atOnce: 1, ...arenas(most) };
}

function arenas(most: number): { most: number; arenaBytes: number } {
  return { most, arenaBytes: Math.max(ARENA_BYTES_MIN, 2 * CREDIT_BYTES_MIN * most) };
}
