// SPDX-License-Identifier: Apache-2.0
//
// A virgin cluster gives way to another one, and what is known of it afterwards.
//
// Invariants
// - From `virgin` only, by compare-and-swap of the cluster's record, which the first volume, a
//   claim and an admission change in the transaction that accepts them: what was accepted stays,
//   and what comes later is refused.
// - `yielding` is final. So whoever says that a cluster gave way is right for ever, and a unit that
//   was away meanwhile may leave by that word (formation.ts): nothing was ever kept there.

import { Fault } from "#base/fault.ts";
import type { ControlStore } from "./control-store.ts";
import type { Draft } from "./draft.ts";
import { keys, valueText } from "./state.ts";
import type { ClusterRecord } from "./state.ts";
import type { ClusterView } from "./view.ts";

/** Clusters that one unit remembers having left. */
export const LEFT_MAX = 16;
/** Clusters that gave way, kept in a cluster's record: the newest. */
export const GAVE_WAY_MAX = 64;

/** Commits that the cluster gives way; a Fault where it is in use, or changed meanwhile. */
export async function giveWay(
  store: Pick<ControlStore, "transaction">,
  view: ClusterView,
): Promise<void> {
  const { cluster } = view;
  if (cluster?.state !== "virgin") {
    throw new Fault("conflict", "this cluster is in use; it gives way to none by itself");
  }
  const value = valueText({ ...cluster, state: "yielding" });
  const { committed } = await store.transaction({
    ifs: [view.compare(keys.cluster)],
    puts: [{ key: keys.cluster, value }],
  });
  if (!committed) throw new Fault("conflict", "the cluster changed meanwhile");
}

/** A unit that is admitted tells which clusters gave way that it was in. */
export function noteGivenWay(draft: Draft, left: readonly string[]): void {
  const { cluster } = draft.view;
  if (cluster === null) return;
  const known = cluster.gaveWay ?? [];
  const fresh = left.filter((id) => id !== cluster.uuid && !known.includes(id));
  if (fresh.length === 0) return;
  const gaveWay = [...known, ...new Set(fresh)].slice(-GAVE_WAY_MAX);
  draft.put(keys.cluster, { ...cluster, gaveWay });
}

/** Whether a cluster is known to have given way: its units that were away may leave it. */
export function hasGivenWay(view: ClusterView, clusterId: string): boolean {
  return view.cluster?.gaveWay?.includes(clusterId) === true;
}

/** From now on the cluster holds something that was accepted: it is never merged by itself. */
export function useCluster(draft: Draft): void {
  const cluster = joinable(draft);
  if (cluster.state === "virgin") draft.put(keys.cluster, { ...cluster, state: "used" });
}

/** The cluster, where it does not give way. */
export function joinable(draft: Draft): ClusterRecord {
  const { cluster } = draft.view;
  if (cluster === null) throw new Fault("notReady", "the control state is not read");
  if (cluster.state === "yielding") throw new Fault("notReady", "this cluster is giving way");
  return cluster;
}
