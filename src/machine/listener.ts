// SPDX-License-Identifier: Apache-2.0
//
// How sockets come to be on the ring: listening and connecting, over TCP (IPv4, IPv6) and unix
// sockets. Setting up fails by Fault, since it is the composition's; what comes from outside never
// throws.

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { NO_BUFFER } from "#base/memory.ts";
import type { StreamSocket } from "#base/stream.ts";
import { rmSync, statSync } from "node:fs";
import {
  ACCEPT_MULTISHOT,
  AF_INET6,
  AF_UNIX,
  CANCEL_ALL,
  CANCEL_FD,
  CQE_FLAG,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPV6_V6ONLY,
  RING_OP,
  SOCKADDR_BYTES_MAX,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  SOL_SOCKET,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SO_KEEPALIVE,
  SO_REUSEADDR,
  SQE,
  TCP_KEEPCNT,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_NODELAY,
  TCP_USER_TIMEOUT,
} from "./io-uring.wire.ts";
import { ERRNO, address, errno, errnoName, libc } from "./libc.ts";
import { patiently } from "./patience.ts";
import type { Reactor } from "./reactor.ts";
import type { RingTarget } from "./ring.ts";
import { type Endpoint, decodeEndpoint, encodeEndpoint, endpointText } from "./socket-address.ts";
import { RingSocket } from "./stream-socket.ts";

const BACKLOG = 256;
const CONNECT_MS_DEFAULT = 2000;
const ADDRESS_BYTES = 4096;
/** What the kernel may hold of what was sent on a unix socket, and as much for its own words. */
const UNIX_SEND_BYTES = 1 << 20;

export interface StreamOptions {
  /** Size of the receive buffer; a message taken by onBytes must fit. Default 64 KiB. */
  receiveBytes?: number;
  /**
   * TCP: a peer whose host is gone is noticed within this, idle (keepalive) or not
   * (TCP_USER_TIMEOUT). Whole seconds, at least 3. Default: the kernel's hours.
   */
  aliveWithinSeconds?: number;
  /** An idle peer's kernel is asked for a sign of life this often. Default: a third of that. */
  askedEverySeconds?: number;
}

/** Accepts until closed. */
export class Listener implements RingTarget {
  /** Where it listens; with port 0 asked for, the port that was given. */
  readonly address: string;
  readonly port: number;
  readonly #reactor: Reactor;
  readonly #fd: number;
  readonly #options: StreamOptions;
  readonly #onAccept: (socket: StreamSocket) => void;
  readonly #path: string | null;
  readonly #scratch: number;
  #armed = false;
  #closed = false;
  #gone = false;

  /** Throws Fault badConfiguration where one cannot listen there. `onAccept` must set onBytes. */
  constructor(
    reactor: Reactor,
    endpoint: Endpoint,
    options: StreamOptions,
    onAccept: (socket: StreamSocket) => void,
  ) {
    this.#reactor = reactor;
    this.#options = options;
    this.#onAccept = onAccept;
    this.#path = "path" in endpoint ? endpoint.path : null;
    this.#scratch = takeScratch(reactor);
    try {
      this.#fd = openListening(reactor, endpoint, this.#scratch);
    } catch (cause) {
      reactor.memory.release(this.#scratch);
      throw cause;
    }
    const bound = nameOf(reactor, this.#fd, this.#scratch, "own");
    this.address = this.#path ?? bound.address;
    this.port = bound.port;
    this.#arm();
    // A failed accept (no descriptors left) ends the multishot; the next tick tries again.
    reactor.onTick(() => {
      if (!this.#armed && !this.#closed) this.#arm();
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const entry = this.#reactor.ring.prepareIgnored(RING_OP.asyncCancel, this.#fd);
    this.#reactor.ring.words[entry + SQE.opFlags] = CANCEL_ALL | CANCEL_FD;
    if (this.#path !== null) rmSync(this.#path, { force: true });
    if (!this.#armed) this.#reactor.defer(() => this.#leave());
  }

  ringDone(_tag: number, result: number, flags: number): void {
    if ((flags & CQE_FLAG.more) === 0) this.#armed = false;
    if (result >= 0) this.#accepted(result);
    if (this.#armed) return;
    if (this.#closed) this.#reactor.defer(() => this.#leave());
    else if (result >= 0) this.#arm();
  }

  #arm(): void {
    const entry = this.#reactor.ring.prepare(RING_OP.accept, this.#fd, this, 0);
    const { words } = this.#reactor.ring;
    words[entry + SQE.opcode] = RING_OP.accept | (ACCEPT_MULTISHOT << 16);
    words[entry + SQE.opFlags] = SOCK_CLOEXEC;
    this.#armed = true;
  }

  #accepted(fd: number): void {
    if (this.#closed) {
      libc.close(fd);
      return;
    }
    const peer = nameOf(this.#reactor, fd, this.#scratch, "peer");
    if (this.#path === null) setStreamOptions(this.#reactor, fd, this.#options, this.#scratch);
    else widen(this.#reactor, fd, this.#scratch);
    const socket = RingSocket.create(this.#reactor, fd, peer, this.#options.receiveBytes);
    if (socket === null) {
      libc.close(fd); // R13: no memory for another connection; the peer may try again
      return;
    }
    this.#onAccept(socket);
  }

  #leave(): void {
    if (this.#gone) return;
    this.#gone = true;
    libc.close(this.#fd);
    this.#reactor.memory.release(this.#scratch);
  }
}

export interface ConnectOptions extends StreamOptions {
  timeoutMs?: number;
  /** The address of our own to speak from. */
  fromAddress?: string;
}

/**
 * Connects. `done` comes once, never from within this call: with the socket, whose onBytes it must
 * set, or with null and the reason.
 */
export function connect(
  reactor: Reactor,
  endpoint: Endpoint,
  options: ConnectOptions,
  done: (socket: StreamSocket | null, reason: string) => void,
): void {
  const scratch = reactor.memory.allocate(ADDRESS_BYTES);
  if (scratch === NO_BUFFER) {
    reactor.defer(() => done(null, "no memory for another connection"));
    return;
  }
  try {
    new Connecting(reactor, endpoint, options, scratch, done);
  } catch (cause) {
    // A Fault about the address: reported like every other reason.
    reactor.memory.release(scratch);
    if (!(cause instanceof Fault)) throw cause;
    reactor.defer(() => done(null, cause.message));
  }
}

class Connecting implements RingTarget {
  readonly #reactor: Reactor;
  readonly #endpoint: Endpoint;
  readonly #options: ConnectOptions;
  readonly #scratch: number;
  readonly #done: (socket: StreamSocket | null, reason: string) => void;
  readonly #fd: number;
  readonly #deadlineMs: number;
  #underWay = true;
  #timedOut = false;

  constructor(
    reactor: Reactor,
    endpoint: Endpoint,
    options: ConnectOptions,
    scratch: number,
    done: (socket: StreamSocket | null, reason: string) => void,
  ) {
    this.#reactor = reactor;
    this.#endpoint = endpoint;
    this.#options = options;
    this.#scratch = scratch;
    this.#done = done;
    const { memory, ring } = reactor;
    const { lengthBytes, family } = encodeEndpoint(endpoint, memory.bytes, scratch);
    this.#fd = libc.socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (this.#fd < 0) throw new Fault("notReady", `no socket (${errnoName(errno())})`);
    if (family !== AF_UNIX) {
      const after = scratch + SOCKADDR_BYTES_MAX;
      setStreamOptions(reactor, this.#fd, options, after);
      if (options.fromAddress !== undefined)
        bindFrom(reactor, this.#fd, options.fromAddress, after);
    }
    this.#deadlineMs = reactor.clock.nowMs() + (options.timeoutMs ?? CONNECT_MS_DEFAULT);
    const entry = ring.prepare(RING_OP.connect, this.#fd, this, 0);
    reactor.setAddress(entry, scratch);
    ring.words[entry + SQE.offsetLow] = lengthBytes;
    reactor.watchDeadline(this.#deadlineMs, () => this.#deadline());
  }

  #deadline(): void {
    if (!this.#underWay) return;
    this.#timedOut = true;
    const entry = this.#reactor.ring.prepareIgnored(RING_OP.asyncCancel, this.#fd);
    this.#reactor.ring.words[entry + SQE.opFlags] = CANCEL_ALL | CANCEL_FD;
  }

  ringDone(_tag: number, result: number): void {
    this.#underWay = false;
    const reactor = this.#reactor;
    const to = endpointText(this.#endpoint);
    if (result < 0) {
      libc.close(this.#fd);
      reactor.memory.release(this.#scratch);
      const why = this.#timedOut ? errnoName(ERRNO.ETIMEDOUT) : errnoName(-result);
      this.#done(null, `connecting to ${to} failed: ${why}`);
      return;
    }
    const peer = nameOf(reactor, this.#fd, this.#scratch, "peer");
    reactor.memory.release(this.#scratch);
    const socket = RingSocket.create(reactor, this.#fd, peer, this.#options.receiveBytes);
    if (socket === null) libc.close(this.#fd);
    this.#done(socket, socket === null ? "no memory for another connection" : "");
  }
}

function takeScratch(reactor: Reactor): number {
  const scratch = reactor.memory.allocate(ADDRESS_BYTES);
  if (scratch === NO_BUFFER) throw new Fault("badMachine", "no memory left for a listener");
  return scratch;
}

function openListening(reactor: Reactor, endpoint: Endpoint, scratch: number): number {
  const { memory } = reactor;
  const { lengthBytes, family } = encodeEndpoint(endpoint, memory.bytes, scratch);
  const fd = libc.socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new Fault("badMachine", `no socket (${errnoName(errno())})`);
  if ("path" in endpoint) removeStaleSocket(endpoint.path);
  const after = scratch + SOCKADDR_BYTES_MAX;
  if (family !== AF_UNIX) setNumber(reactor, fd, SOL_SOCKET, SO_REUSEADDR, 1, after);
  // "::" means IPv6 only: whoever wants both listens twice, so that addresses show as what they
  // are.
  if (family === AF_INET6) setNumber(reactor, fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, after);
  const name = address(memory.baseAddress + scratch);
  const isTaken = (code: number) => code === ERRNO.EADDRINUSE;
  const bind = () => (libc.bind(fd, name, lengthBytes) === 0 ? 0 : errno());
  const listen = () => (libc.listen(fd, BACKLOG) === 0 ? 0 : errno());
  const code = patiently(bind, isTaken) || patiently(listen, isTaken);
  if (code === 0) return fd;
  libc.close(fd);
  const where = endpointText(endpoint);
  throw new Fault("badConfiguration", `cannot listen on ${where} (${errnoName(code)})`);
}

/** A socket file left by a process that died; anything else stays, and bind says so. */
function removeStaleSocket(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isSocket() === true) rmSync(path);
}

function bindFrom(reactor: Reactor, fd: number, from: string, scratch: number): void {
  const { memory } = reactor;
  const { lengthBytes } = encodeEndpoint({ address: from, port: 0 }, memory.bytes, scratch);
  if (libc.bind(fd, address(memory.baseAddress + scratch), lengthBytes) === 0) return;
  const code = errno();
  libc.close(fd);
  throw new Fault("notReady", `cannot speak from ${from} (${errnoName(code)})`);
}

function setStreamOptions(
  reactor: Reactor,
  fd: number,
  options: StreamOptions,
  scratch: number,
): void {
  // Batched by the socket itself: Nagle's delay on top costs 40 ms a write.
  setNumber(reactor, fd, IPPROTO_TCP, TCP_NODELAY, 1, scratch);
  const seconds = options.aliveWithinSeconds;
  if (seconds === undefined) return;
  assert(Number.isInteger(seconds) && seconds >= 3, "aliveWithinSeconds is at least 3");
  const every = options.askedEverySeconds ?? Math.max(1, Math.floor(seconds / 3));
  const unanswered = Math.max(2, Math.floor(seconds / every) - 1);
  setNumber(reactor, fd, SOL_SOCKET, SO_KEEPALIVE, 1, scratch);
  setNumber(reactor, fd, IPPROTO_TCP, TCP_KEEPIDLE, every, scratch);
  setNumber(reactor, fd, IPPROTO_TCP, TCP_KEEPINTVL, every, scratch);
  setNumber(reactor, fd, IPPROTO_TCP, TCP_KEEPCNT, unanswered, scratch);
  setNumber(reactor, fd, IPPROTO_TCP, TCP_USER_TIMEOUT, seconds * 1000, scratch);
}

/**
 * A unix socket takes 208 KiB by default, so that both sides of a long transfer would wait for each
 * other again and again. The first is bounded by net.core.wmem_max, the second wants privilege.
 */
function widen(reactor: Reactor, fd: number, scratch: number): void {
  setNumber(reactor, fd, SOL_SOCKET, SO_SNDBUF, UNIX_SEND_BYTES, scratch);
  setNumber(reactor, fd, SOL_SOCKET, SO_SNDBUFFORCE, UNIX_SEND_BYTES, scratch);
}

/** A refusal is not an error: a peer may be gone already, which its first receive tells. */
function setNumber(
  reactor: Reactor,
  fd: number,
  level: number,
  option: number,
  value: number,
  scratch: number,
): void {
  reactor.memory.view.setInt32(scratch, value, true);
  libc.setsockopt(fd, level, option, address(reactor.memory.baseAddress + scratch), 4);
}

function nameOf(
  reactor: Reactor,
  fd: number,
  scratch: number,
  whose: "own" | "peer",
): { address: string; port: number } {
  const { memory } = reactor;
  const lengthAt = scratch + SOCKADDR_BYTES_MAX;
  memory.bytes.fill(0, scratch, lengthAt);
  memory.view.setUint32(lengthAt, SOCKADDR_BYTES_MAX, true);
  const name = address(memory.baseAddress + scratch);
  const length = address(memory.baseAddress + lengthAt);
  const call = whose === "own" ? libc.getsockname : libc.getpeername;
  if (call(fd, name, length) < 0) return { address: "gone", port: 0 };
  return decodeEndpoint(memory.bytes, scratch);
}
