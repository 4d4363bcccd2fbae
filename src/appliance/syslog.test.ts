// SPDX-License-Identifier: Apache-2.0
//
// Remote syslog: how a line looks, who sends which, and where to; nonsense as its place is
// refused.

import { expect, test } from "bun:test";
import type { EventRecord } from "#cluster/state.ts";
import { parseSyslogTarget } from "#cluster/syslog-target.ts";
import { SyslogOut, syslogLine } from "./syslog.ts";

const AT_MS = Date.UTC(2026, 2, 1, 12, 34, 56, 789);
const TARGET = { address: "10.0.0.5", port: 514 };

const event = (number: number): EventRecord => ({
  number,
  atMs: AT_MS,
  kind: "unit-lost",
  severity: "alarm",
  sentence: `event ${number}`,
  unit: null,
  volume: null,
});

function bench() {
  const sent: string[] = [];
  const state = { leads: false, target: TARGET as typeof TARGET | null, newest: 7 };
  let due: () => void = () => {};
  const out = new SyslogOut({
    timers: {
      after: (_delayMs, act) => {
        due = act;
        return () => {
          due = () => {};
        };
      },
    },
    wallMs: () => AT_MS,
    target: () => state.target,
    host: () => "box 1",
    leads: () => state.leads,
    newest: () => state.newest,
    events: (since) =>
      Array.from({ length: state.newest - since }, (_, at) => event(since + at + 1)),
    send: (line) => void sent.push(line),
  });
  return { sent, state, out, look: () => due() };
}

test("a line as RFC 5424 has it; control characters and length bounded", () => {
  const message = { severity: "alarm", atMs: AT_MS, host: "bÖx 1", id: "unit-lost" } as const;
  expect(syslogLine({ ...message, text: "gone" })).toBe(
    "<130>1 2026-03-01T12:34:56.789Z b-x-1 cairn - unit-lost - gone",
  );
  expect(syslogLine({ ...message, text: "a\nb\u001b[2J" })).toEndWith(" - a b [2J");
  expect(syslogLine({ ...message, text: "x".repeat(5000) })).toHaveLength(1200);
});

test("events: the control station's alone, from where it began to lead", () => {
  const { sent, state, look } = bench();
  state.newest = 9;
  look();
  expect(sent).toEqual([]);
  state.leads = true;
  state.newest = 11;
  look();
  look();
  expect(sent.map((line) => line.split(" - ").at(-1))).toEqual(["event 10", "event 11"]);
});

test("no place → nothing; set later → what comes from then on", () => {
  const { sent, state, out, look } = bench();
  [state.leads, state.target] = [true, null];
  state.newest = 20;
  look();
  out.log("error", "broken");
  state.target = TARGET;
  state.newest = 21;
  look();
  expect(sent).toHaveLength(1);
  expect(sent[0]).toEndWith("event 21");
});

test("its own log, but for what is for debugging; nothing once it is stopped", () => {
  const { sent, out } = bench();
  out.log("debug", "detail");
  out.log("warn", "a link is down", { unit: 2 });
  expect(sent).toEqual([
    '<132>1 2026-03-01T12:34:56.789Z box-1 cairn - log - a link is down {"unit":2}',
  ]);
  out.stop();
  out.log("error", "late");
  expect(sent).toHaveLength(1);
});

test("where to: addresses alone, with a port or without", () => {
  expect(parseSyslogTarget("10.0.0.5")).toEqual(TARGET);
  expect(parseSyslogTarget("10.0.0.5:6514")).toEqual({ address: "10.0.0.5", port: 6514 });
  expect(parseSyslogTarget("[fd00::5]:514")).toEqual({ address: "fd00::5", port: 514 });
  expect(parseSyslogTarget("fd00::5")).toEqual({ address: "fd00::5", port: 514 });
  for (const wrong of ["", "loghost", "10.0.0.5:0", "10.0.0.5:99999", "10.0.0.0/8", "[10]:5:5"]) {
    expect([wrong, parseSyslogTarget(wrong)]).toEqual([wrong, null]);
  }
});
