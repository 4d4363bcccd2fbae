// SPDX-License-Identifier: Apache-2.0
//
// `npm run bench -- --stuck`: what hosts that do not get on cost others. One host is busy; beside
// it stand connections that asked for a lot and never read, or that stop in the middle of a
// payload, from the same address, which is where they could do most harm (HostCredit). Each kind,
// and nobody, once per round in rotated order; a ratio is within its round.

import { readFileSync } from "node:fs";
import { Command } from "#protocol/nbd/nbd.wire.ts";
import { requestBytes } from "#protocol/nbd/host-fixture.ts";
import { Lab } from "#test/cluster/lab.ts";
import { RawClient, type RawPlace } from "#test/conform/raw-client.ts";
import { heldMiB, median } from "./figures.ts";
import { circumstances, type Round, type Sample } from "./report.ts";
import { roundsOf, type RoundsPlan } from "./rounds.ts";
import { fill, startOurs, type DiskMode, type Server } from "./servers.ts";
import type { Workload } from "./workloads.ts";

const KEYS = ["r1", "r32", "w32", "s64w"];
const MIB = 1 << 20;
/** What one that does not read has asked for: far more than it is ever given. */
const UNREAD_REQUESTS = 256;
const MANY = 16;
const ALONE = "nobody";

const unread = async (place: RawPlace): Promise<RawClient> => {
  const client = await RawClient.entered(place, { headers: "simple" });
  client.stopReading();
  for (let cookie = 0; cookie < UNREAD_REQUESTS; cookie++) {
    client.sendRead({ cookie, offset: cookie * MIB, length: MIB });
  }
  return client;
};
const halfway = async (place: RawPlace): Promise<RawClient> => {
  const client = await RawClient.entered(place, { headers: "simple" });
  client.send(requestBytes(Command.WRITE, { length: MIB }));
  client.send(Buffer.alloc(MIB / 2));
  return client;
};

const KINDS: readonly { name: string; clients: readonly (typeof unread)[] }[] = [
  { name: ALONE, clients: [] },
  { name: "one that never reads", clients: [unread] },
  { name: "one amid a payload", clients: [halfway] },
  {
    name: `${MANY} of each`,
    clients: Array.from({ length: 2 * MANY }, (_, index) => (index < MANY ? unread : halfway)),
  },
];

export async function stuck(
  plan: RoundsPlan & { mode: DiskMode; workloads: readonly Workload[] },
  tell: (line: string) => void,
): Promise<void> {
  await using lab = new Lab({ needsBytes: plan.volumeBytes * 1.5 });
  const ours = await startOurs(lab, plan.mode, plan.volumeBytes);
  await fill(lab, ours.words.tcp, plan.volumeBytes);
  const place = { host: ours.unit.address, port: 10809, name: "bench" };
  let heldMost = 0;
  const servers = KINDS.map(({ name, clients }): Server => ({
    name,
    words: ours.words,
    cpuSeconds: () => ours.cpuSeconds(),
    beside: async () => {
      const all = await Promise.all(clients.map((open) => open(place)));
      return {
        [Symbol.asyncDispose]: async () => {
          heldMost = Math.max(heldMost, heldMiB(ours.unit.pid ?? 0));
          for (const client of all) client.terminate();
        },
      };
    },
  }));
  const before = heldMiB(ours.unit.pid ?? 0);
  tell(`\n## A host beside others that are stuck, ${plan.mode}, TCP\n`);
  tell("| Workload (fio) | beside it | per second | of alone | p99, ms | of alone |");
  tell("|---|---|---:|---:|---:|---:|");
  const all: Round[] = [];
  for (const workload of plan.workloads) {
    if (!KEYS.includes(workload.key)) continue;
    // A round that does not count: units just started still compile as they serve.
    await roundsOf(lab, servers, workload, { ...plan, rounds: 1 });
    const rounds = await roundsOf(lab, servers, workload, plan);
    for (const { name } of servers) tell(rowOf(workload.name, name, rounds));
    all.push(...rounds);
  }
  const held = `held ${before.toFixed(0)} MiB before, ${heldMost.toFixed(0)} at most`;
  tell(
    `\nThe unit's process ${held}; connections it ended as stuck: ${endedIn(ours.unit.logFile)}.`,
  );
  tell(`\n${circumstances(all)}`);
}

function rowOf(workload: string, name: string, rounds: readonly Round[]): string {
  const of = (figure: (sample: Sample) => number) => {
    const own = rounds.map((round) => figure(round.get(name) as Sample));
    const ratios = own.map((one, index) => one / figure(rounds[index]?.get(ALONE) as Sample));
    return { own: median(own), ratio: median(ratios).toFixed(2) };
  };
  const speed = of(({ perSecond }) => perSecond);
  const p99 = of(({ p99Ms }) => p99Ms);
  return `| ${[
    workload,
    name,
    Math.round(speed.own),
    speed.ratio,
    p99.own.toFixed(2),
    p99.ratio,
  ].join(" | ")} |`;
}

function endedIn(logFile: string): number {
  const lines = readFileSync(logFile, "utf8").split("\n");
  return lines.filter((line) => line.includes("no byte moved")).length;
}
