// SPDX-License-Identifier: Apache-2.0
//
// A TCP connection as a plain blocking descriptor, to be handed on: to the kernel's NBD client, or
// to the relay that secures it. Each step has a limit; between the steps the thread waits, so this
// is for a process that has nothing else to do. Not for the reactor.
//
// A connection whose other end vanishes without a word is found dead by the kernel: what was sent
// and not acknowledged for `silentMs`, or an idle one that does not answer, ends it.

import { Fault } from "#base/fault.ts";
import {
  IPPROTO_TCP,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  SOL_SOCKET,
  SO_KEEPALIVE,
  TCP_KEEPCNT,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_NODELAY,
  TCP_USER_TIMEOUT,
} from "./io-uring.wire.ts";
import { ERRNO, errno, errnoName, libc } from "./libc.ts";
import { type Endpoint, encodeEndpoint, endpointText } from "./socket-address.ts";

// asm-generic/socket.h, bits/socket.h
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const SHUT_RDWR = 2;
const SOCKADDR_BYTES = 128;
const RECEIVE_BYTES = 16 << 10;
const EINPROGRESS = 115;

/** Resolves nothing: a connection within `limitMs`, or a Fault notReady that says why not. */
export function connectStream(endpoint: Endpoint, options: { limitMs: number }): number {
  const place = new Uint8Array(new ArrayBuffer(4096)).subarray(0, SOCKADDR_BYTES);
  const { lengthBytes, family } = encodeEndpoint(endpoint, place, 0);
  const fd = libc.socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new Fault("badMachine", `no socket (${errnoName(errno())})`);
  limitWaits(fd, options.limitMs);
  if (libc.connect(fd, place, lengthBytes) === 0) return fd;
  const why = errno();
  libc.close(fd);
  const said = why === EINPROGRESS ? `no answer within ${options.limitMs} ms` : errnoName(why);
  throw new Fault("notReady", `${endpointText(endpoint)} does not take a connection (${said})`);
}

/** How long a step waits; 0: for ever, as the kernel's own users of a socket want it. */
export function limitWaits(fd: number, limitMs: number): void {
  const time = new BigInt64Array(new ArrayBuffer(4096), 0, 2);
  time[0] = BigInt(Math.floor(limitMs / 1000));
  time[1] = BigInt((limitMs % 1000) * 1000);
  libc.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, time, 16);
  libc.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, time, 16);
}

/** `silentMs`: whole seconds, at least 3. */
export function noticeSilence(fd: number, silentMs: number): void {
  const third = Math.max(1, Math.floor(silentMs / 3000));
  for (const [level, option, value] of [
    [IPPROTO_TCP, TCP_NODELAY, 1],
    [SOL_SOCKET, SO_KEEPALIVE, 1],
    [IPPROTO_TCP, TCP_KEEPIDLE, third],
    [IPPROTO_TCP, TCP_KEEPINTVL, third],
    [IPPROTO_TCP, TCP_KEEPCNT, 2],
    [IPPROTO_TCP, TCP_USER_TIMEOUT, silentMs],
  ] as const) {
    libc.setsockopt(fd, level, option, Int32Array.of(value), 4);
  }
}

/** All of it, or a Fault notReady. */
export function sendAll(fd: number, bytes: Uint8Array<ArrayBuffer>): void {
  for (let at = 0; at < bytes.length;) {
    const sent = Number(libc.write(fd, bytes.subarray(at), bytes.length - at));
    if (sent > 0) at += sent;
    else if (errno() !== ERRNO.EINTR) throw silent(errno());
  }
}

/** What is there, at least one byte; empty: the other end is done. A Fault notReady. */
export function receiveSome(fd: number): Uint8Array {
  const bytes = new Uint8Array(RECEIVE_BYTES);
  for (;;) {
    const length = Number(libc.read(fd, bytes, bytes.length));
    if (length >= 0) return bytes.subarray(0, length);
    if (errno() !== ERRNO.EINTR) throw silent(errno());
  }
}

/**
 * Whether the kernel's NBD client took it (RECONFIGURE says the same where it did not): it sets a
 * limit for sending on what it takes, where nothing else does (nbd_reconnect_socket).
 */
export function wasTaken(fd: number): boolean {
  const time = new BigInt64Array(new ArrayBuffer(4096), 0, 2);
  const length = Uint32Array.of(16);
  libc.getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, time, length);
  return time[0] !== 0n || time[1] !== 0n;
}

/** Ends the connection itself, whoever else holds a descriptor of it. */
export function cutStream(fd: number): void {
  libc.shutdown(fd, SHUT_RDWR);
}

/** This descriptor alone; the connection stands while somebody else holds one. */
export function closeStream(fd: number): void {
  libc.close(fd);
}

function silent(why: number): Fault {
  const said = why === ERRNO.EAGAIN ? "no answer in time" : errnoName(why);
  return new Fault("notReady", `the connection broke (${said})`);
}
