// SPDX-License-Identifier: Apache-2.0
//
// The other side of an NBD session, for tests: a host that negotiates, sends requests as bytes and
// takes replies apart, over a MemorySocket, against MemoryVolumes.

import { Memory } from "#base/memory.ts";
import { HostCredit } from "./credit.ts";
import type { HeaderStyle, NbdExport, TlsMode } from "./handshake.ts";
import { MemorySocket } from "./memory-socket-fixture.ts";
import { MemoryVolume } from "./memory-volume-fixture.ts";
import {
  CHUNK_MAGIC,
  Command,
  CommandFlag,
  EXTENDED_CHUNK_MAGIC,
  EXTENDED_REQUEST_MAGIC,
  Option,
  REQUEST_MAGIC,
  Reply,
  SIMPLE_REPLY_MAGIC,
} from "./nbd.wire.ts";
import { NbdSession } from "./session.ts";

export const VOLUME_BYTES = 1 << 20;
export const ALLOWED = "192.0.2.7";

export interface Answer {
  cookie: number;
  error: number;
  /** Of a structured reply. */
  chunk: number | null;
  /** Payload behind the head of the reply. */
  data: Buffer;
  /** Of an extended reply: what it says of the request's offset. */
  offset?: bigint;
}

export interface HostOptions {
  arenaBytes?: number;
  memory?: Memory;
  credit?: HostCredit;
  volume?: MemoryVolume;
  tls?: TlsMode;
  address?: string;
}

export class Host {
  readonly memory: Memory;
  readonly volume: MemoryVolume;
  /** With TLS begun, the one that carries the plain side. */
  socket: MemorySocket;
  readonly session: NbdSession;
  readonly credit: HostCredit;
  readonly exported: { -readonly [K in keyof NbdExport]: NbdExport[K] };
  entered = 0;
  /** Reasons `finished` was called with. */
  readonly finished: string[] = [];
  headers: HeaderStyle = "simple";
  /** What the session wants done in a later turn. */
  readonly deferred: (() => void)[] = [];
  /** What LIST tells instead of the one export. */
  listed: NbdExport[] | null = null;
  /** TLS cannot be had. */
  withoutTls = false;
  /** Lengths of simple read replies by cookie: they do not tell. */
  readonly #readLengths = new Map<number, number>();

  constructor(options: HostOptions = {}) {
    this.memory = options.memory ?? new Memory(new ArrayBuffer(options.arenaBytes ?? 8 << 20));
    this.credit = options.credit ?? new HostCredit(64 << 20);
    this.volume = options.volume ?? new MemoryVolume(this.memory, VOLUME_BYTES);
    this.exported = {
      name: "vol",
      description: "a test volume",
      sizeBytes: VOLUME_BYTES,
      readOnly: false,
      multiConn: true,
      tls: "optional",
      target: this.volume,
    };
    const address = options.address ?? ALLOWED;
    this.socket = new MemorySocket(this.memory, address);
    const allowed = (from: string) => from === address;
    this.session = new NbdSession(
      this.memory,
      {
        credit: this.credit,
        tls: options.tls ?? "none",
        defer: (act) => void this.deferred.push(act),
        exports: {
          find: (name, from) => (allowed(from.address) && name === "vol" ? this.exported : null),
          list: (from) => (allowed(from.address) ? (this.listed ?? [this.exported]) : []),
        },
      },
      {
        entered: () => this.entered++,
        secure: (socket, done) =>
          socket.detach((handle) => {
            if (handle === null || this.withoutTls) return done(null, null);
            this.socket = new MemorySocket(this.memory, address);
            done(this.socket, null);
          }),
        finished: (_, reason) => this.finished.push(reason),
      },
      this.socket,
    );
    this.socket.turn();
  }

  /** Sends bytes and answers what came back. */
  exchange(bytes: Uint8Array): Buffer {
    this.socket.arrive(bytes);
    this.turn();
    return this.socket.takeSent();
  }

  /** Turns of the loop until nothing more happens, what was deferred included. */
  turn(): void {
    this.socket.turn();
    while (this.deferred.length > 0) {
      for (const act of this.deferred.splice(0)) act();
      this.socket.turn();
    }
  }

  /** Greeting, flags, GO; with chunks and base:allocation if asked for. */
  negotiate(headers: HeaderStyle): this {
    this.socket.takeSent();
    this.exchange(u32s(3));
    this.headers = headers;
    if (headers !== "simple") {
      const isExtended = headers === "extended";
      this.exchange(option(isExtended ? Option.EXTENDED_HEADERS : Option.STRUCTURED_REPLY));
      const context = Buffer.concat([text("vol"), u32s(1), text("base:allocation")]);
      this.exchange(option(Option.SET_META_CONTEXT, context));
    }
    const replies = splitOptionReplies(this.exchange(option(Option.GO, infoData("vol"))));
    if (replies.at(-1)?.type !== Reply.ACK) throw new Error("GO was refused");
    return this;
  }

  /** Sends one request and answers the replies that came. */
  request(type: number, fields: RequestOptions = {}): Answer[] {
    return this.answers(this.exchange(this.bytes(type, fields)));
  }

  bytes(type: number, fields: RequestOptions = {}): Buffer {
    const { cookie = 1, length = fields.payload?.length ?? 0 } = fields;
    if (type === 0) this.#readLengths.set(cookie, length);
    if (this.headers === "extended") return extendedRequestBytes(type, fields);
    return requestBytes(type, fields);
  }

  /** Takes replies apart. */
  answers(bytes: Buffer): Answer[] {
    const answers: Answer[] = [];
    for (let at = 0; at < bytes.length;) {
      const magic = bytes.readUInt32BE(at);
      if (magic === SIMPLE_REPLY_MAGIC) {
        const error = bytes.readUInt32BE(at + 4);
        const cookie = bytes.readUInt32BE(at + 12);
        const reads =
          error === 0 && this.headers === "simple" ? (this.#readLengths.get(cookie) ?? 0) : 0;
        const data = bytes.subarray(at + 16, at + 16 + reads);
        this.#readLengths.delete(cookie);
        answers.push({ cookie, error, chunk: null, data });
        at += 16 + reads;
      } else if (magic === CHUNK_MAGIC || magic === EXTENDED_CHUNK_MAGIC) {
        const isExtended = magic === EXTENDED_CHUNK_MAGIC;
        if (isExtended !== (this.headers === "extended")) throw new Error("another kind of chunk");
        const head = isExtended ? 32 : 20;
        const length = isExtended
          ? Number(bytes.readBigUInt64BE(at + 24))
          : bytes.readUInt32BE(at + 16);
        const chunk = bytes.readUInt16BE(at + 6);
        const data = bytes.subarray(at + head, at + head + length);
        const error = chunk >= 0x8000 ? data.readUInt32BE(0) : 0;
        const answer = { cookie: bytes.readUInt32BE(at + 12), error, chunk, data };
        answers.push(isExtended ? { ...answer, offset: bytes.readBigUInt64BE(at + 16) } : answer);
        at += head + length;
      } else {
        throw new Error(`no reply at ${at}`);
      }
    }
    return answers;
  }
}

export interface RequestOptions {
  flags?: number;
  cookie?: number;
  offset?: number | bigint;
  length?: number;
  payload?: Uint8Array;
}

export function requestBytes(type: number, fields: RequestOptions = {}): Buffer {
  const { flags = 0, cookie = 1, offset = 0, payload = new Uint8Array(0) } = fields;
  const head = Buffer.alloc(28);
  head.writeUInt32BE(REQUEST_MAGIC, 0);
  head.writeUInt16BE(flags, 4);
  head.writeUInt16BE(type, 6);
  head.writeUInt32BE(cookie, 12);
  head.writeBigUInt64BE(BigInt(offset), 16);
  head.writeUInt32BE(fields.length ?? payload.length, 24);
  return Buffer.concat([head, payload]);
}

/** With EXTENDED_HEADERS; PAYLOAD_LEN is set where there is a payload, or for any write. */
export function extendedRequestBytes(type: number, fields: RequestOptions = {}): Buffer {
  const { flags = 0, cookie = 1, offset = 0, payload = new Uint8Array(0) } = fields;
  const pays = payload.length > 0 || type === Command.WRITE;
  const head = Buffer.alloc(32);
  head.writeUInt32BE(EXTENDED_REQUEST_MAGIC, 0);
  head.writeUInt16BE(flags | (pays ? CommandFlag.PAYLOAD_LEN : 0), 4);
  head.writeUInt16BE(type, 6);
  head.writeUInt32BE(cookie, 12);
  head.writeBigUInt64BE(BigInt(offset), 16);
  head.writeBigUInt64BE(BigInt(fields.length ?? payload.length), 24);
  return Buffer.concat([head, payload]);
}

export function u32s(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value, index * 4);
  return bytes;
}

/** A string as options carry it. */
export function text(value: string): Buffer {
  return Buffer.concat([u32s(Buffer.byteLength(value)), Buffer.from(value)]);
}

export function option(number: number, data: Uint8Array = new Uint8Array(0)): Buffer {
  return Buffer.concat([Buffer.from("IHAVEOPT"), u32s(number, data.length), data]);
}

/** Data of INFO and GO. */
export function infoData(name: string, ...requests: number[]): Buffer {
  const bytes = Buffer.alloc(2 + 2 * requests.length);
  bytes.writeUInt16BE(requests.length, 0);
  for (const [index, request] of requests.entries()) bytes.writeUInt16BE(request, 2 + 2 * index);
  return Buffer.concat([text(name), bytes]);
}

export function splitOptionReplies(bytes: Buffer): { type: number; data: Buffer }[] {
  const replies: { type: number; data: Buffer }[] = [];
  for (let at = 0; at < bytes.length;) {
    if (bytes.readBigUInt64BE(at) !== 0x3e889045565a9n) throw new Error("no option reply");
    const length = bytes.readUInt32BE(at + 16);
    replies.push({
      type: bytes.readUInt32BE(at + 12),
      data: bytes.subarray(at + 20, at + 20 + length),
    });
    at += 20 + length;
  }
  return replies;
}
