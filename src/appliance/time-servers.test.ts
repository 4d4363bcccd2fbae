// SPDX-License-Identifier: Apache-2.0
//
// Time servers on a box: when they are handed on to it, and that a failure is tried again.

import { expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { startTimeServers } from "./time-servers.ts";

function made(isAppliance = true) {
  const asked: (readonly string[])[] = [];
  const steps: (() => void)[] = [];
  const state = { wanted: undefined as string | null | undefined, fails: false };
  const stop = startTimeServers({
    log: { write: () => undefined },
    timers: {
      after: (_, act) => {
        steps.push(act);
        return () => steps.splice(steps.indexOf(act), 1);
      },
    },
    box: {
      isAppliance,
      setTimeServers: async (servers) => {
        if (state.fails) throw new Fault("programFailed", "systemctl");
        asked.push(servers);
      },
    },
    wanted: () => state.wanted,
  });
  const look = async () => {
    steps.shift()?.();
    for (let turn = 0; turn < 4; turn++) await Promise.resolve();
  };
  return { asked, steps, state, stop, look };
}

test("named → asked, once; taken away → nobody; not known → as before", async () => {
  const { asked, state, look } = made();
  await look();
  expect(asked).toEqual([]);
  state.wanted = "10.0.0.1, ntp.example.org";
  await look();
  await look();
  expect(asked).toEqual([["10.0.0.1", "ntp.example.org"]]);
  state.wanted = undefined;
  await look();
  state.wanted = null;
  await look();
  expect(asked).toEqual([["10.0.0.1", "ntp.example.org"], []]);
});

test("it fails → tried again, until it is done", async () => {
  const { asked, state, look } = made();
  Object.assign(state, { wanted: "10.0.0.1", fails: true });
  await look();
  expect(asked).toEqual([]);
  state.fails = false;
  await look();
  expect(asked).toEqual([["10.0.0.1"]]);
});

test("no appliance, or stopped → nothing is ever looked at", async () => {
  const other = made(false);
  other.state.wanted = "10.0.0.1";
  await other.look();
  expect([other.asked, other.steps]).toEqual([[], []]);
  const { steps, stop } = made();
  await Promise.resolve();
  stop();
  expect(steps).toEqual([]);
});
