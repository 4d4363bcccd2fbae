// SPDX-License-Identifier: Apache-2.0
//
// The other side of an NBD session, for tests: a host that negotiates, sends requests as bytes and
// takes replies apart, over a MemorySocket, against MemoryVolumes.

import { Memory } from "#base/memory.ts";
import { HostCredit } from "./credit.ts";
import type { NbdExport } from "./handshake.ts";
import { MemorySocket } from "./memory-socket-fixture.ts";
import { MemoryVolume } from "./memory-volume-fixture.ts";
import { CHUNK_MAGIC, Option, REQUEST_MAGIC, Reply, SIMPLE_REPLY_MAGIC } from "./nbd.wire.ts";
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
}

export interface HostOptions {
  arenaBytes?: number;
  memory?: Memory;
  credit?: HostCredit;
  volume?: MemoryVolume;
}

export class Host {
  readonly memory: Memory;
  readonly volume: MemoryVolume;
  readonly socket: MemorySocket;
  readonly session: NbdSession;
  readonly credit: HostCredit;
  readonly exported: { -readonly [K in keyof NbdExport]: NbdExport[K] };
  entered = 0;
  /** Reasons `finished` was called with. */
  readonly finished: string[] = [];
  structured = false;
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
      target: this.volume,
    };
    this.socket = new MemorySocket(this.memory, ALLOWED);
    const allowed = (address: string) => address === ALLOWED;
    this.session = new NbdSession(
      this.memory,
      {
        credit: this.credit,
        exports: {
          find: (name, from) => (allowed(from) && name === "vol" ? this.exported : null),
          list: (from) => (allowed(from) ? [this.exported] : []),
        },
      },
      {
        entered: () => this.entered++,
        finished: (_, reason) => this.finished.push(reason),
      },
      this.socket,
    );
    this.socket.turn();
  }

  /** Sends bytes and answers what came back. */
  exchange(bytes: Uint8Array): Buffer {
    this.socket.arrive(bytes);
    this.socket.turn();
    return this.socket.takeSent();
  }

  /** Greeting, flags, GO; with structured replies and base:allocation if asked for. */
  negotiate(options: { structured: boolean }): this {
    this.socket.takeSent();
    this.exchange(u32s(3));
    this.structured = options.structured;
    if (options.structured) {
      this.exchange(option(Option.STRUCTURED_REPLY));
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
        const reads = error === 0 && !this.structured ? (this.#readLengths.get(cookie) ?? 0) : 0;
        const data = bytes.subarray(at + 16, at + 16 + reads);
        this.#readLengths.delete(cookie);
        answers.push({ cookie, error, chunk: null, data });
        at += 16 + reads;
      } else if (magic === CHUNK_MAGIC) {
        const length = bytes.readUInt32BE(at + 16);
        const chunk = bytes.readUInt16BE(at + 6);
        const data = bytes.subarray(at + 20, at + 20 + length);
        const error = chunk >= 0x8000 ? data.readUInt32BE(0) : 0;
        answers.push({ cookie: bytes.readUInt32BE(at + 12), error, chunk, data });
        at += 20 + length;
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
  offset?: number;
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
