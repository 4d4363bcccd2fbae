// SPDX-License-Identifier: Apache-2.0
//
// How well a disk keeps what it is given, and how far its scrub is (R9): what of it outlasts a
// restart. Written into the header page of every checkpoint, behind what older versions know of it
// (format.wire.ts, CHECKPOINT_HEALTH); a crash loses what came since, which costs a scrub a part of
// its way again and nothing else.
//
// Places that were wrong lately are counted in two halves of DISK_ERRORS_WITHIN_MS, by the time the
// disk was in use; an extent counts once per half, however many of its blocks were wrong.

import { Incident } from "#base/disk-health.ts";
import { EXTENT_BYTES } from "#base/grains.ts";
import { DISK_ERRORS_WITHIN_MS } from "#base/limits.ts";
import type { SliceNumber } from "#base/record.ts";
import { CHECKPOINT_HEALTH } from "./format.wire.ts";

/** Places told apart in one half; more count as so many. */
const PLACES_MAX = 1024;
/** Unhealed blocks remembered; more are only counted when they are found again. */
const UNHEALED_MAX = 4096;

const view = CHECKPOINT_HEALTH.view();

/** Where a scrub is. */
export interface ScrubCursor {
  running: boolean;
  /** The next extent to look at. */
  slice: SliceNumber;
  extent: number;
  /** Extents looked at in this scrub. */
  extentsDone: number;
  /** In use since the last scrub began, ms. */
  sinceStartMs: number;
  /** Wall clock at its beginning; 0: not known. */
  startedWallMs: number;
}

export class Health {
  found = 0;
  healed = 0;
  metadataMended = 0;
  scrubs = 0;
  scrubEndedWallMs = 0;
  readonly cursor: ScrubCursor = {
    running: false,
    slice: 0,
    extent: 0,
    extentsDone: 0,
    sinceStartMs: 0,
    startedWallMs: 0,
  };
  /** Blocks found wrong and not healed, by slice and block; of this run. */
  readonly #unhealed = new Set<string>();
  #placesBefore = 0;
  readonly #places = new Set<string>();
  /** Places of this half from before the restart. */
  #placesAtStart = 0;
  #halfMs = 0;

  get unhealed(): number {
    return this.#unhealed.size;
  }

  get recentPlaces(): number {
    return this.#placesBefore + this.#placesAtStart + this.#places.size;
  }

  /** Time in use passes. */
  pass(ms: number): void {
    this.#halfMs += ms;
    if (this.#halfMs < DISK_ERRORS_WITHIN_MS / 2) return;
    this.#halfMs = 0;
    this.#placesBefore = this.#placesAtStart + this.#places.size;
    this.#placesAtStart = 0;
    this.#places.clear();
  }

  note(incident: Incident, slice: SliceNumber, offsetBytes: number): void {
    const block = `${slice}:${offsetBytes}`;
    if (this.#places.size < PLACES_MAX) {
      this.#places.add(`${slice}:${Math.floor(offsetBytes / EXTENT_BYTES)}`);
    }
    if (incident === Incident.healed) {
      this.healed++;
      // Counted as found when it could not be healed yet.
      if (!this.#unhealed.delete(block)) this.found++;
    } else if (!this.#unhealed.has(block)) {
      this.found++;
      if (this.#unhealed.size < UNHEALED_MAX) this.#unhealed.add(block);
    }
  }

  /** A block was read, and is right (again). */
  right(slice: SliceNumber, offsetBytes: number): void {
    if (this.#unhealed.size > 0) this.#unhealed.delete(`${slice}:${offsetBytes}`);
  }

  /** The slice's member is gone. */
  dropped(slice: SliceNumber): void {
    for (const block of this.#unhealed) {
      if (block.startsWith(`${slice}:`)) this.#unhealed.delete(block);
    }
  }

  /** `target` is the header page of a checkpoint, from `start`. */
  encode(target: Uint8Array, start: number): void {
    const { cursor } = this;
    view.at(target, start);
    view.found = this.found;
    view.healed = this.healed;
    view.metadataMended = this.metadataMended;
    view.scrubs = this.scrubs;
    view.scrubEndedWallMs = this.scrubEndedWallMs;
    view.running = cursor.running ? 1 : 0;
    view.slice = cursor.slice;
    view.extent = cursor.extent;
    view.extentsDone = cursor.extentsDone;
    view.sinceStartMs = Math.floor(cursor.sinceStartMs);
    view.startedWallMs = cursor.startedWallMs;
    view.placesBefore = this.#placesBefore;
    view.placesNow = this.#placesAtStart + this.#places.size;
    view.halfMs = Math.floor(this.#halfMs);
  }

  /** As a checkpoint has it; all zero where an older version wrote it. */
  decode(source: Uint8Array, start: number): void {
    const { cursor } = this;
    view.at(source, start);
    this.found = view.found;
    this.healed = view.healed;
    this.metadataMended = view.metadataMended;
    this.scrubs = view.scrubs;
    this.scrubEndedWallMs = view.scrubEndedWallMs;
    cursor.running = view.running === 1;
    cursor.slice = view.slice;
    cursor.extent = view.extent;
    cursor.extentsDone = view.extentsDone;
    cursor.sinceStartMs = view.sinceStartMs;
    cursor.startedWallMs = view.startedWallMs;
    this.#placesBefore = view.placesBefore;
    this.#placesAtStart = view.placesNow;
    this.#halfMs = view.halfMs;
  }
}
