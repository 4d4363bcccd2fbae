// SPDX-License-Identifier: Apache-2.0
//
// A restored control state in a simulated cluster: a new control store that begins with the claims
// of a backup, and units that enter its generation one after the other, each telling what its disks
// hold, as units and control station do (cluster/restored-slices.ts). Units of two generations have
// no links and no control store in common. A rebuild is a restore of no backup: nothing is settled
// before its owner's word that all disks have told (cluster/restored-changes.ts).

import type { DiskNumber, SliceNumber, SliceRecord } from "#base/record.ts";
import { sliceSizeAt } from "#cluster/placement.ts";
import { acceptedRecord, claimOf, settledRecord, toldOf } from "#cluster/restored-slices.ts";
import type { RestoredSlice } from "#cluster/restored-slices.ts";
import { keys } from "#cluster/state.ts";
import type { SimCluster } from "./sim-cluster.ts";
import type { SimUnit, UnitProcess } from "./sim-unit.ts";

/** From its disks' opening until a unit has told what they hold, at most. */
const TELL_MS_MAX = 400;
/** From when all disks have told until their owner says so. */
const OWNER_MS_MAX = 1500;

export type Settle = (claim: RestoredSlice) => SliceRecord | null;
/** How a unit leaves what it was before. */
export type Leave = "stop" | "kill" | "power";

export interface RestoreOptions {
  /** The product's, or a mistake. */
  settle?: Settle | undefined;
  /** Rebuilt: it waits for its owner's word. */
  gathers?: boolean;
}

export class SimRestore {
  readonly #cluster: SimCluster;
  readonly #settle: Settle;
  readonly #claims = new Map<SliceNumber, RestoredSlice>();
  readonly #told = new Set<DiskNumber>();
  #gathers: boolean;
  /** Called once, when all disks of the cluster have told. */
  onAllTold: (() => void) | null = null;
  /** Its owner has answered, and nothing waits any more. */
  isOver = false;
  readonly generation: number;

  constructor(
    cluster: SimCluster,
    backup: readonly SliceRecord[],
    generation: number,
    { settle = settledRecord, gathers = false }: RestoreOptions = {},
  ) {
    this.#cluster = cluster;
    this.#settle = settle;
    this.#gathers = gathers;
    this.generation = generation;
    for (const record of backup) this.#claims.set(record.slice, claimOf(record, record));
  }

  /** Its owner says that all disks are there that are left. */
  gathered(): void {
    this.#gathers = false;
    this.#settleAll();
  }

  /**
   * An owner who answers by himself, once all disks have told: these are all, and where one that is
   * named holds nothing, what is there is all there is.
   */
  answered(): void {
    const { simulation } = this.#cluster;
    this.onAllTold = () => {
      simulation.after(simulation.prng.fraction() * OWNER_MS_MAX, () => {
        this.gathered();
        this.accept();
        this.isOver = this.#claims.size === 0;
        this.#cluster.sometimes("the control state was rebuilt from disks");
      });
    };
  }

  /** Whoever is not in it yet is from its next start on. */
  enterAll(): void {
    for (const unit of this.#cluster.units) {
      if (unit.generation === this.generation) continue;
      unit.kill();
      unit.generation = this.generation;
    }
  }

  /** Slices that wait for disks. */
  get waiting(): SliceNumber[] {
    return [...this.#claims.keys()];
  }

  /** A unit hears of the new generation, and begins anew in it. */
  enter(unit: SimUnit, how: Leave): void {
    const { simulation } = this.#cluster;
    simulation.trace("enter", unit.number, this.generation);
    const begin = () => {
      unit.generation = this.generation;
      unit.boot();
    };
    if (how === "power") unit.powerCut();
    else if (how === "kill" || unit.process === null) unit.kill();
    else {
      const { process } = unit;
      this.#cluster.stopInOrder(unit);
      const wait = () => {
        if (unit.process === process && process.stopping) return void simulation.after(20, wait);
        // It went another way meanwhile: all harm was undone while it stopped.
        if (unit.process !== null && unit.generation === this.generation) return;
        if (unit.process !== null) unit.kill();
        begin();
      };
      return wait();
    }
    begin();
  }

  /** A process of this generation has opened its disks. */
  opened(process: UnitProcess): void {
    const { simulation } = this.#cluster;
    simulation.after(simulation.prng.fraction() * TELL_MS_MAX, () => {
      if (process.ended) return;
      for (const disk of process.stores.keys()) this.#tell(process, disk);
      if (!this.#gathers) this.#settleAll();
      if (this.#told.size < this.#cluster.units.length) return;
      const { onAllTold } = this;
      this.onAllTold = null;
      onAllTold?.();
    });
  }

  #tell(process: UnitProcess, disk: number): void {
    for (let from: number | null = 0; from !== null;) {
      const held = process.plane.heldRecords(disk, from);
      // It is not open (any more): it tells at its next start.
      if (held === null) return;
      for (const record of held.records) {
        const claim = this.#claims.get(record.slice) ?? this.#found(record);
        if (claim === null) continue;
        this.#cluster.simulation.trace("told", disk, record.slice, record.epoch);
        this.#claims.set(record.slice, toldOf(claim, disk, record));
      }
      from = held.next;
    }
    this.#told.add(disk);
  }

  /** Null: it was settled already. */
  #found(record: SliceRecord): RestoredSlice | null {
    const isSettled = this.#cluster.controlStore.readOne(keys.slice(record.slice)) !== null;
    return isSettled ? null : claimOf(record, null);
  }

  /** The owner's word: what was told so far is all there is. */
  accept(): void {
    const lineage = 1000 * this.generation;
    this.#settleAll((claim) => acceptedRecord(claim, { lineage, number: 1, atMs: 0 }));
  }

  /** As large as its volume needs it: an older record may be all that was told. */
  #fitted(record: SliceRecord): SliceRecord {
    const shape = this.#cluster.shapes.find(({ volume }) => volume === record.volume);
    if (shape === undefined) return record;
    return { ...record, sizeBytes: Math.max(record.sizeBytes, sliceSizeAt(shape, record.index)) };
  }

  #settleAll(settle = this.#settle): void {
    for (const [slice, claim] of this.#claims) {
      const settled = settle(claim);
      if (settled === null) continue;
      this.#claims.delete(slice);
      const record = this.#fitted(settled);
      const put = { key: keys.slice(slice), value: JSON.stringify(record) };
      this.#cluster.controlStore.commit({ ifs: [{ key: put.key, modRevision: 0 }], puts: [put] });
    }
  }
}
