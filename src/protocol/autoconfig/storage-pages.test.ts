// SPDX-License-Identifier: Apache-2.0
//
// Storage information in pages: every page fits its packet, any order puts it together, too much is
// left out and said so.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import * as wire from "./autoconfig.wire.ts";
import type { StorageInformation, StoreDisk, StoreSlice } from "./message-types.ts";
import { readData, writeData } from "./messages.ts";
import { StorageAssembly, storagePages } from "./storage-pages.ts";
import type { UnitStorage } from "./storage-pages.ts";

const disk = (diskNumber: number): StoreDisk => ({
  diskNumber,
  diskId: new Uint8Array(16).fill(diskNumber),
  state: wire.DiskState.claimed,
  health: wire.Health.good,
  sizeBytes: 1000,
  usedBytes: 1,
  freeBytes: 999,
  path: `/dev/${diskNumber}`,
});
const slice = (number: number): StoreSlice => ({
  diskNumber: 1,
  slice: number,
  volume: 1,
  index: number,
  mappedBytes: 0,
  state: wire.SliceState.head,
});
const list = <T>(count: number, make: (index: number) => T) =>
  Array.from({ length: count }, (_, index) => make(index + 1));

function whole(pages: readonly StorageInformation[]): UnitStorage | null {
  const assembly = new StorageAssembly();
  let storage: UnitStorage | null = null;
  for (const page of pages) storage = assembly.add(page) ?? storage;
  return storage;
}

describe("storage pages", () => {
  test("any number of disks and slices → pages that fit, put together as they were", () => {
    fc.assert(
      fc.property(fc.nat(60), fc.nat(200), fc.boolean(), (disks, slices, reversed) => {
        const storage = { revision: 5, disks: list(disks, disk), slices: list(slices, slice) };
        const pages = storagePages(9, storage).map((page) => {
          const data = writeData(page);
          expect(data.length).toBeLessThanOrEqual(wire.DATA_BYTES_MAX);
          return readData(page.type, data) as StorageInformation;
        });
        const read = whole(reversed ? pages.toReversed() : pages);
        expect(read).toEqual({ ...storage, leftOut: 0 });
      }),
      { numRuns: 60 },
    );
  });

  test("a lost page → no answer; an older enquiry's page → ignored", () => {
    const storage = { revision: 1, disks: list(40, disk), slices: [] };
    const [first, ...rest] = storagePages(2, storage) as [StorageInformation];
    expect(whole(rest)).toBeNull();
    const [old] = storagePages(1, storage) as [StorageInformation];
    expect(whole([...rest, old, first])?.disks.length).toBe(40);
  });

  test("more than all pages hold → counted as left out, disks first", () => {
    const storage = { revision: 1, disks: list(10, disk), slices: list(6000, slice) };
    const pages = storagePages(1, storage);
    expect(pages.length).toBe(wire.STORAGE_PAGES_MAX);
    const read = whole(pages) as UnitStorage;
    expect(read.disks.length).toBe(10);
    expect(read.slices.length + read.leftOut).toBe(6000);
    expect(read.leftOut).toBeGreaterThan(0);
  });
});
