// SPDX-License-Identifier: Apache-2.0
//
// Units that are only switched on become one cluster: with each other, with a late one, and not
// with one that does not know the secret. Root only.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { VolumeView } from "#appliance/backend.ts";
import { assembled, createVolume, oneCluster, protectedEverywhere, voters } from "./assembled.ts";
import { LIMIT_MS, MIB, SLICE_BYTES, startCluster } from "./cluster-fixture.ts";
import type { Lab } from "./lab.ts";
import { NbdClient, nbdAddress } from "./nbd-client.ts";
import { need } from "./until.ts";

setDefaultTimeout(2 * LIMIT_MS);

const UNIT_BYTES = 448 * MIB;
const VOLUME_BYTES = 512 * MIB;
const CONNECT_MS = 5_000;

let lab: Lab;
beforeAll(async () => {
  lab = await startCluster({ spares: 1, diskBytes: UNIT_BYTES, volumeBytes: 0 });
}, 2 * LIMIT_MS);
afterAll(() => lab?.end());

describe("three units and a spare", () => {
  test("are one cluster, with one control station, three voters and the first pool", async () => {
    const all = await oneCluster(lab);
    expect(new Set(all.map((status) => status.controlStation)).size).toBe(1);
    expect(all.filter((status) => status.voter)).toHaveLength(3);
    expect(all.map((status) => status.pool)).toEqual(["pool", "pool", "pool", null]);
    expect(new Set(all.map((status) => status.unit)).size).toBe(4);
  });

  test("volume larger than a unit's disks → made; copies never share a unit", async () => {
    const wish = { name: "large", sizeBytes: VOLUME_BYTES };
    const made = await createVolume(lab, wish, LIMIT_MS);
    expect(made.sizeBytes).toBeGreaterThan(UNIT_BYTES);
    expect(made.slices).toHaveLength(VOLUME_BYTES / SLICE_BYTES);
    const spare = await lab.unit(4).api.status();
    for (const { members } of made.slices) {
      const units = members.map((member) => member.unit);
      expect(new Set(units).size).toBe(2);
      expect(units).not.toContain(spare.unit);
    }
    await lab.until("seen whole by all", () => protectedEverywhere(lab, "large"), LIMIT_MS);
  });

  test("what is written through one unit is read through every other", async () => {
    const volume = await lab.anyApi().volume("large");
    const bytes = Buffer.alloc(3 * MIB, "what a host wrote across the border of two slices. ");
    const offsetBytes = SLICE_BYTES - MIB - 4096;
    using writer = await attach(volume, 0);
    await writer.write(offsetBytes, bytes);
    for (const index of [1, 2, 3]) {
      using reader = await attach(volume, index);
      expect((await reader.read(offsetBytes, bytes.length)).equals(bytes)).toBe(true);
    }
  });

  test("no more room → refused with the reason, nothing left behind", async () => {
    const wish = { name: "huge", sizeBytes: 64 * 1024 * MIB, protection: "mirror-2" as const };
    const asked = lab.anyApi().createVolume(wish);
    await expect(asked).rejects.toThrow(/room|space|fit|free|has/i);
    const names = (await lab.anyApi().volumes()).map((volume) => volume.name);
    expect(names).toEqual(["large"]);
  });
});

async function attach(volume: VolumeView, index: number): Promise<NbdClient> {
  const uri = volume.uris[index];
  if (uri === undefined) throw new Error(`the volume has no address ${index}`);
  return NbdClient.open(nbdAddress(uri), CONNECT_MS);
}

describe("a unit that comes later", () => {
  test("with the secret → joins the cluster and its pool by itself", async () => {
    const late = lab.add();
    late.start();
    await lab.until("the late unit in", () => assembled(lab), LIMIT_MS);
    const status = await late.api.status();
    expect(status.pool).toBe("pool");
    expect(status.unit).toBe(5);
    // Any two of five units may be lost, and so may their votes.
    await lab.until("five voters", () => voters(lab, 5), LIMIT_MS);
  });

  test("with its disk → the disk takes slices", async () => {
    const { unit } = await lab.unit(5).api.status();
    const has = async () => {
      const disk = (await lab.anyApi().disks()).find((one) => one.unit === unit);
      need(disk?.state === "ready", `its disk is ${disk?.state}: ${disk?.reason}`);
      return disk as NonNullable<typeof disk>;
    };
    const disk = await lab.until("its disk ready", has, LIMIT_MS);
    await createVolume(lab, { name: "late", sizeBytes: SLICE_BYTES }, LIMIT_MS);
    const volume = await lab.anyApi().volume("late");
    // It has most room by far.
    expect(volume.slices[0]?.members.map((member) => member.disk)).toContain(disk.disk);
  });
});

describe("a unit that does not belong", () => {
  test("without a secret → waits, says for what, is in no cluster", async () => {
    const stranger = lab.add({ joinSecret: null });
    await standsApart(stranger, "waiting");
    await stranger.stop();
  });

  test("with another secret and joining only → waits, is in no cluster", async () => {
    const settings = { sliceBytes: SLICE_BYTES, mayFound: false };
    const stranger = lab.add({ joinSecret: "another secret, of another house", settings });
    await standsApart(stranger, "waiting");
    await stranger.stop();
  });

  async function standsApart(stranger: Lab["units"][number], phase: string): Promise<void> {
    const before = await lab.unit(1).api.units();
    stranger.start();
    const look = async () => {
      const status = await stranger.api.status();
      const waits = status.phase === phase && status.sentence !== "starting";
      need(waits, `${status.phase}: ${status.sentence}`);
      return status;
    };
    const status = await lab.until("the stranger waits", look, LIMIT_MS);
    expect(status.cluster).toBeNull();
    expect(status.sentence).toMatch(/secret|join|admit|wait/i);
    expect(await lab.unit(1).api.units()).toHaveLength(before.length);
  }
});
