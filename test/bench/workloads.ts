// SPDX-License-Identifier: Apache-2.0
//
// The workloads of `npm run bench`, as fio is told them, and what it reports of one run.

import type { Lab } from "#test/cluster/lab.ts";
import { run } from "#test/demo/run-program.ts";

export interface Workload {
  /** Short, for `--workload`. */
  key: string;
  name: string;
  fio: readonly string[];
}

const random = (rw: string, depth: number, ...more: string[]) => [
  `--rw=${rw}`,
  "--bs=4k",
  `--iodepth=${depth}`,
  "--norandommap",
  ...more,
];
const sequential = (rw: string, block: string, depth: number) => [
  `--rw=${rw}`,
  `--bs=${block}`,
  `--iodepth=${depth}`,
];

export const WORKLOADS: readonly Workload[] = [
  { key: "r1", name: "4k random read, depth 1", fio: random("randread", 1) },
  { key: "r32", name: "4k random read, depth 32", fio: random("randread", 32) },
  { key: "w32", name: "4k random write, depth 32", fio: random("randwrite", 32) },
  { key: "m32", name: "4k 70/30, depth 32", fio: random("randrw", 32, "--rwmixread=70") },
  {
    key: "c4",
    name: "4 connections x 32, 4k read",
    fio: random("randread", 32, "--numjobs=4", "--group_reporting"),
  },
  { key: "s64r", name: "64k sequential read, depth 8", fio: sequential("read", "64k", 8) },
  { key: "s1r", name: "1M sequential read, depth 4", fio: sequential("read", "1M", 4) },
  { key: "s64w", name: "64k sequential write, depth 8", fio: sequential("write", "64k", 8) },
  { key: "s1w", name: "1M sequential write, depth 4", fio: sequential("write", "1M", 4) },
  {
    key: "f8",
    name: "a flush after every write, depth 8",
    fio: random("randwrite", 8, "--fsync=1"),
  },
];

export interface FioFigures {
  /** Reads and writes together, flushes not. */
  operations: number;
  perSecond: number;
  /** The worse one of reads and writes. */
  p99Ms: number;
  clientCpuSeconds: number;
}

interface FioSide {
  iops: number;
  total_ios: number;
  clat_ns: { percentile?: Record<string, number> };
}

interface FioJob {
  read: FioSide;
  write: FioSide;
  usr_cpu: number;
  sys_cpu: number;
  job_runtime: number;
}

/** Requests of a run that has no time of its own are given this long at most, s. */
const REQUESTS_SECONDS_MAX = 600;
const BLOCK_BYTES = 4096;

export interface RunOptions {
  sizeBytes: number;
  /** How long it goes on: some time, or some requests of 4 KiB. */
  length: { seconds: number } | { requests: number };
  seed: number;
}

/** One run of fio on what `target` says. */
export async function measure(
  lab: Lab,
  target: readonly string[],
  fio: readonly string[],
  options: RunOptions,
): Promise<FioFigures> {
  const { length } = options;
  const isTimed = "seconds" in length;
  const words = isTimed
    ? ["--time_based", `--runtime=${length.seconds}`]
    : [`--io_size=${length.requests * BLOCK_BYTES}`];
  const limitSeconds = isTimed ? length.seconds + 60 : REQUESTS_SECONDS_MAX;
  const output = await run(
    lab,
    [
      "fio",
      "--name=bench",
      ...target,
      `--size=${options.sizeBytes}`,
      ...words,
      `--randseed=${options.seed}`,
      "--output-format=json",
      ...fio,
    ],
    limitSeconds * 1000,
  );
  const report = JSON.parse(output.slice(output.indexOf("{"))) as { jobs: FioJob[] };
  const job = report.jobs[0];
  if (job === undefined) throw new Error("fio reported no job");
  const sides = [job.read, job.write].filter((side) => side.total_ios > 0);
  return {
    operations: sides.reduce((sum, side) => sum + side.total_ios, 0),
    perSecond: sides.reduce((sum, side) => sum + side.iops, 0),
    p99Ms: Math.max(...sides.map((side) => (side.clat_ns.percentile?.["99.000000"] ?? 0) / 1e6)),
    clientCpuSeconds: ((job.usr_cpu + job.sys_cpu) / 100) * (job.job_runtime / 1000),
  };
}

/** Writes a stretch with checksums in every block, reads it back, and fails on any difference. */
export async function verify(lab: Lab, target: readonly string[], bytes: number): Promise<void> {
  const how = ["--rw=randwrite", "--bs=4k", "--iodepth=16", "--verify=crc32c", "--verify_fatal=1"];
  await run(lab, ["fio", "--name=verify", ...target, `--size=${bytes}`, ...how], 300_000);
}
