// SPDX-License-Identifier: Apache-2.0
//
// Backups of the control state in memory, for the tests of API, page and CLI.

import { Fault } from "#base/fault.ts";
import type {
  BackupsView,
  ControlBackend,
  RebuildView,
  RestoreRequest,
  RestoreView,
  SettleView,
} from "#appliance/control-desk.ts";
import { endDryRun } from "#appliance/dry-run.ts";
import type { KeptBackup } from "#appliance/control-backups.ts";

const BYTES = new TextEncoder().encode("a sealed backup");

export class MemoryControl implements ControlBackend {
  /** While set the control store answers, and nothing is restored. */
  answers = true;
  restored: RestoreRequest[] = [];
  rebuilds = 0;
  /** Disks that have told, while a rebuilt state gathers; null: it does not. */
  told: number | null = null;
  readonly #here: KeptBackup[] = [];

  backups(): BackupsView {
    const [newest] = this.#here;
    const keptAtMs = newest?.takenAtMs ?? null;
    return { here: [...this.#here], units: [{ unit: 1, name: "attic", keptAtMs }] };
  }

  async takeBackup(): Promise<KeptBackup> {
    const kept: KeptBackup = {
      name: "control-backup-0",
      clusterId: "cd".repeat(16),
      generation: { number: 1, id: "00".repeat(16) },
      revision: 7,
      takenAtMs: 1_767_312_000_000,
      entries: 3,
      bytes: BYTES.length,
    };
    this.#here.splice(0, 1, kept);
    return kept;
  }

  readBackup(name: string): Uint8Array {
    if (!this.#here.some((kept) => kept.name === name)) {
      throw new Fault("notFound", `no backup ${name} is kept here`);
    }
    return BYTES;
  }

  restore(request: RestoreRequest): RestoreView {
    if (this.answers) throw new Fault("conflict", "the control store answers");
    const [kept] = this.#here;
    if (kept === undefined) throw new Fault("notFound", "no backup is kept on this unit");
    if (!request.dryRun) this.restored.push(request);
    const { name: _, ...backup } = kept;
    const sentences = ["right only if the voters are gone", "generation 2 begins"];
    return { backup, generation: 2, sentences, begun: !request.dryRun };
  }

  get gathering(): boolean {
    return this.told !== null;
  }

  rebuild({ dryRun }: { dryRun: boolean }): RebuildView {
    if (this.answers) throw new Fault("conflict", "the control store answers");
    if (!dryRun) this.rebuilds++;
    const sentences = ["right only if no backup is left", "generation 2 begins"];
    return { remembersAtMs: null, generation: 2, sentences, begun: !dryRun };
  }

  async settle(): Promise<SettleView> {
    const disks = this.told;
    if (disks === null) throw new Fault("conflict", "nothing is gathered");
    endDryRun("it is settled");
    this.told = null;
    return { disks };
  }
}
