// SPDX-License-Identifier: Apache-2.0
//
// Replies of the transmission phase as bytes (doc/proto.md, "Simple reply message", "Structured
// reply chunk message", "Structured reply types"). Success without data is always a simple reply,
// which is allowed and shorter; reads, block status and errors are chunks where structured replies
// were negotiated.

import type { Memory } from "#base/memory.ts";
import type { StatusRun } from "#base/operation.ts";
import { ERROR_TEXT_BYTES_MAX, errorTexts } from "./errors.ts";
import {
  BLOCK_STATUS_BYTES_MAX,
  CHUNK,
  CHUNK_ERROR,
  CHUNK_MAGIC,
  CHUNK_OFFSET,
  CHUNK_STATUS,
  CONTEXT_ID,
  ChunkFlag,
  ChunkType,
  Command,
  CommandFlag,
  DESCRIPTOR,
  NbdError,
  SIMPLE_REPLY,
  SIMPLE_REPLY_MAGIC,
  StateFlag,
} from "./nbd.wire.ts";

/** Room for any reply but data and long block status. */
export const SLOT_BYTES = 128;

/** What a reply is made from. */
export interface Answered {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  readonly cookieHigh: number;
  readonly cookieLow: number;
  readonly error: NbdError;
  readonly faultOffset: number;
  readonly runs: StatusRun[] | null;
}

export class ReplyEncoder {
  /** Bytes in front of a read's data. */
  readonly readHeadBytes: number;
  readonly #bytes: Uint8Array;
  readonly #structured: boolean;
  readonly #simple = SIMPLE_REPLY.view();
  readonly #chunk = CHUNK.view();
  readonly #error = CHUNK_ERROR.view();
  readonly #offset = CHUNK_OFFSET.view();
  readonly #status = CHUNK_STATUS.view();
  readonly #descriptor = DESCRIPTOR.view();

  constructor(memory: Memory, structured: boolean) {
    this.#bytes = memory.bytes;
    this.#structured = structured;
    this.readHeadBytes = structured ? CHUNK.size + CHUNK_OFFSET.size : SIMPLE_REPLY.size;
  }

  /** Each writes at `at` in Memory and answers its length. */
  success(request: Answered, at: number): number {
    // A read of nothing: a chunk of no data is not allowed, a reply that is simple neither.
    if (this.#structured && request.type === Command.READ) {
      return this.#writeChunk(request, at, ChunkType.NONE, 0);
    }
    return this.#writeSimple(request, at);
  }

  readHead(request: Answered, at: number): number {
    if (!this.#structured) return this.#writeSimple(request, at);
    const { offset, length } = request;
    const end =
      at + this.#writeChunk(request, at, ChunkType.OFFSET_DATA, CHUNK_OFFSET.size + length);
    this.#offset.at(this.#bytes, end).offset = offset;
    return end + CHUNK_OFFSET.size - at;
  }

  error(request: Answered, at: number): number {
    if (!this.#structured) return this.#writeSimple(request, at);
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

  /** As many descriptors as `room` bytes hold; at least one, since `room` holds a slot. */
  status(request: Answered, at: number, room: number): number {
    const runs = runsOf(request);
    const head = CHUNK.size + CHUNK_STATUS.size;
    const one = (request.flags & CommandFlag.REQ_ONE) !== 0;
    const fitting = Math.floor((room - head) / DESCRIPTOR.size);
    const count = one ? 1 : Math.min(runs.length, fitting);
    const size = CHUNK_STATUS.size + count * DESCRIPTOR.size;
    let end = at + this.#writeChunk(request, at, ChunkType.BLOCK_STATUS, size);
    this.#status.at(this.#bytes, end).context = CONTEXT_ID;
    end += CHUNK_STATUS.size;
    for (let index = 0; index < count; index++) {
      const { lengthBytes, allocated } = runs[index] as StatusRun;
      const view = this.#descriptor.at(this.#bytes, end);
      view.length = lengthBytes;
      // H9: never a hole or zero where there may be data.
      view.flags = allocated ? 0 : StateFlag.HOLE | StateFlag.ZERO;
      end += DESCRIPTOR.size;
    }
    return end - at;
  }

  #writeSimple(request: Answered, at: number): number {
    const view = this.#simple.at(this.#bytes, at);
    view.magic = SIMPLE_REPLY_MAGIC;
    view.error = request.error;
    view.cookieHigh = request.cookieHigh;
    view.cookieLow = request.cookieLow;
    return SIMPLE_REPLY.size;
  }

  /** A chunk's head; every reply of ours is one chunk, so it is the last. */
  #writeChunk(request: Answered, at: number, type: number, length: number): number {
    const view = this.#chunk.at(this.#bytes, at);
    view.magic = CHUNK_MAGIC;
    view.flags = ChunkFlag.DONE;
    view.type = type;
    view.cookieHigh = request.cookieHigh;
    view.cookieLow = request.cookieLow;
    view.length = length;
    return CHUNK.size;
  }
}

const NO_TEXT = new Uint8Array(0);

/** Bytes `status` needs to send every run. */
export function statusReplyBytes(request: Answered): number {
  return CHUNK.size + CHUNK_STATUS.size + runsOf(request).length * DESCRIPTOR.size;
}

/**
 * The runs to answer with. A volume that has none to tell counts as allocated, which is always safe
 * to say (H9).
 */
function runsOf({ runs, length }: Answered): StatusRun[] {
  if (runs !== null && runs.length > 0) return runs;
  return [{ lengthBytes: Math.min(length, BLOCK_STATUS_BYTES_MAX), allocated: true }];
}

/** A slot holds the longest error: chunk, error, text and offset. */
export const ERROR_REPLY_BYTES_MAX =
  CHUNK.size + CHUNK_ERROR.size + ERROR_TEXT_BYTES_MAX + CHUNK_OFFSET.size;
