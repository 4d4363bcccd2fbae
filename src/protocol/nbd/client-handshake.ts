// SPDX-License-Identifier: Apache-2.0
//
// The host's side of the negotiation, as far as a host that hands the connection to its kernel
// needs it: fixed newstyle, STARTTLS where wanted, GO, no structured replies (the kernel's client
// knows none). Sections in quotes are doc/proto.md's (nbd.wire.ts). Bytes in, bytes out, no I/O.
//
// Invariants
// - Nothing is taken before its length is known and meets its maximum.
// - After the last byte of the negotiation nothing may be left over: what follows is the kernel's,
//   and a byte before TLS that follows STARTTLS could come from anybody.

import type { View } from "#base/wire.ts";
import {
  CLIENT_FLAGS,
  ClientFlag,
  GREETING,
  HandshakeFlag,
  INFO_BLOCK_SIZE,
  INFO_EXPORT,
  INIT_MAGIC,
  Info,
  OPTION,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_MAGIC,
  Option,
  Reply,
  STRING_BYTES_MAX,
} from "./nbd.wire.ts";

/** A reply to an option is no longer: descriptions and messages are strings of "Values". */
const REPLY_BYTES_MAX = STRING_BYTES_MAX + 256;
/** Replies of information before the end of GO. */
const REPLIES_MAX = 64;
/** Of a block, where the server says nothing: "Block size constraints". */
const BLOCK_BYTES_USUAL = 512;

/** What the server says of the export. */
export interface Export {
  sizeBytes: number;
  /** Transmission flags. */
  flags: number;
  blockBytesMin: number;
}

/**
 * `more`: bytes are awaited. `secure`: TLS begins now, on this connection; call `secured` then.
 * `refused`: in the server's words or ours, and whether TLS is what it asks for.
 */
export type HandshakeStep =
  | { kind: "more" }
  | { kind: "secure" }
  | { kind: "chosen"; chosen: Export }
  | { kind: "refused"; reason: "unknown" | "tls" | "shutdown" | "other"; sentence: string };

const MORE: HandshakeStep = { kind: "more" };
type Phase = "greeting" | "tls" | "securing" | "go" | "over";

export class ClientHandshake {
  readonly #name: Uint8Array;
  readonly #wantsTls: boolean;
  readonly #reply: View<typeof OPTION_REPLY.rows> = OPTION_REPLY.view();
  #phase: Phase = "greeting";
  #held: Uint8Array = new Uint8Array(0);
  #out: Uint8Array<ArrayBuffer>[] = [];
  #replies = 0;
  #export: Export | null = null;
  #blockBytesMin = BLOCK_BYTES_USUAL;

  /** `name`: of the export, at most STRING_BYTES_MAX bytes of UTF-8. */
  constructor(name: string, options: { tls: boolean }) {
    this.#name = new TextEncoder().encode(name);
    this.#wantsTls = options.tls;
  }

  /** What is to be sent now, in order; empty when there is nothing. */
  take(): Uint8Array<ArrayBuffer>[] {
    const out = this.#out;
    this.#out = [];
    return out;
  }

  /** What came from the server. */
  receive(bytes: Uint8Array): HandshakeStep {
    if (this.#phase === "over" || this.#phase === "securing")
      return this.#odd("speaks out of turn");
    this.#held = joined(this.#held, bytes);
    for (;;) {
      const step = this.#phase === "greeting" ? this.#greeting() : this.#answer();
      if (step === null) return MORE;
      if (step.kind === "more") continue;
      const isEarly = step.kind !== "refused" && this.#held.length > 0;
      if (isEarly) return this.#odd("sent bytes behind its last answer");
      if (step.kind !== "secure") this.#phase = "over";
      return step;
    }
  }

  /** TLS is there: the rest of the negotiation goes over it. */
  secured(): void {
    this.#phase = "go";
    this.#askFor(Option.GO);
  }

  /** Null: not enough bytes yet. */
  #greeting(): HandshakeStep | null {
    if (this.#held.length < GREETING.size) return null;
    const view = GREETING.view().at(this.#cut(GREETING.size), 0);
    const isNbd = view.initHigh === INIT_MAGIC[0] && view.initLow === INIT_MAGIC[1];
    const isNew = view.optionHigh === OPTION_MAGIC[0] && view.optionLow === OPTION_MAGIC[1];
    if (!isNbd || !isNew) return this.#odd("does not speak NBD's newstyle");
    if ((view.flags & HandshakeFlag.FIXED_NEWSTYLE) === 0) return this.#odd("is too old");
    const flags = new Uint8Array(CLIENT_FLAGS.size);
    const noZeroes = view.flags & HandshakeFlag.NO_ZEROES ? ClientFlag.NO_ZEROES : 0;
    CLIENT_FLAGS.view().at(flags, 0).flags = ClientFlag.FIXED_NEWSTYLE | noZeroes;
    this.#out.push(flags);
    this.#phase = this.#wantsTls ? "tls" : "go";
    this.#askFor(this.#wantsTls ? Option.STARTTLS : Option.GO);
    return MORE;
  }

  #askFor(option: number): void {
    // "NBD_OPT_GO": length of the name, the name, number of information requests.
    const name = this.#name;
    const data = option === Option.GO ? new Uint8Array(4 + name.length + 4) : new Uint8Array(0);
    if (option === Option.GO) {
      const view = new DataView(data.buffer);
      view.setUint32(0, name.length);
      data.set(name, 4);
      view.setUint16(4 + name.length, 1);
      view.setUint16(4 + name.length + 2, Info.BLOCK_SIZE);
    }
    const head = new Uint8Array(OPTION.size);
    const view = OPTION.view().at(head, 0);
    [view.magicHigh, view.magicLow] = OPTION_MAGIC;
    view.option = option;
    view.length = data.length;
    this.#out.push(head, data);
  }

  #answer(): HandshakeStep | null {
    if (this.#held.length < OPTION_REPLY.size) return null;
    const reply = this.#reply.at(this.#held, 0);
    const { magicHigh, magicLow, option, type, length } = reply;
    if (magicHigh !== OPTION_REPLY_MAGIC[0] || magicLow !== OPTION_REPLY_MAGIC[1]) {
      return this.#odd("answers with a wrong magic number");
    }
    if (length > REPLY_BYTES_MAX) return this.#odd(`answers with ${length} bytes`);
    if (this.#held.length < OPTION_REPLY.size + length) return null;
    this.#cut(OPTION_REPLY.size);
    const data = this.#cut(length);
    if (++this.#replies > REPLIES_MAX) return this.#odd("answers without an end");
    const isAsked = option === (this.#phase === "tls" ? Option.STARTTLS : Option.GO);
    if (!isAsked) return this.#odd("answers another option");
    if (type >= 0x80000000) return refusal(type, data);
    if (type === Reply.ACK) return this.#acknowledged();
    if (type === Reply.INFO && this.#phase === "go") return this.#told(data);
    return this.#odd(`answers by reply ${type}`);
  }

  #acknowledged(): HandshakeStep {
    if (this.#phase === "tls") {
      this.#phase = "securing";
      return { kind: "secure" };
    }
    const chosen = this.#export;
    if (chosen === null) return this.#odd("does not say how large the export is");
    return { kind: "chosen", chosen: { ...chosen, blockBytesMin: this.#blockBytesMin } };
  }

  #told(data: Uint8Array): HandshakeStep {
    if (data.length < 2) return this.#odd("tells nothing");
    const kind = (data[0] as number) * 256 + (data[1] as number);
    if (kind === Info.EXPORT) {
      if (data.length !== INFO_EXPORT.size) return this.#odd("tells the size in a wrong length");
      const { sizeBytes, flags } = INFO_EXPORT.view().at(data, 0);
      if (!Number.isSafeInteger(sizeBytes)) return this.#odd("tells a size past 2^53");
      this.#export = { sizeBytes, flags, blockBytesMin: BLOCK_BYTES_USUAL };
    }
    if (kind === Info.BLOCK_SIZE) {
      if (data.length !== INFO_BLOCK_SIZE.size) return this.#odd("tells block sizes wrongly");
      const { minimumBytes } = INFO_BLOCK_SIZE.view().at(data, 0);
      const isPower = minimumBytes > 0 && (minimumBytes & (minimumBytes - 1)) === 0;
      if (!isPower || minimumBytes > 65536) return this.#odd(`has blocks of ${minimumBytes} bytes`);
      this.#blockBytesMin = minimumBytes;
    }
    return MORE;
  }

  #odd(what: string): HandshakeStep {
    this.#phase = "over";
    return { kind: "refused", reason: "other", sentence: `the server ${what}` };
  }

  #cut(lengthBytes: number): Uint8Array {
    const head = this.#held.slice(0, lengthBytes);
    this.#held = this.#held.subarray(lengthBytes);
    return head;
  }
}

const REASONS = new Map<number, "unknown" | "tls" | "shutdown">([
  [Reply.ERR_UNKNOWN, "unknown"],
  [Reply.ERR_TLS_REQD, "tls"],
  [Reply.ERR_SHUTDOWN, "shutdown"],
]);

function refusal(type: number, data: Uint8Array): HandshakeStep {
  const said = new TextDecoder()
    .decode(data)
    .replaceAll(/\p{Cc}/gu, "?")
    .slice(0, 200);
  const code = `0x${type.toString(16)}`;
  const sentence = `the server refuses (${said === "" ? code : `${code}: ${said}`})`;
  return { kind: "refused", reason: REASONS.get(type) ?? "other", sentence };
}

function joined(left: Uint8Array, right: Uint8Array): Uint8Array {
  if (left.length === 0) return right.slice();
  const both = new Uint8Array(left.length + right.length);
  both.set(left, 0);
  both.set(right, left.length);
  return both;
}
