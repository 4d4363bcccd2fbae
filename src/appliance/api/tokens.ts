// SPDX-License-Identifier: Apache-2.0
//
// Which tokens are known to a unit: its own, and those of the cluster, of which it knows the hashes
// alone. Compared in equal time, all of them, whichever it is.

import type { Seal } from "#base/world.ts";
import type { TokenRecord } from "#cluster/user-state.ts";
import type { Known } from "#appliance/backend.ts";

export interface KnownTokens {
  seal: Pick<Seal, "sha256" | "equal">;
  /** Made once by the unit, kept in its state directory. */
  token: string;
  /** Of the unit, for the audit trail. */
  unitName: string;
  /** Of the cluster, its owner's among them. */
  tokens(): readonly Pick<TokenRecord, "name" | "role" | "tokenHash">[];
}

/** Whose token this is, and its hash, hex; null: it is none of ours. */
export function knownToken(shown: string, known: KnownTokens): (Known & { hash: string }) | null {
  const digest = known.seal.sha256(new TextEncoder().encode(shown));
  const found = holderOf(digest, known);
  return found === null ? null : { ...found, hash: digest.toHex() };
}

/** Whose token has this hash; null: it is none of ours (any more). */
export function holderOf(
  digest: Uint8Array,
  { seal, token, unitName, tokens }: KnownTokens,
): Known | null {
  // Hashes have one length, so that not even the token's length shows in the time taken.
  const isOwn = seal.equal(digest, seal.sha256(new TextEncoder().encode(token)));
  let known: Known | null = isOwn ? { role: "admin", actor: `the token of ${unitName}` } : null;
  for (const { name, role, tokenHash } of tokens()) {
    const same = seal.equal(digest, Uint8Array.fromHex(tokenHash));
    if (same) known ??= { role, actor: `token ${name}` };
  }
  return known;
}
