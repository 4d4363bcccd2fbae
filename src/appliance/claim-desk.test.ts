// SPDX-License-Identifier: Apache-2.0
//
// The claim code at a unit: what is taken, what is refused, and how often one may try.

import { expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { createSeal } from "#machine/seal.ts";
import { ClaimDesk, TRIES_MAX, TRIES_MS } from "./claim-desk.ts";

const CODE = "K7QWM-2XHDA";
const WRONG = "sesame-open";

function desk(code: string | null = CODE) {
  const logged: string[] = [];
  const clock = { now: 1000, nowMs: () => clock.now, wallMs: () => 0 };
  const log = {
    write: (_level: string, sentence: string, facts?: object) =>
      void logged.push(`${sentence} ${JSON.stringify(facts)}`),
  };
  const made = new ClaimDesk({ clock, log, seal: createSeal() }, code);
  const answer = (typed: string): string => {
    try {
      made.check(typed);
      return "taken";
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      if (typed !== "") expect(error.message).not.toContain(typed);
      return error.code;
    }
  };
  return { answer, clock, logged };
}

test("the code, as people type it → taken; another → forbidden, and in no log", () => {
  const { answer, logged } = desk();
  expect([answer(CODE), answer("k7qwm 2xhda"), answer(WRONG)]).toEqual([
    "taken",
    "taken",
    "forbidden",
  ]);
  expect(logged.join()).toContain("a wrong claim code was tried");
  expect(logged.join()).not.toContain(WRONG);
});

test("more than five wrong tries a minute → refused, the right code too; later → taken", () => {
  const { answer, clock } = desk();
  for (let at = 0; at < TRIES_MAX; at++) {
    expect(answer(WRONG)).toBe("forbidden");
    clock.now += 1000;
  }
  expect([answer(CODE), answer(WRONG)]).toEqual(["rateLimited", "rateLimited"]);
  // Refused tries do not count: the first one leaves the minute, and one may try once.
  clock.now = 1000 + TRIES_MS - 1;
  expect(answer(CODE)).toBe("rateLimited");
  clock.now += 1;
  expect([answer(CODE), answer(WRONG), answer(CODE)]).toEqual([
    "taken",
    "forbidden",
    "rateLimited",
  ]);
});

test("the right code as often as somebody likes → taken, and the wrong ones still count", () => {
  const { answer } = desk();
  for (let at = 0; at < TRIES_MAX; at++) {
    for (let again = 0; again < 20; again++) expect(answer(CODE)).toBe("taken");
    expect(answer(WRONG)).toBe("forbidden");
  }
  expect([answer(CODE), answer(WRONG)]).toEqual(["rateLimited", "rateLimited"]);
});

test("in no minute of any guessing more than five answers come", () => {
  const { answer, clock } = desk();
  const answered: number[] = [];
  for (let at = 0; at < 600; at++) {
    clock.now += 777;
    if (answer(WRONG) === "forbidden") answered.push(clock.now);
  }
  for (const start of answered) {
    const within = answered.filter((atMs) => atMs >= start && atMs < start + TRIES_MS);
    expect(within.length).toBeLessThanOrEqual(TRIES_MAX);
  }
  expect(answered.length).toBeGreaterThan(TRIES_MAX * 5);
});

test("no code at this unit → nothing is taken, not even nothing", () => {
  const { answer } = desk(null);
  expect([answer(""), answer("null"), answer(CODE)]).toEqual(Array(3).fill("forbidden"));
});
