// SPDX-License-Identifier: Apache-2.0
//
// A value that goes along with what is awaited (AsyncLocalStorage of node:async_hooks): seen by all
// that an act calls, now and after its waits, and by nobody else.

import { AsyncLocalStorage } from "node:async_hooks";

export interface AsyncContext<T> {
  run<R>(value: T, act: () => R): R;
  /** Undefined outside. */
  get(): T | undefined;
}

export function asyncContext<T>(): AsyncContext<T> {
  const storage = new AsyncLocalStorage<T>();
  return {
    run: (value, act) => storage.run(value, act),
    get: () => storage.getStore(),
  };
}
