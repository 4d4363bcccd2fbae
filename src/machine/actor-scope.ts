// SPDX-License-Identifier: Apache-2.0
//
// For whom this process acts at the moment: said once where a request comes in, and known wherever
// what it began asks on, however many promises later. So no change can forget to say who wanted it.

import { AsyncLocalStorage } from "node:async_hooks";

export class ActorScope {
  readonly #storage = new AsyncLocalStorage<string | null>();

  /** Null: nobody; we act for ourselves. */
  get current(): string | null {
    return this.#storage.getStore() ?? null;
  }

  /** Whatever `act` begins is done for this one. */
  run<T>(actor: string | null, act: () => T): T {
    return this.#storage.run(actor, act);
  }
}
