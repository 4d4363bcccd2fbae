// SPDX-License-Identifier: Apache-2.0
//
// Who a unit is: its key, kept sealed in the state directory, and the name it goes by. R12: made
// once; a wiped state directory makes another unit.

import type { World } from "#base/world.ts";
import { identityText, idText, makeIdentity, parseIdentity } from "#cluster/identity.ts";
import type { UnitIdentity } from "#cluster/identity.ts";
import { SecretBox } from "#machine/secret-box.ts";
import type { StateDirectory } from "#machine/state-directory.ts";

export const IDENTITY_FILE = "identity.sealed";

export async function loadIdentity(
  world: Pick<World, "seal">,
  state: StateDirectory,
): Promise<UnitIdentity> {
  const box = await SecretBox.open(state);
  const sealed = state.read(IDENTITY_FILE);
  if (sealed !== null) {
    return parseIdentity(world.seal, new TextDecoder().decode(box.openSecret(sealed)));
  }
  const identity = makeIdentity(world.seal);
  state.write(IDENTITY_FILE, box.sealSecret(new TextEncoder().encode(identityText(identity))));
  return identity;
}

/** The name of the configuration, or one made of the identity. */
export function unitName(configured: string | null, identity: UnitIdentity): string {
  return configured ?? `cairn-${idText(identity.unitId).slice(0, 4)}`;
}
