// SPDX-License-Identifier: Apache-2.0
//
// What all host connections together may hold of a reactor's Memory, so that hosts cannot take what
// replica writes and control need (R13). A connection that gets nothing stops receiving, its host
// is held back by TCP's window, and it is woken, in order, when something was given back.

import { assert } from "#base/assert.ts";

export class HostCredit {
  readonly #limitBytes: number;
  #heldBytes = 0;
  readonly #waiting = new Set<() => void>();

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** False: `wake` is called once when it is worth another try. A first taker is always served. */
  take(bytes: number, wake: () => void): boolean {
    if (this.#heldBytes > 0 && this.#heldBytes + bytes > this.#limitBytes) {
      this.#waiting.add(wake);
      return false;
    }
    this.#heldBytes += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#heldBytes -= bytes;
    assert(this.#heldBytes >= 0, "credit is given back once");
    // Whoever fails again is behind the others; each is tried once.
    for (const wake of [...this.#waiting]) {
      if (this.#heldBytes >= this.#limitBytes) return;
      this.#waiting.delete(wake);
      wake();
    }
  }

  /** The connection is gone; it waits no more. */
  forget(wake: () => void): void {
    this.#waiting.delete(wake);
  }
}
