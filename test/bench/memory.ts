// SPDX-License-Identifier: Apache-2.0
//
// `npm run bench -- --memory`: what a unit's process holds while millions of requests go through
// it. A slope, in MiB per million requests: what is not given back.

import { Lab } from "#test/cluster/lab.ts";
import { heldMiB, slopeOf } from "./figures.ts";
import { fill, startOurs, type DiskMode, type Transport } from "./servers.ts";
import { measure } from "./workloads.ts";

/** Millions before anything counts: the engine compiles, tables and heaps find their size. */
const WARM_UP = 2;
const REQUESTS = 1_000_000;
const SAMPLES_MIN = 3;
/** The most that is allowed, MiB per million requests. */
const SLOPE_MAX = 1;

const MIX = ["--rw=randrw", "--rwmixread=70", "--bs=4k", "--iodepth=32", "--norandommap"];

export async function memory(
  plan: { mode: DiskMode; transport: Transport; volumeBytes: number; millions: number },
  tell: (line: string) => void,
): Promise<void> {
  await using lab = new Lab({ needsBytes: plan.volumeBytes * 1.5 });
  const { unit, words } = await startOurs(lab, plan.mode, plan.volumeBytes);
  await fill(lab, words.tcp, plan.volumeBytes);
  tell(`\n## Memory over ${plan.millions} million requests, ${plan.mode}\n`);
  tell(
    `4k 70/30, depth 32, ${plan.transport}; ${WARM_UP} million before that do not count. Anonymous`,
  );
  tell("and shared memory of the unit's process, MiB after each million:\n");
  const held: number[] = [];
  for (let million = 0; million < WARM_UP + plan.millions; million++) {
    await measure(lab, words[plan.transport], MIX, {
      sizeBytes: plan.volumeBytes,
      length: { requests: REQUESTS },
      seed: million + 1,
    });
    if (million >= WARM_UP) held.push(heldMiB(unit.pid ?? 0));
  }
  tell(held.map((one) => one.toFixed(1)).join(", "));
  if (held.length < SAMPLES_MIN) return tell(`\nToo few for a slope: at least ${SAMPLES_MIN}.`);
  const slope = slopeOf(held);
  const verdict = slope < SLOPE_MAX ? "met" : "missed";
  tell(`\nSlope ${slope.toFixed(2)} MiB per million requests (at most ${SLOPE_MAX}: ${verdict}).`);
}
