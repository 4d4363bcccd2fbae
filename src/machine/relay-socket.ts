// SPDX-License-Identifier: Apache-2.0
//
// The reactor's side of a connection whose encryption another thread does (decision 0020).

import type { StreamSocket } from "#base/stream.ts";
import type { Reactor } from "./reactor.ts";
import { closeDescriptor, trySocketPair } from "./socket-pair.ts";
import { RingSocket } from "./stream-socket.ts";

/**
 * A socket whose other end is another thread's, a descriptor: what carries a host's connection
 * while TLS is done elsewhere. `peer` is the host. Null where there is no room (R13).
 */
export function socketToRelay(
  reactor: Reactor,
  peer: { address: string; port: number },
): { socket: StreamSocket; other: number } | null {
  const pair = trySocketPair();
  if (pair === null) return null;
  const [own, other] = pair;
  const socket = RingSocket.create(reactor, own, peer);
  if (socket !== null) return { socket, other };
  closeDescriptor(own);
  closeDescriptor(other);
  return null;
}
