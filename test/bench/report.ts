// SPDX-License-Identifier: Apache-2.0
//
// The report of `npm run bench`: one table of ratios per transport and disk mode, what the machine
// was and did meanwhile, and all figures behind the ratios. Markdown, for docs/bench/.

import { readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { spawnSync } from "node:child_process";
import { median, quantile } from "./figures.ts";
import { PEERS, type PeerName } from "./servers.ts";

/** Floors for throughput, ours over theirs (median), by workload and peer. */
const FLOORS: Readonly<Record<string, Readonly<Record<PeerName, number>>>> = {
  r1: { "qemu-nbd": 1.0, nbdkit: 1.2, "nbd-server": 1.4 },
  r32: { "qemu-nbd": 1.8, nbdkit: 1.2, "nbd-server": 1.6 },
  w32: { "qemu-nbd": 1.8, nbdkit: 1.0, "nbd-server": 1.5 },
  m32: { "qemu-nbd": 1.8, nbdkit: 1.3, "nbd-server": 1.7 },
  c4: { "qemu-nbd": 2.5, nbdkit: 1.5, "nbd-server": 1.5 },
  s64r: { "qemu-nbd": 1.3, nbdkit: 1.2, "nbd-server": 1.4 },
  s1r: { "qemu-nbd": 1.3, nbdkit: 0.9, "nbd-server": 1.2 },
  s64w: { "qemu-nbd": 1.4, nbdkit: 1.0, "nbd-server": 1.2 },
  s1w: { "qemu-nbd": 1.4, nbdkit: 1.0, "nbd-server": 1.2 },
  f8: { "qemu-nbd": 1.0, nbdkit: 0.8, "nbd-server": 0.9 },
};
/** Ceilings for server CPU per I/O, ours over theirs (median), where much is asked at once. */
const CPU_CEILINGS: Readonly<Record<PeerName, number>> = {
  "qemu-nbd": 1 / 2,
  nbdkit: 2 / 3,
  "nbd-server": 1 / 2,
};
const CPU_JUDGED: ReadonlySet<string> = new Set(["r32", "w32", "m32", "c4", "s64r", "s64w"]);
/** Our p99 over the best peer's, median. */
const P99_CEILING = 1.5;
/** The lower quartile may be this much of the floor. */
const QUARTILE_SHARE = 0.9;
const STEAL_SHARE_MAX = 0.05;

/** One server's run within a round. */
export interface Sample {
  perSecond: number;
  p99Ms: number;
  serverCpuMicrosPerIo: number;
  stealShare: number;
  /** Cores used by neither server nor client. */
  foreignCores: number;
}

/** A round: every server once, in rotated order; samples by the server's name. */
export type Round = ReadonlyMap<string, Sample>;

export const TABLE_HEAD = [
  "| Workload (fio) | peer | ratio, median | quartiles | floor | server CPU per I/O | p99 " +
    "| ours/s | theirs/s |",
  "|---|---|---:|---:|---:|---:|---:|---:|---:|",
].join("\n");

/**
 * Rows of one workload, a peer each. CPU and p99 are ratios ours over theirs: below 1 is better.
 */
export function rowsOf(
  workload: { key: string; name: string },
  rounds: readonly Round[],
  ours: string,
): string[] {
  const peers = [...(rounds[0]?.keys() ?? [])].filter((name) => name !== ours);
  const p99Of = (name: string) => medianOf(rounds, name, (sample) => sample.p99Ms);
  const judged = peers.filter((name) => PEERS.includes(name as PeerName));
  const [best] = judged.sort((one, other) => p99Of(one) - p99Of(other));
  return peers.map((peer) => {
    const ratiosOf = (of: (sample: Sample) => number) =>
      rounds.map((round) => of(round.get(ours) as Sample) / of(round.get(peer) as Sample));
    const speed = ratiosOf((sample) => sample.perSecond);
    const floor = FLOORS[workload.key]?.[peer as PeerName] ?? null;
    // No number where there is no server beside ours.
    const cpuRatio = median(ratiosOf((sample) => sample.serverCpuMicrosPerIo));
    const cpuCeiling = CPU_JUDGED.has(workload.key) ? CPU_CEILINGS[peer as PeerName] : undefined;
    const quartiles = [quantile(speed, 0.25), quantile(speed, 0.75)];
    const isMet =
      floor !== null &&
      median(speed) >= floor &&
      (quartiles[0] as number) >= floor * QUARTILE_SHARE;
    const p99Ratio = median(ratiosOf((sample) => sample.p99Ms));
    return `| ${[
      workload.name,
      peer,
      median(speed).toFixed(2),
      quartiles.map((one) => one.toFixed(2)).join(" to "),
      floor === null ? "" : `${floor.toFixed(1)} ${isMet ? "met" : "missed"}`,
      Number.isFinite(cpuRatio) ? below(cpuRatio, cpuCeiling) : "",
      below(p99Ratio, peer === best ? P99_CEILING : undefined),
      Math.round(medianOf(rounds, ours, (sample) => sample.perSecond)),
      Math.round(medianOf(rounds, peer, (sample) => sample.perSecond)),
    ].join(" | ")} |`;
  });
}

function medianOf(rounds: readonly Round[], name: string, of: (sample: Sample) => number): number {
  return median(rounds.map((round) => of(round.get(name) as Sample)));
}

/** A ratio, and whether it stays below its ceiling where it has one. */
function below(ratio: number, ceiling: number | undefined): string {
  if (ceiling === undefined) return ratio.toFixed(2);
  return `${ratio.toFixed(2)} (${ceiling.toFixed(2)} ${ratio <= ceiling ? "met" : "missed"})`;
}

/** What the machine did meanwhile, in a sentence. */
export function circumstances(rounds: readonly Round[]): string {
  const samples = rounds.flatMap((round) => [...round.values()]);
  const steal = samples.map((sample) => sample.stealShare);
  const foreign = samples.map((sample) => sample.foreignCores);
  const mean = steal.reduce((sum, one) => sum + one, 0) / Math.max(1, steal.length);
  const verdict = mean > STEAL_SHARE_MAX ? " **Void: too much of the machine was stolen.**" : "";
  const percent = (share: number) => `${(share * 100).toFixed(1)} %`;
  return (
    `Steal ${percent(mean)} on average, ${percent(Math.max(...steal))} at most; ` +
    `foreign load ${median(foreign).toFixed(2)} cores in the median, ` +
    `${Math.max(...foreign).toFixed(2)} at most.${verdict}`
  );
}

/** The raw figures of one workload: medians per server. */
export function figuresOf(rounds: readonly Round[]): string[] {
  const names = [...(rounds[0]?.keys() ?? [])];
  return names.map((name) => {
    const all = rounds.map((round) => round.get(name) as Sample);
    const cpu = median(all.map((sample) => sample.serverCpuMicrosPerIo));
    const speeds = all.map((sample) => Math.round(sample.perSecond)).join(", ");
    const p99 = median(all.map((sample) => sample.p99Ms));
    const costs = `${cpu.toFixed(1)} µs CPU per I/O; p99 ${p99.toFixed(2)} ms`;
    return `${name}: ${speeds} per second; ${costs}`;
  });
}

export function machineLines(folder: string): string[] {
  const said = (command: string, ...words: string[]) =>
    spawnSync(command, words, { encoding: "utf8" }).stdout?.trim() ?? "";
  const versionOf = (name: string) => said("dpkg-query", "-W", "-f", "${Version}", name);
  const gibibytes = (totalmem() / 2 ** 30).toFixed(0);
  const packages = ["qemu-utils", "nbdkit", "nbd-server", "fio"];
  return [
    `- Machine: ${cpus().length} cores (${cpus()[0]?.model ?? "unknown"}), ${gibibytes} GiB`,
    `- Kernel: ${release()}; ${osName()}`,
    `- File system: ${said("stat", "-f", "-c", "%T", folder)}, the same for all disks and files`,
    `- ${packages.map((name) => `${name} ${versionOf(name)}`).join(", ")}`,
  ];
}

function osName(): string {
  const text = readFileSync("/etc/os-release", "utf8");
  return /^PRETTY_NAME="(.*)"$/m.exec(text)?.[1] ?? "unknown system";
}
