// SPDX-License-Identifier: Apache-2.0
//
// The end of a volume: at once, or after a grace period in which it can be taken back whole. Until
// it is over, nobody may attach, its name stays taken, and its copies are kept and made anew as
// those of any other.
//
// The grace is counted by the wall clock of whoever is the control station: it is for people, and
// shortens or stretches where that clock is wrong.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import type { CommandArguments } from "./commands.ts";
import { Draft } from "./draft.ts";
import { roughTime } from "./rough-time.ts";
import { keys } from "./state.ts";
import type { VolumeRecord } from "./state.ts";
import type { ClusterView } from "./view.ts";

/** The longest that a deleted volume is kept. */
export const GRACE_MS_MAX = 30 * 24 * 3600 * 1000;

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);

/** Arguments of the commands decided here. */
export const endCommands = {
  deleteVolume: z.object({
    volume: positive,
    /** How long it can be taken back, ms; 0, or not said: it cannot. */
    graceMs: z.number().int().min(0).max(GRACE_MS_MAX).optional(),
  }),
  restoreVolume: z.object({ volume: positive }),
} as const;

export function deleteVolume(
  draft: Draft,
  args: CommandArguments<"deleteVolume">,
  wallMs: number,
): Record<string, never> {
  const volume = draft.view.volumes.get(args.volume);
  if (volume === undefined) throw new Fault("notFound", `no volume ${args.volume}`);
  if (volume.state === "deleting") return {};
  const { graceMs = 0 } = args;
  // One that is not made yet has nothing to take back.
  if (graceMs > 0 && volume.state === "ready") {
    if (volume.trash === undefined) putAside(draft, volume, { graceMs, wallMs });
    return {};
  }
  startDeleting(draft, volume);
  draft.tell({
    kind: "volume-deleted",
    severity: "info",
    sentence: `volume ${volume.name} is being deleted`,
    volume: volume.number,
  });
  return {};
}

function putAside(
  draft: Draft,
  volume: VolumeRecord,
  { graceMs, wallMs }: { graceMs: number; wallMs: number },
): void {
  const untilMs = Math.max(0, Math.floor(wallMs)) + graceMs;
  const trash = { untilMs, hosts: volume.hosts };
  draft.put(keys.volume(volume.number), { ...volume, hosts: [], allow: [], trash });
  draft.tell({
    kind: "volume-put-aside",
    severity: "warning",
    sentence:
      `volume ${volume.name} is deleted: nobody may attach any more; ` +
      `it can be taken back for ${roughTime(graceMs)}`,
    volume: volume.number,
  });
}

export function restoreVolume(
  draft: Draft,
  args: CommandArguments<"restoreVolume">,
): Record<string, never> {
  const { view } = draft;
  const volume = view.volumes.get(args.volume);
  if (volume === undefined || volume.state === "deleting") {
    throw new Fault("notFound", `no volume ${args.volume}`);
  }
  const { trash, ...kept } = volume;
  if (trash === undefined) throw new Fault("conflict", `volume ${volume.name} is not deleted`);
  const hosts = trash.hosts.filter((host) => view.hosts.has(host));
  draft.put(keys.volume(volume.number), { ...kept, hosts });
  draft.tell({
    kind: "volume-restored",
    severity: "info",
    sentence: `volume ${volume.name} is taken back; its hosts may attach again`,
    volume: volume.number,
  });
  return {};
}

/** From here on nobody may attach, and its name is free; its slices go in parts. */
export function startDeleting(draft: Draft, volume: VolumeRecord): void {
  draft.put(keys.volume(volume.number), { ...volume, state: "deleting", hosts: [], allow: [] });
  draft.delete(keys.volumeName(volume.name));
}

/** Upkeep: a volume whose grace is over; null: none. */
export function endGrace(view: ClusterView, wallMs: number): Draft | null {
  for (const volume of view.volumes.values()) {
    const isOver = volume.trash !== undefined && wallMs >= volume.trash.untilMs;
    if (!isOver || volume.state !== "ready") continue;
    const draft = new Draft(view);
    startDeleting(draft, volume);
    draft.tell({
      kind: "volume-deleted",
      severity: "info",
      sentence: `volume ${volume.name} was not taken back, and is being deleted`,
      volume: volume.number,
    });
    return draft;
  }
  return null;
}
