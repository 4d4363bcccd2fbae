// SPDX-License-Identifier: Apache-2.0
//
// Units that are taken out for work or are to go, on real units while hosts write: asked
// beforehand, switched off and waited for; evacuated with head, vote and lead, removed, and
// replaced by a spare. Root only.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { UnitView } from "#appliance/backend.ts";
import { headOf, protectedEverywhere, voters } from "./assembled.ts";
import { LIMIT_MS, Probes, SLICE_BYTES, VOLUME, startCluster } from "./cluster-fixture.ts";
import { etcdLeader, moveEtcdLead } from "./etcd-leader.ts";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { Hopeless, need, pause } from "./until.ts";

setDefaultTimeout(4 * LIMIT_MS);

/** In a row; some seconds, of which a hand-over takes one at most. */
const WAITING_LOOKS_MAX = 30;
/** As of an orderly stop. */
const HANDED_ON_GAP_MS = 8_000;
/** Longer than what is set for copies to be made anew, and for the station to notice. */
const AWAY_MS = 6_000;

let lab: Lab;
beforeAll(async () => {
  lab = await startCluster({ members: 4, spares: 1, volumeBytes: 4 * SLICE_BYTES });
}, 3 * LIMIT_MS);
afterAll(() => lab?.end());

async function unitsOf(volume: string): Promise<Set<number>> {
  const { slices } = await lab.anyApi().volume(volume);
  return new Set(slices.flatMap((slice) => slice.members.map((member) => member.unit)));
}

/** As a unit that stays sees it. */
async function viewOf(asker: LabUnit, name: string): Promise<UnitView | null> {
  return (await asker.api.units()).find((unit) => unit.name === name) ?? null;
}

/**
 * Looks at the volume again and again until `ends`; every look must find it protected, and online
 * but for the moment in which another one begins to head it.
 */
async function staysWhole(asker: LabUnit, what: string, ends: () => Promise<boolean>) {
  let looks = 0;
  let waiting = 0;
  const look = async () => {
    const { availability, state, sentence } = await asker.api.volume(VOLUME);
    waiting = availability === "online" ? 0 : waiting + 1;
    if (waiting > WAITING_LOOKS_MAX || state !== "protected") {
      throw new Hopeless(`the volume is ${availability}, ${state}: ${sentence}`);
    }
    looks++;
    need(await ends(), "not yet");
    return true;
  };
  await lab.until(what, look, LIMIT_MS);
  return looks;
}

/** What hosts see of it, in-band as well. */
function expectHandedOn(probes: Probes, since: number): void {
  const { directMs, inbandMs } = probes.gapsSince(since);
  expect(directMs).toBeLessThan(HANDED_ON_GAP_MS);
  expect(inbandMs).toBeLessThan(HANDED_ON_GAP_MS);
}

test("a drill: a chosen unit falls silent to a canary → taken over, every byte right", async () => {
  const silent = await headOf(lab, VOLUME);
  const asker = lab.units.find((unit) => unit !== silent) as LabUnit;
  const { unit: number } = await silent.api.status();
  const state = await asker.api.drill(silent.name, performance.now() + LIMIT_MS);
  expect(state).toMatchObject({ phase: "over", passed: true });
  const { outcome } = state;
  expect(outcome).toMatchObject({ fromUnit: number, wrongBlocks: 0, errors: 0, failure: null });
  expect(outcome?.toUnit).not.toBe(number);
  expect(outcome?.gapMs).toBeGreaterThan(0);
  expect(outcome?.verifiedBlocks).toBeGreaterThan(0);
  expect(outcome?.protectedMs).toBeGreaterThan(0);
  const gone = async () => {
    const names = (await asker.api.volumes()).map((volume) => volume.name);
    need(names.join() === VOLUME, names.join());
    return true;
  };
  await lab.until("the canary is gone", gone, LIMIT_MS);
  const told = (await asker.api.events()).map((event) => event.sentence);
  expect(told.some((sentence) => sentence.startsWith(`drill: ${silent.name} fell silent`))).toBe(
    true,
  );
});

test("the head's unit taken out for work → hands all on, nothing copied anew", async () => {
  const working = await headOf(lab, VOLUME);
  const asker = lab.units.find((unit) => unit !== working) as LabUnit;
  await moveEtcdLead(lab, working);
  const { unit: number } = await working.api.status();
  const before = await unitsOf(VOLUME);
  // A spare is there: without the maintenance it would be used at once.
  await asker.api.changeSettings({ reprotectAfterMs: 1000 });
  await using probes = new Probes(lab, [asker]);
  await probes.write();
  const since = performance.now();
  const expected = await asker.api.maintain(working.name, { forMs: 3_600_000 });
  expect(expected.volumes).toMatchObject([{ name: VOLUME, availability: "online" }]);
  const handedOn = async () => {
    const view = await viewOf(asker, working.name);
    need(view?.maintenance?.heads === 0, view?.maintenance?.sentence ?? "not in maintenance");
    need(view?.controlStation === false, "it is the control station still");
    need((await etcdLeader(lab)) !== working, "its etcd leads still");
    need((await asker.api.volume(VOLUME)).state === "protected", "not whole yet");
    return true;
  };
  await lab.until("all is handed on, and it is a member still", handedOn, LIMIT_MS);
  await probes.write();
  expect(probes.gapsSince(since).directMs).toBeLessThan(HANDED_ON_GAP_MS);

  await working.stop();
  const away = async () => {
    const view = await viewOf(asker, working.name);
    const { slices } = await asker.api.volume(VOLUME);
    const isWaitedFor = slices.every(({ members }) =>
      members.some((member) => member.unit === number && member.state === "resyncing"),
    );
    need(view?.alive === false && isWaitedFor, "it is not away yet");
    return true;
  };
  await lab.until("it is away, and waited for", away, LIMIT_MS);
  await probes.write();
  await pause(AWAY_MS);
  expect(await unitsOf(VOLUME)).toEqual(before);
  expect(await viewOf(asker, lab.unit(5).name)).toMatchObject({ role: "spare" });
  working.start();
  await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), LIMIT_MS);
  await asker.api.endMaintenance(working.name);
  expect(await unitsOf(VOLUME)).toEqual(before);
  expect((await viewOf(asker, working.name))?.maintenance).toBeNull();
  await asker.api.changeSettings({ reprotectAfterMs: 600_000 });
  await probes.finish();
});

test("the head's unit: asked, evacuated, removed → whole all the while, nothing lost", async () => {
  const leaving = await headOf(lab, VOLUME);
  const asker = lab.units.find((unit) => unit !== leaving) as LabUnit;
  await using probes = new Probes(lab, [asker]);
  await probes.write();

  const lost = await asker.api.whatIf(`unit=${leaving.name}`);
  expect(lost.volumes).toMatchObject([{ name: VOLUME, availability: "online" }]);
  expect(lost.volumes[0]?.later).toBe("protected");
  await expect(asker.api.remove(leaving.name)).rejects.toThrow("a copy fewer");
  const plan = await asker.api.evacuate(leaving.name, { dryRun: true });
  expect(plan.withoutRoom).toBe(0);
  expect((await viewOf(asker, leaving.name))?.evacuation).toBeNull();

  const since = performance.now();
  await asker.api.evacuate(leaving.name, {});
  const { unit: number } = await leaving.api.status();
  const looks = await staysWhole(asker, `${leaving.name} is empty`, async () => {
    const view = await viewOf(asker, leaving.name);
    const isGone = !(await unitsOf(VOLUME)).has(number) && view?.evacuation?.left === 0;
    return isGone && view?.voter === false && view?.controlStation === false;
  });
  expect(looks).toBeGreaterThan(2);
  await lab.until("the votes of all that stay", () => voters(lab, 4), LIMIT_MS);
  await probes.write();
  expectHandedOn(probes, since);

  await asker.api.remove(leaving.name);
  expect(await viewOf(asker, leaving.name)).toBeNull();
  // It knows, forgets the cluster, and does not get in again by itself (R12).
  const out = async () => {
    const { cluster, sentence } = await leaving.api.status();
    need(cluster === null && sentence.includes("removed"), sentence);
    return sentence;
  };
  const sentence = await lab.until("it knows that it was removed", out, LIMIT_MS);
  expect(sentence).toContain("Once it is made new it may join again");
  await leaving.stop();
  await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), LIMIT_MS);
  await probes.finish();
});

test("another one: replaced by the spare → holds what it held, and is gone by itself", async () => {
  const leaving = await headOf(lab, VOLUME);
  const spare = lab.unit(5);
  const asker = lab.running.find((unit) => unit !== leaving && unit !== spare) as LabUnit;
  await using probes = new Probes(lab, [asker]);
  await probes.write();
  const since = performance.now();
  await asker.api.replace(leaving.name, spare.name);
  await staysWhole(asker, `${leaving.name} is removed`, async () => {
    return (await viewOf(asker, leaving.name)) === null;
  });
  expect(await viewOf(asker, spare.name)).toMatchObject({ role: "member", pool: "pool" });
  await probes.write();
  expectHandedOn(probes, since);
  await leaving.stop();
  const left = await asker.api.units();
  expect(left.map((unit) => unit.name)).not.toContain(leaving.name);
  await lab.until("three voters", () => voters(lab, 3), LIMIT_MS);
  await probes.finish();
  const told = (await asker.api.events()).map((event) => event.sentence);
  const isTold = (words: string) => told.some((sentence) => sentence.includes(words));
  expect(isTold(`${spare.name} takes its place`)).toBe(true);
  expect(isTold(`${leaving.name} was removed from the cluster: it was evacuated before`)).toBe(
    true,
  );
});

test("a unit whose place nobody can take → refused; insisted on → it waits", async () => {
  const members = lab.running;
  expect(members).toHaveLength(3);
  const wish = { name: "three", sizeBytes: SLICE_BYTES, protection: "mirror-3" as const };
  const [leaving, asker] = members as [LabUnit, LabUnit];
  // By the one that is asked afterwards: others hear of it a moment later.
  await asker.api.createVolume({ ...wish, hosts: [] });
  await expect(asker.api.evacuate(leaving.name, {})).rejects.toThrow("no room, or no further unit");
  await asker.api.evacuate(leaving.name, { force: true });
  const waits = async () => {
    const sentence = (await viewOf(asker, leaving.name))?.evacuation?.sentence ?? "";
    need(sentence.includes("no room, or no further unit"), sentence);
    return sentence;
  };
  await lab.until("it says what it waits for", waits, LIMIT_MS);
  await lab.until("it is served", () => protectedEverywhere(lab, "three"), LIMIT_MS);
});
