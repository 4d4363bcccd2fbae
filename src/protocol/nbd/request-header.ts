// SPDX-License-Identifier: Apache-2.0
//
// The header of a request, in either of its two forms (doc/proto.md, "Request message"; extended
// requests on the branch extension-ext-header): how long it is, what follows it, and its fields.
// With it go the few bytes of payload that a block status may have.

import type { Memory } from "#base/memory.ts";
import {
  CONTEXT_ID,
  Command,
  CommandFlag,
  EXTENDED_REQUEST,
  EXTENDED_REQUEST_MAGIC,
  NbdError,
  OFFSET_ECHO,
  OFFSET_ECHO_AT,
  REQUEST,
  REQUEST_MAGIC,
  STATUS_PAYLOAD,
} from "./nbd.wire.ts";
import type { Request } from "./request.ts";

/** An effect length and the id of the one context we have. */
const STATUS_PAYLOAD_BYTES = STATUS_PAYLOAD.size + 4;

export class RequestHeader {
  readonly size: number;
  readonly #memory: Memory;
  readonly #isExtended: boolean;
  readonly #magic: number;
  readonly #compact = REQUEST.view();
  readonly #extended = EXTENDED_REQUEST.view();
  readonly #echo = OFFSET_ECHO.view();
  readonly #status = STATUS_PAYLOAD.view();
  #base = 0;

  constructor(memory: Memory, options: { extended: boolean }) {
    this.#memory = memory;
    this.#isExtended = options.extended;
    this.size = options.extended ? EXTENDED_REQUEST.size : REQUEST.size;
    this.#magic = options.extended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC;
  }

  /** Looks at the header at `at`, all of which is there. */
  at(at: number): this {
    this.#base = at;
    if (this.#isExtended) this.#extended.at(this.#memory.bytes, at);
    else this.#compact.at(this.#memory.bytes, at);
    return this;
  }

  get #view() {
    return this.#isExtended ? this.#extended : this.#compact;
  }
  get isRequest(): boolean {
    return this.#view.magic === this.#magic;
  }
  get type(): number {
    return this.#view.type;
  }

  /**
   * What the client sends behind it; Infinity where that does not fit a number. A write has always
   * a payload: qemu's client (10.0) leaves the flag out that extended headers want for it.
   */
  get payloadBytes(): number {
    const { flags, type, length } = this.#view;
    const says = this.#isExtended && (flags & CommandFlag.PAYLOAD_LEN) !== 0;
    return says || type === Command.WRITE ? length : 0;
  }

  /** Bytes that belong together: the header, and the payload of a block status. */
  get wholeBytes(): number {
    const { payloadBytes } = this;
    const isStatus = this.type === Command.BLOCK_STATUS && payloadBytes === STATUS_PAYLOAD_BYTES;
    return this.size + (isStatus ? payloadBytes : 0);
  }

  /** Takes over what is there, `wholeBytes` of it; `payloadBytes` of the request are to come. */
  fill(request: Request): void {
    const view = this.#view;
    request.flags = view.flags;
    request.type = view.type;
    request.cookieHigh = view.cookieHigh;
    request.cookieLow = view.cookieLow;
    request.offset = view.offset;
    request.length = view.length;
    request.payloadBytes = this.payloadBytes;
    request.error = NbdError.NONE;
    request.faultOffset = -1;
    request.isLong = false;
    if (this.#isExtended) this.#fillExtended(request);
  }

  #fillExtended(request: Request): void {
    const { bytes, view } = this.#memory;
    const echo = this.#echo.at(bytes, this.#base + OFFSET_ECHO_AT);
    request.offsetHigh = echo.high;
    request.offsetLow = echo.low;
    const hasPayload = (request.flags & CommandFlag.PAYLOAD_LEN) !== 0;
    if (request.type !== Command.BLOCK_STATUS || !hasPayload) return;
    if (request.payloadBytes !== STATUS_PAYLOAD_BYTES) {
      request.error = NbdError.EINVAL; // not one context, or not a list of contexts at all
      return;
    }
    const at = this.#base + this.size;
    request.length = this.#status.at(bytes, at).effectLength;
    request.payloadBytes = 0;
    const context = view.getUint32(at + STATUS_PAYLOAD.size);
    if (context !== CONTEXT_ID) request.error = NbdError.EINVAL;
  }
}
