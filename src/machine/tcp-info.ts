// SPDX-License-Identifier: Apache-2.0
//
// What the kernel knows of a TCP connection (tcp(7), TCP_INFO; struct tcp_info in linux/tcp.h).

import { IPPROTO_TCP } from "./io-uring.wire.ts";
import { libc } from "./libc.ts";

const TCP_INFO = 11;
/** linux/tcp.h, struct tcp_info: offsets of its fields, all u32 but the first. */
const STATE = 0; // tcpi_state, u8
const UNACKED = 24; // tcpi_unacked: segments on their way
const LAST_ACK_RECV = 56; // tcpi_last_ack_recv: ms since the last acknowledgement
const NOT_SENT = 144; // tcpi_notsent_bytes: queued here
const TCP_INFO_BYTES = 148;
/** include/net/tcp_states.h */
const TCP_ESTABLISHED = 1;

const bytes = new Uint8Array(new ArrayBuffer(4096), 0, TCP_INFO_BYTES);
const info = new DataView(bytes.buffer);
const length = new Uint32Array(new ArrayBuffer(4096), 0, 1);

/** Whether it has not ended, as far as the kernel knows; of a pair of sockets: true. */
export function isStanding(fd: number): boolean {
  return !ask(fd) || info.getUint8(STATE) === TCP_ESTABLISHED;
}

/**
 * For how long the other machine's kernel has acknowledged nothing, ms. It tells whether that
 * machine is reachable where it is asked each second (keepalive); its program may sleep. 0 where
 * that cannot be known: no TCP, or the other side takes nothing at the moment (a closed window),
 * about which the kernel asks more and more seldom.
 */
export function unheardMs(fd: number): number {
  if (!ask(fd)) return 0;
  const isWindowClosed = info.getUint32(UNACKED, true) === 0 && info.getUint32(NOT_SENT, true) > 0;
  return isWindowClosed ? 0 : info.getUint32(LAST_ACK_RECV, true);
}

/** Fills `bytes`; false: it is no TCP connection. */
function ask(fd: number): boolean {
  length[0] = TCP_INFO_BYTES;
  return libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, bytes, length) === 0;
}
