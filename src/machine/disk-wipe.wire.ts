// SPDX-License-Identifier: Apache-2.0
//
// The mark on a disk that is being emptied (disk-wipe.ts), in the first 16 bytes of its first
// sector: boot code of a protective MBR that no GPT uses (UEFI 2.10, section 5.2.3). Ours alone.

import { bytes, struct } from "#base/wire.ts";

export const WIPE_MARK_MAGIC = new TextEncoder().encode("CAIRN IS EMPTIED");

export const FIRST_SECTOR = struct("first sector of a disk", 512, "little", {
  wipeMark: bytes(0, 16),
  rest: bytes(16, 496), // more boot code, the protective MBR's one record, 55 AA
});
