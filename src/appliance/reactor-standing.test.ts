// SPDX-License-Identifier: Apache-2.0
//
// What a reactor that starts later is told of all that was said before.

import { expect, test } from "bun:test";
import type { SliceRecord } from "#base/record.ts";
import type { ExportedVolume, KnownHost, ToReactor } from "./reactor-messages.ts";
import { ReactorStanding } from "./reactor-standing.ts";

function record(slice: number, epoch = 1): SliceRecord {
  return { slice, epoch } as SliceRecord;
}
function volume(number: number, name: string): ToReactor {
  return { kind: "volume", volume: { volume: number, name } as ExportedVolume };
}
function host(number: number): ToReactor {
  return { kind: "host", host: { host: number, addresses: [] } as unknown as KnownHost };
}

function standing(...said: ToReactor[]): ToReactor[] {
  const stands = new ReactorStanding();
  for (const message of said) expect(stands.note(message)).toBe(true);
  return [...stands.messages()];
}

test("of each thing the last; what is gone is not told", () => {
  const pace = { everyMs: 1, bytesPerSecondMax: 2 };
  const told = standing(
    { kind: "scrubPace", pace },
    { kind: "hurry", isHurried: true },
    volume(1, "before"),
    volume(2, "gone"),
    host(4),
    host(5),
    { kind: "hurry", isHurried: false },
    { kind: "records", records: [record(1), record(2)] },
    { kind: "records", records: [record(1, 2)] },
    { kind: "sliceGone", slice: 2 },
    { kind: "places", places: [{ disk: 1, unit: 1 }] },
    { kind: "places", places: [{ disk: 1, unit: 2 }] },
    volume(1, "after"),
    { kind: "volumeGone", volume: 2 },
    { kind: "hostGone", host: 5 },
  );
  expect(told).toEqual([
    { kind: "scrubPace", pace },
    { kind: "hurry", isHurried: false },
    { kind: "places", places: [{ disk: 1, unit: 2 }] },
    { kind: "records", records: [record(1, 2)] },
    host(4),
    volume(1, "after"),
  ]);
});

test("thousands of records → few messages", () => {
  const records = Array.from({ length: 5000 }, (_, index) => record(index + 1));
  const told = standing(...records.map((one): ToReactor => ({ kind: "records", records: [one] })));
  expect(told.length).toBeLessThan(50);
  const all = told.flatMap((message) => (message.kind === "records" ? message.records : []));
  expect(all).toEqual(records);
});

test("what is of the moment, or for one disk → does not stand", () => {
  const stands = new ReactorStanding();
  expect(stands.note({ kind: "scrub", disk: 1, urgent: false })).toBe(false);
  expect(stands.note({ kind: "silence", slice: 1, forMs: 1 })).toBe(false);
  expect(stands.note({ kind: "stop" })).toBe(false);
  expect([...stands.messages()]).toEqual([]);
});
