// SPDX-License-Identifier: Apache-2.0
//
// What tests, demo and judge ask of a lab's units together: is it one cluster, who has which part,
// is a volume whole. Everything is asked over REST, of several units where they must agree.

import type { TlsRule } from "#base/tls.ts";
import type { UnitStatus, VolumeView } from "#appliance/backend.ts";
import type { Protection } from "#base/layout.ts";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { NotYet, need, pause } from "./until.ts";

/** Longer than a unit's report of its data path takes to come (5 s when idle). */
const FIGURES_MS = 5_500;

/** One cluster of all running units: each has joined it and knows the control station. */
export async function oneCluster(lab: Lab): Promise<UnitStatus[]> {
  const all = await Promise.all(lab.running.map((unit) => unit.api.status()));
  const clusters = new Set(all.map((status) => status.cluster?.uuid ?? "none"));
  need(clusters.size === 1, `${clusters.size} clusters: ${sentences(all)}`);
  for (const status of all) {
    need(status.cluster !== null && status.phase === "joined", sentences(all));
    need(status.controlStation !== null, `${status.name} knows no control station`);
  }
  return all;
}

/** One cluster with every running unit known to all, and the pool of those that are members. */
export async function assembled(lab: Lab): Promise<true> {
  const all = await oneCluster(lab);
  for (const unit of lab.running) {
    const alive = (await unit.api.units()).filter((view) => view.alive).length;
    need(alive === all.length, `${unit.name} sees ${alive} of ${all.length} units alive`);
  }
  for (const status of all) {
    need(status.role !== "member" || status.pool !== null, `${status.name} is in no pool`);
  }
  return true;
}

export async function voters(lab: Lab, count: number): Promise<true> {
  const all = await oneCluster(lab);
  for (const status of all) {
    const seen = status.voters.length;
    need(seen === count, `${status.name} sees ${seen} voters: ${status.voters.join(" ")}`);
  }
  const really = all.filter((status) => status.voter).length;
  need(really === count, `${really} units say they are voters`);
  return true;
}

/** The volume as every running unit sees it: online everywhere, and protected. */
export async function protectedEverywhere(lab: Lab, name: string): Promise<VolumeView> {
  let found: VolumeView | null = null;
  for (const unit of lab.running) {
    const volume = await unit.api.volume(name);
    need(
      volume.availability === "online" && volume.state === "protected",
      `${unit.name} sees ${name} ${volume.availability}, ${volume.state}: ${volume.sentence}`,
    );
    found = volume;
  }
  if (found === null) throw new NotYet("no unit runs");
  return found;
}

export interface VolumeWish {
  name: string;
  sizeBytes: number;
  protection?: Protection;
  tls?: TlsRule;
}

/** Creates it for this machine as its host, once the cluster can. */
export function createVolume(lab: Lab, wish: VolumeWish, limitMs = 30_000): Promise<VolumeView> {
  const request = { protection: "mirror-2" as const, ...wish };
  return lab.until(`volume ${wish.name} created`, () => tryCreate(lab, request), limitMs);
}

async function tryCreate(
  lab: Lab,
  request: Parameters<LabUnit["api"]["createVolume"]>[0],
): Promise<VolumeView> {
  const api = lab.anyApi();
  const there = (await api.volumes()).find((volume) => volume.name === request.name);
  // An answer that was lost: it exists all the same.
  if (there?.availability === "online") return there;
  return api.createVolume({ ...request, hosts: [await api.hostFrom(lab.hostAddress)] });
}

/** The unit that heads the volume's first slice. */
export async function headOf(lab: Lab, name: string): Promise<LabUnit> {
  const volume = await lab.anyApi().volume(name);
  const first = volume.slices.find((slice) => slice.index === 0);
  const member = first?.members.find((one) => one.disk === first.head);
  if (member === undefined) throw new NotYet(`${name} has no head at the moment`);
  return lab.unitOfNumber(member.unit);
}

export async function controlStation(lab: Lab): Promise<LabUnit> {
  const { controlStation: number } = await lab.anyApi().status();
  if (number === null) throw new NotYet("there is no control station at the moment");
  return lab.unitOfNumber(number);
}

/** Bytes moved by resyncs of the units that run, since each was started. */
export async function resyncedBytes(lab: Lab): Promise<number> {
  // A quiet unit brings its figures up to date every few seconds only.
  await pause(FIGURES_MS);
  const all = await Promise.all(lab.running.map((unit) => unit.api.recovery()));
  return all.reduce((sum, one) => sum + one.resyncedBytes, 0);
}

/** Addresses of a volume, the front's first, as whichever unit answers knows them. */
export function frontFirst(lab: Lab, name: string): () => Promise<string[]> {
  return async () => {
    let last: unknown = new NotYet("no unit runs");
    for (const unit of lab.running) {
      try {
        const { uris } = await unit.api.volume(name);
        if (uris.length > 0) return uris;
      } catch (error) {
        last = error;
      }
    }
    throw last;
  };
}

/** Addresses of a volume through the named units only, in that order. */
export function through(units: readonly LabUnit[], name: string): () => Promise<string[]> {
  return async () => units.map((unit) => `nbd://${unit.address}:10809/${name}`);
}

function sentences(all: readonly UnitStatus[]): string {
  return all.map(({ name, phase, sentence }) => `${name} ${phase}: ${sentence}`).join("; ");
}
