// SPDX-License-Identifier: Apache-2.0
//
// Which tokens are known to a unit: its own, and those of the cluster's administrators, of which it
// knows the hashes alone. Compared in equal time, all of them, whichever it is.

import type { Seal } from "#base/world.ts";

export interface KnownTokens {
  seal: Pick<Seal, "sha256" | "equal">;
  /** Made once by the unit, kept in its state directory. */
  token: string;
  /** SHA-256 of the tokens of the cluster's administrators, hex. */
  administrators(): readonly string[];
}

/** The hash of a token, hex, if it is one of ours; null: it is not. */
export function knownToken(shown: string, { seal, token, administrators }: KnownTokens) {
  const encoder = new TextEncoder();
  // Hashes have one length, so that not even the token's length shows in the time taken.
  const digest = seal.sha256(encoder.encode(shown));
  let known = seal.equal(digest, seal.sha256(encoder.encode(token)));
  for (const hash of administrators()) {
    const same = seal.equal(digest, Uint8Array.fromHex(hash));
    known = known || same;
  }
  return known ? digest.toHex() : null;
}
