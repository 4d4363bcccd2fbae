// SPDX-License-Identifier: Apache-2.0
//
// Units that come back: one that was away catches up by what changed and little more (R6, R7), one
// that was wiped is another unit (R12), and the place of one that stays away is filled; one whose
// owner went on without it keeps what it has (R8). Root only.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createVolume, headOf, protectedEverywhere, resyncedBytes } from "./assembled.ts";
import { LIMIT_MS, MIB, SLICE_BYTES, VOLUME, healed, startCluster } from "./cluster-fixture.ts";
import { linesOf, type Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { Errno, NbdClient } from "./nbd-client.ts";
import { NotYet, need, pause } from "./until.ts";

const REPROTECT_AFTER_MS = 15_000;
const ATTACH_MS = 10_000;
/** Regions without writes become inactive within this (R6); only then are they owed no more. */
const QUIET_MS = 8_000;
const CHANGED = 24;
const RESTARTS = 4;
/** "Error values": "Operation not permitted". */
const EPERM = 1;
/** Promised: at most 1.1 times the changed extents. */
const RESYNC_MOST = 1.1;

let lab: Lab;
beforeAll(async () => {
  lab = await startCluster({ reprotectAfterMs: REPROTECT_AFTER_MS, volumeBytes: SLICE_BYTES });
  using host = await attached();
  for (let extent = 0; extent < SLICE_BYTES / MIB; extent++) {
    await host.write(extent * MIB, filled(MIB, `before, extent ${extent}. `));
  }
  await host.flush();
}, 3 * LIMIT_MS);
afterAll(() => lab?.end());

function attached(name = VOLUME): Promise<NbdClient> {
  const open = async () => {
    const door = await headOf(lab, name);
    return NbdClient.open({ host: door.address, port: 10809, name }, ATTACH_MS);
  };
  return lab.until("a host attached", open, LIMIT_MS);
}

function filled(bytes: number, text: string): Buffer {
  return Buffer.alloc(bytes, text);
}

/** One block in each of so many extents, and what every extent holds is right afterwards. */
async function changeSome(round: string): Promise<void> {
  using host = await attached();
  for (let index = 0; index < CHANGED; index++) {
    await host.write(index * 2 * MIB + 4096, filled(4096, `${round}, extent ${index * 2}. `));
  }
  await host.flush();
}

async function expectContent(round: string): Promise<void> {
  using host = await attached();
  for (let extent = 0; extent < SLICE_BYTES / MIB; extent++) {
    const wanted = filled(MIB, `before, extent ${extent}. `);
    const isChanged = extent % 2 === 0 && extent / 2 < CHANGED;
    if (isChanged) filled(4096, `${round}, extent ${extent}. `).copy(wanted, 4096);
    const found = await host.read(extent * MIB, MIB);
    if (!found.equals(wanted)) throw new Error(`extent ${extent} differs after: ${round}`);
  }
}

/** The two units with a copy: the head, and the other one. */
async function copyHolders(): Promise<{ head: LabUnit; other: LabUnit }> {
  const [slice] = (await lab.anyApi().volume(VOLUME)).slices;
  const head = await headOf(lab, VOLUME);
  for (const { unit } of slice?.members ?? []) {
    const holder = await lab.unitOfNumber(unit);
    if (holder !== head) return { head, other: holder };
  }
  throw new Error("the volume has no second copy");
}

/** Quick enough that nobody fills its place; waits until it is a full member again. */
async function awayFor(unit: LabUnit, end: (unit: LabUnit) => Promise<void>, round: string) {
  await healed(lab);
  await pause(QUIET_MS);
  const holders = await copyHolders();
  await end(unit);
  await changeSome(round);
  const before = await resyncedBytes(lab);
  unit.start();
  await healed(lab);
  const moved = (await resyncedBytes(lab)) - before;
  expect(await copyHolders().then(({ head, other }) => [head.name, other.name].sort())).toEqual(
    [holders.head.name, holders.other.name].sort(),
  );
  return moved;
}

describe("a unit that was away catches up by what changed", () => {
  const ways: [string, "head" | "other", (unit: LabUnit) => Promise<void>][] = [
    ["a copy's unit, killed", "other", (unit) => unit.kill()],
    ["a copy's unit, stopped in order", "other", (unit) => unit.stop()],
    ["the head, killed", "head", (unit) => unit.kill()],
    ["the head, stopped in order", "head", (unit) => unit.stop()],
  ];
  for (const [name, who, end] of ways) {
    test(`${name} → at most ${RESYNC_MOST} times the changed extents`, async () => {
      await healed(lab);
      const unit = (await copyHolders())[who];
      const moved = await awayFor(unit, end, name);
      expect(moved).toBeLessThanOrEqual(RESYNC_MOST * CHANGED * MIB);
      expect(moved).toBeGreaterThanOrEqual(CHANGED * 4096);
      await expectContent(name);
      // The copy that has just caught up is the one that is read now.
      const { head, other } = await copyHolders();
      const away = head === unit ? other : head;
      await away.kill();
      await expectContent(name);
      away.start();
    });
  }
});

test("a unit that starts again enters its cluster once, whatever it hears meanwhile", async () => {
  await healed(lab);
  const unit = lab.unit(1);
  for (let time = 0; time < RESTARTS; time++) {
    const before = linesOf(unit.logFile).length;
    await unit.stop();
    unit.start();
    await healed(lab);
    const since = linesOf(unit.logFile).slice(before);
    const refused = since.filter((line) => line.includes("waits to be registered: the disk"));
    expect(refused).toEqual([]);
  }
});

describe("an owner goes on without the newer copy", () => {
  const NEWER = filled(4096, "only in the copy that is lost. ");
  const AT = MIB + 8192;
  const KEPT = `${VOLUME}@before-1`;

  test("it is kept when it comes back, read through every unit, and given up", async () => {
    await healed(lab);
    const { head, other } = await copyHolders();
    await other.kill();
    {
      // Acked: so the other copy is out by now.
      using host = await attached();
      await host.write(AT, NEWER);
      await host.flush();
    }
    await head.kill();
    other.start();
    const offered = async () => {
      const { goOn } = await other.api.volume(VOLUME);
      need(goOn !== null, "there is nothing to go on from yet");
      return goOn;
    };
    const offer = await lab.until("it could go on", offered, LIMIT_MS);
    expect(offer.costs).toContain("all that was written since that copy left is missing in it");
    await other.api.goOn(VOLUME);
    await lab.until("it is served", () => attached().then((host) => host.close()), LIMIT_MS);
    await expectContent("the head, stopped in order");
    head.start();
    const back = async () => {
      const [kept] = (await other.api.volume(VOLUME)).kept;
      if (kept?.readable !== true) throw new NotYet(kept?.sentence ?? "nothing is kept");
      return kept;
    };
    const kept = await lab.until("the copy is there", back, LIMIT_MS);
    expect([kept.name, kept.slices.length]).toEqual([KEPT, 1]);
    expect(kept.bytes).toBeGreaterThanOrEqual(SLICE_BYTES / 2);
    // The third unit takes a copy of what goes on: the kept one's disk does not.
    await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), LIMIT_MS);
    await expectContent("the head, stopped in order");
    for (const unit of lab.running) {
      const door = { host: unit.address, port: 10809, name: KEPT };
      using host = await NbdClient.open(door, ATTACH_MS);
      expect((await host.read(AT, 4096)).equals(NEWER)).toBe(true);
      const refused = await host.write(AT, NEWER).catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(Errno);
      expect((refused as Errno).number).toBe(EPERM);
    }
    await other.api.discardCopy(VOLUME, 1);
    const gone = async () => {
      need((await head.api.volume(VOLUME)).kept.length === 0, "it is kept still");
      return true;
    };
    await lab.until("it is given up", gone, LIMIT_MS);
    await healed(lab);
    const sentences = (await other.api.events()).map(({ kind }) => kind);
    for (const kind of ["volume-overridden", "copy-kept", "copy-discarded"]) {
      expect(sentences).toContain(kind);
    }
  });
});

describe("a unit whose place is taken", () => {
  test("it stays away → another unit takes its copies, after the time that was set", async () => {
    await healed(lab);
    const { head, other } = await copyHolders();
    const third = lab.units.find((unit) => unit !== head && unit !== other) as LabUnit;
    await other.kill();
    const since = performance.now();
    const look = async () => {
      const volume = await protectedEverywhere(lab, VOLUME);
      const units = volume.slices.flatMap((slice) => slice.members.map((member) => member.unit));
      const { unit } = await third.api.status();
      need(units.includes(unit), `nothing lies on ${third.name} yet`);
      return volume;
    };
    await lab.until(`${third.name} holds a copy`, look, LIMIT_MS);
    expect(performance.now() - since).toBeGreaterThan(REPROTECT_AFTER_MS / 2);
    other.start();
    await healed(lab);
    await head.kill();
    await expectContent("the head, stopped in order");
    head.start();
    await healed(lab);
  });

  test("it is wiped → it comes back as another unit, and serves as such", async () => {
    const { other } = await copyHolders();
    const before = await other.api.status();
    await other.kill();
    other.wipe();
    other.start();
    const joined = async () => {
      const status = await other.api.status();
      need(status.phase === "joined" && status.pool !== null, status.sentence);
      return status;
    };
    const after = await lab.until("the wiped unit joined", joined, LIMIT_MS);
    expect(after.unitId).not.toBe(before.unitId);
    expect(after.unit).toBeGreaterThan(before.unit);
    const gone = async () => {
      const old = (await lab.unit(1).api.units()).find((view) => view.unit === before.unit);
      need(old?.alive !== true, "what it was before still counts as alive");
      return true;
    };
    await lab.until("the unit that it was is gone", gone, LIMIT_MS);
    await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), LIMIT_MS);
    await expectContent("the head, stopped in order");
    // Three copies need all three units: the wiped one among them.
    const wish = { name: "on-all", sizeBytes: 8 * MIB, protection: "mirror-3" as const };
    await createVolume(lab, wish, LIMIT_MS);
  });
});
