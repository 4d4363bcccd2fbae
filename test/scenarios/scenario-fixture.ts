// SPDX-License-Identifier: Apache-2.0
//
// Scenarios: scripted harm to a simulated cluster under load, then the judge (contract.md, C). Each
// runs on several seeds, so that the same script meets the data path at different moments.
//
// The usual cluster: three units, one disk each of the same number. Volume 1, mirror-2: slice 1 on
// disks 1 (head) and 2, slice 2 on disks 2 (head) and 1. Unit 3 holds nothing and forwards.

import { expect, setDefaultTimeout, test } from "bun:test";
import { OperationKind } from "#base/operation.ts";
import { keys } from "#cluster/state.ts";
import { MIX_USUAL, SimCluster } from "#test/sim/sim-cluster.ts";
import type { ClusterPlan } from "#test/sim/sim-cluster.ts";
import type { HostVolume } from "#test/sim/sim-host.ts";
import type { SimUnit, UnitProcess } from "#test/sim/sim-unit.ts";

setDefaultTimeout(120_000);

const MIB = 1 << 20;
const SEEDS = 4;

/** What a script works with. */
export class Scenario {
  readonly cluster: SimCluster;

  constructor(cluster: SimCluster) {
    this.cluster = cluster;
  }

  unit(number: number): SimUnit {
    return this.cluster.unit(number);
  }
  run(durationMs: number): void {
    this.cluster.run(durationMs);
  }
  /** Cuts a unit off from the others, both ways or one, and from the voters. */
  isolate(number: number, ways: "both" | "out" | "in" = "both", voters = true): void {
    for (const { number: other } of this.cluster.units) {
      if (other === number) continue;
      if (ways !== "in") this.cluster.net.cut(number, other);
      if (ways !== "out") this.cluster.net.cut(other, number);
    }
    if (voters) this.unit(number).setStoreReachable(false);
  }
  join(number: number): void {
    for (const { number: other } of this.cluster.units) {
      this.cluster.net.heal(number, other);
      this.cluster.net.heal(other, number);
    }
    this.unit(number).setStoreReachable(true);
  }
  /** Runs until `holds`; fails the scenario after `limitMs`. */
  until(what: string, holds: () => boolean, limitMs = 15_000): void {
    const { simulation } = this.cluster;
    const begun = simulation.nowMs;
    simulation.run(begun + limitMs, holds);
    if (!holds()) this.cluster.violation(`never came to pass: ${what}`);
  }
  /** Trims a whole volume, through any unit, and waits for it. */
  trim(volume: HostVolume): void {
    this.ask(OperationKind.trim, volume, volume.sectors);
  }
  /** One operation on a volume's first sectors, through any unit; waits until it is acked. */
  ask(kind: OperationKind, volume: HostVolume, count: number): void {
    let acked = false;
    const [host] = this.cluster.hosts;
    const [portal] = this.cluster.portals();
    const wish = { kind, volume, flags: 0, firstSector: 0, count };
    host?.act(portal as UnitProcess, wish, (ok) => {
      acked = ok;
    });
    this.until("the operation is acked", () => acked);
  }
  head(slice: number): number {
    return this.cluster.record(slice).head;
  }
  inSync(slice: number): number[] {
    return this.cluster.record(slice).inSync.map((member) => member.disk);
  }
  /** Waits until every slice has all its members in sync. */
  whole(limitMs = 40_000): void {
    const all = () => this.cluster.losses.records();
    this.until(
      "every slice is whole",
      () => all().every((record) => record.inSync.length === record.copies),
      limitMs,
    );
  }
  /** Writes acked so far, by all hosts. */
  get ackedWrites(): number {
    return this.cluster.counts.ackedWrites;
  }
  /** Fails unless writes are acked again within `limitMs`. */
  writesGoOn(limitMs = 6000): void {
    const before = this.ackedWrites;
    this.until("writes are acked again", () => this.ackedWrites > before + 5, limitMs);
  }
}

export interface ScenarioPlan extends Partial<Omit<ClusterPlan, "seed" | "mix">> {
  mix?: Partial<ClusterPlan["mix"]>;
  seeds?: number;
}

export function planWith(seed: number, plan: ScenarioPlan): ClusterPlan {
  const { mix, seeds: _, ...rest } = plan;
  return {
    seed,
    units: 3,
    diskBytes: 96 * MIB,
    volumes: [
      {
        volume: 1,
        copies: 2,
        sliceBytes: 4 * MIB,
        slices: [
          [1, 2],
          [2, 1],
        ],
      },
    ],
    hosts: 3,
    ...rest,
    mix: { ...MIX_USUAL, thinkMs: 15, patienceMs: 2500, ...mix },
  };
}

/** The same with three copies: slice 1 headed by disk 1, slice 2 by disk 2. */
export const MIRROR_3: ScenarioPlan = {
  volumes: [
    {
      volume: 1,
      copies: 3,
      sliceBytes: 4 * MIB,
      slices: [
        [1, 2, 3],
        [2, 3, 1],
      ],
    },
  ],
};

/** A named scenario: hosts work, `script` does harm; then all is healed and judged. */
export function scenario(
  name: string,
  plan: ScenarioPlan,
  script: (scenario: Scenario) => void,
): void {
  test(name, () => {
    for (let seed = 1; seed <= (plan.seeds ?? SEEDS); seed++) {
      const cluster = new SimCluster(planWith(seed, plan));
      const lines: string[] = [];
      if (process.env["CAIRN_TRACE_SEED"] === `${seed}`) {
        cluster.simulation.onTrace = (line) => void lines.push(line);
      }
      try {
        cluster.start();
        cluster.work();
        cluster.run(1500);
        script(new Scenario(cluster));
        cluster.finish();
      } catch (cause) {
        cluster.violation(cause instanceof Error ? `${cause.stack}` : String(cause));
      }
      if (lines.length > 0) console.log(lines.join("\n"));
      expect({ seed, violations: cluster.sentences }).toEqual({ seed, violations: [] });
      expect(cluster.counts.ackedWrites).toBeGreaterThan(20);
    }
  });
}

/** As the control station does: disks to be brought up for slices 1 and 2. */
export function nameResyncing(s: Scenario, resyncing: number[]): void {
  const puts = [1, 2].map((slice) => {
    const record = s.cluster.record(slice);
    const next = { ...record, epoch: record.epoch + 1, resyncing };
    return { key: keys.slice(slice), value: JSON.stringify(next) };
  });
  s.cluster.controlStore.commit({ ifs: [], puts });
}

/** Nobody acks a write for that long. */
export function hasNothingActed(s: Scenario, forMs: number): void {
  const before = s.ackedWrites;
  s.run(forMs);
  expect(s.ackedWrites).toBe(before);
}
