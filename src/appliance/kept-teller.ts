// SPDX-License-Identifier: Apache-2.0
//
// Tells the control station, once, that copies which an owner's override left behind (R8) are there
// on this unit's disks, and what they hold.

import { Fault } from "#base/fault.ts";
import type { CommandClient } from "#cluster/commands.ts";
import { KEPT_TOLD_MAX } from "#cluster/lineages.ts";
import type { ClusterView } from "#cluster/view.ts";
import type { KeptReport } from "./kept-members.ts";

export class KeptTeller {
  readonly #commands: Pick<CommandClient, "ask">;
  readonly #view: ClusterView;
  #asking = false;

  constructor(commands: Pick<CommandClient, "ask">, view: ClusterView) {
    this.#commands = commands;
    this.#view = view;
  }

  /** The reactor's newest report; what is not told yet is told by this or a later one. */
  reported(kept: readonly KeptReport[]): void {
    if (this.#asking || kept.length === 0) return;
    const untold = kept.filter(({ slice, disk }) => {
      const copy = this.#view.slices.get(slice)?.kept?.find((one) => one.disk === disk);
      return copy !== undefined && copy.bytes === undefined;
    });
    if (untold.length === 0) return;
    this.#asking = true;
    const copies = untold.slice(0, KEPT_TOLD_MAX);
    this.#commands.ask("tellKept", { copies }).then(
      () => this.#asked(),
      (error: unknown) => {
        this.#asked();
        if (!(error instanceof Fault)) throw error; // else told again by the next report
      },
    );
  }

  #asked(): void {
    this.#asking = false;
  }
}
