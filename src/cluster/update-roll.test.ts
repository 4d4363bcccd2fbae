// SPDX-License-Identifier: Apache-2.0
//
// Rolling updates over a whole cluster in virtual time: in the right order when all goes well, and
// stopped with the reason at whatever goes wrong, wherever. The judge of the fixture holds that no
// unit is sent into its restart while anything stands in the way.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { keys, valueText } from "./state.ts";
import { type BoxFault, UpdateFixture } from "./update-fixture.ts";
import { updatePlan } from "./update-plan.ts";

// Whole clusters and whole disks: seconds each, and more on a busy machine.
setDefaultTimeout(180_000);

/** Three members that vote, a spare, and a volume of each kind that a roll must keep online. */
function cluster(options: { seed?: number; target?: string } = {}): UpdateFixture {
  const made = new UpdateFixture(drainMicrotasks, options);
  made.stations.createVolume("a", 4, "mirror-2");
  made.stations.createVolume("b", 2, "mirror-3");
  made.run(1000);
  return made;
}

function refusal(act: () => unknown): [string, string] {
  try {
    act();
  } catch (error) {
    if (error instanceof Fault) return [error.code, error.message];
    throw error;
  }
  return ["", "it went well"];
}

const told = (made: UpdateFixture) =>
  [...made.stations.view().events.values()]
    .filter((event) => event.kind.startsWith("update"))
    .map((event) => event.sentence);

describe("all goes well", () => {
  test("spare first, the control station last, each back and whole before the next", () => {
    const made = cluster();
    made.announce();
    expect(made.update.state).toBe("loaded");
    made.start();
    expect(made.end()).toBe("done");
    expect(made.restarts).toEqual([4, 2, 3, 1]);
    expect(made.versions).toEqual(["0.2.0", "0.2.0", "0.2.0", "0.2.0"]);
    expect(made.broken).toEqual([]);
    const marked = [...made.stations.view().units.values()].filter((unit) => unit.maintenance);
    expect(marked).toEqual([]);
    expect(told(made)).toEqual([
      "version 0.2.0 is loaded and can be started",
      "version 0.2.0 begins to roll",
      ...["box4", "box2", "box3", "box1"].flatMap((name) => [
        `${name} restarts for version 0.2.0`,
        `${name} runs version 0.2.0`,
      ]),
      "all units run version 0.2.0",
    ]);
  });

  test("one unit only: the others keep their version", () => {
    const made = cluster();
    made.announce();
    made.start({ only: [2] });
    expect(made.end()).toBe("done");
    expect(made.versions).toEqual(["0.1.0", "0.2.0", "0.1.0", "0.1.0"]);
    expect(made.update.sentence).toBe("the units named run version 0.2.0");
    made.start();
    expect(made.end()).toBe("done");
    expect([made.restarts, made.broken]).toEqual([[2, 4, 3, 1], []]);
  });

  test("the cluster's feature level rises once every unit speaks the higher one", () => {
    const made = cluster();
    made.announce({ featureLevel: 2 });
    made.start({ only: [2] });
    made.end();
    expect(made.stations.view().cluster?.featureLevel).toBe(1);
    made.start();
    made.changes = { ...made.changes, featureLevel: 2 };
    expect(made.end()).toBe("done");
    made.run(2000);
    expect(made.stations.view().cluster?.featureLevel).toBe(2);
  });
});

test("a unit in maintenance by its owner → the roll waits for its end, then says so", () => {
  const made = cluster();
  made.announce();
  made.stations.ask("maintainUnit", { unit: 3, forMs: 3_600_000, force: false });
  const [code, words] = refusal(() => made.start());
  expect([code, words.includes("box3 is in maintenance")]).toEqual(["notFitting", true]);
  made.stations.ask("endMaintenance", { unit: 3 });
  made.start();
  expect(() =>
    made.stations.ask("endMaintenance", { unit: made.update.current?.unit ?? 0 }),
  ).toThrow();
  expect(made.end()).toBe("done");
});

/** What the roll says when a box has this fault; it takes the place of N. */
const SENTENCES: Record<Exclude<BoxFault, "none">, string> = {
  "fetch fails": "boxN: the file was altered",
  "never installs": "boxN did not write its slot within 3 minutes",
  "never restarts": "boxN did not restart within 1 minute",
  "never returns": "boxN did not come back within 4 minutes",
  "falls back": "boxN came back with version 0.1.0: 0.2.0 failed its trial there",
  "falls back on trial": "boxN came back with version 0.1.0: 0.2.0 failed its trial there",
  "never blessed": "boxN was not found healthy within 2 minutes",
  "resync hangs": "volume a is at-risk, 6 minutes after boxN came back",
};

describe("one box fails", () => {
  for (const [fault, sentence] of Object.entries(SENTENCES)) {
    // A spare has no copies: nothing there can hang.
    const units = fault === "resync hangs" ? [2, 3, 1] : [4, 2, 3, 1];
    for (const unit of units) {
      test(`${fault} on box${unit} → stopped there, nothing goes on by itself`, () => {
        const made = cluster();
        made.break(unit, fault as BoxFault);
        made.announce();
        made.start();
        expect(made.end()).toBe("stopped");
        const words = sentence.replaceAll("N", String(unit)).replace(/volume \w/, "volume");
        expect(made.update.sentence.replace(/volume \w/, "volume")).toBe(
          `the update to version 0.2.0 stopped: ${words}`,
        );
        // Nothing is waited for any more: its copies are made anew by the usual rules.
        expect(made.stations.view().units.get(unit)?.maintenance).toBeUndefined();
        const restarts = [...made.restarts];
        // Units after the one that failed were not touched.
        const order = [4, 2, 3, 1];
        const after = order.slice(order.indexOf(unit) + 1);
        expect(restarts.filter((one) => after.includes(one))).toEqual([]);
        made.run(600_000);
        expect([made.restarts, made.update.state, made.broken]).toEqual([restarts, "stopped", []]);
      });
    }
  }

  test("mended and started again → it goes on with the units that are left", () => {
    const made = cluster();
    made.break(2, "falls back");
    made.announce();
    made.start();
    expect(made.end()).toBe("stopped");
    made.break(2, "none");
    made.run(60_000);
    made.start();
    expect(made.end()).toBe("done");
    expect([made.restarts, made.broken]).toEqual([[4, 2, 2, 3, 1], []]);
  });
});

describe("another unit fails meanwhile", () => {
  /** Pulls the plug of a unit once the roll is so far. */
  function pullAt(made: UpdateFixture, unit: number, reached: () => boolean): void {
    for (let tries = 0; tries < 1000 && !reached(); tries++) made.run(500);
    expect(reached()).toBe(true);
    made.goDown(unit, { inOrder: false });
  }

  for (const phase of ["install", "restart", "settle"] as const) {
    test(`for good, while box2 is in ${phase} → box2 ends its turn at most, then it stops`, () => {
      const made = cluster();
      made.announce();
      made.start();
      pullAt(made, 3, () => {
        const { current } = made.update;
        return current?.unit === 2 && current.phase === phase;
      });
      expect(made.end()).toBe("stopped");
      expect(made.update.sentence).toContain("box3 is away");
      expect(made.restarts.filter((unit) => unit === 1 || unit === 3)).toEqual([]);
      expect(made.broken).toEqual([]);
    });
  }

  test("for a minute → the roll waits for it, and for its copies", () => {
    const made = cluster();
    made.announce();
    made.start();
    pullAt(made, 3, () => made.update.current?.phase === "settle");
    made.run(60_000);
    made.comeUp(3);
    expect(made.end()).toBe("done");
    expect([made.versions.every((version) => version === "0.2.0"), made.broken]).toEqual([
      true,
      [],
    ]);
  });

  test("the control station, at any moment → another goes on with the roll", () => {
    for (let atMs = 1000; atMs < 110_000; atMs += 9500) {
      const made = cluster({ seed: atMs });
      made.announce();
      made.start();
      made.run(atMs);
      const [leader] = made.stations.leaders();
      const turn = made.update.current?.unit;
      if (leader === undefined || leader === turn) continue;
      made.goDown(leader, { inOrder: false });
      made.run(30_000);
      made.comeUp(leader);
      expect([atMs, made.end(), made.broken]).toEqual([atMs, "done", []]);
    }
  });
});

describe("what must be accepted", () => {
  test("a volume of one copy: refused without a yes, offline only while its unit restarts", () => {
    const made = cluster();
    made.stations.createVolume("scratch", 2, "none");
    made.announce();
    const [code, message] = refusal(() => made.start());
    expect([code, message]).toEqual([
      "notFitting",
      expect.stringMatching(
        /say yes to accept that volume scratch \(one copy by choice\) is offline while box\d/,
      ),
    ]);
    made.start({ accept: true });
    expect([made.end(), made.broken]).toEqual(["done", []]);
  });

  test("a volume of one copy made during a roll that accepted none → it stops", () => {
    const made = cluster();
    made.announce();
    made.start();
    made.run(5000);
    made.stations.createVolume("scratch", 2, "none");
    expect(made.end()).toBe("stopped");
    expect(made.update.sentence).toContain("volume scratch (one copy by choice) is offline");
  });

  test("a cluster of one unit: its own restart, and it finds its roll again", () => {
    const made = new UpdateFixture(drainMicrotasks, { units: ["member"] });
    made.announce();
    expect(refusal(() => made.start())[1]).toContain(
      "the control store is away while box1 restarts",
    );
    made.start({ accept: true });
    expect([made.end(), made.versions, made.broken]).toEqual(["done", ["0.2.0"], []]);
  });

  test("two units with one vote: the control store's absence is to be accepted", () => {
    const made = new UpdateFixture(drainMicrotasks, { units: ["member", "member"] });
    made.stations.createVolume("a", 2, "mirror-2");
    made.announce();
    expect(refusal(() => made.start())[1]).toContain(
      "the control store is away while box1 restarts",
    );
    made.start({ accept: true });
    expect([made.end(), made.restarts, made.broken]).toEqual(["done", [2, 1], []]);
  });
});

describe("refused at the start", () => {
  const refused = (made: UpdateFixture, options?: Parameters<UpdateFixture["start"]>[0]) => {
    const answer = refusal(() => made.start(options));
    made.run(120_000);
    expect(made.restarts).toEqual([]);
    return answer;
  };

  test("nothing is loaded, another version is, it rolls already", () => {
    const made = cluster();
    expect(refused(made)[0]).toBe("notFound");
    made.announce();
    const other = { version: "0.3.0", accept: false, downgrade: false, only: null };
    expect(refusal(() => made.stations.ask("startUpdate", other))[1]).toContain(
      "version 0.2.0 is loaded, not 0.3.0",
    );
    made.start();
    expect(refusal(() => made.start())[0]).toBe("conflict");
    const next = { digest: "e".repeat(64), manifest: "{}", signature: "s" };
    expect(refusal(() => made.stations.ask("announceUpdate", next))[0]).toBe("conflict");
  });

  test("a volume that is not protected, a unit away, a unit on trial", () => {
    const made = cluster();
    made.announce();
    made.goDown(3, { inOrder: false });
    made.run(6000);
    expect(refused(made)[1]).toMatch(/box3: it is away.*volume . is /);
    made.comeUp(3);
    made.run(60_000);
    made.box(2).trial = true;
    made.box(2).blessedAtMs = Number.POSITIVE_INFINITY;
    made.run(1000);
    expect(refused(made)[1]).toContain("box2: version 0.1.0 is still on trial there");
  });

  test("no majority known, no unit that holds the files, a unit that is no appliance", () => {
    const made = cluster();
    made.announce();
    made.stations.voters = null;
    expect(refused(made)[1]).toContain("it is not known who votes");
    made.stations.voters = [1, 2, 3];
    made.changes = { holds: null, appliance: false };
    made.run(1000);
    const [, message] = refused(made);
    expect(message).toContain("no unit that is up has the update's files");
    expect(message).toContain("box2: it is not an appliance");
  });

  test("a unit that does not exist, all units up to date", () => {
    const made = cluster({ target: "0.1.0" });
    made.announce();
    expect(refused(made, { only: [9] })[1]).toContain("there is no unit 9");
    expect(refused(made)[1]).toContain("version 0.1.0 runs on all of these units already");
  });

  test("older than what runs, unless wanted; below the disks' format in any case", () => {
    const made = cluster({ target: "0.0.9" });
    made.announce();
    expect(refused(made)[1]).toContain("version 0.0.9 is older than 0.1.0, which runs");
    made.changes = { ...made.changes, diskFormat: 2 };
    made.run(1000);
    expect(refused(made, { downgrade: true })[1]).toContain("disks here have format 2");
    made.changes = { ...made.changes, diskFormat: 1 };
    made.run(1000);
    made.start({ downgrade: true });
    expect([made.end(), made.versions[0]]).toEqual(["done", "0.0.9"]);
  });

  test("what speaks less than the cluster, or two levels more", () => {
    for (const [featureLevel, words] of [
      [3, "take a version in between first"],
      [1, "the cluster is at 2"],
    ] as const) {
      const made = cluster();
      made.announce({ featureLevel });
      if (featureLevel === 1) {
        const { cluster: record } = made.stations.view();
        const puts = [{ key: keys.cluster, value: valueText({ ...record, featureLevel: 2 }) }];
        made.stations.wait(made.stations.any().client.transaction({ ifs: [], puts }));
        made.run(1000);
      }
      expect(refused(made)[1]).toContain(words);
    }
  });
});

describe("told to stop", () => {
  test("in any phase: what restarts comes back, and no other unit follows", () => {
    for (const phase of ["install", "restart", "settle"]) {
      const made = cluster();
      made.announce();
      made.start();
      for (let tries = 0; tries < 500 && made.update.current?.phase !== phase; tries++) {
        made.run(500);
      }
      made.stations.ask("stopUpdate", {});
      expect(made.update.sentence).toBe("the update to version 0.2.0 stopped: it was told to");
      const restarts = made.restarts.length;
      made.run(600_000);
      expect([made.update.state, made.restarts.length, made.broken]).toEqual([
        "stopped",
        restarts,
        [],
      ]);
    }
  });

  test("when nothing rolls → nothing happens", () => {
    const made = cluster();
    made.stations.ask("stopUpdate", {});
    made.announce();
    made.stations.ask("stopUpdate", {});
    expect(made.update.state).toBe("loaded");
  });
});

describe("by itself", () => {
  const auto = (made: UpdateFixture, window: { from: string; to: string } | null) =>
    made.stations.ask("setSettings", { update: { auto: true, window } });

  test("not unless told; then when loaded", () => {
    const made = cluster();
    made.announce();
    made.run(600_000);
    expect(made.update.state).toBe("loaded");
    auto(made, null);
    expect([made.end(), made.broken]).toEqual(["done", []]);
  });

  test("only in its window", () => {
    const made = cluster();
    auto(made, { from: "00:30", to: "01:00" });
    made.announce();
    made.run(1200_000);
    expect(made.update.state).toBe("loaded");
    made.run(900_000);
    expect(made.update.state).not.toBe("loaded");
  });

  test("not where something is to be accepted, and not again after it stopped", () => {
    const made = cluster();
    made.stations.createVolume("scratch", 2, "none");
    auto(made, null);
    made.announce();
    made.run(600_000);
    expect(made.update.state).toBe("loaded");
    const number = made.stations.view().volumeByName("scratch")?.number ?? 0;
    made.stations.ask("deleteVolume", { volume: number });
    made.break(4, "falls back");
    expect(made.end()).toBe("stopped");
    made.run(300_000);
    expect([made.update.state, made.restarts]).toEqual(["stopped", [4]]);
  });
});

test("the plan names order and consequences before anything happens", () => {
  const made = cluster();
  made.stations.createVolume("scratch", 2, "none");
  made.announce();
  const plan = updatePlan(made.stations.view(), { ...made.update, only: null }, [1, 2, 3]);
  expect(plan.order).toEqual([4, 2, 3, 1]);
  expect([plan.refusals, plan.consequences.length]).toEqual([[], 1]);
});
