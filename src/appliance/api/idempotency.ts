// SPDX-License-Identifier: Apache-2.0
//
// Idempotency keys: the same key brings the same answer, also while the first request still runs.
// Memory is bounded by the number of keys; the oldest are forgotten first, running ones last.
//
// A failed creation is not remembered: it may be tried again under its key. Where its outcome is
// unknown the volume's name, which can be taken only once, still keeps it from happening twice.

import { Fault } from "#base/fault.ts";

/** Keys remembered. */
export const KEYS_MAX = 256;

interface Remembered<T> {
  /** What was asked, so that a key used for something else is noticed. */
  request: string;
  answer: Promise<T>;
  running: boolean;
}

export class AnswersByKey<T> {
  readonly #keys = new Map<string, Remembered<T>>();

  get size(): number {
    return this.#keys.size;
  }

  /** Runs `act`, unless this key has brought an answer or is about to. */
  async once(key: string, request: string, act: () => Promise<T>): Promise<T> {
    const known = this.#keys.get(key);
    if (known !== undefined) {
      if (known.request === request) return known.answer;
      throw new Fault("conflict", "this idempotency key was used for another request");
    }
    this.#makeRoom();
    const entry: Remembered<T> = { request, answer: act(), running: true };
    this.#keys.set(key, entry);
    try {
      return await entry.answer;
    } catch (error) {
      this.#keys.delete(key);
      throw error;
    } finally {
      entry.running = false;
    }
  }

  #makeRoom(): void {
    if (this.#keys.size < KEYS_MAX) return;
    for (const [key, entry] of this.#keys) {
      if (entry.running) continue;
      this.#keys.delete(key);
      return;
    }
    throw new Fault("notReady", `${KEYS_MAX} requests with idempotency keys are still running`);
  }
}
