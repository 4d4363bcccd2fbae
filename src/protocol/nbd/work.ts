// SPDX-License-Identifier: Apache-2.0
//
// What a request does to its volume: the operations that carry it out (doc/proto.md, "Request
// types"). A write goes in operations all at once, and so does a read, or each piece of a long one
// (read-line.ts); a range without payload, which may be as long as the volume, in steps, a few at a
// time.
//
// Invariants
// - Bounded: at most STEPS_MAX operations of a range are under way, none longer than STEP_BYTES,
//   and at most STEPS_PER_TURN are submitted before others had their turn.
// - H5: what was asked for with FUA in steps is flushed as a whole before it ends.
// - H7: once the connection ended nothing more is submitted, and what is under way is cancelled.
// - H9: a status is told for what its step looked at, never for what it did not.

import { assert } from "#base/assert.ts";
import { TRANSFER_BYTES_MAX } from "#base/limits.ts";
import { NO_BUFFER } from "#base/memory.ts";
import type { Operation, OperationTarget } from "#base/operation.ts";
import {
  FLAG_FUA,
  FLAG_NO_HOLE,
  FLAG_WARM,
  OperationKind,
  OperationPool,
} from "#base/operation.ts";
import type { MeteredKind, RequestMeter } from "#base/request-meter.ts";
import { Status } from "#base/status.ts";
import {
  CACHE_BYTES_MAX,
  Command,
  CommandFlag,
  STATUS_LOOK_BYTES_MAX,
  STEP_ALLOCATING_BYTES,
  STEP_BYTES,
} from "./nbd.wire.ts";
import type { Request } from "./request.ts";
import type { StatusReply } from "./status-reply.ts";

/** Steps of one range under way at once. */
const STEPS_MAX = 2;
/** Steps that end at once and are followed by the next, before the loop goes round. */
const STEPS_PER_TURN = 16;

export interface WorkOptions {
  volume: { readonly target: OperationTarget; readonly meter?: RequestMeter };
  status: StatusReply;
  /** Runs `act` in a later turn. */
  defer(act: () => void): void;
  /** All of the operations of the request, or of its piece, ended. */
  ended(request: Request): void;
}

export class Work {
  readonly #options: WorkOptions;
  readonly #operations = new OperationPool();
  readonly #meter: RequestMeter | undefined;
  #cancelled = false;

  constructor(options: WorkOptions) {
    this.#options = options;
    this.#meter = options.volume.meter;
  }

  /** Its time counts from now. */
  accept(request: Request): void {
    request.status = Status.ok;
    request.wantsFlush = false;
    request.pieceAt = 0;
    request.startedMs = this.#meter?.turnMs() ?? 0;
  }

  begin(request: Request): void {
    this.accept(request);
    switch (request.type) {
      case Command.READ:
      case Command.WRITE:
        request.pieceBytes = request.length;
        return this.transfer(request, TRANSFER_BYTES_MAX);
      case Command.FLUSH:
        return this.#flush(request);
      default:
        return this.#beginRange(request);
    }
  }

  /** The connection ended (H7). */
  cancel(requests: readonly Request[]): void {
    this.#cancelled = true;
    for (const request of requests) {
      for (const operation of request.operations) operation.cancelled = true;
      request.end = request.cursor;
      request.wantsFlush = false;
    }
  }

  /**
   * Moves the request's piece, in operations of at most so much, which a read's do not cross
   * multiples of; a request is nothing atomic (H2).
   */
  transfer(request: Request, operationBytesMax: number): void {
    const { type, flags, pieceBytes, dataOffset } = request;
    const isRead = type === Command.READ;
    const kind = isRead ? OperationKind.read : OperationKind.write;
    const isForced = !isRead && (flags & CommandFlag.FUA) !== 0;
    const from = request.offset + request.pieceAt;
    request.cursor = request.end = from + pieceBytes;
    // The first may end before the last is submitted.
    request.isPumping = true;
    for (let done = 0; done < pieceBytes;) {
      const room = operationBytesMax - (isRead ? (from + done) % operationBytesMax : 0);
      const length = Math.min(room, pieceBytes - done);
      const operation = this.#prepare(request, kind, from + done, length);
      operation.bufferOffset = dataOffset + done;
      if (isForced) operation.flags = FLAG_FUA;
      done += length;
      this.#options.volume.target.submit(operation);
    }
    request.isPumping = false;
    this.#endIfDone(request);
  }

  #flush(request: Request): void {
    request.cursor = request.end;
    this.#options.volume.target.submit(this.#prepare(request, OperationKind.flush, 0, 0));
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
    operation.done = request.done;
    operation.cancelled = this.#cancelled;
    request.operations.push(operation);
    return operation;
  }

  // Ranges.

  #beginRange(request: Request): void {
    const { type, flags, offset, length } = request;
    request.cursor = offset;
    request.end = offset + length;
    switch (type) {
      case Command.CACHE:
        request.end = offset + Math.min(length, CACHE_BYTES_MAX);
        break;
      case Command.BLOCK_STATUS:
        request.end = offset + Math.min(length, STATUS_LOOK_BYTES_MAX);
        this.#options.status.begin(request);
        break;
      case Command.TRIM:
        // Below, a trim has no force unit access of its own.
        request.wantsFlush = (flags & CommandFlag.FUA) !== 0;
        break;
      default:
        assert(type === Command.WRITE_ZEROES, "a checked request has a known type");
        request.wantsFlush = (flags & CommandFlag.FUA) !== 0 && length > stepBytes(request);
    }
    this.pump(request);
  }

  /** Submits steps until enough are under way, or it is time for others. */
  pump(request: Request): void {
    request.isDeferred = false;
    request.isPumping = true;
    const isInOrder = request.type === Command.CACHE || request.type === Command.BLOCK_STATUS;
    const most = isInOrder ? 1 : STEPS_MAX;
    let left = STEPS_PER_TURN;
    while (request.cursor < request.end && request.operations.length < most) {
      if (left === 0) {
        request.isDeferred = true;
        this.#options.defer(request.goOn);
        break;
      }
      left--;
      this.#step(request);
    }
    request.isPumping = false;
    this.#endIfDone(request);
  }

  #step(request: Request): void {
    const { cursor, end, flags } = request;
    const step = stepBytes(request);
    const length = Math.min(end, cursor - (cursor % step) + step) - cursor;
    const operation = this.#prepare(request, rangeKind(request.type), cursor, length);
    switch (request.type) {
      case Command.CACHE:
        operation.flags = FLAG_WARM;
        operation.bufferOffset = request.bufferOffset;
        break;
      case Command.WRITE_ZEROES: {
        const isForced = (flags & CommandFlag.FUA) !== 0 && !request.wantsFlush;
        const keeps = (flags & CommandFlag.NO_HOLE) !== 0;
        operation.flags = (isForced ? FLAG_FUA : 0) | (keeps ? FLAG_NO_HOLE : 0);
        break;
      }
    }
    request.cursor = cursor + length;
    this.#options.volume.target.submit(operation);
  }

  // Ends.

  operationDone(request: Request, operation: Operation): void {
    remove(request.operations, operation);
    this.#note(request, operation);
    operation.bufferOffset = NO_BUFFER;
    this.#operations.give(operation);
    if (request.isPumping) return; // it looks itself
    if (request.cursor < request.end && !request.isDeferred) this.pump(request);
    else this.#endIfDone(request);
  }

  /** What an operation's end means for its request. */
  #note(request: Request, operation: Operation): void {
    const { status, faultOffsetBytes } = operation;
    if (status !== Status.ok) {
      if (request.status === Status.ok) {
        request.status = status;
        request.faultOffset = faultOffsetBytes;
      }
      request.end = request.cursor; // nothing more of it
      return;
    }
    if (request.type !== Command.BLOCK_STATUS) return;
    if (!this.#options.status.add(request, operation)) request.end = request.cursor;
  }

  #endIfDone(request: Request): void {
    if (request.operations.length > 0 || request.isDeferred) return;
    if (request.wantsFlush && request.status === Status.ok) {
      request.wantsFlush = false;
      return this.#flush(request);
    }
    if (!goesOn(request)) this.#meter?.ended(meteredKind(request.type), request);
    this.#options.ended(request);
  }
}

/** A piece ended well and is not the last. */
function goesOn({ isLong, status, pieceAt, pieceBytes, length }: Request): boolean {
  return isLong && status === Status.ok && pieceAt + pieceBytes < length;
}

function meteredKind(type: number): MeteredKind {
  if (type === Command.READ) return "read";
  return type === Command.WRITE ? "write" : "other";
}

function remove(operations: Operation[], gone: Operation): void {
  const index = operations.indexOf(gone);
  assert(index >= 0, "an operation ends once");
  const last = operations.pop() as Operation;
  if (last !== gone) operations[index] = last;
}

function rangeKind(type: number): OperationKind {
  switch (type) {
    case Command.TRIM:
      return OperationKind.trim;
    case Command.WRITE_ZEROES:
      return OperationKind.writeZeroes;
    case Command.CACHE:
      return OperationKind.read;
    default:
      return OperationKind.blockStatus;
  }
}

function stepBytes({ type, flags }: Request): number {
  if (type === Command.CACHE) return TRANSFER_BYTES_MAX;
  const keeps = type === Command.WRITE_ZEROES && (flags & CommandFlag.NO_HOLE) !== 0;
  return keeps ? STEP_ALLOCATING_BYTES : STEP_BYTES;
}
