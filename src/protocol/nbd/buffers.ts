// SPDX-License-Identifier: Apache-2.0
//
// The buffers of one connection's requests, out of the reactor's Memory and on its host's credit
// (R13). At most REQUEST_BYTES_MAX at once, so that a connection has one of the longest requests
// under way, or many short ones.

import { assert } from "#base/assert.ts";
import { REQUEST_BYTES_MAX } from "#base/limits.ts";
import type { Memory } from "#base/memory.ts";
import { NO_BUFFER } from "#base/memory.ts";
import type { HostAccount } from "./credit.ts";
import type { Request } from "./request.ts";

export class Buffers {
  readonly #memory: Memory;
  readonly #account: HostAccount;
  #heldBytes = 0;

  constructor(memory: Memory, account: HostAccount) {
    this.#memory = memory;
    this.#account = account;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Gives the request a buffer; false: not now. */
  take(request: Request, lengthBytes: number): boolean {
    assert(request.bufferOffset === NO_BUFFER, "a request has one buffer");
    const bytes = blockBytes(lengthBytes);
    if (this.#heldBytes > 0 && this.#heldBytes + bytes > REQUEST_BYTES_MAX) return false;
    if (!this.#account.takeOrWait(bytes)) return false;
    const buffer = this.#memory.allocate(lengthBytes);
    if (buffer === NO_BUFFER) {
      // Others hold the arena: the next tick tries again.
      this.#account.give(bytes);
      return false;
    }
    this.#hold(request, buffer, bytes);
    return true;
  }

  /** Gives it a larger one, with the first `keptBytes` from `from`; false: it keeps what it has. */
  grow(request: Request, lengthBytes: number, from: number, keptBytes: number): boolean {
    const bytes = blockBytes(lengthBytes);
    if (!this.#account.take(bytes)) return false;
    const buffer = this.#memory.allocate(lengthBytes);
    if (buffer === NO_BUFFER) {
      this.#account.give(bytes);
      return false;
    }
    this.#memory.bytes.copyWithin(buffer, from, from + keptBytes);
    this.give(request);
    this.#hold(request, buffer, bytes);
    return true;
  }

  give(request: Request): void {
    const { bufferOffset, heldBytes } = request;
    if (bufferOffset === NO_BUFFER) return;
    request.bufferOffset = NO_BUFFER;
    request.dataOffset = 0;
    request.heldBytes = 0;
    this.#heldBytes -= heldBytes;
    this.#memory.release(bufferOffset);
    this.#account.give(heldBytes);
  }

  stopWaiting(): void {
    this.#account.forget();
  }

  #hold(request: Request, buffer: number, bytes: number): void {
    request.bufferOffset = buffer;
    request.heldBytes = bytes;
    this.#heldBytes += bytes;
  }
}

/** What Memory takes for a buffer of that length: a power of two from 4 KiB. */
function blockBytes(lengthBytes: number): number {
  return Math.max(4096, 2 ** (32 - Math.clz32(lengthBytes - 1)));
}
