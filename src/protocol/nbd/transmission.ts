// SPDX-License-Identifier: Apache-2.0
//
// The transmission phase of one NBD connection (doc/proto.md, "Transmission"): requests in, replies
// out, in whatever order they end. What a request does to the volume: work.ts.
//
// Invariants
// - Bounded: REQUESTS_MAX requests and their buffers (buffers.ts) per connection. A request counts
//   until the kernel took its reply. Beyond that receiving is paused (R13).
// - A write is submitted only when its whole payload is here.
// - A buffer belongs to its request until the operations ended and the reply was sent, also when
//   the connection is gone by then; `idle` is called once nothing is under way (H7: the fence).
// - A reply's header lies in the request's slot of the slab, or, for a short read, right before the
//   data, so that one stretch is sent. A long read goes by the line (read-line.ts).

import { assert } from "#base/assert.ts";
import { REQUEST_BYTES_MAX, TRANSFER_BYTES_MAX } from "#base/limits.ts";
import type { Memory } from "#base/memory.ts";
import type { Operation } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { StreamSocket } from "#base/stream.ts";
import { Buffers } from "./buffers.ts";
import type { HostAccount } from "./credit.ts";
import { nbdErrorOf } from "./errors.ts";
import type { Negotiated } from "./handshake.ts";
import { Command, NbdError, REQUESTS_MAX } from "./nbd.wire.ts";
import { ReadLine } from "./read-line.ts";
import { ReplyEncoder, SLOT_BYTES } from "./replies.ts";
import { Request } from "./request.ts";
import { requestError } from "./request-check.ts";
import { RequestHeader } from "./request-header.ts";
import { StatusReply } from "./status-reply.ts";
import { Work } from "./work.ts";

/** Room for a reply's header in front of a read's data, which stays aligned to a page. */
const HEAD_ROOM_BYTES = 4096;
/** Up to here a read's buffer has that room; a longer one would waste too much on it, and waits. */
const SHORT_READ_BYTES_MAX = 32 << 10;

export interface TransmissionCounters {
  requests: number;
  errors: number;
  readBytes: number;
  writtenBytes: number;
}

export interface TransmissionOptions {
  memory: Memory;
  socket: StreamSocket;
  account: HostAccount;
  negotiated: Negotiated;
  /** Runs `act` in a later turn of the loop. */
  defer(act: () => void): void;
  /** The client broke the protocol: the connection must be dropped. */
  broken(reason: string): void;
  /** Nothing is under way any more after `end`, or nothing worth waiting for after `drain`. */
  idle(): void;
}

export class Transmission {
  readonly counters: TransmissionCounters = {
    requests: 0,
    errors: 0,
    readBytes: 0,
    writtenBytes: 0,
  };
  readonly #options: TransmissionOptions;
  readonly #memory: Memory;
  readonly #socket: StreamSocket;
  readonly #buffers: Buffers;
  readonly #replies: ReplyEncoder;
  readonly #status: StatusReply;
  readonly #work: Work;
  readonly #line: ReadLine;
  readonly #header: RequestHeader;
  readonly #slab: number;
  readonly #requests: Request[] = [];
  readonly #free: Request[] = [];
  /** Its payload is being received into its buffer. */
  #receiving = false;
  /** A request that is refused, and how much of its payload is still to be thrown away. */
  #refused: Request | null = null;
  #refusedBytes = 0;
  #paused = false;
  /** No further requests are taken. */
  #draining = false;
  #ended = false;

  /** `slab` is a buffer of SLAB_BYTES that belongs to the transmission until it is idle. */
  constructor(options: TransmissionOptions, slab: number) {
    const { memory, account, negotiated } = options;
    this.#options = options;
    this.#memory = memory;
    this.#socket = options.socket;
    this.#slab = slab;
    this.#header = new RequestHeader(memory, { extended: negotiated.headers === "extended" });
    this.#buffers = new Buffers(memory, account);
    this.#replies = new ReplyEncoder(memory, negotiated.headers);
    this.#status = new StatusReply(this.#buffers, this.#replies);
    this.#work = new Work({
      volume: negotiated.volume,
      status: this.#status,
      defer: (act) => options.defer(act),
      ended: (request) => this.#workEnded(request),
    });
    this.#line = new ReadLine({
      socket: options.socket,
      buffers: this.#buffers,
      replies: this.#replies,
      work: this.#work,
      hasChunks: negotiated.headers !== "simple",
    });
  }

  /** Requests that have not ended or whose reply is not sent yet. */
  get inFlight(): number {
    return this.#requests.length - this.#free.length;
  }
  /** Bytes of Memory that its requests hold. */
  get heldBytes(): number {
    return this.#buffers.heldBytes;
  }
  /** A write's payload has begun to come and is not whole. */
  get receiving(): boolean {
    return this.#receiving || this.#refused !== null;
  }

  /** Bytes from the host; the answer is how many were used up. */
  feed(at: number, lengthBytes: number): number {
    let used = 0;
    while (!this.#ended && !this.#draining && !this.#receiving) {
      if (this.#refused !== null) {
        used += this.#throwAway(lengthBytes - used);
        if (this.#refused !== null) break;
        continue;
      }
      if (lengthBytes - used < this.#header.size) break;
      const took = this.#begin(at + used, lengthBytes - used);
      if (took === 0) break;
      used += took;
    }
    // What a host sends behind its DISC, or to a unit that goes down, is nobody's.
    return this.#draining ? lengthBytes : used;
  }

  /**
   * Takes no more requests; `idle` comes when all replies are sent. A write whose payload is not
   * whole was not taken.
   */
  drain(): void {
    if (this.#draining || this.#ended) return;
    this.#buffers.stopWaiting();
    if (this.#refused !== null) this.#giveUpRefused();
    this.#socket.pauseReceive();
    this.#paused = true;
    this.#draining = true;
    this.#line.pump();
    this.#tellIdle();
  }

  /**
   * The connection is over: what is under way ends without a reply, and is not sent again by
   * anybody (H7). `idle` comes when the last of it ended, at once if there is none.
   */
  end(): void {
    assert(!this.#ended, "a connection ends once");
    this.#buffers.stopWaiting();
    if (this.#refused !== null) this.#giveUpRefused();
    this.#work.cancel(this.#requests);
    this.#line.stop();
    for (let next = this.#line.take(); next !== null; next = this.#line.take()) {
      this.#free.push(next);
    }
    this.#ended = true;
    this.#tellIdle();
  }

  /** Something was given back: try to receive again. Harmless when not paused. */
  resume(): void {
    this.#line.pump();
    if (!this.#paused || this.#draining || this.#ended) return;
    this.#paused = false;
    this.#socket.resumeReceive();
  }

  // Taking requests

  /** The request at `at`; the answer is how many bytes it took, 0 when it has to wait. */
  #begin(at: number, available: number): number {
    const header = this.#header.at(at);
    if (!header.isRequest) return this.#broken("not an NBD request", available);
    if (header.type === Command.DISC) {
      this.drain();
      return available;
    }
    if (header.payloadBytes > REQUEST_BYTES_MAX) {
      return this.#broken("a payload longer than 32 MiB", available);
    }
    const headBytes = header.wholeBytes;
    if (available < headBytes) return 0;
    const request = this.#free.pop() ?? this.#newRequest();
    if (request === null) return this.#pause();
    header.fill(request);
    if (request.error === NbdError.NONE) {
      request.error = requestError(request, this.#options.negotiated);
    }
    const isOver = request.error !== NbdError.NONE || isNothing(request);
    if (isOver) {
      this.counters.requests++;
      this.#answerAtOnce(request);
      return headBytes;
    }
    request.isLong = request.type === Command.READ && request.length > SHORT_READ_BYTES_MAX;
    if (request.isLong) {
      this.counters.requests++;
      this.#line.enter(request);
      return headBytes;
    }
    if (!this.#takeBuffer(request)) {
      this.#free.push(request);
      return this.#pause();
    }
    this.counters.requests++;
    if (request.type === Command.WRITE) {
      return headBytes + this.#receive(request, at + headBytes, available - headBytes);
    }
    this.#work.begin(request);
    return headBytes;
  }

  #broken(reason: string, available: number): number {
    this.#options.broken(reason);
    return available;
  }

  #newRequest(): Request | null {
    const index = this.#requests.length;
    if (index === REQUESTS_MAX) return null;
    const request = new Request(this.#slab + index * SLOT_BYTES, this);
    this.#requests.push(request);
    return request;
  }

  /** Nothing to do but answer; a payload is thrown away first. */
  #answerAtOnce(request: Request): void {
    if (request.payloadBytes === 0) return this.#answer(request);
    this.#refused = request;
    this.#refusedBytes = request.payloadBytes;
  }

  #throwAway(available: number): number {
    const request = this.#refused as Request;
    const took = Math.min(available, this.#refusedBytes);
    this.#refusedBytes -= took;
    if (this.#refusedBytes > 0) return took;
    this.#refused = null;
    this.#answer(request);
    return took;
  }

  #giveUpRefused(): void {
    const request = this.#refused as Request;
    this.#refused = null;
    this.#retire(request);
  }

  /** R13: no room for this request now; the host is held back until something was given back. */
  #pause(): 0 {
    this.#paused = true;
    this.#socket.pauseReceive();
    return 0;
  }

  #takeBuffer(request: Request): boolean {
    const { type, length } = request;
    switch (type) {
      case Command.READ:
        if (!this.#buffers.take(request, HEAD_ROOM_BYTES + length)) return false;
        request.dataOffset = request.bufferOffset + HEAD_ROOM_BYTES;
        return true;
      case Command.WRITE:
        if (!this.#buffers.take(request, length)) return false;
        request.dataOffset = request.bufferOffset;
        return true;
      case Command.CACHE:
        return this.#buffers.take(request, Math.min(length, TRANSFER_BYTES_MAX));
      default:
        return true;
    }
  }

  /** A write's payload: at once when all of it is here, else straight into its buffer. */
  #receive(request: Request, at: number, available: number): number {
    const { length, dataOffset } = request;
    if (available >= length) {
      this.#memory.bytes.copyWithin(dataOffset, at, at + length);
      this.#work.begin(request);
      return length;
    }
    this.#receiving = true;
    this.#socket.receiveInto(dataOffset, length, request.received);
    return 0;
  }

  payloadReceived(request: Request, status: Status): void {
    this.#receiving = false;
    // Half a payload is no request: nothing of it was submitted (H7).
    if (status !== Status.ok || this.#ended) this.#retire(request);
    else this.#work.begin(request);
  }

  operationDone(request: Request, operation: Operation): void {
    this.#work.operationDone(request, operation);
  }

  goOn(request: Request): void {
    this.#work.pump(request);
  }

  #workEnded(request: Request): void {
    request.error = nbdErrorOf(request.status, request.type);
    this.#answer(request);
  }

  // Replies

  #answer(request: Request): void {
    if (this.#ended) return this.#retire(request);
    const { type, error, slotOffset } = request;
    if (error !== NbdError.NONE) {
      this.counters.errors++;
      const size = this.#replies.error(request, slotOffset);
      this.#socket.send(slotOffset, size, request.sent);
    } else if (type === Command.READ && request.length > 0) {
      this.#answerRead(request);
    } else if (type === Command.BLOCK_STATUS) {
      this.#answerStatus(request);
    } else {
      if (type === Command.WRITE) this.counters.writtenBytes += request.length;
      const size = this.#replies.success(request, slotOffset);
      this.#socket.send(slotOffset, size, request.sent);
    }
  }

  #answerRead(request: Request): void {
    this.counters.readBytes += request.pieceBytes;
    if (request.isLong) return this.#line.answer(request);
    const headBytes = this.#replies.readHeadBytes;
    const start = request.dataOffset - headBytes;
    this.#replies.readHead(request, start);
    this.#socket.send(start, headBytes + request.length, request.sent);
  }

  #answerStatus(request: Request): void {
    const lengthBytes = this.#status.finish(request);
    this.#socket.send(this.#status.startOf(request), lengthBytes, request.sent);
  }

  replySent(request: Request, status: Status): void {
    if (status !== Status.ok) this.#line.stop();
    if (request.isLong && this.#line.sent(request)) return;
    this.#retire(request);
  }

  #retire(request: Request): void {
    this.#buffers.give(request);
    this.#free.push(request);
    assert(this.#free.length <= this.#requests.length, "a request is retired once");
    this.resume();
    this.#tellIdle();
  }

  #tellIdle(): void {
    const waitsFor = this.inFlight - (this.#receiving && !this.#ended ? 1 : 0);
    if ((this.#ended || this.#draining) && waitsFor === 0) this.#options.idle();
  }
}

/** A transfer or a range of length 0: unspecified, and no reason to disconnect. */
function isNothing({ type, length }: Request): boolean {
  return length === 0 && type !== Command.FLUSH;
}

/** Bytes of the slab a transmission needs. */
export const SLAB_BYTES = REQUESTS_MAX * SLOT_BYTES;
