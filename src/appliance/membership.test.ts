// SPDX-License-Identifier: Apache-2.0
//
// The saved membership: what is written is read, and what is damaged is never taken for "none".

import { expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { FIRST_GENERATION } from "#cluster/generation.ts";
import { membershipText, parseMembership } from "./membership.ts";
import type { SavedMembership } from "./membership.ts";

const membership: SavedMembership = {
  clusterId: "0123456789abcdef0123456789abcdef",
  clusterName: "cairn",
  unit: 3,
  voters: [
    {
      unit: 1,
      unitId: "f".repeat(32),
      addresses: ["fd00::1", "192.0.2.1"],
      port: 10811,
    },
  ],
  generation: { number: 2, id: "e".repeat(32) },
};

test("written and read → the same", () => {
  expect(parseMembership(membershipText(membership))).toEqual(membership);
  const alone = { ...membership, voters: [] };
  expect(parseMembership(membershipText(alone))).toEqual(alone);
});

test("written before there were generations → of the first one", () => {
  const { generation: _, ...before } = membership;
  const text = JSON.stringify({ version: 1, ...before });
  expect(parseMembership(text)).toEqual({ ...before, generation: FIRST_GENERATION });
});

test("cut at any place → Fault corrupt, with no word of the content", () => {
  const text = membershipText(membership);
  for (let length = 0; length < text.length - 1; length++) {
    expect([length, codeOf(text.slice(0, length))]).toEqual([length, "corrupt"]);
  }
});

test("a field missing, of another kind or beyond its bounds → Fault corrupt", () => {
  const whole = { version: 1, ...membership };
  const [voter] = membership.voters;
  for (const change of [
    { version: 2 },
    { version: undefined },
    { clusterId: "0123" },
    { clusterId: undefined },
    { unit: 0 },
    { unit: "3" },
    { voters: null },
    { voters: [{ ...voter, port: 0 }] },
    { voters: [{ ...voter, unitId: "x" }] },
    { voters: Array.from({ length: 17 }, () => voter) },
    { clusterName: "n".repeat(64) },
  ]) {
    expect([change, codeOf(JSON.stringify({ ...whole, ...change }))]).toEqual([change, "corrupt"]);
  }
  for (const text of ["null", "[]", "3", '"x"'])
    expect([text, codeOf(text)]).toEqual([text, "corrupt"]);
});

function codeOf(text: string): string {
  try {
    parseMembership(text);
    return "none";
  } catch (error) {
    return error instanceof Fault ? error.code : String(error);
  }
}
