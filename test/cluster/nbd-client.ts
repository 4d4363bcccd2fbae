// SPDX-License-Identifier: Apache-2.0
//
// A small NBD client of our own for probes and loads: fixed newstyle, GO, simple replies, several
// requests at a time. It shares no code with the server it judges. Sections in quotes are of
// https://github.com/NetworkBlockDevice/nbd, doc/proto.md.
//
// A connection is used once: whatever goes wrong ends it, and every request under way then fails
// with Lost, which says nothing about whether a write took effect.

import type { Socket } from "bun";

// "Newstyle negotiation", "Option types", "Option reply types"
const GREETING_BYTES = 18;
const FIXED_NEWSTYLE_NO_ZEROES = 3;
const OPTION_MAGIC = 0x49484156454f5054n;
const OPTION_REPLY_MAGIC = 0x0003e889045565a9n;
const OPTION_GO = 7;
const OPTION_REPLY_BYTES = 20;
const REPLY_ACK = 1;
const REPLY_INFO = 3;
const REPLY_BYTES_MAX = 4096;
// "Request types", "Request message", "Simple reply message"
const REQUEST_MAGIC = 0x25609513;
const REQUEST_BYTES = 28;
const SIMPLE_REPLY_MAGIC = 0x67446698;
const SIMPLE_REPLY_BYTES = 16;
export const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4 } as const;

/** The connection ended or never was: the outcome of what was under way is unknown. */
export class Lost extends Error {
  override name = "Lost";
}

/** The server answered with an error: nothing to be retried on this connection's account. */
export class Errno extends Error {
  override name = "Errno";
  readonly number: number;
  constructor(number: number) {
    super(`the server answered error ${number}`);
    this.number = number;
  }
}

export interface NbdAddress {
  host: string;
  port: number;
  name: string;
}

export function nbdAddress(uri: string): NbdAddress {
  const { hostname, port, pathname } = new URL(uri);
  return {
    host: hostname.replace(/^\[|\]$/g, ""),
    port: port === "" ? 10809 : Number(port),
    name: decodeURIComponent(pathname.slice(1)),
  };
}

interface Waiting {
  readBytes: number;
  done: (data: Buffer) => void;
  failed: (reason: Error) => void;
}

export class NbdClient implements Disposable {
  #socket: Socket | null = null;
  /** Received and not taken yet. */
  #chunks: Buffer[] = [];
  #chunkBytes = 0;
  /** Not yet taken by the kernel. */
  #outgoing: Buffer[] = [];
  readonly #waiting = new Map<number, Waiting>();
  #nextCookie = 1;
  #lost: Lost | null = null;
  #negotiation: ((step: Buffer | Lost) => void) | null = null;
  #wantedBytes = GREETING_BYTES;
  #entered = false;
  sizeBytes = 0;

  /** In transmission within `limitMs`, or Lost. */
  static async open(address: NbdAddress, limitMs: number): Promise<NbdClient> {
    const client = new NbdClient();
    const timer = setTimeout(() => client.#lose(`no answer within ${limitMs} ms`), limitMs);
    try {
      await client.#connect(address);
      await client.#negotiate(address.name);
      return client;
    } catch (error) {
      client.#lose("the negotiation failed");
      if (error instanceof Lost || error instanceof Errno) throw error;
      throw new Lost(error instanceof Error ? error.message : String(error));
    } finally {
      clearTimeout(timer);
    }
  }

  get lost(): boolean {
    return this.#lost !== null;
  }

  write(offsetBytes: number, data: Buffer): Promise<Buffer> {
    return this.#request(COMMAND.write, { offsetBytes, lengthBytes: data.length, data });
  }
  read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    return this.#request(COMMAND.read, { offsetBytes, lengthBytes });
  }
  flush(): Promise<Buffer> {
    return this.#request(COMMAND.flush, { offsetBytes: 0, lengthBytes: 0 });
  }

  /** Ends it the polite way; the server finishes what it was sent. */
  close(): void {
    if (this.#entered && this.#lost === null) {
      this.#send(requestHead(COMMAND.disconnect, 0, { offsetBytes: 0, lengthBytes: 0 }));
    }
    this.#lose("closed by us");
  }
  /** Ends it at once, as a host that dies. */
  abandon(reason: string): void {
    this.#lose(reason);
  }
  /** As `abandon`, by a host that waits no longer than this. */
  abandonAfter(patienceMs: number): void {
    setTimeout(() => this.abandon("silent for too long"), patienceMs);
  }
  [Symbol.dispose](): void {
    this.close();
  }

  #request(
    type: number,
    fields: { offsetBytes: number; lengthBytes: number; data?: Buffer },
  ): Promise<Buffer> {
    return new Promise((done, failed) => {
      if (this.#lost !== null) return failed(this.#lost);
      const cookie = this.#nextCookie++;
      const readBytes = type === COMMAND.read ? fields.lengthBytes : 0;
      this.#waiting.set(cookie, { readBytes, done, failed });
      this.#send(requestHead(type, cookie, fields));
      if (fields.data !== undefined) this.#send(fields.data);
    });
  }

  async #connect({ host, port }: NbdAddress): Promise<void> {
    const opening = Bun.connect({
      hostname: host,
      port,
      socket: {
        data: (_, bytes) => this.#received(bytes),
        drain: () => this.#drain(),
        close: () => this.#lose("the server ended the connection"),
        error: (_, error) => this.#lose(error.message),
      },
    });
    const limited = new Promise<never>((_, failed) => {
      this.#negotiation = (step) => {
        if (step instanceof Lost) failed(step);
      };
    });
    // A connection that comes too late is ended where it arrives.
    void opening.then(
      (socket) => {
        if (this.#lost !== null) socket.terminate();
      },
      () => this.#lose("no connection"),
    );
    this.#socket = await Promise.race([opening, limited]);
    this.#socket.setNoDelay(true);
  }

  async #negotiate(name: string): Promise<void> {
    await this.#take(GREETING_BYTES);
    const flags = Buffer.alloc(4);
    flags.writeUInt32BE(FIXED_NEWSTYLE_NO_ZEROES);
    this.#send(flags);
    const bytes = Buffer.from(name);
    const go = Buffer.alloc(16 + 4 + bytes.length + 2);
    go.writeBigUInt64BE(OPTION_MAGIC, 0);
    go.writeUInt32BE(OPTION_GO, 8);
    go.writeUInt32BE(4 + bytes.length + 2, 12);
    go.writeUInt32BE(bytes.length, 16);
    bytes.copy(go, 20);
    this.#send(go);
    for (;;) {
      const head = await this.#take(OPTION_REPLY_BYTES);
      if (head.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC) throw new Lost("no option reply");
      const type = head.readUInt32BE(12);
      const length = head.readUInt32BE(16);
      if (length > REPLY_BYTES_MAX) throw new Lost("an option reply of unlikely length");
      const data = length === 0 ? Buffer.alloc(0) : await this.#take(length);
      if (type >= 0x80000000) throw new Lost(`GO was refused: ${data.toString("utf8")}`);
      if (type === REPLY_INFO && data.readUInt16BE(0) === 0) {
        this.sizeBytes = Number(data.readBigUInt64BE(2));
      }
      if (type === REPLY_ACK) break;
    }
    this.#entered = true;
    this.#dispatch();
  }

  #take(lengthBytes: number): Promise<Buffer> {
    return new Promise((done, failed) => {
      if (this.#lost !== null) return failed(this.#lost);
      this.#wantedBytes = lengthBytes;
      this.#negotiation = (step) => (step instanceof Lost ? failed(step) : done(step));
      this.#offer();
    });
  }

  #offer(): void {
    if (this.#chunkBytes < this.#wantedBytes || this.#negotiation === null) return;
    const give = this.#negotiation;
    this.#negotiation = null;
    give(this.#remove(this.#wantedBytes));
  }

  #received(bytes: Buffer): void {
    this.#chunks.push(Buffer.from(bytes));
    this.#chunkBytes += bytes.length;
    if (this.#entered) this.#dispatch();
    else this.#offer();
  }

  #dispatch(): void {
    while (this.#chunkBytes >= SIMPLE_REPLY_BYTES) {
      const head = this.#peek(SIMPLE_REPLY_BYTES);
      const cookie = head.readUInt32BE(12);
      const waiting = this.#waiting.get(cookie);
      if (head.readUInt32BE(0) !== SIMPLE_REPLY_MAGIC || waiting === undefined) {
        return this.#lose("the server sent what is no reply to us");
      }
      const error = head.readUInt32BE(4);
      const dataBytes = error === 0 ? waiting.readBytes : 0;
      if (this.#chunkBytes < SIMPLE_REPLY_BYTES + dataBytes) return;
      this.#remove(SIMPLE_REPLY_BYTES);
      this.#waiting.delete(cookie);
      if (error === 0) waiting.done(this.#remove(dataBytes));
      else waiting.failed(new Errno(error));
    }
  }

  #peek(lengthBytes: number): Buffer {
    if ((this.#chunks[0]?.length ?? 0) < lengthBytes) this.#chunks = [Buffer.concat(this.#chunks)];
    return (this.#chunks[0] as Buffer).subarray(0, lengthBytes);
  }

  #remove(lengthBytes: number): Buffer {
    if (lengthBytes === 0) return Buffer.alloc(0);
    const taken = this.#peek(lengthBytes);
    const rest = (this.#chunks[0] as Buffer).subarray(lengthBytes);
    if (rest.length === 0) this.#chunks.shift();
    else this.#chunks[0] = rest;
    this.#chunkBytes -= lengthBytes;
    return taken;
  }

  #send(bytes: Buffer): void {
    this.#outgoing.push(bytes);
    this.#drain();
  }

  #drain(): void {
    for (;;) {
      const [first] = this.#outgoing;
      if (first === undefined || this.#socket === null || this.#lost !== null) return;
      const took = this.#socket.write(first);
      if (took < 0) return this.#lose("the connection is gone");
      if (took < first.length) {
        this.#outgoing[0] = first.subarray(took);
        return;
      }
      this.#outgoing.shift();
    }
  }

  #lose(reason: string): void {
    if (this.#lost !== null) return;
    const lost = new Lost(reason);
    this.#lost = lost;
    this.#socket?.end();
    this.#negotiation?.(lost);
    for (const { failed } of this.#waiting.values()) failed(lost);
    this.#waiting.clear();
    this.#outgoing = [];
  }
}

function requestHead(
  type: number,
  cookie: number,
  fields: { offsetBytes: number; lengthBytes: number },
): Buffer {
  const head = Buffer.alloc(REQUEST_BYTES);
  head.writeUInt32BE(REQUEST_MAGIC, 0);
  head.writeUInt16BE(type, 6);
  head.writeUInt32BE(cookie, 12);
  head.writeBigUInt64BE(BigInt(fields.offsetBytes), 16);
  head.writeUInt32BE(fields.lengthBytes, 24);
  return head;
}
