// SPDX-License-Identifier: Apache-2.0
//
// Fixed addresses that somebody set on the pages or by the CLI, kept in the state directory. Of
// them and the boot medium's the later word counts: they hold instead of what the medium said when
// they were set, and no longer once it says something else, or after a network reset.

import { z } from "zod";
import type { StateDirectory } from "#machine/state-directory.ts";
import type { PassesOver } from "./boot-medium.ts";
import { type NetworkEntry, networkSchema } from "./network-settings.ts";

const FILE = "own-network.json";
const CHARACTERS_MAX = 65_536;

const OwnNetworkSchema = z.strictObject({
  format: z.literal(1),
  network: networkSchema,
  /** What the medium said then, as JSON. */
  insteadOf: z.string().max(CHARACTERS_MAX),
});

/** The fixed addresses that hold, of those that the medium says and those that were set. */
export function networkInForce(
  said: readonly NetworkEntry[],
  state: Pick<StateDirectory, "readText">,
  passesOver: PassesOver,
): NetworkEntry[] {
  const own = readOwn(state);
  const holds = own !== null && own.insteadOf === JSON.stringify(said);
  return holds && !passesOver(JSON.stringify(own.network)) ? own.network : [...said];
}

export function keepOwnNetwork(
  network: readonly NetworkEntry[],
  said: readonly NetworkEntry[],
  state: Pick<StateDirectory, "write">,
): void {
  const kept = { format: 1, network, insteadOf: JSON.stringify(said) };
  state.write(FILE, `${JSON.stringify(kept)}\n`);
}

/** What makes no sense counts as not set: the box then has the network of its medium. */
function readOwn(state: Pick<StateDirectory, "readText">) {
  const text = state.readText(FILE);
  if (text === null) return null;
  try {
    return OwnNetworkSchema.safeParse(JSON.parse(text)).data ?? null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
