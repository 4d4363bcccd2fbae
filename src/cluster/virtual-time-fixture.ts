// SPDX-License-Identifier: Apache-2.0
//
// Virtual time for tests of state machines that are given Clock and Timers: nothing waits, time
// passes when the test says so, and promises are drained between any two timers (by
// `drainMicrotasks` of bun:jsc, which the test hands in).

import type { Clock, Timers } from "#base/world.ts";

interface Due {
  atMs: number;
  order: number;
  act: () => void;
}

export class VirtualTime implements Clock, Timers {
  #nowMs = 1000;
  #order = 0;
  #due: Due[] = [];
  readonly #drain: () => void;

  constructor(drain: () => void) {
    this.#drain = drain;
  }

  nowMs(): number {
    return this.#nowMs;
  }
  wallMs(): number {
    return this.#nowMs;
  }
  after(delayMs: number, act: () => void): () => void {
    const due = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, act };
    this.#due.push(due);
    return () => {
      this.#due = this.#due.filter((other) => other !== due);
    };
  }

  /** Lets time pass, running what falls due in order. */
  pass(milliseconds: number): void {
    const end = this.#nowMs + milliseconds;
    for (;;) {
      this.#drain();
      let first: Due | null = null;
      for (const due of this.#due) {
        if (due.atMs > end) continue;
        const sooner =
          first === null ||
          due.atMs < first.atMs ||
          (due.atMs === first.atMs && due.order < first.order);
        if (sooner) first = due;
      }
      if (first === null) break;
      this.#due = this.#due.filter((other) => other !== first);
      this.#nowMs = Math.max(this.#nowMs, first.atMs);
      first.act();
    }
    this.#nowMs = end;
    this.#drain();
  }
}
