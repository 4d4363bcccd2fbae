// SPDX-License-Identifier: Apache-2.0
//
// Where most of a volume is headed.

import type { UnitNumber } from "#base/record.ts";

/** The unit or sibling that occurs most, the first of several; null: none is known. */
export function busiestHead(heads: readonly (UnitNumber | undefined)[]): UnitNumber | null {
  const counts = new Map<UnitNumber, number>();
  for (const unit of heads) if (unit !== undefined) counts.set(unit, (counts.get(unit) ?? 0) + 1);
  let most: UnitNumber | null = null;
  for (const [unit, count] of counts) {
    if (most === null || count > (counts.get(most) ?? 0)) most = unit;
  }
  return most;
}
