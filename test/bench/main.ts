// SPDX-License-Identifier: Apache-2.0
//
// `npm run bench`: a single-copy volume through the whole product path, checksums verified, beside
// the servers that one would run instead (servers.ts). fio is the client of all.
//
// One rule for every ratio: the same run, transport, file system and disk mode; volumes of at least
// 4 GiB (`--gib` for quick looks) filled before; in every round each server runs once, in rotated
// order; a ratio is within its round, and its median and quartiles are told. Steal above 5 % voids
// a table. Figures for a person; nothing here passes or fails.

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { Lab } from "#test/cluster/lab.ts";
import { run } from "#test/demo/run-program.ts";
import { cold } from "./cold.ts";
import { layers } from "./layers.ts";
import { memory } from "./memory.ts";
import {
  TABLE_HEAD,
  circumstances,
  figuresOf,
  machineLines,
  rowsOf,
  type Round,
} from "./report.ts";
import { roundsOf } from "./rounds.ts";
import {
  PEERS,
  directlyAttached,
  fill,
  hasMode,
  startOurs,
  startPeer,
  type DiskMode,
  type PeerName,
  type Server,
  type Transport,
} from "./servers.ts";
import { stuck } from "./stuck.ts";
import { WORKLOADS, verify, type Workload } from "./workloads.ts";

const OURS = "cairn";
const FILE = "file";
const BESIDE = "other cairn";
const FIRST_PEER_PLACE = 100;
const VERIFY_BYTES = 64 << 20;

const HELP = `npm run bench -- [flags]
  --pairs N        rounds per workload (3)
  --seconds N      of each run (5)
  --gib N          size of the volumes (4)
  --workload KEYS  of ${WORKLOADS.map((workload) => workload.key).join(",")} (all)
  --peer NAMES     of ${PEERS.join(",")},${FILE} (all; file: fio on it, no server)
  --beside FILE    another cairn executable, as one more peer (none)
  --transport T    tcp, unix or both (both); with --memory the first of them
  --disk MODE      buffered, direct or both (both)
  --memory         instead: what a unit holds over many requests (memory.ts)
  --millions N     of them (10)
  --cold           instead: an unwritten volume beside a warm one, in virtual time (cold.ts)
  --layers         instead: what copies and links cost, beside qemu's quorum (layers.ts)
  --stuck          instead: a host beside others that do not get on (stuck.ts)
  --report FILE    where the report goes; also a folder (none)`;

const { values } = parseArgs({
  options: {
    pairs: { type: "string", default: "3" },
    seconds: { type: "string", default: "5" },
    gib: { type: "string", default: "4" },
    workload: { type: "string", default: "" },
    peer: { type: "string", default: "" },
    beside: { type: "string", default: "" },
    transport: { type: "string", default: "both" },
    disk: { type: "string", default: "both" },
    memory: { type: "boolean", default: false },
    millions: { type: "string", default: "10" },
    layers: { type: "boolean", default: false },
    cold: { type: "boolean", default: false },
    stuck: { type: "boolean", default: false },
    report: { type: "string", default: "" },
    help: { type: "boolean", default: false },
  },
});

interface Plan {
  rounds: number;
  seconds: number;
  volumeBytes: number;
  workloads: readonly Workload[];
  peers: readonly PeerName[];
  /** Beside fio on the peers' file, without a server. */
  besideFile: boolean;
  /** An executable of another state of ours; null: none. */
  besideExecutable: string | null;
  transports: readonly Transport[];
  modes: readonly DiskMode[];
}

function refuse(sentence: string): never {
  console.error(`${sentence}\n${HELP}`);
  process.exit(2);
}

function whole(text: string, flag: string, most: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  return refuse(`${flag} is a whole number from 1 to ${most}`);
}

function some<T extends string>(text: string, flag: string, known: readonly T[]): T[] {
  const all = text === "" || text === "both" ? [...known] : text.split(",");
  const unknown = all.find((one) => !known.includes(one as T));
  if (unknown !== undefined) refuse(`${flag}: ${unknown} is not one of ${known.join(", ")}`);
  return all as T[];
}

function planOf(): Plan {
  const keys = WORKLOADS.map((workload) => workload.key);
  const wanted = some(values.workload, "--workload", keys);
  const peers = some(values.peer, "--peer", [...PEERS, FILE]);
  return {
    rounds: whole(values.pairs, "--pairs", 99),
    seconds: whole(values.seconds, "--seconds", 600),
    volumeBytes: whole(values.gib, "--gib", 1024) * 2 ** 30,
    workloads: WORKLOADS.filter((workload) => wanted.includes(workload.key)),
    peers: peers.filter((name) => name !== FILE),
    besideFile: peers.includes(FILE),
    besideExecutable: values.beside === "" ? null : path.resolve(values.beside),
    transports: some(values.transport, "--transport", ["tcp", "unix"]),
    modes: some(values.disk, "--disk", ["buffered", "direct"]),
  };
}

async function compare(mode: DiskMode, plan: Plan, tell: (line: string) => void): Promise<void> {
  await using resources = new AsyncDisposableStack();
  const lab = resources.use(new Lab({ needsBytes: plan.volumeBytes * 2.5 }));
  const ours = await startOurs(lab, mode, plan.volumeBytes);
  await fill(lab, ours.words.tcp, plan.volumeBytes);
  const file = path.join(lab.folder, "peers.raw");
  await run(lab, ["fallocate", "-l", String(plan.volumeBytes), file], 60_000);
  await fill(lab, ["--ioengine=psync", `--filename=${file}`], plan.volumeBytes);
  const servers: Server[] = [ours];
  for (const [index, peer] of plan.peers.entries()) {
    if (!hasMode(peer, mode)) continue;
    servers.push(await startPeer(lab, peer, FIRST_PEER_PLACE + index, { file, mode }));
  }
  if (plan.besideExecutable !== null) {
    const executable = plan.besideExecutable;
    const other = resources.use(new Lab({ executable, needsBytes: plan.volumeBytes * 1.5 }));
    const theirs = await startOurs(other, mode, plan.volumeBytes);
    await fill(other, theirs.words.tcp, plan.volumeBytes);
    servers.push({ ...theirs, name: BESIDE });
  }
  for (const server of servers) await verify(lab, server.words.tcp, VERIFY_BYTES);
  if (plan.besideFile) servers.push(directlyAttached(file, mode));
  for (const transport of plan.transports) {
    tell(`\n## ${mode}, ${transport === "tcp" ? "TCP" : "unix socket"}\n\n${TABLE_HEAD}`);
    const all: Round[] = [];
    const details: string[] = [];
    for (const workload of plan.workloads) {
      const rounds = await roundsOf(lab, servers, workload, { ...plan, transport });
      for (const row of rowsOf(workload, rounds, OURS)) tell(row);
      details.push(`\n${workload.name}:\n`, ...figuresOf(rounds).map((line) => `- ${line}`));
      all.push(...rounds);
    }
    tell(`\n${circumstances(all)}\n`);
    tell(`<details><summary>Every run</summary>\n${details.join("\n")}\n\n</details>`);
  }
}

/** In the folder; what an earlier run of the day wrote stays. */
function freeName(folder: string, day: string): string {
  for (let count = 1; ; count++) {
    const file = path.join(folder, count === 1 ? `${day}.md` : `${day}-${count}.md`);
    if (!existsSync(file)) return file;
  }
}

async function main(): Promise<void> {
  if (values.help) return console.log(HELP);
  const plan = planOf();
  const lines: string[] = [];
  const tell = (line: string): void => {
    lines.push(line);
    console.log(line);
  };
  const day = new Date().toISOString().slice(0, 10);
  tell(`# Benchmarks of ${day}\n`);
  tell(
    `${plan.rounds} rotated rounds of ${plan.seconds} s per workload and server, ` +
      `volumes of ${plan.volumeBytes / 2 ** 30} GiB filled before. Ratios are ours over theirs ` +
      "within a round: throughput above 1 is better, CPU per I/O and p99 below 1 are better.\n",
  );
  for (const line of machineLines(path.dirname(import.meta.dir))) tell(line);
  const millions = whole(values.millions, "--millions", 1000);
  if (values.cold) cold(tell);
  const isOther = values.cold || values.memory || values.layers || values.stuck;
  for (const mode of plan.modes) {
    const [transport = "tcp"] = plan.transports;
    if (values.memory) await memory({ ...plan, mode, transport, millions }, tell);
    if (values.layers) await layers({ ...plan, mode, transport: "tcp" }, tell);
    if (values.stuck) await stuck({ ...plan, mode, transport: "tcp" }, tell);
    if (!isOther) await compare(mode, plan, tell);
  }
  if (values.report === "") return;
  const file = values.report.endsWith(".md") ? values.report : freeName(values.report, day);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, `${lines.join("\n")}\n`);
}

await main();
