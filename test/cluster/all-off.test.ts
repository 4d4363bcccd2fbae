// SPDX-License-Identifier: Apache-2.0
//
// The whole cluster goes dark and comes back: all daemons killed at once under load, all power
// lost, and the control state restored from a backup, or rebuilt without one. Guards R0, R3, R6 and
// H6 of the contract on real processes. Root only.

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { attachedTo, expectFilled, fill, holders, killAll, powerOff } from "./all-off.ts";
import { QUIET_MS, saysItWaitsFor } from "./all-off.ts";
import { assembled, createVolume, protectedEverywhere, voters } from "./assembled.ts";
import { LIMIT_MS, Probes, SLICE_BYTES, VOLUME, healed, startCluster } from "./cluster-fixture.ts";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
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

async function areIn(generation: number, units: readonly LabUnit[]): Promise<true> {
  for (const unit of units) {
    const { cluster } = await unit.api.status();
    need(
      cluster?.generation === generation,
      `${unit.name} is in generation ${cluster?.generation}`,
    );
  }
  return true;
}

test(
  "two of three voters' data gone for good → restored from a backup that is older than the disks",
  async () => {
    await fill(lab, EXTENTS, "before the backup");
    const [head, other] = await holders(lab);
    const third = lab.units.find((unit) => unit !== head && unit !== other);
    if (head === undefined || other === undefined || third === undefined)
      throw new Error("no third");
    await third.api.takeBackup();
    // Since then the truth is on the other copy alone, and there is a volume that no backup knows.
    await head.kill();
    await fill(lab, EXTENTS, "after the backup");
    const isMissed = async () => {
      const known = (await lab.anyApi().units()).find(({ name }) => name === head.name);
      need(known?.alive === false, `${head.name} still counts as alive`);
      return true;
    };
    await lab.until("the unit of the first copy is missed", isMissed, LIMIT_MS);
    const { volume: number } = await createVolume(lab, { name: "later", sizeBytes: SLICE_BYTES });
    await fill(lab, EXTENTS, "of no backup", "later");
    // One that has just started says that first.
    const refused = async () => {
      const said = await third.api.restoreControl(true).then(() => "", String);
      need(said.includes("the control store answers"), `a restore is answered: ${said}`);
      return true;
    };
    await lab.until("a restore refused", refused, LIMIT_MS);
    await powerOff(lab);
    for (const unit of [head, other]) unit.loseVoter();
    // The stale copy is there, the newest is not.
    for (const unit of [head, third]) unit.start();
    const plan = () => third.api.restoreControl(true);
    const { sentences, begun } = await lab.until("a restore can be planned", plan, LIMIT_MS);
    expect([sentences.length, begun]).toEqual([5, false]);
    const { generation } = await third.api.restoreControl(false);
    expect(generation).toBe(2);
    await lab.until("both are in generation 2", () => areIn(2, [head, third]), LIMIT_MS);
    expect(await saysItWaitsFor(lab, other)).toContain("to tell what it holds");
    await pause(QUIET_MS);
    expect((await lab.anyApi().volume(VOLUME)).availability).not.toBe("online");
    other.start();
    await healed(lab);
    await expectFilled(lab, EXTENTS, "after the backup");
    const found = `found-${number}`;
    await lab.until("the found volume whole", () => protectedEverywhere(lab, found), LIMIT_MS);
    const api = lab.anyApi();
    await api.assign(found, await api.hostFrom(lab.hostAddress));
    await expectFilled(lab, EXTENTS, "of no backup", found);
    // Numbers are given out once: a new one of the old name is another volume.
    const anew = await createVolume(lab, { name: "later", sizeBytes: SLICE_BYTES });
    expect(anew.volume).toBeGreaterThan(number);
  },
  5 * LIMIT_MS,
);

/**
 * All power is lost, and of each unit what `lose` takes; `first` begins anew, the others come
 * along.
 */
async function rebuiltOn(
  first: LabUnit,
  lose: (unit: LabUnit) => void,
): Promise<{ remembersAtMs: number | null }> {
  await powerOff(lab);
  for (const unit of lab.units) {
    lose(unit);
    unit.start();
  }
  const plan = () => first.api.rebuildControl(true);
  const { remembersAtMs, begun } = await lab.until("a rebuild can be planned", plan, LIMIT_MS);
  expect(begun).toBe(false);
  const { generation } = await first.api.rebuildControl(false);
  await lab.until("all are in it", () => areIn(generation, lab.units), LIMIT_MS);
  return { remembersAtMs };
}

/** Nothing serves before the owner's word, which may be too early; afterwards all of it does. */
async function settled(name: string): Promise<void> {
  await lab.until("the volume is found", () => lab.anyApi().volume(name), LIMIT_MS);
  await pause(QUIET_MS);
  const { availability } = await lab.anyApi().volume(name);
  expect(availability).toBe("waiting");
  await lab.until("all units are there", () => assembled(lab), LIMIT_MS);
  const settle = async () => {
    const disks = (await lab.anyApi().disks()).filter(({ state }) => state === "ready");
    need(disks.length === lab.units.length, `${disks.length} disks are in use`);
    await lab.anyApi().settleControl();
    return true;
  };
  await lab.until("it is settled", settle, LIMIT_MS);
  const api = lab.anyApi();
  await api.assign(name, await api.hostFrom(lab.hostAddress));
  await lab.until("the volume is whole", () => protectedEverywhere(lab, name), LIMIT_MS);
  await lab.until("three voters", () => voters(lab, 3), LIMIT_MS);
}

test(
  "all voters' data gone for good, and no backup → rebuilt; all boot media as well → the same",
  async () => {
    await fill(lab, EXTENTS, "before the loss");
    const { volume: number } = await lab.anyApi().volume(VOLUME);
    const [, second, third] = lab.units;
    if (second === undefined || third === undefined) throw new Error("no three units");
    const byMemory = await rebuiltOn(second, (unit) => {
      unit.loseVoter();
      unit.loseBackups();
    });
    expect(byMemory.remembersAtMs).not.toBeNull();
    await settled(VOLUME);
    await expectFilled(lab, EXTENTS, "before the loss");
    // It is nobody's: whoever has a unit at hand claims it, and gets in through every unit.
    const isClaimed = async () => (await third.api.status()).claim.claimed;
    expect(await isClaimed()).toBe(false);
    await second.api.claim("a password of the owner");
    await lab.until("it is claimed", async () => need(await isClaimed(), "not yet"), LIMIT_MS);
    await fill(lab, EXTENTS, "between the losses");
    // Nobody knows of a cluster any more: a new one is founded, and holds nothing.
    const byDisks = await rebuiltOn(third, (unit) => unit.loseState());
    expect(byDisks.remembersAtMs).toBeNull();
    const found = `found-${number}`;
    await settled(found);
    await expectFilled(lab, EXTENTS, "between the losses", found);
    await lab.anyApi().changeVolume(found, { name: VOLUME });
    await healed(lab);
    await expectFilled(lab, EXTENTS, "between the losses");
    // What disks hold is below all that is given out from now on.
    const anew = await createVolume(lab, { name: "anew", sizeBytes: SLICE_BYTES });
    expect(anew.volume).toBeGreaterThan(number);
  },
  8 * LIMIT_MS,
);
