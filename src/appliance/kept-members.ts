// SPDX-License-Identifier: Apache-2.0
//
// Members of lineages that lost against an owner's override (R8), on this unit's disks and on
// others: where they are, and reading them. Nothing here ever changes one.
//
// A block that does not match its checksum is a medium error (H8), unless its region was active
// when the lineage ended: then the disk's bytes are taken, as a head takes them after a crash (R9).
// Of several disks that keep the same lineage the first that is there is read; they may differ in
// what was being written at the end.

import {
  BLOCK_BYTES,
  EXTENT_BYTES,
  REGION_BYTES,
  SECTOR_BYTES,
  SLICE_BYTES_MAX,
} from "#base/grains.ts";
import type { MemberStore } from "#base/member-store.ts";
import type { Memory } from "#base/memory.ts";
import { FLAG_UNVERIFIED, Operation, OperationKind, OperationPool } from "#base/operation.ts";
import type { OperationTarget } from "#base/operation.ts";
import type {
  DiskNumber,
  KeptCopy,
  SliceNumber,
  SliceRecord,
  UnitNumber,
  VolumeNumber,
} from "#base/record.ts";
import { holdersOf, keptOn } from "#base/record.ts";
import { Status } from "#base/status.ts";
import type { DiskStore } from "#store/disk-store.ts";
import type { Member } from "#store/member.ts";
import type { HeadPlace, ShapeWithCopies, VolumeShape } from "./forwarder.ts";

export interface KeptMembersParts {
  memory: Memory;
  unit: UnitNumber;
  /** Null: that disk is not open here, or has no member of the slice. */
  member(disk: DiskNumber, slice: SliceNumber): Member | null;
  /** Where a disk is; undefined: not known. */
  unitOf(disk: DiskNumber): UnitNumber | undefined;
  isLinked(unit: UnitNumber): boolean;
}

/** A kept member on a disk of this unit. */
export interface KeptReport {
  slice: SliceNumber;
  disk: DiskNumber;
  /** Space that it holds. */
  bytes: number;
}

const NOWHERE: HeadPlace = { at: "unknown" };

export class KeptMembers {
  readonly #parts: KeptMembersParts;
  readonly #pool = new OperationPool();
  readonly #copies = new Map<VolumeNumber, Map<number, VolumeShape>>();
  /** Slices with copies that are kept, wherever. */
  readonly #slices = new Map<SliceNumber, readonly KeptCopy[]>();

  constructor(parts: KeptMembersParts) {
    this.#parts = parts;
  }

  volumeChanged(shape: ShapeWithCopies): void {
    const copies = (shape.copies ?? []).map(({ number, lineages }): [number, VolumeShape] => {
      return [number, { ...shape, lineages }];
    });
    if (copies.length === 0) this.#copies.delete(shape.volume);
    else this.#copies.set(shape.volume, new Map(copies));
  }

  volumeRemoved(volume: VolumeNumber): void {
    this.#copies.delete(volume);
  }

  /** What is kept of a volume, as a shape of its own; null: nothing under that number. */
  shape(volume: VolumeNumber, number: number): VolumeShape | null {
    return this.#copies.get(volume)?.get(number) ?? null;
  }

  recordChanged({ slice, kept }: SliceRecord): void {
    if (kept === undefined) return; // It does not say.
    if (kept.length === 0) this.#slices.delete(slice);
    else this.#slices.set(slice, kept);
  }

  removed(slice: SliceNumber): void {
    this.#slices.delete(slice);
  }

  /** Where what is kept of a lineage is to be read. */
  place(slice: SliceNumber, lineage: number): HeadPlace {
    for (const copy of this.#slices.get(slice) ?? []) {
      if (copy.lineage !== lineage) continue;
      const unit = this.#parts.unitOf(copy.disk);
      if (unit === this.#parts.unit) {
        const target = this.target(slice, lineage);
        if (target !== null) return { at: "here", target };
      } else if (unit !== undefined && this.#parts.isLinked(unit)) return { at: "unit", unit };
    }
    return NOWHERE;
  }

  /** Reads of what is kept here; null: it is not here. */
  target(slice: SliceNumber, lineage: number): OperationTarget | null {
    for (const copy of this.#slices.get(slice) ?? []) {
      if (copy.lineage !== lineage) continue;
      const member = this.#parts.member(copy.disk, slice);
      if (member === null) continue;
      return { submit: (operation) => this.#submit(member, operation) };
    }
    return null;
  }

  reports(): KeptReport[] {
    return [...this.#slices].flatMap(([slice, copies]) =>
      copies.flatMap(({ disk }) => {
        const member = this.#parts.member(disk, slice);
        if (member === null) return [];
        return [{ slice, disk, bytes: member.mappedExtents * EXTENT_BYTES }];
      }),
    );
  }

  #submit(member: MemberStore, operation: Operation): void {
    const { kind, offsetBytes, lengthBytes } = operation;
    // H11: the slice has grown since that lineage ended.
    const insideBytes = Math.max(0, Math.min(lengthBytes, member.sizeBytes - offsetBytes));
    switch (kind) {
      case OperationKind.flush:
        return operation.complete(Status.ok);
      case OperationKind.blockStatus:
        if (insideBytes === lengthBytes) return member.submit(operation);
        operation.runs = [{ lengthBytes, allocated: true }];
        return operation.complete(Status.ok);
      case OperationKind.read: {
        const isWhole = offsetBytes % SECTOR_BYTES === 0 && lengthBytes % SECTOR_BYTES === 0;
        if (!isWhole || offsetBytes < 0 || lengthBytes < 0) {
          return operation.complete(Status.invalid);
        }
        if (offsetBytes + lengthBytes > SLICE_BYTES_MAX) {
          return operation.complete(Status.outOfRange);
        }
        // In that lineage there never was anything behind it.
        const { bufferOffset } = operation;
        this.#parts.memory.bytes.fill(0, bufferOffset + insideBytes, bufferOffset + lengthBytes);
        const inside = { offsetBytes, lengthBytes: insideBytes, flags: 0 };
        return this.#read(member, operation, insideBytes === 0 ? [] : [inside]);
      }
      default:
        return operation.complete(Status.readOnly);
    }
  }

  /** Part by part; one in which a block is wrong is divided around that block. */
  #read(member: MemberStore, operation: Operation, parts: ReadPart[]): void {
    const part = parts.shift();
    if (part === undefined) return operation.complete(Status.ok);
    const one = this.#pool.take();
    one.kind = OperationKind.read;
    one.flags = part.flags;
    one.offsetBytes = part.offsetBytes;
    one.lengthBytes = part.lengthBytes;
    one.bufferOffset = operation.bufferOffset + (part.offsetBytes - operation.offsetBytes);
    one.done = (ended) => {
      const { status, faultOffsetBytes } = ended;
      this.#pool.give(ended);
      if (status === Status.ok) return this.#read(member, operation, parts);
      const wrong = Math.max(part.offsetBytes, faultOffsetBytes);
      const isMismatch = status === Status.checksumMismatch && part.flags === 0;
      if (!isMismatch) {
        const isWrong = status === Status.checksumMismatch;
        return operation.complete(isWrong ? Status.mediumError : status);
      }
      if (!member.isActive(Math.floor(wrong / REGION_BYTES))) {
        return operation.complete(Status.mediumError);
      }
      this.#read(member, operation, [...around(part, wrong), ...parts]);
    };
    member.submit(one);
  }
}

/** A member becomes kept: what it has is to be on media, and it needs no more room. */
export function settleKept(member: MemberStore): void {
  member.reserve(0);
  const flush = new Operation();
  flush.kind = OperationKind.flush;
  flush.done = () => {}; // Where it fails, the disk is given up.
  member.submit(flush);
}

/** Whatever would change something is refused; there is nothing to flush. */
export function onlyRead(target: OperationTarget): OperationTarget {
  return {
    submit: (operation) => {
      const { kind } = operation;
      const reads = kind === OperationKind.read || kind === OperationKind.blockStatus;
      if (reads) target.submit(operation);
      else operation.complete(kind === OperationKind.flush ? Status.ok : Status.readOnly);
    },
  };
}

interface ReadPart {
  offsetBytes: number;
  lengthBytes: number;
  flags: number;
}

/** What lies before a block, the block itself unverified, and what lies after it. */
function around(part: ReadPart, wrong: number): ReadPart[] {
  const end = part.offsetBytes + part.lengthBytes;
  const next = Math.min(end, (Math.floor(wrong / BLOCK_BYTES) + 1) * BLOCK_BYTES);
  return [
    { offsetBytes: part.offsetBytes, lengthBytes: wrong - part.offsetBytes, flags: 0 },
    { offsetBytes: wrong, lengthBytes: next - wrong, flags: FLAG_UNVERIFIED },
    { offsetBytes: next, lengthBytes: end - next, flags: 0 },
  ].filter(({ lengthBytes }) => lengthBytes > 0);
}

/**
 * Whether what a disk holds of a slice is needed no more, by a record that has all its copies. What
 * is of a history that the record did not grow from (R8), as on a disk that a rebuilt control state
 * did not wait for, is somebody's last copy of that: it stays, unless it was kept and is given up.
 */
export function isSurplus(store: DiskStore, record: SliceRecord, before: SliceRecord): boolean {
  if (holdersOf(record).includes(store.number)) return false;
  const stored = store.member(record.slice)?.record ?? record;
  const isOurs = stored.lineage === record.lineage || record.ancestry.includes(stored.lineage);
  return isOurs || keptOn(before, store.number) !== undefined;
}
