// SPDX-License-Identifier: Apache-2.0
//
// Names of requests (H7): applied, new, or forgotten; never "new" for what was applied.

import { expect, test } from "bun:test";
import { FLAG_RESENT } from "#base/operation.ts";
import { ExtentSet } from "./extent-set.ts";
import { Origins } from "./origins.ts";

const START = 2 ** 45;
const PART = 8192;

test("a resent part that was applied → applied; another part of it → new", () => {
  const origins = new Origins(true);
  origins.applied(START, 0, PART, 1);
  expect(origins.judge(START, FLAG_RESENT, 0, 2)).toBe("applied");
  expect(origins.judge(START, FLAG_RESENT, 4096, 2)).toBe("new");
  expect(origins.judge(START + 1, FLAG_RESENT, 0, 2)).toBe("new");
  expect(origins.judge(0, FLAG_RESENT, 0, 2)).toBe("new");
});

test("so many since that it was forgotten → never new", () => {
  const origins = new Origins(true);
  for (let index = 0; index < 10_000; index++) origins.applied(START + index, 0, PART, 1);
  expect(origins.judge(START + 9999, FLAG_RESENT, 0, 2)).toBe("applied");
  expect(origins.judge(START + 10, FLAG_RESENT, 0, 2)).toBe("forgotten");
  expect(origins.judge(START + 10_001, FLAG_RESENT, 0, 2)).toBe("new");
});

test("let in by resync → what its head had heard before counts as forgotten", () => {
  const head = new Origins(true);
  head.applied(START + 5, 0, PART, 1);
  const target = new Origins(false);
  target.letIn(head.marks());
  expect(target.judge(START + 4, FLAG_RESENT, 0, 2)).toBe("forgotten");
  expect(target.judge(START + 6, FLAG_RESENT, 0, 2)).toBe("new");
});

test("restarted → whatever is resent at first is forgotten, later names are not", () => {
  const origins = new Origins(false);
  expect(origins.judge(START + 3, FLAG_RESENT, 0, 1000)).toBe("forgotten");
  origins.applied(START + 9, 0, PART, 1001);
  expect(origins.judge(START + 7, FLAG_RESENT, 0, 60_000)).toBe("forgotten");
  expect(origins.judge(START + 20, FLAG_RESENT, 0, 60_000)).toBe("new");
});

test("a head's copy over it → no longer applied and not new, until applied again (H7)", () => {
  const origins = new Origins(true);
  const [undone, elsewhere] = [START, START + 1];
  origins.applied(undone, 8192, PART, 1);
  origins.applied(undone, 1 << 20, PART, 1);
  origins.applied(elsewhere, 2 << 20, PART, 1);
  origins.copied(0, 1 << 20);
  expect(origins.judge(undone, FLAG_RESENT, 8192, 2)).toBe("forgotten");
  expect(origins.judge(undone, FLAG_RESENT, 1 << 20, 2)).toBe("applied");
  expect(origins.judge(elsewhere, FLAG_RESENT, 2 << 20, 2)).toBe("applied");
  // A copy of a part's last block alone; the next extent's part is another.
  origins.applied(elsewhere, 5 << 20, PART, 1);
  origins.copied((5 << 20) + 4096, 4096);
  expect(origins.judge(elsewhere, FLAG_RESENT, 5 << 20, 2)).toBe("forgotten");
  origins.copied((3 << 20) - 4096, 4096);
  expect(origins.judge(undone, FLAG_RESENT, 1 << 20, 2)).toBe("applied");
  origins.applied(undone, 8192, PART, 3);
  expect(origins.judge(undone, FLAG_RESENT, 8192, 4)).toBe("applied");
});

test("a copy into a part of many extents, a trim's, wherever it falls → all of it doubtful", () => {
  const [offset, length] = [64 << 20, 64 << 20];
  for (const [at, undoes] of [
    [offset, true],
    [offset + 40 * (1 << 20), true],
    [offset + length - 4096, true],
    [offset + length, false],
    [offset - 4096, false],
  ] as const) {
    const origins = new Origins(true);
    origins.applied(START, offset, length, 1);
    origins.copied(at, 4096);
    expect(origins.judge(START, FLAG_RESENT, offset, 2)).toBe(undoes ? "forgotten" : "applied");
  }
});

test("extent set: members in order, counted, next after the last is none", () => {
  const set = new ExtentSet(100);
  for (const extent of [0, 31, 32, 63, 99]) expect(set.add(extent)).toBe(true);
  expect(set.add(32)).toBe(false);
  const seen: number[] = [];
  for (let at = set.next(0); at >= 0; at = set.next(at + 1)) seen.push(at);
  expect(seen).toEqual([0, 31, 32, 63, 99]);
  expect(set.hasAnyIn(33, 63)).toBe(false);
  expect(set.hasAnyIn(33, 64)).toBe(true);
  expect(set.delete(99)).toBe(true);
  expect(set.next(64)).toBe(-1);
  expect(set.count).toBe(4);
});
