// SPDX-License-Identifier: Apache-2.0
//
// Formation step by step: what each answer of the outside leads to. Whole wires of machines are in
// discovery.test.ts.

import { describe, expect, test } from "bun:test";
import * as formation from "./formation.ts";
import type { FormationEffects, MembershipFact, StationFact, UnitFact } from "./formation.ts";
import { HEARD_MS } from "./heard-stations.ts";
import { NO_ID } from "./identity.ts";

const id = (digit: string) => digit.repeat(32);

class Outside implements FormationEffects {
  nowMs = 0;
  readonly calls: string[] = [];
  sentence = "";
  readonly machine: formation.Formation;

  constructor(options: Partial<formation.FormationOptions> = {}) {
    const clock = { nowMs: () => this.nowMs, wallMs: () => 0 };
    const random = { fill: () => undefined, fraction: () => 0 };
    const usual = { unitId: id("5"), hasSecret: true, mayFound: true };
    const facts = { ...usual, removedFrom: null, featureLevel: 2, ...options };
    this.machine = new formation.Formation({ clock, random }, facts, this);
  }
  found(): void {
    this.calls.push("found");
  }
  join(station: StationFact): void {
    this.calls.push(`join ${station.clusterId[0]}`);
  }
  yieldTo(other: StationFact): void {
    this.calls.push(`yield ${other.clusterId[0]}`);
  }
  askAbout(other: StationFact): void {
    this.calls.push(`ask ${other.clusterId[0]}`);
  }
  leave(): void {
    this.calls.push("leave");
  }
  say(sentence: string): void {
    this.sentence = sentence;
  }
  run(forMs: number, each: () => void = () => undefined): this {
    const endMs = this.nowMs + forMs;
    while (this.nowMs < endMs) {
      this.nowMs += 100;
      each();
      this.machine.tick();
    }
    return this;
  }
  unit(digit: string, changes: Partial<UnitFact> = {}): void {
    const fact = { unitId: id(digit), name: `box ${digit}`, clusterId: NO_ID, mayFound: true };
    this.machine.heardUnit({ ...fact, stage: "listening", listeningMs: this.nowMs, ...changes });
  }
  station(digit: string, clusterState: formation.ClusterWord = "virgin", featureLevel = 2): void {
    this.machine.heardStation({
      clusterId: id(digit),
      clusterName: `cluster ${digit}`,
      clusterState,
      featureLevel,
      stationUnitId: id("9"),
      publicKey: new Uint8Array(32),
      addresses: ["192.0.2.1"],
      channelPort: 1,
      term: 1,
    });
  }
}

const member = (changes: Partial<MembershipFact> = {}): MembershipFact => ({
  clusterId: id("5"),
  clusterName: "ours",
  clusterState: "virgin",
  unitNumber: 1,
  isStation: true,
  isVoter: true,
  ...changes,
});

describe("formation", () => {
  test("nobody heard → founds exactly after the window; a lower id heard → does not", () => {
    const alone = new Outside().run(formation.LISTEN_MS - 100);
    expect(alone.calls).toEqual([]);
    expect(alone.run(100).calls).toEqual(["found"]);
    const second = new Outside();
    second.run(formation.LISTEN_MS + 500, () => second.unit("3"));
    expect([second.calls, second.machine.state]).toEqual([[], "waiting"]);
    expect(second.sentence).toBe("Waiting for box 3 to found the cluster.");
  });

  test("a lower id that may not found, is in a cluster or silent → founds itself", () => {
    for (const changes of [{ mayFound: false }, { clusterId: id("1") }] as const) {
      const outside = new Outside();
      outside.run(formation.LISTEN_MS, () => outside.unit("3", changes));
      expect(outside.calls).toEqual(["found"]);
    }
    const silent = new Outside();
    silent.unit("3");
    silent.nowMs = HEARD_MS + 1;
    silent.machine.tick();
    expect(silent.calls).toEqual(["found"]);
  });

  test("a late founder listens its own window first → it is waited for, then passed over", () => {
    const outside = new Outside();
    const bornMs = 2900;
    const say = () => {
      if (outside.nowMs < bornMs) return;
      const listeningMs = outside.nowMs - bornMs;
      outside.unit("3", { listeningMs, stage: listeningMs < 4000 ? "listening" : "waiting" });
    };
    const patienceMs =
      formation.LISTEN_MS + formation.LISTEN_JITTER_MS + formation.FOUNDER_GRACE_MS;
    outside.run(bornMs + patienceMs - 200, say);
    expect(outside.calls).toEqual([]);
    outside.run(400, say);
    expect(outside.calls).toEqual(["found"]);
  });

  test("somebody is founding already → waits for it although its id is higher", () => {
    const outside = new Outside();
    const founding = () => outside.unit("7", { stage: "founding" });
    outside.run(formation.LISTEN_MS + 10_000, founding);
    expect([outside.calls, outside.machine.state]).toEqual([[], "waiting"]);
    outside.run(formation.FOUNDING_MS_MAX - 9900, founding);
    expect(outside.calls).toEqual(["found"]);
  });

  test("the awaited founder shuts down → decides at once", () => {
    const outside = new Outside();
    outside.run(formation.LISTEN_MS + 100, () => outside.unit("3"));
    outside.machine.heardShutdown(id("3"));
    expect(outside.calls).toEqual(["found"]);
  });

  test("founding failed → says why, listens again", () => {
    const outside = new Outside().run(formation.LISTEN_MS);
    outside.machine.foundFailed("no room on the state disk");
    expect(outside.sentence).toContain("no room on the state disk");
    expect(outside.run(formation.LISTEN_MS).calls).toEqual(["found", "found"]);
  });

  test("several clusters → the used one, else the lowest; never a yielding one", () => {
    const pick = (heard: [string, formation.ClusterWord][]) => {
      const outside = new Outside();
      // Heard while it cannot join: the choice is made on the first retry.
      outside.station("8", "virgin");
      for (const [digit, state] of heard) outside.station(digit, state);
      outside.machine.joinFailed({ reached: false, reason: "" });
      outside.run(1200);
      return outside.calls.at(-1);
    };
    expect(
      pick([
        ["3", "virgin"],
        ["4", "virgin"],
      ]),
    ).toBe("join 3");
    expect(
      pick([
        ["3", "virgin"],
        ["4", "used"],
      ]),
    ).toBe("join 4");
    expect(pick([["3", "yielding"]])).toBe("join 8");
  });

  test("a station that never answers → three calls, then one is founded", () => {
    const outside = new Outside();
    const fail = () => {
      outside.station("3");
      if (outside.calls.length > failed) {
        failed = outside.calls.length;
        outside.machine.joinFailed({ reached: false, reason: "no answer" });
      }
    };
    let failed = 0;
    outside.run(12_000, fail);
    expect(outside.calls.slice(0, 4)).toEqual(["join 3", "join 3", "join 3", "found"]);
  });

  test("a proved station that refuses → reason said, asked again, nothing founded", () => {
    const outside = new Outside();
    const refuse = () => {
      outside.station("3", "used");
      if (outside.machine.state !== "joining" || outside.calls.length === answered) return;
      answered = outside.calls.length;
      outside.machine.joinFailed({ reached: true, reason: "versions too far apart" });
    };
    let answered = 0;
    outside.run(61_000, refuse);
    expect(outside.sentence).toBe("Joining the cluster cluster 3 (versions too far apart).");
    expect(new Set(outside.calls)).toEqual(new Set(["join 3"]));
    expect(outside.calls.length).toBeLessThan(15);
  });

  test("only a virgin cluster's station yields, once, and again only after a failure", () => {
    const yields = (
      changes: Partial<MembershipFact>,
      digit: string,
      state: formation.ClusterWord,
    ) => {
      const outside = new Outside();
      outside.machine.entered(member(changes));
      outside.run(1000, () => outside.station(digit, state));
      return outside.calls;
    };
    expect(yields({}, "3", "virgin")).toEqual(["yield 3"]);
    expect(yields({}, "8", "virgin")).toEqual([]);
    expect(yields({}, "8", "used")).toEqual(["yield 8"]);
    expect(yields({}, "3", "yielding")).toEqual([]);
    expect(yields({}, "5", "used")).toEqual([]);
    expect(yields({ isStation: false }, "3", "virgin")).toEqual([]);
    expect(yields({ clusterState: "used" }, "3", "used")).toEqual([]);
    const outside = new Outside();
    outside.machine.entered(member());
    outside.station("3");
    outside.machine.yieldFailed("could not be proved");
    outside.run(formation.REFUSED_RETRY_MS - 100, () => outside.station("3"));
    expect(outside.calls).toEqual(["yield 3"]);
    outside.run(200, () => outside.station("3"));
    expect(outside.calls).toEqual(["yield 3", "yield 3"]);
  });

  test("a virgin cluster does not give way to one whose level it does not speak", () => {
    const yieldsAt = (featureLevel: number) => {
      const outside = new Outside();
      outside.machine.entered(member());
      outside.station("8", "used", featureLevel);
      return outside.calls.length === 1;
    };
    // Ours speaks 2, and so 1 as well.
    expect([0, 1, 2, 3].map(yieldsAt)).toEqual([false, true, true, false]);
  });

  test("the record says yielding → units leave, voters last; then the whole window", () => {
    const plain = new Outside();
    plain.machine.entered(member({ isStation: false, isVoter: false }));
    plain.machine.clusterChanged(
      member({ isStation: false, isVoter: false, clusterState: "yielding" }),
    );
    expect(plain.calls).toEqual(["leave"]);
    const voter = new Outside();
    voter.machine.entered(member());
    voter.machine.clusterChanged(member({ clusterState: "yielding" }));
    voter.run(formation.LEAVE_LAST_MS - 100);
    expect(voter.calls).toEqual([]);
    voter.run(100);
    expect(voter.calls).toEqual(["leave"]);
    voter.machine.left();
    voter.run(formation.LISTEN_MS - 100);
    expect(voter.calls).toEqual(["leave"]);
    expect(voter.run(100).calls).toEqual(["leave", "found"]);
  });

  test("the old cluster's last packets after leaving → not joined again", () => {
    const outside = new Outside();
    outside.machine.entered(member({ isVoter: false, isStation: false }));
    outside.machine.clusterChanged(
      member({ isVoter: false, isStation: false, clusterState: "yielding" }),
    );
    outside.machine.left();
    outside.station("5", "virgin");
    expect(outside.calls).toEqual(["leave"]);
    outside.station("3", "virgin");
    expect(outside.calls).toEqual(["leave", "join 3"]);
  });

  test("the store away, no station of ours → asks others, leaves only by their word", () => {
    const outside = new Outside();
    outside.machine.entered(member({ isStation: false, clusterState: "used" }));
    outside.machine.storeAway(true);
    const hear = () => {
      outside.station("3", "used");
      outside.station("4", "virgin");
      outside.station("6", "yielding");
    };
    outside.run(formation.ORPHAN_MS - 100, hear);
    expect(outside.calls).toEqual([]);
    outside.run(10_000, hear);
    expect(outside.calls).toEqual(["ask 3", "ask 4"]);
    outside.machine.toldWhetherItGaveWay(false);
    outside.run(10_000, hear);
    expect([outside.calls.length, outside.machine.state]).toEqual([4, "member"]);
    // Back in between: the cluster speaks for itself.
    outside.machine.storeAway(false);
    outside.machine.toldWhetherItGaveWay(true);
    expect(outside.machine.state).toBe("member");
    outside.machine.storeAway(true);
    outside.machine.toldWhetherItGaveWay(true);
    expect([outside.calls.at(-1), outside.machine.state]).toEqual(["leave", "leaving"]);
  });

  test("our own station is heard → nobody else is asked, however long the store is away", () => {
    const outside = new Outside();
    outside.machine.entered(member({ isStation: false }));
    outside.machine.storeAway(true);
    outside.run(60_000, () => {
      outside.station("5");
      outside.station("3", "used");
    });
    expect(outside.calls).toEqual([]);
  });

  test("removed from its cluster → says so, asks nobody, founds nothing", () => {
    const outside = new Outside({ removedFrom: "attic" });
    outside.run(60_000, () => {
      outside.unit("7");
      outside.station("3", "used");
    });
    expect([outside.calls, outside.machine.state, outside.machine.stage]).toEqual([
      [],
      "removed",
      "waiting",
    ]);
    expect(outside.sentence).toStartWith("This unit was removed from the cluster attic");
  });

  test("no secret → nothing heard moves it", () => {
    const outside = new Outside({ hasSecret: false });
    outside.run(20_000, () => {
      outside.unit("3");
      outside.station("3");
    });
    expect([outside.calls, outside.machine.state]).toEqual([[], "noSecret"]);
  });
});

test("the control station of a cluster → known as long as it is heard", () => {
  const outside = new Outside({});
  outside.station("b", "used");
  expect(outside.machine.stationOf(id("b"))?.stationUnitId).toBe(id("9"));
  expect(outside.machine.stationOf(id("c"))).toBeNull();
  outside.nowMs += HEARD_MS + 1;
  expect(outside.machine.stationOf(id("b"))).toBeNull();
});
