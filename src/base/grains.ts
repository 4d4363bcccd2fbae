// SPDX-License-Identifier: Apache-2.0
//
// The grains of storage, once and for all (contract.md, "Grains"). All in bytes.

/** What a host may address: the logical sector. A sector never tears (H3). */
export const SECTOR_BYTES = 512;
/** The physical sector we report, and the unit of checksums (R9). */
export const BLOCK_BYTES = 4096;
/** The unit of allocation and of resync. */
export const EXTENT_BYTES = 1 << 20;
/** The unit of activity (R6). */
export const REGION_BYTES = 4 << 20;
/** A slice's default size; a cluster may be created with a smaller one (tests, the demo). */
export const SLICE_BYTES_DEFAULT = 64 * 2 ** 30;
/** A slice is a whole number of regions, at least one and at most this. */
export const SLICE_BYTES_MAX = SLICE_BYTES_DEFAULT;

export const BLOCKS_PER_EXTENT = EXTENT_BYTES / BLOCK_BYTES;
export const EXTENTS_PER_REGION = REGION_BYTES / EXTENT_BYTES;
export const SECTORS_PER_BLOCK = BLOCK_BYTES / SECTOR_BYTES;
