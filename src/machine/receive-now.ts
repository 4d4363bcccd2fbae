// SPDX-License-Identifier: Apache-2.0
//
// What a socket has at this moment, taken by a plain call that never waits (recvmsg(2)), into one
// or two places: the rest of a payload, and the head of what follows it. Such a call is cheaper
// than a turn of the loop.

import { IOVEC, IOVEC_BYTES, MSGHDR, MSG_DONTWAIT } from "./io-uring.wire.ts";
import { ERRNO, address, errno, libc } from "./libc.ts";
import type { Reactor } from "./reactor.ts";

const IOVECS_AT = 64;
/** Of Memory, what a call needs while it lasts. */
export const RECEIVE_NOW_BYTES = IOVECS_AT + 2 * IOVEC_BYTES;

const header = MSGHDR.view();

/**
 * Receives into `into` and then `behind`; either may be 0 bytes long, not both. Answers the bytes,
 * 0 when the peer sends no more, or -errno: EAGAIN where nothing is there. `controlAt`:
 * RECEIVE_NOW_BYTES of Memory.
 */
export function receiveNow(
  reactor: Reactor,
  fd: number,
  controlAt: number,
  into: number,
  intoBytes: number,
  behind: number,
  behindBytes: number,
): number {
  const { memory } = reactor;
  const message = header.at(memory.bytes, controlAt).clear();
  message.iov = memory.baseAddress + controlAt + IOVECS_AT;
  message.iovCount = 2;
  writePlace(reactor, controlAt + IOVECS_AT, into, intoBytes);
  writePlace(reactor, controlAt + IOVECS_AT + IOVEC_BYTES, behind, behindBytes);
  const result = libc.recvmsg(fd, address(memory.baseAddress + controlAt), MSG_DONTWAIT);
  const received = Number(result);
  return received < 0 ? -(errno() || ERRNO.EIO) : received;
}

function writePlace(reactor: Reactor, at: number, bufferOffset: number, lengthBytes: number): void {
  const { view } = reactor.memory;
  view.setUint32(at + IOVEC.addressLow, reactor.addressLow(bufferOffset), true);
  view.setUint32(at + IOVEC.addressHigh, reactor.addressHigh, true);
  view.setUint32(at + IOVEC.lengthLow, lengthBytes, true);
  view.setUint32(at + IOVEC.lengthHigh, 0, true);
}
