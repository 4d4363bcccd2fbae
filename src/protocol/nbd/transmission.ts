// SPDX-License-Identifier: Apache-2.0
//
// The transmission phase of one NBD connection (doc/proto.md, "Transmission"): requests in,
// operations to the volume, replies out, in whatever order they end.
//
// Invariants
// - Bounded: REQUESTS_MAX requests and REQUEST_BYTES_MAX of buffers per connection, HostCredit over
//   all of them. A request counts until the kernel took its reply. Beyond that receiving is paused
//   (R13).
// - A write is submitted only when its whole payload is here.
// - A buffer belongs to its request until the operation ended and the reply was sent, also when the
//   connection is gone by then; `idle` is called once nothing is under way (H7: the fence).
// - A reply's header lies in the request's slot of the slab, or, for a short read, right before the
//   data, so that one piece is sent.

import { assert } from "#base/assert.ts";
import { REQUEST_BYTES_MAX, TRANSFER_BYTES_MAX } from "#base/limits.ts";
import type { Memory } from "#base/memory.ts";
import { NO_BUFFER } from "#base/memory.ts";
import type { Operation, StatusRun } from "#base/operation.ts";
import { FLAG_FUA, FLAG_NO_HOLE, OperationKind, OperationPool } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { StreamSocket } from "#base/stream.ts";
import type { HostCredit } from "./credit.ts";
import { nbdErrorOf } from "./errors.ts";
import type { Negotiated } from "./handshake.ts";
import {
  BLOCK_STATUS_BYTES_MAX as STATUS_MAX,
  Command,
  CommandFlag,
  NbdError,
  REQUEST,
  REQUESTS_MAX,
  REQUEST_MAGIC,
} from "./nbd.wire.ts";
import { ReplyEncoder, SLOT_BYTES, statusReplyBytes } from "./replies.ts";
import { requestError } from "./request-check.ts";

/** Room for a reply's header in front of a read's data, which stays aligned to a page. */
const HEAD_ROOM_BYTES = 4096;
/** Up to here a read's buffer has that room; a longer read would waste too much on it. */
const HEAD_ROOM_READ_MAX = 64 << 10;

export interface TransmissionCounters {
  requests: number;
  errors: number;
  readBytes: number;
  writtenBytes: number;
}

export interface TransmissionOptions {
  memory: Memory;
  socket: StreamSocket;
  credit: HostCredit;
  negotiated: Negotiated;
  /** The client broke the protocol: the connection must be dropped. */
  broken(reason: string): void;
  /** Nothing is under way any more after `end`, or nothing worth waiting for after `drain`. */
  idle(): void;
}

/** One request, pooled. */
export class Request {
  type = 0;
  flags = 0;
  offset = 0;
  length = 0;
  cookieHigh = 0;
  cookieLow = 0;
  error: NbdError = NbdError.NONE;
  /** Of a failed read: where, if known, else -1. */
  faultOffset = -1;
  runs: StatusRun[] | null = null;
  /** The payload's buffer or NO_BUFFER; data may start behind room for a header. */
  bufferOffset = NO_BUFFER;
  dataOffset = 0;
  heldBytes = 0;
  /** Its operations under way; more than one for a long read or write. */
  readonly operations = new Set<Operation>();
  /** How they ended: ok, or the first that was not. */
  status: Status = Status.ok;
  /** Where in Memory its reply's header may be written, SLOT_BYTES long. */
  readonly slotOffset: number;
  readonly received: (status: Status) => void;
  readonly sent: (status: Status) => void;
  readonly done: (operation: Operation) => void;

  constructor(slotOffset: number, owner: Transmission) {
    this.slotOffset = slotOffset;
    this.received = (status) => owner.payloadReceived(this, status);
    this.sent = () => owner.replySent(this);
    this.done = (operation) => owner.operationDone(this, operation);
  }
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
  readonly #replies: ReplyEncoder;
  readonly #operations = new OperationPool();
  readonly #view = REQUEST.view();
  readonly #slab: number;
  readonly #requests: Request[] = [];
  readonly #free: Request[] = [];
  #heldBytes = 0;
  /** Its payload is being received into its buffer. */
  #receiving = false;
  /** A refused write, and how much of its payload is still to be thrown away. */
  #refused: Request | null = null;
  #refusedBytes = 0;
  #paused = false;
  /** No further requests are taken. */
  #draining = false;
  #ended = false;
  readonly #wake = () => this.resume();

  /** `slab` is a buffer of SLAB_BYTES that belongs to the transmission until it is idle. */
  constructor(options: TransmissionOptions, slab: number) {
    this.#options = options;
    this.#memory = options.memory;
    this.#socket = options.socket;
    this.#slab = slab;
    this.#replies = new ReplyEncoder(options.memory, options.negotiated.structuredReplies);
  }

  /** Requests that have not ended or whose reply is not sent yet. */
  get inFlight(): number {
    return this.#requests.length - this.#free.length;
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
      if (lengthBytes - used < REQUEST.size) break;
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
    this.#options.credit.forget(this.#wake);
    if (this.#refused !== null) this.#giveUpRefused();
    this.#socket.pauseReceive();
    this.#paused = true;
    this.#draining = true;
    this.#tellIdle();
  }

  /**
   * The connection is over: what is under way ends without a reply, and is not sent again by
   * anybody (H7). `idle` comes when the last of it ended, at once if there is none.
   */
  end(): void {
    assert(!this.#ended, "a connection ends once");
    this.#options.credit.forget(this.#wake);
    if (this.#refused !== null) this.#giveUpRefused();
    for (const request of this.#requests) {
      for (const operation of request.operations) operation.cancelled = true;
    }
    this.#ended = true;
    this.#tellIdle();
  }

  /** Something was given back: try to receive again. Harmless when not paused. */
  resume(): void {
    if (!this.#paused || this.#draining || this.#ended) return;
    this.#paused = false;
    this.#socket.resumeReceive();
  }

  // Taking requests

  /** The request at `at`; the answer is how many bytes it took, 0 when it has to wait. */
  #begin(at: number, available: number): number {
    const view = this.#view.at(this.#memory.bytes, at);
    if (view.magic !== REQUEST_MAGIC) return this.#broken("not an NBD request", available);
    const { type, length } = view;
    if (type === Command.DISC) {
      this.drain();
      return available;
    }
    const writes = type === Command.WRITE;
    if (writes && length > REQUEST_BYTES_MAX) {
      return this.#broken("a write longer than 32 MiB", available);
    }
    const request = this.#free.pop() ?? this.#newRequest();
    if (request === null) return this.#pause();
    this.#fill(request);
    request.error = requestError(request, this.#options.negotiated);
    if (request.error !== NbdError.NONE || length === 0) {
      this.counters.requests++;
      return REQUEST.size + this.#answerAtOnce(request);
    }
    if (!this.#takeBuffer(request)) {
      this.#free.push(request);
      return this.#pause();
    }
    this.counters.requests++;
    if (!writes) {
      this.#submit(request);
      return REQUEST.size;
    }
    return REQUEST.size + this.#receive(request, at + REQUEST.size, available - REQUEST.size);
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

  #fill(request: Request): void {
    const view = this.#view;
    request.type = view.type;
    request.flags = view.flags;
    request.offset = view.offset;
    request.length = view.length;
    request.cookieHigh = view.cookieHigh;
    request.cookieLow = view.cookieLow;
    request.faultOffset = -1;
    request.runs = null;
  }

  /** Nothing to do but answer; the payload of a write is thrown away first. */
  #answerAtOnce(request: Request): number {
    if (request.type === Command.FLUSH && request.error === NbdError.NONE) {
      this.#submit(request);
    } else if (request.type === Command.WRITE && request.length > 0) {
      this.#refused = request;
      this.#refusedBytes = request.length;
    } else {
      this.#answer(request);
    }
    return 0;
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
    if (type !== Command.READ && type !== Command.WRITE) return true;
    const room = type === Command.READ && length <= HEAD_ROOM_READ_MAX ? HEAD_ROOM_BYTES : 0;
    const bytes = blockBytes(room + length);
    if (this.#heldBytes > 0 && this.#heldBytes + bytes > REQUEST_BYTES_MAX) return false;
    if (!this.#options.credit.take(bytes, this.#wake)) return false;
    request.bufferOffset = this.#memory.allocate(room + length);
    if (request.bufferOffset === NO_BUFFER) {
      // Others hold the arena: the next tick tries again.
      this.#options.credit.give(bytes);
      return false;
    }
    request.dataOffset = request.bufferOffset + room;
    request.heldBytes = bytes;
    this.#heldBytes += bytes;
    return true;
  }

  /** A write's payload: at once when all of it is here, else straight into its buffer. */
  #receive(request: Request, at: number, available: number): number {
    const { length, dataOffset } = request;
    if (available >= length) {
      this.#memory.bytes.copyWithin(dataOffset, at, at + length);
      this.#submit(request);
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
    else this.#submit(request);
  }

  // Operations

  #submit(request: Request): void {
    const { type, offset, length, bufferOffset } = request;
    const kind = operationKind(type);
    request.status = Status.ok;
    if (bufferOffset === NO_BUFFER) {
      const isStatus = type === Command.BLOCK_STATUS;
      this.#prepare(request, kind, offset, isStatus ? Math.min(length, STATUS_MAX) : length);
    } else {
      // Data moves between members in pieces of that size; a request is nothing atomic (H2).
      for (let done = 0; done < length; done += TRANSFER_BYTES_MAX) {
        const piece = Math.min(TRANSFER_BYTES_MAX, length - done);
        const operation = this.#prepare(request, kind, offset + done, piece);
        operation.bufferOffset = request.dataOffset + done;
      }
    }
    this.#start(request);
  }

  #prepare(
    request: Request,
    kind: OperationKind,
    offsetBytes: number,
    lengthBytes: number,
  ): Operation {
    const operation = this.#operations.take();
    operation.kind = kind;
    operation.offsetBytes = offsetBytes;
    operation.lengthBytes = lengthBytes;
    operation.flags = operationFlags(request);
    operation.done = request.done;
    operation.cancelled = this.#ended;
    request.operations.add(operation);
    return operation;
  }

  /** All are known to the request before the first can end; ending may add another. */
  #start(request: Request): void {
    const { target } = this.#options.negotiated.volume;
    const { operations } = request;
    if (operations.size > 1) {
      for (const operation of [...operations]) target.submit(operation);
      return;
    }
    for (const only of operations) return target.submit(only);
  }

  operationDone(request: Request, operation: Operation): void {
    const { status, faultOffsetBytes } = operation;
    assert(request.operations.delete(operation), "an operation ends once");
    if (status !== Status.ok && request.status === Status.ok) {
      request.status = status;
      request.faultOffset = faultOffsetBytes;
    }
    request.runs = operation.runs;
    const { kind } = operation;
    this.#operations.give(operation);
    if (request.operations.size > 0) return;
    const fua = (request.flags & CommandFlag.FUA) !== 0;
    if (kind === OperationKind.trim && fua && request.status === Status.ok) {
      // H5: below, a trim has no force unit access of its own; the flush covers it.
      this.#prepare(request, OperationKind.flush, 0, 0);
      return this.#start(request);
    }
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
    const { dataOffset, length, slotOffset } = request;
    this.counters.readBytes += length;
    const headBytes = this.#replies.readHeadBytes;
    if (dataOffset > request.bufferOffset) {
      const start = dataOffset - headBytes;
      this.#replies.readHead(request, start);
      this.#socket.send(start, headBytes + length, request.sent);
      return;
    }
    this.#replies.readHead(request, slotOffset);
    this.#socket.send(slotOffset, headBytes, null);
    this.#socket.send(dataOffset, length, request.sent);
  }

  #answerStatus(request: Request): void {
    const bytes = statusReplyBytes(request);
    let at = request.slotOffset;
    if (bytes > SLOT_BYTES) {
      request.bufferOffset = this.#memory.allocate(bytes);
      // No memory: the few descriptors that fit the slot are a valid answer too.
      if (request.bufferOffset !== NO_BUFFER) at = request.bufferOffset;
    }
    const room = at === request.slotOffset ? SLOT_BYTES : bytes;
    this.#socket.send(at, this.#replies.status(request, at, room), request.sent);
  }

  replySent(request: Request): void {
    this.#retire(request);
  }

  #retire(request: Request): void {
    if (request.bufferOffset !== NO_BUFFER) {
      this.#memory.release(request.bufferOffset);
      request.bufferOffset = NO_BUFFER;
      request.dataOffset = 0;
    }
    request.runs = null;
    const { heldBytes } = request;
    request.heldBytes = 0;
    this.#heldBytes -= heldBytes;
    this.#free.push(request);
    assert(this.#free.length <= this.#requests.length, "a request is retired once");
    this.resume();
    if (heldBytes > 0) this.#options.credit.give(heldBytes);
    this.#tellIdle();
  }

  #tellIdle(): void {
    const waitsFor = this.inFlight - (this.#receiving && !this.#ended ? 1 : 0);
    if ((this.#ended || this.#draining) && waitsFor === 0) this.#options.idle();
  }
}

/** What Memory takes for a buffer of that length: a power of two from 4 KiB. */
function blockBytes(lengthBytes: number): number {
  return Math.max(4096, 2 ** (32 - Math.clz32(lengthBytes - 1)));
}

function operationKind(type: number): OperationKind {
  switch (type) {
    case Command.READ:
      return OperationKind.read;
    case Command.WRITE:
      return OperationKind.write;
    case Command.FLUSH:
      return OperationKind.flush;
    case Command.TRIM:
      return OperationKind.trim;
    case Command.WRITE_ZEROES:
      return OperationKind.writeZeroes;
    default:
      assert(type === Command.BLOCK_STATUS, "a checked request has a known type");
      return OperationKind.blockStatus;
  }
}

function operationFlags({ type, flags }: Request): number {
  const changes = type === Command.WRITE || type === Command.WRITE_ZEROES;
  const fua = changes && (flags & CommandFlag.FUA) !== 0 ? FLAG_FUA : 0;
  return fua | ((flags & CommandFlag.NO_HOLE) !== 0 ? FLAG_NO_HOLE : 0);
}

/** Bytes of the slab a transmission needs. */
export const SLAB_BYTES = REQUESTS_MAX * SLOT_BYTES;
