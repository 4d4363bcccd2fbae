// SPDX-License-Identifier: Apache-2.0
//
// One request of a host on its way, from its header to the sending of its reply. Pooled, with its
// callbacks made once: nothing is allocated per request in the steady state.

import { NO_BUFFER } from "#base/memory.ts";
import type { Operation } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { NbdError } from "./nbd.wire.ts";

/** Whom a request's callbacks lead to. */
export interface RequestOwner {
  payloadReceived(request: Request, status: Status): void;
  replySent(request: Request, status: Status): void;
  operationDone(request: Request, operation: Operation): void;
  /** It had to give way to others for a turn. */
  goOn(request: Request): void;
}

export class Request {
  type = 0;
  flags = 0;
  /** Infinity where it does not fit a number. */
  offset = 0;
  length = 0;
  /** Of what comes behind the header, not yet taken. */
  payloadBytes = 0;
  cookieHigh = 0;
  cookieLow = 0;
  /** The offset as it came, for extended replies. */
  offsetHigh = 0;
  offsetLow = 0;
  error: NbdError = NbdError.NONE;
  /** Where it failed, if known, else -1. */
  faultOffset = -1;
  /** The payload's buffer or NO_BUFFER; data may start behind room for a header. */
  bufferOffset = NO_BUFFER;
  dataOffset = 0;
  /** Taken of the host's credit for the buffer. */
  heldBytes = 0;
  /**
   * Of a read or write: the stretch that moves now, from its start; all of it but of a long read.
   */
  pieceAt = 0;
  pieceBytes = 0;
  /** A read that goes by the line (read-line.ts), and the next one there. */
  isLong = false;
  next: Request | null = null;
  /** Its operations under way, in any order; more than one for a long read or write. */
  readonly operations: Operation[] = [];
  /** How they ended: ok, or the first that was not. */
  status: Status = Status.ok;
  /** Of a long range: what has been submitted ends here, and where all of it ends. */
  cursor = 0;
  end = 0;
  /** Its steps are being submitted, or will be in a later turn. */
  isPumping = false;
  isDeferred = false;
  /** Done but for a flush. */
  wantsFlush = false;
  /** When it was whole, for its meter, ms. */
  startedMs = 0;
  /** Of a block status: descriptors so far, the last of them, and the room for them. */
  descriptors = 0;
  runBytes = 0;
  runFlags = 0;
  roomBytes = 0;
  /** Where in Memory its reply's header may be written, SLOT_BYTES long. */
  readonly slotOffset: number;
  readonly received: (status: Status) => void;
  readonly sent: (status: Status) => void;
  readonly done: (operation: Operation) => void;
  readonly goOn: () => void;

  constructor(slotOffset: number, owner: RequestOwner) {
    this.slotOffset = slotOffset;
    this.received = (status) => owner.payloadReceived(this, status);
    this.sent = (status) => owner.replySent(this, status);
    this.done = (operation) => owner.operationDone(this, operation);
    this.goOn = () => owner.goOn(this);
  }
}
