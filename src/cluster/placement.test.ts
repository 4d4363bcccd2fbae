// SPDX-License-Identifier: Apache-2.0
//
// Placement, by example and by chance: whatever is placed keeps the rules, and what is refused
// could not have been placed.

import { expect, test } from "bun:test";
import { REGION_BYTES } from "#base/grains.ts";
import { layouts } from "#base/layout.ts";
import type { Protection } from "#base/layout.ts";
import { Prng } from "#base/prng.ts";
import { bytesInWords, largestVolume, placeMember, placeVolume, sliceSizes } from "./placement.ts";
import type { DiskRoom, PlacedSlice } from "./placement.ts";

const GIB = 2 ** 30;

function rooms(...free: [unit: number, gib: number][]): DiskRoom[] {
  return free.map(([unit, gib], index) => ({ disk: index + 1, unit, freeBytes: gib * GIB }));
}

function placed(list: DiskRoom[], gib: number, protection: Protection, slice = 1): PlacedSlice[] {
  const answer = placeVolume(list, { sizeBytes: gib * GIB, sliceBytes: slice * GIB, protection });
  if (!answer.ok) throw new Error(answer.sentence);
  return answer.slices;
}

function unitOf(list: DiskRoom[], disk: number | undefined): number {
  return list.find((room) => room.disk === disk)?.unit ?? 0;
}

/** Every rule a placement must keep; gives the sum of bytes used. */
function check(list: DiskRoom[], slices: PlacedSlice[], protection: Protection): void {
  const used = new Map<number, number>();
  for (const slice of slices) {
    expect(slice.disks.length).toBe(layouts[protection].copies);
    const units = slice.disks.map((disk) => unitOf(list, disk));
    expect(new Set(units).size).toBe(units.length);
    for (const disk of slice.disks) used.set(disk, (used.get(disk) ?? 0) + slice.sizeBytes);
  }
  for (const room of list) expect(used.get(room.disk) ?? 0).toBeLessThanOrEqual(room.freeBytes);
}

test("slice sizes: whole ones and a last one of whole regions", () => {
  expect(sliceSizes(2 * GIB, GIB)).toEqual([GIB, GIB]);
  expect(sliceSizes(GIB + 1, GIB)).toEqual([GIB, REGION_BYTES]);
  expect(sliceSizes(1, GIB)).toEqual([REGION_BYTES]);
});

test("a small mirror lies on two units, with one head", () => {
  const list = rooms([1, 10], [2, 10], [3, 10]);
  const slices = placed(list, 5, "mirror-2");
  check(list, slices, "mirror-2");
  expect(new Set(slices.map((slice) => unitOf(list, slice.disks[0]))).size).toBe(1);
});

test("a volume larger than any one unit fills three of them to the last slice", () => {
  const list = rooms([1, 10], [2, 10], [3, 10]);
  check(list, placed(list, 15, "mirror-2"), "mirror-2");
  check(list, placed(list, 30, "none"), "none");
  check(list, placed(list, 10, "mirror-3"), "mirror-3");
});

test("disks of one unit never hold two members of a slice", () => {
  const list = rooms([1, 10], [1, 10], [2, 4]);
  check(list, placed(list, 4, "mirror-2"), "mirror-2");
  expect(placeVolume(list, shape(5, "mirror-2")).ok).toBe(false);
});

function shape(gib: number, protection: Protection) {
  return { sizeBytes: gib * GIB, sliceBytes: GIB, protection };
}

test("too large → refused with what is missing", () => {
  const answer = placeVolume(rooms([1, 10], [2, 10], [3, 10]), shape(18, "mirror-2"));
  expect(answer).toEqual({
    ok: false,
    missingBytes: 3 * GIB,
    sentence:
      "3 GiB is missing: a mirror-2 volume here may have at most 15 GiB now, 18 GiB was asked for",
  });
});

test("too few units → refused with how many it needs", () => {
  for (const list of [rooms(), rooms([1, 99]), rooms([1, 99], [1, 99])]) {
    const answer = placeVolume(list, shape(1, "mirror-2"));
    expect(answer.ok).toBe(false);
    expect(answer.ok ? "" : answer.sentence).toContain("2 different units");
  }
});

test("the head goes where least is headed already", () => {
  const list = rooms([1, 10], [2, 10], [3, 10]);
  const answer = placeVolume(list, {
    ...shape(2, "mirror-2"),
    headedBytes: new Map([
      [1, 5 * GIB],
      [2, GIB],
      [3, 2 * GIB],
    ]),
  });
  expect(answer.ok && unitOf(list, answer.slices[0]?.disks[0])).toBe(2);
});

test("a member more: most room, never on a unit that holds one", () => {
  const list = rooms([1, 10], [2, 8], [3, 9]);
  expect(placeMember(list, { sizeBytes: GIB, withoutUnits: [1] })).toBe(3);
  expect(placeMember(list, { sizeBytes: 9 * GIB, withoutUnits: [1, 3] })).toBeNull();
  expect(placeMember(list, { sizeBytes: GIB, withoutUnits: [1, 2, 3] })).toBeNull();
});

test("by chance: what is placed keeps the rules, what is refused does not fit", () => {
  const prng = new Prng(7);
  let refused = 0;
  for (let round = 0; round < 400; round++) {
    const list: DiskRoom[] = [];
    for (let disk = 1, disks = prng.between(1, 8); disk <= disks; disk++) {
      list.push({ disk, unit: prng.between(1, 5), freeBytes: prng.between(0, 12) * GIB });
    }
    const protection = prng.pick<Protection>(["none", "mirror-2", "mirror-3"]);
    const volume = shape(prng.between(1, 30), protection);
    const answer = placeVolume(list, volume);
    if (answer.ok) {
      check(list, answer.slices, protection);
      expect(answer.slices.length).toBe(volume.sizeBytes / GIB);
      continue;
    }
    refused++;
    // Whole slices in whole GiB: the bound is exact.
    const byUnit = new Map<number, number>();
    for (const room of list) {
      byUnit.set(room.unit, (byUnit.get(room.unit) ?? 0) + room.freeBytes / GIB);
    }
    const count = volume.sizeBytes / GIB;
    let sum = 0;
    for (const places of byUnit.values()) sum += Math.min(places, count);
    const copies = layouts[protection].copies;
    expect(sum < copies * count || byUnit.size < copies).toBe(true);
    expect(largestVolume(list, volume)).toBeLessThan(volume.sizeBytes);
  }
  expect(refused).toBeGreaterThan(50);
  expect(refused).toBeLessThan(350);
});

test("sizes in words", () => {
  expect([0, 512, 1536, 3 * GIB, 1536 * 2 ** 20].map(bytesInWords)).toEqual([
    "0 bytes",
    "512 bytes",
    "1.5 KiB",
    "3 GiB",
    "1.5 GiB",
  ]);
});
