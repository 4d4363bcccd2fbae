// SPDX-License-Identifier: Apache-2.0
//
// Volumes as they would be, made or grown: decided as the control station would, and committed by
// nobody. And when a volume that grows has grown.

import { Fault } from "#base/fault.ts";
import { TLS_RULE_DEFAULT } from "#base/tls.ts";
import type { World } from "#base/world.ts";
import type { CommandArguments } from "#cluster/commands.ts";
import { Draft } from "#cluster/draft.ts";
import type { PlacedSlice } from "#cluster/placement.ts";
import { FIRST_POOL } from "#cluster/pool-state.ts";
import { decisions, planVolume } from "#cluster/station-changes.ts";
import type { ClusterView } from "#cluster/view.ts";
import { planGrowth } from "#cluster/volume-growth.ts";
import { newId } from "#cluster/voters.ts";
import type { VolumeView } from "./backend.ts";
import type { ClusterLife } from "./cluster-life.ts";

const NOTHING_CHANGED = "nothing was changed";

export function createdPreview(
  world: Pick<World, "clock" | "random">,
  life: ClusterLife,
  request: CommandArguments<"createVolume">,
): VolumeView {
  const { view } = life.follower;
  const facts = {
    asker: life.unit,
    wallMs: world.clock.wallMs(),
    newId: () => newId(world),
    voters: life.voters,
  };
  decisions.createVolume(new Draft(view), request, facts);
  const { placed } = planVolume(view, request);
  return {
    volume: 0,
    uuid: "",
    name: request.name,
    sizeBytes: request.sizeBytes,
    growingToBytes: null,
    usedBytes: null,
    protection: request.protection,
    pool: request.pool ?? FIRST_POOL,
    availability: "waiting",
    state: "protected",
    rebuildingPercent: null,
    sentence: `it would be made; ${NOTHING_CHANGED}`,
    hosts: hostNames(view, request.hosts ?? []),
    tls: request.tls ?? TLS_RULE_DEFAULT,
    front: null,
    deletedAtMs: null,
    kept: [],
    goOn: null,
    uris: [],
    paths: [],
    slices: slicesOf(view, placed),
  };
}

/** `volume`: as it is now. Its slices to come are behind those that it has, without a number. */
export function grownPreview(
  view: ClusterView,
  volume: VolumeView,
  args: CommandArguments<"growVolume">,
): VolumeView {
  const { sizeBytes } = args;
  const isThere = sizeBytes === volume.sizeBytes && volume.growingToBytes === null;
  const placed = isThere ? [] : planGrowth(view, args).placed;
  return {
    ...volume,
    sizeBytes,
    sentence: `it ${isThere ? "has that size already" : "would grow"}; ${NOTHING_CHANGED}`,
    slices: [...volume.slices, ...slicesOf(view, placed)],
  };
}

function slicesOf(view: ClusterView, placed: readonly PlacedSlice[]): VolumeView["slices"] {
  return placed.map(({ index, disks }) => ({
    slice: 0,
    index,
    epoch: 0,
    head: disks[0] ?? 0,
    members: disks.map((disk) => ({
      disk,
      unit: view.disks.get(disk)?.unit ?? 0,
      state: "in-sync" as const,
    })),
  }));
}

/** Whether a volume has the size that was asked for; a Fault once it is not to get it any more. */
export function grown(
  view: ClusterView,
  { volume: number, sizeBytes }: CommandArguments<"growVolume">,
): () => boolean {
  let isBegun = false;
  return () => {
    const volume = view.volumes.get(number);
    if (volume === undefined || volume.state === "deleting") {
      throw new Fault("notFound", `no volume ${number} any more`);
    }
    if (volume.sizeBytes >= sizeBytes) return true;
    const { growth } = volume;
    const isOver = growth === undefined || growth.ended === true;
    if (isOver && isBegun) {
      const why = "the room that it was promised went to others meanwhile";
      throw new Fault("noSpace", `volume ${volume.name} stays as it is: ${why}`);
    }
    isBegun ||= !isOver;
    return false;
  };
}

function hostNames(view: ClusterView, numbers: readonly number[]): VolumeView["hosts"] {
  return numbers.map((host) => ({ host, name: view.hosts.get(host)?.name ?? String(host) }));
}
