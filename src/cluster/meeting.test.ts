// SPDX-License-Identifier: Apache-2.0
//
// Clusters founded apart meet by wire, in every order, virgin and used: never is an accepted volume
// lost, never is a unit in two clusters, and what is in use stays and says so.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Meeting } from "./meeting-fixture.ts";
import type { MeetingUnit } from "./meeting-fixture.ts";
import { questionsOf } from "./questions.ts";

const CLUSTERS = 4;
/** Seconds on a quiet machine: a busy one gets its time, no verdict hangs on it. */
const TIMEOUT_MS = 600_000;
/** Longer than any merge takes from its last wire on. */
const SETTLED_MS = 90_000;

/** So many clusters of so many units each, founded apart; sides are numbered from 1. */
function apart(seed: number, sizes: readonly number[]): Meeting {
  const meeting = new Meeting(drainMicrotasks, seed);
  sizes.forEach((size, at) => {
    for (let unit = 0; unit < size; unit++) meeting.add(at + 1);
  });
  meeting.until("each has its disk in a cluster", () => everyDiskIn(meeting, sizes.length), 60_000);
  return meeting;
}

function everyDiskIn(meeting: Meeting, clusters: number): boolean {
  if (meeting.living.length !== clusters) return false;
  return meeting.units.every(({ life, disk }) => life?.follower.view.diskByUuid(disk.uuid) != null);
}

/** The cluster on a side becomes used: a volume is asked for through one of its units. */
function use(meeting: Meeting, side: number): void {
  const name = `of-${side}`;
  firstOf(meeting, side).ask(name);
  meeting.until("it was accepted", () => meeting.accepted.some((one) => one.name === name), 10_000);
}

function firstOf(meeting: Meeting, side: number): MeetingUnit {
  return meeting.units.find((unit) => unit.side === side) as MeetingUnit;
}

/** Nothing is on its way: each side has its used clusters, or one virgin one. */
function isQuiet(meeting: Meeting): boolean {
  const states = new Map<number, string[]>();
  for (const cluster of meeting.living) {
    const sides = meeting.units.filter((unit) => unit.cluster === cluster).map(({ side }) => side);
    const state = meeting.wordOf(cluster);
    for (const side of new Set(sides)) states.set(side, [...(states.get(side) ?? []), state]);
  }
  const isDone = [...states.values()].every((list) => {
    return list.length === Math.max(1, list.filter((state) => state === "used").length);
  });
  return isDone && meeting.units.every(({ life }) => life?.follower.view.isAlive(life.number));
}

function isSettled(meeting: Meeting): boolean {
  const living = meeting.living;
  const states = living.map((cluster) => meeting.wordOf(cluster));
  const used = states.filter((state) => state === "used").length;
  if (living.length !== Math.max(1, used) || states.includes("yielding")) return false;
  return meeting.units.every(
    ({ life }) => life !== null && life.follower.view.isAlive(life.number),
  );
}

/** What must hold once all wires are plugged in and everything has settled. */
function judge(meeting: Meeting): void {
  for (const { name, clusterId } of meeting.accepted) {
    const cluster = meeting.living.find((one) => one.id === clusterId);
    expect([name, cluster?.id]).toEqual([name, clusterId]);
    const view = meeting.stateOf(cluster as (typeof meeting.living)[number]);
    const volume = view.volumeByName(name);
    expect([name, volume?.state]).toEqual([name, "ready"]);
    for (const slice of volume === null ? [] : view.slicesOfVolume(volume)) {
      const unit = view.disks.get(slice?.head ?? 0)?.unit ?? 0;
      const holder = meeting.units.find(({ life, cluster: own }) => {
        return own === cluster && life?.number === unit;
      });
      expect(holder?.disk.mark).toBe(clusterId);
      expect(holder?.disk.slices.has(slice?.slice ?? 0)).toBe(true);
    }
  }
  // Each unit is in one cluster, and its control store is that cluster's.
  for (const unit of meeting.units) {
    expect(unit.life?.follower.view.cluster?.uuid).toBe(unit.cluster?.id as string);
    expect(unit.disk.mark).toBe(unit.cluster?.id as string);
  }
  const ids = meeting.living.map((cluster) => cluster.id);
  expect(new Set(ids).size).toBe(ids.length);
}

function permutations(left: readonly number[]): number[][] {
  if (left.length === 0) return [[]];
  return left.flatMap((first) => {
    const rest = left.filter((other) => other !== first);
    return permutations(rest).map((tail) => [first, ...tail]);
  });
}

/** All 24, less those that differ only in who of the first two comes to whom: they meet alike. */
const ORDERS = permutations([1, 2, 3, 4]).filter(([one = 0, other = 0]) => one < other);

/** One after the other onto the first's wire. */
function chain(meeting: Meeting, order: readonly number[], pause: () => void): void {
  const [first = 0, ...rest] = order;
  for (const side of rest) {
    meeting.join(side, first);
    pause();
  }
}

/** Two pairs, and then the pairs. */
function pairs(meeting: Meeting, order: readonly number[], pause: () => void): void {
  const [one = 0, other = 0, third = 0, fourth = 0] = order;
  meeting.join(other, one);
  meeting.join(fourth, third);
  pause();
  meeting.join(third, one);
  pause();
}

/** Every set of used clusters in every order of meeting. */
function everyCase(play: (meeting: Meeting, order: number[], used: number[]) => void): void {
  ORDERS.forEach((order, at) => {
    for (let mask = 0; mask < 2 ** CLUSTERS; mask++) {
      const used = [1, 2, 3, 4].filter((side) => (mask & (1 << (side - 1))) !== 0);
      const meeting = apart(1 + at * 16 + mask, [1, 1, 1, 1]);
      for (const side of used) use(meeting, side);
      play(meeting, order, used);
      meeting.until(`settled: ${order}, used ${used}`, () => isSettled(meeting), SETTLED_MS);
      judge(meeting);
    }
  });
}

describe("four clusters founded apart", () => {
  test(
    "meet one after the other, each meeting settled → the used ones, else the lowest",
    () => {
      everyCase((meeting, order, used) => {
        chain(meeting, order, () => {
          meeting.time.pass(200);
          meeting.until("it settles", () => isQuiet(meeting), SETTLED_MS);
        });
        meeting.until("all settles", () => isSettled(meeting), SETTLED_MS);
        const expected = used.length > 0 ? used.map(String) : ["1"];
        expect(meeting.living.map(({ id }) => id[0] as string).sort()).toEqual(expected);
      });
    },
    TIMEOUT_MS,
  );

  test(
    "meet in quick succession, a virgin one asked for a volume meanwhile → none is lost",
    () => {
      let late = 0;
      let refused = 0;
      everyCase((meeting, order, used) => {
        const virgin = [1, 2, 3, 4].filter((side) => !used.includes(side));
        const askers = virgin.map((side) => firstOf(meeting, side));
        for (const asker of askers) {
          meeting.time.after(meeting.prng.below(6000), () => asker.ask(`late-${asker.index}`));
        }
        const shape = meeting.prng.chance(0.5) ? chain : pairs;
        shape(meeting, order, () => meeting.time.pass(meeting.prng.below(3000)));
        meeting.time.pass(25_000);
        const made = meeting.accepted.length - used.length;
        late += made;
        refused += askers.length - made;
      });
      // Both sides of the race were seen.
      expect(late).toBeGreaterThan(20);
      expect(refused).toBeGreaterThan(20);
    },
    TIMEOUT_MS,
  );
});

describe("a volume is asked for in the very moment of giving way", () => {
  /** Two virgin clusters meet; when the second one gives way, or null. */
  function meet(askAfterMs: number | null): { meeting: Meeting; yieldedAfterMs: number | null } {
    const meeting = apart(7, [1, 1]);
    const asker = firstOf(meeting, 2);
    // Its view runs behind its store: what it decides by is old.
    const { life, cluster } = asker;
    if (life !== null) life.client.watchDelayMs = 20;
    meeting.join(2, 1);
    const startMs = meeting.time.nowMs();
    let yieldedAfterMs: number | null = null;
    if (cluster !== null) {
      cluster.core.onCommit = () => {
        if (meeting.wordOf(cluster) !== "yielding") return;
        yieldedAfterMs ??= meeting.time.nowMs() - startMs;
      };
    }
    if (askAfterMs !== null) meeting.time.after(askAfterMs, () => asker.ask("in-time"));
    meeting.time.pass(20_000);
    meeting.until("settled", () => isSettled(meeting), SETTLED_MS);
    judge(meeting);
    return { meeting, yieldedAfterMs };
  }

  test(
    "every millisecond around it → accepted and kept, or refused and given way",
    () => {
      const { yieldedAfterMs } = meet(null);
      expect(yieldedAfterMs).not.toBeNull();
      const outcomes = { kept: 0, refused: 0 };
      for (let before = 120; before >= -20; before--) {
        const run = meet(Math.max(0, (yieldedAfterMs ?? 0) - before));
        const isKept = run.meeting.accepted.length > 0;
        expect(isKept).toBe(run.yieldedAfterMs === null);
        outcomes[isKept ? "kept" : "refused"]++;
      }
      expect(outcomes.kept).toBeGreaterThan(20);
      expect(outcomes.refused).toBeGreaterThan(20);
    },
    TIMEOUT_MS,
  );
});

describe("clusters of several units", () => {
  test(
    "units lose power and wires while four clusters merge → one, or the used ones",
    () => {
      for (let seed = 1; seed <= 60; seed++) {
        const { prng } = new Meeting(drainMicrotasks, seed);
        const meeting = apart(seed, [1 + prng.below(3), 1 + prng.below(3), 1 + prng.below(3), 1]);
        for (const side of [1, 2, 3, 4]) if (prng.chance(0.3)) use(meeting, side);
        for (let trouble = 0; trouble < 5; trouble++) {
          const unit = meeting.units[prng.below(meeting.units.length)] as MeetingUnit;
          meeting.time.after(prng.below(12_000), () => {
            if (unit.isOn) unit.powerOff();
            meeting.time.after(prng.below(25_000), () => {
              if (!unit.isOn) unit.start();
            });
          });
          meeting.time.after(prng.below(12_000), () => unit.ask(`late-${trouble}`));
        }
        chain(meeting, [1, 2, 3, 4], () => meeting.time.pass(prng.below(5000)));
        meeting.time.pass(40_000);
        meeting.until(`seed ${seed} settles`, () => isSettled(meeting), 4 * SETTLED_MS);
        meeting.time.pass(5000);
        judge(meeting);
      }
    },
    TIMEOUT_MS,
  );

  test(
    "a voter was off while its cluster gave way → told by the other, follows",
    () => {
      const meeting = apart(1, [1, 3]);
      const away = meeting.units[1] as MeetingUnit;
      const given = away.cluster?.id as string;
      away.powerOff();
      meeting.join(2, 1);
      meeting.until("the two others came", () => everyone(meeting, away), SETTLED_MS);
      away.start();
      meeting.until("it came too", () => isSettled(meeting), SETTLED_MS);
      judge(meeting);
      const [stays] = meeting.living;
      expect(stays?.id).not.toBe(given);
      expect(meeting.stateOf(stays as (typeof meeting.living)[number]).cluster?.gaveWay).toEqual([
        given,
      ]);
    },
    TIMEOUT_MS,
  );

  test(
    "cut off from a cluster that is used meanwhile → stays its unit, near another one",
    () => {
      const meeting = apart(2, [1, 3]);
      const cut = meeting.units[3] as MeetingUnit;
      cut.side = 1;
      meeting.votersChanged();
      use(meeting, 2);
      const before = cut.cluster;
      meeting.time.pass(120_000);
      expect(cut.cluster).toBe(before);
      cut.side = 2;
      meeting.votersChanged();
      meeting.until("back", () => before !== null && isSettledApart(meeting), SETTLED_MS);
      judge(meeting);
    },
    TIMEOUT_MS,
  );
});

function everyone(meeting: Meeting, except: MeetingUnit): boolean {
  const others = meeting.units.filter((unit) => unit !== except);
  return new Set(others.map(({ cluster }) => cluster)).size === 1;
}
function isSettledApart(meeting: Meeting): boolean {
  return meeting.units.every(({ life }) => life?.follower.view.isAlive(life.number));
}

describe("two clusters in use", () => {
  test(
    "near each other → sentence, event and question on both, taken back when it ends",
    () => {
      const meeting = apart(3, [2, 1]);
      use(meeting, 1);
      use(meeting, 2);
      meeting.time.pass(60_000);
      meeting.join(2, 1);
      const told = (kind: string) =>
        meeting.living.map((cluster) => {
          const events = [...meeting.stateOf(cluster).events.values()];
          return events.filter((event) => event.kind === kind).length;
        });
      const asked = () =>
        meeting.living.map((cluster) => {
          const all = questionsOf(meeting.stateOf(cluster), 0);
          return all.filter(({ about }) => about === "the cluster").length;
        });
      meeting.time.pass(5000);
      expect([told("other-cluster"), asked()]).toEqual([
        [1, 1],
        [1, 1],
      ]);
      for (const unit of meeting.units) {
        expect(unit.sentence).toContain("Another cluster in use with the same join secret is near");
      }
      meeting.time.pass(300_000);
      expect(told("other-cluster")).toEqual([1, 1]);
      judge(meeting);
      (meeting.units[2] as MeetingUnit).side = 2;
      meeting.votersChanged();
      meeting.time.pass(70_000);
      expect([told("other-cluster-gone"), asked()]).toEqual([
        [1, 1],
        [0, 0],
      ]);
    },
    TIMEOUT_MS,
  );
});
