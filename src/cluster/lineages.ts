// SPDX-License-Identifier: Apache-2.0
//
// An owner's override (contract.md, R3, R8): a volume waits for a copy that does not come, and its
// owner has it go on from another one. Each slice that stands still begins a new lineage on one
// disk; what the disks of the one before hold is *kept*: there it is neither written nor given
// back, hosts of the volume read it under a name of its own, and a person gives it up.
//
// Invariants
// - Only what does not go on by itself is overridden: a member that is there in its named run, or
//   says that it waits for nobody, takes over unasked (R3).
// - Every disk that the last record before named in sync, but the one that goes on, keeps its copy.
// - A new lineage's number is drawn, so that two overrides never come to the same one.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import { inSyncEntry } from "#base/record.ts";
import type {
  DiskNumber,
  FormerMember,
  KeptCopy,
  SliceNumber,
  SliceRecord,
  UnitNumber,
} from "#base/record.ts";
import type { CommandArguments } from "./commands.ts";
import { diskInWords } from "./disk-changes.ts";
import type { Draft } from "./draft.ts";
import { bytesInWords } from "./placement.ts";
import { KEPT_COPIES_MAX } from "./slice-state.ts";
import { keys } from "./state.ts";
import type { VolumeRecord } from "./state.ts";
import type { ClusterView } from "./view.ts";

/** Lineages that a slice may have behind it: one per override. */
export const OVERRIDES_MAX = 64;
/** Copies that a unit tells of at once. */
export const KEPT_TOLD_MAX = 24;
/** Hex digits of a drawn id that make a lineage's number: less than 2^53. */
const LINEAGE_DIGITS = 13;

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const positive = count.min(1);

/** Arguments of the commands decided here. */
export const lineageCommands = {
  /** `number`: the rest of an override that did not fit into one transaction. */
  goOn: z.object({ volume: positive, number: positive.optional() }),
  discardCopy: z.object({ volume: positive, number: positive }),
  /** Copies that the asking unit's disks keep are there, and what they hold. */
  tellKept: z.object({
    copies: z
      .array(z.object({ slice: positive, disk: positive, bytes: count }))
      .min(1)
      .max(KEPT_TOLD_MAX),
  }),
} as const;

export interface LineageAnswers {
  goOn: { number: number; left: number };
  discardCopy: { left: number };
  tellKept: Record<string, never>;
}

/** One slice that could go on, and from what. */
export interface GoOnStep {
  record: SliceRecord;
  disk: DiskNumber;
  /** When it left the set; null: it is in it, and lost its memory alone. */
  former: FormerMember | null;
}

export interface GoOnPlan {
  steps: GoOnStep[];
  /** Slices that stand still, and no disk that works holds anything of them. */
  without: SliceRecord[];
}

/** What would go on, and from which disks; nothing where the volume does not stand still. */
export function goOnPlan(view: ClusterView, volume: VolumeRecord): GoOnPlan {
  const plan: GoOnPlan = { steps: [], without: [] };
  for (const record of view.slicesOfVolume(volume)) {
    if (record === null || !isStopped(view, record)) continue;
    const step = candidate(view, record);
    if (step === null) plan.without.push(record);
    else plan.steps.push(step);
  }
  return plan;
}

/** Whether a slice waits for a disk, and would for ever if that never came. */
export function isStopped(view: ClusterView, record: SliceRecord): boolean {
  let isServed = false;
  for (const { disk, incarnation } of record.inSync) {
    if (!view.diskServes(disk)) continue;
    if (view.disks.get(disk)?.incarnation === incarnation) return false;
    isServed = true;
  }
  return !isServed || saysItWaits(view, record);
}

/** Some member started again, and told that it waits for others (slice-news.ts). */
function saysItWaits(view: ClusterView, record: SliceRecord): boolean {
  for (const alive of view.alive.values()) {
    const told = alive.slices?.find(({ slice }) => slice === record.slice);
    if (told?.epoch === record.epoch && told.availability === "waiting") return true;
  }
  return false;
}

/** Who lost its memory alone has the newest; then who left last; a mixture of times comes last. */
function candidate(view: ClusterView, record: SliceRecord): GoOnStep | null {
  const restarted = record.inSync.find(({ disk }) => view.diskServes(disk));
  if (restarted !== undefined) return { record, disk: restarted.disk, former: null };
  const [best] = (record.former ?? [])
    .filter(({ disk }) => view.diskServes(disk))
    .sort((one, other) => {
      const mixed = Number(one.isMixed ?? false) - Number(other.isMixed ?? false);
      return mixed === 0 ? other.epoch - one.epoch : mixed;
    });
  return best === undefined ? null : { record, disk: best.disk, former: best };
}

export function goOn(
  draft: Draft,
  args: CommandArguments<"goOn">,
  facts: { wallMs: number; newId(): string },
): LineageAnswers["goOn"] {
  const { view } = draft;
  const volume = volumeOf(view, args.volume);
  const { steps, without } = goOnPlan(view, volume);
  const { name, overrides = 0 } = volume;
  if (without.length > 0) {
    const of = `${without.length} of its ${volume.slices.length} slices`;
    throw new Fault("conflict", `${name}: no disk that works holds a copy of ${of}`);
  }
  if (steps.length === 0) {
    if (args.number === overrides) return { number: overrides, left: 0 };
    throw new Fault("conflict", `${name} does not stand still for want of a copy`);
  }
  const number = args.number ?? overrides + 1;
  if (args.number !== undefined && args.number !== overrides) {
    throw new Fault("conflict", `the last override of ${name} is number ${overrides}`);
  }
  const lineage = Number.parseInt(facts.newId().slice(0, LINEAGE_DIGITS), 16) + 1;
  const atMs = Math.max(0, Math.floor(facts.wallMs));
  draft.put(keys.volume(volume.number), { ...volume, overrides: number });
  if (args.number === undefined) {
    draft.tell({
      kind: "volume-overridden",
      severity: "alarm",
      sentence: overrideSentence(view, volume, { steps, number }),
      volume: volume.number,
    });
  }
  let done = 0;
  for (const step of steps) {
    if (draft.isFull) break;
    draft.put(keys.slice(step.record.slice), overridden(view, step, { lineage, number, atMs }));
    // R0: the record names its run; one that started again meanwhile takes over as any other.
    draft.relyOn(keys.disk(step.disk));
    done++;
  }
  return { number, left: steps.length - done };
}

function overridden(
  view: ClusterView,
  { record, disk }: GoOnStep,
  at: { lineage: number; number: number; atMs: number },
): SliceRecord {
  const { lineage, ancestry, epoch, inSync } = record;
  const kept = [...(record.kept ?? [])];
  for (const loser of inSync) {
    if (loser.disk === disk) continue;
    const untilMs = view.diskServes(loser.disk) ? at.atMs : lastKnownMs(view, loser.disk);
    const copy: KeptCopy = { disk: loser.disk, lineage, epoch, before: at.number, atMs: at.atMs };
    kept.push(untilMs === null ? copy : { ...copy, untilMs });
  }
  if (kept.length > KEPT_COPIES_MAX || ancestry.length >= OVERRIDES_MAX) {
    throw new Fault("conflict", "too many copies of before are kept: discard some first");
  }
  const incarnation = view.disks.get(disk)?.incarnation ?? 0;
  return {
    ...record,
    lineage: ancestry.includes(at.lineage) || at.lineage === lineage ? at.lineage + 1 : at.lineage,
    ancestry: [...ancestry, lineage],
    epoch: epoch + 1,
    head: disk,
    inSync: [{ disk, incarnation }],
    resyncing: [],
    former: [],
    kept,
  };
}

/** When a disk, or its unit, was told to be away; null: nobody remembers. */
function lastKnownMs(view: ClusterView, disk: DiskNumber): number | null {
  const unit = view.disks.get(disk)?.unit ?? null;
  const kinds = ["unit-lost", "disk-out", "disk-failed"];
  let newest: number | null = null;
  for (const event of view.events.values()) {
    if (event.unit !== unit || !kinds.includes(event.kind)) continue;
    newest = Math.max(newest ?? 0, event.atMs);
  }
  return newest;
}

function overrideSentence(
  view: ClusterView,
  { name }: VolumeRecord,
  { steps, number }: { steps: readonly GoOnStep[]; number: number },
): string {
  const losers = steps.flatMap(({ record, disk }) =>
    record.inSync.filter((member) => member.disk !== disk).map((member) => member.disk),
  );
  const without = placesInWords(view, losers);
  const from = placesInWords(
    view,
    steps.map((step) => step.disk),
  );
  return (
    `volume ${name} goes on without ${without}, as its owner wishes, from what ${from} holds: ` +
    `${lossInWords(steps)}; what is there alone is kept, to be read as ${copyName(name, number)}`
  );
}

/** What is missing in what goes on. */
export function lossInWords(steps: readonly GoOnStep[]): string {
  if (steps.some(({ former }) => former?.isMixed === true)) {
    return "a copy that was being brought up is a mixture of old and new, and may be of no use";
  }
  return steps.some(({ former }) => former !== null)
    ? "all that was written since that copy left is missing in it"
    : "what was written shortly before the power went, and not flushed, may be missing in it";
}

/** Where a volume stands still and could go on: from what, and what that loses; null: not so. */
export function goOnOffer(
  view: ClusterView,
  volume: VolumeRecord,
): { from: string; costs: string } | null {
  const { steps, without } = goOnPlan(view, volume);
  if (steps.length === 0 || without.length > 0) return null;
  const from = placesInWords(
    view,
    steps.map(({ disk }) => disk),
  );
  const name = copyName(volume.name, (volume.overrides ?? 0) + 1);
  const costs =
    `${lossInWords(steps)}. The missing copy stays as it is on its disks: once they are back it ` +
    `can be read as ${name}, until you give it up. First be sure that no host still reaches it`;
  return { from, costs };
}

export function placesInWords(view: ClusterView, disks: readonly DiskNumber[]): string {
  const names = new Set(disks.map((disk) => diskInWords(view, disk)));
  return [...names].slice(0, 4).join(" and ");
}

export function discardCopy(
  draft: Draft,
  args: CommandArguments<"discardCopy">,
): LineageAnswers["discardCopy"] {
  const { view } = draft;
  const volume = volumeOf(view, args.volume);
  const name = copyName(volume.name, args.number);
  const holding = view
    .slicesOfVolume(volume)
    .filter((record) => record?.kept?.some(({ before }) => before === args.number) ?? false)
    .filter((record) => record !== null);
  if (holding.length === 0) throw new Fault("notFound", `no copy ${name} is kept`);
  let done = 0;
  for (const record of holding) {
    if (draft.isFull) break;
    const kept = (record.kept ?? []).filter(({ before }) => before !== args.number);
    draft.put(keys.slice(record.slice), { ...record, epoch: record.epoch + 1, kept });
    done++;
  }
  const left = holding.length - done;
  if (left > 0) return { left };
  draft.tell({
    kind: "copy-discarded",
    severity: "warning",
    sentence:
      `${name} is given up, as its owner wishes: what only that copy held is gone, ` +
      "its disks have the room back and may take a current copy again",
    volume: volume.number,
  });
  return { left };
}

export function tellKept(
  draft: Draft,
  args: CommandArguments<"tellKept">,
  asker: UnitNumber,
): LineageAnswers["tellKept"] {
  const { view } = draft;
  const came = new Map<string, { volume: VolumeRecord; disk: DiskNumber; before: number }>();
  for (const { slice, disk, bytes } of args.copies) {
    if (view.disks.get(disk)?.unit !== asker) {
      throw new Fault("forbidden", "only a disk's own unit says that of it");
    }
    const record = view.slices.get(slice);
    const volume = view.volumes.get(record?.volume ?? 0);
    const known = record?.kept?.find((copy) => copy.disk === disk);
    if (record === undefined || volume === undefined || known?.bytes !== undefined) continue;
    if (known === undefined || draft.isFull) continue;
    const kept = (record.kept ?? []).map((copy) => (copy === known ? { ...copy, bytes } : copy));
    draft.put(keys.slice(slice), { ...record, epoch: record.epoch + 1, kept });
    came.set(`${volume.number}:${disk}`, { volume, disk, before: known.before });
  }
  for (const { volume, disk, before } of came.values()) {
    const name = copyName(volume.name, before);
    draft.tell({
      kind: "copy-kept",
      severity: "warning",
      sentence:
        `${diskInWords(view, disk)} holds ${volume.name} as it was there when its owner went on ` +
        `without it: it is kept, can be read as ${name}, and is given up by ` +
        `cairn volume discard ${name}`,
      unit: asker,
      volume: volume.number,
    });
  }
  return {};
}

function volumeOf(view: ClusterView, number: number): VolumeRecord {
  const volume = view.volumes.get(number);
  if (volume === undefined || volume.state === "deleting") {
    throw new Fault("notFound", `no volume ${number}`);
  }
  if (volume.state !== "ready") throw new Fault("notReady", `volume ${volume.name} is being made`);
  return volume;
}

const COPY_NAME = /^(.+)@before-(\d{1,9})$/;

/** The name of a kept copy: of the volume, and which override it is from before. */
export function copyName(volume: string, number: number): string {
  return `${volume}@before-${number}`;
}

/** Null: no such name. A volume's own name has no `@`. */
export function parseCopyName(text: string): { volume: string; number: number } | null {
  const found = COPY_NAME.exec(text);
  return found === null ? null : { volume: found[1] ?? "", number: Number(found[2]) };
}

/** What is kept of a volume from before one override. */
export interface KeptVolume {
  number: number;
  name: string;
  /** When its owner went on, and when the disks were last known to be there; null: not known. */
  atMs: number;
  untilMs: number | null;
  copies: {
    slice: SliceNumber;
    index: number;
    lineage: number;
    disk: DiskNumber;
    /** Null: its unit has not told that it is there (yet). */
    bytes: number | null;
    isThere: boolean;
  }[];
  /** Every slice has a copy that is there. */
  isReadable: boolean;
}

/** The newest first. */
export function keptVolumes(view: ClusterView, volume: VolumeRecord): KeptVolume[] {
  const found = new Map<number, KeptVolume>();
  for (const record of view.slicesOfVolume(volume)) {
    for (const copy of record?.kept ?? []) {
      if (record === null) continue;
      const { before: number, atMs, disk, lineage, bytes } = copy;
      const known = found.get(number);
      const name = copyName(volume.name, number);
      const kept = known ?? { number, name, atMs, untilMs: null, copies: [], isReadable: true };
      found.set(number, kept);
      if (copy.untilMs !== undefined) kept.untilMs = Math.max(kept.untilMs ?? 0, copy.untilMs);
      const { slice, index } = record;
      const isThere = view.diskServes(disk) && bytes !== undefined;
      kept.copies.push({ slice, index, lineage, disk, bytes: bytes ?? null, isThere });
    }
  }
  for (const kept of found.values()) {
    const there = new Set(kept.copies.filter((one) => one.isThere).map((one) => one.index));
    kept.isReadable = kept.copies.every((one) => there.has(one.index));
  }
  return [...found.values()].sort((one, other) => other.number - one.number);
}

/**
 * How it is with a kept copy, for a person; `untilMs` is said by whoever knows how to say times.
 */
export function keptSentence(view: ClusterView, kept: KeptVolume): string {
  const slices = new Set(kept.copies.map((one) => one.slice)).size;
  const many = slices === 1 ? "one slice" : `${slices} slices`;
  const bytes = kept.copies.reduce((sum, one) => sum + (one.bytes ?? 0), 0);
  const where = placesInWords(
    view,
    kept.copies.map((one) => one.disk),
  );
  const held = `${many} of it, on ${where}`;
  if (!kept.isReadable) return `${held}: not there at the moment; it is kept once it comes back`;
  return `${held}, ${bytesInWords(bytes)}: it can be read, and its other slices as they are now`;
}

/** Copies that a disk keeps, by the names of what they are of. */
export function keptOnDisk(view: ClusterView, disk: DiskNumber): string[] {
  const names = new Set<string>();
  for (const record of view.slicesOfDisk(disk)) {
    if (inSyncEntry(record, disk) !== undefined) continue;
    const copy = record.kept?.find((one) => one.disk === disk);
    const volume = view.volumes.get(record.volume);
    if (copy === undefined || volume === undefined) continue;
    names.add(copyName(volume.name, copy.before));
  }
  return [...names];
}
