// SPDX-License-Identifier: Apache-2.0
//
// A small seeded generator (xoshiro128**, Blackman and Vigna 2018, public domain algorithm): the
// only chance in simulations. Real units use world.random.

export class Prng {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    // SplitMix32 fills the state, so that near seeds give unrelated streams.
    let state = seed >>> 0;
    const next = () => {
      state = (state + 0x9e3779b9) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      return (z ^ (z >>> 16)) >>> 0;
    };
    this.#a = next() ^ Math.floor(seed / 2 ** 32);
    this.#b = next();
    this.#c = next();
    this.#d = next() | 1;
  }

  /** An unsigned 32-bit value. */
  u32(): number {
    const result = Math.imul(rotateLeft(Math.imul(this.#b, 5), 7), 9) >>> 0;
    const t = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= t;
    this.#d = rotateLeft(this.#d, 11);
    return result;
  }

  /** In [0, 1). */
  fraction(): number {
    return this.u32() / 2 ** 32;
  }
  /** A whole number in [0, bound). */
  below(bound: number): number {
    return Math.floor(this.fraction() * bound);
  }
  /** A whole number in [low, high]. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }
  chance(probability: number): boolean {
    return this.fraction() < probability;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
  /** A generator of its own, so that one consumer's draws do not shift another's. */
  fork(): Prng {
    return new Prng(this.u32());
  }
}

function rotateLeft(value: number, by: number): number {
  return (value << by) | (value >>> (32 - by));
}
