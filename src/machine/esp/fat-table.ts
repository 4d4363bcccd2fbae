// SPDX-License-Identifier: Apache-2.0
//
// A FAT volume's geometry and its allocation table (Microsoft FAT Specification, sections 3 and 4):
// which clusters are free, chains of clusters, and changing both.
//
// Invariants
// - Nothing is changed in memory that is not written by `write` afterwards; `write` writes whole
//   sectors, to every FAT that is kept up.
// - A chain that leaves the volume, meets a free or bad cluster, or turns in a circle is refused.

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import {
  BOOT_SECTOR,
  BOOT_SECTOR_FAT32,
  BOOT_SECTOR_FAT32_AT,
  CLUSTER_FIRST,
  FAT16,
  FAT16_CLUSTERS_MIN,
  FAT32,
  FAT32_CLUSTERS_MIN,
  STATE_AT_FAT16,
  STATE_AT_FAT32,
  STATE_MOUNTED,
} from "./fat.wire.ts";
import type { Stretch } from "./gpt.ts";
import type { RawMedium } from "./raw-medium.ts";

const FIRST_BYTES = 512;
const SECTOR_BYTES_MAX = 4096;
const CLUSTER_BYTES_MAX = 128 << 10;
const FATS_MAX = 4;
const ONLY_ONE_FAT = 0x80;
/** Sectors of the table that are read at once. */
const PIECE_SECTORS = 64;

export interface FatVolume {
  isFat32: boolean;
  sectorBytes: number;
  clusterBytes: number;
  /** Clusters are numbered from 2 to this, inclusive. */
  lastCluster: number;
  /** Where the FATs that are kept up begin, the one to read first; bytes on the medium. */
  fatsAt: number[];
  fatSectors: number;
  /** FAT16: the root directory's own place. FAT32: its first cluster. */
  root: { at: number; sectors: number } | { cluster: number };
  /** Where cluster 2 lies. */
  firstAt: number;
  /** FAT32: where FSInfo lies; null: nowhere. */
  infoAt: number | null;
}

/** Reads the boot sector; Throws Fault badRequest or corrupt when it is no FAT to write to. */
export function readVolume(medium: RawMedium, esp: Stretch, name: string): FatVolume {
  const where = `${name}: its EFI system partition`;
  const head = medium.read(esp.offsetBytes, SECTOR_BYTES_MAX);
  const view = new DataView(head.buffer);
  const boot = BOOT_SECTOR.view().at(head, 0);
  const sectorBytes = boot.sectorBytes;
  const clusterBytes = sectorBytes * boot.clusterSectors;
  const isFat =
    view.getUint16(FIRST_BYTES - 2, true) === 0xaa55 &&
    isPowerOfTwo(sectorBytes) &&
    isPowerOfTwo(boot.clusterSectors) &&
    sectorBytes >= FIRST_BYTES &&
    sectorBytes <= SECTOR_BYTES_MAX &&
    clusterBytes <= CLUSTER_BYTES_MAX &&
    boot.reservedSectors > 0 &&
    boot.fats >= 1 &&
    boot.fats <= FATS_MAX;
  if (!isFat) throw new Fault("badRequest", `${where} holds no FAT file system`);
  const second = BOOT_SECTOR_FAT32.view().at(head, BOOT_SECTOR_FAT32_AT);
  const fatSectors = boot.fatSectors16 === 0 ? second.fatSectors32 : boot.fatSectors16;
  const rootSectors = Math.ceil((boot.rootEntries * 32) / sectorBytes);
  const sectors = boot.sectors16 === 0 ? boot.sectors32 : boot.sectors16;
  const rootSector = boot.reservedSectors + boot.fats * fatSectors;
  const dataSector = rootSector + rootSectors;
  const clusters = Math.floor((sectors - dataSector) / boot.clusterSectors);
  if (sectors * sectorBytes > esp.sizeBytes || clusters < 1 || fatSectors < 1) {
    throw new Fault("corrupt", `${where} has a damaged boot sector`);
  }
  if (clusters < FAT16_CLUSTERS_MIN) {
    throw new Fault("badRequest", `${where} is FAT12; only FAT16 and FAT32 are known here`);
  }
  const isFat32 = clusters >= FAT32_CLUSTERS_MIN;
  const entryBytes = isFat32 ? 4 : 2;
  const lastCluster = clusters + CLUSTER_FIRST - 1;
  const at = (sector: number) => esp.offsetBytes + sector * sectorBytes;
  const oneFat = isFat32 && (second.flags & ONLY_ONE_FAT) !== 0;
  const kept = oneFat ? [second.flags & 0x0f] : Array.from({ length: boot.fats }, (_, one) => one);
  const sound =
    (lastCluster + 1) * entryBytes <= fatSectors * sectorBytes &&
    isFat32 === (boot.fatSectors16 === 0) &&
    (isFat32 ? boot.rootEntries === 0 && second.version === 0 : boot.rootEntries > 0) &&
    kept.every((one) => one < boot.fats);
  if (!sound) throw new Fault("corrupt", `${where} has a damaged boot sector`);
  if (((head[isFat32 ? STATE_AT_FAT32 : STATE_AT_FAT16] as number) & STATE_MOUNTED) !== 0) {
    throw uncleanFault(where);
  }
  const hasInfo = second.infoSector > 0 && second.infoSector < boot.reservedSectors;
  return {
    isFat32,
    sectorBytes,
    clusterBytes,
    lastCluster,
    fatsAt: kept.map((one) => at(boot.reservedSectors + one * fatSectors)),
    fatSectors,
    root: isFat32 ? { cluster: second.rootCluster } : { at: at(rootSector), sectors: rootSectors },
    firstAt: at(dataSector),
    infoAt: isFat32 && hasInfo ? at(second.infoSector) : null,
  };
}

function uncleanFault(where: string): Fault {
  const how = "check it first (fsck.vfat -a, or scan and repair in Windows)";
  return new Fault("conflict", `${where} is mounted, or was not unmounted; ${how}`);
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}

export class FatTable {
  readonly #medium: RawMedium;
  readonly #volume: FatVolume;
  readonly #where: string;
  readonly #marks: typeof FAT32;
  readonly #entryBytes: number;
  /** Read pieces of the table, by number. */
  readonly #pieces = new Map<number, DataView>();
  readonly #changed = new Set<number>();

  constructor(medium: RawMedium, volume: FatVolume, where: string) {
    this.#medium = medium;
    this.#volume = volume;
    this.#where = where;
    this.#marks = volume.isFat32 ? FAT32 : FAT16;
    this.#entryBytes = volume.isFat32 ? 4 : 2;
    const flags = this.#get(1);
    const { clean, good } = this.#marks;
    if ((flags & clean) === 0 || (flags & good) === 0) throw uncleanFault(where);
  }

  /** The clusters from this one to the end of its chain. */
  chain(first: number): number[] {
    const found: number[] = [];
    const seen = new Set<number>();
    for (let cluster = first; ;) {
      if (!this.#isInside(cluster) || seen.has(cluster)) throw this.#damaged();
      seen.add(cluster);
      found.push(cluster);
      const next = this.#get(cluster);
      if (next >= this.#marks.end) return found;
      if (next === 0 || next === this.#marks.bad) throw this.#damaged();
      cluster = next;
    }
  }

  /** So many free clusters; throws Fault noSpace when there are fewer. */
  findFree(count: number): number[] {
    const found: number[] = [];
    for (let cluster = CLUSTER_FIRST; cluster <= this.#volume.lastCluster; cluster++) {
      if (found.length === count) return found;
      if (this.#get(cluster) === 0) found.push(cluster);
    }
    if (found.length === count) return found;
    throw new Fault("noSpace", `${this.#where} is full`);
  }

  /** Makes them one chain, in this order. */
  link(clusters: readonly number[]): void {
    for (const [index, cluster] of clusters.entries()) {
      this.#set(cluster, clusters[index + 1] ?? this.#marks.mask);
    }
  }

  /** The chain that ends with `last` goes on with `next`. */
  append(last: number, next: number): void {
    assert(this.#get(last) >= this.#marks.end, "a chain is continued at its end");
    this.#set(last, next);
  }

  free(clusters: readonly number[]): void {
    for (const cluster of clusters) this.#set(cluster, 0);
  }

  /** What changed goes to the medium, every FAT in turn. */
  write(): void {
    const { sectorBytes, fatsAt } = this.#volume;
    for (const fatAt of fatsAt) {
      for (const sector of [...this.#changed].sort((one, other) => one - other)) {
        const piece = this.#piece(Math.floor(sector / PIECE_SECTORS));
        const start = (sector % PIECE_SECTORS) * sectorBytes;
        const bytes = new Uint8Array(piece.buffer, start, sectorBytes);
        this.#medium.write(fatAt + sector * sectorBytes, bytes);
      }
      this.#medium.flush();
    }
    this.#changed.clear();
  }

  #isInside(cluster: number): boolean {
    return cluster >= CLUSTER_FIRST && cluster <= this.#volume.lastCluster;
  }

  #damaged(): Fault {
    const how = "check it first (fsck.vfat -a, or scan and repair in Windows)";
    return new Fault("corrupt", `${this.#where} is damaged; ${how}`);
  }

  #place(cluster: number): { sector: number; piece: DataView; at: number } {
    const { sectorBytes } = this.#volume;
    const offset = cluster * this.#entryBytes;
    const sector = Math.floor(offset / sectorBytes);
    const piece = this.#piece(Math.floor(sector / PIECE_SECTORS));
    return { sector, piece, at: offset % (PIECE_SECTORS * sectorBytes) };
  }

  #get(cluster: number): number {
    const { piece, at } = this.#place(cluster);
    if (this.#entryBytes === 2) return piece.getUint16(at, true);
    return (piece.getUint32(at, true) & this.#marks.mask) >>> 0;
  }

  #set(cluster: number, value: number): void {
    assert(this.#isInside(cluster), "only clusters of the volume change");
    const { sector, piece, at } = this.#place(cluster);
    if (this.#entryBytes === 2) piece.setUint16(at, value, true);
    else {
      // The four highest bits are not the entry's.
      const others = piece.getUint32(at, true) & ~this.#marks.mask;
      piece.setUint32(at, (others | (value & this.#marks.mask)) >>> 0, true);
    }
    this.#changed.add(sector);
  }

  #piece(number: number): DataView {
    const known = this.#pieces.get(number);
    if (known !== undefined) return known;
    const { fatsAt, fatSectors, sectorBytes } = this.#volume;
    const sectors = Math.min(PIECE_SECTORS, fatSectors - number * PIECE_SECTORS);
    assert(sectors > 0, "the table holds an entry for every cluster");
    const at = (fatsAt[0] as number) + number * PIECE_SECTORS * sectorBytes;
    const piece = new DataView(this.#medium.read(at, sectors * sectorBytes).buffer);
    this.#pieces.set(number, piece);
    return piece;
  }
}
