// SPDX-License-Identifier: Apache-2.0
//
// Two units of one cluster meet: the one in the lower generation comes along, the other admits it;
// whoever is not what he proved is told nothing.

import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { FIRST_GENERATION } from "#cluster/generation.ts";
import type { Generation } from "#cluster/generation.ts";
import { pipePair } from "#cluster/message-pipe.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import { ClusterState } from "#protocol/peer-channel/identity.ts";
import type { PeerIdentity } from "#protocol/peer-channel/identity.ts";
import type { UnitFacts } from "./assembly.ts";
import { ClusterView } from "#cluster/view.ts";
import { GenerationWatch, otherUnits, stationPlaces } from "./generation-watch.ts";
import type { VoterPlace } from "./membership.ts";
import type { Coming, GenerationParts } from "./generation-watch.ts";

const SECOND: Generation = { number: 2, id: "a0".repeat(16) };
const VOTERS = [{ unit: 1, unitId: "1".repeat(32), addresses: ["fd00::1"], port: 10811 }];

function factsOf(digit: string): UnitFacts {
  return {
    id: digit.repeat(32),
    publicKey: digit.repeat(64),
    name: `box${digit}`,
    addresses: [],
    ula: `fd00::${digit}`,
    ports: { control: 10811 },
    featureLevel: 1,
    version: "0.1.0",
    role: "member",
  };
}

function peerOf(facts: UnitFacts): PeerIdentity {
  return {
    unitId: Uint8Array.fromHex(facts.id),
    publicKey: Uint8Array.fromHex(facts.publicKey),
    clusterId: new Uint8Array(16).fill(1),
    clusterState: ClusterState.used,
    unitNumber: 7,
    featureLevel: 1,
    purpose: Purpose.generation,
  };
}

class Box {
  readonly came: Coming[] = [];
  readonly admitted: UnitFacts[] = [];
  readonly watch: GenerationWatch;

  constructor(facts: UnitFacts, generation: Generation, parts: Partial<GenerationParts> = {}) {
    const timers = { after: () => () => {} };
    this.watch = new GenerationWatch({ log: { write: () => {} } }, timers, {
      generation,
      facts: () => facts,
      storeAway: () => false,
      leads: () => true,
      others: () => [],
      call: () => Promise.reject(new Fault("notReady", "nobody is called")),
      admit: async (unit) => {
        this.admitted.push(unit);
        return 9;
      },
      voters: () => VOTERS,
      clusterName: () => "attic",
      come: (coming) => void this.came.push(coming),
      ...parts,
    });
  }
}

/** Both ends of one link; each proved what `proves` says. */
async function meet(one: Box, other: Box, proves: { one: UnitFacts; other: UnitFacts }) {
  const [near, far] = pipePair();
  one.watch.meet(near, peerOf(proves.other));
  other.watch.meet(far, peerOf(proves.one));
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
}

const a = factsOf("a");
const b = factsOf("b");

describe("two units meet", () => {
  for (const first of ["the lower one", "the higher one"] as const) {
    test(`${first} called → the lower one comes along, with what it is told`, async () => {
      const low = new Box(a, FIRST_GENERATION);
      const high = new Box(b, SECOND);
      if (first === "the lower one") await meet(low, high, { one: a, other: b });
      else await meet(high, low, { one: b, other: a });
      expect(low.came).toEqual([
        { generation: SECOND, unit: 9, clusterName: "attic", voters: VOTERS },
      ]);
      expect([high.came, high.admitted]).toEqual([[], [a]]);
    });
  }

  test("in one generation → neither moves; of one number → the higher id wins", async () => {
    const one = new Box(a, SECOND);
    const same = new Box(b, SECOND);
    await meet(one, same, { one: a, other: b });
    expect([one.came, same.came]).toEqual([[], []]);
    const other = new Box(b, { number: 2, id: "b0".repeat(16) });
    await meet(one, other, { one: a, other: b });
    expect([one.came.length, other.came.length]).toEqual([1, 0]);
  });

  test("not the unit that it proved to be → it is not admitted", async () => {
    const low = new Box(a, FIRST_GENERATION);
    const high = new Box(b, SECOND);
    await meet(low, high, { one: factsOf("c"), other: b });
    expect([low.came, high.admitted]).toEqual([[], []]);
  });

  test("refused by the cluster → it stays where it is", async () => {
    const low = new Box(a, FIRST_GENERATION);
    const high = new Box(b, SECOND, {
      admit: () => Promise.reject(new Fault("removed", "by its owner")),
    });
    await meet(low, high, { one: a, other: b });
    expect(low.came).toEqual([]);
  });

  test("told twice → it comes along once", async () => {
    const low = new Box(a, FIRST_GENERATION);
    const high = new Box(b, SECOND);
    await meet(low, high, { one: a, other: b });
    await meet(low, high, { one: a, other: b });
    expect(low.came.length).toBe(1);
  });
});

describe("who is called", () => {
  test("a control station that nobody here knows is; nobody twice, nor itself", () => {
    const station = {
      ...{ clusterId: "c".repeat(32), clusterName: "attic", clusterState: "used" as const },
      ...{ featureLevel: 1, stationUnitId: "9".repeat(32), publicKey: new Uint8Array(32), term: 1 },
      ...{ addresses: ["10.0.0.9"], channelPort: 10811 },
    };
    const view = new ClusterView();
    const called = (ownId: string, saved: VoterPlace[]) =>
      otherUnits(view, [...saved, ...stationPlaces(station)], ownId).map(
        ({ place }) => place.unitId,
      );
    const [voter] = VOTERS;
    if (voter === undefined) throw new Error("no voter");
    expect(called("a".repeat(32), VOTERS)).toEqual([voter.unitId, station.stationUnitId]);
    expect(called(station.stationUnitId, VOTERS)).toEqual([voter.unitId]);
    expect(stationPlaces(null)).toEqual([]);
  });
});
