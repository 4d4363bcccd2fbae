// SPDX-License-Identifier: Apache-2.0
//
// The judged figures of a cluster, measured on this machine. Run by hand, on a quiet machine, as
// root; it takes most of an hour:
//
//   bun test/cluster/judge-run.ts [SECTION ...] [--scale 1] [--json FILE]
//
// Sections: starts, idle, kills, stops, cuts, hangs, off, resync, thin, wiped, corrupt, group,
// revocations, storm, mutants. Without names it runs all; with --scale 5 five times as often (100
// kills).
// Prints a table; exit status 1 when a promise was not kept.

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { judgeGroup, judgeRevocations } from "./judge-access.ts";
import { judgeCorrupt } from "./judge-corrupt.ts";
import { Judgement } from "./judge-figures.ts";
import { judgeCuts, judgeHangs, judgeKills, judgeResync } from "./judge-loss.ts";
import { judgeStops, judgeThin, judgeWiped } from "./judge-loss.ts";
import { judgeMutants } from "./judge-mutants.ts";
import { judgeAllOff } from "./judge-off.ts";
import { judgeIdle, judgeStarts, judgeStorm } from "./judge-quiet.ts";
import { requireMachine } from "./lab.ts";

const SECTIONS: Record<string, (judgement: Judgement, scale: number) => Promise<void>> = {
  starts: (judgement, scale) => judgeStarts(judgement, Math.ceil(10 * scale)),
  idle: (judgement) => judgeIdle(judgement),
  kills: (judgement, scale) => judgeKills(judgement, Math.ceil(20 * scale)),
  stops: (judgement, scale) => judgeStops(judgement, Math.ceil(10 * scale)),
  cuts: (judgement, scale) => judgeCuts(judgement, Math.ceil(20 * scale)),
  hangs: (judgement, scale) => judgeHangs(judgement, Math.ceil(20 * scale)),
  off: (judgement, scale) => judgeAllOff(judgement, Math.ceil(3 * scale)),
  resync: (judgement, scale) => judgeResync(judgement, Math.ceil(6 * scale)),
  thin: (judgement) => judgeThin(judgement),
  wiped: (judgement) => judgeWiped(judgement),
  corrupt: (judgement, scale) => judgeCorrupt(judgement, Math.ceil(1000 * scale)),
  revocations: (judgement, scale) => judgeRevocations(judgement, Math.ceil(20 * scale)),
  group: (judgement, scale) => judgeGroup(judgement, Math.ceil(10 * scale)),
  storm: (judgement, scale) => judgeStorm(judgement, 10 * scale),
  mutants: (judgement, scale) => judgeMutants(judgement, Math.ceil(1_000_000 * scale)),
};

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: "string" },
      // For a quick look: a tenth of everything with 0.1.
      scale: { type: "string", default: "1" },
    },
  });
  const unknown = positionals.filter((name) => SECTIONS[name] === undefined);
  if (unknown.length > 0) {
    say(`no section ${unknown.join(" ")}; there are: ${Object.keys(SECTIONS).join(" ")}`);
    return 2;
  }
  requireMachine();
  const judgement = new Judgement(say);
  const failures: string[] = [];
  for (const [name, judge] of Object.entries(SECTIONS)) {
    if (positionals.length > 0 && !positionals.includes(name)) continue;
    say(`== ${name}`);
    try {
      await judge(judgement, Number(values.scale));
    } catch (error) {
      failures.push(name);
      say(`${name} failed: ${error instanceof Error ? error.message : String(error)}`);
    }
    if (values.json !== undefined) {
      writeFileSync(values.json, `${JSON.stringify(judgement.figures, null, 1)}\n`);
    }
  }
  say(`\n${judgement.table()}`);
  if (failures.length > 0) say(`failed: ${failures.join(" ")}`);
  return judgement.allKept && failures.length === 0 ? 0 : 1;
}

process.exit(await main());
