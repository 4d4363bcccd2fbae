// SPDX-License-Identifier: Apache-2.0
//
// The handshake of one NBD connection: fixed newstyle negotiation (doc/proto.md, "Newstyle
// negotiation" to "Termination of the session during option haggling", "Option types"). Whole
// options come in, whole replies go out; the session moves the bytes. TLS is not offered (NOTLS
// mode).
//
// Which exports there are is asked anew for every option and filtered by the peer's address: an
// export the peer may not use is unknown to it, in LIST too.

import { SECTOR_BYTES } from "#base/grains.ts";
import { REQUEST_BYTES_MAX } from "#base/limits.ts";
import type { OperationTarget } from "#base/operation.ts";
import {
  CONTEXT_ALLOCATION,
  CONTEXT_ID,
  CONTEXT_WILDCARD,
  ClientFlag,
  EXPORT_REPLY,
  EXPORT_REPLY_ZEROES,
  GREETING,
  HandshakeFlag,
  INFO_BLOCK_SIZE,
  INFO_EXPORT,
  INIT_MAGIC,
  Info,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_BYTES_MAX,
  OPTION_REPLY_MAGIC,
  Option,
  PREFERRED_BYTES,
  Reply,
  STRING_BYTES_MAX,
  TransmissionFlag,
} from "./nbd.wire.ts";

/**
 * A volume as NBD shows it. The session looks at `sizeBytes` and `readOnly` anew at every request.
 */
export interface NbdExport {
  readonly name: string;
  /** For people; may be empty. */
  readonly description: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** H4: a flush covers what was acked on any connection, through any unit. */
  readonly multiConn: boolean;
  /** Takes operations at offsets within the volume, multiples of a sector. */
  readonly target: OperationTarget;
}

/** What may be seen from an address. */
export interface NbdExports {
  find(name: string, peerAddress: string): NbdExport | null;
  list(peerAddress: string): NbdExport[];
}

/** What transmission needs to know of the handshake. */
export interface Negotiated {
  volume: NbdExport;
  structuredReplies: boolean;
  /** base:allocation was selected for this export. */
  allocationContext: boolean;
}

/** What comes after the reply to an option. */
export type Next = "option" | "transmission" | "finish" | "close";

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const encoder = new TextEncoder();

export class Handshake {
  /** Set once `option` answered "transmission". */
  negotiated: Negotiated | null = null;
  readonly #exports: NbdExports;
  readonly #peerAddress: string;
  readonly #reply = new ReplyWriter();
  #zeroes = true;
  #structuredReplies = false;
  /** The export for which base:allocation was selected last. */
  #contextFor: string | null = null;

  constructor(exports: NbdExports, peerAddress: string) {
    this.#exports = exports;
    this.#peerAddress = peerAddress;
  }

  /** The server speaks first. */
  greeting(): Uint8Array {
    const bytes = new Uint8Array(GREETING.size);
    const view = GREETING.view().at(bytes, 0);
    [view.initHigh, view.initLow] = INIT_MAGIC;
    [view.optionHigh, view.optionLow] = OPTION_MAGIC;
    view.flags = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES;
    return bytes;
  }

  /** False: a flag we did not offer; the connection MUST be dropped. */
  clientFlags(flags: number): boolean {
    this.#zeroes = (flags & ClientFlag.NO_ZEROES) === 0;
    return (flags & ~(ClientFlag.FIXED_NEWSTYLE | ClientFlag.NO_ZEROES)) === 0;
  }

  /** Bytes to send for the last option; valid until the next one. */
  get reply(): Uint8Array {
    return this.#reply.written;
  }

  /** An option whose data was longer than we take; it was skipped. */
  tooLong(option: number): Next {
    this.#reply.begin(option);
    // EXPORT_NAME has no error reply: the server must end the session.
    if (option === Option.EXPORT_NAME) return "close";
    return this.#refuse(Reply.ERR_TOO_BIG, "option data too long");
  }

  option(option: number, data: Uint8Array): Next {
    this.#reply.begin(option);
    switch (option) {
      case Option.EXPORT_NAME:
        return this.#exportName(data);
      case Option.ABORT:
        this.#reply.add(Reply.ACK);
        return "finish";
      case Option.LIST:
        return this.#list(data);
      case Option.INFO:
      case Option.GO:
        return this.#info(option, data);
      case Option.STRUCTURED_REPLY:
        if (data.length > 0) return this.#refuse(Reply.ERR_INVALID, "unexpected option data");
        this.#structuredReplies = true;
        return this.#accept();
      case Option.LIST_META_CONTEXT:
      case Option.SET_META_CONTEXT:
        return this.#metaContext(option, data);
      default:
        // "NOTLS mode": STARTTLS too, as an option we do not have.
        return this.#refuse(Reply.ERR_UNSUP, "option not supported");
    }
  }

  #accept(): Next {
    this.#reply.add(Reply.ACK);
    return "option";
  }

  #refuse(type: Reply, text: string): Next {
    this.#reply.add(type, encoder.encode(text));
    return "option";
  }

  #find(name: Uint8Array): NbdExport | null {
    return this.#exports.find(decoder.decode(name), this.#peerAddress);
  }

  #enter(volume: NbdExport): Next {
    this.negotiated = {
      volume,
      structuredReplies: this.#structuredReplies,
      allocationContext: this.#contextFor === volume.name,
    };
    return "transmission";
  }

  #exportName(data: Uint8Array): Next {
    const volume = data.length > STRING_BYTES_MAX ? null : this.#find(data);
    if (volume === null) return "close";
    const answer = new Uint8Array(EXPORT_REPLY.size + (this.#zeroes ? EXPORT_REPLY_ZEROES : 0));
    const view = EXPORT_REPLY.view().at(answer, 0);
    view.sizeBytes = volume.sizeBytes;
    view.flags = this.#flagsOf(volume);
    this.#reply.addRaw(answer);
    return this.#enter(volume);
  }

  #list(data: Uint8Array): Next {
    if (data.length > 0) return this.#refuse(Reply.ERR_INVALID, "unexpected option data");
    for (const { name, description } of this.#exports.list(this.#peerAddress)) {
      const nameBytes = encoder.encode(name);
      const more = encoder.encode(description);
      const answer = new Uint8Array(4 + nameBytes.length + more.length);
      new DataView(answer.buffer).setUint32(0, nameBytes.length);
      answer.set(nameBytes, 4);
      answer.set(more, 4 + nameBytes.length);
      if (this.#reply.written.length + answer.length > OPTION_REPLY_BYTES_MAX) {
        return this.#refuse(Reply.ERR_TOO_BIG, "too many exports to list");
      }
      this.#reply.add(Reply.SERVER, answer);
    }
    return this.#accept();
  }

  #info(option: number, data: Uint8Array): Next {
    const reader = new OptionReader(data);
    const name = reader.string();
    const requests = reader.numbers16();
    if (name === null || requests === null || !reader.atEnd) {
      return this.#refuse(Reply.ERR_INVALID, "malformed option");
    }
    const volume = this.#find(name);
    if (volume === null) return this.#refuse(Reply.ERR_UNKNOWN, "no such export");
    this.#addInfos(volume, requests);
    this.#reply.add(Reply.ACK);
    return option === Option.GO ? this.#enter(volume) : "option";
  }

  /** In the order, and with the extras, of qemu-nbd; both are the server's choice. */
  #addInfos(volume: NbdExport, requests: readonly number[]): void {
    if (requests.includes(Info.NAME)) this.#addText(Info.NAME, volume.name);
    if (volume.description !== "") this.#addText(Info.DESCRIPTION, volume.description);
    // "Size constraints": ours differ from the defaults, so they are sent even if not asked for.
    const blocks = new Uint8Array(INFO_BLOCK_SIZE.size);
    const limits = INFO_BLOCK_SIZE.view().at(blocks, 0);
    limits.type = Info.BLOCK_SIZE;
    limits.minimumBytes = SECTOR_BYTES;
    limits.preferredBytes = PREFERRED_BYTES;
    limits.payloadBytesMax = REQUEST_BYTES_MAX;
    this.#reply.add(Reply.INFO, blocks);
    const size = new Uint8Array(INFO_EXPORT.size);
    const view = INFO_EXPORT.view().at(size, 0);
    view.type = Info.EXPORT;
    view.sizeBytes = volume.sizeBytes;
    view.flags = this.#flagsOf(volume);
    this.#reply.add(Reply.INFO, size);
  }

  #addText(type: number, text: string): void {
    const bytes = encoder.encode(text);
    const answer = new Uint8Array(2 + bytes.length);
    new DataView(answer.buffer).setUint16(0, type);
    answer.set(bytes, 2);
    this.#reply.add(Reply.INFO, answer);
  }

  /** Only what is true: nothing is cached but what a flush covers on every connection (H4, H5). */
  #flagsOf(volume: NbdExport): number {
    const flag = TransmissionFlag;
    const writable = flag.SEND_TRIM | flag.SEND_WRITE_ZEROES | flag.SEND_FAST_ZERO;
    return (
      flag.HAS_FLAGS |
      flag.SEND_FLUSH |
      flag.SEND_FUA |
      (volume.readOnly ? flag.READ_ONLY : writable) |
      (volume.multiConn ? flag.CAN_MULTI_CONN : 0) |
      (this.#structuredReplies ? flag.SEND_DF : 0)
    );
  }

  #metaContext(option: number, data: Uint8Array): Next {
    const sets = option === Option.SET_META_CONTEXT;
    // A new selection replaces the one before, also when it fails.
    if (sets) this.#contextFor = null;
    const reader = new OptionReader(data);
    const name = reader.string();
    const queries = reader.strings();
    if (name === null || queries === null || !reader.atEnd) {
      return this.#refuse(Reply.ERR_INVALID, "malformed option");
    }
    if (!this.#structuredReplies) {
      return this.#refuse(Reply.ERR_INVALID, "negotiate structured replies first");
    }
    const volume = this.#find(name);
    if (volume === null) return this.#refuse(Reply.ERR_UNKNOWN, "no such export");
    const asked = queries.map((query) => decoder.decode(query));
    const listed = !sets && (asked.length === 0 || asked.includes(CONTEXT_WILDCARD));
    if (listed || asked.includes(CONTEXT_ALLOCATION)) {
      const context = encoder.encode(CONTEXT_ALLOCATION);
      const answer = new Uint8Array(4 + context.length);
      // "The metadata context ID in these replies is reserved" in a list.
      new DataView(answer.buffer).setUint32(0, sets ? CONTEXT_ID : 0);
      answer.set(context, 4);
      this.#reply.add(Reply.META_CONTEXT, answer);
      if (sets) this.#contextFor = volume.name;
    }
    return this.#accept();
  }
}

/** The replies to one option, one behind the other. */
class ReplyWriter {
  #bytes = new Uint8Array(512);
  #length = 0;
  #option = 0;
  readonly #view = OPTION_REPLY.view();

  begin(option: number): void {
    this.#option = option;
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
const NO_DATA = new Uint8Array(0);

/** Reads an option's data; null where a length does not fit what is left. */
class OptionReader {
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
