// SPDX-License-Identifier: Apache-2.0
//
// A roster: who is under way, in no particular order. Each knows its place, so that joining and
// leaving cost a few stores: a Set hashes each time, for every request.

import { assert } from "#base/assert.ts";

/** On no roster. */
export const NO_PLACE = -1;

export interface Listed {
  /** The roster's own; NO_PLACE at first. On one roster at a time. */
  place: number;
}

export class Roster<T extends Listed> {
  readonly #all: T[] = [];

  get size(): number {
    return this.#all.length;
  }

  add(one: T): void {
    assert(one.place === NO_PLACE, "nobody is listed twice");
    one.place = this.#all.length;
    this.#all.push(one);
  }

  /** False: it was not there. */
  delete(one: T): boolean {
    const { place } = one;
    if (place === NO_PLACE) return false;
    assert(this.#all[place] === one, "whoever leaves is at its place");
    const last = this.#all.pop() as T;
    if (last !== one) {
      this.#all[place] = last;
      last.place = place;
    }
    one.place = NO_PLACE;
    return true;
  }

  /** A copy: who is told may leave or bring others. */
  list(): T[] {
    return [...this.#all];
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.#all[Symbol.iterator]();
  }
}
