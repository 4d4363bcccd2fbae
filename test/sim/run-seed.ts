// SPDX-License-Identifier: Apache-2.0
//
// One random run: from a seed a cluster, its volumes, hosts and nemesis; then the judge.

import { Prng } from "#base/prng.ts";
import type { DiskNumber } from "#base/record.ts";
import type { Condition } from "./conditions.ts";
import { Nemesis } from "./nemesis.ts";
import { MIX_USUAL, SimCluster } from "./sim-cluster.ts";
import type { ClusterPlan, VolumePlan } from "./sim-cluster.ts";
import type { Mutant } from "./mutant.ts";

export interface SeedResult {
  seed: number;
  violations: string[];
  traceHash: string;
  hostActs: number;
  ackedWrites: number;
  harms: Map<string, number>;
  sometimes: Map<string, number>;
  simulatedMs: number;
  events: number;
}

export interface SeedOptions {
  mutant?: Mutant | null;
  onTrace?: ((line: string) => void) | null;
}

const MIB = 1 << 20;
/** One seed in so many has voters between units and control store; the others stay as they are. */
const VOTERS_EVERY = 10;
const VOTERS_AT = 7;
/** In one seed of so many volumes grow, some of which lose their control state as well. */
const GROWS_EVERY = 10;
const GROWS_AT = 8;

export interface SeedPlan extends ClusterPlan {
  /** While the nemesis works a bit flips on some disk this often, ms; 0: only as a harm. */
  decayMs: number;
}

export function planOf(seed: number): SeedPlan {
  // Of its own, so that what the plan draws does not shift the run.
  const prng = new Prng(seed ^ 0x5eed);
  const units = prng.pick([2, 3, 3, 3, 3, 4]);
  const volumes: VolumePlan[] = [];
  for (let volume = 1; volume <= prng.pick([1, 1, 2]); volume++) {
    const copies = Math.min(units, prng.pick([1, 2, 2, 2, 2, 3, 3]));
    const slices = Array.from({ length: prng.between(1, 3) }, () => pickDisks(prng, units, copies));
    volumes.push({ volume, copies, sliceBytes: prng.pick([4, 8, 16]) * MIB, slices });
  }
  const grows = seed % GROWS_EVERY === GROWS_AT;
  for (const volume of grows ? volumes : []) {
    volume.sliceBytes = Math.max(8 * MIB, volume.sliceBytes);
    volume.lastBytes = 4 * MIB;
  }
  const drift = prng.chance(0.5);
  const duplicates = prng.chance(0.3);
  return {
    seed,
    units,
    diskBytes: 96 * MIB,
    volumes,
    hosts: prng.between(2, 4),
    mix: {
      ...MIX_USUAL,
      fua: prng.pick([0.05, 0.2, 0.5]),
      flush: prng.pick([2, 8, 16]),
      zero: prng.pick([0, 2, 6]),
      cold: prng.pick([0, 0.1, 0.3]),
      thinkMs: prng.pick([10, 30, 30, 80, 300, 700]),
      quietMs: prng.pick([0, 0, 1300, 3000]),
      roam: prng.pick([0.02, 0.15, 0.5]),
      patienceMs: prng.pick([1500, 12_000, 60_000]),
    },
    net: {
      loss: prng.pick([0, 0, 0.0005]),
      straggler: prng.pick([0, 0.01, 0.05]),
      duplicate: duplicates ? 0.01 : 0,
      duplicatePayload: duplicates ? 0.01 : 0,
    },
    // R4 allows 0.1 % between two clocks.
    clockRates: Array.from({ length: units }, () =>
      drift ? 1 + (prng.fraction() - 0.5) * 0.0009 : 1,
    ),
    scrub: {
      everyMs: prng.pick([0, 1000, 5000]),
      bytesPerSecondMax: prng.pick([MIB, 8 * MIB, 100 * MIB]),
    },
    decayMs: prng.pick([0, 0, 30, 100]),
    voters: seed % VOTERS_EVERY === VOTERS_AT,
    grows,
  };
}

function pickDisks(prng: Prng, units: number, copies: number): DiskNumber[] {
  const left = Array.from({ length: units }, (_, index) => index + 1);
  return Array.from({ length: copies }, () => left.splice(prng.below(left.length), 1)[0] as number);
}

export function runSeed(seed: number, options: SeedOptions = {}): SeedResult {
  const plan = planOf(seed);
  const cluster = new SimCluster(plan);
  const { simulation } = cluster;
  simulation.onTrace = options.onTrace ?? null;
  const undo = options.mutant?.install({
    after: (delayMs, act) => void simulation.after(delayMs, act),
  });
  const nemesis = new Nemesis(cluster, simulation.prng.fork());
  try {
    cluster.start();
    cluster.work();
    cluster.run(1000);
    nemesis.start();
    if (plan.decayMs > 0) decay(cluster, simulation.prng.fork(), plan.decayMs);
    cluster.run(simulation.prng.pick([6000, 10_000, 16_000, 24_000]));
    nemesis.stop();
    cluster.finish();
  } catch (cause) {
    // An assertion of the product, or a bug of the simulator: either way not to be passed over.
    cluster.violation(cause instanceof Error ? `${cause.stack}` : String(cause));
  } finally {
    undo?.();
  }
  return {
    seed,
    violations: cluster.sentences,
    traceHash: simulation.traceHash,
    hostActs: cluster.counts.issued,
    ackedWrites: cluster.counts.ackedWrites,
    harms: nemesis.done,
    sometimes: sometimesOf(cluster),
    simulatedMs: simulation.nowMs,
    events: simulation.eventCount,
  };
}

/** Bits flip while everything else goes on. */
function decay(cluster: SimCluster, prng: Prng, everyMs: number): void {
  cluster.simulation.after(everyMs * (0.2 + 1.6 * prng.fraction()), () => {
    if (cluster.healed) return;
    cluster.rot.flip(prng, prng.pick(cluster.units).number);
    // Scrubs that do not wait for hosts to rest.
    const { process, number } = prng.pick(cluster.units);
    if (prng.chance(0.3)) process?.plane.startScrub(number, { urgent: true });
    decay(cluster, prng, everyMs);
  });
}

function sometimesOf(cluster: SimCluster): Map<string, number> {
  const { counts, net } = cluster;
  const put = (condition: string, count: number) => {
    if (count > 0) cluster.reached.set(condition, count);
  };
  const add = (condition: Condition, count: number) => put(condition, count);
  add("unknown outcome", counts.unknown);
  add("host gave up", counts.gaveUp);
  for (const [status, count] of counts.failed) put(`host heard ${status}`, count);
  add("link broken", net.counts.breaks);
  add("verb came twice", net.counts.duplicates);
  let lost = 0;
  let torn = 0;
  let errors = 0;
  for (const unit of cluster.units) {
    for (const disk of unit.disks.values()) {
      lost += disk.counts.lostSectors;
      torn += disk.counts.tornWrites;
      errors += disk.counts.errors;
    }
  }
  add("sector lost by a power cut", lost);
  add("write under way at a power cut", torn);
  add("I/O error", errors);
  const { flips, lost: lostWrites, misdirected } = cluster.rot.counts;
  add("bit flipped at rest", flips);
  add("write lost by its disk", lostWrites);
  add("write misdirected by its disk", misdirected);
  return cluster.reached;
}
