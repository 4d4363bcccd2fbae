// SPDX-License-Identifier: Apache-2.0
//
// A unit's addresses as they change: written once they stay, taken again where they were lost.

import { beforeEach, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import type { Transaction } from "#cluster/control-store.ts";
import { keys } from "#cluster/state.ts";
import { unitArguments } from "#cluster/station-fixture.ts";
import { ClusterView } from "#cluster/view.ts";
import { OwnPlace } from "./own-place.ts";
import type { Place } from "./own-place.ts";

let view: ClusterView;
let place: Place;
let hasAddress: boolean;
let taken: number;
let written: Transaction[];
let refusal: Fault | null;
let own: OwnPlace;
let nowMs: number;

const record = { ...unitArguments(1, "member"), number: 1, pool: "pool" };

beforeEach(() => {
  view = new ClusterView();
  put({});
  place = { addresses: record.addresses, ports: record.ports };
  [hasAddress, taken, written, refusal, nowMs] = [true, 0, [], null, 0];
  own = new OwnPlace(
    { write: () => {} },
    {
      unit: 1,
      view,
      store: {
        transaction: async (transaction: Transaction) => {
          if (refusal !== null) throw refusal;
          written.push(transaction);
          return { committed: true, revision: 9, current: [] };
        },
      },
      place: () => place,
      hasOwnAddress: () => hasAddress,
      takeOwnAddress: async () => {
        taken++;
        hasAddress = true;
      },
    },
  );
});

function put(more: object): void {
  const value = { ...record, state: "admitted", admittedAtMs: 0, ...more };
  const modRevision = view.revision + 1;
  const entry = { key: keys.unit(1), value: JSON.stringify(value), modRevision };
  view.apply([{ kind: "put", ...entry }], modRevision);
}

async function looks(count: number): Promise<void> {
  for (let time = 0; time < count; time++) {
    nowMs += 2000;
    own.look(nowMs);
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  }
}

test("nothing changed → nothing is written", async () => {
  await looks(5);
  expect([written, taken]).toEqual([[], 0]);
});

test("another address, and it stays → written once, the rest of the record kept", async () => {
  put({ evacuation: { thenRemove: false, sinceMs: 1, slices: 2 } });
  place = { ...place, addresses: ["10.9.9.9"] };
  await looks(1);
  expect(written).toEqual([]);
  await looks(1);
  expect(written[0]?.ifs).toEqual([{ key: keys.unit(1), modRevision: 2 }]);
  const next = JSON.parse(written[0]?.puts?.[0]?.value ?? "") as typeof record;
  expect(next).toMatchObject({ name: "box1", addresses: ["10.9.9.9"], evacuation: { slices: 2 } });
});

test("another port → written; one that flaps → not while it does", async () => {
  place = { ...place, ports: { ...record.ports, nbd: 10_900 } };
  await looks(2);
  expect(written).toHaveLength(1);
  written = [];
  for (let time = 0; time < 6; time++) {
    place = { ...place, addresses: [`10.0.1.${time % 2}`] };
    await looks(1);
  }
  expect(written).toEqual([]);
});

test("no address at all, or removed → nothing is written", async () => {
  place = { ...place, addresses: [] };
  await looks(3);
  put({ state: "removed" });
  place = { ...place, addresses: ["10.9.9.9"] };
  await looks(3);
  expect(written).toEqual([]);
});

test("its address among units was taken away → taken again", async () => {
  hasAddress = false;
  await looks(2);
  expect(taken).toBe(1);
});

test("the control store is away → tried again", async () => {
  place = { ...place, addresses: ["10.9.9.9"] };
  refusal = new Fault("controlStoreAway", "no majority");
  await looks(3);
  refusal = null;
  await looks(1);
  expect(written).toHaveLength(1);
});
