// SPDX-License-Identifier: Apache-2.0
//
// The long reads of one connection, one after the other. What is at hand (it is read within
// `submit`: the page cache has it) is read only as fast as the kernel takes it for the host: a
// piece is sent while the processor's cache still holds it, its buffer is the next one's, and the
// host takes the first while the second is read. With chunks (doc/proto.md, "Structured reply
// types") a read is sent piece by piece; without, or where the host asked for no fragments, it is
// one piece. What a disk or another unit has first to give is asked for at once, as much as the
// host's credit allows.
//
// Invariants
// - A read has one buffer, of one piece, and holds none while it waits (R13).
// - A piece is read only when the one before was taken by the kernel, so that the slot's header and
//   the buffer are free.
// - A piece is sent only when all of it was read well. What fails later ends the reply with an
//   error chunk; what was sent stands.

import { assert } from "#base/assert.ts";
import { TRANSFER_BYTES_MAX } from "#base/limits.ts";
import type { StreamSocket } from "#base/stream.ts";
import type { Buffers } from "./buffers.ts";
import { CommandFlag, NbdError } from "./nbd.wire.ts";
import type { ReplyEncoder } from "./replies.ts";
import type { Request } from "./request.ts";
import type { Work } from "./work.ts";

/** A piece of what is at hand, bytes: it stays in a core's cache, and divides an extent. */
const NEAR_PIECE_BYTES = 256 << 10;
/** What is at hand is read while less than this is on its way to the kernel. */
const UNSENT_BYTES_MAX = 256 << 10;
/** The same over TCP, where each send ends with a short segment and wakes the other side. */
const NEAR_PIECE_BYTES_TCP = 1 << 20;
const UNSENT_BYTES_MAX_TCP = 4 << 20;
/** A piece of what is not; its operations are under way together. */
const FAR_PIECE_BYTES = 4 * TRANSFER_BYTES_MAX;

export interface ReadLineOptions {
  socket: StreamSocket;
  buffers: Buffers;
  replies: ReplyEncoder;
  work: Work;
  /** A reply may be of several chunks. */
  hasChunks: boolean;
}

export class ReadLine {
  readonly #options: ReadLineOptions;
  readonly #nearPieceBytes: number;
  readonly #unsentBytesMax: number;
  #first: Request | null = null;
  #last: Request | null = null;
  /** Read, and not yet taken by the kernel. */
  #unsentBytes = 0;
  /** What was asked for last was at hand. */
  #isNear = true;
  #isStopped = false;

  constructor(options: ReadLineOptions) {
    this.#options = options;
    const isLocal = options.socket.peerPort === 0;
    this.#nearPieceBytes = isLocal ? NEAR_PIECE_BYTES : NEAR_PIECE_BYTES_TCP;
    this.#unsentBytesMax = isLocal ? UNSENT_BYTES_MAX : UNSENT_BYTES_MAX_TCP;
  }

  enter(request: Request): void {
    this.#options.work.accept(request);
    request.next = null;
    if (this.#last === null) this.#first = request;
    else this.#last.next = request;
    this.#last = request;
    this.pump();
  }

  /** Begins what may be begun. Harmless at any time. */
  pump(): void {
    while (this.#first !== null && !this.#isStopped) {
      if (this.#isNear && this.#unsentBytes >= this.#unsentBytesMax) return;
      if (!this.#takeBuffer(this.#first)) return;
      this.#readPiece(this.take() as Request);
    }
  }

  /** The connection is lost, or nearly so: nothing more is read. */
  stop(): void {
    this.#isStopped = true;
  }

  /** The first of those that wait leaves the line; null: there is none. */
  take(): Request | null {
    const request = this.#first;
    if (request === null) return null;
    this.#first = request.next;
    if (this.#first === null) this.#last = null;
    request.next = null;
    return request;
  }

  /** The request's piece was read well. */
  answer(request: Request): void {
    const { socket, replies } = this.#options;
    const { slotOffset, dataOffset, pieceBytes } = request;
    this.#unsentBytes += pieceBytes;
    socket.send(slotOffset, replies.readHead(request, slotOffset), null);
    socket.send(dataOffset, pieceBytes, request.sent);
  }

  /** The last thing that was sent for it left; true: it goes on. */
  sent(request: Request): boolean {
    if (request.error !== NbdError.NONE) return false;
    this.#unsentBytes -= request.pieceBytes;
    assert(this.#unsentBytes >= 0, "a piece is sent once");
    request.pieceAt += request.pieceBytes;
    if (this.#isStopped || request.pieceAt === request.length) return false;
    this.#readPiece(request);
    return true;
  }

  #isWhole({ flags }: Request): boolean {
    return !this.#options.hasChunks || (flags & CommandFlag.DF) !== 0;
  }

  get #pieceBytesMax(): number {
    return this.#isNear ? this.#nearPieceBytes : FAR_PIECE_BYTES;
  }

  #takeBuffer(request: Request): boolean {
    const { length } = request;
    const bytes = this.#isWhole(request) ? length : Math.min(length, this.#pieceBytesMax);
    if (!this.#options.buffers.take(request, bytes)) return false;
    request.dataOffset = request.bufferOffset;
    return true;
  }

  #readPiece(request: Request): void {
    const { offset, length, pieceAt, heldBytes } = request;
    // Ends where extents do: what is at hand is then read in one go.
    const room = heldBytes - ((offset + pieceAt) % heldBytes);
    request.pieceBytes = length <= heldBytes ? length : Math.min(length - pieceAt, room);
    this.#options.work.transfer(request, this.#isNear ? NEAR_PIECE_BYTES : TRANSFER_BYTES_MAX);
    this.#isNear = request.operations.length === 0;
  }
}
