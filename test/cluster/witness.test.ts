// SPDX-License-Identifier: Apache-2.0
//
// Two units and a witness (R5), on real processes while a host writes: whichever of the two dies,
// the other goes on, since two of three votes are left; the witness's death is not noticed at all.
// Root only.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { assembled, protectedEverywhere, voters } from "./assembled.ts";
import { LIMIT_MS, Probes, SLICE_BYTES, VOLUME, startCluster } from "./cluster-fixture.ts";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";

let lab: Lab;
beforeAll(async () => {
  lab = await startCluster({ members: 2, witness: true, volumeBytes: SLICE_BYTES });
}, 3 * LIMIT_MS);
afterAll(() => lab?.end());

const members = () => [lab.unit(1), lab.unit(2)] as const;
const witness = () => lab.unit(3);

async function whole(): Promise<void> {
  await lab.until("one cluster of all units", () => assembled(lab), LIMIT_MS);
  await lab.until("three voters", () => voters(lab, 3), LIMIT_MS);
  await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), LIMIT_MS);
}

test(
  "the witness → votes, holds no disk, is in no pool, and does not lead",
  async () => {
    await whole();
    const status = await witness().api.status();
    expect(status).toMatchObject({ role: "witness", pool: null, voter: true });
    expect(status.controlStation).not.toBe(status.unit);
    expect((await witness().api.disks()).filter((disk) => disk.unit === status.unit)).toEqual([]);
    const rows = await witness().api.losses();
    expect(rows).toHaveLength(3);
    expect(rows.every((row) => !row.controlStops)).toBe(true);
  },
  2 * LIMIT_MS,
);

test(
  "kill -9 of either unit, in turn → the other one serves, nothing acked is lost",
  async () => {
    for (const [dying, staying] of [members(), [...members()].reverse() as [LabUnit, LabUnit]]) {
      await using probes = new Probes(lab, [staying]);
      await probes.write();
      await dying.kill();
      await probes.write();
      dying.start();
      await whole();
      await probes.finish();
    }
  },
  6 * LIMIT_MS,
);

test(
  "kill -9 of the witness → no host notices, and it comes back",
  async () => {
    await using probes = new Probes(lab, [lab.unit(2)]);
    await probes.write();
    await witness().kill();
    await probes.write();
    expect((await lab.unit(1).api.volume(VOLUME)).state).toBe("protected");
    witness().start();
    await whole();
    await probes.finish();
  },
  3 * LIMIT_MS,
);
