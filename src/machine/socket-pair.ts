// SPDX-License-Identifier: Apache-2.0
//
// Two connected stream sockets within this process: what one thread writes the other one reads,
// with the kernel's back-pressure between them.

import { Fault } from "#base/fault.ts";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM } from "./io-uring.wire.ts";
import { errno, errnoName, libc } from "./libc.ts";

const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
/** Large: the address of a small array may change. */
const pair = new Int32Array(new ArrayBuffer(4096));

/** Null where there is no descriptor left. */
export function trySocketPair(): [number, number] | null {
  if (libc.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return null;
  return [pair[0] as number, pair[1] as number];
}

/** Throws Fault notReady where there is no descriptor left. */
export function socketPair(): [number, number] {
  const made = trySocketPair();
  if (made === null) throw new Fault("notReady", `no pair of sockets (${errnoName(errno())})`);
  return made;
}

/** An event loop's sockets must not block; the ring's must not be like that. */
export function setNonBlocking(fd: number): void {
  libc.fcntl(fd, F_SETFL, libc.fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
}

export function closeDescriptor(fd: number): void {
  libc.close(fd);
}
