// SPDX-License-Identifier: Apache-2.0
//
// The page of campaigns: rows add up, nothing counts twice, and the page in the tree is such a
// page.

import { readFileSync } from "node:fs";
import { expect, test } from "bun:test";
import { withCampaign } from "./campaigns.ts";
import type { Campaign } from "./campaigns.ts";
import { CONDITIONS } from "./conditions.ts";

const page = readFileSync(new URL("../../docs/CAMPAIGNS.md", import.meta.url), "utf8");
const campaign: Campaign = {
  commit: "abcdef0",
  day: "2026-11-28",
  firstSeed: 9001,
  seeds: 1200,
  hostActs: 1_234_567,
  ackedWrites: 500_000,
  violations: 0,
  conditions: CONDITIONS.length,
};

const sumOf = (text: string | { refused: string }) => {
  const row = typeof text === "string" ? text.split("\n").find((l) => l.startsWith("| sum")) : "";
  return (
    row
      ?.split("|")
      .slice(4, 8)
      .map((cell) => Number(cell.trim().replaceAll(",", ""))) ?? []
  );
};

test("one more campaign → its row, and every sum higher by it", () => {
  const before = sumOf(page);
  const after = withCampaign(page, campaign);
  expect(sumOf(after)).toEqual(
    [1200, 1_234_567, 500_000, 0].map((more, column) => (before[column] ?? 0) + more),
  );
  const row = "| abcdef0 | 2026-11-28 | 9001 to 10200 | 1,200 | 1,234,567 | 500,000 | 0 |";
  expect(after).toContain(`${row} ${CONDITIONS.length} of ${CONDITIONS.length} |`);
  // Nothing else is touched.
  const rest = (text: string) => text.split("\n").filter((line) => !/^\| (sum|abcdef0)/.test(line));
  expect(rest(after as string)).toEqual(rest(page));
});

test("the sums on the page are those of its rows", () => {
  const table = page.slice(0, page.indexOf("| sum"));
  const rows = table.split("\n").filter((line) => /^\| [0-9a-f]{7,} \|/.test(line));
  const cells = rows.map((row) => sumOf(`| sum${row.slice(row.indexOf(" |"))}`));
  const sums = [0, 1, 2, 3].map((column) =>
    cells.reduce((sum, row) => sum + (row[column] ?? 0), 0),
  );
  expect(sumOf(page)).toEqual(sums);
});

test("the same seeds of the same commit → refused, not counted twice", () => {
  const after = withCampaign(page, campaign) as string;
  expect(withCampaign(after, { ...campaign, hostActs: 1 })).toEqual({
    refused: "seeds 9001 to 10200 of commit abcdef0 are on the page already",
  });
  expect(typeof withCampaign(after, { ...campaign, firstSeed: 1 })).toBe("string");
});

test("a page without such a table → refused in words", () => {
  expect(withCampaign("# Nothing here", campaign)).toHaveProperty("refused");
  expect(withCampaign(page.replace("| sum", "| all"), campaign)).toHaveProperty("refused");
});

test("every test that the page names is there", () => {
  const named = [...page.matchAll(/`((?:src|test)\/[^`]*\.test\.ts)`(?:, "([^"]+)")?/g)];
  expect(named.length).toBeGreaterThan(20);
  for (const [, file = "", title = "test("] of named) {
    const text = readFileSync(new URL(`../../${file}`, import.meta.url), "utf8");
    expect([file, title, text.includes(title)]).toEqual([file, title, true]);
  }
});
