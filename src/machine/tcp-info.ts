// SPDX-License-Identifier: Apache-2.0
//
// What the kernel knows of a TCP connection (tcp(7), TCP_INFO; struct tcp_info in linux/tcp.h).

import { IPPROTO_TCP } from "./io-uring.wire.ts";
import { libc } from "./libc.ts";

const TCP_INFO = 11;
/** linux/tcp.h, struct tcp_info: offsets of its fields, u32 but where it says otherwise. */
const STATE = 0; // tcpi_state, u8
const PROBES = 3; // tcpi_probes, u8: questions behind a closed window in a row without an answer
const UNACKED = 24; // tcpi_unacked: segments on their way
const LAST_ACK_RECV = 56; // tcpi_last_ack_recv: ms since the last acknowledgement
const NOT_SENT = 144; // tcpi_notsent_bytes: queued here
const TCP_INFO_BYTES = 148;
/** Unanswered questions that say something: the last one may have just been sent. */
const PROBES_MIN = 3;
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
 * that cannot be known: no TCP, or the other side takes nothing at the moment (a closed window):
 * then the kernel asks more and more seldom, and only PROBES_MIN questions without an answer say
 * that nobody is there.
 */
export function unheardMs(fd: number): number {
  if (!ask(fd)) return 0;
  const isWindowClosed = info.getUint32(UNACKED, true) === 0 && info.getUint32(NOT_SENT, true) > 0;
  if (isWindowClosed && info.getUint8(PROBES) < PROBES_MIN) return 0;
  return info.getUint32(LAST_ACK_RECV, true);
}

/** Fills `bytes`; false: it is no TCP connection. */
function ask(fd: number): boolean {
  length[0] = TCP_INFO_BYTES;
  return libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, bytes, length) === 0;
}
