// SPDX-License-Identifier: Apache-2.0
//
// Storage information in pages: a unit's disks and slices cut into data areas of at most 1,200
// bytes, and put together again by the control station. Pages may come in any order and may be
// lost; an answer is whole or it is nothing.

import { assert } from "#base/assert.ts";
import * as wire from "./autoconfig.wire.ts";
import type { StorageInformation, StoreDisk, StoreSlice } from "./message-types.ts";

const ROOM_BYTES = wire.DATA_BYTES_MAX - wire.STORAGE_INFORMATION.size;

export interface UnitStorage {
  revision: number;
  disks: StoreDisk[];
  slices: StoreSlice[];
  /** Slices and disks that no page had room for. */
  leftOut: number;
}

/** At least one page, at most STORAGE_PAGES_MAX; disks come first, so that slices are left out. */
export function storagePages(
  enquiryNumber: number,
  storage: { revision: number; disks: readonly StoreDisk[]; slices: readonly StoreSlice[] },
): StorageInformation[] {
  const pages: StorageInformation[] = [];
  let roomBytes = 0;
  let leftOut = 0;
  const pageFor = (sizeBytes: number): StorageInformation | null => {
    if (roomBytes < sizeBytes) {
      if (pages.length === wire.STORAGE_PAGES_MAX) {
        leftOut++;
        return null;
      }
      pages.push(emptyPage(enquiryNumber, pages.length, storage.revision));
      roomBytes = ROOM_BYTES;
    }
    roomBytes -= sizeBytes;
    return pages.at(-1) as StorageInformation;
  };
  for (const disk of storage.disks) pageFor(wire.STORE_DISK.size)?.disks.push(disk);
  for (const slice of storage.slices) pageFor(wire.STORE_SLICE.size)?.slices.push(slice);
  if (pages.length === 0) pages.push(emptyPage(enquiryNumber, 0, storage.revision));
  for (const page of pages) {
    page.pageCount = pages.length;
    page.leftOut = leftOut;
  }
  return pages;
}

function emptyPage(enquiryNumber: number, page: number, revision: number): StorageInformation {
  const type = wire.MessageType.storageInformation;
  const counted = { page, pageCount: 0, leftOut: 0, revision };
  return { type, enquiryNumber, ...counted, disks: [], slices: [] };
}

/**
 * Puts the pages of one unit together. Holds one answer: a newer enquiry's page drops an older's.
 */
export class StorageAssembly {
  #enquiryNumber = 0;
  #pages: (StorageInformation | undefined)[] = [];
  #missing = 0;

  /** The whole answer once its last page is there, else null. */
  add(page: StorageInformation): UnitStorage | null {
    assert(page.pageCount <= wire.STORAGE_PAGES_MAX, "the codec bounds the pages");
    if (page.enquiryNumber < this.#enquiryNumber) return null;
    const isOther =
      page.enquiryNumber !== this.#enquiryNumber || page.pageCount !== this.#pages.length;
    if (isOther) {
      this.#enquiryNumber = page.enquiryNumber;
      this.#pages = new Array<StorageInformation | undefined>(page.pageCount).fill(undefined);
      this.#missing = page.pageCount;
    }
    if (this.#pages[page.page] !== undefined) return null;
    this.#pages[page.page] = page;
    this.#missing--;
    if (this.#missing > 0) return null;
    const whole = this.#pages as StorageInformation[];
    this.#pages = [];
    return {
      revision: page.revision,
      disks: whole.flatMap((one) => one.disks),
      slices: whole.flatMap((one) => one.slices),
      leftOut: page.leftOut,
    };
  }
}
