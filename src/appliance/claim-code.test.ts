// SPDX-License-Identifier: Apache-2.0
//
// Claim codes: what is one, what a unit makes, what counts as the same.

import { expect, test } from "bun:test";
import { createRandom } from "#machine/random.ts";
import { createSeal } from "#machine/seal.ts";
import { claimCodeFault, newClaimCode, plainCode, sameCode } from "./claim-code.ts";

test("codes that a unit makes → two groups, no signs that look alike, none twice", () => {
  const random = createRandom();
  const codes = Array.from({ length: 500 }, () => newClaimCode(random));
  for (const code of codes) {
    expect(code).toMatch(/^[234679ACDEFGHJKMNPQRTWXYZ]{5}-[234679ACDEFGHJKMNPQRTWXYZ]{5}$/);
    expect(claimCodeFault(code)).toBeNull();
  }
  expect(new Set(codes).size).toBe(codes.length);
});

test("bytes past the last whole multiple of the alphabet are drawn again", () => {
  const bytes = [255, 250, 249, 0, 1, 2, 3, 4, 5, 6, 7, 8];
  const fill = (target: Uint8Array) => void (target[0] = bytes.shift() ?? 9);
  expect(newClaimCode({ fill, fraction: () => 0 })).toBe("Z2346-79ACD");
});

test("case, blanks and dashes do not count; anything else does", () => {
  const seal = createSeal();
  expect(plainCode(" k7qwm-2xhda ")).toBe("K7QWM2XHDA");
  for (const typed of ["K7QWM-2XHDA", "k7qwm2xhda", " k7q wm-2xh da\n"]) {
    expect([typed, sameCode(seal, typed, "K7QWM-2XHDA")]).toEqual([typed, true]);
  }
  for (const typed of ["", "K7QWM-2XHD", "K7QWM-2XHDAA", "K7QWM_2XHDA", "X7QWM-2XHDA"]) {
    expect([typed, sameCode(seal, typed, "K7QWM-2XHDA")]).toEqual([typed, false]);
  }
});
