// SPDX-License-Identifier: Apache-2.0
//
// The nemesis: does harm at random, by a mix of kinds that the seed chooses, and undoes each harm
// after a while. Scenarios do the same harms by script. At the end `healAll` undoes everything.

import { OperationKind } from "#base/operation.ts";
import type { Operation } from "#base/operation.ts";
import type { Prng } from "#base/prng.ts";
import { disksOf } from "#base/record.ts";
import type { SliceRecord } from "#base/record.ts";
import type { SimCluster } from "./sim-cluster.ts";
import type { SimDisk } from "./sim-disk.ts";
import type { Leave } from "./sim-restore.ts";
import type { SimUnit } from "./sim-unit.ts";

export const HARMS = [
  "kill",
  "powerCut",
  "killAll",
  "powerCutAll",
  "cutPair",
  "cutPairOneWay",
  "isolate",
  "isolateOneWay",
  "pause",
  "flap",
  "slowDisk",
  "writeErrors",
  "flushErrors",
  "readErrors",
  "stuckDisk",
  "storeAway",
  "storeUnsure",
  "storeUnreachable",
  "watchLate",
  "orderlyStop",
  "atCommit",
  "rot",
  "lostWrite",
  "misdirectedWrite",
  "pullDisk",
  "loseControl",
  "voterLate",
  "grow",
] as const;
export type Harm = (typeof HARMS)[number];

/** How often each kind is drawn, relative to the others. */
const USUAL: Record<Harm, number> = {
  kill: 4,
  powerCut: 4,
  killAll: 0.7,
  powerCutAll: 1.2,
  cutPair: 2,
  cutPairOneWay: 2,
  isolate: 2,
  isolateOneWay: 1,
  pause: 3,
  flap: 1,
  slowDisk: 1,
  writeErrors: 0.7,
  flushErrors: 0.7,
  readErrors: 0.3,
  stuckDisk: 0.7,
  storeAway: 1,
  storeUnsure: 1.5,
  storeUnreachable: 1,
  watchLate: 1,
  orderlyStop: 1,
  atCommit: 3,
  rot: 2,
  lostWrite: 1,
  misdirectedWrite: 1,
  pullDisk: 4,
  loseControl: 0,
  voterLate: 6,
  grow: 12,
};
/** Not drawn. */
const BY_SEED: readonly Harm[] = ["pullDisk", "loseControl", "voterLate", "grow"];
/** One seed in so many pulls disks. */
const PULLS_EVERY = 10;
/** One seed in so many loses the control state, once; not those that are known to find mutants. */
const REBUILDS_EVERY = 25;
const REBUILDS_AT = 13;
const CONTROL_LOST_MS_MAX = 5000;
/** Longer than this nobody waits for a moment that is hard to meet. */
const MOMENT_PATIENCE_MS = 500;

export class Nemesis {
  readonly done = new Map<Harm, number>();
  readonly #cluster: SimCluster;
  readonly #prng: Prng;
  readonly #weights: [Harm, number][];
  readonly #pauseMs: number;
  readonly #losesControl: boolean;
  #working = false;

  constructor(cluster: SimCluster, prng: Prng) {
    this.#cluster = cluster;
    this.#prng = prng;
    // Each seed has its own mix: some kinds not at all, some often.
    const drawn = HARMS.filter((harm) => !BY_SEED.includes(harm) && prng.chance(0.55));
    this.#weights = drawn.map((harm) => [harm, USUAL[harm] * prng.pick([0.5, 1, 1, 3])]);
    // By the seed's number: what other seeds are known to find they go on finding.
    if (cluster.plan.seed % PULLS_EVERY === 0) this.#weights.push(["pullDisk", USUAL.pullDisk]);
    if (cluster.voters !== null) this.#weights.push(["voterLate", USUAL.voterLate]);
    if (cluster.plan.grows === true) this.#weights.push(["grow", USUAL.grow]);
    this.#losesControl = cluster.plan.seed % REBUILDS_EVERY === REBUILDS_AT;
    this.#pauseMs = prng.pick([300, 800, 1500, 3000]);
  }

  start(): void {
    this.#working = true;
    this.#next();
    if (!this.#losesControl) return;
    this.#after(CONTROL_LOST_MS_MAX * this.#prng.fraction(), () => this.do("loseControl"));
  }
  stop(): void {
    this.#working = false;
  }

  #next(): void {
    const delayMs = this.#pauseMs * (0.2 + 1.6 * this.#prng.fraction());
    this.#cluster.simulation.after(delayMs, () => {
      if (!this.#working) return;
      const harm = this.#choose();
      if (harm !== null) this.do(harm);
      this.#next();
    });
  }

  #choose(): Harm | null {
    let sum = 0;
    for (const [, weight] of this.#weights) sum += weight;
    let draw = this.#prng.fraction() * sum;
    for (const [harm, weight] of this.#weights) {
      draw -= weight;
      if (draw < 0) return harm;
    }
    return null;
  }

  do(harm: Harm): void {
    const { simulation } = this.#cluster;
    simulation.trace(`harm-${harm}`);
    this.done.set(harm, (this.done.get(harm) ?? 0) + 1);
    this.#units(harm) || this.#links(harm) || this.#disks(harm) || this.#controlStore(harm);
  }

  #shortMs(): number {
    return this.#prng.pick([30, 150, 700, 2000, 5000]) * (0.5 + this.#prng.fraction());
  }

  #after(delayMs: number, act: () => void): void {
    this.#cluster.simulation.after(delayMs, () => {
      if (!this.#cluster.healed) act();
    });
  }

  #unit(): SimUnit {
    return this.#prng.pick(this.#cluster.units);
  }

  #units(harm: Harm): boolean {
    const unit = this.#unit();
    switch (harm) {
      case "kill":
        this.#inWrite(unit, () => {
          unit.kill();
          this.#after(this.#shortMs(), () => unit.boot());
        });
        return true;
      case "powerCut":
        this.#inWrite(unit, () => {
          unit.powerCut();
          this.#after(this.#shortMs(), () => unit.boot());
        });
        return true;
      case "atCommit":
        this.#cluster.onNextCommit = (record) => this.#atCommit(record);
        return true;
      case "killAll":
        this.#all((one) => one.kill());
        return true;
      case "powerCutAll":
        this.#all((one) => one.powerCut());
        return true;
      case "pause":
        unit.pause();
        this.#after(this.#shortMs(), () => unit.resume());
        return true;
      case "orderlyStop":
        this.#cluster.stopInOrder(unit);
        this.#after(500 + this.#shortMs(), () => {
          unit.kill();
          unit.boot();
        });
        return true;
      default:
        return false;
    }
  }

  /** At once, or while the unit's disk next has a write under way. */
  #inWrite(unit: SimUnit, act: () => void): void {
    const [disk] = unit.disks.values();
    if (disk === undefined || this.#prng.chance(0.4)) return act();
    let isOver = false;
    const once = () => {
      if (isOver) return;
      isOver = true;
      disk.onNextWrite = null;
      act();
    };
    const delayMs = this.#prng.pick([0, 0.1, 0.3, 2]) * this.#prng.fraction();
    disk.onNextWrite = () => this.#after(delayMs, once);
    this.#after(MOMENT_PATIENCE_MS, once);
  }

  /** A record was just committed, and few know of it yet: who proposed it, or another, is hit. */
  #atCommit(record: SliceRecord): void {
    const disks = [record.head, record.head, ...disksOf(record)];
    const unit = this.#cluster.unit(this.#prng.pick(disks));
    const harm = this.#prng.pick(["isolate", "isolate", "pause", "kill", "powerCut"] as const);
    this.#after(this.#prng.pick([0, 1, 6, 30]) * this.#prng.fraction(), () => {
      this.#cluster.simulation.trace(`at-commit-${harm}`, unit.number);
      const backMs = this.#shortMs();
      switch (harm) {
        case "isolate":
          this.#isolate(unit.number, backMs);
          this.#unreachable(unit.number, backMs);
          return;
        case "pause":
          unit.pause();
          this.#after(backMs, () => unit.resume());
          return;
        default:
          if (harm === "kill") unit.kill();
          else unit.powerCut();
          this.#after(backMs, () => unit.boot());
      }
    });
  }

  /** To every unit, at once or nearly so; they come back one by one, perhaps one much later. */
  #all(act: (unit: SimUnit) => void): void {
    const spreadMs = this.#prng.pick([0, 0, 20, 400]);
    for (const unit of this.#cluster.units) {
      this.#after(this.#prng.fraction() * spreadMs, () => act(unit));
      this.#after(spreadMs + 50 + this.#shortMs(), () => unit.boot());
    }
  }

  #links(harm: Harm): boolean {
    const { net } = this.#cluster;
    const one = this.#unit().number;
    const others = this.#cluster.units.map((unit) => unit.number).filter((n) => n !== one);
    const other = this.#prng.pick(others);
    const durationMs = this.#shortMs();
    const cut = (pairs: [number, number][]) => {
      for (const [from, to] of pairs) {
        net.cut(from, to);
        this.#after(durationMs, () => net.heal(from, to));
      }
    };
    switch (harm) {
      case "cutPair":
        cut([
          [one, other],
          [other, one],
        ]);
        return true;
      case "cutPairOneWay":
        cut([[one, other]]);
        return true;
      case "isolate":
        cut(
          others.flatMap((n): [number, number][] => [
            [one, n],
            [n, one],
          ]),
        );
        // Cut off from the voters as well, or not.
        if (this.#prng.chance(0.7)) this.#unreachable(one, durationMs);
        return true;
      case "isolateOneWay":
        cut(others.map((n): [number, number] => (this.#prng.chance(0.5) ? [one, n] : [n, one])));
        return true;
      case "flap":
        for (let time = 0; time < 6; time++) {
          this.#after(time * 120 * (1 + this.#prng.fraction()), () => net.reset(one, other));
        }
        return true;
      default:
        return false;
    }
  }

  #isolate(one: number, durationMs: number): void {
    const { net, units } = this.#cluster;
    for (const { number } of units) {
      if (number === one) continue;
      net.cut(one, number);
      net.cut(number, one);
      this.#after(durationMs, () => {
        net.heal(one, number);
        net.heal(number, one);
      });
    }
  }

  #unreachable(number: number, durationMs: number): void {
    const unit = this.#cluster.unit(number);
    unit.setStoreReachable(false);
    this.#after(durationMs, () => unit.setStoreReachable(true));
  }

  #disks(harm: Harm): boolean {
    const unit = this.#unit();
    const disk = this.#prng.pick([...unit.disks.values()]);
    // A disk that failed is out until its unit starts again (R10).
    const again = () => {
      disk.fault = null;
      unit.kill();
      this.#after(50 + this.#shortMs(), () => unit.boot());
    };
    switch (harm) {
      case "slowDisk":
        disk.slowFactor = this.#prng.pick([10, 50, 300]);
        this.#after(this.#shortMs(), () => {
          disk.slowFactor = 1;
        });
        return true;
      case "writeErrors":
        this.#fail(disk, OperationKind.write, again);
        return true;
      case "flushErrors":
        this.#fail(disk, OperationKind.flush, again);
        return true;
      case "readErrors":
        // Where no other member has it, a medium error is the truth (H8).
        this.#cluster.rotten = true;
        this.#fail(disk, OperationKind.read, again);
        return true;
      case "rot":
        for (let bits = this.#prng.pick([1, 1, 4, 20]); bits > 0; bits--) {
          this.#cluster.rot.flip(this.#prng, unit.number);
        }
        return true;
      case "lostWrite":
        this.#cluster.rot.deceive(this.#prng, unit.number, "lost");
        return true;
      case "misdirectedWrite":
        this.#cluster.rot.deceive(this.#prng, unit.number, "misdirected");
        return true;
      case "pullDisk":
        // Where no other member has it, a medium error is the truth (H8).
        this.#cluster.rotten = true;
        for (const number of unit.disks.keys()) {
          unit.pullDisk(number, this.#prng.pick([0, 100, 2000]));
          this.#after(this.#shortMs(), () => unit.putBack(number));
        }
        return true;
      case "stuckDisk":
        disk.fault = () => "stuck";
        this.#after(this.#prng.pick([200, 3000, 7000]), again);
        return true;
      default:
        return false;
    }
  }

  #fail(disk: SimDisk, kind: OperationKind, again: () => void): void {
    const share = this.#prng.pick([0.02, 0.2, 1]);
    disk.fault = (operation: Operation) =>
      operation.kind === kind && this.#prng.chance(share) ? "error" : null;
    this.#after(this.#shortMs() + 300, again);
  }

  #controlStore(harm: Harm): boolean {
    const { controlStore } = this.#cluster;
    const durationMs = this.#shortMs();
    switch (harm) {
      case "storeAway":
        controlStore.setAway(true);
        this.#after(durationMs, () => controlStore.setAway(false));
        return true;
      case "storeUnsure":
        Object.assign(controlStore.faults, { requestLost: 0.2, answerLost: 0.3, late: 0.2 });
        this.#after(durationMs + 2000, () =>
          Object.assign(controlStore.faults, { requestLost: 0, answerLost: 0, late: 0 }),
        );
        return true;
      case "voterLate": {
        const inTime = this.#cluster.voters?.late(this.#prng.pick([300, 1500, 6000]));
        this.#after(durationMs, () => inTime?.());
        return true;
      }
      case "loseControl":
        this.#loseControl();
        return true;
      case "grow":
        this.#cluster.growth.some(this.#prng);
        return true;
      case "storeUnreachable":
        this.#unreachable(this.#unit().number, durationMs);
        return true;
      case "watchLate": {
        const client = this.#unit().process?.client;
        if (client === undefined) return true;
        client.watchDelayMs = this.#prng.pick([100, 1000, 4000]);
        if (this.#prng.chance(0.3)) controlStore.compact(controlStore.revision);
        this.#after(durationMs, () => {
          client.watchDelayMs = 0;
        });
        return true;
      }
      default:
        return false;
    }
  }

  /** All voters, or what there was of them, and no backup: units hear of it one by one. */
  #loseControl(): void {
    const { units, controlStore } = this.#cluster;
    if (this.#prng.chance(0.8)) controlStore.setAway(true);
    const restore = this.#cluster.beginGeneration([], { gathers: true });
    restore.answered();
    const spreadMs = this.#prng.pick([0, 1000, 6000]);
    for (const unit of units) {
      const how = this.#prng.pick<Leave>(["stop", "kill", "power"]);
      this.#after(spreadMs * this.#prng.fraction(), () => restore.enter(unit, how));
    }
  }
}
