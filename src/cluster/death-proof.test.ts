// SPDX-License-Identifier: Apache-2.0
//
// When a unit counts as dead for certain, in virtual time.

import { drainMicrotasks } from "bun:jsc";
import { beforeEach, expect, test } from "bun:test";
import { DeathProof } from "./death-proof.ts";
import { VirtualTime } from "./virtual-time-fixture.ts";

let time: VirtualTime;
let refuses: boolean;
let asked: number;
let proof: DeathProof;

beforeEach(() => {
  time = new VirtualTime(drainMicrotasks);
  [refuses, asked] = [false, 0];
  proof = new DeathProof({ clock: time }, time, async () => {
    asked++;
    return refuses;
  });
});

test("its link is down and its box refuses → dead, since the first refusal", () => {
  proof.linkChanged(2, { up: false });
  time.pass(1000);
  expect(proof.deadSince(2)).toBeNull();
  refuses = true;
  time.pass(1000);
  const since = proof.deadSince(2) ?? 0;
  expect(since).toBeGreaterThan(time.nowMs() - 1001);
  time.pass(5000);
  expect(proof.deadSince(2)).toBe(since);
});

test("it takes a connection again, or its link is up → not dead any more", () => {
  refuses = true;
  proof.linkChanged(2, { up: false });
  time.pass(500);
  expect(proof.deadSince(2)).not.toBeNull();
  refuses = false;
  time.pass(300);
  expect(proof.deadSince(2)).toBeNull();
  refuses = true;
  time.pass(500);
  proof.linkChanged(2, { up: true });
  expect(proof.deadSince(2)).toBeNull();
});

test("away for long → asked for a while, then no more, and nothing is proven", () => {
  refuses = true;
  proof.linkChanged(2, { up: false });
  time.pass(20_000);
  const before = asked;
  time.pass(600_000);
  expect([asked, proof.deadSince(2)]).toEqual([before, null]);
});

test("one that was never suspected, or after the stop → nothing", () => {
  expect(proof.deadSince(7)).toBeNull();
  refuses = true;
  proof.linkChanged(2, { up: false });
  time.pass(300);
  proof.stop();
  expect(proof.deadSince(2)).toBeNull();
});
