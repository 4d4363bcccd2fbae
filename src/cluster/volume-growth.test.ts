// SPDX-License-Identifier: Apache-2.0
//
// A volume grows: by its last slice, by more of them, in parts; asked twice, by two at once, with
// the station lost, a head away, the room gone or the volume deleted in the middle. And what is
// refused, in words.

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { VOLUME_SLICES_MAX } from "#base/limits.ts";
import type { SliceRecord } from "#base/record.ts";
import type { BackupEntry } from "./control-backup.ts";
import { askedBytes } from "./host-state.ts";
import { EPOCH_JUMP } from "./restored-slices.ts";
import { restoredState } from "./restored-state.ts";
import { GIB, StationFixture } from "./station-fixture.ts";
import { keys, valueText } from "./state.ts";
import type { VolumeRecord } from "./state.ts";
import { volumeState } from "./volume-state.ts";

const MIB = 2 ** 20;

function faultOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof Fault) return `${error.code} ${error.message}`;
    throw error;
  }
  return "none";
}

/** A raised feature level, as once all units speak it. */
function raise(made: StationFixture, featureLevel: number): void {
  const { cluster } = made.view();
  made.core.commit({
    ifs: [],
    puts: [{ key: keys.cluster, value: valueText({ ...cluster, featureLevel }) }],
  });
  made.time.pass(100);
}

/** Units with a disk each, from `first` on, and a volume of one and a half slices. */
function cluster(units = 3, gib = 100, first = 1): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found();
  for (let unit = 2; unit <= units; unit++) made.admit();
  for (let unit = first; unit <= units; unit++) made.addDisk(unit, gib);
  raise(made, 2);
  made.createVolume("v", 1.5, "mirror-2");
  return made;
}

function volumeOf(made: StationFixture, number = 1): VolumeRecord {
  const volume = made.view().volumes.get(number);
  if (volume === undefined) throw new Error(`no volume ${number}`);
  return volume;
}

function sizes(made: StationFixture): number[] {
  return made
    .view()
    .slicesOfVolume(volumeOf(made))
    .map((record) => record?.sizeBytes ?? 0);
}

function grow(made: StationFixture, gib: number): void {
  made.ask("growVolume", { volume: 1, sizeBytes: gib * GIB });
}

function grown(made: StationFixture, gib: number): void {
  made.until(`it has ${gib} GiB`, () => {
    const { sizeBytes, growth } = volumeOf(made);
    return sizeBytes === gib * GIB && growth === undefined;
  });
}

function told(made: StationFixture, kind: string): string[] {
  const events = [...made.view().events.values()].filter((event) => event.kind === kind);
  return events.map(({ sentence }) => sentence);
}

describe("it grows", () => {
  test("within its last slice → that one's record alone, its members as they are", () => {
    const made = cluster();
    const before = made.view().slicesOfVolume(volumeOf(made));
    made.actor = "root";
    grow(made, 1.75);
    grown(made, 1.75);
    const [first, last] = made.view().slicesOfVolume(volumeOf(made));
    expect(first).toEqual(before[0] as never);
    expect(last).toMatchObject({ epoch: 2, sizeBytes: 0.75 * GIB, inSync: before[1]?.inSync });
    const [asked] = [...made.view().events.values()].filter(({ kind }) => kind === "volume-grows");
    expect(asked).toMatchObject({ actor: "root", volume: 1 });
    expect(told(made, "volume-grows")).toEqual([
      "volume v is to grow from 1.5 GiB to 1.8 GiB: its last slice becomes larger",
    ]);
    expect(told(made, "volume-grown")).toHaveLength(1);
  });

  test("within the last slice's last region → no record changes", () => {
    const made = new StationFixture(drainMicrotasks);
    made.found();
    made.addDisk(1, 10);
    raise(made, 2);
    made.ask("createVolume", { name: "v", sizeBytes: 4096, protection: "none" });
    made.until("ready", () => volumeOf(made).state === "ready");
    grow(made, 2 / 1024);
    grown(made, 2 / 1024);
    expect(made.view().slicesOfVolume(volumeOf(made))[0]).toMatchObject({
      epoch: 1,
      sizeBytes: 4 * MIB,
    });
  });

  test("by more slices → the last one whole, the others behind it, all of it counted", () => {
    const made = cluster();
    const [, before] = made.view().slicesOfVolume(volumeOf(made));
    grow(made, 4.25);
    grown(made, 4.25);
    expect(sizes(made)).toEqual([GIB, GIB, GIB, GIB, 0.25 * GIB]);
    const records = made.view().slicesOfVolume(volumeOf(made));
    expect(records.map((record) => record?.index)).toEqual([0, 1, 2, 3, 4]);
    expect(records[1]).toMatchObject({ epoch: 2, inSync: before?.inSync });
    for (const record of records.slice(2)) {
      expect(record).toMatchObject({ epoch: 1, head: before?.head, copies: 2 });
    }
    const promised = [1, 2, 3].reduce((sum, disk) => sum + made.view().promisedBytes(disk), 0);
    expect(promised).toBe(2 * 4.25 * GIB);
    expect(volumeState(made.view(), volumeOf(made))).toMatchObject({ protection: "protected" });
  });

  test("by very many slices → in parts, and nobody sees some of them before all are there", () => {
    const made = cluster(3, 500);
    const lengths = new Set<number>();
    made.view().onChange(() => lengths.add(volumeOf(made).slices.length));
    grow(made, 200);
    grown(made, 200);
    expect([...lengths].sort((a, b) => a - b)).toEqual([2, 200]);
    expect(sizes(made).every((bytes) => bytes === GIB)).toBe(true);
    grow(made, 200.5);
    grown(made, 200.5);
    expect(sizes(made).at(-1)).toBe(0.5 * GIB);
  });

  test("asked again, while it grows or after → done once", () => {
    const made = cluster();
    grow(made, 5);
    grow(made, 5);
    grown(made, 5);
    grow(made, 5);
    made.time.pass(500);
    expect(sizes(made)).toHaveLength(5);
    expect(told(made, "volume-grows")).toHaveLength(1);
    expect(told(made, "volume-grown")).toHaveLength(1);
  });

  test("two ask at once for different sizes → one after the other, or refused; never less", () => {
    const made = cluster();
    const asks = [3, 6, 4].map((gib, index) => {
      const commands = made.units.get(index + 1)?.commands;
      return commands?.ask("growVolume", { volume: 1, sizeBytes: gib * GIB });
    });
    const ends = made.wait(Promise.allSettled(asks));
    const done = [3, 6, 4].filter((_, index) => ends[index]?.status === "fulfilled");
    expect(done.length).toBeGreaterThan(0);
    for (const end of ends) {
      if (end.status === "rejected") expect((end.reason as Fault).code).toBe("conflict");
    }
    grown(made, Math.max(...done));
    expect(sizes(made)).toHaveLength(Math.max(...done));
  });

  test("the station dies at any moment → another one goes on to the end", () => {
    for (let afterMs = 0; afterMs < 24; afterMs += 2) {
      // The station's unit holds nothing of the volume.
      const made = cluster(4, 300, 2);
      const [leader = 0] = made.leaders();
      const asker = [...made.units.values()].find(({ unit }) => unit !== leader);
      const asked = asker?.commands.ask("growVolume", { volume: 1, sizeBytes: 120 * GIB }, 60_000);
      asked?.catch(() => undefined);
      made.time.pass(4 + afterMs);
      made.kill(leader);
      // Whether it was begun is not known: asked again, it is done once.
      made.until("somebody leads", () => made.leaders().length === 1);
      grow(made, 120);
      grown(made, 120);
      expect(sizes(made)).toHaveLength(120);
      expect(new Set(volumeOf(made).slices).size).toBe(120);
      expect(told(made, "volume-grown")).toHaveLength(1);
    }
  });

  test("its head's records change meanwhile → both are there in the end", () => {
    const made = cluster();
    grow(made, 60);
    for (let turn = 0; turn < 20; turn++) {
      const record = made.view().slices.get(volumeOf(made).slices[1] ?? 0);
      if (record === undefined) throw new Error("no slice");
      try {
        made.propose({ ...record, epoch: record.epoch + 1 });
      } catch {
        made.time.pass(3); // The station was first.
      }
    }
    grown(made, 60);
    expect(sizes(made)[1]).toBe(GIB);
  });
});

describe("it does not", () => {
  test("smaller, off the grid, past the most, not there, deleted → refused in words", () => {
    const made = cluster();
    const to = (sizeBytes: number, volume = 1) =>
      faultOf(() => made.ask("growVolume", { volume, sizeBytes }));
    expect(to(GIB)).toStartWith("conflict");
    expect(to(GIB)).toContain(
      "is never made smaller: what lies behind a smaller end would be lost",
    );
    expect(to(2 * GIB + 512)).toStartWith("badRequest");
    expect(to((VOLUME_SLICES_MAX + 1) * GIB)).toContain("at most 64 TiB here");
    expect(to(2 * GIB, 9)).toStartWith("notFound");
    made.ask("deleteVolume", { volume: 1, graceMs: 60_000 });
    expect(to(2 * GIB)).toContain("take it back first");
    expect(volumeOf(made).growth).toBeUndefined();
  });

  test("a unit speaks an older feature level → not before it is updated", () => {
    const made = cluster();
    raise(made, 1);
    expect(faultOf(() => grow(made, 2))).toContain("update all its units first");
    raise(made, 2);
    grow(made, 2);
    grown(made, 2);
  });

  test("more than there is room for → how much there may be", () => {
    const made = cluster(2, 10);
    expect(faultOf(() => grow(made, 20))).toContain(
      "10 GiB is missing: volume v may have at most 10 GiB now, 20 GiB was asked for",
    );
    grow(made, 10);
    grown(made, 10);
    expect(made.view().promisedBytes(1)).toBe(10 * GIB);
  });

  test("no room beside its last slice, but elsewhere → which disk, and what helps", () => {
    const made = new StationFixture(drainMicrotasks);
    made.found();
    for (let unit = 2; unit <= 4; unit++) made.admit();
    for (const unit of [1, 2]) made.addDisk(unit, 2);
    raise(made, 2);
    made.createVolume("v", 1.5, "mirror-2");
    made.createVolume("w", 0.25, "mirror-2");
    for (const unit of [3, 4]) made.addDisk(unit, 100);
    const fault = faultOf(() => grow(made, 2));
    expect(fault).toStartWith("noSpace");
    expect(fault).toContain("the volume's last part lies on disk 1");
    expect(fault).toContain("256 MiB left, and needs 512 MiB more there");
  });

  test("its last part has no head now → notReady; away in the middle → when it is back", () => {
    const made = cluster(4, 100);
    const last = made.view().slices.get(volumeOf(made).slices[1] ?? 0);
    const head = made.view().disks.get(last?.head ?? 0)?.unit ?? 0;
    // Somebody else leads, so that the death is one of a head alone.
    made.kill(head);
    made.until("it is missed", () => !made.view().isAlive(head));
    made.until("somebody leads", () => made.leaders().length === 1);
    expect(faultOf(() => grow(made, 2))).toStartWith("notReady");
    const other = last?.inSync.find(({ disk }) => disk !== last.head);
    if (last === undefined || other === undefined) throw new Error("no slice");
    made.propose({ ...last, epoch: 2, head: other.disk, inSync: [other] });
    grow(made, 2);
    grown(made, 2);
    expect(sizes(made)).toEqual([GIB, GIB]);
  });

  test("the room goes to others in the middle → taken back whole, said, and asked anew", () => {
    const made = cluster(2, 200);
    // As if it was accepted just before the other volume was made.
    const volume = volumeOf(made);
    const slices = Array.from({ length: 100 }, (_, index) => 50_000 + index);
    const growth = { sizeBytes: 102 * GIB, slices };
    const wish = { name: "w", sizeBytes: 150 * GIB, protection: "mirror-2" as const };
    made.ask("createVolume", wish);
    made.until("w is ready", () => volumeOf(made, 2).state === "ready");
    const numbers = { ...made.view().numbers, slice: 60_000 };
    made.core.commit({
      ifs: [],
      puts: [
        { key: keys.numbers, value: valueText(numbers) },
        { key: keys.volume(1), value: valueText({ ...volume, growth }) },
      ],
    });
    made.until("it is begun", () => told(made, "volume-growth-refused").length > 0);
    made.until("it is over", () => volumeOf(made).growth === undefined);
    expect(volumeOf(made)).toMatchObject({ sizeBytes: 1.5 * GIB, slices: volume.slices });
    expect([...made.view().slices.keys()].filter((number) => number >= 50_000)).toEqual([]);
    expect(told(made, "volume-growth-refused")[0]).toContain("stays as it is");
    grow(made, 10);
    grown(made, 10);
  });

  test("deleted in the middle → all of it goes, also what was placed", () => {
    const made = cluster(3, 400);
    grow(made, 150);
    made.ask("deleteVolume", { volume: 1 });
    made.until("gone", () => made.view().volumes.size === 0);
    made.time.pass(1000);
    expect(made.view().slices.size).toBe(0);
  });
});

describe("beside everything else", () => {
  test("a host's quota counts what a volume grows to, also before it is there", () => {
    const made = cluster();
    const volume = { ...volumeOf(made), requestedBy: 1 };
    const put = (record: VolumeRecord) => {
      made.core.commit({ ifs: [], puts: [{ key: keys.volume(1), value: valueText(record) }] });
      made.time.pass(100);
    };
    put({ ...volume, growth: { sizeBytes: 7 * GIB, slices: [], ended: true } });
    expect(askedBytes(made.view(), 1)).toBeGreaterThanOrEqual(1.5 * GIB);
    put(volume);
    grow(made, 7);
    grown(made, 7);
    expect(askedBytes(made.view(), 1)).toBe(7 * GIB);
  });

  test("a backup of before it grew → as large again as disks say, in any order", () => {
    for (const order of ["forth", "back"]) {
      const made = cluster();
      const backup = backupOf(made);
      grow(made, 4.25);
      grown(made, 4.25);
      grow(made, 5.5);
      grown(made, 5.5);
      const after = restored(backup);
      const records = [...made.view().slices.values()];
      if (order === "back") records.reverse();
      tell(after, records);
      after.until("settled", () => after.view().restored.size === 0);
      const { slices, sizeBytes, name } = volumeOf(after);
      expect([name, sizeBytes, slices]).toEqual(["v", 5.5 * GIB, volumeOf(made).slices]);
      expect(sizes(after)).toEqual([GIB, GIB, GIB, GIB, GIB, 0.5 * GIB]);
      expect(told(after, "volume-found").at(-1)).toContain("has 5.5 GiB again");
    }
  });

  test("a backup of the middle, and the growth was taken back → as it was, nothing waits", () => {
    const made = cluster();
    const volume = volumeOf(made);
    const growth = { sizeBytes: 4 * GIB, slices: [77, 78] };
    const record = made.view().slices.get(2);
    const backup = backupOf(made).map(([key, value]): BackupEntry => {
      return key === keys.volume(1) ? [key, valueText({ ...volume, growth })] : [key, value];
    });
    backup.push([keys.slice(77), valueText({ ...record, slice: 77, index: 2, sizeBytes: GIB })]);
    const after = restored(backup);
    tell(after, [...made.view().slices.values()]);
    after.until("settled", () => after.view().restored.size === 0);
    expect(volumeOf(after)).toMatchObject({ sizeBytes: 1.5 * GIB, slices: volume.slices });
    expect(volumeOf(after).growth).toBeUndefined();
    expect(after.view().slices.size).toBe(2);
  });

  test("more of it is told once its last slice is settled → that one becomes a whole one", () => {
    const made = cluster();
    const backup = backupOf(made);
    const [zero, one] = [...made.view().slices.values()];
    if (zero === undefined || one === undefined) throw new Error("no slices");
    const after = restored(backup);
    tell(after, [zero, one]);
    after.until("settled", () => after.view().restored.size === 0);
    expect(sizes(after)).toEqual([GIB, 0.5 * GIB]);
    // Placed for a growth that was taken back, on disks that were away.
    const late = { ...zero, slice: 9, index: 2 };
    tell(after, [late]);
    after.until("settled too", () => after.view().slices.size === 3);
    after.until("all are whole", () => sizes(after).every((bytes) => bytes === GIB));
    expect(volumeOf(after)).toMatchObject({ sizeBytes: 3 * GIB, slices: [1, 2, 9] });
    // What comes before it is not known: it stays aside, and nothing waits.
    tell(after, [{ ...zero, slice: 12, index: 5 }]);
    after.time.pass(2000);
    expect(volumeState(after.view(), volumeOf(after)).availability).toBe("online");
    expect([...after.view().restored.keys()]).toEqual([12]);
    expect(told(after, "volume-found").at(-1)).toContain("once a disk tells of part 4");
    after.ask("deleteVolume", { volume: 1 });
    after.until("gone", () => after.view().volumes.size === 0);
    expect([after.view().slices.size, after.view().restored.size]).toEqual([0, 0]);
  });

  test("rebuilt from disks alone → the row by its places, and a stale copy misleads nobody", () => {
    const made = cluster();
    const stale = made.view().slices.get(2);
    if (stale === undefined) throw new Error("no slice");
    grow(made, 3.5);
    grown(made, 3.5);
    made.createVolume("w", 1, "mirror-2");
    const old = backupOf(made).filter(([key]) => {
      return !key.startsWith(keys.volumes) && !key.startsWith("/slices/");
    });
    const after = restored(old.filter(([key]) => !key.startsWith("/volume-names/")));
    const records = [...made.view().slices.values()];
    const [zero, one, two, three, other] = records;
    if (zero === undefined || one === undefined || two === undefined) throw new Error("no slices");
    if (three === undefined || other === undefined) throw new Error("no slices");
    // The last place first, then one in the middle by a disk that was away: half of it.
    tell(after, [three], [stale.head]);
    tell(after, [stale], [stale.head]);
    after.time.pass(3000);
    expect(after.view().slices.size).toBe(0);
    tell(after, [other, two, one, zero]);
    tell(after, records);
    after.until("settled", () => after.view().restored.size === 0);
    const found = volumeOf(after);
    expect(found.slices).toEqual([zero, one, two, three].map(({ slice }) => slice));
    expect([found.sliceBytes, found.sizeBytes]).toEqual([GIB, 3.5 * GIB]);
    expect(sizes(after)).toEqual([GIB, GIB, GIB, 0.5 * GIB]);
    expect(after.view().slices.get(one.slice)?.epoch).toBe(one.epoch + EPOCH_JUMP);
    expect(volumeOf(after, 2).slices).toEqual([other.slice]);
  });

  test("an owner takes a copy of before it grew → as large as the volume, zero behind", () => {
    const made = cluster(2, 100);
    const stale = made.view().slices.get(2);
    if (stale === undefined) throw new Error("no slice");
    grow(made, 2);
    grown(made, 2);
    const backup = backupOf(made).map(([key, value]): BackupEntry => {
      return key === keys.slice(2) ? [key, valueText(stale)] : [key, value];
    });
    const after = restored(backup);
    const [first] = [...made.view().slices.values()];
    if (first === undefined) throw new Error("no slice");
    tell(after, [first]);
    tell(after, [stale], [1]);
    after.time.pass(2000);
    after.ask("acceptVolume", { volume: 1 });
    after.until("settled", () => after.view().slices.size === 2);
    expect(sizes(after)).toEqual([GIB, GIB]);
  });
});

const SECOND = { number: 2, id: "a0".repeat(16) };

function backupOf(made: StationFixture): BackupEntry[] {
  const { entries } = made.core.read("/");
  return entries.flatMap(({ key, value, lease }) => (lease === null ? [[key, value]] : []));
}

function restored(backup: readonly BackupEntry[]): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  for (const [key, value] of restoredState(backup, SECOND).entries) {
    made.core.commit({ ifs: [], puts: [{ key, value }] });
  }
  const units = backup.filter(([key]) => key.startsWith(keys.units)).length;
  for (let unit = 1; unit <= units; unit++) made.start(unit);
  made.until("somebody leads", () => made.leaders().length === 1);
  return made;
}

/** Each disk tells what of these it holds, or those that are named. */
function tell(
  made: StationFixture,
  records: readonly SliceRecord[],
  disks = [...made.view().disks.keys()],
): void {
  for (const disk of disks) {
    const unit = made.view().disks.get(disk)?.unit ?? 0;
    const held = records.filter(({ inSync }) => inSync.some((member) => member.disk === disk));
    const args = { disk, generation: SECOND.id, records: held, isLast: true };
    made.ask("tellHeld", args, made.units.get(unit));
  }
}
