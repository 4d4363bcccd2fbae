// SPDX-License-Identifier: Apache-2.0
//
// Blocks that a scrub found wrong, until they are right: looked at once more first, since the scrub
// takes no lock and may have met a write; then told to whoever can have them healed, and looked at
// again and again, which is also the reading back of what was healed (R9). After UNHEALED_AFTER_MS
// they count as unhealed, and the next scrub finds them again.

import { Incident } from "#base/disk-health.ts";
import { BLOCK_BYTES, EXTENT_BYTES, EXTENTS_PER_REGION } from "#base/grains.ts";
import type { SliceNumber } from "#base/record.ts";
import { NOT_MAPPED } from "./extent-map.ts";
import { ExtentScrub } from "./scrub-extent.ts";
import type { ExtentLook, ExtentPlace } from "./scrub-extent.ts";
import type { StoreCore } from "./store-core.ts";

const FIRST_LOOK_AFTER_MS = 100;
const LOOK_EVERY_MS = 250;
const LOOK_EVERY_MS_MAX = 4000;
const UNHEALED_AFTER_MS = 30_000;

/** Blocks of one extent that do not match. */
export interface Doubt {
  slice: SliceNumber;
  /** Within the slice. */
  offsetBytes: number;
  /** To the end of the last such block; others in between may be right. */
  lengthBytes: number;
  /** The blocks are right: it is their descriptor on the disk that must be written again. */
  rewrite: boolean;
}

export interface DoubtOwner {
  doubted(doubt: Doubt): void;
  /** An extent is in doubt no more. */
  settled(): void;
}

interface Entry {
  readonly slice: SliceNumber;
  readonly extent: number;
  /** Blocks of the extent; none: only its descriptor. */
  bad: readonly number[];
  readonly sinceMs: number;
  nextMs: number;
  looks: number;
}

export class Doubts {
  readonly #core: StoreCore;
  readonly #owner: DoubtOwner;
  readonly #look: ExtentScrub;
  readonly #entries = new Map<string, Entry>();
  #looking: Entry | null = null;
  #nowMs = 0;

  constructor(core: StoreCore, owner: DoubtOwner) {
    this.#core = core;
    this.#owner = owner;
    this.#look = new ExtentScrub(core, {
      readyToStep: () => void this.#look.step(),
      stepped: () => {},
      looked: (look) => this.#looked(look),
    });
  }

  get extents(): number {
    return this.#entries.size;
  }

  /** Wrong blocks in them, a wrong descriptor counted as one. */
  get blocks(): number {
    let blocks = 0;
    for (const entry of this.#entries.values()) blocks += Math.max(1, entry.bad.length);
    return blocks;
  }

  add(place: ExtentPlace, look: ExtentLook, nowMs: number): void {
    const { slice, extent } = place;
    const key = `${slice}:${extent}`;
    if (this.#entries.has(key)) return;
    const nextMs = nowMs + FIRST_LOOK_AFTER_MS;
    const { bad } = look;
    this.#entries.set(key, { slice, extent, bad, sinceMs: nowMs, nextMs, looks: 0 });
  }

  tick(nowMs: number): void {
    this.#nowMs = nowMs;
    if (this.#entries.size === 0) return;
    // One that found no buffer goes on.
    if (this.#look.active) return void this.#look.step();
    this.#next();
  }

  /** The store is being closed, or its disk failed. */
  stop(): void {
    this.#entries.clear();
    if (this.#look.active) this.#look.step();
  }

  dropped(slice: SliceNumber): void {
    for (const [key, entry] of this.#entries) if (entry.slice === slice) this.#entries.delete(key);
  }

  #next(): void {
    for (const [key, entry] of this.#entries) {
      if (entry.nextMs > this.#nowMs) continue;
      const state = this.#core.metadata.slices.get(entry.slice);
      const physical = state?.map.physicalOf(entry.extent) ?? NOT_MAPPED;
      if (state === undefined || physical === NOT_MAPPED) {
        this.#entries.delete(key);
        continue;
      }
      // In turn: who was looked at goes to the end.
      this.#entries.delete(key);
      this.#entries.set(key, entry);
      this.#looking = entry;
      const { slice, extent } = entry;
      const mapping = state.map.mappingOf(extent);
      this.#look.begin({ slice, extent, physical, mapping }, entry.bad);
      return;
    }
  }

  #looked(look: ExtentLook): void {
    const entry = this.#looking as Entry;
    this.#looking = null;
    const key = `${entry.slice}:${entry.extent}`;
    // Forgotten meanwhile: its slice was dropped, or the store is being closed.
    if (this.#entries.get(key) !== entry) return;
    if (look.gone) return this.#settle(key);
    const { health } = this.#core;
    for (const block of entry.bad) {
      if (!look.bad.includes(block)) health.right(entry.slice, offsetOf(entry.extent, block));
    }
    if (look.bad.length === 0 && !look.slotIsBad) {
      if (entry.bad.length === 0) health.metadataMended++;
      return this.#settle(key);
    }
    entry.bad = look.bad;
    entry.looks++;
    entry.nextMs = this.#nowMs + Math.min(LOOK_EVERY_MS * entry.looks, LOOK_EVERY_MS_MAX);
    if (this.#nowMs - entry.sinceMs < UNHEALED_AFTER_MS) return this.#owner.doubted(doubtOf(entry));
    // What a crash tore in an active region is no fault of the disk, and made good from elsewhere.
    const region = Math.floor(entry.extent / EXTENTS_PER_REGION);
    const isActive = this.#core.metadata.slices.get(entry.slice)?.active.has(region) === true;
    for (const block of isActive ? [] : entry.bad) {
      health.note(Incident.unhealed, entry.slice, offsetOf(entry.extent, block));
    }
    this.#settle(key);
  }

  #settle(key: string): void {
    this.#entries.delete(key);
    this.#owner.settled();
  }
}

function offsetOf(extent: number, block: number): number {
  return extent * EXTENT_BYTES + block * BLOCK_BYTES;
}

function doubtOf({ slice, extent, bad }: Entry): Doubt {
  const first = bad[0] ?? 0;
  const last = bad[bad.length - 1] ?? first;
  const lengthBytes = (last - first + 1) * BLOCK_BYTES;
  return {
    slice,
    offsetBytes: offsetOf(extent, first),
    lengthBytes,
    rewrite: bad.length === 0,
  };
}
