// SPDX-License-Identifier: Apache-2.0
//
// Ten units that are switched on together become one cluster in one run; and units whose addresses
// change while hosts write, as by DHCP, stay in it and are found where they are. Root only.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { frontFirst, headOf, oneCluster, protectedEverywhere } from "./assembled.ts";
import { LIMIT_MS, MIB, SLICE_BYTES, VOLUME } from "./cluster-fixture.ts";
import { keepsWriting, startCluster } from "./cluster-fixture.ts";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { NbdClient, nbdAddress } from "./nbd-client.ts";
import { GapProbe } from "./probe.ts";
import { need } from "./until.ts";

setDefaultTimeout(4 * LIMIT_MS);

const UNITS = 10;
const ATTACH_MS = 10_000;

let lab: Lab;
beforeAll(async () => {
  const shape = { members: UNITS, diskBytes: 192 * MIB, volumeBytes: 2 * SLICE_BYTES };
  lab = await startCluster(shape);
}, 4 * LIMIT_MS);
afterAll(() => lab?.end());

test("ten units → one cluster, each in the pool by a number of its own, five votes", async () => {
  const all = await oneCluster(lab);
  expect(all).toHaveLength(UNITS);
  expect(new Set(all.map((status) => status.unit)).size).toBe(UNITS);
  expect(new Set(all.map((status) => status.pool))).toEqual(new Set(["pool"]));
  expect(all.filter((status) => status.voter)).toHaveLength(5);
  const disks = await lab.anyApi().disks();
  expect(disks.filter((disk) => disk.state === "ready")).toHaveLength(UNITS);
});

/** Every running unit lists the unit with this address, and no other IPv4 one. */
async function isAt(unit: LabUnit, address: string): Promise<void> {
  const look = async () => {
    for (const { api, name } of lab.running) {
      const found = (await api.units()).find((view) => view.name === unit.name);
      const four = found?.addresses.filter((one) => !one.includes(":")) ?? [];
      need(four.join() === address, `${name} has ${unit.name} at ${four.join(", ")}`);
    }
    return true;
  };
  await lab.until(`${unit.name} is at ${address}`, look, LIMIT_MS);
}

test("the head's address changes while a host writes → found there, nothing is lost", async () => {
  const head = await headOf(lab, VOLUME);
  await using probe = new GapProbe({ uris: frontFirst(lab, VOLUME), offsetBytes: 0 });
  await keepsWriting(lab, probe);
  const address = lab.network.readdress(head.place, 100 + head.place);
  await isAt(head, address);
  const uris = (await lab.anyApi().volume(VOLUME)).uris;
  expect(uris).toContain(`nbd://${address}:10809/${VOLUME}`);
  expect(uris.join()).not.toContain(`//${head.address}:`);
  using client = await NbdClient.open(nbdAddress(`nbd://${address}:10809/${VOLUME}`), ATTACH_MS);
  expect((await client.read(MIB, 4096)).length).toBe(4096);
  // Between units nothing depends on it: no copy was dropped for it.
  await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), LIMIT_MS);
  await keepsWriting(lab, probe);
  await probe.finish();
});

test("its address among units is taken away → taken again; the unit stays", async () => {
  const unit = await headOf(lab, VOLUME);
  lab.network.forgetIpv6(unit.place);
  const own = (await lab.anyApi().units()).find((view) => view.name === unit.name)?.addresses[0];
  const asker = lab.units.find((one) => one !== unit) as LabUnit;
  const linked = async () => {
    const found = (await asker.api.units()).find((view) => view.name === unit.name);
    need(found?.alive === true && found.link === "up", `${unit.name}: ${found?.link}`);
    need(lab.network.has(unit.place, own ?? ""), `${own} is not there`);
    return true;
  };
  await lab.until("the unit is linked by its own address", linked, LIMIT_MS);
  await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), LIMIT_MS);
});
