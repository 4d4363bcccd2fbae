// SPDX-License-Identifier: Apache-2.0
//
// What a receiver of packets remembers: how many came from where (before any cryptography), and
// which it has seen of each unit (after it). Time comes in with every call.
//
// Invariants
// - memory is bounded: SOURCES_MAX sources, UNITS_REMEMBERED_MAX units; only a packet whose sender
//   is proved or whose key signed it makes a unit be remembered;
// - a (boot counter, sequence) of a unit is accepted at most once, and never after REPLAY_WINDOW
//   newer ones; a lower boot counter never. What a restarted receiver forgot is why UDP is a hint;
// - strangers together have one budget, so that spoofed sources cannot starve those who proved
//   themselves lately: these are held only to their own rate.

import { UNITS_MAX } from "#base/limits.ts";
import * as wire from "./autoconfig.wire.ts";

/** Units of which the newest packets are remembered: a cluster twice, and visitors. */
export const UNITS_REMEMBERED_MAX = 2 * UNITS_MAX;

class TokenBucket {
  readonly #burst: number;
  readonly #perMs: number;
  #tokens: number;
  #lastMs: number;

  constructor(burst: number, perSecond: number, nowMs: number) {
    this.#burst = burst;
    this.#perMs = perSecond / 1000;
    this.#tokens = burst;
    this.#lastMs = nowMs;
  }
  take(nowMs: number): boolean {
    const grown = this.#tokens + (nowMs - this.#lastMs) * this.#perMs;
    this.#tokens = Math.min(this.#burst, grown);
    this.#lastMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}

interface SourceRate {
  bucket: TokenBucket;
  provedUntilMs: number;
}

/** How many packets each source may send. */
export class RateGuard {
  readonly #sources = new Map<string, SourceRate>();
  #strangers: TokenBucket | null = null;

  /** Whether a packet from this source address may be looked at. */
  admit(source: string, nowMs: number): boolean {
    const known = this.#sources.get(source);
    const rate = known ?? {
      bucket: new TokenBucket(wire.SOURCE_BURST, wire.SOURCE_PER_SECOND, nowMs),
      provedUntilMs: 0,
    };
    if (known === undefined) this.#remember(source, rate, nowMs);
    if (!rate.bucket.take(nowMs)) return false;
    if (rate.provedUntilMs > nowMs) return true;
    this.#strangers ??= new TokenBucket(wire.STRANGERS_BURST, wire.STRANGERS_PER_SECOND, nowMs);
    return this.#strangers.take(nowMs);
  }

  /** A packet from there was made with our secret. */
  proved(source: string, nowMs: number): void {
    const rate = this.#sources.get(source);
    if (rate !== undefined) rate.provedUntilMs = nowMs + wire.PROVED_MS;
  }

  get size(): number {
    return this.#sources.size;
  }

  #remember(source: string, rate: SourceRate, nowMs: number): void {
    if (this.#sources.size >= wire.SOURCES_MAX) this.#forgetOne(nowMs);
    this.#sources.set(source, rate);
  }

  // The oldest stranger; when all proved themselves, the oldest of all. Strangers that are
  // forgotten gain a burst of their own, but the strangers' budget together holds.
  #forgetOne(nowMs: number): void {
    let oldest: string | null = null;
    for (const [source, rate] of this.#sources) {
      oldest ??= source;
      if (rate.provedUntilMs > nowMs) continue;
      oldest = source;
      break;
    }
    if (oldest !== null) this.#sources.delete(oldest);
  }
}

interface Seen {
  bootCounter: number;
  highest: number;
  /** Slot `sequence % REPLAY_WINDOW` holds the last sequence seen there. */
  ring: Float64Array;
}

/** Which packets of each unit came already. */
export class ReplayGuard {
  readonly #seen = new Map<string, Seen>();

  /** Whether an authentic packet is new; remembers it. `unit` is the unit id in text. */
  accept(unit: string, bootCounter: number, sequence: number): boolean {
    let seen = this.#seen.get(unit);
    if (seen !== undefined && bootCounter < seen.bootCounter) return false;
    if (seen === undefined || bootCounter > seen.bootCounter) {
      seen = { bootCounter, highest: 0, ring: new Float64Array(wire.REPLAY_WINDOW).fill(-1) };
    }
    if (sequence <= seen.highest - wire.REPLAY_WINDOW) return false;
    const slot = sequence % wire.REPLAY_WINDOW;
    if (seen.ring[slot] === sequence) return false;
    seen.ring[slot] = sequence;
    seen.highest = Math.max(seen.highest, sequence);
    // Last in the map is heard last; the first is forgotten when there are too many.
    this.#seen.delete(unit);
    this.#seen.set(unit, seen);
    if (this.#seen.size > UNITS_REMEMBERED_MAX) {
      const [first] = this.#seen.keys();
      if (first !== undefined) this.#seen.delete(first);
    }
    return true;
  }

  get size(): number {
    return this.#seen.size;
  }
}

/** No amplifier: what an unproved peer gets is never larger than what it sent. */
export function mayAnswer(
  request: { readonly bytes: number; readonly proved: boolean },
  replyBytes: number,
): boolean {
  return request.proved || replyBytes <= request.bytes;
}
