// SPDX-License-Identifier: Apache-2.0
//
// An owner's override, as the control station decides it (R3, R8): what is asked, what goes on,
// what is kept, told and given up, and what the rest of the cluster makes of it meanwhile.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { carriedOver } from "#base/record.ts";
import type { SliceRecord } from "#base/record.ts";
import { evacuationOf } from "./evacuation.ts";
import { copyName, goOnOffer, goOnPlan, keptVolumes, parseCopyName } from "./lineages.ts";
import { questionsOf } from "./questions.ts";
import { GIB, StationFixture } from "./station-fixture.ts";
import { costsInWords, removalCosts } from "./unit-changes.ts";

const DAY_MS = 24 * 3600 * 1000;

function rack(units: number): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found({ reprotectAfterMs: DAY_MS });
  made.addDisk(1, 10);
  for (let unit = 2; unit <= units; unit++) made.addDisk(made.admit(), 10);
  return made;
}

const record = (made: StationFixture, slice = 1) => made.view().slices.get(slice) as SliceRecord;
const volume = (made: StationFixture) => made.view().volumes.get(1) ?? null;

/** The head commits what follows, as through its record keeper. */
function commits(made: StationFixture, next: Partial<SliceRecord>): void {
  const now = record(made);
  made.propose(carriedOver(now, { ...now, epoch: now.epoch + 1, ...next }));
}

/**
 * One slice in two copies: the other member leaves, then the head's unit dies, the other is back.
 */
function stands(made: StationFixture): { head: number; other: number } {
  made.createVolume("v", 1, "mirror-2");
  const { head, inSync } = record(made);
  const other = inSync.find(({ disk }) => disk !== head)?.disk ?? 0;
  commits(made, { inSync: inSync.filter(({ disk }) => disk === head) });
  const unit = made.view().disks.get(head)?.unit ?? 0;
  made.kill(unit);
  made.until("it is away", () => !made.view().isAlive(unit));
  return { head, other };
}

function fault(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof Fault) return error.code;
    throw error;
  }
  return "none";
}

describe("a volume that stands still", () => {
  test("the owner is asked, with what each answer loses; goes on; the rest is kept", () => {
    const made = rack(3);
    const { head, other } = stands(made);
    const [question] = questionsOf(made.view(), 0);
    expect(question?.answers.map(({ answer }) => answer)).toEqual([
      "yes: bring it back",
      `no, go on from what disk ${other} of box${other} holds: cairn volume go-on v`,
      "no: cairn volume delete v",
    ]);
    expect(question?.answers[1]?.costs).toStartWith("all that was written since that copy left");
    expect(question?.answers[1]?.costs).toContain("can be read as v@before-1");
    const before = record(made);
    expect(made.ask("goOn", { volume: 1 })).toEqual({ number: 1, left: 0 });
    made.time.pass(200);
    const after = record(made);
    expect(after.lineage).not.toBe(before.lineage);
    expect(after).toMatchObject({
      ancestry: [before.lineage],
      head: other,
      inSync: [{ disk: other, incarnation: 1 }],
      kept: [{ disk: head, lineage: before.lineage, epoch: before.epoch, before: 1 }],
    });
    // When its unit was lost is known from the history.
    expect(after.kept?.[0]?.untilMs).toBeNumber();
    const told = [...made.view().events.values()].filter(
      ({ kind }) => kind === "volume-overridden",
    );
    expect(told.map(({ sentence }) => sentence)).toEqual([
      `volume v goes on without disk ${head} of box${head}, as its owner wishes, from what disk ` +
        `${other} of box${other} holds: all that was written since that copy left is missing in ` +
        "it; what is there alone is kept, to be read as v@before-1",
    ]);
    expect(fault(() => made.ask("goOn", { volume: 1 }))).toBe("conflict");
  });

  test("the kept copy's disk takes no part, its room counts, others are brought up", () => {
    const made = rack(3);
    const { head, other } = stands(made);
    made.ask("goOn", { volume: 1 });
    made.ask("setSettings", { reprotectAfterMs: 0 });
    made.start(head);
    made.until("a member is named", () => record(made).resyncing.length > 0);
    const third = [1, 2, 3].find((disk) => disk !== head && disk !== other);
    expect(record(made).resyncing).toEqual([third ?? 0]);
    expect(made.view().promisedBytes(head)).toBe(GIB);
    expect(record(made).kept).toHaveLength(1);
    const kept = () => keptVolumes(made.view(), volume(made) as never)[0];
    expect(kept()).toMatchObject({ name: "v@before-1", isReadable: false });
    made.ask(
      "tellKept",
      { copies: [{ slice: 1, disk: head, bytes: 7 << 20 }] },
      made.units.get(head),
    );
    made.time.pass(200);
    expect(kept()).toMatchObject({ isReadable: true, copies: [{ disk: head, bytes: 7 << 20 }] });
    const asked = questionsOf(made.view(), 0).find(({ sentence }) =>
      sentence.includes("v@before-1"),
    );
    expect(asked?.answers.map(({ answer }) => answer)).toEqual([
      "yes: leave it, or read it as v@before-1",
      "no: cairn volume discard v@before-1",
    ]);
    // Told once; another unit's disk is not its to tell of.
    made.ask(
      "tellKept",
      { copies: [{ slice: 1, disk: head, bytes: 9 << 20 }] },
      made.units.get(head),
    );
    expect(kept()?.copies[0]?.bytes).toBe(7 << 20);
    const foreign = { copies: [{ slice: 1, disk: head, bytes: 1 }] };
    expect(fault(() => made.ask("tellKept", foreign, made.units.get(other)))).toBe("forbidden");
    expect(
      [...made.view().events.values()].filter(({ kind }) => kind === "copy-kept"),
    ).toHaveLength(1);
  });

  test("its unit is emptied or removed → what is kept holds it up, and is named", () => {
    const made = rack(3);
    const { head } = stands(made);
    made.ask("goOn", { volume: 1 });
    made.start(head);
    made.until("it is back", () => made.view().isAlive(head));
    const costs = costsInWords(removalCosts(made.view(), head, [1]));
    expect(costs.join()).toContain("v@before-1: the copy of before an override is kept there");
    expect(fault(() => made.ask("removeUnit", { unit: head }))).toBe("conflict");
    made.ask("evacuateUnit", { unit: head, thenRemove: true });
    made.time.pass(3000);
    expect(made.view().units.get(head)?.state).toBe("admitted");
    const state = evacuationOf(made.view(), head, 0);
    expect(state?.sentence).toContain("v@before-1 is kept there until it is given up");
    made.ask("discardCopy", { volume: 1, number: 1 });
    made.until("it is removed", () => made.view().units.get(head)?.state === "removed");
  });

  test("given up → the disk may take a copy again; not twice", () => {
    const made = rack(2);
    const { head } = stands(made);
    made.ask("goOn", { volume: 1 });
    made.ask("setSettings", { reprotectAfterMs: 0 });
    made.start(head);
    made.time.pass(3000);
    expect(record(made).resyncing).toEqual([]);
    expect(fault(() => made.ask("discardCopy", { volume: 1, number: 2 }))).toBe("notFound");
    expect(made.ask("discardCopy", { volume: 1, number: 1 })).toEqual({ left: 0 });
    expect(record(made).kept).toEqual([]);
    made.until("it is brought up", () => record(made).resyncing.includes(head));
    expect(fault(() => made.ask("discardCopy", { volume: 1, number: 1 }))).toBe("notFound");
  });
});

describe("what does not go on by an owner's word", () => {
  test("a volume that serves, or fails over by itself", () => {
    const made = rack(3);
    made.createVolume("v", 1, "mirror-2");
    expect(fault(() => made.ask("goOn", { volume: 1 }))).toBe("conflict");
    const unit = made.view().disks.get(record(made).head)?.unit ?? 0;
    made.kill(unit);
    made.until("it is away", () => !made.view().isAlive(unit));
    // The other member is there, in its run: it takes over.
    expect(goOnPlan(made.view(), volume(made) as never).steps).toEqual([]);
    expect(fault(() => made.ask("goOn", { volume: 1 }))).toBe("conflict");
  });

  test("one of which no disk that works holds anything", () => {
    const made = rack(2);
    made.createVolume("single", 1, "none");
    const unit = made.view().disks.get(record(made).head)?.unit ?? 0;
    made.kill(unit);
    made.until("it is away", () => !made.view().isAlive(unit));
    expect(goOnOffer(made.view(), volume(made) as never)).toBeNull();
    expect(fault(() => made.ask("goOn", { volume: 1 }))).toBe("conflict");
    const [question] = questionsOf(made.view(), 0);
    expect(question?.answers).toHaveLength(2);
  });

  test("a member that started again, before it says that it waits", () => {
    const made = rack(3);
    made.createVolume("v", 1, "mirror-2");
    const { head, inSync, epoch } = record(made);
    const other = inSync.find(({ disk }) => disk !== head)?.disk ?? 0;
    for (const unit of [head, other]) made.kill(unit);
    made.until("both are away", () => !made.view().isAlive(head) && !made.view().isAlive(other));
    const back = made.start(other);
    made.until("one is back", () => made.view().isAlive(other));
    const disk = made.view().disks.get(other);
    const { uuid = "", path = "", sizeBytes = 0 } = disk ?? {};
    made.ask("registerDisk", { uuid, path, sizeBytes, incarnation: 2 }, back);
    expect(fault(() => made.ask("goOn", { volume: 1 }))).toBe("conflict");
    back.news = [{ slice: 1, epoch, availability: "waiting", waitsFor: `disk ${head} to answer` }];
    made.until("it told", () => (made.view().alive.get(other)?.slices?.length ?? 0) > 0);
    const offer = goOnOffer(made.view(), volume(made) as never);
    expect(offer?.costs).toStartWith("what was written shortly before the power went");
    const [question] = questionsOf(made.view(), 0);
    expect(question?.sentence).toContain(`waits for box${head}, which is away`);
    made.ask("goOn", { volume: 1 });
    expect(record(made)).toMatchObject({ head: other, inSync: [{ disk: other, incarnation: 2 }] });
    expect(record(made).kept?.map((copy) => copy.disk)).toEqual([head]);
  });
});

test("who left last goes on; one that was being brought up only where there is no other", () => {
  const made = rack(4);
  made.createVolume("v", 1, "mirror-3");
  const { head, inSync } = record(made);
  const [first, second] = inSync.filter(({ disk }) => disk !== head).map(({ disk }) => disk);
  commits(made, { inSync: inSync.filter(({ disk }) => disk !== first) });
  commits(made, { inSync: inSync.filter(({ disk }) => disk === head) });
  const kill = (disk: number) => {
    made.kill(disk);
    made.until("it is away", () => !made.view().isAlive(disk));
  };
  kill(head);
  const chosen = () => goOnPlan(made.view(), volume(made) as never).steps[0]?.disk;
  expect(chosen()).toBe(second);
  commits(made, { resyncing: [second ?? 0] });
  expect(chosen()).toBe(first);
  kill(first ?? 0);
  expect(chosen()).toBe(second);
  expect(goOnOffer(made.view(), volume(made) as never)?.costs).toContain("mixture of old and new");
});

test("names of kept copies", () => {
  expect(parseCopyName(copyName("v1", 3))).toEqual({ volume: "v1", number: 3 });
  for (const text of ["v1", "v1@before-", "v1@before-x", "@before-1", "v1@before-1234567890"]) {
    expect(parseCopyName(text)).toBeNull();
  }
});
