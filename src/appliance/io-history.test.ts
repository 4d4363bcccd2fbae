// SPDX-License-Identifier: Apache-2.0
//
// Counts over an hour: put into steps, forgotten when they are old, bounded, put together of
// several units; and what a portal's meter counts.

import { describe, expect, test } from "bun:test";
import { RequestMeter, noCounts } from "#base/request-meter.ts";
import { Status } from "#base/status.ts";
import { IoHistory, STEPS, STEP_MS, VOLUMES_KEPT_MAX, joinCharts } from "./io-history.ts";

const one = (volume: number, reads = 1) => ({ ...noCounts(), volume, reads, readBytes: 4096 });
const at = (nowMs: number) => ({ nowMs, wallMs: 1_000_000_000 + nowMs });
const HOUR_MS = STEPS * STEP_MS;

describe("history", () => {
  test("counts of one step add up; the newest step is the last", () => {
    const history = new IoHistory();
    history.take([one(1), one(2)], 5 * STEP_MS + 1);
    history.take([one(1, 4)], 5 * STEP_MS + 9);
    const chart = history.chart(1, at(6 * STEP_MS + 2));
    expect(chart.steps).toHaveLength(STEPS);
    expect(chart.steps.at(-1)).toBeNull();
    expect(chart.steps.at(-2)).toMatchObject({ reads: 5, readBytes: 8192 });
    expect(chart.endsAtMs).toBe(1_000_000_000 + 7 * STEP_MS);
    expect(history.chart(3, at(6 * STEP_MS)).steps.every((step) => step === null)).toBe(true);
  });

  test("an hour later nothing of it is left, but the totals", () => {
    const history = new IoHistory();
    history.take([one(1)], STEP_MS);
    expect(history.chart(1, at(HOUR_MS)).steps[0]).toMatchObject({ reads: 1 });
    expect(history.chart(1, at(HOUR_MS + STEP_MS)).steps.some((step) => step !== null)).toBe(false);
    history.take([one(1, 7)], 3 * HOUR_MS + STEP_MS);
    const { steps } = history.chart(1, at(3 * HOUR_MS + STEP_MS));
    expect(steps.filter((step) => step !== null)).toHaveLength(1);
    expect(history.totals(1)).toMatchObject({ reads: 8 });
  });

  test("after a quiet time the steps between are empty, not those of an hour before", () => {
    const history = new IoHistory();
    for (let step = 0; step < STEPS; step++) history.take([one(1)], step * STEP_MS);
    history.take([one(1)], (STEPS + 100) * STEP_MS);
    const { steps } = history.chart(1, at((STEPS + 100) * STEP_MS));
    expect(steps.filter((step) => step === null)).toHaveLength(100);
    expect(steps.at(-2)).toBeNull();
    expect(steps[0]).toMatchObject({ reads: 1 });
  });

  test("more volumes than are kept → the one quiet longest is forgotten", () => {
    const history = new IoHistory();
    for (let volume = 1; volume <= VOLUMES_KEPT_MAX; volume++) history.take([one(volume)], 0);
    history.take([one(1)], STEP_MS);
    history.take([one(9999)], STEP_MS);
    expect(history.totals(1)).not.toBeNull();
    expect(history.totals(2)).toBeNull();
    expect(history.totals(9999)).not.toBeNull();
  });

  test("the last steps of all volumes, without the one that is not over", () => {
    const history = new IoHistory();
    history.take([one(1), one(2)], 9 * STEP_MS);
    history.take([one(1)], 10 * STEP_MS);
    expect(history.lastSteps(6, 10 * STEP_MS + 5).reads).toBe(2);
    expect(history.lastSteps(6, 16 * STEP_MS).reads).toBe(1);
    expect(history.lastSteps(6, 17 * STEP_MS).reads).toBe(0);
  });
});

describe("charts of several units", () => {
  test("are put together by the wall clock; what is older than the hour falls out", () => {
    const early = new IoHistory();
    const late = new IoHistory();
    early.take([one(1, 10)], 5 * STEP_MS);
    late.take([one(1, 3)], 7 * STEP_MS);
    const joined = joinCharts([early.chart(1, at(5 * STEP_MS)), late.chart(1, at(7 * STEP_MS))]);
    expect(joined?.steps.at(-1)).toMatchObject({ reads: 3 });
    expect(joined?.steps.at(-3)).toMatchObject({ reads: 10 });
    expect(joined?.steps).toHaveLength(STEPS);
    expect(joinCharts([])).toBeNull();
  });
});

describe("meter", () => {
  test("counts by kind, with the time of each; the longest of them; then begins anew", () => {
    let turnMs = 100;
    const meter = new RequestMeter(() => turnMs);
    expect(meter.take()).toBeNull();
    const startedMs = meter.turnMs();
    turnMs = 104;
    meter.ended("read", { length: 4096, startedMs, status: Status.ok });
    meter.ended("write", { length: 512, startedMs: 103, status: Status.ok });
    turnMs = 110;
    meter.ended("other", { length: 0, startedMs, status: Status.ok });
    meter.ended("write", { length: 512, startedMs: 109, status: Status.ioError });
    expect(meter.take()).toEqual({
      reads: 1,
      writes: 2,
      others: 1,
      errors: 1,
      readBytes: 4096,
      writeBytes: 512,
      readMs: 4,
      writeMs: 2,
      longestMs: 10,
    });
    expect(meter.take()).toBeNull();
  });
});
