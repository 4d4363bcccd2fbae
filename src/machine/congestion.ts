// SPDX-License-Identifier: Apache-2.0
//
// Congestion control of a connection that sends in bulk (tcp(7), TCP_CONGESTION): Debian's own. One
// that paces (bbr, where a machine was set so) sets a timer per segment, which on a storage network
// takes half of the sender's processor time. Short answers it only gathers, so these keep what the
// machine has (decision 0059).

import { IPPROTO_TCP, TCP_CONGESTION } from "./io-uring.wire.ts";
import { address, libc } from "./libc.ts";
import type { Reactor } from "./reactor.ts";

const BULK_CONGESTION = new TextEncoder().encode("cubic");

/** `scratchAt`: 16 bytes of Memory. A kernel without it keeps its own. */
export function sendInBulk(reactor: Reactor, fd: number, scratchAt: number): void {
  const { memory } = reactor;
  memory.bytes.set(BULK_CONGESTION, scratchAt);
  const name = address(memory.baseAddress + scratchAt);
  libc.setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, BULK_CONGESTION.length);
}
