// SPDX-License-Identifier: Apache-2.0
//
// Clusters that a unit left while they were virgin: their mark on a disk without slices is void.

import { z } from "zod";
import { LEFT_MAX } from "#cluster/giving-way.ts";
import { idSchema } from "#cluster/state.ts";
import type { StateDirectory } from "#machine/state-directory.ts";

const LEFT_FILE = "left-clusters.json";

export function readLeft(state: Pick<StateDirectory, "readText">): string[] {
  const text = state.readText(LEFT_FILE);
  return text === null ? [] : z.array(idSchema).parse(JSON.parse(text));
}

export function addLeft(
  state: Pick<StateDirectory, "readText" | "write">,
  clusterIds: readonly string[],
): void {
  const left = [...new Set([...readLeft(state), ...clusterIds])].slice(-LEFT_MAX);
  state.write(LEFT_FILE, `${JSON.stringify(left)}\n`);
}
