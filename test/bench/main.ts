// SPDX-License-Identifier: Apache-2.0
//
// `npm run bench`: a single-copy volume through the whole product path, checksums verified, beside
// qemu-nbd on the same file system, each over TCP through the same bridge. fio is the client of
// both.
//
// One rule for every ratio: the same run, order rotated, the median of the pairs and its quartiles.
// A pair is two runs of SECONDS each; the machine's steal time is told, and above 5 % voids the
// run. Figures for a person; nothing here passes or fails.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Lab } from "#test/cluster/lab.ts";
import { assembled } from "#test/cluster/assembled.ts";
import { run } from "#test/demo/run-program.ts";

const VOLUME_BYTES = 1 << 30;
const PEER_PORT = 10900;
const STEAL_SHARE_MAX = 0.05;

interface Workload {
  name: string;
  fio: string[];
}

const WORKLOADS: Workload[] = [
  { name: "4k random read, depth 1", fio: ["--rw=randread", "--bs=4k", "--iodepth=1"] },
  { name: "4k random read, depth 32", fio: ["--rw=randread", "--bs=4k", "--iodepth=32"] },
  { name: "4k random write, depth 32", fio: ["--rw=randwrite", "--bs=4k", "--iodepth=32"] },
  {
    name: "4k 70/30, depth 32",
    fio: ["--rw=randrw", "--rwmixread=70", "--bs=4k", "--iodepth=32"],
  },
  { name: "64k sequential read, depth 8", fio: ["--rw=read", "--bs=64k", "--iodepth=8"] },
  { name: "64k sequential write, depth 8", fio: ["--rw=write", "--bs=64k", "--iodepth=8"] },
  {
    name: "a flush after every write, depth 8",
    fio: ["--rw=randwrite", "--bs=4k", "--iodepth=8", "--fsync=1"],
  },
];

const { values } = parseArgs({
  options: { pairs: { type: "string", default: "3" }, seconds: { type: "string", default: "5" } },
});
const pairs = whole(values.pairs, "--pairs", 99);
const seconds = whole(values.seconds, "--seconds", 600);

function whole(text: string, flag: string, most: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  console.error(`${flag} is a whole number from 1 to ${most}`);
  process.exit(2);
}

/** Operations per second, reads and writes together. */
async function measure(lab: Lab, uri: string, workload: Workload): Promise<number> {
  const output = await run(
    lab,
    [
      "fio",
      "--name=bench",
      "--ioengine=nbd",
      `--uri=${uri}`,
      `--size=${VOLUME_BYTES}`,
      "--time_based",
      `--runtime=${seconds}`,
      "--randseed=7",
      "--norandommap",
      "--output-format=json",
      ...workload.fio,
    ],
    (seconds + 60) * 1000,
  );
  const report = JSON.parse(output.slice(output.indexOf("{"))) as {
    jobs: { read: { iops: number }; write: { iops: number } }[];
  };
  const job = report.jobs[0];
  if (job === undefined) throw new Error("fio reported no job");
  return job.read.iops + job.write.iops;
}

function steal(): { stolen: number; all: number } {
  const first = readFileSync("/proc/stat", "utf8").split("\n")[0] ?? "";
  const ticks = first.split(/\s+/).slice(1, 9).map(Number);
  return { stolen: ticks[7] ?? 0, all: ticks.reduce((sum, one) => sum + one, 0) };
}

function quantile(sorted: readonly number[], share: number): number {
  const at = (sorted.length - 1) * share;
  const low = sorted[Math.floor(at)] ?? 0;
  const high = sorted[Math.ceil(at)] ?? low;
  return low + (high - low) * (at - Math.floor(at));
}

async function compare(lab: Lab, ours: string, theirs: string, workload: Workload) {
  const ratios: number[] = [];
  let last = { ours: 0, theirs: 0 };
  for (let pair = 0; pair < pairs; pair++) {
    const oursFirst = pair % 2 === 0;
    const first = await measure(lab, oursFirst ? ours : theirs, workload);
    const second = await measure(lab, oursFirst ? theirs : ours, workload);
    last = oursFirst ? { ours: first, theirs: second } : { ours: second, theirs: first };
    ratios.push(last.ours / last.theirs);
  }
  ratios.sort((left, right) => left - right);
  const [low, middle, high] = [0.25, 0.5, 0.75].map((share) => quantile(ratios, share).toFixed(2));
  const row = [workload.name, middle, `${low} to ${high}`, last.ours, last.theirs];
  console.log(
    `| ${row.map((cell) => (typeof cell === "number" ? Math.round(cell) : cell)).join(" | ")} |`,
  );
}

async function main(): Promise<void> {
  await using lab = new Lab({ unit: { diskBytes: VOLUME_BYTES * 2, preallocate: true } });
  const unit = lab.add();
  unit.start();
  await lab.until("the unit is in its cluster", () => assembled(lab), 60_000);
  await lab.until(
    "its disk is ready",
    async () => {
      const [disk] = await unit.api.disks();
      return disk?.state === "ready" ? true : null;
    },
    60_000,
  );
  await unit.api.createVolume({
    name: "bench",
    sizeBytes: VOLUME_BYTES,
    protection: "none",
    allow: [`${lab.hostAddress}/32`],
  });
  const ours = `nbd://${unit.address}:10809/bench`;
  const file = `${lab.folder}/peer.raw`;
  await run(lab, ["fallocate", "-l", String(VOLUME_BYTES), file], 60_000);
  const place = ["--bind", lab.hostAddress, "--port", String(PEER_PORT)];
  const how = [
    "--shared=16",
    "--persistent",
    "--format=raw",
    "--aio=io_uring",
    "--cache=writeback",
  ];
  lab.spawn("qemu-nbd", "qemu-nbd", [...place, ...how, "--export-name=bench", file]);
  const theirs = `nbd://${lab.hostAddress}:${PEER_PORT}/bench`;
  console.log("Filling both with random data first.");
  for (const uri of [ours, theirs]) {
    await lab.until("it answers", () => run(lab, ["nbdinfo", uri], 10_000), 30_000);
    const fill = ["--rw=write", "--bs=1M", "--iodepth=4", "--refill_buffers", "--end_fsync=1"];
    const size = `--size=${VOLUME_BYTES}`;
    await run(
      lab,
      ["fio", "--name=fill", "--ioengine=nbd", `--uri=${uri}`, size, ...fill],
      600_000,
    );
  }
  const before = steal();
  console.log(`\n${pairs} rotated pairs of ${seconds} s each; ratio of operations per second.\n`);
  console.log("| Workload (fio) | ours / qemu-nbd, median | quartiles | ours/s | qemu-nbd/s |");
  console.log("|---|---:|---:|---:|---:|");
  for (const workload of WORKLOADS) await compare(lab, ours, theirs, workload);
  const after = steal();
  const share = (after.stolen - before.stolen) / Math.max(1, after.all - before.all);
  const verdict = share > STEAL_SHARE_MAX ? " These figures are void." : "";
  console.log(`\nSteal time ${(share * 100).toFixed(1)} %.${verdict}`);
}

await main();
