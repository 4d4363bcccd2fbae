// SPDX-License-Identifier: Apache-2.0
//
// Feature levels (design section 6): each unit says the highest that it speaks, a cluster has
// committed to one that all its units speak, and raises it once all speak a higher one.
//
// A unit speaks its own level and the one below. So it fits a cluster at its own level or the one
// below, and two units of one cluster are never further apart than that.

import { FEATURE_LEVEL_DISTANCE_MAX } from "#protocol/peer-channel/channel.wire.ts";
import type { Draft } from "./draft.ts";
import { keys } from "./state.ts";
import type { ClusterView } from "./view.ts";

/** Why a unit cannot be in a cluster of that level, in words; null: it can. */
export function levelRefusal(unitLevel: number, clusterLevel: number): string | null {
  const levels = `it speaks feature level ${unitLevel}, the cluster level ${clusterLevel}`;
  if (unitLevel < clusterLevel) {
    return `this unit is too old for the cluster (${levels}): update the unit first`;
  }
  if (unitLevel > clusterLevel + FEATURE_LEVEL_DISTANCE_MAX) {
    return `this unit is too new for the cluster (${levels}): update the cluster first`;
  }
  return null;
}

/** What all units of the cluster speak; null while one has not said so, or is on trial. */
export function commonLevel(view: ClusterView): number | null {
  let level: number | null = null;
  for (const unit of view.units.values()) {
    if (unit.state !== "admitted") continue;
    const report = view.unitUpdates.get(unit.number);
    if (report === undefined || report.trial) return null;
    level = Math.min(level ?? report.featureLevel, report.featureLevel);
  }
  return level;
}

/**
 * The cluster commits to what all its units speak: never while an update rolls, which may yet go
 * back; there is no way down.
 */
export function raiseFeatureLevel(draft: Draft): void {
  const { cluster } = draft.view;
  const level = commonLevel(draft.view);
  if (cluster === null || level === null || level <= cluster.featureLevel) return;
  draft.put(keys.cluster, { ...cluster, featureLevel: level });
  draft.tell({
    kind: "feature-level",
    severity: "info",
    sentence: `the cluster speaks feature level ${level} now`,
  });
}
