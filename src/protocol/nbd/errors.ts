// SPDX-License-Identifier: Apache-2.0
//
// From our Status to NBD's error values ("Error values" in doc/proto.md): the one place.

import { unreachable } from "#base/assert.ts";
import { Status } from "#base/status.ts";
import { Command, NbdError } from "./nbd.wire.ts";

/** The error a request of type `command` answers with when it ended with `status`. */
export function nbdErrorOf(status: Status, command: number): NbdError {
  switch (status) {
    case Status.ok:
      return NbdError.NONE;
    case Status.noSpace:
      return NbdError.ENOSPC;
    case Status.outOfRange:
      return beyondEnd(command);
    case Status.invalid:
      return NbdError.EINVAL;
    case Status.readOnly:
      return NbdError.EPERM;
    case Status.busy:
      return NbdError.ENOMEM;
    case Status.shuttingDown:
      return NbdError.ESHUTDOWN;
    // H8 and H7: neither "not done" nor "done" is claimed.
    case Status.ioError:
    case Status.mediumError:
    case Status.checksumMismatch:
    case Status.notHead:
    case Status.staleEpoch:
    case Status.expired:
    case Status.unknownOutcome:
    case Status.notFound:
    case Status.linkLost:
    case Status.cancelled:
      return NbdError.EIO;
    default:
      return unreachable(status);
  }
}

/** What a request of type `command` beyond the export's end answers with. */
export function beyondEnd(command: number): NbdError {
  const writes = command === Command.WRITE || command === Command.WRITE_ZEROES;
  return writes ? NbdError.ENOSPC : NbdError.EINVAL;
}

const texts: Record<NbdError, string> = {
  [NbdError.NONE]: "",
  [NbdError.EPERM]: "the export is read-only",
  [NbdError.EIO]: "the request failed",
  [NbdError.ENOMEM]: "too busy, try again",
  [NbdError.EINVAL]: "the request is not valid here",
  [NbdError.ENOSPC]: "no space left",
  [NbdError.EOVERFLOW]: "longer than 32 MiB",
  [NbdError.ENOTSUP]: "it would not be fast",
  [NbdError.ESHUTDOWN]: "the unit is going down",
};
const encoder = new TextEncoder();

/** A few words for a person, in the bytes of an error chunk; at most ERROR_TEXT_BYTES_MAX. */
export const errorTexts = new Map<NbdError, Uint8Array>(
  Object.entries(texts).map(([error, text]) => [Number(error) as NbdError, encoder.encode(text)]),
);
export const ERROR_TEXT_BYTES_MAX = 32;
