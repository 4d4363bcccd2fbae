// SPDX-License-Identifier: Apache-2.0
//
// The C library by bun:ffi: the few calls that neither Bun nor the ring offers. Pointers are plain
// exact numbers; 64-bit arguments go as i64_fast. A call that fails
// answers -1 and leaves its reason in errno, which is read at once by `errno()`; completions of the
// ring carry theirs with them and never come here.

import { FFIType, type Pointer, dlopen, read } from "bun:ffi";
import { constants } from "node:os";

const PTR = FFIType.ptr;
const I32 = FFIType.i32;
const U32 = FFIType.u32;
const I64 = FFIType.i64_fast;
const U64 = FFIType.u64_fast;

const { symbols } = dlopen("libc.so.6", {
  mmap: { args: [PTR, U64, I32, I32, I32, I64], returns: PTR },
  munmap: { args: [PTR, U64], returns: I32 },
  mprotect: { args: [PTR, U64, I32], returns: I32 },
  madvise: { args: [PTR, U64, I32], returns: I32 },
  syscall: {
    args: [I64, I64, I64, I64, I64, I64, I64],
    returns: I64,
  },
  clock_gettime: { args: [I32, PTR], returns: I32 },
  clock_settime: { args: [I32, PTR], returns: I32 },
  adjtimex: { args: [PTR], returns: I32 },
  open: { args: [PTR, I32, I32], returns: I32 },
  close: { args: [I32], returns: I32 },
  ioctl: { args: [I32, U64, PTR], returns: I32 },
  statx: { args: [I32, PTR, I32, U32, PTR], returns: I32 },
  eventfd: { args: [U32, I32], returns: I32 },
  read: { args: [I32, PTR, U64], returns: I64 },
  write: { args: [I32, PTR, U64], returns: I64 },
  pwrite: { args: [I32, PTR, U64, I64], returns: I64 },
  preadv2: { args: [I32, PTR, I32, I64, I32], returns: I64 },
  recvmsg: { args: [I32, PTR, I32], returns: I64 },
  getrusage: { args: [I32, PTR], returns: I32 },
  flock: { args: [I32, I32], returns: I32 },
  posix_fadvise: { args: [I32, I64, I64, I32], returns: I32 },
  socket: { args: [I32, I32, I32], returns: I32 },
  socketpair: { args: [I32, I32, I32, PTR], returns: I32 },
  fcntl: { args: [I32, I32, I32], returns: I32 },
  bind: { args: [I32, PTR, U32], returns: I32 },
  listen: { args: [I32, I32], returns: I32 },
  connect: { args: [I32, PTR, U32], returns: I32 },
  shutdown: { args: [I32, I32], returns: I32 },
  setsockopt: { args: [I32, I32, I32, PTR, U32], returns: I32 },
  getsockopt: { args: [I32, I32, I32, PTR, PTR], returns: I32 },
  getsockname: { args: [I32, PTR, PTR], returns: I32 },
  getpeername: { args: [I32, PTR, PTR], returns: I32 },
  if_nametoindex: { args: [PTR], returns: U32 },
  if_indextoname: { args: [U32, PTR], returns: PTR },
  poll: { args: [PTR, U64, I32], returns: I32 },
  tcgetattr: { args: [I32, PTR], returns: I32 },
  tcsetattr: { args: [I32, I32, PTR], returns: I32 },
  cfmakeraw: { args: [PTR], returns: FFIType.void },
  __errno_location: { args: [], returns: PTR },
});

export const libc = symbols;
export type Address = Pointer;

/** An address as bun:ffi wants it. */
export function address(value: number): Address {
  return value as Address;
}

/** The calling thread's errno; only straight after the call that failed. */
export function errno(): number {
  return read.i32(symbols.__errno_location() as Address, 0);
}

const names = new Map<number, string>();
for (const [name, value] of Object.entries(constants.errno)) names.set(value, name);

/** "EIO" for 5. */
export function errnoName(value: number): string {
  return names.get(value) ?? `errno ${value}`;
}

export const ERRNO = {
  EINTR: constants.errno.EINTR,
  EIO: constants.errno.EIO,
  EAGAIN: constants.errno.EAGAIN,
  ENOMEM: constants.errno.ENOMEM,
  EADDRINUSE: constants.errno.EADDRINUSE,
  EPERM: constants.errno.EPERM,
  EBUSY: constants.errno.EBUSY,
  EINVAL: constants.errno.EINVAL,
  ENOSYS: constants.errno.ENOSYS,
  ECANCELED: constants.errno.ECANCELED,
  ETIME: constants.errno.ETIME,
  ETIMEDOUT: constants.errno.ETIMEDOUT,
} as const;

/** The address mmap answered; throws nothing, null when it failed. */
export function mappedAddress(answer: unknown): number | null {
  const value = Number(answer);
  return value > 0 && value < 2 ** 48 ? value : null; // MAP_FAILED is all ones
}

/** A C string for the length of one call; the caller keeps the array while the call lasts. */
export function cString(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}
