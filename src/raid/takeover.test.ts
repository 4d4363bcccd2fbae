// SPDX-License-Identifier: Apache-2.0
//
// The decision to take over (R3, R4), case by case.

import { describe, expect, test } from "bun:test";
import type { SliceRecord } from "#base/record.ts";
import { decide } from "./takeover.ts";
import type { Answer, Situation } from "./takeover.ts";

const record: SliceRecord = {
  slice: 1,
  volume: 1,
  index: 0,
  sizeBytes: 4 << 20,
  copies: 3,
  lineage: 1,
  ancestry: [],
  epoch: 5,
  head: 1,
  inSync: [
    { disk: 1, incarnation: 10 },
    { disk: 2, incarnation: 20 },
    { disk: 3, incarnation: 30 },
  ],
  resyncing: [9],
};

const said = (incarnation: number, bootIncarnation = incarnation): Answer => ({
  incarnation,
  bootIncarnation,
});

/** Disk 2, intact and attached, at 10 s; heard and granted last at 7 s. */
function situation(change: Partial<Situation>): Situation {
  return {
    nowMs: 10_000,
    record,
    disk: 2,
    incarnation: 20,
    isIdle: false,
    lastHeardMs: 7000,
    lastGrantMs: 7000,
    startedMs: 0,
    isAttached: true,
    isReleased: false,
    answers: new Map(),
    bootIncarnation: 20,
    jitter: 0,
    ...change,
  };
}

function proposed(change: Partial<Situation>): SliceRecord | null {
  const decision = decide(situation(change));
  return decision.act === "propose" ? decision.next : null;
}

describe("intact", () => {
  test("head silent, grants run out → takes over without the old head, targets kept", () => {
    const next = proposed({});
    expect(next?.head).toBe(2);
    expect(next?.epoch).toBe(6);
    expect(next?.inSync).toEqual([
      { disk: 2, incarnation: 20 },
      { disk: 3, incarnation: 30 },
    ]);
    expect(next?.resyncing).toEqual([9]);
  });

  test("head heard just now → nothing", () => {
    expect(decide(situation({ lastHeardMs: 9500 })).act).toBe("none");
  });

  test("head silent, but a grant of ours still holds → waits (R4)", () => {
    expect(decide(situation({ lastHeardMs: 8500, lastGrantMs: 8500 })).act).toBe("enquire");
    expect(proposed({ lastHeardMs: 7900, lastGrantMs: 7998 })).not.toBe(null);
    expect(proposed({ lastHeardMs: 7900, lastGrantMs: 8001 })).toBe(null);
  });

  test("released by the head, or the head restarted → does not wait", () => {
    const recent = { lastHeardMs: 9900, lastGrantMs: 9900 };
    expect(proposed({ ...recent, isReleased: true })?.head).toBe(2);
    expect(proposed({ ...recent, answers: new Map([[1, said(11)]]) })?.head).toBe(2);
    expect(proposed({ ...recent, answers: new Map([[1, said(10)]]) })).toBe(null);
  });

  test("another member is known to have restarted → left out", () => {
    const next = proposed({ answers: new Map([[3, said(31)]]) });
    expect(next?.inSync).toEqual([{ disk: 2, incarnation: 20 }]);
  });

  test("second in order → lets the first go first", () => {
    const third = { disk: 3, incarnation: 30, bootIncarnation: 30 };
    const just = { lastHeardMs: 7900, lastGrantMs: 7950 };
    expect(proposed(just)?.head).toBe(2);
    expect(proposed({ ...just, ...third })).toBe(null);
    expect(proposed({ ...just, ...third, nowMs: 10_200 })?.head).toBe(3);
  });
});

describe("restarted", () => {
  const restarted = { incarnation: 21, bootIncarnation: 21, startedMs: 5000 };

  test("with active regions, others missing → waits for them by name (R3)", () => {
    const decision = decide(situation({ ...restarted, answers: new Map([[1, said(11)]]) }));
    expect(decision).toEqual({ act: "enquire", waitsFor: "disk 3 to answer" });
  });

  test("with active regions, another kept its memory → leaves it to that one", () => {
    const answers = new Map([
      [1, said(11)],
      [3, said(30)],
    ]);
    expect(decide(situation({ ...restarted, answers })).act).toBe("enquire");
  });

  test("without active regions → takes over once nobody can be serving", () => {
    const idle = { ...restarted, isIdle: true, lastGrantMs: 5000, lastHeardMs: 5000 };
    expect(proposed({ ...idle, nowMs: 6900 })).toBe(null);
    expect(proposed(idle)?.inSync).toEqual([
      { disk: 2, incarnation: 21 },
      { disk: 3, incarnation: 30 },
    ]);
  });

  test("all restarted → the first in order, with all of them", () => {
    const answers = new Map([
      [1, said(11)],
      [3, said(31)],
    ]);
    expect(proposed({ ...restarted, answers, nowMs: 5900 })).toBe(null);
    expect(proposed({ ...restarted, answers })?.inSync).toEqual([
      { disk: 1, incarnation: 11 },
      { disk: 2, incarnation: 21 },
      { disk: 3, incarnation: 31 },
    ]);
    const first = { disk: 1, incarnation: 11, bootIncarnation: 11, startedMs: 5000 };
    const others = new Map([
      [2, said(21)],
      [3, said(31)],
    ]);
    expect(proposed({ ...first, answers: others, nowMs: 5001 })?.head).toBe(1);
  });

  test("all restarted, one lost only its process → that one, whatever the order (H6)", () => {
    const answers = new Map([
      [1, said(11)],
      [3, said(33, 29)],
    ]);
    expect(proposed({ ...restarted, answers, nowMs: 60_000 })).toBe(null);
    const third = { disk: 3, incarnation: 33, bootIncarnation: 29, startedMs: 5000 };
    const others = new Map([
      [1, said(11)],
      [2, said(21)],
    ]);
    const next = proposed({ ...third, answers: others, nowMs: 5001 });
    expect(next?.head).toBe(3);
    // The others lack what was acked and not flushed: not in sync before a resync.
    expect(next?.inSync).toEqual([{ disk: 3, incarnation: 33 }]);
  });

  test("all restarted, two lost only their process → both, without the third (H6)", () => {
    const answers = new Map([
      [1, said(11)],
      [3, said(33, 29)],
    ]);
    const next = proposed({ ...restarted, bootIncarnation: 19, answers });
    expect([next?.head, next?.inSync]).toEqual([
      2,
      [
        { disk: 2, incarnation: 21 },
        { disk: 3, incarnation: 33 },
      ],
    ]);
  });

  test("the only member → at once; not in the set → never", () => {
    const alone = { ...record, head: 2, inSync: [{ disk: 2, incarnation: 20 }] };
    expect(proposed({ ...restarted, record: alone, nowMs: 5001 })?.inSync).toEqual([
      { disk: 2, incarnation: 21 },
    ]);
    expect(decide(situation({ disk: 9, incarnation: 1 })).act).toBe("none");
  });
});
