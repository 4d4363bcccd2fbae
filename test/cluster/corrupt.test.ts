// SPDX-License-Identifier: Apache-2.0
//
// R9 on three real units: bytes flipped on their disks under load, and a disk that keeps lying. The
// judged run flips a thousand (judge-run.ts corrupt); here it is twenty.

import { afterAll, beforeAll, expect, test } from "bun:test";
import type { DiskView } from "#appliance/backend.ts";
import { BLOCKS_PER_EXTENT } from "#base/grains.ts";
import { protectedEverywhere } from "./assembled.ts";
import { LIMIT_MS, MIB, SLICE_BYTES, VOLUME, healed, startCluster } from "./cluster-fixture.ts";
import { corruptUnderLoad, findsNothing, flipAll, healthOf } from "./corrupt.ts";
import { places, readAll, scrubAll } from "./corrupt.ts";
import type { Place } from "./corrupt.ts";
import type { Lab } from "./lab.ts";
import { need } from "./until.ts";

const VOLUME_BYTES = SLICE_BYTES;
const FLIPS = 20;
const METADATA = 4;
/** Places that are wrong anew. */
const EXTENTS = 12;

let lab: Lab;
beforeAll(async () => {
  lab = await startCluster({ diskBytes: 512 * MIB, volumeBytes: VOLUME_BYTES });
}, 3 * LIMIT_MS);
afterAll(() => lab?.end());

test("bytes flipped under load → every read right, every flip healed and told", async () => {
  const result = await corruptUnderLoad(lab, {
    volume: VOLUME,
    volumeBytes: VOLUME_BYTES,
    flips: FLIPS,
    metadata: METADATA,
    everyMs: 100,
    limitMs: LIMIT_MS,
  });
  expect(result.flips).toBe(FLIPS);
  expect(result.healed).toBe(result.flips);
  expect(result.told).toBe(result.flips);
  expect(result.reads).toBeGreaterThan(100);
  // Whole again on the disks: all units start anew, and read it from there.
  for (const unit of lab.units) await unit.stop();
  for (const unit of lab.units) unit.start();
  await healed(lab);
  for (const unit of lab.units) await readAll(unit, VOLUME, VOLUME_BYTES);
  await findsNothing(lab, LIMIT_MS);
  const disks = await healthOf(lab);
  expect(disks.map(({ health }) => health?.unhealed)).toEqual([0, 0, 0]);
  for (const { health } of disks) expect(health?.scrub.endedAtMs).toBeGreaterThan(0);
});

test("a disk that keeps lying → retired: its copies go elsewhere, then it is let go", async () => {
  await healed(lab);
  // Places that were wrong before count, too: the worst disk so far is to go, and it alone.
  const slice = (await lab.anyApi().volume(VOLUME)).slices[0];
  const copies = slice?.members.map((member) => member.disk) ?? [];
  const disks = (await healthOf(lab)).filter(({ disk }) => copies.includes(disk));
  const placesOf = (disk: DiskView) => disk.health?.recentPlaces ?? 0;
  const liar = disks.reduce((worst, disk) => (placesOf(disk) > placesOf(worst) ? disk : worst));
  await lab.anyApi().changeSettings({ diskErrorsMax: placesOf(liar) + EXTENTS });
  const unit = await lab.unitOfNumber(liar.unit);
  const extents = new Map<number, Place>();
  for (const place of places(lab).data) {
    if (place.unit === unit) extents.set(Math.floor((place.block ?? 0) / BLOCKS_PER_EXTENT), place);
  }
  flipAll([...extents.values()].slice(0, 2 * EXTENTS));
  await scrubAll(lab, true);
  const look = async () => {
    const disk = (await lab.anyApi().disks()).find((view) => view.disk === liar.disk);
    need(disk?.state === "leaving", `it is ${disk?.state}`);
    need(disk?.slices.length === 0, `${disk?.slices.length} slices are still on it`);
    return disk ?? null;
  };
  const disk = await lab.until("the disk is empty", look, LIMIT_MS);
  expect(disk.reason).toContain("wrong bytes in");
  await lab.until("the volume whole", () => protectedEverywhere(lab, VOLUME), LIMIT_MS);
  for (const one of lab.units) await readAll(one, VOLUME, VOLUME_BYTES);
  const sentences = (await lab.anyApi().events()).map((event) => event.sentence);
  expect(sentences.some((sentence) => sentence.includes("its copies are made anew"))).toBe(true);
});
