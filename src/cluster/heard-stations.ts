// SPDX-License-Identifier: Apache-2.0
//
// The control stations that a unit has heard, one of each cluster, and when: what Formation chooses
// from. Bounded; who was heard longest ago is forgotten first.

import type { NearCluster, StationFact } from "./formation.ts";

/** A unit or a station counts as there for so long after it was last heard. */
export const HEARD_MS = 3500;
const CLUSTERS_HEARD_MAX = 64;

export interface Heard<T> {
  fact: T;
  atMs: number;
}

export class HeardStations {
  readonly #stations = new Map<string, Heard<StationFact>>();

  hear(fact: StationFact, nowMs: number): void {
    remember(this.#stations, fact.clusterId, fact, { atMs: nowMs, countMax: CLUSTERS_HEARD_MAX });
  }
  forget(clusterId: string): void {
    this.#stations.delete(clusterId);
  }

  /** Those that are there. */
  there(nowMs: number): StationFact[] {
    return this.#within(nowMs, HEARD_MS);
  }
  isThere(clusterId: string, nowMs: number): boolean {
    return this.there(nowMs).some((fact) => fact.clusterId === clusterId);
  }

  /** Clusters in use that were heard within a time, in the order of their ids. */
  inUse(nowMs: number, withinMs: number): NearCluster[] {
    return this.#within(nowMs, withinMs)
      .filter((fact) => fact.clusterState === "used")
      .sort((one, other) => (one.clusterId < other.clusterId ? -1 : 1));
  }

  #within(nowMs: number, withinMs: number): StationFact[] {
    const found = [...this.#stations.values()].filter(({ atMs }) => nowMs - atMs <= withinMs);
    return found.map(({ fact }) => fact);
  }
}

type Rank = Pick<StationFact, "clusterState" | "clusterId">;

/** Used clusters stay; among virgin ones the lowest id does. */
export function goesBefore(one: Rank, other: Rank): boolean {
  const [first, second] = [one, other].map((rank) => (rank.clusterState === "used" ? 0 : 1));
  if (first !== second) return (first as number) < (second as number);
  return one.clusterId < other.clusterId;
}

/** Two clusters may have one name: the first digits of the id tell them apart. */
export function clusterInWords({ clusterId, clusterName }: NearCluster): string {
  return `${clusterName} (id ${clusterId.slice(0, 8)})`;
}

export function remember<T>(
  map: Map<string, Heard<T>>,
  id: string,
  fact: T,
  { atMs, countMax }: { atMs: number; countMax: number },
): void {
  // Last in the map is heard last; the first is forgotten when there are too many.
  map.delete(id);
  map.set(id, { fact, atMs });
  if (map.size <= countMax) return;
  const [first] = map.keys();
  if (first !== undefined) map.delete(first);
}
