// SPDX-License-Identifier: Apache-2.0
//
// A unit that its owner removed from a cluster remembers it, so that it stays out (R12): it neither
// asks that cluster again nor looks for another one, until it is made new. Then it is another unit,
// with another key; what its disks hold of the old cluster is left alone as another cluster's.

import { z } from "zod";
import { idSchema } from "#cluster/state.ts";
import type { StateDirectory } from "#machine/state-directory.ts";
import { IDENTITY_FILE } from "./unit-identity.ts";

const REMOVED_FILE = "removed.json";

const RemovalSchema = z.object({ clusterId: idSchema, clusterName: z.string().max(63) });
export type Removal = z.infer<typeof RemovalSchema>;

/** Null: it was not removed. */
export function readRemoval(state: Pick<StateDirectory, "readText">): Removal | null {
  const text = state.readText(REMOVED_FILE);
  return text === null ? null : RemovalSchema.parse(JSON.parse(text));
}

export function writeRemoval(state: Pick<StateDirectory, "write">, removal: Removal): void {
  state.write(REMOVED_FILE, `${JSON.stringify(removal)}\n`);
}

/** From the next start on it is a new unit. The removal goes last: it is what this is asked for. */
export function makeNew(state: Pick<StateDirectory, "remove">): void {
  state.remove(IDENTITY_FILE);
  state.remove(REMOVED_FILE);
}
