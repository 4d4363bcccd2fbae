// SPDX-License-Identifier: Apache-2.0
//
// Volumes deleted at once and with a grace: what is kept meanwhile, what is refused, and that it
// ends by itself.

import { drainMicrotasks } from "bun:jsc";
import { expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { StationFixture } from "./station-fixture.ts";

const HOUR_MS = 3600 * 1000;

function rack(): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found({ reprotectAfterMs: 24 * HOUR_MS });
  made.addDisk(1, 10);
  made.addDisk(made.admit(), 10);
  made.createVolume("v", 2, "mirror-2");
  made.ask("addHost", { name: "db1", addresses: ["10.0.0.1"] });
  made.ask("assignVolume", { volume: 1, host: 1 });
  return made;
}

test("with a grace → nobody may attach, all is kept; taken back → as before", () => {
  const made = rack();
  made.ask("deleteVolume", { volume: 1, graceMs: HOUR_MS });
  const volume = () => made.view().volumes.get(1);
  expect(volume()).toMatchObject({ state: "ready", hosts: [], trash: { hosts: [1] } });
  expect(made.view().slices.size).toBe(2);
  const untilMs = volume()?.trash?.untilMs;
  made.time.pass(60_000);
  made.ask("deleteVolume", { volume: 1, graceMs: 10 * HOUR_MS });
  expect(volume()?.trash?.untilMs).toBe(untilMs as number);
  expect(() => made.ask("assignVolume", { volume: 1, host: 1 })).toThrow("take it back first");
  expect(() => made.createVolume("v", 1, "mirror-2")).toThrow("a volume named v exists");
  made.ask("restoreVolume", { volume: 1 });
  expect(volume()).toMatchObject({ state: "ready", hosts: [1] });
  expect(volume()?.trash).toBeUndefined();
  expect(() => made.ask("restoreVolume", { volume: 1 })).toThrow("is not deleted");
});

test("not taken back → gone by itself, with its slices and its name", () => {
  const made = rack();
  made.ask("deleteVolume", { volume: 1, graceMs: 5 * 60_000 });
  made.time.pass(4 * 60_000);
  expect(made.view().volumes.has(1)).toBe(true);
  made.until("it is gone", () => made.view().volumes.size === 0, 120_000);
  expect(made.view().slices.size).toBe(0);
  expect(() => made.ask("restoreVolume", { volume: 1 })).toThrow(Fault);
  made.createVolume("v", 1, "mirror-2");
});

test("at once, also while it is kept; hosts that are gone do not come back with it", () => {
  const made = rack();
  made.ask("deleteVolume", { volume: 1, graceMs: HOUR_MS });
  made.ask("removeHost", { host: 1 });
  made.ask("restoreVolume", { volume: 1 });
  expect(made.view().volumes.get(1)?.hosts).toEqual([]);
  made.ask("deleteVolume", { volume: 1, graceMs: HOUR_MS });
  made.ask("deleteVolume", { volume: 1 });
  made.until("it is gone", () => made.view().volumes.size === 0);
  expect(() => made.ask("deleteVolume", { volume: 9, graceMs: 1 })).toThrow("no volume 9");
});
