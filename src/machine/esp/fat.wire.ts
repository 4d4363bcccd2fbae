// SPDX-License-Identifier: Apache-2.0
//
// FAT16 and FAT32: Microsoft FAT Specification, version of 30 August 2005
// (https://academy.cba.mit.edu/classes/networking_communications/SD/FAT.pdf). All little-endian.

import { bytes, struct, u16, u32, u8 } from "#base/wire.ts";

/** Section 3.1: the first sector's fields that both share. */
export const BOOT_SECTOR = struct("FAT boot sector", 36, "little", {
  jump: bytes(0, 3),
  oemName: bytes(3, 8),
  sectorBytes: u16(11), // 512, 1024, 2048 or 4096
  clusterSectors: u8(13), // a power of two
  reservedSectors: u16(14), // before the first FAT
  fats: u8(16),
  rootEntries: u16(17), // FAT32: 0
  sectors16: u16(19), // 0: see sectors32
  media: u8(21),
  fatSectors16: u16(22), // FAT32: 0
  trackSectors: u16(24),
  heads: u16(26),
  hiddenSectors: u32(28),
  sectors32: u32(32),
});

/** Section 3.3: what follows in FAT32. */
export const BOOT_SECTOR_FAT32 = struct("FAT32 boot sector, second part", 54, "little", {
  fatSectors32: u32(0), // at 36
  flags: u16(4), // bit 7: only the FAT in bits 0 to 3 is kept up
  version: u16(6), // 0
  rootCluster: u32(8),
  infoSector: u16(12), // of FS_INFO
  backupSector: u16(14),
  reserved: bytes(16, 12),
  drive: u8(28),
  state: u8(29), // bit 0: not unmounted (Linux, Windows NT)
  bootSignature: u8(30),
  volumeId: u32(31),
  label: bytes(35, 11),
  systemName: bytes(46, 8),
});
export const BOOT_SECTOR_FAT32_AT = 36;
/** The byte that Linux marks while a FAT16 is mounted, in the boot sector. */
export const STATE_AT_FAT16 = 37;
export const STATE_AT_FAT32 = 65;
export const STATE_MOUNTED = 0x01;

/** Section 3.5: fewer clusters than this are FAT12, and fewer than the second FAT16. */
export const FAT16_CLUSTERS_MIN = 4085;
export const FAT32_CLUSTERS_MIN = 65525;
/** Clusters are numbered from 2. */
export const CLUSTER_FIRST = 2;
/** Section 4: bits of an entry, marks for the end and for bad clusters, flags in entry 1. */
export const FAT16 = { mask: 0xffff, end: 0xfff8, bad: 0xfff7, clean: 0x8000, good: 0x4000 };
export const FAT32 = {
  mask: 0x0fffffff,
  end: 0x0ffffff8,
  bad: 0x0ffffff7,
  clean: 0x08000000,
  good: 0x04000000,
};

/** Section 5: hints of a FAT32, in a sector of its own. */
export const FS_INFO = struct("FAT32 FSInfo", 512, "little", {
  leadSignature: u32(0), // 0x41615252
  reserved1: bytes(4, 480),
  structSignature: u32(484), // 0x61417272
  freeClusters: u32(488), // 0xffffffff: not known
  nextFree: u32(492),
  reserved2: bytes(496, 12),
  trailSignature: u32(508), // 0xaa550000
});
export const FS_INFO_LEAD = 0x41615252;
export const FS_INFO_STRUCT = 0x61417272;
export const FS_INFO_UNKNOWN = 0xffffffff;

/** Section 6: a directory entry. */
export const ENTRY = struct("FAT directory entry", 32, "little", {
  name: bytes(0, 11), // first byte 0xe5: free; 0: free, and so is all that follows
  attributes: u8(11),
  caseFlags: u8(12),
  createdTenths: u8(13),
  createdTime: u16(14),
  createdDate: u16(16),
  accessedDate: u16(18),
  clusterHigh: u16(20),
  writtenTime: u16(22),
  writtenDate: u16(24),
  clusterLow: u16(26),
  sizeBytes: u32(28),
});
export const ENTRY_FREE = 0xe5;
export const ENTRY_END = 0x00;
export const ATTRIBUTE = { volume: 0x08, directory: 0x10, archive: 0x20, longName: 0x0f };

/** Section 7: a piece of a long name; pieces lie before their entry, the last one first. */
export const LONG_ENTRY = struct("FAT long name entry", 32, "little", {
  order: u8(0), // from 1; the last piece has bit 6 set
  name1: bytes(1, 10), // five UTF-16 units
  attributes: u8(11), // ATTRIBUTE.longName
  type: u8(12), // 0
  checksum: u8(13), // of the short name
  name2: bytes(14, 12), // six
  cluster: u16(26), // 0
  name3: bytes(28, 4), // two
});
export const LONG_LAST = 0x40;
export const LONG_UNITS = 13;
/** Pieces of one name: 255 units. */
export const LONG_PIECES_MAX = 20;
