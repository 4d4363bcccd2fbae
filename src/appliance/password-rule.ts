// SPDX-License-Identifier: Apache-2.0
//
// What a password for the pages must be: long enough, and short enough to be hashed at once (NIST
// SP 800-63B: length counts, composition rules do not).

export const PASSWORD_CHARACTERS_MIN = 10;
export const PASSWORD_CHARACTERS_MAX = 200;

/** Why a text cannot be a password, or null. The sentence never shows it. */
export function passwordFault(text: string): string | null {
  const characters = [...text].length;
  if (characters < PASSWORD_CHARACTERS_MIN) {
    return `a password has at least ${PASSWORD_CHARACTERS_MIN} characters`;
  }
  if (characters > PASSWORD_CHARACTERS_MAX) {
    return `a password has at most ${PASSWORD_CHARACTERS_MAX} characters`;
  }
  return null;
}
