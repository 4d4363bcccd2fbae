// SPDX-License-Identifier: Apache-2.0
//
// Replies of the transmission phase as bytes (doc/proto.md, "Simple reply message", "Structured
// reply chunk message", "Structured reply types"; "Extended reply chunk message" on the branch
// extension-ext-header). With structured replies, success without data is still a simple reply,
// which is allowed and shorter; reads, block status and errors are chunks, of a long read several.
// With extended headers everything is a chunk.

import type { Memory } from "#base/memory.ts";
import { ERROR_TEXT_BYTES_MAX, errorTexts } from "./errors.ts";
import type { HeaderStyle } from "./handshake.ts";
import {
  CHUNK,
  CHUNK_ERROR,
  CHUNK_MAGIC,
  CHUNK_OFFSET,
  CHUNK_STATUS,
  CHUNK_STATUS_EXT,
  CONTEXT_ID,
  ChunkFlag,
  ChunkType,
  Command,
  DESCRIPTOR,
  DESCRIPTOR_EXT,
  EXTENDED_CHUNK,
  EXTENDED_CHUNK_MAGIC,
  NbdError,
  SIMPLE_REPLY,
  SIMPLE_REPLY_MAGIC,
} from "./nbd.wire.ts";

/** Room for any reply but data and long block status. */
export const SLOT_BYTES = 128;

/** What a reply is made from. */
export interface Answered {
  readonly type: number;
  readonly offset: number;
  readonly length: number;
  readonly cookieHigh: number;
  readonly cookieLow: number;
  readonly offsetHigh: number;
  readonly offsetLow: number;
  readonly error: NbdError;
  readonly faultOffset: number;
  /** Of a read: the stretch of it that is told. */
  readonly pieceAt: number;
  readonly pieceBytes: number;
}

export class ReplyEncoder {
  /** Bytes in front of a read's data. */
  readonly readHeadBytes: number;
  /** Bytes in front of a status' descriptors, and of each of them. */
  readonly statusHeadBytes: number;
  readonly descriptorBytes: number;
  readonly #bytes: Uint8Array;
  readonly #headers: HeaderStyle;
  readonly #simple = SIMPLE_REPLY.view();
  readonly #chunk = CHUNK.view();
  readonly #extended = EXTENDED_CHUNK.view();
  readonly #error = CHUNK_ERROR.view();
  readonly #offset = CHUNK_OFFSET.view();
  readonly #status = CHUNK_STATUS.view();
  readonly #statusExt = CHUNK_STATUS_EXT.view();
  readonly #descriptor = DESCRIPTOR.view();
  readonly #descriptorExt = DESCRIPTOR_EXT.view();

  constructor(memory: Memory, headers: HeaderStyle) {
    this.#bytes = memory.bytes;
    this.#headers = headers;
    const isExtended = headers === "extended";
    const chunkBytes = isExtended ? EXTENDED_CHUNK.size : CHUNK.size;
    this.readHeadBytes = headers === "simple" ? SIMPLE_REPLY.size : chunkBytes + CHUNK_OFFSET.size;
    this.statusHeadBytes = chunkBytes + (isExtended ? CHUNK_STATUS_EXT.size : CHUNK_STATUS.size);
    this.descriptorBytes = isExtended ? DESCRIPTOR_EXT.size : DESCRIPTOR.size;
  }

  /** Each writes at `at` in Memory and answers its length. */
  success(request: Answered, at: number): number {
    // Of a read of nothing: a chunk of no data is not allowed, a reply that is simple neither.
    const isChunk = this.#headers === "structured" && request.type === Command.READ;
    if (!isChunk && this.#headers !== "extended") return this.#writeSimple(request, at);
    return this.#writeChunk(request, at, ChunkType.NONE, 0);
  }

  /** In front of a piece's data; the last piece of a read says that it is. */
  readHead(request: Answered, at: number): number {
    if (this.#headers === "simple") return this.#writeSimple(request, at);
    const { offset, length, pieceAt, pieceBytes } = request;
    const payload = CHUNK_OFFSET.size + pieceBytes;
    const flags = pieceAt + pieceBytes === length ? ChunkFlag.DONE : 0;
    const end = at + this.#writeChunk(request, at, ChunkType.OFFSET_DATA, payload, flags);
    this.#offset.at(this.#bytes, end).offset = offset + pieceAt;
    return end + CHUNK_OFFSET.size - at;
  }

  error(request: Answered, at: number): number {
    if (this.#headers === "simple") return this.#writeSimple(request, at);
    const { error, faultOffset, offset, length } = request;
    const text = errorTexts.get(error) ?? NO_TEXT;
    const located = faultOffset >= offset && faultOffset < offset + length;
    const size = CHUNK_ERROR.size + text.length + (located ? CHUNK_OFFSET.size : 0);
    const type = located ? ChunkType.ERROR_OFFSET : ChunkType.ERROR;
    let end = at + this.#writeChunk(request, at, type, size);
    const view = this.#error.at(this.#bytes, end);
    view.error = error;
    view.messageLength = text.length;
    end += CHUNK_ERROR.size;
    this.#bytes.set(text, end);
    end += text.length;
    if (located) {
      this.#offset.at(this.#bytes, end).offset = faultOffset;
      end += CHUNK_OFFSET.size;
    }
    return end - at;
  }

  /** The heads of a status whose `count` descriptors lie behind them; answers all of its length. */
  statusHead(request: Answered, at: number, count: number): number {
    const listBytes = count * this.descriptorBytes;
    if (this.#headers === "extended") {
      const payload = CHUNK_STATUS_EXT.size + listBytes;
      const end = at + this.#writeChunk(request, at, ChunkType.BLOCK_STATUS_EXT, payload);
      const view = this.#statusExt.at(this.#bytes, end);
      view.context = CONTEXT_ID;
      view.count = count;
    } else {
      const payload = CHUNK_STATUS.size + listBytes;
      const end = at + this.#writeChunk(request, at, ChunkType.BLOCK_STATUS, payload);
      this.#status.at(this.#bytes, end).context = CONTEXT_ID;
    }
    return this.statusHeadBytes + listBytes;
  }

  descriptor(at: number, lengthBytes: number, flags: number): void {
    const source = this.#headers === "extended" ? this.#descriptorExt : this.#descriptor;
    const view = source.at(this.#bytes, at);
    view.length = lengthBytes;
    view.flags = flags;
  }

  #writeSimple(request: Answered, at: number): number {
    const view = this.#simple.at(this.#bytes, at);
    view.magic = SIMPLE_REPLY_MAGIC;
    view.error = request.error;
    view.cookieHigh = request.cookieHigh;
    view.cookieLow = request.cookieLow;
    return SIMPLE_REPLY.size;
  }

  /** A chunk's head; the last of its reply unless told otherwise. */
  #writeChunk(
    request: Answered,
    at: number,
    type: number,
    length: number,
    flags: number = ChunkFlag.DONE,
  ): number {
    if (this.#headers === "extended") return this.#writeExtended(request, at, type, length, flags);
    const view = this.#chunk.at(this.#bytes, at);
    view.magic = CHUNK_MAGIC;
    view.flags = flags;
    view.type = type;
    view.cookieHigh = request.cookieHigh;
    view.cookieLow = request.cookieLow;
    view.length = length;
    return CHUNK.size;
  }

  #writeExtended(
    request: Answered,
    at: number,
    type: number,
    length: number,
    flags: number,
  ): number {
    const view = this.#extended.at(this.#bytes, at);
    view.magic = EXTENDED_CHUNK_MAGIC;
    view.flags = flags;
    view.type = type;
    view.cookieHigh = request.cookieHigh;
    view.cookieLow = request.cookieLow;
    view.offsetHigh = request.offsetHigh;
    view.offsetLow = request.offsetLow;
    view.length = length;
    return EXTENDED_CHUNK.size;
  }
}

const NO_TEXT = new Uint8Array(0);

/** A slot holds the longest error: chunk, error, text and offset. */
export const ERROR_REPLY_BYTES_MAX =
  EXTENDED_CHUNK.size + CHUNK_ERROR.size + ERROR_TEXT_BYTES_MAX + CHUNK_OFFSET.size;
