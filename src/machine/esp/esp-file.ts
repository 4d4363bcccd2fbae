// SPDX-License-Identifier: Apache-2.0
//
// One small file in the root directory of the EFI system partition of an image or a disk: read, or
// put there in place of an older one. No mount, no root, no program of the system.
//
// Order of a replacement, each step on the medium before the next: new contents into free clusters,
// their chain, then the file's directory entry in one sector's writing, then the old chain is given
// back, then the count of free clusters. Whatever step is the last: there is the old file or the
// new one, whole, and no other file is touched; at worst some free clusters count as used
// (fsck.vfat finds them).

import { Fault } from "#base/fault.ts";
import { FS_INFO, FS_INFO_LEAD, FS_INFO_STRUCT, FS_INFO_UNKNOWN } from "./fat.wire.ts";
import { clusterAt, RootDirectory } from "./fat-directory.ts";
import type { FoundFile } from "./fat-directory.ts";
import { FatTable, readVolume } from "./fat-table.ts";
import type { FatVolume } from "./fat-table.ts";
import { findEsp } from "./gpt.ts";
import { openMedium } from "./raw-medium.ts";
import type { RawMedium } from "./raw-medium.ts";

/** Of a file that is read or written here. */
export const ESP_FILE_BYTES_MAX = 64 << 10;

/** Its bytes; null when there is none. */
export function readEspFile(image: string, name: string): Uint8Array | null {
  const medium = openMedium(image);
  try {
    return new EspVolume(medium, image).read(name);
  } finally {
    medium.close();
  }
}

/** `nowMs`: its date, milliseconds since 1970. Reads it back before it says done. */
export function writeEspFile(image: string, name: string, bytes: Uint8Array, nowMs: number): void {
  const medium = openMedium(image);
  try {
    new EspVolume(medium, image).write(name, bytes, nowMs);
    const back = new EspVolume(medium, image).read(name);
    const same = back?.length === bytes.length && back.every((byte, at) => byte === bytes[at]);
    if (!same) throw new Fault("diskFailed", `${image}: what was written does not read back`);
  } finally {
    medium.close();
  }
}

export class EspVolume {
  readonly #medium: RawMedium;
  readonly #where: string;
  readonly #volume: FatVolume;
  readonly #table: FatTable;
  readonly #root: RootDirectory;

  constructor(medium: RawMedium, name: string) {
    this.#medium = medium;
    this.#where = `${name}: its EFI system partition`;
    this.#volume = readVolume(medium, findEsp(medium, name), name);
    this.#table = new FatTable(medium, this.#volume, this.#where);
    this.#root = new RootDirectory(medium, this.#volume, this.#table, this.#where);
  }

  read(name: string): Uint8Array | null {
    const file = this.#find(name);
    if (file === null) return null;
    if (file.sizeBytes > ESP_FILE_BYTES_MAX) {
      throw new Fault("tooLarge", `${this.#where} has a ${name} of ${file.sizeBytes} bytes`);
    }
    const { clusterBytes } = this.#volume;
    const bytes = new Uint8Array(file.sizeBytes);
    for (const [index, cluster] of this.#chainOf(file).entries()) {
      const left = bytes.length - index * clusterBytes;
      if (left <= 0) break;
      const part = this.#medium.read(clusterAt(this.#volume, cluster), clusterBytes);
      bytes.set(part.subarray(0, left), index * clusterBytes);
    }
    return bytes;
  }

  write(name: string, bytes: Uint8Array, nowMs: number): void {
    if (bytes.length === 0 || bytes.length > ESP_FILE_BYTES_MAX) {
      throw new Fault("tooLarge", `a file of 1 to ${ESP_FILE_BYTES_MAX} bytes is put there`);
    }
    const old = this.#find(name);
    const oldChain = old === null ? [] : this.#chainOf(old);
    const slot = old === null ? this.#root.findRoom() : null;
    const grows = old === null && slot === null;
    if (grows && !this.#volume.isFat32) {
      throw new Fault("noSpace", `${this.#where} has a full root directory`);
    }
    const needed = Math.ceil(bytes.length / this.#volume.clusterBytes);
    const found = this.#table.findFree(needed + (grows ? 1 : 0));
    const clusters = found.slice(0, needed);
    const first = clusters[0] as number;
    this.#writeContents(clusters, bytes);
    this.#table.link(clusters);
    this.#table.write();
    if (old !== null) this.#root.repoint(old, first, bytes.length, nowMs);
    else if (slot !== null) this.#root.add(name, slot, first, bytes.length, nowMs);
    else this.#grow(name, found[needed] as number, first, bytes.length, nowMs);
    if (oldChain.length > 0) {
      this.#table.free(oldChain);
      this.#table.write();
    }
    this.#writeInfo(found.length - oldChain.length, found.at(-1) as number);
  }

  #find(name: string): FoundFile | null {
    const file = this.#root.find(name);
    if (file?.isDirectory === true) {
      throw new Fault("conflict", `${this.#where} has a folder named ${name}`);
    }
    return file;
  }

  /** Refused when it does not hold what the entry says: then it is not ours to give back. */
  #chainOf(file: FoundFile): number[] {
    const wanted = Math.ceil(file.sizeBytes / this.#volume.clusterBytes);
    const chain = file.cluster === 0 ? [] : this.#table.chain(file.cluster);
    if (chain.length >= wanted) return chain;
    throw new Fault("corrupt", `${this.#where} is damaged; check it first (fsck.vfat -a)`);
  }

  #writeContents(clusters: readonly number[], bytes: Uint8Array): void {
    const { clusterBytes } = this.#volume;
    for (const [index, cluster] of clusters.entries()) {
      const whole = new Uint8Array(clusterBytes);
      whole.set(bytes.subarray(index * clusterBytes, (index + 1) * clusterBytes));
      this.#medium.write(clusterAt(this.#volume, cluster), whole);
    }
    this.#medium.flush();
  }

  /** FAT32: the directory gets a cluster more, with the file in it; its link makes both visible. */
  #grow(name: string, cluster: number, first: number, sizeBytes: number, nowMs: number): void {
    const whole = this.#root.firstOfCluster(name, first, sizeBytes, nowMs);
    this.#medium.write(clusterAt(this.#volume, cluster), whole);
    this.#medium.flush();
    this.#table.link([cluster]);
    this.#table.write();
    this.#table.append(this.#root.clusters.at(-1) as number, cluster);
    this.#table.write();
  }

  /** FAT32's hints; kept true, since some systems believe them. */
  #writeInfo(taken: number, last: number): void {
    const { infoAt, sectorBytes } = this.#volume;
    if (infoAt === null) return;
    const sector = this.#medium.read(infoAt, sectorBytes);
    const info = FS_INFO.view().at(sector, 0);
    const isInfo = info.leadSignature === FS_INFO_LEAD && info.structSignature === FS_INFO_STRUCT;
    if (!isInfo || info.freeClusters === FS_INFO_UNKNOWN) return;
    const left = info.freeClusters - taken;
    const isPossible = left >= 0 && left < this.#volume.lastCluster;
    info.freeClusters = isPossible ? left : FS_INFO_UNKNOWN;
    info.nextFree = last;
    this.#medium.write(infoAt, sector);
    this.#medium.flush();
  }
}
