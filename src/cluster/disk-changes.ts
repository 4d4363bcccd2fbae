// SPDX-License-Identifier: Apache-2.0
//
// What the control station decides about disks that come, go and fail. What units report of their
// disks' health (R9) is kept beside each disk's record, and what heads met is told in sentences. A
// disk that keeps lying, or that its owner retires, is *leaving*: it takes nothing new, its copies
// are made anew on other disks while it still serves as their source (upkeep.ts), then its slices'
// heads let go of it. One that failed or was taken out is *failed*: nothing is placed there until
// it is registered again. The owner may return either to use.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import type { DiskNumber, UnitNumber, VolumeNumber } from "#base/record.ts";
import type { CommandArguments } from "./commands.ts";
import type { Draft, EventDraft } from "./draft.ts";
import { bytesInWords } from "./placement.ts";
import { roughTime } from "./rough-time.ts";
import { keys } from "./state.ts";
import type { DiskHealthRecord, DiskRecord } from "./state.ts";
import type { ClusterView } from "./view.ts";

/** What heads tell of blocks, as commands carry it. */
export const BLOCK_KINDS = ["healed", "unreadable", "diverged", "carried", "keepsNothing"] as const;
export type BlockKind = (typeof BLOCK_KINDS)[number];

/** The rest of a sentence about a disk. */
const RETIRED_BY_OWNER = "is retired by its owner";

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

/** Arguments of the commands decided here. */
export const diskCommands = {
  /** A unit reports how one of its disks is. */
  reportDisk: z.object({
    disk: count.min(1),
    found: count,
    healed: count,
    unhealed: count,
    recentPlaces: count,
    scrubEndedAtMs: count,
  }),
  /** A head met wrong blocks: how many of which disk and volume since it last said so. */
  tellBlocks: z.object({
    kind: z.enum(BLOCK_KINDS),
    disk: count.min(1),
    volume: count.min(1),
    blocks: count.min(1),
    /** The first of them, in the volume. */
    offsetBytes: count,
  }),
  /** A disk is to be scrubbed now. */
  scrubDisk: z.object({
    disk: count.min(1),
    /** Without yielding to hosts. */
    urgent: z.boolean(),
  }),
  /** The asking unit's own disk failed (R10), or was taken out. */
  loseDisk: z.object({
    disk: count.min(1),
    /** Of the run that is over: a later one is not meant. */
    incarnation: count.min(1),
    isOut: z.boolean(),
    reason: z.string().max(256),
  }),
  /** Heads of the asking unit serve what a disk headed before: how many slices, and how late. */
  tellTakeover: z.object({
    volume: count.min(1),
    from: count.min(1),
    slices: count.min(1),
    /** From when the head before was heard last until the new one served; the longest, ms. */
    pauseMs: count,
  }),
  /** The owner wants its copies elsewhere. */
  retireDisk: z.object({ disk: count.min(1) }),
  /** The owner wants a disk used again that was retired, failed or was taken out. */
  returnDisk: z.object({ disk: count.min(1) }),
} as const;

export function reportDisk(
  draft: Draft,
  args: CommandArguments<"reportDisk">,
): Record<string, never> {
  const { view } = draft;
  const known = diskOf(view, args.disk);
  const { disk: _, ...health } = args;
  const next: DiskRecord = { ...known, health };
  const { diskErrorsMax } = view.settings;
  // What its owner has pardoned is forgotten in a day, as all of it is.
  const pardonedPlaces = Math.min(known.pardonedPlaces ?? 0, args.recentPlaces);
  if (known.pardonedPlaces !== undefined) next.pardonedPlaces = pardonedPlaces;
  if (diskErrorsMax > 0 && args.recentPlaces - pardonedPlaces >= diskErrorsMax) {
    const why = `gave wrong bytes in ${args.recentPlaces} places within a day`;
    if (retire(draft, next, why)) return {};
  }
  draft.put(keys.disk(known.number), next);
  return {};
}

export function tellBlocks(
  draft: Draft,
  args: CommandArguments<"tellBlocks">,
): Record<string, never> {
  const known = diskOf(draft.view, args.disk);
  draft.tell(blockEvent(draft.view, args));
  if (args.kind === "keepsNothing") retire(draft, known, "does not keep what is written to it");
  return {};
}

export function tellTakeover(
  draft: Draft,
  args: CommandArguments<"tellTakeover">,
  asker: UnitNumber,
): Record<string, never> {
  const { view } = draft;
  const volume = view.volumes.get(args.volume);
  if (volume === undefined) throw new Fault("notFound", `no volume ${args.volume}`);
  // A drill says what became of its canary, the takeover with it.
  if (volume.canary !== undefined) return {};
  const { slices, pauseMs } = args;
  const many = slices === 1 ? "a slice" : `${slices} slices`;
  const pause = `${(pauseMs / 1000).toFixed(1)} s after that was heard last`;
  const to = view.units.get(asker)?.name ?? `unit ${asker}`;
  draft.tell({
    kind: "failover",
    severity: "warning",
    sentence:
      `${to} serves ${many} of volume ${volume.name} ` +
      `instead of ${diskInWords(view, args.from)}, ${pause}`,
    unit: asker,
    volume: volume.number,
  });
  return {};
}

export function scrubDisk(
  draft: Draft,
  args: CommandArguments<"scrubDisk">,
): Record<string, never> {
  const { view } = draft;
  const known = diskOf(view, args.disk);
  if (!view.diskServes(known.number)) {
    throw new Fault("notReady", `disk ${known.number} or its unit is away`);
  }
  const number = (known.scrubAsked?.number ?? 0) + 1;
  draft.put(keys.disk(known.number), { ...known, scrubAsked: { number, urgent: args.urgent } });
  return {};
}

/** Nothing is placed there from now on; what it held is made anew when it stays away. */
export function loseDisk(
  draft: Draft,
  args: CommandArguments<"loseDisk">,
  asker: UnitNumber,
): Record<string, never> {
  const { view } = draft;
  const known = diskOf(view, args.disk);
  if (known.unit !== asker) throw new Fault("forbidden", "only a disk's own unit says that of it");
  const { isOut, reason } = args;
  const isTold = known.state === "failed" && known.lost?.isOut === isOut;
  if (isTold || known.incarnation > args.incarnation) return {};
  draft.put(keys.disk(known.number), { ...known, state: "failed", lost: { isOut, reason } });
  const disk = diskInWords(view, known.number);
  const after = roughTime(view.settings.reprotectAfterMs);
  const copies = `the copies it held are made anew on other disks after ${after}`;
  draft.tell({
    kind: isOut ? "disk-out" : "disk-failed",
    severity: "alarm",
    sentence: isOut
      ? `${disk} is not there any more (${reason}): put back it is used again; else ${copies}`
      : `${disk} is out of use (${reason}): ${copies}, unless it is returned to use before`,
    unit: known.unit,
  });
  return {};
}

export function retireDisk(
  draft: Draft,
  args: CommandArguments<"retireDisk">,
): Record<string, never> {
  const known = diskOf(draft.view, args.disk);
  if (known.why !== undefined) {
    throw new Fault("conflict", `disk ${known.number} is being retired already`);
  }
  retire(draft, known, RETIRED_BY_OWNER);
  return {};
}

export function returnDisk(
  draft: Draft,
  args: CommandArguments<"returnDisk">,
): Record<string, never> {
  const { view } = draft;
  const known = diskOf(view, args.disk);
  if (known.state === "ready") {
    throw new Fault("conflict", `disk ${known.number} is in use: there is nothing to return`);
  }
  const disk = diskInWords(view, known.number);
  const unit = view.units.get(known.unit);
  if (known.state === "failed" && !view.isAlive(known.unit)) {
    const name = unit?.name ?? `unit ${known.unit}`;
    throw new Fault("notReady", `${name} is away; it takes the disk when it starts`);
  }
  const { why: _why, emptied: _emptied, ...kept } = known;
  const pardonedPlaces = known.health?.recentPlaces ?? 0;
  const isFailed = known.state === "failed";
  const returnAsked = (known.returnAsked ?? 0) + 1;
  draft.put(keys.disk(known.number), {
    ...kept,
    pardonedPlaces,
    ...(isFailed ? { returnAsked } : { state: "ready" as const }),
  });
  draft.tell({
    kind: "disk-returned",
    severity: "info",
    sentence: isFailed
      ? `${disk} is looked at again, as its owner wishes`
      : `${disk} is used again, as its owner wishes, and not retired any more`,
    unit: known.unit,
  });
  return {};
}

function diskOf(view: ClusterView, disk: DiskNumber): DiskRecord {
  const known = view.disks.get(disk);
  if (known === undefined || known.state === "gone") throw new Fault("notFound", `no disk ${disk}`);
  return known;
}

/**
 * It takes nothing new from here on; its copies go elsewhere. Once: false when it was so already.
 */
export function retire(draft: Draft, disk: DiskRecord, why: string): boolean {
  if (disk.why !== undefined || disk.state === "leaving" || disk.state === "gone") return false;
  // One that is out of use stays so; it is leaving once it is back.
  const state = disk.state === "failed" ? "failed" : "leaving";
  draft.put(keys.disk(disk.number), { ...disk, state, why });
  draft.tell({
    kind: "disk-retired",
    severity: why === RETIRED_BY_OWNER ? "info" : "alarm",
    sentence:
      `${diskInWords(draft.view, disk.number)} ${why}: its copies are made anew on other disks, ` +
      `then it is taken out of use`,
    unit: disk.unit,
  });
  return true;
}

export function diskInWords(view: ClusterView, disk: DiskNumber): string {
  const unit = view.unitOfDisk(disk);
  return unit === null ? `disk ${disk}` : `disk ${disk} of ${unit.name}`;
}

function blockEvent(view: ClusterView, args: CommandArguments<"tellBlocks">): EventDraft {
  const { kind, volume, disk } = args;
  const { severity, sentence } = blockSentence(view, args);
  const unit = view.disks.get(disk)?.unit ?? null;
  return { kind: `blocks-${kind}`, severity, sentence, unit, volume };
}

function blockSentence(
  view: ClusterView,
  args: CommandArguments<"tellBlocks">,
): Pick<EventDraft, "severity" | "sentence"> {
  const disk = diskInWords(view, args.disk);
  const blocks = args.blocks === 1 ? "one block" : `${args.blocks} blocks`;
  const where = `of ${volumeInWords(view, args.volume)}, the first at byte ${args.offsetBytes}`;
  switch (args.kind) {
    case "healed":
      return {
        severity: "warning",
        sentence: `${disk} held ${blocks} ${where}, that were wrong; healed from another copy`,
      };
    case "unreadable":
      return {
        severity: "alarm",
        sentence:
          `no copy of ${blocks} ${where}, can be read: hosts get errors there, ` +
          `never wrong bytes, until they write them anew`,
      };
    case "diverged":
      return {
        severity: "alarm",
        sentence:
          `${disk} holds other bytes than the head in ${blocks} ${where}, though both match ` +
          `their checksums: which are right is not known, nothing was changed`,
      };
    case "carried":
      return {
        severity: "warning",
        sentence: `${blocks} ${where}, could not be read; the new copy on ${disk} says so as well`,
      };
    case "keepsNothing":
      return {
        severity: "alarm",
        sentence: `${disk} did not give back ${blocks} ${where}, just after they were written`,
      };
  }
}

function volumeInWords(view: ClusterView, volume: VolumeNumber): string {
  return `volume ${view.volumes.get(volume)?.name ?? volume}`;
}

/** A retired disk that holds nothing any more: told once; it stays out of use. */
export function tellEmptied(draft: Draft): void {
  const { view } = draft;
  for (const disk of view.disks.values()) {
    const isEmpty = disk.state === "leaving" && view.slicesOfDisk(disk.number).length === 0;
    if (!isEmpty || disk.emptied === true) continue;
    draft.put(keys.disk(disk.number), { ...disk, emptied: true });
    draft.tell({
      kind: "disk-emptied",
      severity: "info",
      sentence:
        `${diskInWords(view, disk.number)} holds no copy of anything any more ` +
        `(${bytesInWords(disk.sizeBytes)}): it can be pulled`,
      unit: disk.unit,
    });
    return;
  }
}

export type { DiskHealthRecord };
