// SPDX-License-Identifier: Apache-2.0
//
// The scrub of one disk (R9): every written block of every member on it is read past the cache and
// held against its checksum, in the order of slices and extents, within the time that the cluster's
// settings give. What is wrong is not repaired here: the slice's head is told, and puts it right
// under its range lock (docs/decisions/0021). Blocks that were told stay *doubted* and are looked
// at again until they match, or until they have been wrong for so long that they count as unhealed.
//
// Pace. While members' operations are under way on the disk, only as fast as the time that is left
// asks for; else up to the settings' rate, which is never exceeded (`late` says that it is too
// low). A scrub begins half of the settings' time after the last one began and is to end before the
// next begins, so that no block waits longer than that time. Time is what the disk was in use, by
// the clock that decides (R4); the wall clock, where it is known from before a restart, can only
// make a scrub begin earlier.
//
// Invariants
// - R13: one chunk at a time, one extent pinned, a bounded number of doubts; the chunk's buffer is
//   given back between two chunks. Whoever finds no buffer waits for the next tick.
// - A restart goes on from the last checkpoint; one is written for it every SAVE_EVERY_MS.
// - Nothing is due: a tick adds up some numbers.

import type { DiskHealth, ScrubPace } from "#base/disk-health.ts";
import { EXTENT_BYTES } from "#base/grains.ts";
import { SCRUB_BYTES_PER_SECOND_MAX, SCRUB_EVERY_MS } from "#base/limits.ts";
import type { SliceNumber } from "#base/record.ts";
import type { Checkpointer } from "./checkpoint.ts";
import { NOT_MAPPED } from "./extent-map.ts";
import type { SliceState } from "./metadata.ts";
import { Doubts } from "./scrub-doubts.ts";
import type { Doubt } from "./scrub-doubts.ts";
import { ExtentScrub } from "./scrub-extent.ts";
import type { ExtentLook, ExtentPlace } from "./scrub-extent.ts";
import { MetadataScrub } from "./scrub-metadata.ts";
import type { StoreCore } from "./store-core.ts";
import type { Superblock } from "./superblock.ts";

/** What the scrub tells whoever knows the slices. */
export interface ScrubListener {
  /** To be put right by the slice's head. Said again until it is right. */
  doubted(doubt: Doubt): void;
  /** An extent was looked at, its members may be compared. The scrub goes on with `done`. */
  verified(slice: SliceNumber, extent: number, done: () => void): void;
  /** All extents of a slice were looked at. The scrub goes on with `done`. */
  sliceVerified(slice: SliceNumber, done: () => void): void;
  /** A scrub came to its end. */
  ended(): void;
}

const NOBODY: ScrubListener = {
  doubted: () => {},
  verified: (_slice, _extent, done) => done(),
  sliceVerified: (_slice, done) => done(),
  ended: () => {},
};

/** Shares of the settings' time: from one beginning to the next, and from beginning to end. */
const BEGIN_SHARE = 0.5;
const END_SHARE = 0.45;
/** How often the cursor is made durable while a scrub runs. */
const SAVE_EVERY_MS = 600_000;
/** Whoever compares members answers within this, or is not waited for. */
const LISTENER_MS_MAX = 10_000;
/** Extents in doubt beyond which the scrub waits for them to be settled. */
const DOUBTS_MAX = 64;

type Step = "nothing" | "extent" | "listener" | "metadata";

export class Scrubber {
  pace: ScrubPace = {
    everyMs: SCRUB_EVERY_MS,
    bytesPerSecondMax: SCRUB_BYTES_PER_SECOND_MAX,
  };
  listener: ScrubListener = NOBODY;
  readonly #core: StoreCore;
  readonly #checkpointer: Checkpointer;
  readonly #superblock: Superblock;
  readonly #look: ExtentScrub;
  readonly #doubts: Doubts;
  #step: Step = "nothing";
  #place: ExtentPlace | null = null;
  /** Counts what the listener was asked: a late answer is no answer. */
  #asked = 0;
  #askedMs = 0;
  /** A paced read of the metadata that waits for its turn. */
  #waiting: (() => void) | null = null;
  /** Metadata was looked at in this scrub. */
  #metadataSeen = false;
  /** Asked for by hand: hosts are not yielded to. */
  #urgent = false;
  #budgetBytes = 0;
  #nowMs = Number.NaN;
  #wallMs = 0;
  #begun = 0;
  #savedMs = 0;
  #pumping = false;

  constructor(core: StoreCore, checkpointer: Checkpointer, superblock: Superblock) {
    this.#core = core;
    this.#checkpointer = checkpointer;
    this.#superblock = superblock;
    this.#look = new ExtentScrub(core, {
      readyToStep: () => this.#pump(),
      stepped: (bytes) => {
        this.#budgetBytes -= bytes;
      },
      looked: (look) => this.#looked(look),
    });
    this.#doubts = new Doubts(core, {
      doubted: (doubt) => this.listener.doubted(doubt),
      settled: () => this.#pump(),
    });
  }

  /** Begins one at once, or goes on with the running one; `urgent` does not yield to hosts. */
  start(options: { urgent: boolean }): void {
    this.#urgent ||= options.urgent;
    if (!this.#core.health.cursor.running) this.#begin(0);
  }

  /** `wallMs` is for people, and to begin earlier; 0: not known. */
  tick(nowMs: number, wallMs: number): void {
    const { health } = this.#core;
    const { cursor } = health;
    const passedMs = Number.isNaN(this.#nowMs) ? 0 : Math.max(0, nowMs - this.#nowMs);
    this.#nowMs = nowMs;
    health.pass(passedMs);
    cursor.sinceStartMs += passedMs;
    const { operationsBegun } = this.#core;
    const isQuiet = operationsBegun === this.#begun && !this.#core.working;
    this.#begun = operationsBegun;
    this.#doubts.tick(nowMs);
    if (!cursor.running) {
      if (this.#isDue(wallMs)) this.#begin(wallMs);
      return;
    }
    if (cursor.startedWallMs === 0) cursor.startedWallMs = Math.floor(wallMs);
    const most = this.pace.bytesPerSecondMax;
    const rate = this.#urgent || isQuiet ? most : Math.min(most, this.#leastRate());
    const grant = (rate * passedMs) / 1000;
    // What was not used is not saved up; what was used too much is owed.
    this.#budgetBytes = Math.min(grant, this.#budgetBytes + grant);
    if (this.#step === "listener" && nowMs - this.#askedMs > LISTENER_MS_MAX) this.#answered();
    if (nowMs - this.#savedMs >= SAVE_EVERY_MS) this.#save();
    this.#wallMs = wallMs;
    this.#pump();
  }

  /** The store is being closed, or the disk was ejected: whatever waits ends now. */
  stop(): void {
    this.#doubts.stop();
    this.#pump();
  }

  dropped(slice: SliceNumber): void {
    this.#doubts.dropped(slice);
    this.#core.health.dropped(slice);
  }

  /** Blocks in doubt right now. */
  get doubted(): number {
    return this.#doubts.blocks;
  }

  report(): DiskHealth {
    const { health } = this.#core;
    const { cursor } = health;
    const mapped = this.#mapped();
    const share = mapped === 0 ? 1 : Math.min(1, cursor.extentsDone / mapped);
    return {
      found: health.found,
      healed: health.healed,
      unhealed: health.unhealed,
      recentPlaces: health.recentPlaces,
      metadataMended: health.metadataMended,
      scrub: {
        running: cursor.running,
        percent: cursor.running ? Math.floor(100 * share) : 0,
        count: health.scrubs,
        endedAtMs: health.scrubEndedWallMs,
        late: cursor.running && this.#leastRate() > this.pace.bytesPerSecondMax,
      },
    };
  }

  #isDue(wallMs: number): boolean {
    const { everyMs } = this.pace;
    if (everyMs === 0) return false;
    const { sinceStartMs, startedWallMs } = this.#core.health.cursor;
    const afterMs = everyMs * BEGIN_SHARE;
    return sinceStartMs >= afterMs || (startedWallMs > 0 && wallMs - startedWallMs >= afterMs);
  }

  /** Bytes per second that end the scrub in its time. */
  #leastRate(): number {
    const everyMs = this.pace.everyMs === 0 ? SCRUB_EVERY_MS : this.pace.everyMs;
    const { sinceStartMs, extentsDone } = this.#core.health.cursor;
    const leftMs = Math.max(1000, everyMs * END_SHARE - sinceStartMs);
    const leftBytes = Math.max(1, this.#mapped() - extentsDone) * EXTENT_BYTES;
    return (leftBytes * 1000) / leftMs;
  }

  #mapped(): number {
    let extents = 0;
    for (const state of this.#core.metadata.slices.values()) extents += state.map.mapped;
    return extents;
  }

  #begin(wallMs: number): void {
    const { cursor } = this.#core.health;
    cursor.running = true;
    cursor.slice = 0;
    cursor.extent = 0;
    cursor.extentsDone = 0;
    cursor.sinceStartMs = 0;
    cursor.startedWallMs = Math.floor(wallMs);
    this.#metadataSeen = false;
    this.#budgetBytes = 0;
    this.#savedMs = this.#nowMs;
  }

  #save(): void {
    this.#savedMs = this.#nowMs;
    if (!this.#checkpointer.running) this.#checkpointer.request(() => {});
  }

  // The way through the disk.

  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#advance());
    this.#pumping = false;
  }

  /** One step; false: it waits for something that will pump, or for the next tick. */
  #advance(): boolean {
    const { io, closing, health } = this.#core;
    const isOver = io.failed || closing;
    if (this.#step === "listener" || (this.#budgetBytes <= 0 && !isOver)) return false;
    if (this.#step === "metadata") {
      const waiting = this.#waiting;
      this.#waiting = null;
      waiting?.();
      return waiting !== null;
    }
    // Where it is over this ends it.
    if (this.#look.active) return this.#look.ready && this.#look.step();
    if (isOver || !health.cursor.running || this.#doubts.extents >= DOUBTS_MAX) return false;
    return this.#next();
  }

  /** The next extent, or the end of a slice, or the end of all. */
  #next(): boolean {
    const { health, metadata } = this.#core;
    const { cursor } = health;
    if (!metadata.slices.has(cursor.slice)) {
      const later = [...metadata.slices.keys()].filter((slice) => slice > cursor.slice);
      if (later.length === 0) return this.#metadataSeen ? this.#end() : this.#beginMetadata();
      cursor.slice = Math.min(...later);
      cursor.extent = 0;
    }
    const state = metadata.slices.get(cursor.slice) as SliceState;
    const { slice, map } = state;
    const extent = map.next(cursor.extent);
    if (extent === NOT_MAPPED) {
      cursor.slice++;
      cursor.extent = 0;
      this.#ask((done) => this.listener.sliceVerified(slice, done));
      return true;
    }
    cursor.extent = extent;
    const [physical, mapping] = [map.physicalOf(extent), map.mappingOf(extent)];
    this.#place = { slice, extent, physical, mapping };
    this.#step = "extent";
    this.#look.begin(this.#place, null);
    return true;
  }

  #looked(look: ExtentLook): void {
    const place = this.#place as ExtentPlace;
    const { cursor } = this.#core.health;
    this.#place = null;
    this.#step = "nothing";
    if (look.gone) {
      // Closing or freed: looked at again after a restart, or not there any more.
      if (!this.#core.closing && !this.#core.io.failed) this.#past(place);
      return;
    }
    this.#past(place);
    cursor.extentsDone++;
    if (look.bad.length > 0 || look.slotIsBad) {
      this.#doubts.add(place, look, this.#nowMs);
      return;
    }
    this.#ask((done) => this.listener.verified(place.slice, place.extent, done));
  }

  #past(place: ExtentPlace): void {
    const { cursor } = this.#core.health;
    if (cursor.slice === place.slice && cursor.extent === place.extent) cursor.extent++;
  }

  #ask(act: (done: () => void) => void): void {
    const asked = ++this.#asked;
    this.#step = "listener";
    this.#askedMs = this.#nowMs;
    act(() => {
      if (asked === this.#asked && this.#step === "listener") this.#answered();
    });
  }

  #answered(): void {
    this.#asked++;
    this.#step = "nothing";
    this.#pump();
  }

  #beginMetadata(): boolean {
    const scrub = new MetadataScrub({
      core: this.#core,
      checkpointer: this.#checkpointer,
      superblock: this.#superblock,
      pace: (bytes, act) => {
        this.#waiting = () => {
          this.#budgetBytes -= bytes;
          act();
        };
        this.#pump();
      },
      done: (mended) => {
        this.#core.health.metadataMended += mended;
        this.#step = "nothing";
        this.#metadataSeen = true;
        this.#pump();
      },
    });
    this.#step = "metadata";
    if (scrub.begin()) return true;
    this.#step = "nothing";
    return false;
  }

  #end(): boolean {
    const { health } = this.#core;
    health.cursor.running = false;
    health.scrubs++;
    health.scrubEndedWallMs = Math.floor(this.#wallMs);
    this.#urgent = false;
    this.#save();
    this.listener.ended();
    return false;
  }
}
