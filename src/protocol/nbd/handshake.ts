// SPDX-License-Identifier: Apache-2.0
//
// The handshake of one NBD connection: fixed newstyle negotiation (doc/proto.md, "Newstyle
// negotiation" to "TLS support", "Option types"). Whole options come in, whole replies go out; the
// session moves the bytes, and whoever composes it upgrades the connection to TLS.
//
// Which exports there are is asked anew for every option and filtered by the peer's address: an
// export the peer may not use is unknown to it, in LIST too.
//
// Invariants
// - "Server-side requirements": the mode of TLS is the connection's from its first byte on. In
//   `none` nothing answers ERR_TLS_REQD; in `forced` nothing but STARTTLS and ABORT answers
//   otherwise before TLS; in `selective` only INFO and GO of an export that asks for TLS do.
// - "STARTTLS": nothing that was negotiated before it counts after it.

import { SECTOR_BYTES } from "#base/grains.ts";
import { REQUEST_BYTES_MAX } from "#base/limits.ts";
import type { OperationTarget } from "#base/operation.ts";
import type { RequestMeter } from "#base/request-meter.ts";
import type { TlsRule } from "#base/tls.ts";
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
  Option,
  PREFERRED_BYTES,
  REPLY_PART_BYTES,
  Reply,
  STRING_BYTES_MAX,
  TransmissionFlag,
} from "./nbd.wire.ts";
import { OptionReader, ReplyWriter } from "./option-bytes.ts";

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
  readonly tls: TlsRule;
  /** Takes operations at offsets within the volume, multiples of a sector. */
  readonly target: OperationTarget;
  /** Counts what is asked of it; not there: nobody does. */
  readonly meter?: RequestMeter;
}

/** Who is at the other end, as far as it is known at the moment. */
export interface NbdPeer {
  readonly address: string;
  /**
   * Of the certificate that it showed over TLS, if one was asked for: its name for who knows it.
   */
  certificate: string | null;
}

/** What may be seen by somebody. */
export interface NbdExports {
  find(name: string, peer: NbdPeer): NbdExport | null;
  list(peer: NbdPeer): NbdExport[];
}

/**
 * "Server-side requirements": NOTLS, SELECTIVETLS and FORCEDTLS. The same for a connection's whole
 * life.
 */
export type TlsMode = "none" | "selective" | "forced";

/** How requests and replies are headed. */
export type HeaderStyle = "simple" | "structured" | "extended";

/** What transmission needs to know of the handshake. */
export interface Negotiated {
  volume: NbdExport;
  headers: HeaderStyle;
  /** base:allocation was selected for this export. */
  allocationContext: boolean;
}

/** What comes after the reply to an option; `secure`: TLS. */
export type Next = "option" | "transmission" | "finish" | "close" | "secure";

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const encoder = new TextEncoder();

export interface HandshakeOptions {
  exports: NbdExports;
  peer: NbdPeer;
  tls: TlsMode;
}

export class Handshake {
  /** Set once `option` answered "transmission". */
  negotiated: Negotiated | null = null;
  /** "Termination of the session during option haggling": the server is going down. */
  shuttingDown = false;
  /** TLS is there, or about to be. */
  secured = false;
  readonly #options: HandshakeOptions;
  readonly #reply = new ReplyWriter();
  #fixedNewstyle = false;
  #zeroes = true;
  #headers: HeaderStyle = "simple";
  /** The export for which base:allocation was selected last. */
  #contextFor: NbdExport | null = null;
  /** What a LIST under way has still to tell. */
  #listing: NbdExport[] = [];

  constructor(options: HandshakeOptions) {
    this.#options = options;
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
    this.#fixedNewstyle = (flags & ClientFlag.FIXED_NEWSTYLE) !== 0;
    this.#zeroes = (flags & ClientFlag.NO_ZEROES) === 0;
    return (flags & ~(ClientFlag.FIXED_NEWSTYLE | ClientFlag.NO_ZEROES)) === 0;
  }

  /** Bytes to send for the last option; valid until the next one or `continueReply`. */
  get reply(): Uint8Array {
    return this.#reply.written;
  }

  /** Puts the next part of a long answer into `reply`; false when it was all. */
  continueReply(): boolean {
    if (this.#listing.length === 0) return false;
    this.#reply.goOn();
    this.#listPart();
    return true;
  }

  /** An option whose data was longer than we take; it was skipped. */
  tooLong(option: number): Next {
    this.#reply.begin(option);
    const barred = this.#barred(option);
    if (barred !== null) return barred;
    switch (option) {
      case Option.EXPORT_NAME: // It has no error reply: the server must end the session.
        return "close";
      case Option.ABORT:
        return this.#abort();
      case Option.LIST:
      case Option.STARTTLS:
      case Option.STRUCTURED_REPLY:
      case Option.EXTENDED_HEADERS:
        return this.#refuse(Reply.ERR_INVALID, "unexpected option data");
      case Option.INFO:
      case Option.GO:
      case Option.LIST_META_CONTEXT:
        return this.#refuse(Reply.ERR_TOO_BIG, "option data too long");
      case Option.SET_META_CONTEXT:
        this.#contextFor = null;
        return this.#refuse(Reply.ERR_TOO_BIG, "option data too long");
      default:
        return this.#unknown();
    }
  }

  option(option: number, data: Uint8Array): Next {
    this.#reply.begin(option);
    const barred = this.#barred(option);
    if (barred !== null) return barred;
    switch (option) {
      case Option.EXPORT_NAME:
        return this.#exportName(data);
      case Option.ABORT:
        return this.#abort();
      case Option.LIST:
        return this.#list(data);
      case Option.STARTTLS:
        return this.#startTls(data);
      case Option.INFO:
      case Option.GO:
        return this.#info(option, data);
      case Option.STRUCTURED_REPLY:
      case Option.EXTENDED_HEADERS:
        return this.#headerStyle(option, data);
      case Option.LIST_META_CONTEXT:
      case Option.SET_META_CONTEXT:
        return this.#metaContext(option, data);
      default:
        return this.#unknown();
    }
  }

  /** What is refused whatever it says; null: nothing stands against it. */
  #barred(option: number): Next | null {
    if (option === Option.ABORT) return null;
    if (this.shuttingDown) {
      if (option === Option.EXPORT_NAME) return "close";
      return this.#refuse(Reply.ERR_SHUTDOWN, "the unit is going down");
    }
    const isForced = this.#options.tls === "forced" && !this.secured;
    if (!isForced || option === Option.STARTTLS) return null;
    if (option === Option.EXPORT_NAME) return "close";
    // NOTLS mode is all that a client without fixed newstyle may be offered.
    const type = this.#fixedNewstyle ? Reply.ERR_TLS_REQD : Reply.ERR_POLICY;
    return this.#refuse(type, "only over TLS");
  }

  #unknown(): Next {
    return this.#refuse(Reply.ERR_UNSUP, "option not supported");
  }

  #abort(): Next {
    this.#reply.add(Reply.ACK);
    return "finish";
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
    return this.#options.exports.find(decoder.decode(name), this.#options.peer);
  }

  /** Why an export may not be entered as the connection is now; null: it may. */
  #refusalOf({ tls }: NbdExport): Reply | null {
    if (this.secured) return tls === "off" ? Reply.ERR_POLICY : null;
    if (tls !== "required") return null;
    const offered = this.#options.tls !== "none" && this.#fixedNewstyle;
    return offered ? Reply.ERR_TLS_REQD : Reply.ERR_POLICY;
  }

  #enter(volume: NbdExport): Next {
    this.negotiated = {
      volume,
      headers: this.#headers,
      allocationContext: this.#contextFor === volume,
    };
    return "transmission";
  }

  #exportName(data: Uint8Array): Next {
    // EXTENDED_HEADERS: a client that has them must not use this option.
    if (this.#headers === "extended") return "close";
    const volume = data.length > STRING_BYTES_MAX ? null : this.#find(data);
    if (volume === null || this.#refusalOf(volume) !== null) return "close";
    const answer = new Uint8Array(EXPORT_REPLY.size + (this.#zeroes ? EXPORT_REPLY_ZEROES : 0));
    const view = EXPORT_REPLY.view().at(answer, 0);
    view.sizeBytes = volume.sizeBytes;
    view.flags = this.#flagsOf(volume);
    this.#reply.addRaw(answer);
    return this.#enter(volume);
  }

  #list(data: Uint8Array): Next {
    if (data.length > 0) return this.#refuse(Reply.ERR_INVALID, "unexpected option data");
    const { exports, peer } = this.#options;
    const all = exports.list(peer).filter((one) => this.#refusalOf(one) === null);
    this.#listing = all.reverse(); // taken from its end
    this.#listPart();
    return "option";
  }

  #listPart(): void {
    while (this.#reply.written.length < REPLY_PART_BYTES) {
      const next = this.#listing.pop();
      if (next === undefined) return this.#reply.add(Reply.ACK);
      const name = encoder.encode(next.name);
      const more = encoder.encode(next.description);
      const answer = new Uint8Array(4 + name.length + more.length);
      new DataView(answer.buffer).setUint32(0, name.length);
      answer.set(name, 4);
      answer.set(more, 4 + name.length);
      this.#reply.add(Reply.SERVER, answer);
    }
  }

  #startTls(data: Uint8Array): Next {
    if (data.length > 0) return this.#refuse(Reply.ERR_INVALID, "unexpected option data");
    if (this.secured) return this.#refuse(Reply.ERR_INVALID, "TLS is there already");
    if (this.#options.tls === "none" || !this.#fixedNewstyle) {
      return this.#refuse(Reply.ERR_POLICY, "no TLS here");
    }
    this.#reply.add(Reply.ACK);
    this.secured = true;
    this.#headers = "simple";
    this.#contextFor = null;
    return "secure";
  }

  #headerStyle(option: number, data: Uint8Array): Next {
    if (data.length > 0) return this.#refuse(Reply.ERR_INVALID, "unexpected option data");
    if (option === Option.EXTENDED_HEADERS) {
      this.#headers = "extended";
    } else if (this.#headers === "extended") {
      return this.#refuse(Reply.ERR_EXT_HEADER_REQD, "extended headers take precedence");
    } else {
      this.#headers = "structured";
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
    const refusal = this.#refusalOf(volume);
    if (refusal !== null) {
      return this.#refuse(refusal, this.secured ? "not over TLS" : "only over TLS");
    }
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
      flag.SEND_CACHE |
      (volume.multiConn ? flag.CAN_MULTI_CONN : 0) |
      (this.#headers === "simple" ? 0 : flag.SEND_DF) |
      (this.#headers === "extended" && this.#contextFor === volume ? flag.BLOCK_STATUS_PAYLOAD : 0)
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
    if (this.#headers === "simple") {
      return this.#refuse(Reply.ERR_INVALID, "negotiate structured replies first");
    }
    const volume = this.#find(name);
    if (volume === null || this.#refusalOf(volume) !== null)
      return this.#refuse(Reply.ERR_UNKNOWN, "no such export");
    const asked = queries.map((query) => decoder.decode(query));
    const listed = !sets && (asked.length === 0 || asked.includes(CONTEXT_WILDCARD));
    if (listed || asked.includes(CONTEXT_ALLOCATION)) {
      const context = encoder.encode(CONTEXT_ALLOCATION);
      const answer = new Uint8Array(4 + context.length);
      // "The metadata context ID in these replies is reserved" in a list.
      new DataView(answer.buffer).setUint32(0, sets ? CONTEXT_ID : 0);
      answer.set(context, 4);
      this.#reply.add(Reply.META_CONTEXT, answer);
      if (sets) this.#contextFor = volume;
    }
    return this.#accept();
  }
}
