// SPDX-License-Identifier: Apache-2.0
//
// How a unit takes part in the cluster's being claimed: its own code, made once and kept, and the
// owner whom its boot medium names, for whom it claims an unclaimed cluster that it founds, joins
// or is merged into.

import { Fault } from "#base/fault.ts";
import type { Timers, World } from "#base/world.ts";
import type { CommandClient } from "#cluster/commands.ts";
import type { ClusterView } from "#cluster/view.ts";
import type { StateDirectory } from "#machine/state-directory.ts";
import { newClaimCode } from "./claim-code.ts";
import type { Configuration } from "./configuration.ts";

const CODE_FILE = "claim-code";
const RETRY_MS = 5000;

/** The code at this unit; null where the boot medium names the owner. */
export function claimCodeOf(
  world: Pick<World, "random">,
  state: Pick<StateDirectory, "readText" | "write">,
  configuration: Pick<Configuration, "claimCode" | "adminTokenHash">,
): string | null {
  if (configuration.adminTokenHash !== null) return null;
  if (configuration.claimCode !== null) return configuration.claimCode;
  const kept = state.readText(CODE_FILE)?.trim() ?? "";
  if (kept !== "") return kept;
  const code = newClaimCode(world.random);
  state.write(CODE_FILE, `${code}\n`);
  return code;
}

/** Sees to it that the cluster is the owner's; gives up where it is somebody's already. */
export function claimForOwner(
  world: Pick<World, "log">,
  timers: Timers,
  parts: { view: ClusterView; commands: CommandClient; tokenHash: string },
): void {
  const { view, commands, tokenHash } = parts;
  let busy = false;
  const look = () => {
    if (busy || view.cluster === null || view.cluster.state === "yielding") return;
    if (view.isClaimed) return unlisten();
    busy = true;
    commands.ask("claimCluster", { tokenHash, replaces: false, byMedium: true }).then(
      () => {
        busy = false;
      },
      (error: unknown) => {
        if (!(error instanceof Fault)) throw error;
        world.log.write("info", "the boot medium's owner has not got the cluster yet", {
          reason: error.message,
        });
        timers.after(RETRY_MS, () => {
          busy = false;
          look();
        });
      },
    );
  };
  const unlisten = view.onChange(look);
  look();
}
