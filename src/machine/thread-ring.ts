// SPDX-License-Identifier: Apache-2.0
//
// ThreadRing: one end of a way between two reactors of this process. Heads (small, bytes) are
// copied into a ring in shared memory; a payload stays where it is in the sender's arena until the
// receiver has copied it into its own. Each side looks in every turn of its loop; one that sleeps
// is woken by its eventfd.
//
// Shared memory: per side the words below, then the heads that this side sends. A head is an entry
// of four words (its length with the entry, the head's length, the payload's place and length) and
// its bytes, padded to ENTRY_BYTES; what does not fit before the ring's end begins at its start.
//
// Invariants
// - Everything arrives in order and once; but a payload that finds no memory waits aside, with its
//   head, and so does every payload behind it: what has none goes on (R13).
// - `sent` is called once per payload: when it was copied, when its sender takes it back by its
//   tag, or when the end is closed. Never from within `send`.
// - No payload of an end that is closed is received; heads that it sent before are.
// - Who sleeps is woken: each side publishes what it did before it looks whether the other sleeps,
//   and says that it will sleep before it looks for the last time (all accesses are sequentially
//   consistent).
// - Nobody writes to a descriptor that may be another's: the other's eventfd is duplicated while
//   its owner lives.

import { assert } from "#base/assert.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { mappedBytes } from "./arena.ts";
import { libc } from "./libc.ts";
import type { Reactor, TurnEnd, Visited } from "./reactor.ts";
import { closeDescriptor } from "./socket-pair.ts";

/** Of heads on their way in one direction; at least four times the longest one. */
const RING_BYTES = 2 << 20;
export const HEAD_BYTES_MAX = RING_BYTES / 4;
/** Nothing is copied beyond this share of memory: what leaves and ends needs some, too (R13). */
const COPIED_SHARE = 3 / 4;
const ENTRY_BYTES = 16;
const ENTRY_WORDS = ENTRY_BYTES / 4;
/** Stands for a head's length where the rest of the ring is left empty. */
const SKIP = -1;

/** Words of a side, those that the other side writes in a cache line of their own. */
const AT = {
  /** Its eventfd; 0: not there yet, or not any more. */
  wakeFd: 0,
  arenaLow: 1,
  arenaHigh: 2,
  arenaBytes: 3,
  /** Bytes put into its ring, counted round. */
  written: 4,
  /** 1: it waits for its ring to have room. */
  waits: 5,
  /** 1: it is closed, and its payloads may be anything. */
  ended: 6,
  // By both, or by the other side.
  /** 1: it sleeps, or is about to. */
  sleeps: 16,
  /** Bytes taken from its ring. */
  taken: 17,
  /** Payloads copied out of its arena, counted round. */
  copied: 18,
} as const;
const WORDS_BYTES = 128;
const SIDE_BYTES = WORDS_BYTES + RING_BYTES;
const F_DUPFD_CLOEXEC = 1030;

export type Side = 0 | 1;

/** Memory for both ends of one ring. */
export function threadRingMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(2 * SIDE_BYTES);
}

/** A payload in the sender's Memory. */
export interface Lent {
  bufferOffset: number;
  lengthBytes: number;
  /** The memory is no longer needed. */
  sent: (() => void) | null;
  /** By which it can be taken back. */
  tag: number;
}

export interface ThreadRingEffects {
  /**
   * A head of `lengthBytes` lies at `at` in `bytes` during the call. A payload lies in the
   * receiver's Memory, in a buffer that is the callee's; NO_BUFFER: there is none.
   */
  received(
    head: { bytes: Uint8Array; at: number; lengthBytes: number },
    payload: { bufferOffset: number; lengthBytes: number },
  ): void;
}

/** What waits aside for memory. */
interface Aside {
  head: Uint8Array;
  payloadAt: number;
  payloadBytes: number;
}

const NOTHING = { bufferOffset: NO_BUFFER, lengthBytes: 0 };

export class ThreadRing implements TurnEnd, Visited {
  readonly #reactor: Reactor;
  readonly #effects: ThreadRingEffects;
  readonly #own: SideView;
  readonly #other: SideView;
  readonly #one = new Uint8Array(new ArrayBuffer(4096)); // large: its address must not change
  #wakeFd = -1;
  #otherArena: Uint8Array | null = null;
  #turnEndAsked = false;
  #wakes = false;
  #closed = false;
  // Sending.
  #written = 0;
  /** Payloads whose `sent` is owed, in order; those taken back keep their place. */
  readonly #lent: { tag: number; sent: (() => void) | null }[] = [];
  #copiedSeen = 0;
  /** What found no room. */
  readonly #queue: { head: Uint8Array; lent: Lent | null }[] = [];
  // Receiving.
  #taken = 0;
  #copied = 0;
  readonly #aside: Aside[] = [];
  #draining = false;

  constructor(reactor: Reactor, shared: SharedArrayBuffer, side: Side, effects: ThreadRingEffects) {
    this.#reactor = reactor;
    this.#effects = effects;
    this.#own = new SideView(shared, side);
    this.#other = new SideView(shared, side === 0 ? 1 : 0);
    this.#one[0] = 1;
    const { baseAddress, bytes } = reactor.memory;
    const { words } = this.#own;
    words[AT.arenaLow] = baseAddress % 2 ** 32;
    words[AT.arenaHigh] = Math.floor(baseAddress / 2 ** 32);
    words[AT.arenaBytes] = bytes.length;
    Atomics.store(words, AT.wakeFd, reactor.wakeFd);
    reactor.visit(this);
  }

  mayWait(): boolean {
    if (this.#closed) return true;
    Atomics.store(this.#own.words, AT.sleeps, 1);
    if (!this.#hasNews()) return true;
    Atomics.store(this.#own.words, AT.sleeps, 0);
    return false;
  }

  /** There is something to take, or to tell a sender of. What waits for memory is none. */
  #hasNews(): boolean {
    if (Atomics.load(this.#other.words, AT.written) !== (this.#taken | 0)) return true;
    return Atomics.load(this.#own.words, AT.copied) !== (this.#copiedSeen | 0);
  }

  collect(): void {
    if (this.#closed || this.#draining) return;
    Atomics.store(this.#own.words, AT.sleeps, 0);
    this.#settleLent();
    if (this.#queue.length > 0) this.#flush();
    this.#draining = true;
    this.#takeAside();
    this.#drain();
    this.#draining = false;
  }

  /** `write` puts the head's bytes where it is told, at once. */
  send(
    headBytes: number,
    write: (target: Uint8Array, at: number) => void,
    lent: Lent | null = null,
  ): void {
    assert(headBytes > 0 && headBytes <= HEAD_BYTES_MAX, "a head fits the ring");
    if (this.#closed) {
      if (lent?.sent != null) this.#reactor.defer(lent.sent);
      return;
    }
    if (this.#queue.length === 0 && this.#put(headBytes, write, lent)) return;
    const head = new Uint8Array(headBytes);
    write(head, 0);
    this.#queue.push({ head, lent });
    Atomics.store(this.#own.words, AT.waits, 1);
    this.#askTurnEnd();
  }

  /** Payloads of that tag are no longer lent: whoever still copies one gets bytes of no meaning. */
  takeBack(tag: number): void {
    for (const lent of this.#lent) {
      if (lent.tag !== tag) continue;
      const { sent } = lent;
      lent.sent = null;
      sent?.();
    }
    for (const { lent } of this.#queue) {
      if (lent === null || lent.tag !== tag) continue;
      const { sent } = lent;
      lent.sent = null;
      sent?.();
    }
  }

  /** Nothing is received or sent from now on; every `sent` is called. */
  close(): void {
    if (this.#closed) return;
    this.#flush();
    if (this.#wakes) this.#wake();
    this.#closed = true;
    Atomics.store(this.#own.words, AT.ended, 1); // before anything is given back
    Atomics.store(this.#own.words, AT.wakeFd, 0);
    if (this.#wakeFd >= 0) closeDescriptor(this.#wakeFd);
    for (const { sent } of this.#lent.splice(0)) sent?.();
    for (const { lent } of this.#queue.splice(0)) lent?.sent?.();
    this.#aside.length = 0;
  }

  /** From the reactor, once before the next submission. */
  turnEnds(): void {
    this.#turnEndAsked = false;
    if (this.#closed) return;
    this.#flush();
    if (this.#wakes) this.#wake();
  }

  #askTurnEnd(): void {
    if (this.#turnEndAsked) return;
    this.#turnEndAsked = true;
    this.#reactor.atTurnEnd(this);
  }

  #wakeSoon(): void {
    this.#wakes = true;
    this.#askTurnEnd();
  }

  #wake(): void {
    this.#wakes = false;
    // One that has not begun yet does not sleep either.
    if (Atomics.exchange(this.#other.words, AT.sleeps, 0) !== 1) return;
    const fd = this.#otherFd();
    if (fd >= 0) libc.write(fd, this.#one, 8);
  }

  #otherFd(): number {
    if (this.#wakeFd >= 0) return this.#wakeFd;
    const fd = Atomics.load(this.#other.words, AT.wakeFd);
    if (fd > 0) this.#wakeFd = libc.fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return this.#wakeFd;
  }

  // ---- sending ------------------------------------------------------------------------------

  /** Puts a head into the ring; false: no room. */
  #put(
    headBytes: number,
    write: (target: Uint8Array, at: number) => void,
    lent: Lent | null,
  ): boolean {
    const { words, entries, bytes } = this.#own;
    const wholeBytes = ENTRY_BYTES + Math.ceil(headBytes / ENTRY_BYTES) * ENTRY_BYTES;
    const usedBytes = (this.#written - Atomics.load(words, AT.taken)) >>> 0;
    const place = this.#written % RING_BYTES;
    const skipBytes = place + wholeBytes > RING_BYTES ? RING_BYTES - place : 0;
    if (usedBytes + skipBytes + wholeBytes > RING_BYTES) return false;
    if (skipBytes > 0) {
      entries[place / 4] = skipBytes;
      entries[place / 4 + 1] = SKIP;
    }
    const at = skipBytes > 0 ? 0 : place;
    entries[at / 4] = wholeBytes;
    entries[at / 4 + 1] = headBytes;
    entries[at / 4 + 2] = lent?.bufferOffset ?? 0;
    entries[at / 4 + 3] = lent?.lengthBytes ?? 0;
    write(bytes, at + ENTRY_BYTES);
    if (lent !== null) this.#lent.push({ tag: lent.tag, sent: lent.sent });
    this.#written = (this.#written + skipBytes + wholeBytes) >>> 0;
    Atomics.store(words, AT.written, this.#written | 0);
    this.#wakeSoon();
    return true;
  }

  #flush(): void {
    while (this.#queue.length > 0) {
      const { head, lent } = this.#queue[0] as { head: Uint8Array; lent: Lent | null };
      if (!this.#put(head.length, (target, at) => target.set(head, at), lent)) return;
      this.#queue.shift();
    }
    if (Atomics.load(this.#own.words, AT.waits) === 1) Atomics.store(this.#own.words, AT.waits, 0);
  }

  /** Tells whose payload was copied. */
  #settleLent(): void {
    const copied = Atomics.load(this.#own.words, AT.copied) >>> 0;
    while (this.#copiedSeen !== copied) {
      this.#copiedSeen = (this.#copiedSeen + 1) >>> 0;
      this.#lent.shift()?.sent?.();
    }
  }

  // ---- receiving ----------------------------------------------------------------------------

  #drain(): void {
    const { words, entries, bytes } = this.#other;
    const before = this.#taken;
    while (!this.#closed && this.#taken !== Atomics.load(words, AT.written) >>> 0) {
      const place = this.#taken % RING_BYTES;
      const first = place / 4;
      const wholeBytes = entries[first] as number;
      const headBytes = entries[first + 1] as number;
      if (headBytes !== SKIP) {
        const at = place + ENTRY_BYTES;
        const head = { bytes, at, lengthBytes: headBytes };
        this.#entry(head, (entries[first + 2] as number) >>> 0, entries[first + 3] as number);
      }
      this.#taken = (this.#taken + wholeBytes) >>> 0;
      Atomics.store(words, AT.taken, this.#taken | 0);
    }
    if (before !== this.#taken && Atomics.load(words, AT.waits) === 1) this.#wakeSoon();
  }

  #entry(
    head: { bytes: Uint8Array; at: number; lengthBytes: number },
    payloadAt: number,
    payloadBytes: number,
  ): void {
    if (payloadBytes === 0) return this.#effects.received(head, NOTHING);
    const bufferOffset = this.#aside.length > 0 ? NO_BUFFER : this.#copy(payloadAt, payloadBytes);
    if (bufferOffset === NO_BUFFER) {
      const kept = head.bytes.slice(head.at, head.at + head.lengthBytes);
      this.#aside.push({ head: kept, payloadAt, payloadBytes });
      return;
    }
    if (!this.#isWhole()) return this.#reactor.memory.release(bufferOffset);
    this.#effects.received(head, { bufferOffset, lengthBytes: payloadBytes });
  }

  #takeAside(): void {
    while (this.#aside.length > 0 && !this.#closed) {
      const { head, payloadAt, payloadBytes } = this.#aside[0] as Aside;
      const bufferOffset = this.#copy(payloadAt, payloadBytes);
      if (bufferOffset === NO_BUFFER) return;
      this.#aside.shift();
      if (!this.#isWhole()) {
        this.#reactor.memory.release(bufferOffset);
        continue;
      }
      const place = { bytes: head, at: 0, lengthBytes: head.length };
      this.#effects.received(place, { bufferOffset, lengthBytes: payloadBytes });
    }
  }

  /** Copies a payload out of the other's arena; NO_BUFFER: no memory. */
  #copy(payloadAt: number, payloadBytes: number): number {
    const { memory } = this.#reactor;
    if (memory.usedBytes + payloadBytes > memory.bytes.length * COPIED_SHARE) return NO_BUFFER;
    const bufferOffset = memory.allocate(payloadBytes);
    if (bufferOffset === NO_BUFFER) return NO_BUFFER;
    const arena = this.#arena();
    memory.bytes.set(arena.subarray(payloadAt, payloadAt + payloadBytes), bufferOffset);
    this.#copied = (this.#copied + 1) >>> 0;
    Atomics.store(this.#other.words, AT.copied, this.#copied | 0);
    this.#wakeSoon();
    return bufferOffset;
  }

  /** What was copied just now is what was sent. */
  #isWhole(): boolean {
    return Atomics.load(this.#other.words, AT.ended) === 0;
  }

  /** The other side's; arenas stay mapped while the process lives. */
  #arena(): Uint8Array {
    if (this.#otherArena !== null) return this.#otherArena;
    const { words } = this.#other;
    const low = (words[AT.arenaLow] as number) >>> 0;
    const start = low + (words[AT.arenaHigh] as number) * 2 ** 32;
    this.#otherArena = new Uint8Array(mappedBytes(start, (words[AT.arenaBytes] as number) >>> 0));
    return this.#otherArena;
  }
}

/** One side's words and ring. */
class SideView {
  readonly words: Int32Array;
  readonly entries: Int32Array;
  readonly bytes: Uint8Array;

  constructor(shared: SharedArrayBuffer, side: Side) {
    const start = side * SIDE_BYTES;
    this.words = new Int32Array(shared, start, WORDS_BYTES / 4);
    this.entries = new Int32Array(
      shared,
      start + WORDS_BYTES,
      (RING_BYTES / ENTRY_BYTES) * ENTRY_WORDS,
    );
    this.bytes = new Uint8Array(shared, start + WORDS_BYTES, RING_BYTES);
  }
}
