// SPDX-License-Identifier: Apache-2.0
//
// An NBD client that says exactly what it is told, right or wrong, over a real connection; for
// checks that no well-behaved client makes.

import { EventEmitter, once } from "node:events";
import type { Socket } from "bun";
import type { RequestOptions } from "#protocol/nbd/host-fixture.ts";
import type { HeaderStyle } from "#protocol/nbd/handshake.ts";
import {
  extendedRequestBytes,
  infoData,
  option,
  requestBytes,
  text,
  u32s,
} from "#protocol/nbd/host-fixture.ts";
import {
  CHUNK_MAGIC,
  Command,
  EXTENDED_CHUNK_MAGIC,
  Option,
  Reply,
  SIMPLE_REPLY_MAGIC,
} from "#protocol/nbd/nbd.wire.ts";

/** Longest wait for an answer; a server that owes one fails the check. */
const ANSWER_MS = 5000;

/** Where it connects, and the export it asks for. */
export interface RawPlace {
  host: string;
  port: number;
  name: string;
}

export interface RawReply {
  error: number;
  chunks: { type: number; data: Buffer }[];
  /** Of a read: the bytes, zero where a hole was told. */
  data: Buffer;
}

export class RawClient implements Disposable {
  #socket: Socket | null = null;
  #received = Buffer.alloc(0);
  #secured: Socket | null = null;
  #unsent = Buffer.alloc(0);
  #ended = false;
  readonly #events = new EventEmitter();
  #headers: HeaderStyle = "simple";
  flags = 0;
  sizeBytes = 0;

  static async open(place: RawPlace): Promise<RawClient> {
    const client = new RawClient();
    const socket = client.#handler;
    client.#socket = await Bun.connect({ hostname: place.host, port: place.port, socket });
    return client;
  }

  get #handler(): Bun.SocketHandler<undefined> {
    return {
      data: (socket, bytes) => {
        // What TLS took from below is told too.
        if (this.#secured !== null && socket !== this.#secured) return;
        this.#received = Buffer.concat([this.#received, bytes]);
        this.#events.emit("change");
      },
      drain: () => this.#flush(),
      close: () => {
        this.#ended = true;
        this.#events.emit("change");
      },
      error: () => {},
    };
  }

  /** Begins TLS after STARTTLS was acknowledged. */
  async secure(tls: Bun.TLSOptions): Promise<void> {
    let isDone = false;
    const socket = {
      ...this.#handler,
      handshake: (_: Socket, success: boolean) => {
        isDone = success;
        this.#events.emit("change");
      },
    };
    const [, secured] = (this.#socket as Socket).upgradeTLS({ tls, socket } as never);
    this.#secured = secured as unknown as Socket;
    this.#socket = this.#secured;
    while (!isDone) {
      if (this.#ended) throw new Error("TLS failed");
      await this.#change();
    }
  }

  /** Takes nothing more: its receive window fills up. */
  stopReading(): void {
    this.#socket?.pause();
  }

  /** A read nobody waits for. */
  sendRead(fields: RequestOptions): void {
    this.send(requestBytes(Command.READ, fields));
  }

  #flush(): void {
    if (this.#unsent.length === 0) return;
    const took = Math.max(0, this.#socket?.write(this.#unsent) ?? 0);
    this.#unsent = this.#unsent.subarray(took);
  }

  /** Greeting and flags done. */
  static async haggling(place: RawPlace, flags = 3): Promise<RawClient> {
    const client = await RawClient.open(place);
    await client.take(18);
    client.send(u32s(flags));
    return client;
  }

  /** In transmission. */
  static async entered(
    place: RawPlace,
    options: { headers: HeaderStyle; name?: string },
  ): Promise<RawClient> {
    const client = await RawClient.haggling(place);
    const name = options.name ?? place.name;
    const { headers } = options;
    if (headers !== "simple") {
      const isExtended = headers === "extended";
      await client.ask(isExtended ? Option.EXTENDED_HEADERS : Option.STRUCTURED_REPLY);
      const context = Buffer.concat([text(name), u32s(1), text("base:allocation")]);
      await client.ask(Option.SET_META_CONTEXT, context);
      client.#headers = headers;
    }
    const replies = await client.ask(Option.GO, infoData(name));
    const info = replies.find(
      ({ type, data }) => type === Reply.INFO && data.readUInt16BE(0) === 0,
    );
    if (info === undefined) throw new Error("GO was refused");
    client.sizeBytes = Number(info.data.readBigUInt64BE(2));
    client.flags = info.data.readUInt16BE(10);
    return client;
  }

  [Symbol.dispose](): void {
    this.#socket?.end();
  }

  /** Cuts the connection without a word. */
  terminate(): void {
    this.#socket?.terminate();
  }

  /** What the kernel does not take at once goes when it takes more. */
  send(bytes: Uint8Array): void {
    this.#unsent = Buffer.concat([this.#unsent, bytes]);
    this.#flush();
  }

  async take(length: number): Promise<Buffer> {
    while (this.#received.length < length) {
      if (this.#ended) throw new Error("the server ended the connection");
      await this.#change();
    }
    const taken = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return taken;
  }

  /** Resolves when the server ends the connection. */
  async ended(): Promise<void> {
    while (!this.#ended) await this.#change();
  }

  async #change(): Promise<void> {
    await once(this.#events, "change", { signal: AbortSignal.timeout(ANSWER_MS) });
  }

  /** Sends an option and takes all its replies. */
  async ask(number: number, data?: Uint8Array): Promise<{ type: number; data: Buffer }[]> {
    this.send(option(number, data));
    const replies: { type: number; data: Buffer }[] = [];
    for (let last = 0; last !== Reply.ACK && last < 0x80000000;) {
      const head = await this.take(20);
      if (head.readBigUInt64BE(0) !== 0x3e889045565a9n) throw new Error("no option reply");
      if (head.readUInt32BE(8) !== number) throw new Error("a reply to another option");
      last = head.readUInt32BE(12);
      replies.push({ type: last, data: await this.take(head.readUInt32BE(16)) });
    }
    return replies;
  }

  /** Sends one request, the only one under way, and takes its whole reply. */
  async request(type: number, fields: RequestOptions = {}): Promise<RawReply> {
    const cookie = 0x01020304;
    const bytes = this.#headers === "extended" ? extendedRequestBytes : requestBytes;
    this.send(bytes(type, { ...fields, cookie }));
    return this.#reply(type, fields, cookie);
  }

  async #reply(type: number, fields: RequestOptions, cookie: number): Promise<RawReply> {
    const { length = 0 } = fields;
    const offset = fields.offset ?? 0;
    const reply: RawReply = { error: 0, chunks: [], data: Buffer.alloc(0) };
    if (type === Command.READ) reply.data = Buffer.alloc(length);
    for (;;) {
      const magic = (await this.take(4)).readUInt32BE(0);
      if (magic === SIMPLE_REPLY_MAGIC) {
        const head = await this.take(12);
        reply.error = head.readUInt32BE(0);
        if (head.readUInt32BE(8) !== cookie) throw new Error("a reply to another request");
        const reads = type === Command.READ && reply.error === 0;
        if (this.#headers === "extended") throw new Error("a simple reply");
        if (reads && this.#headers !== "simple") throw new Error("a simple reply to a read");
        if (reads) reply.data = await this.take(length);
        return reply;
      }
      const isExtended = this.#headers === "extended";
      if (magic !== (isExtended ? EXTENDED_CHUNK_MAGIC : CHUNK_MAGIC)) throw new Error("no reply");
      if (this.#headers === "simple") throw new Error("a chunk that was not negotiated");
      const head = await this.take(isExtended ? 28 : 16);
      if (head.readUInt32BE(8) !== cookie) throw new Error("a reply to another request");
      if (isExtended && head.readBigUInt64BE(12) !== BigInt(offset)) {
        throw new Error("a reply to another offset");
      }
      const bytes = isExtended ? Number(head.readBigUInt64BE(20)) : head.readUInt32BE(12);
      const chunk = { type: head.readUInt16BE(2), data: await this.take(bytes) };
      reply.chunks.push(chunk);
      if (chunk.type >= 0x8000) reply.error = chunk.data.readUInt32BE(0);
      if (chunk.type === 1) {
        chunk.data.copy(reply.data, Number(chunk.data.readBigUInt64BE(0)) - Number(offset), 8);
      }
      if ((head.readUInt16BE(0) & 1) !== 0) return reply;
    }
  }
}
