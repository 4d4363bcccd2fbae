// SPDX-License-Identifier: Apache-2.0
//
// The whole cluster goes dark and comes back: all daemons killed at once under load, and all power
// lost. Guards R0, R3, R6 and H6 of the contract on real processes. Root only.

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { attachedTo, expectFilled, fill, holders, killAll, powerOff } from "./all-off.ts";
import { QUIET_MS, saysItWaitsFor } from "./all-off.ts";
import { LIMIT_MS, Probes, SLICE_BYTES, VOLUME, healed, startCluster } from "./cluster-fixture.ts";
import type { Lab } from "./lab.ts";
import { need, pause } from "./until.ts";

const EXTENTS = 16;

let lab: Lab;
beforeAll(async () => {
  lab = await startCluster({ volumeBytes: SLICE_BYTES });
}, 3 * LIMIT_MS);
afterAll(() => lab?.end());
beforeEach(async () => {
  for (const unit of lab.units) if (!unit.running) unit.start();
  await healed(lab);
}, 3 * LIMIT_MS);

test("all daemons killed at once under load → all acked is there, the hosts go on", async () => {
  await using probes = new Probes(lab, lab.units);
  await probes.write();
  await killAll(lab);
  for (const unit of lab.units) unit.start();
  await probes.write();
  await healed(lab);
  await probes.finish();
});

describe("all power is lost", () => {
  test("under load, a copy's unit stays away → named, and not served without it", async () => {
    await fill(lab, EXTENTS, "before the power cut");
    const [head, other] = await holders(lab);
    if (head === undefined || other === undefined) throw new Error("the volume has no two copies");
    {
      await using probes = new Probes(lab, lab.units);
      await probes.write();
      await powerOff(lab);
    }
    for (const unit of lab.units) if (unit !== other) unit.start();
    expect(await saysItWaitsFor(lab, other)).toContain(other.name);
    await pause(QUIET_MS);
    const { availability } = await lab.anyApi().volume(VOLUME);
    expect(availability).not.toBe("online");
    other.start();
    await healed(lab);
    await expectFilled(lab, EXTENTS, "before the power cut");
  });

  for (const [whose, index] of [
    ["its head's", 0],
    ["the other copy's", 1],
  ] as const) {
    test(`idle, and ${whose} unit stays away → it serves by the one that is left`, async () => {
      await fill(lab, EXTENTS, "long before the power cut");
      await pause(QUIET_MS);
      const away = (await holders(lab))[index];
      await powerOff(lab);
      for (const unit of lab.units) if (unit !== away) unit.start();
      const online = async () => {
        const { availability, sentence } = await lab.anyApi().volume(VOLUME);
        need(availability === "online", sentence);
        return true;
      };
      await lab.until("the volume serves by one copy", online, LIMIT_MS);
      await expectFilled(lab, EXTENTS, "long before the power cut");
      using host = await attachedTo(lab);
      await host.write(0, Buffer.alloc(4096, "afterwards "));
      await host.flush();
    });
  }
});
