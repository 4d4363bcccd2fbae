// SPDX-License-Identifier: Apache-2.0
//
// A StreamSocket without a kernel, for tests: keeps the promises of base/stream.ts (calls back from
// a later turn only, presents the rest, pauses, ends in order) and lets the test be the other side.

import { assert } from "#base/assert.ts";
import type { Memory } from "#base/memory.ts";
import { Status } from "#base/status.ts";
import type { StreamSocket } from "#base/stream.ts";

type Done = (status: Status) => void;
interface Queued {
  offset: number;
  length: number;
  done: Done | null;
}

const RECEIVE_BYTES = 64 << 10;
/** What detach gives. */
export const HANDLE = 77;

export class MemorySocket implements StreamSocket {
  readonly peerAddress: string;
  readonly peerPort: number;
  onBytes: (bufferOffset: number, lengthBytes: number) => number = () => 0;
  onClose: (reason: string) => void = () => {};
  /** What the other side has received and not yet looked at. */
  sent: Uint8Array[] = [];
  /** The other side does not read: nothing leaves. */
  sendBlocked = false;
  closedWith: string | null = null;
  readonly #memory: Memory;
  readonly #receiveAt: number;
  #unread = 0;
  #arriving: Uint8Array = new Uint8Array(0);
  #queue: Queued[] = [];
  #into: { offset: number; length: number; done: Done } | null = null;
  #paused = false;
  #finishing = false;
  #ending: string | null = null;
  #detaching: ((handle: number | null) => void) | null = null;

  constructor(memory: Memory, peerAddress = "192.0.2.7") {
    this.#memory = memory;
    this.peerAddress = peerAddress;
    this.peerPort = peerAddress === "unix" ? 0 : 40000;
    this.#receiveAt = memory.allocate(RECEIVE_BYTES);
  }

  get queuedBytes(): number {
    return this.#queue.reduce((sum, { length }) => sum + length, 0);
  }
  unheardMs = 0;
  get paused(): boolean {
    return this.#paused;
  }
  /** Bytes the other side sent and nobody has used up. */
  get unreadBytes(): number {
    return this.#unread + this.#arriving.length;
  }

  receiveInto(offset: number, length: number, done: Done): void {
    assert(this.#into === null && length > 0, "one receiveInto at a time");
    this.#into = { offset, length, done };
  }
  pauseReceive(): void {
    this.#paused = true;
  }
  resumeReceive(): void {
    this.#paused = false;
  }
  send(offset: number, length: number, done: Done | null): void {
    assert(!this.#finishing && length > 0, "nothing is sent after finish");
    this.#queue.push({ offset, length, done });
  }
  detach(done: (handle: number | null) => void): void {
    assert(this.#paused && this.#queue.length === 0, "given away when nothing is under way");
    this.onClose = () => {};
    this.#detaching = done;
  }
  close(): void {
    this.#ending ??= "closed here";
  }
  finish(): void {
    this.#finishing = true;
  }

  // The other side.

  /** Bytes come in; nothing happens before `turn`. */
  arrive(bytes: Uint8Array): void {
    const joined = new Uint8Array(this.#arriving.length + bytes.length);
    joined.set(this.#arriving);
    joined.set(bytes, this.#arriving.length);
    this.#arriving = joined;
  }
  hangUp(): void {
    this.#ending ??= "the peer closed";
  }

  /** Turns of the loop until nothing more happens. */
  turn(): void {
    for (let progress = true; progress && this.closedWith === null;) {
      if (this.#detaching !== null) return this.#detach(this.#detaching);
      progress = this.#ending === null && (this.#presentOnce() || this.#sendOnce());
      if (this.#finishing && this.#queue.length === 0) this.#ending ??= "finished here";
      if (this.#ending !== null) this.#end(this.#ending);
    }
  }

  /** Everything sent so far, as one piece. */
  takeSent(): Buffer {
    const joined = Buffer.concat(this.sent);
    this.sent = [];
    return joined;
  }

  #detach(done: (handle: number | null) => void): void {
    this.#detaching = null;
    const handle = this.#ending === null && this.#unread === 0 ? HANDLE : null;
    this.#end(handle === null ? (this.#ending ?? "bytes nobody used up") : "given away");
    done(handle);
  }

  #presentOnce(): boolean {
    const { bytes } = this.#memory;
    const room = Math.min(RECEIVE_BYTES - this.#unread, this.#arriving.length);
    const wanted = this.#into !== null || !this.#paused;
    if (wanted && room > 0) {
      bytes.set(this.#arriving.subarray(0, room), this.#receiveAt + this.#unread);
      this.#arriving = this.#arriving.slice(room);
      this.#unread += room;
    }
    if (this.#into !== null) return this.#fillInto(this.#into);
    if (this.#paused || this.#unread === 0) return false;
    const had = this.#unread;
    const used = this.onBytes(this.#receiveAt, had);
    assert(used >= 0 && used <= had, "a handler uses up at most what is there");
    this.#use(used);
    assert(used > 0 || had < RECEIVE_BYTES || this.#paused, "no message exceeds the buffer");
    return used > 0 || this.#into !== null || this.#ending !== null;
  }

  #fillInto(into: { offset: number; length: number; done: Done }): boolean {
    const part = Math.min(this.#unread, into.length);
    const from = this.#receiveAt;
    this.#memory.bytes.copyWithin(into.offset, from, from + part);
    this.#use(part);
    into.offset += part;
    into.length -= part;
    if (into.length > 0) return part > 0;
    this.#into = null;
    into.done(Status.ok);
    return true;
  }

  #use(bytes: number): void {
    const at = this.#receiveAt;
    this.#memory.bytes.copyWithin(at, at + bytes, at + this.#unread);
    this.#unread -= bytes;
  }

  #sendOnce(): boolean {
    const next = this.sendBlocked ? undefined : this.#queue.shift();
    if (next === undefined) return false;
    this.sent.push(this.#memory.bytes.slice(next.offset, next.offset + next.length));
    next.done?.(Status.ok);
    return true;
  }

  #end(reason: string): void {
    this.closedWith = reason;
    const into = this.#into;
    this.#into = null;
    into?.done(Status.linkLost);
    for (const { done } of this.#queue.splice(0)) done?.(Status.linkLost);
    this.#memory.release(this.#receiveAt);
    this.onClose(reason);
  }
}
