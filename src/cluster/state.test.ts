// SPDX-License-Identifier: Apache-2.0
//
// Keys and schemas of the control state.

import { expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import type { SliceRecord } from "#base/record.ts";
import { UnitSchema, firstState, keys, parseEntry, parseSlice, parseValue } from "./state.ts";

const slice: SliceRecord = {
  slice: 7,
  volume: 2,
  index: 0,
  sizeBytes: 64 << 20,
  copies: 2,
  lineage: 1,
  ancestry: [],
  epoch: 3,
  head: 1,
  inSync: [{ disk: 1, incarnation: 4 }],
  resyncing: [],
};

test("the first state parses as what it is", () => {
  const uuid = "0123456789abcdef0123456789abcdef";
  const entries = firstState({ uuid, name: "rack", featureLevel: 1 });
  const kinds = entries.map(({ key, value }) => parseEntry(key, value)?.kind);
  expect(kinds).toEqual(["cluster", "numbers", "pool", "settings"]);
});

test("claimed from the start → the owner's hash is in the first state, still virgin", () => {
  const uuid = "0123456789abcdef0123456789abcdef";
  const adminTokenHash = "ab".repeat(32);
  const entries = firstState({ uuid, name: "rack", featureLevel: 1, adminTokenHash, wallMs: 7.5 });
  const parsed = entries.map(({ key, value }) => parseEntry(key, value));
  expect(parsed.at(-1)).toEqual({
    kind: "administrator",
    name: "owner",
    value: { name: "owner", tokenHash: adminTokenHash, createdAtMs: 7 },
  });
  expect(parsed[0]?.value).toMatchObject({ state: "virgin" });
  const wrong = { uuid, name: "rack", featureLevel: 1, adminTokenHash: "AB".repeat(32) };
  expect(() => firstState(wrong)).toThrow(Fault);
});

test("a wrong first state is refused", () => {
  expect(() => firstState({ uuid: "x", name: "rack", featureLevel: 1 })).toThrow(Fault);
  const uuid = "0".repeat(32);
  expect(() => firstState({ uuid, name: "rack", featureLevel: 1, sliceBytes: 5 })).toThrow(Fault);
});

test("fields this version does not know survive reading", () => {
  const text = JSON.stringify({ ...slice, former: [], kept: [], later: { x: 1 } });
  expect(JSON.parse(JSON.stringify(parseSlice(keys.slice(7), text)))).toEqual(JSON.parse(text));
});

test("values that are not what their key says → Fault corrupt that names the key", () => {
  const bad = [
    "{",
    "null",
    "[]",
    JSON.stringify({ ...slice, epoch: 0 }),
    JSON.stringify({ ...slice, epoch: 1.5 }),
    JSON.stringify({ ...slice, inSync: [] }),
    JSON.stringify({ ...slice, head: 9 }),
    JSON.stringify({ ...slice, sizeBytes: 100 }),
    JSON.stringify({ ...slice, resyncing: [1, 2, 3, 4, 5, 6, 7] }),
  ];
  for (const text of bad) {
    try {
      parseSlice(keys.slice(7), text);
      throw new Error(`accepted ${text}`);
    } catch (error) {
      expect(error).toBeInstanceOf(Fault);
      expect((error as Fault).code).toBe("corrupt");
      expect((error as Fault).message).toContain("/slices/7");
    }
  }
});

test("keys: numbers and kinds", () => {
  expect(parseEntry("/slices/7", JSON.stringify(slice))).toMatchObject({
    kind: "slice",
    number: 7,
  });
  expect(parseEntry("/unknown/1", "x")).toBeNull();
  expect(parseEntry("/volume-names/a", "1")).toBeNull();
  expect(() => parseEntry("/slices/x", JSON.stringify(slice))).toThrow(Fault);
  expect(() => parseEntry("/slices/-1", JSON.stringify(slice))).toThrow(Fault);
  expect(keys.event(12) < keys.event(112)).toBe(true);
});

test("names with anything odd are refused", () => {
  const unit = {
    number: 1,
    id: "0".repeat(32),
    publicKey: "0".repeat(64),
    name: "box",
    addresses: [],
    ula: "fd00::1",
    ports: {},
    role: "member",
    pool: null,
    state: "admitted",
    featureLevel: 1,
    version: "0",
    admittedAtMs: 0,
  };
  expect(parseValue(UnitSchema, "/units/1", JSON.stringify(unit)).name).toBe("box");
  for (const name of ["", "a/b", "a b", "-a", "x".repeat(64), "ä"]) {
    expect(() => parseValue(UnitSchema, "/units/1", JSON.stringify({ ...unit, name }))).toThrow();
  }
});
