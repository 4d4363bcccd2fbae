// SPDX-License-Identifier: Apache-2.0
//
// The structures and constants of userfaultfd(2) that single-faults.ts uses, as
// include/uapi/linux/userfaultfd.h of Linux 6.12 prints them. Little-endian 64-bit machines only
// (x86-64, arm64). No logic.

import { struct, u64 } from "#base/wire.ts";

/** The system call's number; older than the numbers that all machines share. */
export const SYS_USERFAULTFD = { x64: 323, arm64: 282 } as const;

/** UFFD_USER_MODE_ONLY: needs no privilege; and O_CLOEXEC. */
export const USER_MODE_ONLY = 1;
export const CLOSE_ON_EXEC = 0o2000000;

/** _IOWR(0xAA, 0x3F, struct uffdio_api). */
export const UFFDIO_API = 0xc018aa3f;
export const UFFD_API = 0xaa;
/** UFFD_FEATURE_WP_ASYNC (6.7): write protection of any mapping, without anybody who answers. */
export const FEATURE_WP_ASYNC = 1 << 15;

/** struct uffdio_api. */
export const UFFDIO_API_FIELDS = struct("uffdio_api", 24, "little", {
  api: u64(0),
  features: u64(8),
  ioctls: u64(16),
});

/** _IOWR(0xAA, 0x00, struct uffdio_register). */
export const UFFDIO_REGISTER = 0xc020aa00;
/** UFFDIO_REGISTER_MODE_WP. */
export const REGISTER_MODE_WP = 2;

/** struct uffdio_register, with uffdio_range in it. */
export const UFFDIO_REGISTER_FIELDS = struct("uffdio_register", 32, "little", {
  start: u64(0),
  lengthBytes: u64(8),
  mode: u64(16),
  ioctls: u64(24),
});
