// SPDX-License-Identifier: Apache-2.0
//
// Makes the kernel map one page of a file at each fault in chosen ranges, instead of the sixteen
// around it ("fault-around"). A runtime of 100 MB is used in thousands of single places: fifteen
// pages of sixteen are never looked at, yet count as the unit's memory and keep the page cache from
// letting them go.
//
// There is no call for that. A range that is registered with userfaultfd for write protection is
// left out of fault-around (mm/memory.c, should_fault_around(), and uffd_disable_fault_around() in
// linux/userfaultfd_k.h, since 5.14). With asynchronous write protection (6.7) any mapping may be
// registered, nobody needs to answer faults, and as nothing is ever write-protected here, nothing
// else changes.

import { ptr } from "bun:ffi";
import { libc } from "./libc.ts";
import {
  CLOSE_ON_EXEC,
  FEATURE_WP_ASYNC,
  REGISTER_MODE_WP,
  SYS_USERFAULTFD,
  UFFDIO_API,
  UFFDIO_API_FIELDS,
  UFFDIO_REGISTER,
  UFFDIO_REGISTER_FIELDS,
  UFFD_API,
  USER_MODE_ONLY,
} from "./userfaultfd.wire.ts";

/**
 * Faults in `ranges` (page-aligned, bytes) map single pages from now on, until the process ends.
 * Answers whether it is so; a kernel before 6.7 or a sandbox that refuses is no fault.
 */
export function faultSingly(ranges: readonly { start: number; lengthBytes: number }[]): boolean {
  const number = process.arch === "arm64" ? SYS_USERFAULTFD.arm64 : SYS_USERFAULTFD.x64;
  const flags = USER_MODE_ONLY | CLOSE_ON_EXEC;
  // Stays open: closing it takes the registrations back.
  const fd = libc.syscall(number, flags, 0, 0, 0, 0, 0) as number;
  if (fd < 0) return false;
  if (offer(fd) && ranges.every((range) => register(fd, range))) return true;
  libc.close(fd);
  return false;
}

function offer(fd: number): boolean {
  const bytes = new Uint8Array(UFFDIO_API_FIELDS.size);
  const view = UFFDIO_API_FIELDS.view().at(bytes, 0);
  view.api = UFFD_API;
  view.features = FEATURE_WP_ASYNC;
  return libc.ioctl(fd, UFFDIO_API, ptr(bytes)) === 0;
}

function register(fd: number, range: { start: number; lengthBytes: number }): boolean {
  const bytes = new Uint8Array(UFFDIO_REGISTER_FIELDS.size);
  const view = UFFDIO_REGISTER_FIELDS.view().at(bytes, 0);
  view.start = range.start;
  view.lengthBytes = range.lengthBytes;
  view.mode = REGISTER_MODE_WP;
  return libc.ioctl(fd, UFFDIO_REGISTER, ptr(bytes)) === 0;
}
