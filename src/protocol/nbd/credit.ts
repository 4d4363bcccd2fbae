// SPDX-License-Identifier: Apache-2.0
//
// What all host connections together may hold of a reactor's Memory, so that hosts cannot take what
// replica writes and control need (R13). A connection that gets nothing stops receiving, so its
// host is held back by TCP's window. Who waits is served in the order of waiting: a busy host
// cannot starve a slow one.

import { assert } from "#base/assert.ts";

export class HostCredit {
  readonly #limitBytes: number;
  #heldBytes = 0;
  /** In order. The first stays in it until it took something or is gone. */
  readonly #waiting = new Set<() => void>();

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /**
   * False: `wake` is called when it is worth another try. Whoever holds all alone is always served.
   */
  take(bytes: number, wake: () => void): boolean {
    const fits = this.#heldBytes === 0 || this.#heldBytes + bytes <= this.#limitBytes;
    if (!fits || (this.#first() ?? wake) !== wake) {
      this.#waiting.add(wake);
      return false;
    }
    this.#heldBytes += bytes;
    this.#waiting.delete(wake);
    this.#wakeFirst();
    return true;
  }

  give(bytes: number): void {
    this.#heldBytes -= bytes;
    assert(this.#heldBytes >= 0, "credit is given back once");
    this.#wakeFirst();
  }

  /** The connection waits no more. */
  forget(wake: () => void): void {
    this.#waiting.delete(wake);
    this.#wakeFirst();
  }

  #first(): (() => void) | undefined {
    return this.#waiting.values().next().value;
  }

  #wakeFirst(): void {
    if (this.#heldBytes < this.#limitBytes) this.#first()?.();
  }
}
