// SPDX-License-Identifier: Apache-2.0
//
// GUID partition table, as far as finding a partition needs it: UEFI Specification 2.10, section
// 5.3 (https://uefi.org/specs/UEFI/2.10/05_GUID_Partition_Table_Format.html). All little-endian.

import { bytes, struct, u32, u64 } from "#base/wire.ts";

/** "EFI PART" (5.3.2). */
export const GPT_SIGNATURE = "EFI PART";
/** The header's place, in logical blocks. */
export const GPT_HEADER_BLOCK = 1;
/** Logical blocks of disks and images. */
export const BLOCK_BYTES_KNOWN = [512, 4096] as const;

/** Table 5.5. */
export const GPT_HEADER = struct("GPT header", 92, "little", {
  signature: bytes(0, 8),
  revision: u32(8), // 0x00010000
  headerBytes: u32(12), // 92 to the block's size
  headerChecksum: u32(16), // CRC-32 of the header with this field zero
  zero: u32(20),
  myBlock: u64(24),
  alternateBlock: u64(32),
  firstUsableBlock: u64(40),
  lastUsableBlock: u64(48),
  diskGuid: bytes(56, 16),
  entriesBlock: u64(72),
  entries: u32(80),
  entryBytes: u32(84), // 128 times a power of two
  entriesChecksum: u32(88), // CRC-32 of all entries
});

/** Table 5.6. */
export const GPT_ENTRY = struct("GPT entry", 128, "little", {
  type: bytes(0, 16), // zero: unused
  partitionGuid: bytes(16, 16),
  firstBlock: u64(32),
  lastBlock: u64(40), // inclusive
  attributes: bytes(48, 8),
  name: bytes(56, 72), // UTF-16LE
});

/** C12A7328-F81F-11D2-BA4B-00A0C93EC93B as it lies on a disk (5.3.3, table 5.7). */
export const ESP_TYPE = Uint8Array.fromHex("28732ac11ff8d211ba4b00a0c93ec93b");

/** The specification wants room for 128 entries; nobody makes more than this. */
export const GPT_ENTRIES_MAX = 1024;
export const GPT_ENTRY_BYTES_MAX = 4096;
