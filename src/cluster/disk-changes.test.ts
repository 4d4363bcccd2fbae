// SPDX-License-Identifier: Apache-2.0
//
// Disks that give wrong bytes, as the control station sees them: told in sentences, retired when
// they keep at it, replaced while they still serve, and out of use from then on (R9).

import { drainMicrotasks } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { Fault } from "#base/fault.ts";
import { disksOf } from "#base/record.ts";
import type { SliceRecord } from "#base/record.ts";
import { BLOCK_KINDS } from "./disk-changes.ts";
import { SETTINGS_DEFAULT, SettingsSchema } from "./state.ts";
import { StationFixture } from "./station-fixture.ts";

const DAY_MS = 24 * 3600 * 1000;

/** Three units with one disk each, a spare with another, a mirrored volume on disks 1 and 2. */
function rack(options: { spare?: boolean } = {}): StationFixture {
  const made = new StationFixture(drainMicrotasks);
  made.found({ reprotectAfterMs: DAY_MS });
  made.addDisk(1, 10);
  made.addDisk(made.admit(), 10);
  made.createVolume("v", 2, "mirror-2");
  if (options.spare !== false) made.addDisk(made.admit("spare"), 10);
  return made;
}

function sentences(made: StationFixture): string[] {
  return [...made.view().events.values()].map((event) => event.sentence);
}

function records(made: StationFixture): SliceRecord[] {
  return [...made.view().slices.values()];
}

const health = (recentPlaces: number, found = recentPlaces) => {
  return { found, healed: found, unhealed: 0, recentPlaces, scrubEndedAtMs: 0 };
};

describe("what heads met is told", () => {
  test("a takeover, with the pause that was measured; of no volume → refused", () => {
    const made = rack();
    made.ask("tellTakeover", { volume: 1, from: 2, slices: 2, pauseMs: 2440 });
    expect(sentences(made).at(-1)).toBe(
      "box1 serves 2 slices of volume v instead of disk 2 of box2, " +
        "2.4 s after that was heard last",
    );
    const nothing = { volume: 99, from: 2, slices: 2, pauseMs: 1 };
    expect(() => made.ask("tellTakeover", nothing)).toThrow(Fault);
  });

  test("each kind in a sentence with disk, unit, volume and place", () => {
    const made = rack();
    for (const kind of BLOCK_KINDS) {
      if (kind === "keepsNothing") continue;
      made.ask("tellBlocks", { kind, disk: 2, volume: 1, blocks: 3, offsetBytes: 8192 });
    }
    made.time.pass(100);
    const told = [...made.view().events.values()].filter(({ kind }) => kind.startsWith("blocks-"));
    expect(told.map(({ severity }) => severity)).toEqual(["warning", "alarm", "alarm", "warning"]);
    for (const { sentence, volume } of told) {
      expect(sentence).toContain("3 blocks of volume v, the first at byte 8192");
      expect(volume).toBe(1);
    }
    expect(told[0]?.sentence).toStartWith("disk 2 of box2 held");
    expect(made.view().disks.get(2)?.state).toBe("ready");
  });

  test("of a disk nobody knows → refused", () => {
    const made = rack();
    const tell = { kind: "healed", disk: 77, volume: 1, blocks: 1, offsetBytes: 0 } as const;
    expect(() => made.ask("tellBlocks", tell)).toThrow(Fault);
  });
});

describe("a disk that keeps lying", () => {
  test("few wrong places → kept with its record, and no more", () => {
    const made = rack();
    made.ask("reportDisk", { disk: 1, ...health(SETTINGS_DEFAULT.diskErrorsMax - 1) });
    made.time.pass(2000);
    expect(made.view().disks.get(1)).toMatchObject({ state: "ready", health: { found: 49 } });
    expect(records(made).every(({ resyncing }) => resyncing.length === 0)).toBe(true);
  });

  test("many → retired: copies made elsewhere at once, it serves meanwhile, then is let go", () => {
    const made = rack();
    made.ask("reportDisk", { disk: 1, ...health(60) });
    made.until("targets are named", () => records(made).every((one) => one.resyncing.length > 0));
    expect(made.view().disks.get(1)?.state).toBe("leaving");
    for (const record of records(made)) {
      // Still in sync, still able to be head; the spare takes its place.
      expect(record.inSync.map(({ disk }) => disk).sort()).toEqual([1, 2]);
      expect(record.resyncing).toEqual([3]);
    }
    // The head lets the target in beside it: the station does not send it away.
    for (const record of records(made)) {
      const inSync = [...record.inSync, { disk: 3, incarnation: 1 }];
      made.propose({ ...record, epoch: record.epoch + 1, inSync, resyncing: [] });
    }
    made.time.pass(3000);
    for (const record of records(made)) expect(record.inSync.length).toBe(3);
    // The head lets go of it.
    for (const record of records(made)) {
      const inSync = record.inSync.filter(({ disk }) => disk !== 1);
      const head = record.head === 1 ? 2 : record.head;
      made.propose({ ...record, epoch: record.epoch + 1, inSync, head });
    }
    made.until("that is told", () => made.view().disks.get(1)?.emptied === true);
    made.time.pass(3000);
    const told = sentences(made).filter((sentence) => sentence.startsWith("disk 1 of box1"));
    expect(told.length).toBe(2);
    expect(told[0]).toContain("gave wrong bytes in 60 places");
    expect(told[1]).toContain("holds no copy of anything");
    expect(records(made).every((record) => !disksOf(record).includes(1))).toBe(true);
  });

  test("its unit starts again, or it is reported again → it stays retired, told once", () => {
    const made = rack({ spare: false });
    made.ask("reportDisk", { disk: 1, ...health(60) });
    const { uuid } = made.view().disks.get(1) ?? { uuid: "" };
    const again = { uuid, path: "/disk-again", sizeBytes: 10 * 2 ** 30, incarnation: 2 };
    made.ask("registerDisk", again, made.units.get(1));
    made.ask("reportDisk", { disk: 1, ...health(90) });
    made.time.pass(2000);
    expect(made.view().disks.get(1)).toMatchObject({ state: "leaving", path: "/disk-again" });
    expect(sentences(made).filter((sentence) => sentence.includes("places")).length).toBe(1);
    // Without room elsewhere it goes on serving.
    expect(records(made).every(({ inSync }) => inSync.length === 2)).toBe(true);
    const wish = { name: "w", sizeBytes: 2 ** 30, protection: "mirror-2" as const };
    expect(() => made.ask("createVolume", wish)).toThrow(/room|unit/);
  });

  test("one that keeps nothing → retired whatever the count; switched off → not", () => {
    const made = rack();
    const tell = { disk: 2, volume: 1, blocks: 1, offsetBytes: 0 };
    made.ask("tellBlocks", { kind: "keepsNothing", ...tell });
    made.time.pass(100);
    expect(made.view().disks.get(2)?.state).toBe("leaving");
    const other = rack();
    other.ask("setSettings", { diskErrorsMax: 0 });
    other.ask("reportDisk", { disk: 1, ...health(5000) });
    other.time.pass(100);
    expect(other.view().disks.get(1)?.state).toBe("ready");
  });
});

describe("a scrub that is asked for", () => {
  test("is a number that rises in the disk's record; of a disk that is away it is refused", () => {
    const made = rack();
    made.ask("scrubDisk", { disk: 2, urgent: false });
    made.ask("scrubDisk", { disk: 2, urgent: true });
    made.time.pass(100);
    expect(made.view().disks.get(2)?.scrubAsked).toEqual({ number: 2, urgent: true });
    made.kill(2);
    made.until("it is gone", () => !made.view().isAlive(2));
    expect(() => made.ask("scrubDisk", { disk: 2, urgent: true })).toThrow(/away/);
    expect(() => made.ask("scrubDisk", { disk: 99, urgent: true })).toThrow(/no disk/);
  });
});

describe("settings", () => {
  test("written by a version that had fewer → the others have their defaults", () => {
    expect(SettingsSchema.parse({ reprotectAfterMs: 5, more: 1 })).toMatchObject({
      reprotectAfterMs: 5,
      scrubEveryMs: 14 * DAY_MS,
      more: 1,
    });
  });

  test("one changed → the others stay", () => {
    const made = rack();
    made.ask("setSettings", { scrubEveryMs: 7 * DAY_MS });
    made.ask("setSettings", { diskErrorsMax: 9 });
    made.time.pass(100);
    expect(made.view().settings).toMatchObject({
      reprotectAfterMs: DAY_MS,
      scrubEveryMs: 7 * DAY_MS,
      diskErrorsMax: 9,
    });
  });

  test("the cluster's name → another from now on, told; the settings stay", () => {
    const made = rack();
    const before = made.view().cluster;
    made.ask("setSettings", { clusterName: "cellar" });
    made.time.pass(100);
    expect(made.view().cluster).toEqual({ ...before, name: "cellar" } as typeof before);
    expect(sentences(made)).toContain(`the cluster ${before?.name} is called cellar now`);
    expect(made.view().settings).not.toHaveProperty("clusterName");
    expect(() => made.ask("setSettings", { clusterName: "two words" })).toThrow(/letters, digits/);
    expect(made.view().cluster?.name).toBe("cellar");
  });
});

describe("a disk that is out of use", () => {
  const out = { disk: 2, incarnation: 1, isOut: true, reason: "it was taken out" };
  const ofBox2 = (made: StationFixture) => made.units.get(2);

  test("taken out → told; nothing is placed there; made anew when it stays away", () => {
    const made = rack({ spare: true });
    made.ask("setSettings", { reprotectAfterMs: 20_000 });
    made.ask("loseDisk", out, ofBox2(made));
    made.time.pass(500);
    expect(made.view().disks.get(2)).toMatchObject({ state: "failed", lost: { isOut: true } });
    expect(sentences(made)).toContain(
      "disk 2 of box2 is not there any more (it was taken out): put back it is used again; " +
        "else the copies it held are made anew on other disks after 20 s",
    );
    // What its heads did meanwhile (R2).
    for (const record of records(made)) {
      const inSync = record.inSync.filter(({ disk }) => disk !== 2);
      const head = inSync[0]?.disk ?? 0;
      made.propose({ ...record, epoch: record.epoch + 1, head, inSync });
    }
    made.time.pass(10_000);
    expect(records(made).flatMap((record) => record.resyncing)).toEqual([]);
    made.until("targets are named", () => records(made).every((one) => one.resyncing.length > 0));
    expect(records(made).flatMap((record) => record.resyncing)).not.toContain(2);
    const create = () => made.createVolume("w", 1, "mirror-3");
    expect(create).toThrow("different units");
  });

  test("put back → registered again, ready, told; an old loss told late changes nothing", () => {
    const made = rack();
    const uuid = made.view().disks.get(2)?.uuid ?? "";
    made.ask("loseDisk", out, ofBox2(made));
    const args = { uuid, path: "/back", sizeBytes: 10 * 2 ** 30, incarnation: 2 };
    made.ask("registerDisk", args, ofBox2(made));
    made.ask("loseDisk", out, ofBox2(made));
    made.time.pass(500);
    expect(made.view().disks.get(2)).toMatchObject({ state: "ready", path: "/back" });
    expect(made.view().disks.get(2)?.lost).toBeUndefined();
    expect(sentences(made)).toContain(
      "disk 2 of box2 is back in use; what it missed is copied to it",
    );
  });

  test("told of by another unit → refused", () => {
    const made = rack();
    expect(() => made.ask("loseDisk", out, made.units.get(1))).toThrow("own unit");
    expect(made.view().disks.get(2)?.state).toBe("ready");
  });

  test("told twice → one event; failed after it was out → told as well", () => {
    const made = rack();
    for (let time = 0; time < 3; time++) made.ask("loseDisk", out, ofBox2(made));
    made.ask("loseDisk", { ...out, isOut: false, reason: "EIO" }, ofBox2(made));
    made.time.pass(500);
    const kinds = [...made.view().events.values()].map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === "disk-out")).toHaveLength(1);
    expect(kinds.filter((kind) => kind === "disk-failed")).toHaveLength(1);
  });
});

describe("what the owner decides about a disk", () => {
  test("retired by hand → its copies go elsewhere; returned → it stays", () => {
    const made = rack();
    made.ask("retireDisk", { disk: 1 });
    made.until("targets are named", () => records(made).every((one) => one.resyncing.length > 0));
    expect(() => made.ask("retireDisk", { disk: 1 })).toThrow("already");
    made.ask("returnDisk", { disk: 1 });
    expect(made.view().disks.get(1)).toMatchObject({ state: "ready" });
    expect(made.view().disks.get(1)?.why).toBeUndefined();
    // All copies serve: the targets are not needed any more.
    made.until("no target", () => records(made).every((one) => one.resyncing.length === 0));
    expect(() => made.ask("returnDisk", { disk: 1 })).toThrow("nothing to return");
  });

  test("a liar returned → what was pardoned counts no more; new lies do", () => {
    const made = rack();
    made.ask("reportDisk", { disk: 1, ...health(60) });
    expect(made.view().disks.get(1)?.state).toBe("leaving");
    made.ask("returnDisk", { disk: 1 });
    made.ask("reportDisk", { disk: 1, ...health(70) });
    expect(made.view().disks.get(1)?.state).toBe("ready");
    // A day later the old places are forgotten, and with them the pardon.
    made.ask("reportDisk", { disk: 1, ...health(5) });
    made.ask("reportDisk", { disk: 1, ...health(54) });
    expect(made.view().disks.get(1)?.state).toBe("ready");
    made.ask("reportDisk", { disk: 1, ...health(55) });
    expect(made.view().disks.get(1)?.state).toBe("leaving");
  });

  test("a failed one returned → its unit is asked; its unit is away → said", () => {
    const made = rack();
    const failed = { disk: 2, incarnation: 1, isOut: false, reason: "EIO" };
    made.ask("loseDisk", failed, made.units.get(2));
    made.ask("returnDisk", { disk: 2 });
    expect(made.view().disks.get(2)).toMatchObject({ state: "failed", returnAsked: 1 });
    made.kill(2);
    made.until("box2 is away", () => !made.view().isAlive(2));
    expect(() => made.ask("returnDisk", { disk: 2 })).toThrow("box2 is away");
  });

  test("retired while it is out → leaves once it is back", () => {
    const made = rack();
    const uuid = made.view().disks.get(2)?.uuid ?? "";
    const out = { disk: 2, incarnation: 1, isOut: true, reason: "it was taken out" };
    made.ask("loseDisk", out, made.units.get(2));
    made.ask("retireDisk", { disk: 2 });
    expect(made.view().disks.get(2)?.state).toBe("failed");
    const args = { uuid, path: "/back", sizeBytes: 10 * 2 ** 30, incarnation: 2 };
    made.ask("registerDisk", args, made.units.get(2));
    expect(made.view().disks.get(2)?.state).toBe("leaving");
  });

  test("a disk nobody knows → not found", () => {
    const made = rack();
    expect(() => made.ask("retireDisk", { disk: 99 })).toThrow(Fault);
    expect(() => made.ask("returnDisk", { disk: 99 })).toThrow(Fault);
  });
});
