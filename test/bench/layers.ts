// SPDX-License-Identifier: Apache-2.0
//
// `npm run bench -- --layers`: what each layer costs, and what a host gets of it: a raw file, by
// fio itself and behind qemu-nbd; a volume of one, two and three copies through the unit that heads
// it; through another unit (in-band); and for a program on the unit itself (unix socket). The
// server's CPU is that of all units together. With them a replicated peer: qemu's quorum over three
// servers of a file each, as far apart as our units.
//
// Links between units are always encrypted: what that is of the cost is told by link-cost.ts.

import path from "node:path";
import { Lab } from "#test/cluster/lab.ts";
import type { LabUnit } from "#test/cluster/lab-unit.ts";
import { assembled, headOf } from "#test/cluster/assembled.ts";
import { run } from "#test/demo/run-program.ts";
import { cpuSeconds, median } from "./figures.ts";
import { linkCost } from "./link-cost.ts";
import { circumstances, type Round, type Sample } from "./report.ts";
import { roundsOf, type RoundsPlan } from "./rounds.ts";
import {
  answers,
  directlyAttached,
  fill,
  memoryFolder,
  nbdWords,
  startPeer,
  startQuorum,
  type DiskMode,
  type Server,
} from "./servers.ts";
import type { Workload } from "./workloads.ts";

const UNITS = 3;
const COPIES = ["none", "mirror-2", "mirror-3"] as const;
const KEYS = ["w32", "r32", "s64w"];
const START_MS = 120_000;
const PEER_PLACE = 100;
const RAW = "raw file (qemu-nbd)";
const QUORUM = "qemu quorum of 3";

export async function layers(
  plan: RoundsPlan & { mode: DiskMode; workloads: readonly Workload[] },
  tell: (line: string) => void,
): Promise<void> {
  const { volumeBytes, mode } = plan;
  await linkCost(tell);
  await using lab = new Lab({ needsBytes: volumeBytes * 14 });
  const servers = await startAll(lab, mode, volumeBytes);
  for (const workload of plan.workloads) {
    const { key } = workload;
    if (!KEYS.includes(key)) continue;
    // A round that does not count: units just started still compile as they serve.
    await roundsOf(lab, servers, workload, { ...plan, rounds: 1 });
    const rounds = await roundsOf(lab, servers, workload, plan);
    tell(`\n## Layers: ${workload.name}, ${mode}, TCP\n`);
    tell("| What | per second | of one copy | CPU of all servers per I/O, µs | times one copy |");
    tell("|---|---:|---:|---:|---:|");
    for (const { name } of servers) tell(rowOf(name, rounds));
    if (key !== "s64w") tell(`\n${againstQuorum(key, rounds)}`);
    tell(`\n${circumstances(rounds)}`);
  }
}

async function startAll(lab: Lab, mode: DiskMode, volumeBytes: number): Promise<Server[]> {
  const units = Array.from({ length: UNITS }, () =>
    lab.add({
      diskBytes: COPIES.length * (volumeBytes + (volumeBytes >> 4)) + (1 << 30),
      preallocate: true,
      settings: { directFiles: mode === "direct", memoryDirectory: memoryFolder(lab) },
    }),
  );
  for (const unit of units) unit.start();
  await lab.until("one cluster", () => assembled(lab), START_MS);
  const areReady = async () => {
    const disks = await lab.anyApi().disks();
    return disks.length === UNITS && disks.every((disk) => disk.state === "ready") ? true : null;
  };
  await lab.until("all disks are ready", areReady, START_MS);
  const [file, raw, quorum] = await startPeers(lab, mode, volumeBytes);
  const servers: Server[] = [file, raw];
  for (const copies of COPIES)
    servers.push(...(await startVolume(lab, units, copies, volumeBytes)));
  return [...servers, quorum];
}

/** The volume on its head itself, through its head, and through another unit. */
async function startVolume(
  lab: Lab,
  units: readonly LabUnit[],
  protection: (typeof COPIES)[number],
  sizeBytes: number,
): Promise<Server[]> {
  const hosts = [await lab.anyApi().hostFrom(lab.hostAddress, "127.0.0.1")];
  await lab.anyApi().createVolume({ name: protection, sizeBytes, protection, hosts });
  const head = await lab.until(`${protection} has a head`, () => headOf(lab, protection), START_MS);
  const other = units.find((unit) => unit !== head) as LabUnit;
  const made: Server[] = [];
  const over = (unit: LabUnit) => `nbd://${unit.address}:10809/${protection}`;
  const socket = path.join(head.stateFolder, "nbd.sock");
  for (const [how, uri] of [
    ["at its head", over(head)],
    ["on its head (unix socket)", `nbd+unix:///${protection}?socket=${socket}`],
    ["in-band", over(other)],
  ] as const) {
    await answers(lab, uri);
    const words = { tcp: nbdWords(uri), unix: nbdWords(uri) };
    const cpu = () => cpuSeconds(units.map(({ pid }) => pid ?? 0));
    made.push({ name: `${protection}, ${how}`, words, cpuSeconds: cpu });
  }
  await fill(lab, (made[0] as Server).words.tcp, sizeBytes);
  return made;
}

async function startPeers(
  lab: Lab,
  mode: DiskMode,
  volumeBytes: number,
): Promise<[Server, Server, Server]> {
  const files = ["raw", "first", "second", "third"].map((name) => path.join(lab.folder, name));
  const servers: Server[] = [];
  for (const [index, file] of files.entries()) {
    await run(lab, ["fallocate", "-l", String(volumeBytes), file], 60_000);
    await fill(lab, ["--ioengine=psync", `--filename=${file}`], volumeBytes);
    const place = PEER_PLACE + index;
    servers.push(await startPeer(lab, "qemu-nbd", place, { file, mode }));
  }
  const [raw, ...parts] = servers as [Server, ...Server[]];
  const places = parts.map((_, index) => PEER_PLACE + 1 + index);
  const front = await startQuorum(lab, PEER_PLACE + files.length, places);
  const cpu = () => [front, ...parts].reduce((sum, one) => sum + one.cpuSeconds(), 0);
  return [
    directlyAttached(files[0] as string, mode),
    { ...raw, name: RAW },
    { name: QUORUM, words: front.words, cpuSeconds: cpu },
  ];
}

const ONE = "none, at its head";

function medianOf(name: string, rounds: readonly Round[], of: (sample: Sample) => number): number {
  return median(rounds.map((round) => of(round.get(name) as Sample)));
}

/** Within a round. */
function timesOf(
  name: string,
  other: string,
  rounds: readonly Round[],
  of: (sample: Sample) => number,
): number {
  return median(
    rounds.map((round) => of(round.get(name) as Sample) / of(round.get(other) as Sample)),
  );
}

const speedOf = ({ perSecond }: Sample) => perSecond;
const costOf = ({ serverCpuMicrosPerIo }: Sample) => serverCpuMicrosPerIo;

function rowOf(name: string, rounds: readonly Round[]): string {
  return `| ${[
    name,
    Math.round(medianOf(name, rounds, speedOf)),
    timesOf(name, ONE, rounds, speedOf).toFixed(2),
    medianOf(name, rounds, costOf).toFixed(1),
    timesOf(name, ONE, rounds, costOf).toFixed(2),
  ].join(" | ")} |`;
}

/** The floors against quorum, and what mirrors may cost. */
function againstQuorum(key: string, rounds: readonly Round[]): string {
  const ratio = timesOf("mirror-3, at its head", QUORUM, rounds, speedOf);
  const floor = key === "r32" ? 10 : 1.3;
  const said = `mirror-3 over quorum: ${ratio.toFixed(2)} (floor ${floor})`;
  if (key !== "w32") return `${said}.`;
  const [two, three] = ["mirror-2, at its head", "mirror-3, at its head"].map((name) =>
    timesOf(name, ONE, rounds, costOf).toFixed(2),
  );
  const cost = `mirror-2 ${two} (at most 2.5), mirror-3 ${three} (at most 3.5)`;
  return `${said}; CPU of a write, times one copy: ${cost}.`;
}
