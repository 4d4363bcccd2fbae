// SPDX-License-Identifier: Apache-2.0
//
// The simulation's spine: virtual time, one queue of events, one seed, one trace. Everything that
// happens in a simulated cluster is an event here, so the same seed gives the same trace, bit for
// bit.

import { drainMicrotasks } from "bun:jsc";
import { Prng } from "#base/prng.ts";
import type { Timers } from "#base/world.ts";

interface Event {
  atMs: number;
  order: number;
  /** Null once cancelled. */
  act: (() => void) | null;
}

export class Simulation implements Timers {
  readonly seed: number;
  readonly prng: Prng;
  nowMs = 0;
  /** Events run: bounded, so that a busy loop ends. */
  eventCount = 0;
  /** Told each line of the trace, when somebody wants to read it. */
  onTrace: ((line: string) => void) | null = null;
  readonly #heap: Event[] = [];
  #order = 0;
  #hash = 0x811c9dc5;
  readonly #words = new Map<string, number>();

  constructor(seed: number) {
    this.seed = seed;
    this.prng = new Prng(seed);
  }

  after(delayMs: number, act: () => void): () => void {
    const event = { atMs: this.nowMs + Math.max(0, delayMs), order: this.#order++, act };
    this.#push(event);
    return () => {
      (event as Event).act = null;
    };
  }

  /** Runs events until `untilMs`, or until `stop` says so. */
  run(untilMs: number, stop: () => boolean = () => false): void {
    for (;;) {
      const first = this.#heap[0];
      if (first === undefined || first.atMs > untilMs || stop()) break;
      this.#pop();
      if (first.act === null) continue;
      this.nowMs = first.atMs;
      this.eventCount++;
      first.act();
      drainMicrotasks();
    }
    if (!stop()) this.nowMs = Math.max(this.nowMs, untilMs);
  }

  /** A line of the trace: a word and numbers. It goes into the hash, and to whoever reads along. */
  trace(word: string, a = 0, b = 0, c = 0, d = 0): void {
    let code = this.#words.get(word);
    if (code === undefined) {
      code = 0;
      for (let at = 0; at < word.length; at++) code = Math.imul(code, 31) + word.charCodeAt(at);
      this.#words.set(word, code);
    }
    let hash = this.#hash;
    for (const value of [this.nowMs * 1000, code, a, b, c, d]) {
      hash = Math.imul(hash ^ (value | 0), 0x01000193);
      hash = Math.imul(hash ^ ((value / 4294967296) | 0), 0x01000193);
      hash ^= hash >>> 15;
    }
    this.#hash = hash;
    this.onTrace?.(`${this.nowMs.toFixed(3).padStart(10)} ${word} ${a} ${b} ${c} ${d}`);
  }

  /** For people only; not part of the hash. */
  say(sentence: () => string): void {
    this.onTrace?.(`${this.nowMs.toFixed(3).padStart(10)} ${sentence()}`);
  }

  get traceHash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, "0");
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] as Event;
      if (!sooner(event, above)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Event;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      const right = child + 1;
      if (right < heap.length && sooner(heap[right] as Event, heap[child] as Event)) child = right;
      if (!sooner(heap[child] as Event, last)) break;
      heap[at] = heap[child] as Event;
      at = child;
    }
    heap[at] = last;
  }
}

function sooner(left: Event, right: Event): boolean {
  return left.atMs < right.atMs || (left.atMs === right.atMs && left.order < right.order);
}
