// SPDX-License-Identifier: Apache-2.0
//
// One after the other the parts of a cluster are taken away while hosts write, directly and
// in-band: the head, the control station, etcd's leader, all in one; by kill -9, orderly stop,
// standstill and cut cable. The hosts go on, and every byte is what it may be. Root only.
//
// Guards H1, H6 and H7 of the contract on real processes, R2 to R4 and R14 by their effects.
// Limits are generous; the promised gaps are measured by judge-run.ts on a quiet machine.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  LIMIT_MS,
  Probes,
  VOLUME,
  anotherHead,
  arrange,
  healed,
  keepsWriting,
  leads,
  startCluster,
  type Leads,
} from "./cluster-fixture.ts";
import { createVolume, headOf, protectedEverywhere, through } from "./assembled.ts";
import { moveEtcdLead } from "./etcd-leader.ts";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { GapProbe } from "./probe.ts";
import { need, pause } from "./until.ts";

/** A gap of a unit that dies: 5 s are promised on a quiet machine. */
const KILL_GAP_MS = 15_000;
const STOP_GAP_MS = 8_000;
/** Nothing healthy waits for what was taken away. */
const NO_GAP_MS = 2_000;
/** Longer than the read grants (R4), so that a takeover happens meanwhile. */
const AWAY_MS = 6_000;
const KILLS = 10;

let lab: Lab;
beforeAll(async () => {
  lab = await startCluster();
}, 3 * LIMIT_MS);
afterAll(() => lab?.end());

function others(unit: LabUnit): LabUnit[] {
  return lab.units.filter((other) => other !== unit);
}

/** Does it to the unit under load; answers the gaps. All is whole again afterwards. */
async function underLoad(
  victim: LabUnit,
  act: (victim: LabUnit) => Promise<void>,
  restore: (victim: LabUnit) => void,
) {
  await using probes = new Probes(lab, others(victim));
  await probes.write();
  const since = performance.now();
  await act(victim);
  await probes.write();
  const gaps = probes.gapsSince(since);
  restore(victim);
  await healed(lab);
  await probes.write();
  // Right while it was away, right after its return.
  await probes.finish();
  return gaps;
}

function expectGaps(gaps: { directMs: number; inbandMs: number }, mostMs: number): void {
  expect(gaps.directMs).toBeLessThan(mostMs);
  expect(gaps.inbandMs).toBeLessThan(mostMs);
}

const kill = (victim: LabUnit) => victim.kill();
const start = (victim: LabUnit) => victim.start();

describe("the head dies", () => {
  // Cuts and standstills as many times over: away.test.ts, on three copies, since a member that
  // left soon before waits longer each time before it comes back (R13); a killed daemon has
  // forgotten.
  test(
    `kill -9, ${KILLS} times → the hosts go on, nothing acked is lost`,
    async () => {
      await using probes = new Probes(lab, lab.units);
      for (let time = 1; time <= KILLS; time++) {
        const head = await lab.until("the head", () => headOf(lab, VOLUME), LIMIT_MS);
        await probes.write();
        const since = performance.now();
        await head.kill();
        await probes.write();
        const gaps = probes.gapsSince(since);
        expectGaps(gaps, KILL_GAP_MS);
        expect(gaps.directMs).toBeGreaterThan(0);
        head.start();
        await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), LIMIT_MS);
      }
      await healed(lab);
      await probes.finish();
    },
    KILLS * LIMIT_MS,
  );

  test("with the control station and etcd's leader in it → the same", async () => {
    const together = (now: Leads) => now.head === now.station;
    const { head } = await arrange(lab, "head and control station in one", together);
    await moveEtcdLead(lab, head);
    expectGaps(await underLoad(head, kill, start), KILL_GAP_MS);
  });

  test("it is stopped in order → a short gap", async () => {
    const { head } = await leads(lab);
    const gaps = await underLoad(head, (victim) => victim.stop(), start);
    expectGaps(gaps, STOP_GAP_MS);
  });

  test("it stands still and wakes as a head of the past → it is fenced (R4)", async () => {
    const { head } = await leads(lab);
    const standStill = async (victim: LabUnit): Promise<void> => {
      victim.freeze();
      await pause(AWAY_MS);
      const next = await lab.until("another head", () => anotherHead(lab, victim), LIMIT_MS);
      expect(next).not.toBe(victim);
      victim.thaw();
    };
    expectGaps(await underLoad(head, standStill, startIfEnded), KILL_GAP_MS);
  });

  test("its cable is pulled → the same", async () => {
    const { head } = await leads(lab);
    const pull = async (victim: LabUnit): Promise<void> => {
      lab.network.cut(victim.place);
      await lab.until("another head", () => anotherHead(lab, victim), LIMIT_MS);
    };
    const plug = (victim: LabUnit) => lab.network.heal(victim.place);
    expectGaps(await underLoad(head, pull, plug), KILL_GAP_MS);
  });
});

describe("nothing healthy waits (R14)", () => {
  test("the control station dies → no gap for what it holds no copy of", async () => {
    await createVolume(lab, { name: "alone", sizeBytes: 4 << 20, protection: "none" }, LIMIT_MS);
    const holder = await lab.until("its holder", () => headOf(lab, "alone"), LIMIT_MS);
    const apart = ({ station }: Leads) => station !== holder;
    const { station } = await arrange(lab, "a control station that does not hold it", apart);
    const uris = through([holder], "alone");
    await using probe = new GapProbe({ uris, offsetBytes: 0 });
    await keepsWriting(lab, probe);
    const since = performance.now();
    await station.kill();
    await lab.until("another control station", () => anotherStation(station), LIMIT_MS);
    await keepsWriting(lab, probe);
    expect(probe.gapSince(since).gapMs).toBeLessThan(NO_GAP_MS);
    station.start();
    await healed(lab);
    await probe.finish();
  });

  test("etcd's leader alone dies → no gap, and it is started again", async () => {
    const { head } = await leads(lab);
    await moveEtcdLead(lab, head);
    await using probes = new Probes(lab, others(head));
    await probes.write();
    const since = performance.now();
    const pid = head.etcdPid();
    if (pid === null) throw new Error(`${head.name} runs no etcd`);
    process.kill(pid, "SIGKILL");
    await probes.write();
    const back = () => {
      const now = head.etcdPid();
      need(now !== null && now !== pid, "etcd is not back yet");
      return now;
    };
    await lab.until("etcd back", back, LIMIT_MS);
    expectGaps(probes.gapsSince(since), NO_GAP_MS);
    await createVolume(lab, { name: "afterwards", sizeBytes: 4 << 20 }, LIMIT_MS);
    await healed(lab);
    await probes.finish();
  });
});

async function anotherStation(unit: LabUnit): Promise<true> {
  const status = await lab.anyApi().status();
  const view = (await lab.anyApi().units()).find((one) => one.unit === status.controlStation);
  need(view !== undefined && view.name !== unit.name, `${unit.name} still is control station`);
  return true;
}

/** A daemon that finds itself wrong about the time may end; then it is started, as on a box. */
function startIfEnded(unit: LabUnit): void {
  if (!unit.running) unit.start();
}
