// SPDX-License-Identifier: Apache-2.0
//
// The answer to a block status request, put together from the steps that looked (doc/proto.md,
// "Metadata querying", "Structured reply types"). Descriptors are written where they will be sent
// from: in the request's slot while they fit it, else in a buffer that grows.
//
// Invariants
// - H9: what was not told counts as allocated, and neighbours are joined only where they touch.
// - At least one descriptor, none of length 0, none past what was asked for; with REQ_ONE just one.
// - STATUS_REPLY_BYTES_MAX, or less where there is no memory: the answer then ends early.

import { NO_BUFFER } from "#base/memory.ts";
import type { Operation } from "#base/operation.ts";
import type { Buffers } from "./buffers.ts";
import { CommandFlag, STATUS_REPLY_BYTES_MAX, StateFlag } from "./nbd.wire.ts";
import type { ReplyEncoder } from "./replies.ts";
import { SLOT_BYTES } from "./replies.ts";
import type { Request } from "./request.ts";

const GROWTH = 16;
const BUFFER_BYTES_MIN = 4096;

export class StatusReply {
  readonly #buffers: Buffers;
  readonly #replies: ReplyEncoder;

  constructor(buffers: Buffers, replies: ReplyEncoder) {
    this.#buffers = buffers;
    this.#replies = replies;
  }

  begin(request: Request): void {
    request.descriptors = 0;
    request.roomBytes = SLOT_BYTES;
    request.runBytes = 0;
  }

  /** What a step found, behind what is there. False: no more is wanted, or can be told. */
  add(request: Request, { runs, lengthBytes }: Operation): boolean {
    if (runs === null || runs.length === 0) return this.#run(request, lengthBytes, 0);
    let told = 0;
    for (const run of runs) {
      const length = Math.min(run.lengthBytes, lengthBytes - told);
      if (length <= 0) continue;
      const flags = run.allocated ? 0 : StateFlag.HOLE | StateFlag.ZERO;
      if (!this.#run(request, length, flags)) return false;
      told += length;
    }
    // Whoever told less was short of room; what is behind is another request's.
    return told === lengthBytes;
  }

  /** Where the reply begins, once `finish` wrote its heads and answered its length. */
  startOf({ bufferOffset, slotOffset }: Request): number {
    return bufferOffset === NO_BUFFER ? slotOffset : bufferOffset;
  }

  finish(request: Request): number {
    return this.#replies.statusHead(request, this.startOf(request), request.descriptors);
  }

  #run(request: Request, lengthBytes: number, flags: number): boolean {
    if (request.descriptors > 0 && request.runFlags === flags) {
      request.runBytes += lengthBytes;
      this.#write(request);
      return true;
    }
    const isOne = (request.flags & CommandFlag.REQ_ONE) !== 0;
    if (isOne && request.descriptors > 0) return false;
    const { statusHeadBytes, descriptorBytes } = this.#replies;
    const need = statusHeadBytes + (request.descriptors + 1) * descriptorBytes;
    if (need > request.roomBytes && !this.#grow(request)) return false;
    request.descriptors++;
    request.runBytes = lengthBytes;
    request.runFlags = flags;
    this.#write(request);
    return true;
  }

  #write(request: Request): void {
    const { statusHeadBytes, descriptorBytes } = this.#replies;
    const at =
      this.startOf(request) + statusHeadBytes + (request.descriptors - 1) * descriptorBytes;
    this.#replies.descriptor(at, request.runBytes, request.runFlags);
  }

  #grow(request: Request): boolean {
    if (request.roomBytes >= STATUS_REPLY_BYTES_MAX) return false;
    const bytes = Math.min(
      STATUS_REPLY_BYTES_MAX,
      Math.max(BUFFER_BYTES_MIN, request.roomBytes * GROWTH),
    );
    const from = this.startOf(request);
    if (!this.#buffers.grow(request, bytes, from, request.roomBytes)) return false;
    request.roomBytes = bytes;
    return true;
  }
}
