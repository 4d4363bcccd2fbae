// SPDX-License-Identifier: Apache-2.0
//
// A fixed number of I/O buffers of one size, taken from Memory when the disk is opened and held
// until it is closed. The store never asks Memory for more, so it makes progress when everybody
// else's buffers are in use (R13). Who finds none waits in order of arrival.

import { assert } from "#base/assert.ts";
import { NO_BUFFER } from "#base/memory.ts";
import type { Memory } from "#base/memory.ts";

export interface BufferWaiter {
  /** A buffer is free now: take it by `take`. */
  bufferFree(): void;
}

export class BufferPool {
  readonly bufferBytes: number;
  readonly #memory: Memory;
  readonly #free: number[] = [];
  readonly #all: number[] = [];
  readonly #waiters: BufferWaiter[] = [];
  #waking = false;

  constructor(memory: Memory, bufferBytes: number) {
    this.#memory = memory;
    this.bufferBytes = bufferBytes;
  }

  /** Takes the buffers from Memory; false when it has not enough. */
  open(count: number): boolean {
    for (let at = 0; at < count; at++) {
      const offset = this.#memory.allocate(this.bufferBytes);
      if (offset === NO_BUFFER) return false;
      this.#all.push(offset);
      this.#free.push(offset);
    }
    return true;
  }

  /** Gives all buffers back to Memory; nobody may hold one. */
  close(): void {
    assert(this.#free.length === this.#all.length, "no buffer is in use when a store closes");
    for (const offset of this.#all) this.#memory.release(offset);
    this.#all.length = 0;
    this.#free.length = 0;
  }

  /** Taken from Memory, whether in use or not. */
  get heldBytes(): number {
    return this.#all.length * this.bufferBytes;
  }

  get idle(): boolean {
    return this.#free.length === this.#all.length;
  }

  get freeCount(): number {
    return this.#free.length;
  }

  /** A buffer, or NO_BUFFER: then `wait`. Who waits already is served first. */
  take(): number {
    if (this.#waiters.length > 0 && !this.#waking) return NO_BUFFER;
    return this.#free.pop() ?? NO_BUFFER;
  }

  wait(waiter: BufferWaiter): void {
    this.#waiters.push(waiter);
  }

  give(offset: number): void {
    this.#free.push(offset);
    assert(this.#free.length <= this.#all.length, "a buffer is given back once");
    if (this.#waking) return;
    while (this.#waiters.length > 0 && this.#free.length > 0) {
      this.#waking = true;
      const waiter = this.#waiters.shift() as BufferWaiter;
      waiter.bufferFree();
      this.#waking = false;
    }
  }
}
