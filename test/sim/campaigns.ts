// SPDX-License-Identifier: Apache-2.0
//
// The page of campaigns (docs/CAMPAIGNS.md): one row per campaign of random runs, and their sum. A
// row is appended by `npm run sim -- --record docs/CAMPAIGNS.md`; nothing else of the page changes.

import { CONDITIONS } from "./conditions.ts";

export interface Campaign {
  /** The commit that was run, seven digits or more. */
  commit: string;
  /** YYYY-MM-DD. */
  day: string;
  firstSeed: number;
  seeds: number;
  /** Reads, writes, flushes, trims and zeroes of hosts, each held against the contract. */
  hostActs: number;
  ackedWrites: number;
  violations: number;
  /** Conditions of `CONDITIONS` that it reached. */
  conditions: number;
}

const COLUMNS = [
  "Commit",
  "Day",
  "Seeds",
  "How many",
  "Host I/Os checked",
  "Acked writes",
  "Violations",
  "Conditions reached",
] as const;
const HEAD = `| ${COLUMNS.join(" | ")} |`;
const SUM = "sum";

/** The page with one more row, and its sum anew; or why that cannot be. */
export function withCampaign(page: string, campaign: Campaign): string | { refused: string } {
  const lines = page.split("\n");
  const head = lines.indexOf(HEAD);
  if (head < 0) return { refused: `no table that begins with ${HEAD}` };
  const sumAt = lines.findIndex((line, at) => at > head && cellsOf(line)[0] === SUM);
  if (sumAt < 0) return { refused: "the table has no row of sums" };
  const rows = lines.slice(head + 2, sumAt);
  const row = rowOf(campaign);
  const [commit, , seeds] = cellsOf(row);
  const isKnown = rows.some((known) => {
    const cells = cellsOf(known);
    return cells[0] === commit && cells[2] === seeds;
  });
  // The same seeds of the same commit are the same runs.
  if (isKnown) return { refused: `seeds ${seeds} of commit ${commit} are on the page already` };
  const sums = [...rows, row].map((one) => cellsOf(one).slice(3, 7).map(numberOf));
  const total = (column: number) => sums.reduce((sum, cells) => sum + (cells[column] ?? 0), 0);
  const figures = [0, 1, 2, 3].map((column) => grouped(total(column)));
  lines.splice(sumAt, 1, row, `| ${[SUM, "", "", ...figures, ""].join(" | ")} |`);
  return lines.join("\n");
}

function rowOf(campaign: Campaign): string {
  const last = campaign.firstSeed + campaign.seeds - 1;
  const cells = [
    campaign.commit,
    campaign.day,
    `${campaign.firstSeed} to ${last}`,
    grouped(campaign.seeds),
    grouped(campaign.hostActs),
    grouped(campaign.ackedWrites),
    grouped(campaign.violations),
    `${campaign.conditions} of ${CONDITIONS.length}`,
  ];
  return `| ${cells.join(" | ")} |`;
}

function cellsOf(line: string): string[] {
  return line
    .split("|")
    .slice(1, -1)
    .map((cell) => cell.trim());
}

function grouped(value: number): string {
  return value.toLocaleString("en-US");
}

function numberOf(cell: string): number {
  return Number(cell.replaceAll(",", ""));
}
