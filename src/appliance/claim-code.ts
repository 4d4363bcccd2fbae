// SPDX-License-Identifier: Apache-2.0
//
// Claim codes: what a person reads on a box's screen, or put on its boot medium, and types to claim
// the cluster. Case, blanks and dashes do not count; letters and digits that look alike are never
// in a code that a unit makes.

import { z } from "zod";
import type { Random, Seal } from "#base/world.ts";

/** Letters and digits of a code, dashes not counted. */
export const CODE_CHARACTERS_MIN = 8;
export const CODE_CHARACTERS_MAX = 64;
/** Without 0 O, 1 I L, 5 S, 8 B, U V: 25 signs. 10 of them are 46 bits. */
const ALPHABET = "234679ACDEFGHJKMNPQRTWXYZ";
const MADE_CHARACTERS = 10;
const GROUP = 5;

/** A code as it is compared: capital letters and digits alone. */
export function plainCode(text: string): string {
  return text.replaceAll(/[\s-]+/g, "").toUpperCase();
}

/** Why a text cannot be a code, or null. The sentence never shows it. */
export function claimCodeFault(text: string): string | null {
  const plain = plainCode(text);
  if (!/^[A-Z0-9]*$/.test(plain)) return "letters, digits and dashes only";
  if (plain.length < CODE_CHARACTERS_MIN) {
    return `at least ${CODE_CHARACTERS_MIN} letters and digits`;
  }
  if (plain.length > CODE_CHARACTERS_MAX) {
    return `at most ${CODE_CHARACTERS_MAX} letters and digits`;
  }
  return null;
}

export const claimCodeSchema = z.string().superRefine((text, context) => {
  const fault = claimCodeFault(text);
  if (fault !== null) context.addIssue({ code: "custom", message: fault });
});

/** A fresh code such as `K7QWM-2XHDA`. */
export function newClaimCode(random: Random): string {
  // Bytes past the last whole multiple are drawn again: every sign is equally likely.
  const limit = 256 - (256 % ALPHABET.length);
  const bytes = new Uint8Array(1);
  let code = "";
  while (code.length < MADE_CHARACTERS) {
    random.fill(bytes);
    const byte = bytes[0] as number;
    if (byte < limit) code += ALPHABET[byte % ALPHABET.length] as string;
  }
  return `${code.slice(0, GROUP)}-${code.slice(GROUP)}`;
}

/** Whether somebody typed the code; takes equally long whatever was typed. */
export function sameCode(
  seal: Pick<Seal, "sha256" | "equal">,
  typed: string,
  code: string,
): boolean {
  const digest = (text: string) => seal.sha256(new TextEncoder().encode(plainCode(text)));
  return seal.equal(digest(typed), digest(code));
}
