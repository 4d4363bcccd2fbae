// SPDX-License-Identifier: Apache-2.0
//
// Rounds of `npm run bench`: in every round each server runs once, in rotated order, so that what
// the machine does meanwhile meets all alike.

import type { Lab } from "#test/cluster/lab.ts";
import { machineTime } from "./figures.ts";
import type { Round, Sample } from "./report.ts";
import type { Server, Transport } from "./servers.ts";
import { measure, type Workload } from "./workloads.ts";

export interface RoundsPlan {
  rounds: number;
  seconds: number;
  volumeBytes: number;
  transport: Transport;
}

const NOT_YET: Sample = {
  perSecond: 0,
  p99Ms: 0,
  serverCpuMicrosPerIo: 0,
  stealShare: 0,
  foreignCores: 0,
};

export async function roundsOf(
  lab: Lab,
  servers: readonly Server[],
  workload: Workload,
  plan: RoundsPlan,
): Promise<Round[]> {
  const rounds: Round[] = [];
  for (let round = 0; round < plan.rounds; round++) {
    const samples = new Map<string, Sample>();
    for (const server of servers) samples.set(server.name, NOT_YET);
    for (let index = 0; index < servers.length; index++) {
      const server = servers[(index + round) % servers.length] as Server;
      samples.set(server.name, await sample(lab, server, workload, { ...plan, seed: round + 7 }));
    }
    rounds.push(samples);
  }
  return rounds;
}

async function sample(
  lab: Lab,
  server: Server,
  workload: Workload,
  plan: RoundsPlan & { seed: number },
): Promise<Sample> {
  await using _beside = await server.beside?.();
  const before = machineTime();
  const cpuBefore = server.cpuSeconds();
  const figures = await measure(lab, server.words[plan.transport], workload.fio, {
    sizeBytes: plan.volumeBytes,
    length: { seconds: plan.seconds },
    seed: plan.seed,
  });
  const cpu = server.cpuSeconds() - cpuBefore;
  const after = machineTime();
  const all = Math.max(0.01, after.allSeconds - before.allSeconds);
  const busy = after.busySeconds - before.busySeconds;
  return {
    perSecond: figures.perSecond,
    p99Ms: figures.p99Ms,
    serverCpuMicrosPerIo: (cpu * 1e6) / Math.max(1, figures.operations),
    stealShare: (after.stolenSeconds - before.stolenSeconds) / all,
    foreignCores: Math.max(0, busy - cpu - figures.clientCpuSeconds) / plan.seconds,
  };
}
