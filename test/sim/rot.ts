// SPDX-License-Identifier: Apache-2.0
//
// Silent harm to what disks hold (R9): bits that flip at rest, writes that are acked and never come
// to the disk (stale sectors), writes that go to another place (misdirected). Only where the slice
// has another copy in sync, and a block is harmed on one disk only: so with no other fault every
// harm can be healed, and what hosts may see is known.
//
// Two faults together may cost a block honestly, and only a block that was harmed: a medium error
// where the other copies are gone (H8); and after a crash of all that could have told, in a region
// that was active, bytes that are taken as they are (R9), which the slice says in its log.

import { BLOCKS_PER_EXTENT, BLOCK_BYTES, EXTENT_BYTES, SECTORS_PER_BLOCK } from "#base/grains.ts";
import type { Operation } from "#base/operation.ts";
import type { Prng } from "#base/prng.ts";
import type { DiskNumber, SliceNumber, SliceRecord } from "#base/record.ts";
import type { Member } from "#store/member.ts";
import { planDisk } from "#store/disk-plan.ts";
import type { DiskPlan } from "#store/disk-plan.ts";
import type { SimCluster } from "./sim-cluster.ts";
import type { Lie } from "./sim-disk.ts";

interface Place {
  disk: DiskNumber;
  slice: SliceNumber;
  /** Of the slice. */
  block: number;
  offsetBytes: number;
}

const LONGEST_MISDIRECTED_BYTES = 16 << 10;
const ATTEMPTS = 20;
const RECENT_ACTS = 60;

export class Rot {
  /** Bits flipped, writes lost, writes misdirected. */
  readonly counts = { flips: 0, lost: 0, misdirected: 0 };
  readonly #cluster: SimCluster;
  readonly #plan: DiskPlan;
  readonly #harmed = new Map<string, DiskNumber>();
  /** Harmed blocks that were taken as they were after a crash. */
  readonly #accepted = new Set<string>();

  constructor(cluster: SimCluster) {
    this.#cluster = cluster;
    this.#plan = planDisk(cluster.plan.diskBytes) as DiskPlan;
  }

  /** Whether a block of a slice was harmed somewhere. */
  has(slice: SliceNumber, block: number): boolean {
    return this.#harmed.has(`${slice}:${block}`);
  }

  /** The slice's head said that it took the block as it was. */
  wasAccepted(slice: SliceNumber, offsetBytes: number): void {
    this.#accepted.add(`${slice}:${Math.floor(offsetBytes / BLOCK_BYTES)}`);
  }

  /** Whether what stands in a sector may be the harm itself. */
  excuses(volume: number, sector: number): boolean {
    const { slice, block } = this.#cluster.placeOf(volume, sector);
    return this.has(slice, block) && this.#accepted.has(`${slice}:${block}`);
  }

  /** Whether a medium error is honest somewhere in these sectors. */
  mayBeUnreadable(volume: number, firstSector: number, count: number): boolean {
    // Writes of parts of blocks read the rest of them.
    const from = firstSector - (firstSector % SECTORS_PER_BLOCK);
    for (let sector = from; sector < firstSector + count; sector += SECTORS_PER_BLOCK) {
      const { slice, block } = this.#cluster.placeOf(volume, sector);
      if (this.has(slice, block)) return true;
    }
    return false;
  }

  /** Flips a bit of some block; answers where, or null when nothing was found to harm. */
  flip(prng: Prng, disk: DiskNumber): Place | null {
    const place =
      (prng.chance(0.6) ? this.#hotPlace(prng, disk) : null) ?? this.#somePlace(prng, disk);
    if (place === null) return null;
    const at = place.offsetBytes + prng.below(BLOCK_BYTES);
    if (!this.#cluster.disk(disk).rot(at)) return null;
    this.#harm(place);
    this.counts.flips++;
    return place;
  }

  /** The next write that may be harmed is lost, or goes elsewhere. */
  deceive(prng: Prng, disk: DiskNumber, how: "lost" | "misdirected"): void {
    const simDisk = this.#cluster.disk(disk);
    simDisk.lie = (operation) => {
      const lie = this.#lie(prng, disk, operation, how);
      if (lie !== null) simDisk.lie = null;
      return lie;
    };
  }

  #lie(
    prng: Prng,
    disk: DiskNumber,
    operation: Operation,
    how: "lost" | "misdirected",
  ): Lie | null {
    const { offsetBytes, lengthBytes } = operation;
    if (offsetBytes < this.#plan.dataOffset) return null;
    const blocks: Place[] = [];
    for (let at = offsetBytes; at < offsetBytes + lengthBytes; at += BLOCK_BYTES) {
      const place = this.#placeAt(disk, at);
      if (place === null || !this.#mayHarm(place)) return null;
      blocks.push(place);
    }
    if (how === "lost") {
      for (const place of blocks) this.#harm(place);
      this.counts.lost++;
      return { kind: "lost" };
    }
    if (lengthBytes > LONGEST_MISDIRECTED_BYTES) return null;
    const target = this.#somePlace(prng, disk);
    if (target === null) return null;
    const inExtent = (target.offsetBytes - this.#plan.dataOffset) % EXTENT_BYTES;
    if (inExtent + lengthBytes > EXTENT_BYTES) return null;
    for (let index = 0; index < blocks.length; index++) {
      const next = { ...target, block: target.block + index };
      if (!this.#mayHarm(next)) return null;
      blocks.push(next);
      if (blocks.length >= (2 * lengthBytes) / BLOCK_BYTES) break;
    }
    for (const place of blocks) this.#harm(place);
    this.counts.misdirected++;
    return { kind: "misdirected", offsetBytes: target.offsetBytes };
  }

  #harm({ disk, slice, block }: Place): void {
    this.#harmed.set(`${slice}:${block}`, disk);
    this.#cluster.simulation.trace("rot", disk, slice, block);
  }

  /** Another copy is in sync, and no other copy of the block was harmed. */
  #mayHarm({ disk, slice, block }: Place): boolean {
    const record = this.#cluster.losses.record(slice);
    if (record === null || !isSpare(record, disk)) return false;
    const harmed = this.#harmed.get(`${slice}:${block}`);
    return harmed === undefined || harmed === disk;
  }

  /** Where hosts have just written. */
  #hotPlace(prng: Prng, disk: DiskNumber): Place | null {
    const { acts } = this.#cluster.history;
    const act = acts[acts.length - 1 - prng.below(Math.min(acts.length, RECENT_ACTS))];
    if (act?.kind !== "write") return null;
    const { slice, block } = this.#cluster.placeOf(act.volume, act.firstSector);
    const physical = this.#member(disk, slice)?.state.map.physicalOf(
      Math.floor(block / BLOCKS_PER_EXTENT),
    );
    if (physical === undefined || physical < 0) return null;
    const at = physical * EXTENT_BYTES + (block % BLOCKS_PER_EXTENT) * BLOCK_BYTES;
    const place = { disk, slice, block, offsetBytes: this.#plan.dataOffset + at };
    return this.#mayHarm(place) ? place : null;
  }

  #somePlace(prng: Prng, disk: DiskNumber): Place | null {
    const records = this.#cluster.losses.records().filter((record) => isSpare(record, disk));
    if (records.length === 0) return null;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const { slice } = prng.pick(records);
      const member = this.#member(disk, slice);
      const entries = member?.mapFrom(0, Number.MAX_SAFE_INTEGER) ?? [];
      if (member === null || entries.length === 0) continue;
      const { extent } = prng.pick(entries);
      const inExtent = prng.below(BLOCKS_PER_EXTENT);
      const at = member.state.map.physicalOf(extent) * EXTENT_BYTES + inExtent * BLOCK_BYTES;
      const offsetBytes = this.#plan.dataOffset + at;
      const place = { disk, slice, block: extent * BLOCKS_PER_EXTENT + inExtent, offsetBytes };
      // Most blocks were never written.
      if (this.#cluster.disk(disk).holds(offsetBytes) && this.#mayHarm(place)) return place;
    }
    return null;
  }

  #placeAt(disk: DiskNumber, offsetBytes: number): Place | null {
    const physical = Math.floor((offsetBytes - this.#plan.dataOffset) / EXTENT_BYTES);
    const inExtent = ((offsetBytes - this.#plan.dataOffset) % EXTENT_BYTES) / BLOCK_BYTES;
    for (const { slice } of this.#cluster.losses.records()) {
      const member = this.#member(disk, slice);
      for (const { extent } of member?.mapFrom(0, Number.MAX_SAFE_INTEGER) ?? []) {
        if (member?.state.map.physicalOf(extent) !== physical) continue;
        const block = extent * BLOCKS_PER_EXTENT + Math.floor(inExtent);
        return { disk, slice, block, offsetBytes };
      }
    }
    return null;
  }

  #member(disk: DiskNumber, slice: SliceNumber): Member | null {
    return this.#cluster.unitOf(disk).process?.stores.get(disk)?.member(slice) ?? null;
  }
}

function isSpare(record: SliceRecord, disk: DiskNumber): boolean {
  return record.inSync.length >= 2 && record.inSync.some((member) => member.disk === disk);
}
