// SPDX-License-Identifier: Apache-2.0
//
// What a loss would mean, by example; and that a rehearsal says what the control station really
// does.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import type { SliceRecord } from "#base/record.ts";
import { StationFixture } from "#cluster/station-fixture.ts";
import { whatIf } from "./what-if.ts";
import type { Subject } from "./what-if.ts";

const GIB = 2 ** 30;

function rack(units: number, gib = 10): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found({ reprotectAfterMs: 30_000 });
  made.addDisk(1, gib);
  for (let unit = 2; unit <= units; unit++) made.addDisk(made.admit(), gib);
  made.voters = [1, 2, 3].slice(0, units);
  return made;
}
const ask = (made: StationFixture, subject: Subject) => whatIf(made.view(), subject, made.voters);
const records = (made: StationFixture): SliceRecord[] => [...made.view().slices.values()];
const headUnit = (made: StationFixture) =>
  made.view().disks.get(records(made)[0]?.head ?? 0)?.unit ?? 0;

describe("a unit lost", () => {
  test("a copy is elsewhere, and room for another → stays up, then protected again", () => {
    const made = rack(3);
    made.createVolume("v", 1, "mirror-2");
    const answer = ask(made, { kind: "unit", unit: headUnit(made) });
    expect(answer).toMatchObject({
      volumes: [{ name: "v", availability: "online", protection: "at-risk", later: "protected" }],
      untouched: 0,
      controlStops: false,
      copiesBytesMax: GIB,
      afterMs: 30_000,
      withoutRoom: 0,
    });
    expect(answer.volumes[0]?.sentence).toBe("stays up, with one copy left; then protected again");
    expect(answer.sentences).toContain("there is room to make every copy anew");
  });

  test("no further unit for a copy → stays up, and is not protected again", () => {
    const made = rack(2);
    made.voters = [1];
    made.createVolume("v", 1, "mirror-2");
    const answer = ask(made, { kind: "unit", unit: 2 });
    expect(answer.volumes[0]).toMatchObject({ availability: "online", later: "at-risk" });
    expect(answer.withoutRoom).toBe(1);
    expect(answer.sentences.join()).toContain("no room, or no further unit");
  });

  test("the other units are full → no room, said beforehand", () => {
    const made = rack(3, 4);
    made.createVolume("v", 3, "mirror-2");
    made.createVolume("w", 2, "mirror-2");
    const answer = ask(made, { kind: "unit", unit: headUnit(made) });
    expect(answer.withoutRoom).toBeGreaterThan(0);
    expect(answer.volumes.some(({ later }) => later !== "protected")).toBe(true);
  });

  test("with the only copy of a volume → that one stops, others stay", () => {
    const made = rack(3);
    made.createVolume("v", 1, "mirror-2");
    made.createVolume("single", 1, "none");
    const single = records(made).find((record) => record.copies === 1) as SliceRecord;
    const unit = made.view().disks.get(single.head)?.unit ?? 0;
    const answer = ask(made, { kind: "unit", unit });
    const lost = answer.volumes.find(({ name }) => name === "single");
    expect(lost).toMatchObject({ availability: "waiting" });
    expect(lost?.sentence).toBe("stops until what was lost is back");
  });

  test("with the control store's majority → what is needed says so, nothing is promised", () => {
    const made = rack(2);
    made.voters = [1];
    made.createVolume("v", 1, "mirror-2");
    const answer = ask(made, { kind: "unit", unit: 1 });
    expect(answer.controlStops).toBe(true);
    expect(answer.sentences.join()).toContain("the control store would stop");
    expect(answer.volumes[0]?.later).not.toBe("protected");
    expect(answer.copiesBytesMax).toBe(0);
  });

  test("that holds nothing → no volume would notice; one nobody knows → refused", () => {
    const made = rack(3);
    made.createVolume("v", 1, "mirror-2");
    const free = made.admit();
    expect(ask(made, { kind: "unit", unit: free }).sentences).toContain("no volume would notice");
    expect(() => ask(made, { kind: "unit", unit: 99 })).toThrow(Fault);
  });
});

describe("a disk or a link lost", () => {
  test("a disk → as its unit's loss, for what lies on it alone", () => {
    const made = rack(3);
    made.createVolume("v", 1, "mirror-2");
    const disk = records(made)[0]?.head ?? 0;
    const answer = ask(made, { kind: "disk", disk });
    expect(answer.volumes[0]).toMatchObject({ availability: "online", later: "protected" });
    expect(() => ask(made, { kind: "disk", disk: 99 })).toThrow("no disk 99");
  });

  test("a disk with the only copy → stops, and does not come back by itself", () => {
    const made = rack(3);
    made.createVolume("single", 1, "none");
    const answer = ask(made, { kind: "disk", disk: records(made)[0]?.head ?? 0 });
    expect(answer.volumes[0]?.sentence).toContain("does not come back by itself");
  });

  test("the link of two members → one copy fewer; a third unit takes its place", () => {
    const made = rack(3);
    made.createVolume("v", 1, "mirror-2");
    const units = records(made)[0]?.inSync.map(
      ({ disk }) => made.view().disks.get(disk)?.unit ?? 0,
    ) as [number, number];
    const answer = ask(made, { kind: "link", units });
    expect(answer.volumes[0]).toMatchObject({ availability: "online", protection: "at-risk" });
    expect(answer.sentences.join()).toContain("attach to the volume's front");
    expect(() => ask(made, { kind: "link", units: [1, 1] })).toThrow("between two units");
  });

  test("a link that no volume uses → nobody would notice", () => {
    const made = rack(3);
    made.createVolume("v", 1, "mirror-2");
    const far: [number, number] = [made.admit(), made.admit()];
    expect(ask(made, { kind: "link", units: far }).volumes).toEqual([]);
  });
});

test("rehearsed and real → the same disks get the new copies", () => {
  const made = rack(4);
  made.createVolume("v", 3, "mirror-2");
  made.createVolume("w", 2, "mirror-3");
  const lost = headUnit(made);
  const before = made.view().revision;
  const answer = ask(made, { kind: "unit", unit: lost });
  // Nothing was changed, not even in the view.
  expect(made.view().revision).toBe(before);
  expect(made.view().isAlive(lost)).toBe(true);
  made.kill(lost);
  made.until("it is away", () => !made.view().isAlive(lost));
  const isLost = (disk: number) => made.view().disks.get(disk)?.unit === lost;
  const owed = records(made).filter((record) => record.inSync.some(({ disk }) => isLost(disk)));
  for (const record of owed) {
    const inSync = record.inSync.filter(({ disk }) => !isLost(disk));
    const head = isLost(record.head) ? (inSync[0]?.disk ?? 0) : record.head;
    made.propose({ ...record, epoch: record.epoch + 1, head, inSync });
  }
  const lacks = () => records(made).filter((one) => one.inSync.length < one.copies);
  const named = () => lacks().filter((record) => record.resyncing.length > 0);
  const roomless = answer.withoutRoom ?? 0;
  made.until("all that can be are named", () => named().length === lacks().length - roomless);
  made.time.pass(5000);
  expect(named()).toHaveLength(owed.length - roomless);
  const bytes = named().reduce((sum, record) => sum + record.sizeBytes, 0);
  expect(bytes).toBe(answer.copiesBytesMax);
});

test("a maintenance → no copy is made anew; others that are in maintenance count as off", () => {
  const made = rack(4);
  made.createVolume("v", 1, "mirror-2");
  const [first] = records(made);
  const [one, two] = (first?.inSync ?? []).map(
    ({ disk }) => made.view().disks.get(disk)?.unit ?? 0,
  ) as [number, number];
  const forMs = 3_600_000;
  const answer = ask(made, { kind: "maintenance", unit: one, forMs });
  expect(answer).toMatchObject({
    volumes: [{ name: "v", availability: "online", protection: "at-risk" }],
    copiesBytesMax: 0,
    afterMs: forMs,
    withoutRoom: 0,
  });
  expect(answer.volumes[0]?.sentence).toContain("whole again soon after the unit is back");
  expect(answer.sentences.join()).toContain("for 60 min at most its copies are waited for");
  const asker = [...made.units.values()].find(({ unit }) => unit !== one);
  made.ask("maintainUnit", { unit: one, forMs, force: false }, asker);
  const both = ask(made, { kind: "maintenance", unit: two, forMs });
  expect(both.volumes).toMatchObject([{ name: "v", availability: "waiting" }]);
  expect(() => ask(made, { kind: "maintenance", unit: 99, forMs })).toThrow("no unit 99");
});

test("an evacuation → what it would copy, and whether all finds room", () => {
  const made = rack(3);
  made.createVolume("v", 2, "mirror-2");
  const unit = headUnit(made);
  const answer = ask(made, { kind: "evacuation", unit });
  expect(answer).toMatchObject({ withoutRoom: 0, afterMs: 0, controlStops: false });
  expect(answer.volumes).toMatchObject([{ name: "v", availability: "online", later: "protected" }]);
  const two = rack(2);
  two.createVolume("v", 2, "mirror-2");
  expect(ask(two, { kind: "evacuation", unit: 2 }).withoutRoom).toBe(2);
});
