// SPDX-License-Identifier: Apache-2.0
//
// The judge is judged in CI: every mutant is found within a bounded number of seeds.

import { expect, setDefaultTimeout, test } from "bun:test";
import { mutants } from "./mutants.ts";
import { runSeed } from "./run-seed.ts";

setDefaultTimeout(240_000);

const SEEDS_MAX = 120;

for (const mutant of mutants) {
  test(`${mutant.name} (${mutant.sentence}) → found`, () => {
    let found = false;
    for (let seed = 1; seed <= SEEDS_MAX && !found; seed++) {
      found = runSeed(seed, { mutant }).violations.length > 0;
    }
    expect(found).toBe(true);
  });
}
