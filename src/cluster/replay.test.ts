// SPDX-License-Identifier: Apache-2.0
//
// A journal of what a control station decided, replayed by the same code: the same; and what was
// changed in it is found.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { JournalSchema } from "./decision-journal.ts";
import type { Decision, Journal } from "./decision-journal.ts";
import { replayJournal } from "./replay.ts";
import { StationFixture } from "./station-fixture.ts";

/** Units come, volumes are made, one unit dies and its copies are made anew elsewhere. */
function eventful(): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found({ reprotectAfterMs: 20_000 });
  made.addDisk(1, 20);
  for (let unit = 2; unit <= 4; unit++) made.addDisk(made.admit(), 20);
  made.createVolume("one", 6, "mirror-2");
  made.createVolume("two", 3, "mirror-3");
  expect(() => made.createVolume("huge", 500, "mirror-2")).toThrow();
  made.actor = "anna";
  made.ask("setSettings", { protectWithinMs: 3_600_000 });
  made.actor = null;
  made.kill(4);
  made.time.pass(60_000);
  const two = made.view().volumeByName("two")?.number ?? 0;
  made.ask("deleteVolume", { volume: two, graceMs: 2000 });
  made.time.pass(5000);
  return made;
}

/** As it is handed out and read back. */
function journalOf(made: StationFixture): Journal {
  const journal = made.any().station.journal.journal();
  return JournalSchema.parse(JSON.parse(JSON.stringify(journal)));
}
const decided = (journal: Journal): Decision[] =>
  journal.steps.flatMap((step) => (step.kind === "decision" ? [step] : []));

describe("replaying", () => {
  test("the same version → every decision the same, commands refused among them", () => {
    const journal = journalOf(eventful());
    const replayed = replayJournal(journal);
    expect(replayed.filter(({ outcome }) => outcome !== "same")).toEqual([]);
    const by = new Set(replayed.map((one) => one.by));
    for (const name of [
      "upkeep",
      "grace",
      "telling",
      "createVolume",
      "admitUnit",
      "registerDisk",
    ]) {
      expect([name, by.has(name)]).toEqual([name, true]);
    }
    expect(decided(journal).some(({ puts }) => puts.some(([key]) => key === "/slices/1"))).toBe(
      true,
    );
  });

  test("a decision that was another one → found, with the key", () => {
    const journal = journalOf(eventful());
    const victim = decided(journal).find((one) => one.puts.some(([key]) => key === "/slices/1"));
    const put = victim?.puts.find(([key]) => key === "/slices/1");
    if (put === undefined) throw new Error("a slice was placed");
    put[1] = { ...(put[1] as object), copies: 3 };
    const wrong = replayJournal(journal).filter(({ outcome }) => outcome === "different");
    expect(wrong).toHaveLength(1);
    expect(wrong[0]?.differences).toEqual(["/slices/1 is written otherwise"]);
  });

  test("an input that was another one → found by what it decides", () => {
    const journal = journalOf(eventful());
    const named = decided(journal).find((one) => {
      return one.by === "upkeep" && (one.lacks?.slices.length ?? 0) > 0;
    });
    if (named?.lacks === undefined) throw new Error("copies were made anew");
    named.lacks.slices = [];
    const wrong = replayJournal(journal).filter(({ outcome }) => outcome === "different");
    expect(wrong.length).toBeGreaterThan(0);
  });

  test("so many steps that the oldest are folded → what is left is replayed as before", () => {
    const made = eventful();
    for (let round = 0; round < 500; round++) {
      made.ask("setSettings", { diskErrorsMax: 1 + (round % 7) });
    }
    const journal = journalOf(made);
    expect(journal.steps).toHaveLength(2000);
    expect(journal.base.length).toBeGreaterThan(0);
    const replayed = replayJournal(journal);
    expect(replayed.length).toBeGreaterThan(400);
    expect(replayed.filter(({ outcome }) => outcome !== "same")).toEqual([]);
  });
});
