// SPDX-License-Identifier: Apache-2.0
//
// Copies yield to hosts, over all slices of a unit; before a deadline they do not.

import { expect, test } from "bun:test";
import { CopyBudget, UNIT_COPIES_BESIDE_HOST_MAX, UNIT_COPIES_MAX } from "./copy-budget.ts";

function taken(budget: CopyBudget): number {
  let copies = 0;
  while (copies < 1000 && budget.take()) copies++;
  return copies;
}

test("nobody counts → no bound but a slice's own", () => {
  const budget = new CopyBudget();
  expect(taken(budget)).toBe(1000);
  expect([budget.sliceMost(0), budget.sliceMost(1)]).toEqual([4, 2]);
});

test("beside hosts fewer at once than alone; what is under way counts", () => {
  const budget = new CopyBudget();
  budget.counted(0, { isBesideHosts: false });
  expect(taken(budget)).toBe(UNIT_COPIES_MAX);
  budget.counted(3, { isBesideHosts: true });
  expect(taken(budget)).toBe(UNIT_COPIES_BESIDE_HOST_MAX - 3);
  budget.give();
  expect(taken(budget)).toBe(1);
  // More than hosts leave room for: nothing begins until enough has ended.
  budget.counted(UNIT_COPIES_MAX, { isBesideHosts: true });
  budget.give();
  expect(taken(budget)).toBe(0);
});

test("in a hurry → as if there were no hosts", () => {
  const budget = new CopyBudget();
  budget.isHurried = true;
  budget.counted(0, { isBesideHosts: true });
  expect(taken(budget)).toBe(UNIT_COPIES_MAX);
  expect(budget.sliceMost(5)).toBe(4);
});

test("a copy whose end nobody told → counted anew, not missed for ever", () => {
  const budget = new CopyBudget();
  budget.counted(0, { isBesideHosts: true });
  taken(budget);
  budget.counted(0, { isBesideHosts: true });
  expect(taken(budget)).toBe(UNIT_COPIES_BESIDE_HOST_MAX);
});
