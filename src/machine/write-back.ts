// SPDX-License-Identifier: Apache-2.0
//
// WriteBack: a bound on the bytes of one buffered file that the kernel holds dirty, so that a flush
// takes seconds at most (R13): once half the bound has been written a write-back starts, one at a
// time, and writes wait when the other half is full before it ended. The bound follows what the
// disk was seen to do. A write-back says nothing about stability.
//
// Invariant
// - What a flush has covered is not dirty: else the next write-back would find nothing to do, take
//   no time, and the disk would seem to bear any amount.

import { totalmem } from "node:os";
import { RING_OP, SQE, SYNC_FILE_RANGE_ALL } from "./io-uring.wire.ts";
import type { Reactor } from "./reactor.ts";
import type { RingTarget } from "./ring.ts";

/**
 * Bytes that may be dirty: at least and at most (of the machine's memory: the kernel itself holds
 * back whoever has a fifth of it dirty).
 */
const DIRTY_BYTES_MIN = 64 << 20;
const DIRTY_BYTES_MAX = Math.max(1 << 30, totalmem() / 8);
/** In between, what the disk was last seen to write back within this: so long a flush may take. */
const DIRTY_MS = 5000;

export interface WriteBackOwner {
  /** `code` is 0 or the errno. */
  writeBackEnded(code: number): void;
}

export class WriteBack implements RingTarget {
  running = false;
  readonly #owner: WriteBackOwner;
  readonly #reactor: Reactor;
  readonly #fd: number;
  /** Written since the last write-back began, or a flush did that ended well. */
  #dirtyBytes = 0;
  #dirtyBytesMax = DIRTY_BYTES_MIN;
  /** Of them, what the flush under way covers. */
  #flushingBytes = 0;
  #bytes = 0;
  #startMs = 0;

  constructor(owner: WriteBackOwner, reactor: Reactor, fd: number) {
    this.#owner = owner;
    this.#reactor = reactor;
    this.#fd = fd;
  }

  /** Written, and neither flushed nor being written back. */
  get dirtyBytes(): number {
    return this.#dirtyBytes;
  }

  /** A write of that length has to wait. */
  mustHold(lengthBytes: number): boolean {
    return this.running && this.#dirtyBytes + lengthBytes > this.#dirtyBytesMax / 2;
  }

  writeBegins(lengthBytes: number): void {
    this.#dirtyBytes += lengthBytes;
    if (this.running || this.#dirtyBytes < this.#dirtyBytesMax / 2) return;
    this.#start();
    this.#dirtyBytes = lengthBytes;
    this.#flushingBytes = 0;
  }

  /** Of several flushes at once the first counts. */
  flushBegins(): void {
    if (this.#flushingBytes === 0) this.#flushingBytes = this.#dirtyBytes;
  }

  flushEnded(isGood: boolean): void {
    if (isGood) this.#dirtyBytes -= this.#flushingBytes;
    this.#flushingBytes = 0;
  }

  #start(): void {
    this.running = true;
    this.#bytes = this.#dirtyBytes;
    this.#startMs = this.#reactor.clock.nowMs();
    const { ring } = this.#reactor;
    const entry = ring.prepare(RING_OP.syncFileRange, this.#fd, this, 0);
    ring.words[entry + SQE.opFlags] = SYNC_FILE_RANGE_ALL; // length 0: to the end
  }

  ringDone(_tag: number, result: number): void {
    this.running = false;
    const tookMs = Math.max(1, this.#reactor.clock.nowMs() - this.#startMs);
    const bearable = (this.#bytes / tookMs) * DIRTY_MS;
    this.#dirtyBytesMax = Math.min(DIRTY_BYTES_MAX, Math.max(DIRTY_BYTES_MIN, bearable));
    this.#owner.writeBackEnded(result < 0 ? -result : 0);
  }
}
