// SPDX-License-Identifier: Apache-2.0
//
// Which disks a unit takes and in which order things happen to one, on real files with the real
// tools; reactor, control station and time are the test's. Long because all that may befall one
// disk is played on the one bench that is made here.

import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import type { CommandClient } from "#cluster/commands.ts";
import { claimDisk, findOurs } from "#machine/disk-tools.ts";
import type { DiskCandidate } from "#machine/machine-disks.ts";
import { DiskKeeper } from "./disk-keeper.ts";
import type { DiskWatch, KeptDisk } from "./disk-keeper.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { OpenedDisk, ToReactor } from "./reactor-messages.ts";

const CLUSTER = "a".repeat(32);
const LEFT = "b".repeat(32);
const OTHER = "c".repeat(32);
const UUID = "d".repeat(32);
const DISK_BYTES = 64 << 20;

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-keeper-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function makeFile(name: string, start = ""): string {
  const file = path.join(folder, name);
  writeFileSync(file, start);
  truncateSync(file, DISK_BYTES);
  return file;
}

interface Asked {
  args: { uuid: string; incarnation: number };
  answer(disk: number): void;
  refuse(fault: Error): void;
}

/** What disks a box has, as the test says. */
class Appliance implements DiskWatch {
  readonly candidates: DiskCandidate[] = [];
  readonly heldBack: string | null;
  failure: Error | null = null;
  changes = 0;

  constructor(heldBack: string | null = null) {
    this.heldBack = heldBack;
  }
  mark(): string {
    return String(this.changes);
  }
  async find(): Promise<DiskCandidate[]> {
    if (this.failure !== null) throw this.failure;
    return [...this.candidates];
  }
  isCleared(): boolean {
    return false;
  }
  cleared(): void {}
  plug(file: string, more: Partial<DiskCandidate> = {}): void {
    this.changes++;
    const usual = { sizeBytes: DISK_BYTES, attachment: String(this.changes) };
    this.candidates.push({ path: file, part: "whole", refusal: null, ...usual, ...more });
  }
  unplug(file: string): void {
    this.changes++;
    const at = this.candidates.findIndex((one) => one.path === file);
    this.candidates.splice(at, 1);
  }
}

class Bench {
  readonly sent: ToReactor[] = [];
  readonly asked: Asked[] = [];
  readonly changes: [string, KeptDisk["state"]][] = [];
  readonly logged: string[] = [];
  nowMs = 0;
  onSent: () => void = () => {};
  readonly keeper: DiskKeeper;
  readonly commands: CommandClient;
  #timers: { delayMs: number; act: () => void }[] = [];

  constructor(paths: string[], leftClusters: string[] = [], appliance: Appliance | null = null) {
    const world = {
      log: { write: (_level: string, sentence: string) => void this.logged.push(sentence) },
      clock: { nowMs: () => this.nowMs, wallMs: () => 0 },
    };
    const timers = {
      after: (delayMs: number, act: () => void) => {
        this.#timers.push({ delayMs, act });
        return () => {};
      },
    };
    const reactor = {
      send: (message: ToReactor) => {
        this.sent.push(message);
        this.onSent();
      },
    };
    // Of both the keeper uses these methods alone.
    const client = reactor as unknown as ReactorClient;
    const options = {
      ...{ paths, directFiles: true, unitName: "unit-7", leftClusters },
      watch: appliance,
      heldBack: appliance?.heldBack ?? null,
    };
    this.keeper = new DiskKeeper(world, timers, client, options);
    this.keeper.onChange = (disk) => void this.changes.push([disk.path, disk.state]);
    this.commands = {
      ask: (_name: string, args: Asked["args"]) =>
        new Promise((resolve, reject) => {
          this.asked.push({ args, answer: (disk) => resolve({ disk }), refuse: reject });
        }),
    } as unknown as CommandClient;
  }

  enter(): Promise<void> {
    return this.keeper.enter(CLUSTER, this.commands);
  }
  disk(file: string): KeptDisk {
    return this.keeper.disks.find((disk) => disk.path === file) as KeptDisk;
  }
  get opens(): Extract<ToReactor, { kind: "openDisk" }>[] {
    return this.sent.filter((message) => message.kind === "openDisk");
  }
  /** The watch looks for disks that came or went, and is through with what it found. */
  async watches(): Promise<void> {
    await this.timePasses();
    await this.keeper.settled();
  }
  /** The timers' delays; their time comes. */
  async timePasses(): Promise<number[]> {
    const due = this.#timers;
    this.#timers = [];
    for (const { act } of due) act();
    await turns();
    return due.map(({ delayMs }) => delayMs);
  }
}

/** Promises that are already decided run on. */
async function turns(): Promise<void> {
  for (let count = 0; count < 20; count++) await Promise.resolve();
}

const NO_TROUBLE = { found: 0, healed: 0, unhealed: 0, recentPlaces: 0, metadataMended: 0 };
const NO_SCRUB = { running: false, percent: 0, count: 0, endedAtMs: 0, late: false };

function opened(file: string, more: Partial<OpenedDisk> = {}): OpenedDisk {
  const place = { path: file, offsetBytes: 1 << 20, sizeBytes: 60 << 20, direct: true };
  return {
    ...{ path: file, place, uuid: UUID, clusterId: CLUSTER, number: 0, slices: 0 },
    ...{ incarnation: 3, sizeBytes: 50 << 20, freeBytes: 50 << 20 },
    health: { ...NO_TROUBLE, scrub: NO_SCRUB },
    ...more,
  };
}

test("examined before there is a cluster → said what would be done, nothing written", async () => {
  const blank = makeFile("blank.img");
  const used = makeFile("used.img", "somebody's bytes");
  const bench = new Bench([blank, used]);
  expect(bench.keeper.disks.map(({ state }) => state)).toEqual(["examining", "examining"]);
  await bench.keeper.examine();
  expect(bench.disk(blank)).toMatchObject({ state: "examining", sizeBytes: DISK_BYTES });
  expect(bench.disk(blank).reason).toContain("blank");
  expect(bench.disk(used).state).toBe("refused");
  expect(bench.disk(used).reason).toStartWith("left alone: its first MiB is not empty");
  expect(readFileSync(blank).every((byte) => byte === 0)).toBe(true);
  expect(bench.sent).toEqual([]);
});

test("in a cluster → the blank one is claimed and opened, the others stay", async () => {
  const blank = makeFile("blank.img");
  const used = makeFile("used.img", "somebody's bytes");
  const absent = path.join(folder, "absent.img");
  const before = readFileSync(used);
  const bench = new Bench([used, blank, absent]);
  await bench.enter();
  const ours = await findOurs(blank);
  expect(bench.opens).toEqual([
    {
      kind: "openDisk",
      place: {
        path: blank,
        offsetBytes: ours?.offsetBytes as number,
        sizeBytes: ours?.sizeBytes as number,
        direct: true,
      },
      identity: { clusterId: CLUSTER, uuid: (ours?.partitionId as string).replaceAll("-", "") },
      leftClusters: [],
      anew: false,
      cacheLost: false,
    },
  ]);
  expect(bench.disk(absent)).toMatchObject({ state: "refused" });
  expect(readFileSync(used).equals(before)).toBe(true);
});

test("not blank, and its owner wants it → erased, opened; tried: untouched", async () => {
  const used = makeFile("used.img", "somebody's bytes");
  const before = readFileSync(used);
  const bench = new Bench([used]);
  const erase = (file: string, isTry = false) => bench.keeper.eraseAndClaim(file, { isTry });
  await expect(erase(used)).rejects.toThrow("in no cluster yet");
  await bench.enter();
  expect(bench.opens).toEqual([]);
  await erase(used, true);
  expect(readFileSync(used).equals(before)).toBe(true);
  await erase(used);
  const ours = await findOurs(used);
  expect(bench.opens[0]?.identity.uuid).toBe(ours?.partitionId.replaceAll("-", "") ?? "");
  expect(readFileSync(used).includes("somebody's bytes")).toBe(false);
  expect(bench.disk(used).state).toBe("opening");
  await expect(erase(used)).rejects.toThrow("in use already");
});

test("Cairn's own, too small, not there → no word of the owner erases it", async () => {
  const ours = makeFile("ours.img");
  await claimDisk(ours, { evenIfNotBlank: false, name: "earlier" });
  const small = makeFile("small.img", "somebody's bytes");
  truncateSync(small, 1 << 20);
  const before = [ours, small].map((file) => readFileSync(file));
  const bench = new Bench([ours, small]);
  await bench.enter();
  bench.keeper.refused(ours, "it is of another cluster", OTHER);
  const erase = (file: string) => bench.keeper.eraseAndClaim(file, { isTry: false });
  await expect(erase(ours)).rejects.toThrow("it is Cairn's already");
  await expect(erase(small)).rejects.toThrow("it is too small");
  await expect(erase("/nowhere")).rejects.toThrow("no disk /nowhere here");
  const after = [ours, small].map((file) => readFileSync(file));
  expect(after.map((bytes, at) => bytes.equals(before[at] as Buffer))).toEqual([true, true]);
});

test("a disk claimed before → opened by its own identity, its GPT untouched", async () => {
  const file = makeFile("ours.img");
  const place = await claimDisk(file, { evenIfNotBlank: false, name: "earlier" });
  const before = readFileSync(file);
  const bench = new Bench([file]);
  await bench.enter();
  expect(bench.opens[0]?.identity.uuid).toBe(place.partitionId.replaceAll("-", ""));
  expect(bench.opens[0]?.anew).toBe(false);
  expect(readFileSync(file).equals(before)).toBe(true);
});

test("R0: opened → registered with its incarnation; only then numbered", async () => {
  const file = makeFile("blank.img");
  const bench = new Bench([file]);
  await bench.enter();
  bench.keeper.opened(opened(file));
  await turns();
  expect(bench.asked[0]?.args).toMatchObject({ uuid: UUID, incarnation: 3 });
  expect(bench.sent.some(({ kind }) => kind === "numberDisk")).toBe(false);
  bench.asked[0]?.answer(4);
  await turns();
  expect(bench.sent.at(-1)).toEqual({ kind: "numberDisk", uuid: UUID, number: 4 });
  expect([bench.disk(file).state, bench.changes]).toEqual(["open", []]);
  bench.keeper.ready(UUID, 4);
  expect(bench.disk(file)).toMatchObject({ state: "ready", opened: { number: 4 } });
  expect(bench.changes).toEqual([[file, "ready"]]);
});

test("the control station is away → asked again every second, and said why", async () => {
  const file = makeFile("blank.img");
  const bench = new Bench([file]);
  await bench.enter();
  bench.keeper.opened(opened(file));
  for (let round = 0; round < 3; round++) {
    await turns();
    expect(bench.asked).toHaveLength(round + 1);
    bench.asked[round]?.refuse(new Fault("notReady", "no control station"));
    await turns();
    expect(bench.disk(file).reason).toContain("no control station");
    expect(await bench.timePasses()).toEqual([1000]);
  }
  bench.asked[3]?.answer(9);
  await turns();
  expect(bench.sent.at(-1)).toMatchObject({ kind: "numberDisk", number: 9 });
  // And after an orderly stop no more.
  bench.keeper.opened(opened(file));
  bench.asked[4]?.refuse(new Fault("notReady", "no control station"));
  await turns();
  bench.keeper.stop();
  await bench.timePasses();
  expect(bench.asked).toHaveLength(5);
});

test("the reactor refuses it → listed with the reason, looked at again, told once", async () => {
  const file = makeFile("blank.img");
  const bench = new Bench([file]);
  await bench.enter();
  const refuse = () => bench.keeper.refused(file, "it belongs to another cluster", OTHER);
  refuse();
  const refused = {
    state: "refused",
    reason: "left alone: it belongs to another cluster",
    ofCluster: OTHER,
  } as const;
  expect(bench.disk(file)).toMatchObject(refused);
  // While it is looked at again the reason stays, and the log is not filled with it.
  await bench.keeper.examine();
  expect(bench.disk(file)).toMatchObject(refused);
  await bench.enter();
  refuse();
  expect(bench.opens).toHaveLength(2);
  expect(bench.logged.filter((sentence) => sentence === "disk refused")).toHaveLength(1);
});

test("held for a moment when it is opened → tried again soon, less and less", async () => {
  const file = makeFile("blank.img");
  const bench = new Bench([file]);
  await bench.enter();
  for (const delayMs of [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000]) {
    bench.keeper.refused(file, "it is in use", null);
    expect(bench.disk(file).state).toBe("refused");
    const opens = bench.opens.length;
    expect(await bench.timePasses()).toEqual([delayMs]);
    await bench.keeper.settled();
    expect(bench.opens).toHaveLength(opens + 1);
  }
  // From now on it is looked at as any other that is left alone.
  bench.keeper.refused(file, "it is in use", null);
  expect(await bench.timePasses()).toEqual([15_000]);
  await bench.keeper.settled();
  bench.keeper.opened(opened(file));
  expect(bench.disk(file).state).toBe("open");
  bench.keeper.refused(file, "it is in use", null);
  expect(await bench.timePasses()).toEqual([1000]);
});

test("a disk that was full of something and is blank now → taken at a later look", async () => {
  const file = makeFile("used.img", "somebody's bytes");
  const bench = new Bench([file]);
  await bench.enter();
  expect(bench.opens).toEqual([]);
  makeFile("used.img");
  const sent = new Promise<void>((resolve) => {
    bench.onSent = resolve;
  });
  expect(await bench.timePasses()).toEqual([15_000]);
  await sent;
  expect(bench.opens).toMatchObject([{ anew: false, place: { path: file } }]);
});

test("opened, but of a cluster that is not ours → closed again, never registered", async () => {
  const file = makeFile("blank.img");
  const bench = new Bench([file], [LEFT]);
  await bench.enter();
  for (const stray of [
    { clusterId: OTHER, slices: 0 },
    { clusterId: LEFT, slices: 1 }, // something was kept there after all
  ]) {
    bench.keeper.opened(opened(file, stray));
    await turns();
    expect(bench.disk(file).state).toBe("refused");
    expect(bench.sent.at(-1)).toEqual({ kind: "closeDisk", uuid: UUID });
  }
  expect([bench.asked, bench.opens.some(({ anew }) => anew)]).toEqual([[], false]);
});

test("opened, of a cluster that gave way, with nothing on it → made anew for ours", async () => {
  const file = makeFile("blank.img");
  const bench = new Bench([file], [LEFT]);
  await bench.enter();
  bench.keeper.opened(opened(file, { clusterId: LEFT }));
  expect(bench.sent.at(-1)).toMatchObject({
    kind: "openDisk",
    identity: { clusterId: CLUSTER, uuid: UUID },
    anew: true,
  });
  expect(bench.asked).toEqual([]);
});

test("R10: it fails → listed with the reason, never opened again by itself", async () => {
  const file = makeFile("blank.img");
  const bench = new Bench([file]);
  await bench.enter();
  bench.keeper.opened(opened(file));
  bench.keeper.failed(UUID, "write failed at 4096");
  expect(bench.disk(file)).toMatchObject({ state: "failed" });
  expect(bench.disk(file).reason).toContain("write failed at 4096");
  expect(bench.changes).toEqual([[file, "failed"]]);
  await bench.enter();
  expect(bench.opens).toHaveLength(1);
});

test("figures of a disk that is not that one any more → not taken over", async () => {
  const file = makeFile("blank.img");
  const bench = new Bench([file]);
  await bench.enter();
  bench.keeper.opened(opened(file));
  bench.keeper.refresh([opened(file, { freeBytes: 7 })]);
  expect(bench.disk(file).opened?.freeBytes).toBe(7);
  bench.keeper.refresh([opened(file, { uuid: "e".repeat(32), freeBytes: 8 })]);
  expect(bench.disk(file).opened?.freeBytes).toBe(7);
});

test("appliance: what the box has is considered; what may not be, listed", async () => {
  const box = new Appliance();
  const blank = makeFile("blank.img");
  const used = makeFile("used.img", "somebody's bytes");
  const stick = makeFile("stick.img");
  box.plug(blank);
  box.plug(used);
  box.plug(stick, { refusal: "it is removable" });
  const bench = new Bench([], [], box);
  await bench.keeper.examine();
  expect(bench.disk(blank).reason).toBe("it is blank, so it is claimed");
  expect(bench.opens).toEqual([]);
  await bench.enter();
  expect(bench.opens.map(({ place }) => place.path)).toEqual([blank]);
  expect(bench.disk(used).reason).toStartWith("left alone: its first MiB is not empty");
  expect(bench.disk(stick).reason).toBe("left alone: it is removable");
  expect(await findOurs(stick)).toBeNull();
});

test("appliance: a disk put in later → claimed; before there is a cluster only shown", async () => {
  const box = new Appliance();
  const bench = new Bench([], [], box);
  await bench.keeper.examine();
  const early = makeFile("early.img");
  box.plug(early);
  await bench.watches();
  expect([bench.disk(early).state, bench.opens]).toEqual(["examining", []]);
  await bench.enter();
  const late = makeFile("late.img");
  box.plug(late);
  await bench.watches();
  expect(bench.opens.map(({ place }) => place.path)).toEqual([early, late]);
  await bench.watches(); // nothing changed: nothing is done twice
  expect(bench.opens).toHaveLength(2);
});

test("appliance: claiming is held back → blank disks stay blank, ours are opened", async () => {
  const box = new Appliance("this unit has no join secret");
  const blank = makeFile("blank.img");
  const ours = makeFile("ours.img");
  await claimDisk(ours, { evenIfNotBlank: false, name: "earlier" });
  box.plug(blank);
  box.plug(ours);
  const bench = new Bench([], [], box);
  await bench.keeper.examine();
  await bench.enter();
  expect(bench.opens.map(({ place }) => place.path)).toEqual([ours]);
  expect(bench.disk(blank)).toMatchObject({
    state: "examining",
    reason: "it is blank and would be claimed, but this unit has no join secret",
  });
  expect(readFileSync(blank).every((byte) => byte === 0)).toBe(true);
});

test("appliance: taken out while unused → not listed any more", async () => {
  const box = new Appliance();
  const used = makeFile("used.img", "somebody's bytes");
  box.plug(used);
  const bench = new Bench([], [], box);
  await bench.enter();
  await bench.keeper.examine();
  expect(bench.keeper.disks).toHaveLength(1);
  box.unplug(used);
  await bench.watches();
  expect(bench.keeper.disks).toEqual([]);
});

/** An appliance with one disk in use. */
async function inUse(): Promise<{ box: Appliance; file: string; bench: Bench; uuid: string }> {
  const box = new Appliance();
  const file = makeFile("disk.img");
  box.plug(file);
  const bench = new Bench([], [], box);
  await bench.keeper.examine();
  await bench.enter();
  const { uuid } = (bench.opens[0] as { identity: { uuid: string } }).identity;
  bench.keeper.opened(opened(file, { uuid }));
  return { box, file, bench, uuid };
}

test("appliance, R10: taken out while in use → given up; put in again → opened anew", async () => {
  const { box, file, bench, uuid } = await inUse();
  box.unplug(file);
  await bench.watches();
  const reason = "it was taken out while in use";
  expect(bench.disk(file)).toMatchObject({ state: "failed", isOut: true, reason });
  expect(bench.changes).toEqual([[file, "failed"]]);
  expect(bench.sent.at(-1)).toMatchObject({ kind: "dropDisk", uuid });
  bench.keeper.dropped(uuid);
  await bench.keeper.settled();
  expect(bench.opens).toHaveLength(1);
  box.plug(file);
  await bench.watches();
  // H6: what it had not made durable is gone, whatever this machine's memory says.
  expect(bench.opens[1]).toMatchObject({ identity: { uuid }, cacheLost: true, anew: false });
  bench.keeper.opened(opened(file, { uuid, incarnation: 4 }));
  expect(bench.disk(file)).toMatchObject({ state: "open", isOut: false });
  expect(bench.keeper.disks).toHaveLength(1);
});

test("appliance: put in again under another name → listed once, by that name", async () => {
  const { box, file, bench, uuid } = await inUse();
  box.unplug(file);
  const renamed = path.join(folder, "renamed.img");
  renameSync(file, renamed);
  box.plug(renamed);
  await bench.watches();
  expect(bench.opens[1]).toMatchObject({ identity: { uuid }, place: { path: renamed } });
  expect(bench.keeper.disks.map((disk) => [disk.path, disk.state])).toEqual([[renamed, "opening"]]);
});

test("appliance: I/O fails as it is taken out → it comes back by itself all the same", async () => {
  const { box, file, bench, uuid } = await inUse();
  bench.keeper.failed(uuid, "write failed at 4096");
  expect(bench.disk(file)).toMatchObject({ state: "failed", isOut: false });
  box.unplug(file);
  await bench.watches();
  expect(bench.disk(file)).toMatchObject({ state: "failed", isOut: true });
  box.plug(file);
  await bench.watches();
  expect(bench.opens).toHaveLength(2);
});

test("appliance: a disk that comes and goes → its owner's to return", async () => {
  const { box, file, bench, uuid } = await inUse();
  for (let time = 1; time <= 5; time++) {
    box.unplug(file);
    await bench.watches();
    bench.keeper.dropped(uuid);
    box.plug(file);
    await bench.watches();
    expect(bench.opens).toHaveLength(time < 5 ? time + 1 : 5);
    if (time < 5) bench.keeper.opened(opened(file, { uuid, incarnation: 3 + time }));
  }
  expect(bench.disk(file).reason).toContain("taken out 5 times within an hour");
  bench.keeper.takeAgain(uuid);
  bench.keeper.dropped(uuid);
  await bench.keeper.settled();
  expect(bench.opens).toHaveLength(6);
});

test("appliance: taken out while it was being opened → closed when it is", async () => {
  const box = new Appliance();
  const file = makeFile("disk.img");
  box.plug(file);
  const bench = new Bench([], [], box);
  await bench.keeper.examine();
  await bench.enter();
  const { uuid } = (bench.opens[0] as { identity: { uuid: string } }).identity;
  box.unplug(file);
  await bench.watches();
  bench.keeper.opened(opened(file, { uuid }));
  expect(bench.sent.at(-1)).toMatchObject({ kind: "dropDisk", uuid });
  expect(bench.asked).toEqual([]);
});

test("R10: a failed disk is returned → closed first, opened without its memory", async () => {
  const file = makeFile("blank.img");
  const bench = new Bench([file]);
  await bench.enter();
  const { uuid } = (bench.opens[0] as { identity: { uuid: string } }).identity;
  bench.keeper.opened(opened(file, { uuid }));
  bench.keeper.failed(uuid, "write failed at 4096");
  bench.keeper.takeAgain(uuid);
  expect(bench.sent.at(-1)).toMatchObject({ kind: "dropDisk", uuid });
  await bench.keeper.settled();
  expect(bench.opens).toHaveLength(1);
  bench.keeper.dropped(uuid);
  await bench.keeper.settled();
  expect(bench.opens[1]).toMatchObject({ identity: { uuid }, cacheLost: true });
});

test("appliance: a disk by a second path, or its clone → used once", async () => {
  const box = new Appliance();
  const file = makeFile("disk.img");
  await claimDisk(file, { evenIfNotBlank: false, name: "earlier" });
  const clone = makeFile("clone.img");
  writeFileSync(clone, readFileSync(file));
  box.plug(file);
  box.plug(clone);
  const bench = new Bench([], [], box);
  await bench.keeper.examine();
  await bench.enter();
  expect(bench.opens.map(({ place }) => place.path)).toEqual([file]);
  expect(bench.disk(clone).reason).toContain(`it is ${file} by another path, or a clone`);
});

test("appliance: the disks cannot be listed → said, and looked for again", async () => {
  const box = new Appliance();
  box.failure = new Fault("badMachine", "the program lsblk is missing");
  const bench = new Bench([], [], box);
  await bench.keeper.examine();
  expect(bench.logged).toContain("the disks cannot be listed");
  box.failure = null;
  const file = makeFile("disk.img");
  box.plug(file);
  await bench.watches();
  expect(bench.keeper.disks).toHaveLength(1);
});

test("not an appliance: disks come and go → only the named one is looked at", async () => {
  const named = makeFile("named.img");
  const other = makeFile("other.img");
  const before = readFileSync(other);
  const bench = new Bench([named]);
  await bench.keeper.examine();
  await bench.enter();
  expect(await bench.timePasses()).toEqual([]);
  expect(bench.keeper.disks.map((disk) => disk.path)).toEqual([named]);
  expect(readFileSync(other).equals(before)).toBe(true);
});
