// SPDX-License-Identifier: Apache-2.0
//
// Which disks a unit takes (design, section 4). A process on somebody's machine takes those that
// its configuration names, and no others. An appliance takes those too where any are named, else
// what its box has; and it claims nothing blank while it has no join secret, or a boot medium that
// cannot be understood. A witness has none.

import { disksMark, findCandidates } from "#machine/machine-disks.ts";
import type { DiskSearch } from "#machine/machine-disks.ts";
import type { StateDirectory } from "#machine/state-directory.ts";
import type { Configuration } from "./configuration.ts";
import type { DiskWatch, KeeperOptions } from "./disk-keeper.ts";
import type { NetworkEntry } from "./network-settings.ts";

/** What is different for a unit that has its box to itself. */
export interface ApplianceRole {
  /** Which of the box's disks are considered, where the configuration names none. */
  search: DiskSearch;
  /** What is wrong with the boot medium, as a sentence; null: nothing. */
  wrongMedium: string | null;
  /** The fixed addresses that its boot medium says at the moment. */
  network(state: StateDirectory): Promise<readonly NetworkEntry[]>;
}

/** The spare partitions that were cleared for us, one id a line. */
const CLEARED_FILE = "cleared-spares";

export function applianceDisks(
  configuration: Pick<Configuration, "disks" | "joinSecret" | "role">,
  state: Pick<StateDirectory, "readText" | "write">,
  appliance: ApplianceRole | null,
): Pick<KeeperOptions, "watch" | "heldBack"> {
  if (appliance === null) return { watch: null, heldBack: null };
  // A witness takes none, whatever its box has.
  const takesNone = configuration.disks.length > 0 || configuration.role === "witness";
  const watch = takesNone ? null : diskWatch(appliance, state);
  return { watch, heldBack: heldBack(configuration, appliance) };
}

function heldBack(
  configuration: Pick<Configuration, "joinSecret">,
  appliance: ApplianceRole,
): string | null {
  if (appliance.wrongMedium !== null) return "the boot medium is wrong";
  return configuration.joinSecret === null ? "this unit has no join secret" : null;
}

function diskWatch(
  { search }: ApplianceRole,
  state: Pick<StateDirectory, "readText" | "write">,
): DiskWatch {
  const ids = () => (state.readText(CLEARED_FILE) ?? "").split("\n").filter((id) => id !== "");
  return {
    mark: () => disksMark(search),
    find: () => findCandidates(search),
    isCleared: (id) => ids().includes(id),
    cleared: (id) => state.write(CLEARED_FILE, `${[...ids(), id].join("\n")}\n`),
  };
}
