// SPDX-License-Identifier: Apache-2.0
//
// npm run sim -- [--seeds N] [--first K]      seeds K to K+N-1 (300 from 1)
//              [--seed X] [--trace]           one seed, its trace printed
//              [--mutant NAME]                the same with a mistake built in
//              [--mutants] [--within N]       every mutant, until found; fails if one is not
//              [--record FILE]                its figures as a row of the page of campaigns
//
// Exit status 1 on a violation (with --mutants: on a mutant not found), 2 on wrong arguments. A
// campaign is recorded whatever it found; the tree must be that of a commit.

import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { withCampaign } from "./campaigns.ts";
import type { Campaign } from "./campaigns.ts";
import { CONDITIONS, SEEDS_THAT_PROVE } from "./conditions.ts";
import { mutants } from "./mutants.ts";
import type { Mutant } from "./mutant.ts";
import { runSeed } from "./run-seed.ts";
import type { SeedResult } from "./run-seed.ts";

const PROGRESS_EVERY_MS = 10_000;
const MUTANT_SEEDS = 300;

const USAGE = 2;
function main(): number {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string", default: "300" },
      first: { type: "string", default: "1" },
      seed: { type: "string" },
      trace: { type: "boolean", default: false },
      mutant: { type: "string" },
      mutants: { type: "boolean", default: false },
      within: { type: "string", default: `${MUTANT_SEEDS}` },
      record: { type: "string" },
    },
  });
  const mutant = mutants.find((one) => one.name === values.mutant) ?? null;
  if (values.mutant !== undefined && mutant === null) {
    console.error(`mutants: ${mutants.map((one) => one.name).join(", ")}`);
    return USAGE;
  }
  const [seeds, first, within] = [values.seeds, values.first, values.within].map(Number);
  if (!isCount(seeds) || !isCount(first) || !isCount(within)) {
    console.error("--seeds, --first and --within are whole numbers from 1");
    return USAGE;
  }
  if (values.mutants) return findMutants(first, within);
  const record = values.record ?? null;
  if (record !== null && (mutant !== null || values.seed !== undefined)) {
    console.error("--record is for campaigns: without --seed and --mutant");
    return USAGE;
  }
  const commit = record === null ? "" : commitOfTree();
  if (commit === null) {
    console.error("--record names a commit: commit what src and test/sim hold first");
    return USAGE;
  }
  const task = { mutant, trace: values.trace };
  if (values.seed === undefined) {
    const total = new Totals();
    const status = runSeeds({ ...task, first, seeds }, total);
    if (record === null) return status;
    return recorded(record, total.campaign(commit, first)) ? status : USAGE;
  }
  const seed = Number(values.seed);
  if (!isCount(seed)) {
    console.error("--seed is a whole number from 1");
    return USAGE;
  }
  return runSeeds({ ...task, first: seed, seeds: 1 }, new Totals());
}

/** Null: src or test/sim are not as they were committed. */
function commitOfTree(): string | null {
  const git = (...words: string[]) => {
    const ended = Bun.spawnSync(["git", ...words], { stderr: "ignore" });
    return ended.exitCode === 0 ? ended.stdout.toString().trim() : null;
  };
  return git("status", "--porcelain", "--", "src", "test/sim") === ""
    ? git("rev-parse", "--short=7", "HEAD")
    : null;
}

function recorded(file: string, campaign: Campaign): boolean {
  const page = withCampaign(readFileSync(file, "utf8"), campaign);
  if (typeof page === "string") writeFileSync(file, page);
  else console.error(`${file}: ${page.refused}`);
  return typeof page === "string";
}

function isCount(value: number | undefined): value is number {
  return value !== undefined && Number.isSafeInteger(value) && value >= 1;
}

interface Task {
  first: number;
  seeds: number;
  mutant: Mutant | null;
  trace: boolean;
}

function runSeeds({ first, seeds, mutant, trace }: Task, total: Totals): number {
  const begun = Date.now();
  let shown = begun;
  for (let seed = first; seed < first + seeds; seed++) {
    const result = runSeed(seed, { mutant, onTrace: trace ? (line) => console.log(line) : null });
    total.add(result);
    if (result.violations.length > 0) {
      console.log(`seed ${seed}: ${result.violations.length} violations, for example`);
      for (const sentence of result.violations.slice(0, 5)) console.log(`  ${sentence}`);
      const how = mutant === null ? "" : ` --mutant ${mutant.name}`;
      console.log(`  replay: npm run sim -- --seed ${seed} --trace${how}`);
    }
    if (Date.now() - shown < PROGRESS_EVERY_MS) continue;
    shown = Date.now();
    console.log(`${seed - first + 1} of ${seeds} seeds, ${total.violating} violating`);
  }
  if (seeds === 1) console.log(`trace hash ${total.lastHash}`);
  console.log(total.conditions());
  // Runs that never meet what they are for prove little.
  const missing = seeds >= SEEDS_THAT_PROVE && mutant === null ? total.missing() : [];
  if (missing.length > 0) console.log(`never reached: ${missing.join(", ")}`);
  console.log(total.line((Date.now() - begun) / 1000));
  return total.violating > 0 || missing.length > 0 ? 1 : 0;
}

/** Runs each mutant until a seed finds it. */
function findMutants(first: number, within: number): number {
  const begun = Date.now();
  let missed = 0;
  for (const mutant of mutants) {
    const found = findMutant(mutant, first, within);
    if (found === null) {
      missed++;
      console.log(`${mutant.name}: NOT FOUND in ${within} seeds (${mutant.sentence})`);
    } else {
      const [sentence = ""] = found.violations;
      const seeds = found.seed - first + 1;
      const [short = ""] = sentence.split("\n");
      console.log(`${mutant.name}: found at seed ${found.seed} (${seeds} seeds): ${short}`);
    }
  }
  const seconds = ((Date.now() - begun) / 1000).toFixed(1);
  console.log(`mutants: ${mutants.length - missed} of ${mutants.length} found, ${seconds} s`);
  return missed > 0 ? 1 : 0;
}

function findMutant(mutant: Mutant, first: number, within: number): SeedResult | null {
  for (let seed = first; seed < first + within; seed++) {
    const result = runSeed(seed, { mutant });
    if (result.violations.length > 0) return result;
  }
  return null;
}

class Totals {
  violating = 0;
  lastHash = "";
  #seeds = 0;
  #violations = 0;
  #hostActs = 0;
  #ackedWrites = 0;
  #simulatedMs = 0;
  readonly #harms = new Map<string, number>();
  readonly #sometimes = new Map<string, number>();

  add(result: SeedResult): void {
    this.#seeds++;
    this.#violations += result.violations.length;
    if (result.violations.length > 0) this.violating++;
    this.#hostActs += result.hostActs;
    this.#ackedWrites += result.ackedWrites;
    this.#simulatedMs += result.simulatedMs;
    this.lastHash = result.traceHash;
    for (const [harm, count] of result.harms) {
      this.#harms.set(harm, (this.#harms.get(harm) ?? 0) + count);
    }
    for (const condition of result.sometimes.keys()) {
      this.#sometimes.set(condition, (this.#sometimes.get(condition) ?? 0) + 1);
    }
  }

  conditions(): string {
    return `sometimes (seeds that reached it): ${listed(this.#sometimes)}`;
  }

  missing(): string[] {
    return CONDITIONS.filter((condition) => !this.#sometimes.has(condition));
  }

  campaign(commit: string, firstSeed: number): Campaign {
    return {
      commit,
      day: new Date().toISOString().slice(0, 10),
      firstSeed,
      seeds: this.#seeds,
      hostActs: this.#hostActs,
      ackedWrites: this.#ackedWrites,
      violations: this.#violations,
      conditions: CONDITIONS.length - this.missing().length,
    };
  }

  line(seconds: number): string {
    const hours = (this.#simulatedMs / 3_600_000).toFixed(2);
    return (
      `sim: ${this.#seeds} seeds, ${this.#hostActs} host I/Os, ` +
      `${this.#ackedWrites} acked writes, ${hours} simulated hours, ` +
      `faults: ${listed(this.#harms)}; ` +
      `${this.#violations} violations, ${seconds.toFixed(1)} s`
    );
  }
}

function listed(counts: ReadonlyMap<string, number>): string {
  return [...counts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, count]) => `${name} ${count}`)
    .join(", ");
}

process.exit(main());
