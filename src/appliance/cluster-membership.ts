// SPDX-License-Identifier: Apache-2.0
//
// What a unit is in its cluster, for auto-configuration: read from its view of the control state.

import type { Membership } from "#cluster/discovery.ts";
import type { ClusterLife } from "./cluster-life.ts";
import { FEATURE_LEVEL } from "./version.ts";

export function membershipOf(life: ClusterLife): Membership {
  const { view } = life.follower;
  const units: Membership["units"] = new Map(
    [...view.units.values()]
      .filter((unit) => unit.state === "admitted")
      .map(({ id, number, role, pool }) => [id, { number, role, pool }] as const),
  );
  return {
    clusterId: life.clusterId,
    clusterName: view.cluster?.name ?? life.clusterName,
    clusterState: view.cluster?.state ?? "used",
    unitNumber: life.unit,
    isStation: life.lease.leads,
    isVoter: life.voter.votes,
    term: view.station?.term ?? 0,
    revision: view.revision,
    featureLevel: view.cluster?.featureLevel ?? FEATURE_LEVEL,
    groupAddress: view.settings.groupAddress,
    units,
  };
}
