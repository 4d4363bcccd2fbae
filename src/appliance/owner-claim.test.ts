// SPDX-License-Identifier: Apache-2.0
//
// A unit's part in the claim: its code, and the owner that its boot medium names.

import { describe, expect, test } from "bun:test";
import { drainMicrotasks } from "bun:jsc";
import { StationFixture } from "#cluster/station-fixture.ts";
import { createRandom } from "#machine/random.ts";
import { claimCodeOf, claimForOwner } from "./owner-claim.ts";

const HASH = "ab".repeat(32);
const OTHER = "cd".repeat(32);

test("code: the medium's, else one that is made once and kept; none beside an owner", () => {
  const files = new Map<string, string>();
  const state = {
    readText: (name: string) => files.get(name) ?? null,
    write: (name: string, content: Uint8Array | string) => void files.set(name, String(content)),
  };
  const world = { random: createRandom() };
  const code = (claimCode: string | null, adminTokenHash: string | null = null) =>
    claimCodeOf(world, state, { claimCode, adminTokenHash });
  expect(code(null, HASH)).toBeNull();
  expect(code("2468-ACEG")).toBe("2468-ACEG");
  expect(files.size).toBe(0);
  const made = code(null);
  expect(made).toMatch(/^\w{5}-\w{5}$/);
  expect(code(null)).toBe(made);
  files.clear(); // the state was wiped
  expect(code(null)).not.toBe(made);
});

describe("the medium's owner", () => {
  const world = { log: { write: () => {} } };

  function start() {
    const made = new StationFixture(drainMicrotasks);
    made.found();
    const unit = made.any();
    const begin = (tokenHash: string) => {
      const { view } = unit.follower;
      claimForOwner(world, made.time, { view, commands: unit.commands, tokenHash });
    };
    const owner = () => made.view().administrators.get("owner")?.tokenHash ?? null;
    return { made, unit, begin, owner };
  }

  test("gets an unclaimed cluster, which stays virgin", () => {
    const { made, begin, owner } = start();
    begin(HASH);
    made.until("it is claimed", () => owner() === HASH);
    expect(made.view().cluster?.state).toBe("virgin");
    made.time.pass(30_000);
    const events = [...made.view().events.values()].filter((one) => one.kind === "cluster-claimed");
    expect(events).toHaveLength(1);
  });

  test("does not get one that is somebody's", () => {
    const { made, begin, owner } = start();
    made.ask("claimCluster", { tokenHash: OTHER, replaces: false, byMedium: false });
    begin(HASH);
    made.time.pass(30_000);
    expect(owner()).toBe(OTHER);
  });

  test("the control store is away → asked again until it has it", () => {
    const { made, unit, begin, owner } = start();
    unit.client.setConnected(false);
    begin(HASH);
    made.time.pass(20_000);
    unit.client.setConnected(true);
    made.until("it is claimed", () => owner() === HASH, 120_000);
  });
});
