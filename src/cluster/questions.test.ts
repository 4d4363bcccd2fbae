// SPDX-License-Identifier: Apache-2.0
//
// What an owner is asked, and what not: by example.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import type { SliceRecord } from "#base/record.ts";
import { questionsOf } from "./questions.ts";
import { StationFixture } from "./station-fixture.ts";

const DAY_MS = 24 * 3600 * 1000;

function rack(units: number, gib = 10): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found({ reprotectAfterMs: DAY_MS });
  made.addDisk(1, gib);
  for (let unit = 2; unit <= units; unit++) made.addDisk(made.admit(), gib);
  return made;
}
const asked = (made: StationFixture) => questionsOf(made.view(), 0);
const records = (made: StationFixture): SliceRecord[] => [...made.view().slices.values()];

/** The other members go on without a disk, as heads see to it (R2). */
function without(made: StationFixture, disk: number): void {
  for (const record of records(made)) {
    const inSync = record.inSync.filter((member) => member.disk !== disk);
    if (inSync.length === 0 || inSync.length === record.inSync.length) continue;
    const head = record.head === disk ? (inSync[0]?.disk ?? 0) : record.head;
    made.propose({ ...record, epoch: record.epoch + 1, head, inSync });
  }
}

describe("an owner is asked", () => {
  test("nothing, while all is well or mends itself", () => {
    const made = rack(3);
    made.createVolume("v", 1, "mirror-2");
    expect(asked(made)).toEqual([]);
    const head = made.view().disks.get(records(made)[0]?.head ?? 0)?.unit ?? 0;
    const disk = records(made)[0]?.head ?? 0;
    made.kill(head);
    made.until("it is away", () => !made.view().isAlive(head));
    without(made, disk);
    // A third unit has room: nobody needs to decide anything.
    expect(asked(made)).toEqual([]);
  });

  test("whether a disk that failed is used again; not of one that was taken out", () => {
    const made = rack(2);
    made.createVolume("v", 1, "mirror-2");
    const loss = { disk: 2, incarnation: 1, reason: "write failed: EIO" };
    made.ask("loseDisk", { ...loss, isOut: true }, made.units.get(2));
    expect(asked(made).filter(({ about }) => about.startsWith("disk"))).toEqual([]);
    made.ask("loseDisk", { ...loss, isOut: false }, made.units.get(2));
    const [question] = asked(made).filter(({ about }) => about.startsWith("disk"));
    expect(question?.sentence).toBe(
      "disk 2 of box2 is out of use (write failed: EIO): is it to be used again?",
    );
    expect(question?.answers.map(({ answer }) => answer)).toEqual([
      "yes: cairn disk return 2",
      "no: cairn disk retire 2, then pull it",
    ]);
    expect(question?.answers[1]?.costs).toStartWith("nothing; its other copies");
    made.ask("retireDisk", { disk: 2 });
    expect(asked(made).filter(({ about }) => about.startsWith("disk"))).toEqual([]);
  });

  test("whether the only current copies come back: the answer that loses says what", () => {
    const made = rack(2);
    made.createVolume("single", 1, "none");
    const unit = made.view().disks.get(records(made)[0]?.head ?? 0)?.unit ?? 0;
    made.kill(unit);
    made.until("it is away", () => !made.view().isAlive(unit));
    const [question] = asked(made);
    expect(question?.sentence).toBe(
      `the only current copies of part of volume single are on box${unit}, which is away: ` +
        "can that be brought back?",
    );
    expect(question?.answers).toEqual([
      { answer: "yes: bring it back", costs: "nothing; the volume serves again by itself" },
      { answer: "no: cairn volume delete single", costs: "all that is on single (1 GiB)" },
    ]);
    // Deleted, it can be taken back for a day: until then nobody is asked about it.
    const [volume] = made.view().volumes.keys();
    made.ask("deleteVolume", { volume: volume ?? 0, graceMs: DAY_MS });
    expect(asked(made)).toEqual([]);
    made.ask("restoreVolume", { volume: volume ?? 0 });
    expect(asked(made)).toHaveLength(1);
  });

  test("whether there is to be more room, where a copy finds none", () => {
    const made = rack(2);
    made.createVolume("v", 1, "mirror-2");
    made.kill(2);
    made.until("it is away", () => !made.view().isAlive(2));
    without(made, 2);
    const [question] = asked(made);
    expect(question?.about).toBe("volume v");
    expect(question?.sentence).toContain("no other unit has room for it");
  });

  test("whether an evacuation that waits is kept up", () => {
    const made = rack(2);
    made.createVolume("v", 1, "mirror-2");
    made.ask("evacuateUnit", { unit: 2, thenRemove: false });
    made.time.pass(2000);
    const [question] = asked(made);
    expect(question?.sentence).toStartWith("box2 cannot be emptied (0 of 1 slices are moved");
    expect(question?.answers[1]?.answer).toBe("no: cairn unit keep box2");
  });
});
