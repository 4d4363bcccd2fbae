// SPDX-License-Identifier: Apache-2.0
//
// Replay and rate: what comes twice, late, too often or from too many places.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import * as wire from "./autoconfig.wire.ts";
import { mayAnswer, RateGuard, ReplayGuard, UNITS_REMEMBERED_MAX } from "./guard.ts";

describe("replay", () => {
  test("twice, or a lower boot counter → refused; a higher one starts anew", () => {
    const guard = new ReplayGuard();
    expect(guard.accept("a", 4, 10)).toBe(true);
    expect(guard.accept("a", 4, 10)).toBe(false);
    expect(guard.accept("a", 4, 9)).toBe(true);
    expect(guard.accept("a", 3, 99)).toBe(false);
    expect(guard.accept("a", 5, 1)).toBe(true);
    expect(guard.accept("a", 4, 11)).toBe(false);
    expect(guard.accept("b", 1, 10)).toBe(true);
  });

  test("older than the window → refused, within it → taken once", () => {
    const guard = new ReplayGuard();
    guard.accept("a", 1, 1000);
    expect(guard.accept("a", 1, 1000 - wire.REPLAY_WINDOW)).toBe(false);
    expect(guard.accept("a", 1, 1001 - wire.REPLAY_WINDOW)).toBe(true);
    expect(guard.accept("a", 1, 1001 - wire.REPLAY_WINDOW)).toBe(false);
  });

  test("any order of any packets → none is taken twice", () => {
    const packet = fc.tuple(fc.nat(3), fc.nat(200));
    fc.assert(
      fc.property(fc.array(packet, { maxLength: 400 }), (packets) => {
        const guard = new ReplayGuard();
        const taken = new Set<string>();
        for (const [boot, sequence] of packets) {
          const name = `${boot}/${sequence}`;
          if (!guard.accept("a", boot, sequence)) continue;
          expect(taken.has(name)).toBe(false);
          taken.add(name);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("more units than are remembered → the longest silent is forgotten", () => {
    const guard = new ReplayGuard();
    for (let unit = 0; unit < 3 * UNITS_REMEMBERED_MAX; unit++) {
      guard.accept("first", 1, unit + 1);
      guard.accept(`unit ${unit}`, 1, 1);
    }
    expect(guard.size).toBe(UNITS_REMEMBERED_MAX);
    expect(guard.accept("first", 1, 3 * UNITS_REMEMBERED_MAX)).toBe(false);
  });
});

describe("rate", () => {
  function taken(
    guard: RateGuard,
    count: number,
    source: (index: number) => string,
    nowMs: number,
  ) {
    let sum = 0;
    for (let index = 0; index < count; index++) if (guard.admit(source(index), nowMs)) sum++;
    return sum;
  }

  test("one source → its burst, then its rate", () => {
    const guard = new RateGuard();
    expect(taken(guard, 1000, () => "a", 0)).toBe(wire.SOURCE_BURST);
    expect(taken(guard, 1000, () => "a", 1000)).toBe(wire.SOURCE_PER_SECOND);
    expect(taken(guard, 1000, () => "a", 1e9)).toBe(wire.SOURCE_BURST);
  });

  test("many spoofed sources → one budget, bounded memory; a proved one still gets in", () => {
    const guard = new RateGuard();
    guard.admit("friend", 0);
    guard.proved("friend", 0);
    expect(taken(guard, 50_000, (index) => `stranger ${index}`, 1)).toBeLessThanOrEqual(
      wire.STRANGERS_BURST,
    );
    expect(guard.size).toBeLessThanOrEqual(wire.SOURCES_MAX);
    expect(guard.admit("friend", 1)).toBe(true);
    expect(guard.admit("another stranger", 1)).toBe(false);
    expect(taken(guard, 5000, (index) => `later ${index}`, 1001)).toBe(wire.STRANGERS_PER_SECOND);
  });

  test("an answer larger than the request → only to a proved peer", () => {
    expect(mayAnswer({ bytes: 100, proved: false }, 101)).toBe(false);
    expect(mayAnswer({ bytes: 100, proved: false }, 100)).toBe(true);
    expect(mayAnswer({ bytes: 100, proved: true }, 5000)).toBe(true);
  });
});
