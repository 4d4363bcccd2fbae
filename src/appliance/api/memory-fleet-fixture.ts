// SPDX-License-Identifier: Apache-2.0
//
// Two units in memory that can be evacuated, moved, replaced and removed, for the tests of API,
// page and CLI. It refuses what a unit would refuse, by the same Faults.

import { Fault } from "#base/fault.ts";
import type { PlaceInPools } from "#cluster/pool-state.ts";
import type { Question } from "#cluster/questions.ts";
import type { LossRow } from "#cluster/volume-state.ts";
import type { Fleet, WhatIfQuestion } from "#appliance/fleet.ts";
import type { WhatIf } from "#appliance/what-if.ts";

const NOTHING: WhatIf = {
  volumes: [],
  untouched: 1,
  controlStops: false,
  copiesBytesMax: 0,
  afterMs: 600_000,
  withoutRoom: 0,
  sentences: ["no volume would notice"],
};

export class MemoryFleet implements Fleet {
  /** By number: whether it is removed then. */
  readonly evacuated = new Map<number, boolean>();
  readonly removed: [number, boolean][] = [];
  readonly replaced: [number, number][] = [];
  readonly asked: WhatIfQuestion[] = [];
  /** While set, evacuations find no room and removals cost a copy. */
  isTight = false;
  answer: WhatIf = NOTHING;
  open: Question[] = [];

  evacuationOf(unit: number) {
    const thenRemove = this.evacuated.get(unit);
    if (thenRemove === undefined) return null;
    const sentence = "1 of 4 slices are moved; about 12 min more at the pace so far";
    return { thenRemove, slices: 4, left: 3, leftMs: 700_000, isStuck: false, sentence };
  }

  async evacuate(
    name: string,
    options: { thenRemove: boolean; force: boolean; dryRun: boolean },
  ): Promise<WhatIf> {
    const unit = numberOf(name);
    if (this.isTight && !options.force && !options.dryRun) {
      throw new Fault("noSpace", `cairn-000${unit} cannot be emptied: there is no room`);
    }
    if (!options.dryRun) this.evacuated.set(unit, options.thenRemove);
    return this.answer;
  }

  readonly places = new Map<number, PlaceInPools>();
  placeOf(unit: number): PlaceInPools {
    return this.places.get(unit) ?? { role: "member", pool: "pool" };
  }
  async move(
    name: string,
    to: PlaceInPools,
    options: { force: boolean; dryRun: boolean },
  ): Promise<WhatIf> {
    const unit = numberOf(name);
    if (this.isTight && !options.force && !options.dryRun) {
      throw new Fault("noSpace", `cairn-000${unit} cannot be emptied: there is no room`);
    }
    if (to.role === "member" && to.pool === null) {
      throw new Fault("badRequest", "a member is in a pool; a spare may be in none");
    }
    if (!options.dryRun) this.places.set(unit, to);
    return this.answer;
  }

  readonly maintained = new Map<number, number>();
  maintenanceOf(unit: number) {
    const forMs = this.maintained.get(unit);
    if (forMs === undefined) return null;
    const sentence = "it heads nothing: it can be switched off or restarted; for 2 h more at most";
    return { by: "owner" as const, untilMs: forMs, leftMs: forMs, heads: 0, sentence };
  }
  async maintain(
    name: string,
    options: { forMs: number; force: boolean; dryRun: boolean },
  ): Promise<WhatIf> {
    const unit = numberOf(name);
    if (options.dryRun) return this.answer;
    if (this.isTight && !options.force) {
      const what = "one: offline while it is away";
      throw new Fault("conflict", `cairn-000${unit} cannot go into maintenance: ${what}`);
    }
    this.maintained.set(unit, options.forMs);
    return this.answer;
  }
  async endMaintenance(name: string): Promise<void> {
    const unit = numberOf(name);
    if (!this.maintained.delete(unit)) throw new Fault("conflict", "it is not in maintenance");
  }

  async keep(name: string): Promise<void> {
    const unit = numberOf(name);
    if (!this.evacuated.delete(unit)) throw new Fault("conflict", "it is not being evacuated");
  }

  async replace(name: string, by: string): Promise<WhatIf> {
    this.replaced.push([numberOf(name), numberOf(by)]);
    return this.evacuate(name, { thenRemove: true, force: true, dryRun: false });
  }

  async remove(name: string, { force }: { force: boolean }): Promise<void> {
    const unit = numberOf(name);
    if (this.isTight && !force) {
      throw new Fault("conflict", "removing it costs protection: v: goes on with a copy fewer");
    }
    this.removed.push([unit, force]);
  }

  losses(): LossRow[] {
    return [1, 2].map((unit) => ({
      unit,
      name: `cairn-000${unit}`,
      stops: [],
      waits: unit === 1 ? ["one"] : [],
      weakened: unit === 1 ? [] : ["one"],
      controlStops: unit === 1,
      sentences: [unit === 1 ? "the control store stops" : "one: goes on with one copy fewer"],
    }));
  }

  questions(): Question[] {
    return this.open;
  }

  whatIf(question: WhatIfQuestion): WhatIf {
    this.asked.push(question);
    if (question.unit !== undefined) numberOf(question.unit);
    if (question.maintenance !== undefined) numberOf(question.maintenance);
    return this.answer;
  }
}

function numberOf(name: string): number {
  const found = [1, 2].find((unit) => name === String(unit) || name === `cairn-000${unit}`);
  if (found === undefined) throw new Fault("notFound", `there is no unit ${name}`);
  return found;
}
