// SPDX-License-Identifier: Apache-2.0
//
// All units of a cluster lose their power at one moment: their daemons end without a word, and what
// they kept in memory is gone. What a disk had taken is on it afterwards, as this machine goes on;
// disks that forget what was not flushed are the simulator's and QEMU's.

import { headOf } from "./assembled.ts";
import { LIMIT_MS, MIB, VOLUME } from "./cluster-fixture.ts";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { NbdClient } from "./nbd-client.ts";
import { need } from "./until.ts";

/** Regions without writes become inactive within this (R6). */
export const QUIET_MS = 8_000;
const ATTACH_MS = 10_000;

/** A host of the volume through its first slice's head, once there is one that answers. */
export function attachedTo(lab: Lab, name = VOLUME): Promise<NbdClient> {
  const open = async () => {
    const door = await headOf(lab, name);
    return NbdClient.open({ host: door.address, port: 10809, name }, ATTACH_MS);
  };
  return lab.until("a host attached", open, LIMIT_MS);
}

export async function killAll(lab: Lab): Promise<void> {
  await Promise.all(lab.units.map((unit) => unit.kill()));
}

export async function powerOff(lab: Lab): Promise<void> {
  await killAll(lab);
  for (const unit of lab.units) unit.forget();
}

/** Those of the units that hold a copy of the volume's first slice, its head first. */
export async function holders(lab: Lab): Promise<LabUnit[]> {
  const head = await headOf(lab, VOLUME);
  const first = (await lab.anyApi().volume(VOLUME)).slices.find(({ index }) => index === 0);
  const all = await Promise.all((first?.members ?? []).map(({ unit }) => lab.unitOfNumber(unit)));
  return [head, ...all.filter((unit) => unit !== head)];
}

/** What the running units say the volume waits for, once they name `unit` in it. */
export function saysItWaitsFor(lab: Lab, unit: LabUnit): Promise<string> {
  const look = async () => {
    const { availability, sentence } = await lab.anyApi().volume(VOLUME);
    need(availability !== "online", `it is online: ${sentence}`);
    need(sentence.includes(unit.name), `it does not name ${unit.name}: ${sentence}`);
    return sentence;
  };
  return lab.until(`the volume names ${unit.name}`, look, LIMIT_MS);
}

/** Written in full and flushed: what no power cut may take. */
export async function fill(lab: Lab, extents: number, text: string, name = VOLUME): Promise<void> {
  using host = await attachedTo(lab, name);
  for (let extent = 0; extent < extents; extent++) {
    await host.write((FIRST_EXTENT + extent) * MIB, contentOf(extent, text));
  }
  await host.flush();
}

/** Throws when a byte of what `fill` wrote is another. */
export async function expectFilled(
  lab: Lab,
  extents: number,
  text: string,
  name = VOLUME,
): Promise<void> {
  using host = await attachedTo(lab, name);
  for (let extent = 0; extent < extents; extent++) {
    const found = await host.read((FIRST_EXTENT + extent) * MIB, MIB);
    if (!found.equals(contentOf(extent, text))) throw new Error(`extent ${extent} differs`);
  }
}

/** The probes write below. */
const FIRST_EXTENT = 2;

function contentOf(extent: number, text: string): Buffer {
  return Buffer.alloc(MIB, `${text}, extent ${extent}. `);
}
