// SPDX-License-Identifier: Apache-2.0
//
// A backup of the control state: one header, then the sealed body. Own format, little-endian. The
// checksum covers all but itself and tells what was damaged from what was sealed by another secret;
// the header is the body's associated data, so that nobody changes it unseen.

import { bytes, reserved, struct, u16, u32, u64 } from "#base/wire.ts";

export const BACKUP = struct("control backup", 160, "little", {
  checksum: bytes(0, 32), // SHA-256 of all that follows
  magic: bytes(32, 8), // "CRNCTLBK"
  version: u16(40),
  zero: reserved(42, 2),
  entryCount: u32(44), // of the body
  clusterId: bytes(48, 16),
  generationId: bytes(64, 16), // zeros: the first
  generation: u64(80),
  revision: u64(88), // of the control store
  takenAtMs: u64(96), // wall clock, for people
  bodyBytes: u32(104), // that follow the header, tag included
  nonce: bytes(108, 12), // AES-256-GCM
  rest: reserved(120, 40),
});
export const BACKUP_MAGIC = new TextEncoder().encode("CRNCTLBK");
export const BACKUP_VERSION = 1;
/** Where what the checksum covers begins. */
export const BACKUP_CHECKED_FROM = 32;
/** A whole backup, bytes: what a state directory takes in one file. */
export const BACKUP_BYTES_MAX = 15 << 20;
/** Keys in one backup. */
export const BACKUP_ENTRIES_MAX = 1 << 18;
