// SPDX-License-Identifier: Apache-2.0
//
// Rosters: who is on one, whatever the order of coming and going.

import { expect, test } from "bun:test";
import { Prng } from "#base/prng.ts";
import { type Listed, NO_PLACE, Roster } from "./roster.ts";

function somebody(): Listed {
  return { place: NO_PLACE };
}

test("random coming and going → as a Set has it, each at its place", () => {
  const prng = new Prng(2);
  const all = Array.from({ length: 40 }, somebody);
  const roster = new Roster<Listed>();
  const model = new Set<Listed>();
  for (let step = 0; step < 4000; step++) {
    const one = prng.pick(all);
    if (model.has(one) || prng.chance(0.3)) expect(roster.delete(one)).toBe(model.delete(one));
    else {
      roster.add(one);
      model.add(one);
    }
    expect(roster.size).toBe(model.size);
    expect(new Set(roster)).toEqual(model);
  }
});

test("who leaves while all are told → the copy stays whole", () => {
  const roster = new Roster<Listed>();
  const all = [somebody(), somebody(), somebody()];
  for (const one of all) roster.add(one);
  for (const one of roster.list()) roster.delete(one);
  expect(roster.size).toBe(0);
});

test("listed twice, or on two rosters → an assertion", () => {
  const roster = new Roster<Listed>();
  const one = somebody();
  roster.add(one);
  expect(() => roster.add(one)).toThrow("twice");
  expect(() => new Roster<Listed>().add(one)).toThrow("twice");
});
