// SPDX-License-Identifier: Apache-2.0
//
// A cluster for the tests of this folder: so many units of one lab, assembled, with as many voters
// as they are to have, and a mirrored volume that this machine may attach to.

import type { Protection } from "#base/layout.ts";
import { voterTarget } from "#cluster/voters.ts";
import { assembled, createVolume, protectedEverywhere, voters } from "./assembled.ts";
import { controlStation, frontFirst, headOf, through } from "./assembled.ts";
import { etcdLeader } from "./etcd-leader.ts";
import { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { GapProbe } from "./probe.ts";
import { NotYet, need } from "./until.ts";

export const MIB = 2 ** 20;
export const VOLUME = "vol";
export const SLICE_BYTES = 64 * MIB;
/** Generous: a busy machine in CI. What is promised is measured by judge-run.ts. */
export const LIMIT_MS = 120_000;
const PROBE_WRITES = 10;

export interface ClusterShape {
  members?: number;
  spares?: number;
  /** Adds one, without disks. */
  witness?: boolean;
  disks?: number;
  diskBytes?: number;
  /** Any settings of the units' configuration besides. */
  settings?: Record<string, unknown>;
  volumeBytes?: number;
  protection?: Protection;
  sliceBytes?: number;
  reprotectAfterMs?: number;
}

export async function startCluster(shape: ClusterShape = {}): Promise<Lab> {
  const { members = 3, spares = 0, witness = false, diskBytes = 1024 * MIB } = shape;
  const { volumeBytes = 256 * MIB, reprotectAfterMs = 600_000 } = shape;
  const { sliceBytes = SLICE_BYTES, protection = "mirror-2", disks = 1 } = shape;
  const settings = { sliceBytes, reprotectAfterMs, ...shape.settings };
  const lab = new Lab({ unit: { disks, diskBytes, settings } });
  try {
    for (let place = 1; place <= members + spares; place++) {
      lab.add({ role: place <= members ? "member" : "spare" });
    }
    if (witness) lab.add({ role: "witness", disks: 0 });
    for (const unit of lab.units) unit.start();
    await lab.until("one cluster of all units", () => assembled(lab), LIMIT_MS);
    if (volumeBytes > 0) {
      await createVolume(lab, { name: VOLUME, sizeBytes: volumeBytes, protection }, LIMIT_MS);
    }
    const count = voterTarget(lab.units.length);
    if (count >= 3) await lab.until(`${count} voters`, () => voters(lab, count), LIMIT_MS);
    return lab;
  } catch (error) {
    await lab.end();
    throw error;
  }
}

/** All units back and in their places, the volume whole: as before whatever was done. */
export async function healed(lab: Lab): Promise<void> {
  await lab.until("one cluster of all units", () => assembled(lab), LIMIT_MS);
  await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), LIMIT_MS);
  await lab.until("three voters", () => voters(lab, 3), LIMIT_MS);
}

/** A probe through the front, one through another unit; both stay off each other's blocks. */
export class Probes implements AsyncDisposable {
  readonly direct: GapProbe;
  readonly inband: GapProbe;
  readonly #lab: Lab;

  constructor(lab: Lab, doors: readonly LabUnit[]) {
    this.#lab = lab;
    this.direct = new GapProbe({ uris: frontFirst(lab, VOLUME), offsetBytes: 0 });
    const uris = through(doors, VOLUME);
    this.inband = new GapProbe({ uris, offsetBytes: MIB, identity: 2 });
  }

  /** Waits until both write, and have gone on writing. */
  async write(): Promise<void> {
    await keepsWriting(this.#lab, this.direct);
    await keepsWriting(this.#lab, this.inband);
  }

  gapsSince(sinceMs: number): { directMs: number; inbandMs: number } {
    return {
      directMs: this.direct.gapSince(sinceMs).gapMs,
      inbandMs: this.inband.gapSince(sinceMs).gapMs,
    };
  }

  /** Both end, and what they wrote is not looked at. */
  async stop(): Promise<void> {
    await this.direct.stop();
    await this.inband.stop();
  }

  /** Both read all they wrote and compare it. */
  async finish(): Promise<void> {
    await this.direct.finish();
    await this.inband.finish();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.direct[Symbol.asyncDispose]();
    await this.inband[Symbol.asyncDispose]();
  }
}

/** Waits until the probe has written some more. */
export async function keepsWriting(lab: Lab, probe: GapProbe): Promise<void> {
  const goal = probe.writes + PROBE_WRITES;
  const look = () => {
    if (probe.writes >= goal) return true;
    throw new NotYet(`the probe's last trouble: ${probe.lastFailure}`);
  };
  await lab.until("the probe writes", look, LIMIT_MS);
}

/** All vote again, and somebody else can take over: less than whole, and sooner (R13's delay). */
export async function safeAgain(lab: Lab): Promise<void> {
  const look = async (): Promise<true> => {
    await voters(lab, 3);
    const [first] = (await lab.anyApi().volume(VOLUME)).slices;
    const inSync = first?.members.filter(({ state }) => state === "in-sync").length ?? 0;
    need(inSync >= 2, `${inSync} copies are in sync`);
    return true;
  };
  await lab.until("three voters, two copies", look, LIMIT_MS);
}

/** The head as another unit sees it, since that one may not answer. */
export async function anotherHead(lab: Lab, than: LabUnit): Promise<LabUnit> {
  const witness = lab.running.find((unit) => unit !== than);
  if (witness === undefined) throw new Error("there are no others");
  const volume = await witness.api.volume(VOLUME);
  const first = volume.slices.find((slice) => slice.index === 0);
  const member = first?.members.find((one) => one.disk === first.head);
  const view = (await witness.api.units()).find((one) => one.unit === member?.unit);
  need(view !== undefined && view.name !== than.name, `${than.name} still is the head`);
  return lab.units.find((one) => one.name === view?.name) as LabUnit;
}

export interface Leads {
  head: LabUnit;
  station: LabUnit;
  etcd: LabUnit;
}

export async function leads(lab: Lab): Promise<Leads> {
  const look = async () => ({
    head: await headOf(lab, VOLUME),
    station: await controlStation(lab),
    etcd: await etcdLeader(lab),
  });
  return lab.until("head, control station and etcd leader", look, LIMIT_MS);
}

/** The control station by orderly stops where it is to be; answers who leads now. */
export async function arrange(
  lab: Lab,
  what: string,
  holds: (leads: Leads) => boolean,
): Promise<Leads> {
  for (let attempt = 0; attempt < 8; attempt++) {
    const now = await leads(lab);
    if (holds(now)) return now;
    await now.station.stop();
    const away = now.station.name;
    await lab.until(
      "another control station",
      async () => {
        const next = await controlStation(lab);
        need(next.name !== away, `${away} still is the control station`);
        return next;
      },
      LIMIT_MS,
    );
    now.station.start();
    await healed(lab);
  }
  throw new Error(`${what} did not come about`);
}
