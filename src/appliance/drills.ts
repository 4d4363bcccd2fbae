// SPDX-License-Identifier: Apache-2.0
//
// Drills (`cairn drill`): the interface behind REST, CLI and pages, and what is told beforehand.
// What carries one out: unit-drill.ts.

import { Fault } from "#base/fault.ts";
import { REGION_BYTES } from "#base/grains.ts";
import { layouts } from "#base/layout.ts";
import type { Protection } from "#base/layout.ts";
import type { UnitNumber } from "#base/record.ts";
import { CANARY_NAME } from "#cluster/drill-changes.ts";
import type { DrillOutcome } from "#cluster/drill-changes.ts";
import { bytesInWords } from "#cluster/placement.ts";
import type { UnitRecord } from "#cluster/state.ts";
import { planVolume } from "#cluster/station-changes.ts";
import type { ClusterView } from "#cluster/view.ts";

/** Four regions: what is in flight spreads over more than one. */
const CANARY_BYTES = 4 * REGION_BYTES;

export interface DrillPlan {
  protection: Protection;
  sizeBytes: number;
  /** Who is to fall silent, by name; null: whoever placement lets head it. */
  head: string | null;
  /** What will be done, in order. */
  sentences: string[];
}

export const DRILL_PHASES = ["making", "writing", "failing", "checking", "protecting"] as const;

export interface DrillState {
  phase: (typeof DRILL_PHASES)[number] | "over";
  /** What is being done, or what was seen. */
  sentence: string;
  /** Wall clock, for people. */
  startedAtMs: number;
  /** Null: it is under way. */
  outcome: DrillOutcome | null;
  /** Whether all was as promised; null: it is under way. */
  passed: boolean | null;
}

export interface Drills {
  /** What a drill would do now, or a Fault that says why none can be done. Nothing is changed. */
  plan(unit?: string): DrillPlan;
  /** Begins one on the unit that is asked. */
  begin(unit?: string): DrillState;
  /** Of the last one that the asked unit ran, or runs; null: there was none since its start. */
  state(): DrillState | null;
}

/** The plan, with the head's number. */
export function drillPlan(
  view: ClusterView,
  head: UnitRecord | null,
  silentMs: number,
): DrillPlan & { headUnit: UnitNumber | null } {
  const { cluster } = view;
  if (cluster === null) throw new Fault("notReady", "the control state is not read");
  if (view.volumeByName(CANARY_NAME) !== null) {
    throw new Fault("conflict", `a drill is under way: there is a volume ${CANARY_NAME}`);
  }
  const sizeBytes = Math.min(CANARY_BYTES, cluster.sliceBytes);
  const protection = bestProtection(view, sizeBytes);
  if (head !== null) checkHead(view, head, sizeBytes);
  const units = head === null ? "units with room" : `${head.name}, which heads it, and others`;
  const who = head === null ? "The unit that heads it" : head.name;
  const sentences = [
    `A volume of ${bytesInWords(sizeBytes)} named ${CANARY_NAME} is made on ${units}: ` +
      `${layouts[protection].sentence}. No host may attach to it.`,
    "This unit writes to it and reads from it, the way that hosts do.",
    `${who} falls silent to this one volume for ${Math.round(silentMs / 1000)} s, as if it were ` +
      "dead; other volumes do not notice.",
    "Another copy takes over; how long a host would have waited is measured.",
    "Every block that was written is read back, and held against what was written.",
    "The volume is deleted, and the history says what was seen. It takes about half a minute.",
    "It does not rehearse the loss of a whole unit: see `cairn what-if unit`.",
  ];
  return {
    protection,
    sizeBytes,
    head: head?.name ?? null,
    headUnit: head?.number ?? null,
    sentences,
  };
}

/** Three copies where three units have room, else two. */
function bestProtection(view: ClusterView, sizeBytes: number): Protection {
  const fits = (protection: Protection) => {
    planVolume(view, { name: CANARY_NAME, sizeBytes, protection });
    return protection;
  };
  try {
    return fits("mirror-3");
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== "noSpace") throw error;
    return fits("mirror-2");
  }
}

function checkHead(view: ClusterView, head: UnitRecord, sizeBytes: number): void {
  const room = view.disksOfUnit(head.number).some((disk) => {
    const isUsable = view.diskServes(disk.number) && !view.diskLeaves(disk.number);
    return isUsable && disk.sizeBytes - view.promisedBytes(disk.number) >= sizeBytes;
  });
  if (!room || head.role !== "member") {
    throw new Fault("noSpace", `${head.name} has no working disk in a pool with room for it`);
  }
}
