// SPDX-License-Identifier: Apache-2.0
//
// Two clusters of one join secret that were founded apart meet: one is in use, the other gives way,
// one of its units was killed meanwhile, and all serve the first with the same disks. Then a unit
// is removed while it is away: it is told so when it comes back, and comes in again once it is made
// new. At last a box without the join secret is let in by its words. Every order of virgin and used
// is in src/cluster/meeting.test.ts. Root only.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { assembled, createVolume, oneCluster, protectedEverywhere, voters } from "./assembled.ts";
import { LIMIT_MS, MIB, SLICE_BYTES } from "./cluster-fixture.ts";
import { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { Refused } from "./unit-api.ts";
import { NotYet, need } from "./until.ts";

const UNITS = 3;
const VOLUME_BYTES = 128 * MIB;

let lab: Lab;
beforeAll(() => {
  lab = new Lab({ unit: { diskBytes: 448 * MIB, settings: { sliceBytes: SLICE_BYTES } } });
  for (let place = 1; place <= UNITS; place++) lab.add();
});
afterAll(() => lab?.end());

describe("clusters founded apart", () => {
  test(
    "one in use, a unit of the other killed → one cluster of all, the volume kept, three copies",
    async () => {
      for (const other of [2, 3]) apart(other, "cutOneWay");
      for (const unit of lab.units) unit.start();
      await lab.until("two clusters", () => twoClusters(), LIMIT_MS);
      const [first] = lab.units;
      if (first === undefined) throw new Error("the lab has no units");
      const kept = { name: "kept", sizeBytes: SLICE_BYTES, protection: "none" as const };
      await first.api.createVolume({ ...kept, hosts: [await first.api.hostFrom(lab.hostAddress)] });
      // Not the one that votes: its cluster is gone when it comes back, and nobody tells it but the
      // first one.
      const away = await memberOnly();
      await away.kill();
      for (const other of [2, 3]) apart(other, "healOneWay");
      await lab.until("one cluster of those that run", () => assembled(lab), LIMIT_MS);
      away.start();
      await lab.until("one cluster of all units", () => assembled(lab), LIMIT_MS);
      expect((await first.api.volume("kept")).availability).toBe("online");
      await lab.until("every disk is the cluster's", () => everyDiskReady(), LIMIT_MS);
      const wish = { name: "all", sizeBytes: VOLUME_BYTES, protection: "mirror-3" as const };
      const made = await createVolume(lab, wish, LIMIT_MS);
      for (const slice of made.slices) expect(slice.members).toHaveLength(UNITS);
      await lab.until("three copies in sync", () => protectedEverywhere(lab, "all"), LIMIT_MS);
      const all = await oneCluster(lab);
      expect(new Set(all.map((status) => status.unit)).size).toBe(UNITS);
    },
    4 * LIMIT_MS,
  );
});

describe("a unit that was removed while it was away", () => {
  test(
    "comes back → is told, stays out; made new → comes in as another one",
    async () => {
      const [first, , gone] = lab.units;
      if (first === undefined || gone === undefined) throw new Error("the lab has no units");
      const before = await gone.api.status();
      // With two of them the loss of either one stops the control store.
      await lab.until("three voters", () => voters(lab, UNITS), LIMIT_MS);
      await gone.kill();
      const isSeen = async () => {
        const unit = (await first.api.units()).find((one) => one.name === gone.name);
        need(unit?.alive === false, "it is not missed yet");
      };
      await lab.until("it is missed", isSeen, LIMIT_MS);
      await lab.until("removed", () => removed(first, gone.name), LIMIT_MS);
      gone.start();
      const isOut = async () => {
        const { cluster, sentence } = await gone.api.status();
        need(cluster === null && sentence.includes("was removed from the cluster"), sentence);
      };
      await lab.until("it knows", isOut, LIMIT_MS);
      await gone.api.renew();
      await lab.until("it is in again", () => assembled(lab), LIMIT_MS);
      const after = await gone.api.status();
      expect(after.unitId).not.toBe(before.unitId);
      expect(after.unit).toBeGreaterThan(UNITS);
      // What it holds is of the time before: the cluster does not take it back.
      await lab.until(
        "its disk is left alone",
        async () => {
          const [disk] = await gone.api.disks();
          const reason = disk?.reason ?? "it lists no disk";
          need(reason.includes("was removed from this cluster"), reason);
        },
        LIMIT_MS,
      );
    },
    4 * LIMIT_MS,
  );
});

describe("a box without a join secret", () => {
  test(
    "waits → shows the words that the cluster hears; admitted by them → one of the cluster",
    async () => {
      const [first] = lab.units;
      if (first === undefined) throw new Error("the lab has no units");
      const box = lab.add({ joinSecret: null });
      box.start();
      const heard = async () => {
        const { words, sentence } = await box.api.status();
        need(sentence.includes("has no join secret and waits"), sentence);
        const { waiting } = await first.api.arrivals();
        need(waiting.length === 1, `${waiting.length} boxes wait`);
        expect(waiting[0]?.words).toEqual(words);
        return words;
      };
      const words = await lab.until("its words are heard", heard, LIMIT_MS);
      await first.api.admit(words.join("-"));
      await lab.until("it is in", () => assembled(lab), LIMIT_MS);
      const told = (await first.api.events()).filter(({ kind }) => kind === "unit-let-in");
      expect(told.map(({ sentence }) => sentence)).toEqual([
        `${box.name} (${words.join(" ")}) is let in by its words: it is given the join secret`,
      ]);
      // It keeps what it was given.
      await box.kill();
      box.start();
      await lab.until("it is in again", () => assembled(lab), LIMIT_MS);
    },
    4 * LIMIT_MS,
  );
});

/** The unit of the second cluster that does not vote, once it says so. */
function memberOnly(): Promise<LabUnit> {
  return lab.until(
    "a unit that does not vote",
    async () => {
      const [, ...others] = lab.units;
      for (const unit of others) {
        const { voter, controlStation, unit: number } = await unit.api.status();
        if (!voter && controlStation !== null && controlStation !== number) return unit;
      }
      throw new NotYet("both vote, or nobody leads");
    },
    LIMIT_MS,
  );
}

async function removed(by: LabUnit, name: string): Promise<void> {
  const is = (await by.api.units()).some((unit) => unit.name === name);
  if (!is) return;
  try {
    await by.api.remove(name, true);
  } catch (error) {
    // Its slices have not gone on without it yet: asked again.
    if (!(error instanceof Refused)) throw error;
    throw new NotYet(error.message);
  }
}

/** Unit 1 and another one: nothing passes between them, or all again. */
function apart(other: number, what: "cutOneWay" | "healOneWay"): void {
  lab.network[what](1, other);
  lab.network[what](other, 1);
}

/** The lone unit has founded a cluster, and the two others are in another one. */
async function twoClusters(): Promise<true> {
  const all = await Promise.all(lab.units.map((unit) => unit.api.status()));
  for (const status of all) need(status.cluster !== null, `${status.name}: ${status.sentence}`);
  const [lone, ...others] = all.map((status) => status.cluster?.uuid);
  need(new Set(others).size === 1, "the two units that hear each other are not one cluster yet");
  need(lone !== others[0], "there is one cluster only");
  const states = await Promise.all(lab.units.map((unit) => unit.api.disks()));
  for (const [disk] of states) need(disk?.state === "ready", "a disk is not in use yet");
  return true;
}

async function everyDiskReady(): Promise<true> {
  for (const unit of lab.units) {
    const disks = await unit.api.disks();
    need(disks.length === UNITS, `${unit.name} sees ${disks.length} disks`);
    for (const disk of disks) need(disk.state === "ready", `${disk.path}: ${disk.reason}`);
  }
  return true;
}
