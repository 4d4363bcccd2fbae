// SPDX-License-Identifier: Apache-2.0
//
// Keepsake: memory that outlives the process, but not the machine's power (shared memory, handed in
// by whoever opens the disk). In it stands what the disk's process knows and has not yet made
// durable, so that the death of a process alone loses nothing of what was acked (H6; C: a kill is
// no era boundary). A power cut takes it away together with the disk's cache, to which it belongs.
//
//   offset  size  meaning
//        0     4  KEEPSAKE_MAGIC; written last when a keepsake is begun
//        4     4  seed: whose disk, in which formatting (page.ts, pageSeed)
//        8     4  the disk's incarnation that wrote it
//       12     4  the incarnation that is taking it over, or the same
//       16     4  bootIncarnation: the first one that had this cache of the disk (H6)
//       20     4  zero
//       24     4  which half is written now
//       28     8  bytes used in half 0 and in half 1
//       64        the halves, records one after the other
//
// A record is u32 kind, u32 length of the body, u32 CRC-32 of the body, body. Kinds: an entry of
// the metadata log with its number; blocks of an extent written, with their checksums; blocks that
// read zero again.
//
// Invariants
// - What is acked was noted first: entries when they are appended, blocks when their data was
//   written. Where there was no room (`isShort`), what ends is acked when a flush cycle has made it
//   durable: entries behind such a gap are not believed, but none of them was acked before, and
//   what was noted in front of it stays good.
// - A flush cycle turns to the other half as it begins, and empties the first one when all of it is
//   durable. So both halves, the older one first, are all that may be missing on the disk.
// - A record counts once its half's length says so: a process may die between any two stores.
// - It is believed only by the very next run of the same disk: another run in between (on another
//   machine) leaves another incarnation on the disk.

import { crc32 } from "#base/checksum.ts";
import type { Incarnation, SliceNumber } from "#base/record.ts";

const KEEPSAKE_MAGIC = 0x4b524143; // "CARK"
const HEADER_BYTES = 64;
const RECORD_HEADER_BYTES = 12;
/** The least that is worth having. */
export const KEEPSAKE_BYTES_MIN = 128 << 10;

const AT = {
  magic: 0,
  seed: 4,
  incarnation: 8,
  successor: 12,
  bootIncarnation: 16,
  half: 24,
  used: 28,
} as const;

const RecordKind = { entry: 1, written: 2, cleared: 3 } as const;

/** An entry of the metadata log that may not be on the disk. */
export interface KeptEntry {
  number: number;
  bytes: Uint8Array;
}

/** Blocks of a mapped extent, in the order of what was done to them. */
export interface KeptBlocks {
  slice: SliceNumber;
  extent: number;
  mapping: number;
  block: number;
  count: number;
  /** Null: they read zero. */
  checksums: Uint32Array | null;
}

/** What an earlier run left. */
export interface Inheritance {
  bootIncarnation: Incarnation;
  entries: KeptEntry[];
  blocks: KeptBlocks[];
}

export class Keepsake {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #halfBytes: number;
  /** Halves in which something found no room. */
  readonly #short = [false, false];

  /** `bytes` at least KEEPSAKE_BYTES_MIN long; zero, or as an earlier run left them. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#halfBytes = Math.floor((bytes.length - HEADER_BYTES) / 8) * 4;
  }

  // Taking over.

  /** What the disk's last run left, or null: nothing, another's, or none to be believed. */
  inherit(seed: number, incarnation: Incarnation): Inheritance | null {
    if (this.#get(AT.magic) !== KEEPSAKE_MAGIC || this.#get(AT.seed) !== seed) return null;
    const isNext =
      this.#get(AT.incarnation) === incarnation || this.#get(AT.successor) === incarnation;
    if (!isNext || this.#get(AT.half) > 1) return null;
    const left: Inheritance = {
      bootIncarnation: this.#get(AT.bootIncarnation),
      entries: [],
      blocks: [],
    };
    const newer = this.#get(AT.half);
    if (!this.#readHalf(1 - newer, left) || !this.#readHalf(newer, left)) return null;
    // From here on either of the two runs may die and be followed.
    this.#set(AT.incarnation, incarnation);
    this.#set(AT.successor, incarnation + 1);
    return left;
  }

  /** Everything inherited is durable (or there was nothing): empty, and this run's from now on. */
  begin(seed: number, incarnation: Incarnation, bootIncarnation: Incarnation): void {
    this.#set(AT.magic, 0);
    this.#set(AT.used, 0);
    this.#set(AT.used + 4, 0);
    this.#set(AT.half, 0);
    this.#short.fill(false);
    this.#set(AT.seed, seed);
    this.#set(AT.incarnation, incarnation);
    this.#set(AT.successor, incarnation);
    this.#set(AT.bootIncarnation, bootIncarnation);
    this.#set(AT.magic, KEEPSAKE_MAGIC);
  }

  // Noting.

  entry(number: number, source: Uint8Array, at: number, lengthBytes: number): void {
    const body = this.#begin(8 + lengthBytes);
    if (body < 0) return;
    this.#setNumber(body, number);
    this.#bytes.set(source.subarray(at, at + lengthBytes), body + 8);
    this.#end(RecordKind.entry, 8 + lengthBytes);
  }

  /** `checksums[block]` onwards are those of the blocks. */
  written(place: Omit<KeptBlocks, "checksums">, checksums: Uint32Array): void {
    const body = this.#begin(24 + 4 * place.count);
    if (body < 0) return;
    this.#place(body, place);
    for (let index = 0; index < place.count; index++) {
      this.#set(body + 24 + 4 * index, checksums[place.block + index] as number);
    }
    this.#end(RecordKind.written, 24 + 4 * place.count);
  }

  cleared(place: Omit<KeptBlocks, "checksums">): void {
    const body = this.#begin(24);
    if (body < 0) return;
    this.#place(body, place);
    this.#end(RecordKind.cleared, 24);
  }

  /**
   * So full that a flush cycle should begin, while there is still room for what comes meanwhile.
   */
  get filling(): boolean {
    return this.#get(AT.used + 4 * this.#get(AT.half)) > this.#halfBytes / 4;
  }

  /** So full that a flush cycle should come before more is noted. */
  get crowded(): boolean {
    return this.#get(AT.used + 4 * this.#get(AT.half)) > (this.#halfBytes / 4) * 3;
  }

  /** Something is not noted: only what is durable may be acked until a cycle has settled it. */
  get isShort(): boolean {
    return this.#short[0] === true || this.#short[1] === true;
  }

  /**
   * A flush cycle begins: it makes durable what was noted until now. After one that failed the
   * older half still counts, and nothing newer may be noted in it: what is read first is overruled.
   */
  turn(): void {
    const older = 1 - this.#get(AT.half);
    if (this.#get(AT.used + 4 * older) === 0) this.#set(AT.half, older);
  }

  /** The cycle has ended well. */
  settled(): void {
    const older = 1 - this.#get(AT.half);
    this.#set(AT.used + 4 * older, 0);
    this.#short[older] = false;
  }

  #place(body: number, place: Omit<KeptBlocks, "checksums">): void {
    this.#set(body, place.slice);
    this.#set(body + 4, place.extent);
    this.#setNumber(body + 8, place.mapping);
    this.#set(body + 16, place.block);
    this.#set(body + 20, place.count);
  }

  /** Where the next record's body begins, or -1 when there is no room: this half is short then. */
  #begin(lengthBytes: number): number {
    const half = this.#get(AT.half);
    const used = this.#get(AT.used + 4 * half);
    const padded = RECORD_HEADER_BYTES + Math.ceil(lengthBytes / 4) * 4;
    if (this.#short[half] === true || used + padded > this.#halfBytes) {
      this.#short[half] = true;
      return -1;
    }
    return HEADER_BYTES + half * this.#halfBytes + used + RECORD_HEADER_BYTES;
  }

  #end(kind: number, lengthBytes: number): void {
    const half = this.#get(AT.half);
    const used = this.#get(AT.used + 4 * half);
    const at = HEADER_BYTES + half * this.#halfBytes + used;
    this.#set(at, kind);
    this.#set(at + 4, lengthBytes);
    this.#set(at + 8, crc32(this.#bytes, at + RECORD_HEADER_BYTES, lengthBytes));
    const padded = RECORD_HEADER_BYTES + Math.ceil(lengthBytes / 4) * 4;
    this.#set(AT.used + 4 * half, used + padded);
  }

  /** False: it is damaged. */
  #readHalf(half: number, left: Inheritance): boolean {
    const start = HEADER_BYTES + half * this.#halfBytes;
    const used = this.#get(AT.used + 4 * half);
    if (used > this.#halfBytes) return false;
    for (let at = start; at < start + used;) {
      const [kind, length] = [this.#get(at), this.#get(at + 4)];
      const body = at + RECORD_HEADER_BYTES;
      if (body + length > start + used) return false;
      if (crc32(this.#bytes, body, length) !== this.#get(at + 8)) return false;
      if (!this.#read(kind, body, length, left)) return false;
      at = body + Math.ceil(length / 4) * 4;
    }
    return true;
  }

  #read(kind: number, body: number, length: number, left: Inheritance): boolean {
    if (kind === RecordKind.entry && length > 8) {
      const bytes = this.#bytes.slice(body + 8, body + length);
      left.entries.push({ number: this.#number(body), bytes });
      return true;
    }
    if (length < 24) return false;
    const count = this.#get(body + 20);
    const isWritten = kind === RecordKind.written;
    if (!isWritten && kind !== RecordKind.cleared) return false;
    if (length !== 24 + (isWritten ? 4 * count : 0)) return false;
    let checksums: Uint32Array | null = null;
    if (isWritten) {
      checksums = new Uint32Array(count);
      for (let index = 0; index < count; index++) {
        checksums[index] = this.#get(body + 24 + 4 * index);
      }
    }
    left.blocks.push({
      slice: this.#get(body),
      extent: this.#get(body + 4),
      mapping: this.#number(body + 8),
      block: this.#get(body + 16),
      count,
      checksums,
    });
    return true;
  }

  #get(at: number): number {
    return this.#view.getUint32(at, true);
  }
  #set(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }
  #number(at: number): number {
    return this.#get(at + 4) * 2 ** 32 + this.#get(at);
  }
  #setNumber(at: number, value: number): void {
    this.#set(at, value % 2 ** 32);
    this.#set(at + 4, Math.floor(value / 2 ** 32));
  }
}
