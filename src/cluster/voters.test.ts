// SPDX-License-Identifier: Apache-2.0
//
// Who votes: decisions by example, and by a walk through growth, loss and removal.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import type { StoreMember } from "./control-store.ts";
import { StationFixture } from "./station-fixture.ts";
import {
  LEARNER_DEAD_MS,
  LEARNER_STUCK_MS,
  VOTER_DEAD_MS,
  VoterKeeper,
  nextVoterStep,
  peerUrlOf,
  voterAct,
  voterName,
  voterTarget,
} from "./voters.ts";
import type { VoterMember, VoterStep, VoterUnit } from "./voters.ts";
import type { UnitRecord, VoterRecord } from "./state.ts";

function unit(number: number, more: Partial<VoterUnit> = {}): VoterUnit {
  return {
    unit: number,
    role: "member",
    alive: true,
    awayMs: 0,
    admitted: true,
    leaves: false,
    hesitates: false,
    ...more,
  };
}
function voter(number: number, more: Partial<VoterMember> = {}): VoterMember {
  const usual = { learner: false, started: true, lost: false, learnsMs: 0 };
  return { id: `m${number}`, unit: number, ...usual, ...more };
}

/** A step carried out; every learner starts at once. */
function stepped(members: VoterMember[], step: VoterStep): VoterMember[] {
  switch (step.kind) {
    case "none":
      return members;
    case "add":
      return [...members, voter(step.unit, { learner: true })];
    case "remove":
      return members.filter((member) => member !== step.member);
    case "promote":
      return members.map((member) =>
        member === step.member ? { ...member, learner: false } : member,
      );
  }
}

/** Carries steps out until none is left. */
function settle(units: VoterUnit[], members: VoterMember[]): VoterMember[] {
  let now = members;
  for (let round = 0; round < 50; round++) {
    const step = nextVoterStep(units, now);
    if (step.kind === "none") return now;
    now = stepped(now, step);
  }
  throw new Error("never settles");
}

const shape = (members: VoterMember[]) =>
  members.map((member) => `${member.unit}${member.learner ? "L" : ""}`).sort();

test("targets", () => {
  expect([1, 2, 3, 4, 5, 7, 20].map(voterTarget)).toEqual([1, 1, 3, 3, 5, 5, 5]);
});

test("growth from one unit to six", () => {
  const units = [1, 2, 3, 4, 5, 6].map((number) => unit(number));
  let members = settle(units.slice(0, 1), [voter(1)]);
  expect(shape(members)).toEqual(["1"]);
  members = settle(units.slice(0, 2), members);
  expect(shape(members)).toEqual(["1", "2L"]);
  members = settle(units.slice(0, 3), members);
  expect(shape(members)).toEqual(["1", "2", "3"]);
  members = settle(units.slice(0, 4), members);
  expect(shape(members)).toEqual(["1", "2", "3"]);
  members = settle(units, members);
  expect(shape(members)).toEqual(["1", "2", "3", "4", "5"]);
});

test("members before witnesses before spares; spares vote where there is nobody else", () => {
  const units = [unit(1), unit(2, { role: "spare" }), unit(3, { role: "witness" }), unit(4)];
  expect(shape(settle(units, [voter(1)]))).toEqual(["1", "3", "4"]);
  expect(shape(settle(units.slice(0, 3), [voter(1)]))).toEqual(["1", "2", "3"]);
});

test("two units and a witness → three votes; it goes → two of them go on", () => {
  const units = [unit(1), unit(2), unit(3, { role: "witness" })];
  const members = settle(units, [voter(1)]);
  expect(shape(members)).toEqual(["1", "2", "3"]);
  const away = { alive: false, awayMs: 10 * VOTER_DEAD_MS };
  const without = [unit(1), unit(2), unit(3, { role: "witness", ...away })];
  expect(shape(settle(without, members))).toEqual(["1", "2", "3"]);
  // Either unit may go as well: the other and the witness are a majority.
  const half = [unit(1, away), unit(2), unit(3, { role: "witness" })];
  expect(shape(settle(half, members))).toEqual(["1", "2", "3"]);
});

describe("a dead voter", () => {
  const members = [voter(1), voter(2), voter(3)];
  const dead = (awayMs: number) => unit(2, { alive: false, awayMs });
  test("for less than minutes → nothing", () => {
    const units = [unit(1), dead(VOTER_DEAD_MS - 1), unit(3), unit(4)];
    expect(nextVoterStep(units, members).kind).toBe("none");
  });
  test("for minutes, and another unit there → removed, then replaced", () => {
    const units = [unit(1), dead(VOTER_DEAD_MS), unit(3), unit(4)];
    const step = nextVoterStep(units, members);
    expect(step.kind === "remove" && step.member.id).toBe("m2");
    expect(shape(settle(units, members))).toEqual(["1", "3", "4"]);
  });
  test("nobody to take its place → kept", () => {
    expect(nextVoterStep([unit(1), dead(VOTER_DEAD_MS), unit(3)], members).kind).toBe("none");
  });
});

test("five voters and no other unit: one dead → kept; two dead → gone, so one more may be", () => {
  const members = [1, 2, 3, 4, 5].map((number) => voter(number));
  const units = (dead: readonly number[]) =>
    [1, 2, 3, 4, 5].map((number) => {
      return dead.includes(number) ? unit(number, { alive: false, awayMs: 1e9 }) : unit(number);
    });
  expect(shape(settle(units([4]), members))).toEqual(["1", "2", "3", "4", "5"]);
  expect(shape(settle(units([4, 5]), members))).toEqual(["1", "2", "3"]);
  // Back, both vote again.
  expect(shape(settle(units([]), settle(units([4, 5]), members)))).toEqual([
    "1",
    "2",
    "3",
    "4",
    "5",
  ]);
});

describe("a learner whose unit is up and does not come to vote", () => {
  const stuck = voter(3, { learner: true, started: false, learnsMs: LEARNER_STUCK_MS });
  test("another unit is there → that one is asked, and goes before it from then on", () => {
    const units = [unit(1), unit(2), unit(3), unit(4)];
    const members = [voter(1), voter(2), stuck];
    const step = nextVoterStep(units, members);
    expect(step.kind === "remove" && step.member.id).toBe("m3");
    const later = [unit(1), unit(2), unit(3, { hesitates: true }), unit(4)];
    expect(shape(settle(later, stepped(members, step)))).toEqual(["1", "2", "4"]);
  });
  test("not for long, nobody else, or no voter wanted → it stays", () => {
    const brief = { ...stuck, learnsMs: LEARNER_STUCK_MS - 1 };
    const four = [unit(1), unit(2), unit(3), unit(4)];
    expect(nextVoterStep(four, [voter(1), voter(2), brief]).kind).toBe("none");
    expect(nextVoterStep(four.slice(0, 3), [voter(1), voter(2), stuck]).kind).toBe("none");
    // Of two units the second one learns for ever.
    const second = voter(2, { learner: true, learnsMs: 1e9 });
    expect(nextVoterStep(four.slice(0, 2), [voter(1), second]).kind).toBe("none");
  });
});

describe("the voter of a unit that is being evacuated", () => {
  const leaves = unit(2, { leaves: true });
  test("another unit is there → votes first; never fewer voters than promised meanwhile", () => {
    const units = [unit(1), leaves, unit(3), unit(4)];
    let now = [voter(1), voter(2), voter(3)];
    const least = [];
    for (let round = 0; round < 5; round++) {
      const step = nextVoterStep(units, now);
      if (step.kind === "none") break;
      now = stepped(now, step);
      least.push(now.filter((member) => !member.learner).length);
    }
    expect(shape(now)).toEqual(["1", "3", "4"]);
    expect(Math.min(...least)).toBe(3);
  });
  test("enough others vote already → it leaves at once", () => {
    const units = [unit(1), leaves, unit(3), unit(4), unit(5)];
    const members = [voter(1), voter(2), voter(3), voter(4), voter(5)];
    expect(shape(settle(units, members))).toEqual(["1", "3", "4", "5"]);
  });
  test("nobody to take its place → it keeps it: two voters are worse than three", () => {
    const units = [unit(1), leaves, unit(3)];
    expect(nextVoterStep(units, [voter(1), voter(2), voter(3)]).kind).toBe("none");
  });
  test("one of two units, the only voter → the other one votes, then it leaves", () => {
    const units = [unit(1, { leaves: true }), unit(2)];
    expect(shape(settle(units, [voter(1), voter(2, { learner: true })]))).toEqual(["2"]);
  });
});

test("a unit removed from the cluster → its voter goes at once", () => {
  const units = [unit(1), unit(2, { admitted: false }), unit(3)];
  const step = nextVoterStep(units, [voter(1), voter(2), voter(3)]);
  expect(step.kind === "remove" && step.member.id).toBe("m2");
});

test("R12: a voter that lost its data → removed, and added again as a new member", () => {
  const units = [unit(1), unit(2), unit(3)];
  const members = [voter(1), voter(2, { lost: true }), voter(3)];
  const step = nextVoterStep(units, members);
  expect(step.kind === "remove" && step.member.id).toBe("m2");
  expect(shape(settle(units, members))).toEqual(["1", "2", "3"]);
});

test("the last voter is never removed", () => {
  const units = [unit(1, { admitted: false }), unit(2)];
  expect(nextVoterStep(units, [voter(1)]).kind).toBe("add");
  expect(shape(settle(units, [voter(1)]))).toEqual(["2"]);
  expect(nextVoterStep([], [voter(1)]).kind).toBe("none");
});

test("a learner that never comes up makes way, one that is not started is not promoted", () => {
  const slow = voter(2, { learner: true, started: false });
  const units = [unit(1), unit(2), unit(3)];
  expect(nextVoterStep(units, [voter(1), slow]).kind).toBe("none");
  const gone = [unit(1), unit(2, { alive: false, awayMs: LEARNER_DEAD_MS }), unit(3), unit(4)];
  const step = nextVoterStep(gone, [voter(1), slow]);
  expect(step.kind === "remove" && step.member.id).toBe("m2");
});

describe("R12: what a unit does with its etcd directory", () => {
  const record: VoterRecord = {
    unit: 2,
    memberId: "77",
    ticket: "a".repeat(32),
    state: "fresh",
    name: "unit-2",
    peerUrl: "https://[fd00::2]:2380",
    initialCluster: "",
  };
  const used: VoterRecord = { ...record, state: "used" };
  const empty = { hasData: false, ticket: null };
  const full = { hasData: true, ticket: record.ticket };
  const rows: [string, Parameters<typeof voterAct>[0], VoterRecord | null | undefined, string][] = [
    ["empty, a fresh ticket", empty, record, "start"],
    ["empty, the ticket used already: amnesia", empty, used, "report-lost"],
    ["marked but empty: amnesia", { hasData: false, ticket: record.ticket }, used, "report-lost"],
    ["marked but empty, not said to be used", { ...full, hasData: false }, record, "report-lost"],
    ["lost and said so", empty, { ...record, state: "lost" }, "none"],
    ["empty, no record", empty, null, "none"],
    ["data of its ticket", full, used, "run"],
    ["data of another membership", { hasData: true, ticket: "b".repeat(32) }, record, "clear"],
    ["data, removed meanwhile", full, null, "clear"],
    ["data, store not readable", full, undefined, "run"],
    ["empty, store not readable", empty, undefined, "none"],
    ["marked, empty, a new ticket", { hasData: false, ticket: "b".repeat(32) }, record, "start"],
  ];
  for (const [name, local, held, expected] of rows) {
    test(`${name} → ${expected}`, () => expect(voterAct(local, held).kind).toBe(expected as never));
  }
});

test("a third unit is there → asked in the step in which the second is promoted", () => {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  for (let unit = 2; unit <= 3; unit++) made.admit();
  const view = made.view();
  const url = (unit: number) => peerUrlOf(view.units.get(unit) as UnitRecord);
  const members: StoreMember[] = [1, 2].map((unit) => {
    return {
      id: `m${unit}`,
      name: voterName(unit),
      peerUrls: [url(unit)],
      learner: unit === 2,
      leader: unit === 1,
    };
  });
  const asked: string[] = [];
  const changes = {
    addLearner: async (peerUrl: string) => {
      asked.push(`add ${peerUrl}`);
      members.push({ id: "m3", name: "", peerUrls: [peerUrl], learner: true, leader: false });
      return "m3";
    },
    promote: async (id: string) => {
      asked.push(`promote ${id}`);
      Object.assign(members.find((member) => member.id === id) ?? {}, { learner: false });
      return true;
    },
    removeMember: async (id: string) => void asked.push(`remove ${id}`),
  };
  const { client } = made.any();
  const store = new Proxy(client, {
    get: (target, name) => {
      if (name === "members") return async () => members.map((member) => ({ ...member }));
      const found: unknown = Reflect.get(target, name);
      return typeof found === "function" ? found.bind(target) : found;
    },
  });
  const world = {
    clock: made.time,
    log: { write: () => {} },
    random: { fraction: () => 0.5, fill: (bytes: Uint8Array) => void bytes.fill(7) },
  };
  const keeper = new VoterKeeper(world, store, changes);
  expect(made.wait(keeper.step(view))).toBe(true);
  expect(asked).toEqual(["promote m2", `add ${url(3)}`]);
});
