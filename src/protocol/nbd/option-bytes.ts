// SPDX-License-Identifier: Apache-2.0
//
// Options of the handshake as bytes (doc/proto.md, "Option types", "Option reply types"): takes the
// data of one apart, and writes the replies to it. Every length from outside is held against what
// is there before it is believed.

import { OPTION_REPLY, OPTION_REPLY_MAGIC, STRING_BYTES_MAX } from "./nbd.wire.ts";
import type { Reply } from "./nbd.wire.ts";

const NO_DATA = new Uint8Array(0);

/** The replies to one option, one behind the other. */
export class ReplyWriter {
  #bytes = new Uint8Array(512);
  #length = 0;
  #option = 0;
  readonly #view = OPTION_REPLY.view();

  begin(option: number): void {
    this.#option = option;
    this.#length = 0;
  }

  /** What was written was sent; more replies to the same option follow. */
  goOn(): void {
    this.#length = 0;
  }

  get written(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  add(type: Reply, data: Uint8Array = NO_DATA): void {
    const at = this.#room(OPTION_REPLY.size + data.length);
    const view = this.#view.at(this.#bytes, at);
    [view.magicHigh, view.magicLow] = OPTION_REPLY_MAGIC;
    view.option = this.#option;
    view.type = type;
    view.length = data.length;
    this.#bytes.set(data, at + OPTION_REPLY.size);
  }

  /** Bytes without a reply's header: the answer to EXPORT_NAME. */
  addRaw(data: Uint8Array): void {
    this.#bytes.set(data, this.#room(data.length));
  }

  #room(length: number): number {
    const at = this.#length;
    this.#length += length;
    if (this.#length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
    }
    return at;
  }
}

/** Reads an option's data; null where a length does not fit what is left. */
export class OptionReader {
  readonly #data: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(data: Uint8Array) {
    this.#data = data;
    this.#view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  get atEnd(): boolean {
    return this.#at === this.#data.length;
  }
  get #left(): number {
    return this.#data.length - this.#at;
  }

  /** A 32-bit length and that many bytes. */
  string(): Uint8Array | null {
    if (this.#left < 4) return null;
    const length = this.#view.getUint32(this.#at);
    if (length > STRING_BYTES_MAX || length > this.#left - 4) return null;
    this.#at += 4 + length;
    return this.#data.subarray(this.#at - length, this.#at);
  }

  /** A 32-bit count and that many strings. */
  strings(): Uint8Array[] | null {
    if (this.#left < 4) return null;
    const count = this.#view.getUint32(this.#at);
    this.#at += 4;
    // Each is at least its length: the count is bounded by what is there.
    if (count > this.#left / 4) return null;
    const strings: Uint8Array[] = [];
    for (let left = count; left > 0; left--) {
      const next = this.string();
      if (next === null) return null;
      strings.push(next);
    }
    return strings;
  }

  /** A 16-bit count and that many 16-bit numbers. */
  numbers16(): number[] | null {
    if (this.#left < 2) return null;
    const count = this.#view.getUint16(this.#at);
    this.#at += 2;
    if (count > this.#left / 2) return null;
    const numbers: number[] = [];
    for (let left = count; left > 0; left--) {
      numbers.push(this.#view.getUint16(this.#at));
      this.#at += 2;
    }
    return numbers;
  }
}
