// SPDX-License-Identifier: Apache-2.0
//
// The root directory of a FAT volume (Microsoft FAT Specification, sections 6 and 7): finding one
// file by its long or short name, and room for a new one.
//
// A name is at once in the directory or not: its long name's piece and its entry go into one
// sector, and where the directory's end has to move, the sectors behind are written first.

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { ATTRIBUTE, ENTRY, ENTRY_END, ENTRY_FREE, LONG_ENTRY } from "./fat.wire.ts";
import { LONG_LAST, LONG_PIECES_MAX, LONG_UNITS } from "./fat.wire.ts";
import type { FatTable, FatVolume } from "./fat-table.ts";
import type { RawMedium } from "./raw-medium.ts";

const SHORT_BYTES = 11;
/** Of a root directory; the specification's limit is 65,536 entries. */
const DIRECTORY_BYTES_MAX = 2 << 20;

interface Sector {
  at: number;
  bytes: Uint8Array;
}

export interface FoundFile {
  /** Slot of its entry. */
  slot: number;
  cluster: number;
  sizeBytes: number;
  isDirectory: boolean;
}

export class RootDirectory {
  readonly #medium: RawMedium;
  readonly #volume: FatVolume;
  readonly #sectors: Sector[] = [];
  readonly #slotsPerSector: number;
  readonly #longName = LONG_ENTRY.view();
  readonly #entry = ENTRY.view();
  /** FAT32: its chain. */
  readonly clusters: number[] = [];

  constructor(medium: RawMedium, volume: FatVolume, table: FatTable, where: string) {
    this.#medium = medium;
    this.#volume = volume;
    this.#slotsPerSector = volume.sectorBytes / ENTRY.size;
    if ("cluster" in volume.root) {
      this.clusters = table.chain(volume.root.cluster);
      if (this.clusters.length * volume.clusterBytes > DIRECTORY_BYTES_MAX) {
        throw new Fault("corrupt", `${where} has too large a root directory`);
      }
      for (const cluster of this.clusters) {
        this.#read(clusterAt(volume, cluster), volume.clusterBytes / volume.sectorBytes);
      }
    } else {
      this.#read(volume.root.at, volume.root.sectors);
    }
  }

  #read(at: number, sectors: number): void {
    const { sectorBytes } = this.#volume;
    const bytes = this.#medium.read(at, sectors * sectorBytes);
    for (let sector = 0; sector < sectors; sector++) {
      const part = bytes.subarray(sector * sectorBytes, (sector + 1) * sectorBytes);
      this.#sectors.push({ at: at + sector * sectorBytes, bytes: part });
    }
  }

  get #slots(): number {
    return this.#sectors.length * this.#slotsPerSector;
  }

  #sectorOf(slot: number): Sector {
    const sector = this.#sectors[Math.floor(slot / this.#slotsPerSector)];
    assert(sector !== undefined, "the slot is in the directory");
    return sector;
  }

  #offset(slot: number): number {
    return (slot % this.#slotsPerSector) * ENTRY.size;
  }

  #firstByte(slot: number): number {
    return this.#sectorOf(slot).bytes[this.#offset(slot)] as number;
  }

  /** Case does not count. Null: there is none. */
  find(name: string): FoundFile | null {
    const wanted = name.toUpperCase();
    let pieces: { text: string; order: number; checksum: number }[] = [];
    for (let slot = 0; slot < this.#slots; slot++) {
      const first = this.#firstByte(slot);
      if (first === ENTRY_END) return null;
      const entry = this.#entry.at(this.#sectorOf(slot).bytes, this.#offset(slot));
      if (first === ENTRY_FREE) pieces = [];
      else if ((entry.attributes & 0x3f) === ATTRIBUTE.longName) {
        pieces = [...pieces, this.#piece(slot)].slice(-LONG_PIECES_MAX);
      } else {
        const isVolume = (entry.attributes & ATTRIBUTE.volume) !== 0;
        const long = longNameOf(pieces, checksumOf(entry.name));
        pieces = [];
        if (isVolume || (long ?? shortName(entry.name)).toUpperCase() !== wanted) continue;
        const cluster = (this.#volume.isFat32 ? entry.clusterHigh * 0x10000 : 0) + entry.clusterLow;
        const isDirectory = (entry.attributes & ATTRIBUTE.directory) !== 0;
        return { slot, cluster, sizeBytes: entry.sizeBytes, isDirectory };
      }
    }
    return null;
  }

  #piece(slot: number): { text: string; order: number; checksum: number } {
    const piece = this.#longName.at(this.#sectorOf(slot).bytes, this.#offset(slot));
    const { name1, name2, name3, order, checksum } = piece;
    const units = [name1, name2, name3].map((part) => new TextDecoder("utf-16le").decode(part));
    return { text: units.join("").split("\0")[0] ?? "", order, checksum };
  }

  /** The entry points to another chain, with one sector's writing. */
  repoint(file: FoundFile, cluster: number, sizeBytes: number, nowMs: number): void {
    this.#fill(file.slot, cluster, sizeBytes, nowMs);
    this.#writeSector(file.slot);
  }

  #fill(slot: number, cluster: number, sizeBytes: number, nowMs: number): void {
    const entry = this.#entry.at(this.#sectorOf(slot).bytes, this.#offset(slot));
    const { date, time } = fatTime(nowMs);
    entry.clusterHigh = this.#volume.isFat32 ? cluster >>> 16 : 0;
    entry.clusterLow = cluster & 0xffff;
    entry.sizeBytes = sizeBytes;
    entry.attributes |= ATTRIBUTE.archive;
    entry.writtenDate = date;
    entry.accessedDate = date;
    entry.writtenTime = time;
  }

  #writeSector(slot: number): void {
    const { at, bytes } = this.#sectorOf(slot);
    this.#medium.write(at, bytes);
    this.#medium.flush();
  }

  /**
   * The slot of two free ones in one sector; null: a cluster more is needed, or none can be had.
   */
  findRoom(): number | null {
    let behindEnd = false;
    const isFree = (slot: number) => behindEnd || this.#firstByte(slot) === ENTRY_FREE;
    for (let slot = 0; slot < this.#slots; slot++) {
      if (this.#firstByte(slot) === ENTRY_END) behindEnd = true;
      if (slot % this.#slotsPerSector === this.#slotsPerSector - 1 || !isFree(slot)) continue;
      if (behindEnd || isFree(slot + 1) || this.#firstByte(slot + 1) === ENTRY_END) return slot;
    }
    return null;
  }

  /** A new file at a place that `findRoom` gave. */
  add(name: string, slot: number, cluster: number, sizeBytes: number, nowMs: number): void {
    const end = this.#end();
    if (end <= slot + 1) {
      // The end moves behind the new entry; what lay behind the old end may be anything.
      const behind = slot + 2;
      if (behind < this.#slots) {
        this.#sectorOf(behind).bytes.fill(
          0,
          this.#offset(behind),
          this.#offset(behind) + ENTRY.size,
        );
        if (this.#sectorOf(behind) !== this.#sectorOf(slot)) this.#writeSector(behind);
      }
    }
    const used = this.#shortNames();
    this.#put(name, slot, used, cluster, sizeBytes, nowMs);
    this.#writeSector(slot);
    // Slots that were left out between the old end and the new entry: this makes it visible.
    if (end >= slot) return;
    for (let passed = end; passed < slot; passed++) {
      this.#sectorOf(passed).bytes[this.#offset(passed)] = ENTRY_FREE;
    }
    this.#writeSector(end);
  }

  /** A new file as the first of a cluster that is not part of the directory yet. */
  firstOfCluster(name: string, cluster: number, sizeBytes: number, nowMs: number): Uint8Array {
    const bytes = new Uint8Array(this.#volume.clusterBytes);
    const used = this.#shortNames();
    const end = this.#end();
    for (let passed = end; passed < this.#slots; passed++) {
      this.#sectorOf(passed).bytes[this.#offset(passed)] = ENTRY_FREE;
    }
    if (end < this.#slots) this.#writeSector(end);
    const slot = this.#slots;
    this.#sectors.push({ at: 0, bytes: bytes.subarray(0, this.#volume.sectorBytes) });
    this.#put(name, slot, used, cluster, sizeBytes, nowMs);
    return bytes;
  }

  /** The slot of the end mark; behind the last slot when there is none. */
  #end(): number {
    for (let slot = 0; slot < this.#slots; slot++) {
      if (this.#firstByte(slot) === ENTRY_END) return slot;
    }
    return this.#slots;
  }

  #put(
    name: string,
    slot: number,
    used: ReadonlySet<string>,
    cluster: number,
    sizeBytes: number,
    nowMs: number,
  ): void {
    assert(name.length <= LONG_UNITS, "the name fits one piece");
    const short = freeShortName(name, used);
    const piece = this.#longName.at(this.#sectorOf(slot).bytes, this.#offset(slot)).clear();
    const units = new Uint16Array(LONG_UNITS).fill(0xffff);
    for (let at = 0; at <= name.length && at < LONG_UNITS; at++) {
      units[at] = at < name.length ? name.charCodeAt(at) : 0;
    }
    const bytes = new Uint8Array(units.buffer);
    piece.order = LONG_LAST | 1;
    piece.attributes = ATTRIBUTE.longName;
    piece.checksum = checksumOf(short);
    piece.name1 = bytes.subarray(0, 10);
    piece.name2 = bytes.subarray(10, 22);
    piece.name3 = bytes.subarray(22, 26);
    const entry = this.#entry.at(this.#sectorOf(slot + 1).bytes, this.#offset(slot + 1)).clear();
    const { date, time } = fatTime(nowMs);
    entry.name = short;
    entry.createdDate = date;
    entry.createdTime = time;
    this.#fill(slot + 1, cluster, sizeBytes, nowMs);
  }

  #shortNames(): Set<string> {
    const names = new Set<string>();
    const end = this.#end();
    for (let slot = 0; slot < end; slot++) {
      const entry = this.#entry.at(this.#sectorOf(slot).bytes, this.#offset(slot));
      const isLong = (entry.attributes & 0x3f) === ATTRIBUTE.longName;
      if (!isLong && this.#firstByte(slot) !== ENTRY_FREE) names.add(latin1(entry.name));
    }
    return names;
  }
}

export function clusterAt(volume: FatVolume, cluster: number): number {
  return volume.firstAt + (cluster - 2) * volume.clusterBytes;
}

function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

/** Pieces as they lie, the last one first; null when they are no name of this entry. */
function longNameOf(
  pieces: readonly { text: string; order: number; checksum: number }[],
  checksum: number,
): string | null {
  if (pieces.length === 0) return null;
  const sound = pieces.every(({ order, checksum: theirs }, index) => {
    const wanted = pieces.length - index + (index === 0 ? LONG_LAST : 0);
    return order === wanted && theirs === checksum;
  });
  return sound
    ? pieces
        .map((piece) => piece.text)
        .toReversed()
        .join("")
    : null;
}

/** `AUTOEXECBAT` is `AUTOEXEC.BAT`. */
function shortName(name: Uint8Array): string {
  const text = latin1(name);
  const extension = text.slice(8).trimEnd();
  const stem = text.slice(0, 8).trimEnd();
  return extension === "" ? stem : `${stem}.${extension}`;
}

/** `cairn.json` is `CAIRN~1.JSO`, or a later number where that is taken. */
function freeShortName(name: string, used: ReadonlySet<string>): Uint8Array {
  const [stem = "", extension = ""] = name.toUpperCase().split(".");
  for (let number = 1; number < 1_000_000; number++) {
    const tail = `~${number}`;
    const short = stem.slice(0, 8 - tail.length) + tail;
    const text = short.padEnd(8) + extension.slice(0, 3).padEnd(3);
    if (used.has(text)) continue;
    return Uint8Array.from(text, (sign) => sign.charCodeAt(0));
  }
  throw new Fault("noSpace", "every short name is taken");
}

/** Section 7.2. */
function checksumOf(short: Uint8Array): number {
  assert(short.length === SHORT_BYTES, "a short name has eleven bytes");
  let sum = 0;
  for (const byte of short) sum = (((sum & 1) << 7) + (sum >> 1) + byte) & 0xff;
  return sum;
}

/** Section 6.1; two seconds fine, without a zone: taken as UTC here. */
function fatTime(nowMs: number): { date: number; time: number } {
  const now = new Date(nowMs);
  const year = Math.min(Math.max(now.getUTCFullYear(), 1980), 2107) - 1980;
  const date = (year << 9) | ((now.getUTCMonth() + 1) << 5) | now.getUTCDate();
  const seconds = Math.floor(now.getUTCSeconds() / 2);
  return { date, time: (now.getUTCHours() << 11) | (now.getUTCMinutes() << 5) | seconds };
}
