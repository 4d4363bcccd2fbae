// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with a request, before anything is done about it (doc/proto.md, "Command flags",
// "Request types", "Size constraints", "Error values").

import { BLOCK_BYTES, SECTOR_BYTES } from "#base/grains.ts";
import { REQUEST_BYTES_MAX } from "#base/limits.ts";
import { beyondEnd } from "./errors.ts";
import type { Negotiated } from "./handshake.ts";
import { Command, CommandFlag, NbdError } from "./nbd.wire.ts";

export interface RequestFields {
  readonly type: number;
  readonly flags: number;
  /** Infinity where it does not fit a number. */
  readonly offset: number;
  readonly length: number;
}

/** Flags each command knows. FUA is valid for all of them, though it means nothing to most. */
const flagsKnown = new Map<number, number>([
  [Command.READ, CommandFlag.FUA | CommandFlag.DF],
  [Command.WRITE, CommandFlag.FUA],
  [Command.FLUSH, CommandFlag.FUA],
  [Command.TRIM, CommandFlag.FUA],
  [Command.CACHE, CommandFlag.FUA],
  [Command.WRITE_ZEROES, CommandFlag.FUA | CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO],
  [Command.BLOCK_STATUS, CommandFlag.FUA | CommandFlag.REQ_ONE],
]);

/** Commands that may, or must, carry PAYLOAD_LEN where extended headers were negotiated. */
function takesPayload(type: number): boolean {
  return type === Command.WRITE || type === Command.BLOCK_STATUS;
}

function changes(type: number): boolean {
  return type === Command.WRITE || type === Command.TRIM || type === Command.WRITE_ZEROES;
}

/** The error a request must be answered with, or NONE. A write's length was held to its maximum. */
export function requestError(request: RequestFields, negotiated: Negotiated): NbdError {
  const { type, flags, offset, length } = request;
  const mayPay = negotiated.headers === "extended" && takesPayload(type);
  const known = flagsKnown.get(type);
  if (known === undefined) return NbdError.EINVAL;
  if ((flags & ~(known | (mayPay ? CommandFlag.PAYLOAD_LEN : 0))) !== 0) return NbdError.EINVAL;
  if (type === Command.FLUSH) {
    return offset === 0 && length === 0 ? NbdError.NONE : NbdError.EINVAL;
  }
  const { volume } = negotiated;
  if (changes(type) && volume.readOnly) return NbdError.EPERM;
  // Either may be Infinity, and so is their sum.
  if (offset + length > volume.sizeBytes) return beyondEnd(type);
  if (offset % SECTOR_BYTES !== 0 || length % SECTOR_BYTES !== 0) return NbdError.EINVAL;
  switch (type) {
    case Command.READ:
      return readError(request, negotiated);
    case Command.BLOCK_STATUS:
      return negotiated.allocationContext && length > 0 ? NbdError.NONE : NbdError.EINVAL;
    case Command.WRITE_ZEROES:
      return fastZeroError(request);
    default:
      return NbdError.NONE;
  }
}

function readError(request: RequestFields, negotiated: Negotiated): NbdError {
  const { flags, length } = request;
  const hasChunks = negotiated.headers !== "simple";
  // SEND_DF is advertised with structured replies only.
  if ((flags & CommandFlag.DF) !== 0 && !hasChunks) return NbdError.EINVAL;
  if (length <= REQUEST_BYTES_MAX) return NbdError.NONE;
  return hasChunks ? NbdError.EOVERFLOW : NbdError.EINVAL;
}

/**
 * Whole blocks are unmapped, or marked unwritten where their space is to be kept: both are entries
 * in the metadata, much faster than a write. Parts of a block are a write.
 */
function fastZeroError({ flags, offset, length }: RequestFields): NbdError {
  if ((flags & CommandFlag.FAST_ZERO) === 0) return NbdError.NONE;
  const whole = offset % BLOCK_BYTES === 0 && length % BLOCK_BYTES === 0;
  return whole ? NbdError.NONE : NbdError.ENOTSUP;
}
