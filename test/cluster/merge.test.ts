// SPDX-License-Identifier: Apache-2.0
//
// Two clusters of one join secret that were founded apart meet while nobody has used them: one
// gives way, and its units serve the other with the same disks. Root only.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { assembled, createVolume, oneCluster, protectedEverywhere } from "./assembled.ts";
import { LIMIT_MS, MIB, SLICE_BYTES } from "./cluster-fixture.ts";
import { Lab } from "./lab.ts";
import { need } from "./until.ts";

const UNITS = 3;
const VOLUME_BYTES = 128 * MIB;

let lab: Lab;
beforeAll(() => {
  lab = new Lab({ unit: { diskBytes: 448 * MIB, settings: { sliceBytes: SLICE_BYTES } } });
  for (let place = 1; place <= UNITS; place++) lab.add();
});
afterAll(() => lab?.end());

describe("virgin clusters founded apart", () => {
  test(
    "meet → one cluster of all units, whose disks hold three copies of a volume",
    async () => {
      for (const other of [2, 3]) apart(other, "cutOneWay");
      for (const unit of lab.units) unit.start();
      await lab.until("two clusters", () => twoClusters(), LIMIT_MS);
      for (const other of [2, 3]) apart(other, "healOneWay");
      await lab.until("one cluster of all units", () => assembled(lab), LIMIT_MS);
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
