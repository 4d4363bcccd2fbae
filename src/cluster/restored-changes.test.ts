// SPDX-License-Identifier: Apache-2.0
//
// After a restore: what the restored state begins with, what is settled when, what waits, what the
// owner may take as it is, and volumes that only the disks know.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import type { SliceRecord } from "#base/record.ts";
import type { BackupEntry } from "./control-backup.ts";
import { questionsOf } from "./questions.ts";
import { EPOCH_JUMP } from "./restored-slices.ts";
import { restoredState } from "./restored-state.ts";
import { StationFixture, unitArguments } from "./station-fixture.ts";
import { keys, valueText } from "./state.ts";
import { volumeState } from "./volume-state.ts";

const SECOND = { number: 2, id: "a0".repeat(16) };

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof Fault) return error.code;
    throw error;
  }
  return "none";
}

/** Two units with a disk each, and a volume of one slice. */
function cluster(): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  made.admit();
  for (const unit of [1, 2]) made.addDisk(unit, 100);
  made.createVolume("v", 1, "mirror-2");
  return made;
}

function backupOf(made: StationFixture): BackupEntry[] {
  const { entries } = made.core.read("/");
  return entries.flatMap(({ key, value, lease }) => (lease === null ? [[key, value]] : []));
}

/** Another control store that begins with a backup; both units have come along. */
function restored(backup: readonly BackupEntry[], generation = SECOND): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  for (const [key, value] of restoredState(backup, generation).entries) {
    made.core.commit({ ifs: [], puts: [{ key, value }] });
  }
  for (const unit of [1, 2]) made.start(unit);
  made.until("somebody leads", () => made.leaders().length === 1);
  return made;
}

function tell(
  made: StationFixture,
  unit: number,
  disk: number,
  records: SliceRecord[],
  isLast = true,
): void {
  const args = { disk, generation: SECOND.id, records, isLast };
  made.ask("tellHeld", args, made.units.get(unit));
}

function sliceOf(made: StationFixture): SliceRecord {
  const [record] = made.view().slices.values();
  if (record === undefined) throw new Error("no slice");
  return record;
}

describe("what a restored state begins with", () => {
  test("slices are claims, numbers jump, leases and voters go, a generation begins", () => {
    const made = cluster();
    const before = made.view();
    const made2 = restored(backupOf(made));
    const after = made2.view();
    expect([after.slices.size, [...after.restored.keys()]]).toEqual([0, [1]]);
    for (const kind of ["unit", "disk", "volume", "slice", "event"] as const) {
      expect(after.numbers?.[kind]).toBeGreaterThan((before.numbers?.[kind] ?? 0) + 100);
    }
    expect(after.voters.size).toBe(0);
    expect([after.cluster?.generation, after.cluster?.generationId]).toEqual([2, SECOND.id]);
    expect(after.sliceIsDeleted(1)).toBe(false);
    const volume = after.volumeByName("v");
    if (volume === null) throw new Error("the volume is gone");
    expect(volumeState(after, volume).availability).toBe("waiting");
    expect(volumeState(after, volume).waitsFor.join()).toContain("to tell what it holds");
  });

  test("two generations of one number begin elsewhere, and a later one beyond both", () => {
    const backup = backupOf(cluster());
    const firstSlice = (generation: { number: number; id: string }) =>
      restoredState(backup, generation).cluster.sliceFrom ?? 0;
    const one = firstSlice(SECOND);
    const other = firstSlice({ number: 2, id: "b7".repeat(16) });
    const later = firstSlice({ number: 3, id: "00".repeat(16) });
    expect(one).not.toBe(other);
    expect(later).toBeGreaterThan(Math.max(one, other));
  });

  test("a volume that was being made, a slice that cannot be read → claims of the volume", () => {
    const backup = backupOf(cluster()).map(([key, value]): BackupEntry => {
      if (key === keys.slice(1)) return [key, "{"];
      if (key !== keys.volume(1)) return [key, value];
      return [key, valueText({ ...JSON.parse(value), state: "creating", slices: [1, 2] })];
    });
    const made = restored(backup);
    made.time.pass(5000);
    expect([...made.view().restored.values()].map(({ slice, record }) => [slice, record])).toEqual([
      [1, null],
      [2, null],
    ]);
    expect(made.view().slices.size).toBe(0);
  });

  test("without the cluster's record, or of a generation as high → refused", () => {
    const backup = backupOf(cluster());
    const without = backup.filter(([key]) => key !== keys.cluster);
    expect(codeOf(() => restoredState(without, SECOND))).toBe("corrupt");
    const again = { number: 1, id: "f".repeat(32) };
    expect(codeOf(() => restoredState(backup, again))).toBe("conflict");
  });
});

describe("what disks tell", () => {
  test("one of two told → it waits; both → the record goes on, its epoch far beyond", () => {
    const made = cluster();
    const record = sliceOf(made);
    const after = restored(backupOf(made));
    tell(after, 1, 1, [record]);
    after.time.pass(3000);
    expect(after.view().slices.size).toBe(0);
    const [question] = questionsOf(after.view(), 0);
    expect(question?.sentence).toContain("after the restore volume v waits for");
    tell(after, 2, 2, [record]);
    after.until("settled", () => after.view().slices.size === 1);
    expect(sliceOf(after)).toEqual({ ...record, epoch: record.epoch + EPOCH_JUMP });
    expect(after.view().restored.size).toBe(0);
    // Told again, as after a restart of the unit: nothing changes.
    tell(after, 1, 1, [record]);
    expect(sliceOf(after).epoch).toBe(record.epoch + EPOCH_JUMP);
  });

  test("a later record names a disk that the backup does not → that one is waited for", () => {
    const made = cluster();
    const backup = backupOf(made);
    const record = sliceOf(made);
    made.admit();
    const third = made.addDisk(3, 100);
    const moved = {
      ...record,
      epoch: record.epoch + 2,
      inSync: [record.inSync[0] as SliceRecord["inSync"][0], { disk: third, incarnation: 1 }],
    };
    const after = restored(backup);
    tell(after, 1, 1, [moved]);
    tell(after, 2, 2, [record]);
    after.time.pass(3000);
    expect(after.view().slices.size).toBe(0);
    // The unit comes along as another one; its disk keeps the number by which it is named.
    const { unit } = after.ask("admitUnit", unitArguments(3, "member"));
    expect(unit).toBeGreaterThan(3);
    const asker = after.start(unit);
    after.time.pass(500);
    const disk = made.view().disks.get(third);
    if (disk === undefined) throw new Error("no third disk");
    const { uuid, path, sizeBytes } = disk;
    const args = { uuid, path, sizeBytes, incarnation: 2, number: third };
    expect(after.ask("registerDisk", args, asker).disk).toBe(third);
    tell(after, unit, third, [moved]);
    after.until("settled", () => after.view().slices.size === 1);
    expect(sliceOf(after).epoch).toBe(moved.epoch + EPOCH_JUMP);
  });

  test("both are there and hold nothing → it waits, and the owner is told", () => {
    const after = restored(backupOf(cluster()));
    tell(after, 1, 1, []);
    tell(after, 2, 2, []);
    after.time.pass(3000);
    expect(after.view().slices.size).toBe(0);
    expect(questionsOf(after.view(), 0)[0]?.sentence).toContain("was it deleted after the backup");
    after.ask("deleteVolume", { volume: 1 });
    after.until("gone", () => after.view().volumes.size === 0);
    expect(after.view().restored.size).toBe(0);
  });

  test("of another generation, of another unit's disk → refused, and nothing is taken", () => {
    const made = cluster();
    const record = sliceOf(made);
    const after = restored(backupOf(made));
    const wrong = { disk: 1, generation: "0".repeat(32), records: [record], isLast: true };
    expect(codeOf(() => after.ask("tellHeld", wrong, after.units.get(1)))).toBe("conflict");
    expect(codeOf(() => tell(after, 2, 1, [record]))).toBe("forbidden");
    expect(after.view().restored.get(1)?.held).toEqual([]);
  });

  test("a unit that is to be removed once it is empty stays while slices are not settled", () => {
    const made = cluster();
    made.admit();
    made.addDisk(3, 100);
    made.ask("evacuateUnit", { unit: 2, thenRemove: true });
    const after = restored(backupOf(made));
    after.time.pass(10_000);
    expect(after.view().units.get(2)?.state).toBe("admitted");
  });
});

describe("histories (R8)", () => {
  test("a lineage that grew from the backup's wins, whatever its number; what lost is kept", () => {
    const made = cluster();
    const [one, other] = [sliceOf(made), sliceOf(made)].map((record) => ({
      ...record,
      lineage: 900,
      epoch: 7,
    }));
    if (one === undefined || other === undefined) throw new Error("no slice");
    const backup = backupOf(made).map(([key, value]): BackupEntry => {
      return key === keys.slice(1) ? [key, valueText(one)] : [key, value];
    });
    const after = restored(backup);
    // Its owner went on with disk 1 after the backup: a lower number, and a later history.
    const went = { ...one, lineage: 30, ancestry: [900], epoch: 8, inSync: one.inSync.slice(0, 1) };
    tell(after, 2, 2, [other]);
    tell(after, 1, 1, [{ ...went, head: 1 }]);
    after.until("settled", () => after.view().slices.size === 1);
    const { lineage, inSync, kept } = sliceOf(after);
    expect([lineage, inSync.map(({ disk }) => disk)]).toEqual([30, [1]]);
    expect(kept).toMatchObject([{ disk: 2, lineage: 900, epoch: 7, before: 1 }]);
  });

  test("two histories of which neither grew from the other → the owner is asked", () => {
    const made = cluster();
    const record = sliceOf(made);
    const after = restored(backupOf(made));
    const one = {
      ...record,
      lineage: 30,
      ancestry: [1],
      inSync: record.inSync.slice(0, 1),
      head: 1,
    };
    const two = { ...record, lineage: 40, ancestry: [1], inSync: record.inSync.slice(1), head: 2 };
    tell(after, 1, 1, [one]);
    tell(after, 2, 2, [two]);
    after.time.pass(3000);
    expect(after.view().slices.size).toBe(0);
    expect(questionsOf(after.view(), 0)).toHaveLength(1);
    after.ask("acceptVolume", { volume: 1 });
    after.until("settled", () => after.view().slices.size === 1);
    const { ancestry, inSync, kept } = sliceOf(after);
    expect([ancestry, inSync.map(({ disk }) => disk)]).toEqual([[1, 30], [1]]);
    expect(kept?.map(({ disk }) => disk)).toEqual([2]);
  });
});

describe("volumes that only the disks know", () => {
  test("they come back by number, whatever order their slices are told in", () => {
    const made = cluster();
    const backup = backupOf(made);
    const number = made.createVolume("later", 2, "mirror-2");
    const found = [...made.view().slices.values()].filter(({ volume }) => volume === number);
    const after = restored(backup);
    tell(after, 1, 1, [...found].reverse(), false);
    tell(after, 2, 2, found);
    after.until("settled", () => after.view().slices.size === 2);
    const volume = after.view().volumes.get(number);
    expect([volume?.name, volume?.sizeBytes, volume?.protection, volume?.hosts]).toEqual([
      `found-${number}`,
      2 * 2 ** 30,
      "mirror-2",
      [],
    ]);
    expect(volume?.slices).toEqual(found.map(({ slice }) => slice));
    expect(after.createVolume("new", 1, "mirror-2")).toBeGreaterThan(number);
  });
});

describe("the owner takes what is there", () => {
  test("one disk never comes back → a lineage of its own, of the newest record there is", () => {
    const made = cluster();
    const record = sliceOf(made);
    const after = restored(backupOf(made));
    expect(codeOf(() => after.ask("acceptVolume", { volume: 1 }))).toBe("notFound");
    tell(after, 1, 1, [record]);
    expect(after.ask("acceptVolume", { volume: 1 })).toEqual({ slices: 1, left: 0 });
    after.until("settled", () => after.view().slices.size === 1);
    const { lineage, ancestry, inSync, head } = sliceOf(after);
    expect(lineage).toBeGreaterThan(record.lineage);
    expect([ancestry, inSync.map(({ disk }) => disk), head]).toEqual([[record.lineage], [1], 1]);
    expect(codeOf(() => after.ask("acceptVolume", { volume: 1 }))).toBe("conflict");
    // What it holds is of a history that is over.
    tell(after, 2, 2, [record]);
    expect(sliceOf(after).lineage).toBe(lineage);
  });
});
