// SPDX-License-Identifier: Apache-2.0
//
// Locks of single blocks of one member. The slice's range lock keeps operations apart that overlap
// in bytes; two that touch different sectors of the same block still meet here, since a block has
// one checksum. Only operations with a partly covered block come, so the table is nearly always
// empty.

import { assert } from "#base/assert.ts";

export interface LockWaiter {
  /** The lock it waited for is now held for it. */
  lockGranted(): void;
}

export class BlockLocks {
  readonly #held = new Map<number, LockWaiter[]>();

  /** True: held now. False: `waiter` is told when it is; first come, first served. */
  take(block: number, waiter: LockWaiter): boolean {
    const waiters = this.#held.get(block);
    if (waiters === undefined) {
      this.#held.set(block, []);
      return true;
    }
    waiters.push(waiter);
    return false;
  }

  give(block: number): void {
    const waiters = this.#held.get(block);
    assert(waiters !== undefined, "a lock that is given back was held");
    const next = waiters.shift();
    if (next === undefined) this.#held.delete(block);
    else next.lockGranted();
  }
}
