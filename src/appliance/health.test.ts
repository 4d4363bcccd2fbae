// SPDX-License-Identifier: Apache-2.0
//
// What counts as healthy: every fact that alone makes a unit unhealthy, being alone in the dark,
// and all combinations of facts against the rule in plain words.

import { describe, expect, test } from "bun:test";
import { ALONE_MS, type HealthFacts, SETTLED_MS, healthOf } from "./health.ts";
import type { KeptDisk } from "./disk-keeper.ts";
import { remembered } from "./unit-health.ts";

const serving: HealthFacts = {
  uptimeMs: SETTLED_MS,
  stopping: false,
  reactorSilentMs: 1000,
  membership: "entered",
  sentence: "serves",
  disks: [{ path: "/dev/sda", state: "ready", reason: "" }],
  networkCards: { before: 2, now: 2 },
  reachesStore: true,
  voter: { expected: true, hasData: true, runs: true, answers: true },
  voters: { known: 3, heard: 3 },
};
const open = [{ path: "/dev/sda", state: "open", reason: "" } as const];
/** Its peers are off: no store, nobody heard but itself. */
const dark: HealthFacts = {
  ...serving,
  uptimeMs: ALONE_MS,
  disks: open,
  reachesStore: false,
  voter: { expected: false, hasData: true, runs: true, answers: false },
  voters: { known: 3, heard: 1 },
};
/** In no cluster, with nothing. */
const virgin: HealthFacts = {
  ...serving,
  membership: "none",
  sentence: "listens for others",
  disks: [],
  reachesStore: false,
  voter: { expected: false, hasData: false, runs: false, answers: false },
  voters: { known: 0, heard: 0 },
};

describe("healthy", () => {
  test("serving, as voter, without a vote, as learner", () => {
    expect(healthOf(serving)).toEqual({ healthy: true, sentence: "it serves its cluster" });
    const noVote = { expected: false, hasData: false, runs: false, answers: false };
    expect(healthOf({ ...serving, voter: noVote }).healthy).toBe(true);
    expect(healthOf({ ...serving, voter: { ...noVote, hasData: true, runs: true } }).healthy).toBe(
      true,
    );
  });

  test("in no cluster, waiting for one", () => {
    expect(healthOf(virgin)).toEqual({
      healthy: true,
      sentence: "it is in no cluster: listens for others",
    });
  });

  test("alone in the dark: its peers are off", () => {
    expect(healthOf(dark)).toEqual({
      healthy: true,
      sentence: "it waits for its cluster: 1 of 3 voters are heard",
    });
    // A unit without a vote whose voters are all off.
    const voter = { expected: false, hasData: false, runs: false, answers: false };
    expect(healthOf({ ...dark, voter, voters: { known: 3, heard: 0 } }).healthy).toBe(true);
    // Other units are on, but no majority of voters.
    expect(healthOf({ ...dark, voters: { known: 5, heard: 2 } }).healthy).toBe(true);
  });
});

describe("not healthy", () => {
  const not = (facts: HealthFacts, words: string) => {
    const { healthy, sentence } = healthOf(facts);
    expect([healthy, sentence]).toEqual([false, expect.stringContaining(words)]);
  };

  test("stopping, just started, a silent reactor, no network card any more", () => {
    for (const good of [serving, dark, virgin]) {
      not({ ...good, stopping: true }, "stopping");
      not({ ...good, uptimeMs: SETTLED_MS - 1 }, "has run for 14 s only");
      not({ ...good, reactorSilentMs: 13_000 }, "reactor says nothing");
      not({ ...good, networkCards: { before: 1, now: 0 } }, "no network card");
    }
    expect(healthOf({ ...virgin, networkCards: { before: 0, now: 0 } }).healthy).toBe(true);
  });

  test("a disk that was open before is refused, or not there", () => {
    const reason = "left alone: format 2";
    const disks = [{ path: "/dev/sda", state: "absent", reason } as const];
    for (const good of [serving, dark, virgin]) {
      not({ ...good, disks }, "disk /dev/sda was open before and is not: left alone: format 2");
    }
  });

  test("a disk that is open and not in use although the store is there", () => {
    not({ ...serving, disks: open }, "disk /dev/sda is not in use yet");
  });

  test("a member that is not back in its cluster", () => {
    not(
      { ...serving, membership: "entering", sentence: "no etcd" },
      "not back in its cluster: no etcd",
    );
  });

  test("its own voter does not run, or does not answer while others do", () => {
    not({ ...serving, voter: { ...serving.voter, runs: false } }, "voter does not run");
    not({ ...dark, voter: { ...dark.voter, runs: false } }, "voter does not run");
    not({ ...serving, voter: { ...serving.voter, answers: false } }, "voter does not answer");
  });

  test("most voters are heard, and the store is not reached: this version cannot", () => {
    not({ ...dark, voters: { known: 3, heard: 2 } }, "although 2 of 3 voters are heard");
    not({ ...dark, voters: { known: 1, heard: 1 } }, "although 1 of 1 voters are heard");
    not({ ...dark, uptimeMs: ALONE_MS - 1 }, "has not reached the control store yet");
  });
});

test("every combination of facts: healthy only as the rule says", () => {
  const flags = [false, true];
  let seen = 0;
  for (const reachesStore of flags) {
    for (const expected of flags) {
      for (const answers of flags) {
        for (const runs of flags) {
          for (const heard of [0, 1, 2, 3]) {
            for (const state of ["absent", "open", "ready"] as const) {
              for (const uptimeMs of [0, SETTLED_MS, ALONE_MS]) {
                const facts: HealthFacts = {
                  ...serving,
                  uptimeMs,
                  reachesStore,
                  disks: [{ path: "/d", state, reason: "x" }],
                  voter: { expected, hasData: true, runs, answers },
                  voters: { known: 3, heard },
                };
                const works = uptimeMs >= SETTLED_MS && runs && state !== "absent";
                const serves = reachesStore && state === "ready" && (!expected || answers);
                const isAlone = !reachesStore && uptimeMs >= ALONE_MS && heard < 2;
                expect(healthOf(facts).healthy).toBe(works && (serves || isAlone));
                seen++;
              }
            }
          }
        }
      }
    }
  }
  expect(seen).toBe(576);
});

describe("what a run remembers for the next", () => {
  const before = { disks: [{ uuid: "a".repeat(32), path: "/dev/sda" }], networkCards: 2 };
  const disk = (letter: string, state: KeptDisk["state"]): KeptDisk => ({
    path: `/dev/sd${letter}`,
    sizeBytes: 1,
    reason: "",
    state,
    isOut: false,
    ofCluster: null,
    opened: {
      path: `/dev/sd${letter}`,
      place: { path: "", offsetBytes: 0, sizeBytes: 0, direct: true },
      uuid: letter.repeat(32),
      clusterId: "",
      number: 1,
      incarnation: 1,
      slices: 0,
      sizeBytes: 1,
      freeBytes: 1,
      health: {
        ...{ found: 0, healed: 0, unhealed: 0, recentPlaces: 0, metadataMended: 0 },
        scrub: { running: false, percent: 0, count: 0, endedAtMs: 0, late: false },
      },
    },
  });
  const now = { disks: [disk("b", "ready")], networkCards: 1, uptimeMs: 1000, trial: false };

  test("what opens is added; what is gone stays for ten minutes", () => {
    expect(remembered(before, now)).toEqual({
      disks: [{ uuid: "b".repeat(32), path: "/dev/sdb" }, ...before.disks],
      networkCards: 2,
    });
    expect(remembered(before, { ...now, uptimeMs: 600_000 })).toEqual({
      disks: [{ uuid: "b".repeat(32), path: "/dev/sdb" }],
      networkCards: 1,
    });
  });

  test("on trial nothing is forgotten and nothing added, however long it runs", () => {
    expect(remembered(before, { ...now, trial: true, uptimeMs: 10 ** 9 })).toBe(before);
  });

  test("a disk that failed or was refused is not one that is open", () => {
    for (const state of ["failed", "refused", "opening", "examining"] as const) {
      const { disks } = remembered(before, { ...now, disks: [disk("c", state)] });
      expect(disks).toEqual(before.disks);
    }
  });

  test("a disk under another path is one disk", () => {
    const moved = { ...disk("a", "ready"), path: "/dev/sdz" };
    expect(remembered(before, { ...now, disks: [moved] }).disks).toEqual([
      { uuid: "a".repeat(32), path: "/dev/sdz" },
    ]);
  });
});
