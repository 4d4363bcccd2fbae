// SPDX-License-Identifier: Apache-2.0
//
// DirtyRoom: how far the kernel is from holding back who writes through the page cache. From half
// way between its two thresholds on (vm.dirty_background_ratio and vm.dirty_ratio, both of the
// memory that could be had) it may have a writer sleep for up to 200 ms. What is dirty, what is on
// its way to disks, and where both thresholds are just now stands in /proc/vmstat, in pages.

import { openSync, readSync } from "node:fs";

const PAGE_BYTES = 4096;
/** How long a look is good for, ms, and what share of the room it saw is given out meanwhile. */
const LOOK_MS = 50;
const ROOM_SHARE = 0.5;
/** As much as one read of it answers at most; what is looked for stands in its first half. */
const TEXT_BYTES = 4096;
const ZERO = 0x30;
const NINE = 0x39;

export class DirtyRoom {
  readonly #fd: number;
  readonly #text = Buffer.alloc(TEXT_BYTES);
  #textBytes = 0;
  #leftBytes = 0;
  #lookedMs = Number.NEGATIVE_INFINITY;

  /** `path`: where it stands. Throws where that cannot be opened. */
  constructor(path = "/proc/vmstat") {
    this.#fd = openSync(path, "r");
  }

  /** Takes it out of the room; false: there is not so much, or nobody knows. */
  take(lengthBytes: number, nowMs: number): boolean {
    if (nowMs - this.#lookedMs >= LOOK_MS) {
      this.#lookedMs = nowMs;
      this.#leftBytes = this.#look() * ROOM_SHARE;
    }
    if (this.#leftBytes < lengthBytes) return false;
    this.#leftBytes -= lengthBytes;
    return true;
  }

  /** Bytes that may become dirty before anybody is held back; 0: none, or not known. */
  #look(): number {
    this.#textBytes = readSync(this.#fd, this.#text, 0, TEXT_BYTES, 0);
    const background = this.#value("\nnr_dirty_background_threshold ");
    const most = this.#value("\nnr_dirty_threshold ");
    const dirty = this.#value("\nnr_dirty ") + this.#value("\nnr_writeback ");
    const pages = (background + most) / 2 - dirty;
    return pages > 0 ? pages * PAGE_BYTES : 0;
  }

  /** Of the line that begins so; NaN where there is none. */
  #value(begin: string): number {
    const from = this.#text.indexOf(begin, 0, "latin1");
    if (from < 0 || from >= this.#textBytes) return Number.NaN;
    let value = 0;
    for (let at = from + begin.length; at < this.#textBytes; at++) {
      const byte = this.#text[at] as number;
      if (byte < ZERO || byte > NINE) break;
      value = value * 10 + (byte - ZERO);
    }
    return value;
  }
}
