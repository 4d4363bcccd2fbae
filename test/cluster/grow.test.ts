// SPDX-License-Identifier: Apache-2.0
//
// A volume grows on real units (H11): what was written is as it was, what is added reads zero and
// takes writes across the end that there was and across slices; hosts that are attached go on; the
// head is killed in the middle, and what it lacks then is what changed. Root only.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { headOf, protectedEverywhere, resyncedBytes } from "./assembled.ts";
import {
  LIMIT_MS,
  MIB,
  Probes,
  SLICE_BYTES,
  VOLUME,
  healed,
  safeAgain,
  startCluster,
} from "./cluster-fixture.ts";
import type { Lab } from "./lab.ts";
import type { LabUnit } from "./lab-unit.ts";
import { NbdClient } from "./nbd-client.ts";
import { Refused } from "./unit-api.ts";
import { NotYet, need, pause } from "./until.ts";

const ATTACH_MS = 10_000;
/** Regions without writes become inactive within this (R6); only then are they owed no more. */
const QUIET_MS = 8_000;
/** No whole slice, nor whole regions: 40 MiB of 64, and a block less. */
const HAD = 40 * MIB - 4096;
const HAS = 3 * SLICE_BYTES + 8 * MIB;
/** What the members whose head was killed may have active, and so copy anew. */
const RESYNC_BYTES_MAX = 48 * MIB;

let lab: Lab;
beforeAll(async () => {
  lab = await startCluster({ volumeBytes: HAD });
}, 3 * LIMIT_MS);
afterAll(() => lab?.end());

function attachedAt(unit: LabUnit): Promise<NbdClient> {
  return NbdClient.open({ host: unit.address, port: 10809, name: VOLUME }, ATTACH_MS);
}

function attached(): Promise<NbdClient> {
  return lab.until("a host attached", async () => attachedAt(await headOf(lab, VOLUME)), LIMIT_MS);
}

function pattern(at: number, bytes: number, round: string): Buffer {
  return Buffer.alloc(bytes, `${round}, from ${at}. `);
}

async function fill(host: NbdClient, from: number, to: number, round: string): Promise<void> {
  for (let at = from; at < to; at += MIB) {
    const bytes = Math.min(MIB, to - at);
    await host.write(at, pattern(at, bytes, round));
  }
  await host.flush();
}

/** `round` null: zero. */
async function expectHeld(host: NbdClient, from: number, to: number, round: string | null) {
  for (let at = from; at < to; at += MIB) {
    const bytes = Math.min(MIB, to - at);
    const wanted = round === null ? Buffer.alloc(bytes) : pattern(at, bytes, round);
    if (!(await host.read(at, bytes)).equals(wanted)) throw new Error(`${at} is not ${round}`);
  }
}

/** Every unit lets hosts in with that size. */
async function seenEverywhere(sizeBytes: number): Promise<true> {
  for (const unit of lab.running) {
    using host = await attachedAt(unit);
    need(host.sizeBytes === sizeBytes, `${unit.name} shows ${host.sizeBytes} bytes`);
  }
  return true;
}

test(
  "grown while a host is attached → old data, zero behind it, writes over every border",
  async () => {
    using before = await attached();
    expect(before.sizeBytes).toBe(HAD);
    await fill(before, 0, HAD, "before");
    const asked = lab.unit(1);
    const volume = await asked.api.growVolume(VOLUME, HAS);
    expect([volume.sizeBytes, volume.slices.length, volume.growingToBytes]).toEqual([HAS, 4, null]);
    {
      // The asked unit shows it by the time that it answers.
      using first = await attachedAt(asked);
      expect(first.sizeBytes).toBe(HAS);
    }
    await lab.until("all units show it", () => seenEverywhere(HAS), LIMIT_MS);
    using host = await attached();
    await expectHeld(host, 0, HAD, "before");
    await expectHeld(host, HAD, HAS, null);
    // Whoever was attached goes on with what it knows.
    await fill(before, 4 * MIB, 6 * MIB, "meanwhile");
    await expectHeld(before, 0, 4 * MIB, "before");
    expect(before.lost).toBe(false);
    await fill(host, HAD - MIB, HAD + MIB, "border");
    await fill(host, SLICE_BYTES - 2 * MIB, SLICE_BYTES + 2 * MIB, "slices");
    await host.write(SLICE_BYTES * 2 - MIB / 2, pattern(1, MIB, "over"));
    await fill(host, HAS - MIB, HAS, "end");
    for (const unit of lab.running) {
      using other = await attachedAt(unit);
      await expectHeld(other, HAD - MIB, HAD + MIB, "border");
      await expectHeld(other, HAD + MIB, HAD + 4 * MIB, null);
      await expectHeld(other, SLICE_BYTES - 2 * MIB, SLICE_BYTES + 2 * MIB, "slices");
      const over = await other.read(SLICE_BYTES * 2 - MIB / 2, MIB);
      expect(over.equals(pattern(1, MIB, "over"))).toBe(true);
      await expectHeld(other, HAS - MIB, HAS, "end");
    }
  },
  4 * LIMIT_MS,
);

test("smaller, off the grid, more than there is → refused, and it is as it was", async () => {
  for (const sizeBytes of [HAD, HAS + 512, 2 ** 40]) {
    const asked = lab.anyApi().growVolume(VOLUME, sizeBytes);
    await expect(asked).rejects.toThrow(Refused);
  }
  expect((await lab.anyApi().volume(VOLUME)).sizeBytes).toBe(HAS);
  const again = await lab.anyApi().growVolume(VOLUME, HAS);
  expect(again.sizeBytes).toBe(HAS);
});

test(
  "the head is killed in the middle, hosts write → it has grown; a short resync",
  async () => {
    let sizeBytes = HAS;
    for (const waitMs of [0, 40, 200]) {
      await healed(lab);
      await pause(QUIET_MS);
      const head = await headOf(lab, VOLUME);
      const other = lab.units.find((unit) => unit !== head) as LabUnit;
      const resynced = await resyncedBytes(lab);
      await using probes = new Probes(lab, lab.units);
      await probes.write();
      sizeBytes += 24 * MIB;
      const begun = other.api.growVolume(VOLUME, sizeBytes).catch((error: unknown) => error);
      await pause(waitMs);
      await head.kill();
      await begun;
      // Whether that was done is not known: the same again is safe.
      const grow = async () => {
        try {
          return (await other.api.growVolume(VOLUME, sizeBytes)).sizeBytes === sizeBytes;
        } catch (error) {
          throw new NotYet(error instanceof Error ? error.message : String(error));
        }
      };
      await lab.until("it has grown", grow, LIMIT_MS);
      await probes.write();
      head.start();
      await safeAgain(lab);
      await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), LIMIT_MS);
      await lab.until("all units show it", () => seenEverywhere(sizeBytes), LIMIT_MS);
      await probes.write();
      await probes.finish();
      expect((await resyncedBytes(lab)) - resynced).toBeLessThan(RESYNC_BYTES_MAX);
      using host = await attached();
      await expectHeld(host, HAS, sizeBytes, null);
      await expectHeld(host, HAS - MIB, HAS, "end");
      await fill(host, sizeBytes - MIB, sizeBytes, "end");
      await host.write(sizeBytes - MIB, Buffer.alloc(MIB));
    }
    const events = await lab.anyApi().events();
    expect(events.filter(({ kind }) => kind === "volume-grown")).toHaveLength(4);
  },
  8 * LIMIT_MS,
);
