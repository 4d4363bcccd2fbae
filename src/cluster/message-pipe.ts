// SPDX-License-Identifier: Apache-2.0
//
// Whole messages between two ends that have proved themselves: over a byte stream (the
// authenticated channel between units) as a 4-byte little-endian length and JSON, or within one
// process.
//
// A length is held against its maximum before anything is kept for it; what is no JSON ends the
// pipe.

/** Largest message: a transaction at its own maximum, escaped. */
export const MESSAGE_BYTES_MAX = 8 << 20;
/** Unsent bytes past which a pipe is given up: its other end does not keep up (R13). */
export const QUEUED_BYTES_MAX = 32 << 20;

const LENGTH_BYTES = 4;

export interface MessagePipe {
  /** False: it is closed; the message is lost. The object is not to be changed afterwards. */
  send(message: object): boolean;
  close(reason: string): void;
  /** Set by the user of the pipe before the first turn of events after getting it. */
  onMessage: (message: unknown) => void;
  /** Exactly once, however it ended; nothing follows. Not for one's own close. */
  onClose: (reason: string) => void;
}

/** The stream below: what the appliance gives. */
export interface ByteStream {
  send(bytes: Uint8Array): void;
  /** Bytes taken and not sent yet. */
  queuedBytes(): number;
  close(): void;
}

const encoder = new TextEncoder();

/** Messages over a byte stream; whoever owns the stream calls `received` and `ended`. */
export class StreamPipe implements MessagePipe {
  onMessage: (message: unknown) => void = () => {};
  onClose: (reason: string) => void = () => {};
  readonly #stream: ByteStream;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #closed = false;

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  send(message: object): boolean {
    if (this.#closed) return false;
    const body = encoder.encode(JSON.stringify(message));
    if (body.length > MESSAGE_BYTES_MAX || this.#stream.queuedBytes() > QUEUED_BYTES_MAX) {
      this.#end("the other end does not keep up");
      return false;
    }
    const whole = new Uint8Array(LENGTH_BYTES + body.length);
    new DataView(whole.buffer).setUint32(0, body.length, true);
    whole.set(body, LENGTH_BYTES);
    this.#stream.send(whole);
    return true;
  }

  close(_reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stream.close();
  }

  /** The stream's next bytes; kept until their message is whole. */
  received(bytes: Uint8Array): void {
    this.#pieces.push(bytes);
    this.#bytes += bytes.length;
    while (!this.#closed && this.#bytes >= LENGTH_BYTES) {
      const head = this.#gather(LENGTH_BYTES);
      const length = new DataView(head.buffer, head.byteOffset, LENGTH_BYTES).getUint32(0, true);
      if (length > MESSAGE_BYTES_MAX) return this.#end("a message that is too long");
      if (this.#bytes < LENGTH_BYTES + length) return;
      const whole = this.#gather(LENGTH_BYTES + length);
      this.#bytes -= LENGTH_BYTES + length;
      this.#pieces = [whole.subarray(LENGTH_BYTES + length)];
      const message = this.#parsed(whole.subarray(LENGTH_BYTES, LENGTH_BYTES + length));
      if (message === undefined) return this.#end("a message that is no JSON");
      this.onMessage(message);
    }
  }

  /** The stream has ended. */
  ended(reason: string): void {
    this.#end(reason);
  }

  /** What has come, in one piece; at least `least` bytes of it are there. */
  #gather(least: number): Uint8Array {
    const first = this.#pieces[0];
    if (first !== undefined && first.length >= least) return first;
    const whole = new Uint8Array(this.#pieces.reduce((sum, piece) => sum + piece.length, 0));
    let at = 0;
    for (const piece of this.#pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    this.#pieces = [whole];
    return whole;
  }

  #parsed(bytes: Uint8Array): unknown {
    try {
      return JSON.parse(this.#decoder.decode(bytes)) as unknown;
    } catch (error) {
      if (error instanceof SyntaxError || error instanceof TypeError) return undefined;
      throw error;
    }
  }

  #end(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#pieces = [];
    this.#stream.close();
    this.onClose(reason);
  }
}

/** Two ends within one process; messages arrive in a later turn, as over a wire. */
export function pipePair(): [MessagePipe, MessagePipe] {
  const left = new LocalPipe();
  const right = new LocalPipe();
  left.other = right;
  right.other = left;
  return [left, right];
}

/** What follows runs in a later turn, in order. */
const later = Promise.resolve();

class LocalPipe implements MessagePipe {
  onMessage: (message: unknown) => void = () => {};
  onClose: (reason: string) => void = () => {};
  other: LocalPipe | null = null;
  #closed = false;

  send(message: object): boolean {
    const other = this.other;
    if (this.#closed || other === null) return false;
    void later.then(() => {
      if (!other.#closed) other.onMessage(message);
    });
    return true;
  }

  close(reason: string): void {
    const other = this.other;
    if (this.#closed || other === null) return;
    this.#closed = true;
    void later.then(() => {
      if (other.#closed) return;
      other.#closed = true;
      other.onClose(reason);
    });
  }
}
