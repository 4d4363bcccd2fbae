// SPDX-License-Identifier: Apache-2.0
//
// After a restored backup: tells the control station which slices this unit's disks hold, and by
// which records, once per disk and generation (cluster/restored-changes.ts). The whole unit is in
// that generation by then, so nothing that it tells of is changed by an older one any more.

import { Fault } from "#base/fault.ts";
import type { DiskNumber, UnitNumber } from "#base/record.ts";
import type { Timers, World } from "#base/world.ts";
import type { CommandClient } from "#cluster/commands.ts";
import { FIRST_GENERATION, generationOf } from "#cluster/generation.ts";
import type { ClusterView } from "#cluster/view.ts";
import type { Held } from "./held-records.ts";
import type { ReactorClient } from "./reactor-client.ts";

const AGAIN_MS = 2000;

export interface HeldParts {
  unit: UnitNumber;
  view: ClusterView;
  commands: Pick<CommandClient, "ask">;
  reactor: Pick<ReactorClient, "report" | "held">;
}

export class HeldTelling {
  readonly #world: Pick<World, "log">;
  readonly #timers: Timers;
  readonly #parts: HeldParts;
  #busy = false;
  #stopped = false;

  constructor(world: Pick<World, "log">, timers: Timers, parts: HeldParts) {
    this.#world = world;
    this.#timers = timers;
    this.#parts = parts;
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Tells what is not told yet; called when view or reactor have news. */
  look(): void {
    if (this.#busy || this.#stopped || this.#untold() === null) return;
    this.#busy = true;
    void this.#tellAll();
  }

  async #tellAll(): Promise<void> {
    try {
      for (let next = this.#untold(); next !== null && !this.#stopped; next = this.#untold()) {
        await this.#tell(next.disk, next.generation);
      }
      this.#busy = false;
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#world.log.write("debug", "what disks hold is told later", { reason: error.message });
      this.#timers.after(AGAIN_MS, () => {
        this.#busy = false;
        this.look();
      });
    }
  }

  /** A disk here that works and has not told in this generation. */
  #untold(): { disk: DiskNumber; generation: string } | null {
    const { view, unit, reactor } = this.#parts;
    if (view.cluster === null) return null;
    const { id } = generationOf(view.cluster);
    if (id === FIRST_GENERATION.id) return null;
    for (const { number, uuid, toldGeneration } of view.disksOfUnit(unit)) {
      if (toldGeneration === id) continue;
      const isOpen = reactor.report.disks.some((one) => one.uuid === uuid && one.number === number);
      if (isOpen) return { disk: number, generation: id };
    }
    return null;
  }

  async #tell(disk: DiskNumber, generation: string): Promise<void> {
    for (let from: number | null = 0; from !== null;) {
      const { records, next }: Held = await this.#parts.reactor.held(disk, from);
      const isLast = next === null;
      await this.#parts.commands.ask("tellHeld", { disk, generation, records, isLast });
      from = next;
    }
    this.#world.log.write("info", "a disk has told which slices it holds", { disk });
  }
}
