// SPDX-License-Identifier: Apache-2.0
//
// After a restored backup: units tell which slices their disks hold, the control station settles
// what is known for certain (restored-slices.ts), and the owner may take what is there as it is
// where a disk never comes back. Volumes that the backup does not know are made anew by what the
// disks say of them; names are not on disks. One that grew after the backup is as large again as
// they say.
//
// A state that was rebuilt without a backup (rebuilt-state.ts) *gathers* first: nothing is settled,
// and nothing new is made, until its owner says that all disks are there that are left. The highest
// record need not lead to a disk that an owner went on with once (R8): only by having all of them
// told is a lineage known that grew from what others hold. And a number that a disk knows is never
// given out again.

import { z } from "zod";
import { Fault } from "#base/fault.ts";
import { layouts } from "#base/layout.ts";
import type { Protection } from "#base/layout.ts";
import { disksOf } from "#base/record.ts";
import type { DiskNumber, SliceRecord, UnitNumber, VolumeNumber } from "#base/record.ts";
import type { CommandArguments } from "./commands.ts";
import { diskInWords } from "./disk-changes.ts";
import { Draft } from "./draft.ts";
import { generationOf } from "./generation.ts";
import { FIRST_POOL } from "./pool-state.ts";
import { bytesInWords, sliceSizeAt } from "./placement.ts";
import { JUMPS } from "./restored-state.ts";
import {
  acceptedRecord,
  claimOf,
  missingDisks,
  settledRecord,
  strangerDisks,
  toldOf,
} from "./restored-slices.ts";
import type { RestoredSlice } from "./restored-slices.ts";
import { SliceSchema } from "./slice-state.ts";
import { VolumeSchema, idSchema, keys } from "./state.ts";
import type { VolumeRecord } from "./state.ts";
import type { ClusterView } from "./view.ts";

const positive = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);

/** Slices told in one command: each is one claim, or a volume besides. */
export const TOLD_MAX = 16;
/** Settled in one transaction: a put and a deletion each. */
const SETTLED_PER_DRAFT = 32;
/** Overridden in one command. */
const ACCEPTED_MAX = 40;
/** Hex digits of a drawn id that make a lineage's number: less than 2^53. */
const LINEAGE_DIGITS = 13;

/** Arguments of the commands decided here. */
export const restoredCommands = {
  /** What a disk of the asking unit holds, in parts; before the last one it is not all. */
  tellHeld: z.object({
    disk: positive,
    /** The id of the generation in which the unit is. */
    generation: idSchema,
    records: z.array(SliceSchema as z.ZodType<SliceRecord>).max(TOLD_MAX),
    isLast: z.boolean(),
  }),
  /** The owner says that all disks are there that are left, after a rebuild. */
  endGathering: z.object({}),
  /** The owner takes what is there of a volume's slices that wait after a restore. */
  acceptVolume: z.object({ volume: positive }),
} as const;

export function tellHeld(
  draft: Draft,
  args: CommandArguments<"tellHeld">,
  facts: { asker: UnitNumber; newId(): string },
): Record<string, never> {
  const { view } = draft;
  const { cluster } = view;
  if (cluster === null || generationOf(cluster).id !== args.generation) {
    throw new Fault("conflict", "the cluster is in another generation");
  }
  const disk = view.disks.get(args.disk);
  if (disk?.unit !== facts.asker) throw new Fault("forbidden", "it is another unit's disk");
  const claims = new Claims(draft, facts.newId);
  for (const record of args.records) claims.told(disk.number, record);
  claims.write();
  draft.relyOn(keys.disk(disk.number));
  if (args.isLast) draft.put(keys.disk(disk.number), { ...disk, toldGeneration: args.generation });
  return {};
}

/** Claims and found volumes as one command leaves them. */
class Claims {
  readonly #draft: Draft;
  readonly #newId: () => string;
  readonly #claims = new Map<number, RestoredSlice>();
  readonly #volumes = new Map<VolumeNumber, VolumeRecord>();

  constructor(draft: Draft, newId: () => string) {
    this.#draft = draft;
    this.#newId = newId;
  }

  told(disk: number, record: SliceRecord): void {
    const { view } = this.#draft;
    const known = this.#claims.get(record.slice) ?? view.restored.get(record.slice);
    if (known === undefined && !this.#mayBeFound(record)) return;
    if (known === undefined && view.cluster?.gathering === true) this.#raise(record);
    const before = this.#claims.get(record.slice);
    this.#claims.set(record.slice, toldOf(known ?? claimOf(record, null), disk, record));
    const hasPlace = this.#place(record);
    if (known !== undefined) return;
    if (hasPlace) return this.#tellAside(record);
    // Another slice has its place: nobody will ever ask for this one.
    if (before === undefined) this.#claims.delete(record.slice);
  }

  /** A part of a volume that lies behind one of which nothing is known yet. */
  #tellAside({ volume: number, index }: SliceRecord): void {
    const volume = this.#volumes.get(number) ?? this.#draft.view.volumes.get(number);
    if (volume === undefined || index < volume.slices.length) return;
    this.#draft.tell({
      kind: "volume-found",
      severity: "warning",
      sentence:
        `a disk holds part ${index + 1} of volume ${volume.name}, which grew after the backup: ` +
        `it is used once a disk tells of part ${volume.slices.length + 1}`,
      volume: number,
    });
  }

  /** A slice that the control state does not know. */
  #mayBeFound({ slice }: SliceRecord): boolean {
    const { view } = this.#draft;
    // Settled already, or made in this generation.
    if (view.cluster === null || view.slices.has(slice)) return false;
    const { sliceFrom = 1, gathering = false } = view.cluster;
    return slice < sliceFrom || gathering;
  }

  /** Nothing that a disk knows is given out again. */
  #raise(record: SliceRecord): void {
    this.#draft.raise("slice", record.slice + 1 + JUMPS.slice);
    this.#draft.raise("volume", record.volume + 1 + JUMPS.volume);
    this.#draft.raise("disk", Math.max(...disksOf(record)) + 1 + JUMPS.disk);
  }

  /**
   * Puts a slice into its volume's row; false: another one has its place. A volume that grew since
   * the backup is as long as what was told of it without a gap; of one that the backup does not
   * know, gaps are numbers that nobody else has. Of two for one place the later one counts: the
   * other was placed for a growth that was taken back.
   */
  #place(record: SliceRecord): boolean {
    const { view } = this.#draft;
    const known = this.#volumes.get(record.volume) ?? view.volumes.get(record.volume);
    if (view.cluster === null || known?.state === "deleting") return false;
    const volume = known ?? this.#newVolume(record, view.cluster.sliceBytes);
    const row = known === undefined ? [] : [...known.slices];
    const isFound = volume.foundOnDisks === true;
    const foundFrom = isFound ? 0 : (volume.foundFrom ?? row.length);
    const there = row[record.index];
    if (there !== undefined && there !== record.slice) {
      if (record.index < foundFrom || !this.#givesWay(there, record.slice)) return false;
      row[record.index] = record.slice;
    }
    if (isFound && record.index >= row.length) {
      const gaps = record.index - row.length;
      const first = gaps === 0 ? 0 : this.#draft.take("slice", gaps);
      for (let gap = 0; gap < gaps; gap++) row.push(first + gap);
    }
    // Only the end of the row can have become longer.
    const isEnd = record.index >= row.length - 1;
    for (let next = isEnd ? this.#toldAt(record.volume, row.length) : null; next !== null;) {
      row.push(next);
      next = this.#toldAt(record.volume, row.length);
    }
    const slices = { slices: row, ...(isFound || row.length === foundFrom ? {} : { foundFrom }) };
    const sized = this.#sized({ ...volume, ...slices }, volume);
    const isSame = known !== undefined && JSON.stringify(known) === JSON.stringify(sized);
    if (!isSame) this.#volumes.set(record.volume, sized);
    return true;
  }

  /**
   * Whether a place that was found gives way to a slice: nothing was told of it, or it is older.
   */
  #givesWay(there: number, slice: number): boolean {
    const { view } = this.#draft;
    if (view.slices.has(there)) return false;
    const claim = this.#claims.get(there) ?? view.restored.get(there);
    if (claim === undefined) return true;
    if (slice < there) return false;
    this.#claims.delete(there);
    this.#draft.delete(keys.restoredSlice(there));
    return true;
  }

  /** The latest slice that a disk told for that place of a volume; null: none did. */
  #toldAt(volume: VolumeNumber, index: number): number | null {
    let latest: number | null = null;
    for (const claims of [this.#draft.view.restored, this.#claims]) {
      for (const claim of claims.values()) {
        if (claim.volume !== volume || claim.index !== index || claim.held.length === 0) continue;
        if (latest === null || claim.slice > latest) latest = claim.slice;
      }
    }
    return latest;
  }

  /** As large as its slices say; never smaller than it is known to be. */
  #sized(volume: VolumeRecord, before: VolumeRecord): VolumeRecord {
    const { slices, foundOnDisks } = volume;
    const sliceBytes = foundOnDisks === true ? this.#sliceBytes(volume) : volume.sliceBytes;
    const wholeBytes = (slices.length - 1) * sliceBytes;
    const last = this.#recordOf(slices.at(-1) ?? 0);
    if (last === null) return { ...volume, sliceBytes };
    const isLonger = slices.length > before.slices.length;
    const knownBytes = sliceSizeAt(before, before.slices.length - 1);
    const isLarger = foundOnDisks === true || isLonger || last.sizeBytes > knownBytes;
    return isLarger ? { ...volume, sliceBytes, sizeBytes: wholeBytes + last.sizeBytes } : volume;
  }

  /**
   * A slice before a volume's last one has the size of all of them; of one that grew, a disk that
   * was away may know an earlier, smaller one.
   */
  #sliceBytes({ slices, sliceBytes }: VolumeRecord): number {
    let before = 0;
    let last = 0;
    for (const [index, slice] of slices.entries()) {
      const bytes = this.#recordOf(slice)?.sizeBytes ?? 0;
      if (index < slices.length - 1) before = Math.max(before, bytes);
      else last = bytes;
    }
    return Math.max(before === 0 ? sliceBytes : before, last);
  }

  #recordOf(slice: number): SliceRecord | null {
    const { view } = this.#draft;
    const claim = this.#claims.get(slice) ?? view.restored.get(slice);
    return claim?.record ?? view.slices.get(slice) ?? null;
  }

  #newVolume(record: SliceRecord, sliceBytes: number): VolumeRecord {
    const { volume: number, copies, sizeBytes } = record;
    const all = Object.keys(layouts) as Protection[];
    const protection = all.find((one) => layouts[one].copies === copies) ?? "none";
    return VolumeSchema.parse({
      number,
      uuid: this.#newId(),
      name: freeName(this.#draft.view, `found-${number}`),
      sizeBytes,
      protection,
      sliceBytes,
      slices: [record.slice],
      pool: FIRST_POOL,
      state: "ready",
      foundOnDisks: true,
    });
  }

  #tellGrown(volume: VolumeRecord): void {
    this.#draft.tell({
      kind: "volume-found",
      severity: "warning",
      sentence:
        `disks hold more of volume ${volume.name} than the restored control state knows: it grew ` +
        `after the backup, and has ${bytesInWords(volume.sizeBytes)} again`,
      volume: volume.number,
    });
  }

  write(): void {
    for (const claim of this.#claims.values()) {
      this.#draft.put(keys.restoredSlice(claim.slice), claim);
    }
    for (const volume of this.#volumes.values()) this.#writeVolume(volume);
  }

  #writeVolume(volume: VolumeRecord): void {
    const draft = this.#draft;
    const before = draft.view.volumes.get(volume.number);
    draft.put(keys.volume(volume.number), volume);
    if (before !== undefined) {
      const isFound = volume.foundOnDisks === true;
      if (!isFound && volume.sizeBytes > before.sizeBytes) this.#tellGrown(volume);
      return;
    }
    draft.relyOn(keys.pool(FIRST_POOL));
    draft.put(keys.volumeName(volume.name), { volume: volume.number });
    draft.tell({
      kind: "volume-found",
      severity: "warning",
      sentence:
        `disks hold volume ${volume.number}, which the restored control state does not know: ` +
        `it is there again as ${volume.name}, assigned to nobody; delete it if it was deleted`,
      volume: volume.number,
    });
  }
}

/** A slice's record is as large as its volume needs it: an older one may be all that was told. */
function fitted(volume: VolumeRecord | undefined, record: SliceRecord): SliceRecord {
  if (volume === undefined) return record;
  return { ...record, sizeBytes: Math.max(record.sizeBytes, sliceSizeAt(volume, record.index)) };
}

/** A volume of before may have been given just that name. */
function freeName(view: ClusterView, wanted: string): string {
  for (let count = 1; ; count++) {
    const name = count === 1 ? wanted : `${wanted}-${count}`;
    if (view.volumeByName(name) === null) return name;
  }
}

/** What is known for certain by now goes on; null: nothing. */
export function settleSlices(view: ClusterView): Draft | null {
  if (view.cluster?.gathering === true) return null;
  const draft = new Draft(view);
  let settled = 0;
  for (const claim of view.restored.values()) {
    const volume = view.volumes.get(claim.volume);
    if (volume?.state === "deleting" || !hasKnownShape(view, volume)) continue;
    // Told of a volume that grew, and what lies before it is not told yet.
    if (volume !== undefined && volume.slices[claim.index] !== claim.slice) continue;
    const record = settledRecord(claim);
    if (record === null) continue;
    draft.put(keys.slice(claim.slice), fitted(volume, record));
    draft.delete(keys.restoredSlice(claim.slice));
    if (++settled >= SETTLED_PER_DRAFT) break;
  }
  return settled === 0 ? null : draft;
}

/**
 * Whether it is known where a volume's slices begin in it: of one that was found on disks, by the
 * size of one before the last, once that is certain.
 */
function hasKnownShape(view: ClusterView, volume: VolumeRecord | undefined): boolean {
  if (volume?.foundOnDisks !== true || volume.slices.length === 1) return true;
  return volume.slices.slice(0, -1).some((slice) => {
    const claim = view.restored.get(slice);
    return view.slices.has(slice) || (claim !== undefined && settledRecord(claim) !== null);
  });
}

/** From here on what disks hold is settled; what a disk tells later changes nothing any more. */
export function endGathering(draft: Draft): { disks: number } {
  const { cluster, numbers } = draft.view;
  if (cluster === null || numbers === null) {
    throw new Fault("notReady", "the control state is not read");
  }
  if (cluster.gathering !== true) {
    const why = "nothing is gathered: this control state was not rebuilt, or that is settled";
    throw new Fault("conflict", why);
  }
  const { told, telling } = gathered(draft.view);
  if (telling.length > 0) {
    const disks = telling.map((disk) => diskInWords(draft.view, disk)).join(" and ");
    throw new Fault("notReady", `${disks} has yet to tell what it holds: in a moment`);
  }
  const { gathering: _, ...kept } = cluster;
  draft.relyOn(keys.numbers);
  draft.put(keys.cluster, { ...kept, sliceFrom: numbers.slice });
  draft.tell({
    kind: "gathered",
    severity: "warning",
    sentence:
      `all disks are there that are left, as the owner says: volumes go on by what ` +
      `${told.length} ${told.length === 1 ? "disk" : "disks"} told`,
  });
  return { disks: told.length };
}

/** Disks that have told all that they hold in this generation, and those that are about to. */
export function gathered(view: ClusterView): { told: DiskNumber[]; telling: DiskNumber[] } {
  const told: DiskNumber[] = [];
  const telling: DiskNumber[] = [];
  for (const { number, toldGeneration } of view.disks.values()) {
    const hasTold = view.cluster !== null && toldGeneration === generationOf(view.cluster).id;
    if (hasTold) told.push(number);
    else if (view.diskServes(number)) telling.push(number);
  }
  return { told, telling };
}

export function acceptVolume(
  draft: Draft,
  args: CommandArguments<"acceptVolume">,
  facts: { wallMs: number; newId(): string },
): { slices: number; left: number } {
  const { view } = draft;
  const volume = view.volumes.get(args.volume);
  if (volume === undefined || volume.state !== "ready") {
    throw new Fault("notFound", `no volume ${args.volume}`);
  }
  if (view.cluster?.gathering === true) {
    throw new Fault("conflict", "first say that all disks are there: cairn control settle");
  }
  const waiting = waitingSlices(view, volume);
  if (waiting.length === 0) {
    throw new Fault("conflict", `volume ${volume.name} waits for no disk after a restore`);
  }
  const taken = waiting.slice(0, ACCEPTED_MAX);
  const number = (volume.overrides ?? 0) + 1;
  const lineage = Number.parseInt(facts.newId().slice(0, LINEAGE_DIGITS), 16) + 1;
  const atMs = Math.max(0, Math.floor(facts.wallMs));
  draft.put(keys.volume(volume.number), { ...volume, overrides: number });
  for (const claim of taken) {
    const record = acceptedRecord(claim, { lineage, number, atMs });
    if (record === null) {
      const why = `slice ${claim.slice} of volume ${volume.name}: no complete copy of it was found`;
      throw new Fault("notFound", `${why}; bring its disks back, or delete the volume`);
    }
    draft.put(keys.slice(claim.slice), fitted(volume, record));
    draft.delete(keys.restoredSlice(claim.slice));
  }
  draft.tell({
    kind: "volume-accepted",
    severity: "alarm",
    sentence:
      `volume ${volume.name} goes on with what was found of it, by its owner's word: ` +
      "writes that only missing disks hold are lost",
    volume: volume.number,
  });
  return { slices: taken.length, left: waiting.length - taken.length };
}

/** A volume's slices that wait for disks to tell of them. */
export function waitingSlices(view: ClusterView, volume: VolumeRecord): RestoredSlice[] {
  if (volume.foundOnDisks !== true && view.restored.size === 0) return [];
  return volume.slices.flatMap((slice, index) => {
    const claim = view.restored.get(slice);
    // Of a found volume no disk has told of this part yet.
    const isGap = volume.foundOnDisks === true && !view.slices.has(slice);
    return claim ?? (isGap ? claimOf({ slice, volume: volume.number, index }, null) : []);
  });
}

/** What a claim waits for, the rest of a sentence; null: it is about to be settled. */
export function claimWaitsFor(view: ClusterView, claim: RestoredSlice): string | null {
  if (claim.record === null) return "a disk that holds it to be found, after the restore";
  const missing = missingDisks(claim);
  if (missing.length === 0 && view.cluster?.gathering === true) {
    return "its owner, to say that all disks are there that are left (cairn control settle)";
  }
  if (missing.length === 0) {
    const strangers = strangerDisks(claim).map((disk) => diskInWords(view, disk));
    if (strangers.length === 0) return null;
    return `its owner, since ${strangers.join(" and ")} holds another history, after the restore`;
  }
  const disks = missing.map((disk) => diskInWords(view, disk)).join(" and ");
  return `${disks} to tell what it holds, after the restore`;
}

/** Whether a disk is there, has told all that it holds, and holds nothing of the slice. */
export function holdsNothing(view: ClusterView, claim: RestoredSlice, disk: number): boolean {
  if (view.cluster === null) return false;
  const isTold = view.disks.get(disk)?.toldGeneration === generationOf(view.cluster).id;
  return isTold && !claim.held.some((holder) => holder.disk === disk);
}
