// SPDX-License-Identifier: Apache-2.0
//
// What an owner does with units: evacuate, move, keep, replace, remove, and ask beforehand what a
// loss would mean. The interface behind REST, CLI and pages, and the unit's implementation of it.

import { Fault } from "#base/fault.ts";
import type { DiskNumber, UnitNumber } from "#base/record.ts";
import type { World } from "#base/world.ts";
import { MAINTENANCE_MS_DEFAULT, maintenanceCosts } from "#cluster/maintenance.ts";
import { questionsOf } from "#cluster/questions.ts";
import type { Question } from "#cluster/questions.ts";
import type { PlaceInPools } from "#cluster/pool-state.ts";
import type { UnitRecord } from "#cluster/state.ts";
import type { ClusterView } from "#cluster/view.ts";
import { lossTable } from "#cluster/volume-state.ts";
import type { LossRow } from "#cluster/volume-state.ts";
import type { ClusterLife } from "./cluster-life.ts";
import { whatIf } from "./what-if.ts";
import type { Subject, WhatIf } from "./what-if.ts";

/** One of them: a unit or disk lost or away, or the network between two units. */
export interface WhatIfQuestion {
  unit?: string | undefined;
  disk?: DiskNumber | undefined;
  link?: [string, string] | undefined;
  /** A unit that is switched off while it is in maintenance. */
  maintenance?: string | undefined;
}

export interface Fleet {
  /**
   * Moves everything a unit holds to others while it serves; `force`: also where not all finds
   * room. Answers what it comes to, `dryRun` changes nothing.
   */
  evacuate(
    unit: string,
    options: { thenRemove: boolean; force: boolean; dryRun: boolean },
  ): Promise<WhatIf>;
  /**
   * Puts a unit into a pool as a member or a spare, or makes it a spare for all (`pool` null): at
   * once where it holds nothing that stays behind, else once it is emptied as by `evacuate`.
   */
  move(
    unit: string,
    to: PlaceInPools,
    options: { force: boolean; dryRun: boolean },
  ): Promise<WhatIf>;
  /**
   * Takes a unit out for work: heads and lead go to others, its copies are waited for, for `forMs`
   * at most. Refused while something would stop meanwhile, unless `force`. Answers what its absence
   * comes to; `dryRun` changes nothing.
   */
  maintain(
    unit: string,
    options: { forMs: number; force: boolean; dryRun: boolean },
  ): Promise<WhatIf>;
  endMaintenance(unit: string): Promise<void>;
  /** Takes an evacuation back, or a move that waits for one. */
  keep(unit: string): Promise<void>;
  /** `by` takes the unit's place, then the unit is evacuated and removed. */
  replace(unit: string, by: string): Promise<WhatIf>;
  /** Refused while it costs protection, unless `force`; never where data would be lost. */
  remove(unit: string, options: { force: boolean }): Promise<void>;
  whatIf(question: WhatIfQuestion): WhatIf;
  /** R5: for each unit, what is lost or stops when it fails. */
  losses(): LossRow[];
  /** What an owner must decide now, the worst first. */
  questions(): Question[];
}

const SEEN_MS_MAX = 15_000;

export class UnitFleet implements Fleet {
  readonly #world: Pick<World, "clock">;
  /** Throws while the unit is in no cluster. */
  readonly #life: () => ClusterLife;

  constructor(world: Pick<World, "clock">, life: () => ClusterLife) {
    this.#world = world;
    this.#life = life;
  }

  async evacuate(
    name: string,
    options: { thenRemove: boolean; force: boolean; dryRun: boolean },
  ): Promise<WhatIf> {
    const life = this.#life();
    const { view } = life.follower;
    const { number } = findUnit(view, name);
    const expected = this.#expected(life, number, options.force || options.dryRun);
    if (options.dryRun) return expected;
    await life.commands.ask("evacuateUnit", { unit: number, thenRemove: options.thenRemove });
    await this.#until(life, () => view.units.get(number)?.evacuation !== undefined);
    return expected;
  }

  async move(
    name: string,
    { role, pool }: PlaceInPools,
    options: { force: boolean; dryRun: boolean },
  ): Promise<WhatIf> {
    const life = this.#life();
    const { view } = life.follower;
    const { number } = findUnit(view, name);
    if (pool !== null && !view.pools.has(pool)) {
      throw new Fault("notFound", `there is no pool ${pool}`);
    }
    // One that holds nothing has nothing to find room for, however others are.
    const isEmpty = view.slicesOfUnit(number).length === 0;
    const accept = options.force || options.dryRun || isEmpty;
    const expected = this.#expected(life, number, accept);
    if (options.dryRun) return expected;
    await life.commands.ask("moveUnit", { unit: number, role, pool });
    await this.#until(life, () => {
      const unit = view.units.get(number);
      const isThere = unit?.role === role && unit.pool === pool;
      return isThere || unit?.evacuation?.thenMove !== undefined;
    });
    return expected;
  }

  /** What an evacuation comes to; a Fault where not everything finds room and nobody insists. */
  #expected(life: ClusterLife, unit: UnitNumber, accept: boolean): WhatIf {
    const { view } = life.follower;
    const expected = whatIf(view, { kind: "evacuation", unit }, life.knownVoters);
    if ((expected.withoutRoom ?? 0) > 0 && !accept) {
      const { name } = view.units.get(unit) as UnitRecord;
      const why = expected.sentences.join("; ");
      throw new Fault("noSpace", `${name} cannot be emptied: ${why}`);
    }
    return expected;
  }

  async maintain(
    name: string,
    { forMs, force, dryRun }: { forMs: number; force: boolean; dryRun: boolean },
  ): Promise<WhatIf> {
    const life = this.#life();
    const { view } = life.follower;
    const { number } = findUnit(view, name);
    const expected = whatIf(view, { kind: "maintenance", unit: number, forMs }, life.knownVoters);
    const costs = maintenanceCosts(view, number, life.knownVoters);
    if (dryRun) {
      const refused = costs.length === 0 || force ? [] : ["it would be refused, unless forced"];
      return { ...expected, sentences: [...expected.sentences, ...refused] };
    }
    await life.commands.ask("maintainUnit", { unit: number, forMs, force });
    await this.#until(life, () => view.units.get(number)?.maintenance !== undefined);
    return expected;
  }

  async endMaintenance(name: string): Promise<void> {
    const life = this.#life();
    const { view } = life.follower;
    const { number } = findUnit(view, name);
    await life.commands.ask("endMaintenance", { unit: number });
    await this.#until(life, () => view.units.get(number)?.maintenance === undefined);
  }

  async keep(name: string): Promise<void> {
    const life = this.#life();
    const { view } = life.follower;
    const { number } = findUnit(view, name);
    await life.commands.ask("keepUnit", { unit: number });
    await this.#until(life, () => view.units.get(number)?.evacuation === undefined);
  }

  async replace(name: string, byName: string): Promise<WhatIf> {
    const life = this.#life();
    const { view } = life.follower;
    const { number } = findUnit(view, name);
    const by = findUnit(view, byName).number;
    await life.commands.ask("replaceUnit", { unit: number, by });
    await this.#until(life, () => view.units.get(number)?.evacuation !== undefined);
    // Its room counts only now; what finds none waits, and is said.
    return this.#expected(life, number, true);
  }

  async remove(name: string, options: { force: boolean }): Promise<void> {
    const life = this.#life();
    const { view } = life.follower;
    const { number } = findUnit(view, name);
    if (number === life.unit && view.units.size > 1) {
      const other = "ask through another unit to remove this one";
      throw new Fault("conflict", `a unit does not remove itself: ${other}`);
    }
    await life.commands.ask("removeUnit", { unit: number, force: options.force });
    await this.#until(life, () => view.units.get(number)?.state === "removed");
  }

  whatIf(question: WhatIfQuestion): WhatIf {
    const life = this.#life();
    const { view } = life.follower;
    return whatIf(view, subjectOf(view, question), life.knownVoters);
  }

  losses(): LossRow[] {
    const life = this.#life();
    return lossTable(life.follower.view, life.voters);
  }

  questions(): Question[] {
    return questionsOf(this.#life().follower.view, this.#world.clock.wallMs());
  }

  async #until(life: ClusterLife, holds: () => boolean): Promise<void> {
    const { view } = life.follower;
    const endMs = this.#world.clock.nowMs() + SEEN_MS_MAX;
    while (!holds()) {
      const leftMs = endMs - this.#world.clock.nowMs();
      if (leftMs <= 0) throw new Fault("notReady", "it was accepted, and is not seen yet");
      await life.follower.reached(view.revision + 1, leftMs);
    }
  }
}

function subjectOf(view: ClusterView, question: WhatIfQuestion): Subject {
  const { unit, disk, link, maintenance } = question;
  const said = [unit, disk, link, maintenance].filter((one) => one !== undefined).length;
  if (said !== 1) {
    throw new Fault("badRequest", "one of unit, disk, link and maintenance is to be said");
  }
  if (maintenance !== undefined) {
    const { number } = findUnit(view, maintenance);
    return { kind: "maintenance", unit: number, forMs: MAINTENANCE_MS_DEFAULT };
  }
  if (unit !== undefined) return { kind: "unit", unit: findUnit(view, unit).number };
  if (disk !== undefined) return { kind: "disk", disk };
  const [one, other] = link ?? ["", ""];
  return { kind: "link", units: [findUnit(view, one).number, findUnit(view, other).number] };
}

/** A unit by its name or number. */
export function findUnit(view: ClusterView, nameOrNumber: string): UnitRecord {
  const admitted = [...view.units.values()].filter((unit) => unit.state === "admitted");
  const number = /^\d{1,15}$/.test(nameOrNumber) ? Number(nameOrNumber) : 0;
  const found =
    admitted.find((unit) => unit.name === nameOrNumber) ??
    admitted.find((unit) => unit.number === number);
  if (found === undefined) throw new Fault("notFound", `there is no unit ${nameOrNumber}`);
  return found;
}
