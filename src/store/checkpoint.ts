// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints: what the log says, said again in one of two slots, so that the ring can be used
// again (format.wire.ts, CHECKPOINT_HEADER). Written while the disk serves: one slice after the
// other, each as it is at one entry of the log (`throughEntry`), from which on the log counts for
// it.
//
// Invariants:
// - A slot is never written while it is the newest whole one, as far as is known.
// - A checkpoint is whole only with its header, and the header is written when every entry that any
//   part contains is durable in the log. So the log is never behind a checkpoint.
// - The log is kept from where the *older* checkpoint needs it, while half of the ring is enough
//   for that: one that has rotted loses nothing.
// - A checkpoint never needs more of the ring than is kept for it (metadata-log.ts). One written
//   while the disk is opened needs nothing of it: everything replayed is durable.

import { crc32 } from "#base/checksum.ts";
import { Status } from "#base/status.ts";
import type { IoDone } from "./disk-io.ts";
import { EntryPages } from "./entry-pages.ts";
import type { EntryPage } from "./entry-pages.ts";
import { NOT_MAPPED } from "./extent-map.ts";
import {
  CHECKPOINT_BODY,
  CHECKPOINT_HEADER,
  CHECKPOINT_HEALTH,
  EntryKind,
  PAGE_BYTES,
  PageKind,
} from "./format.wire.ts";
import { COMMIT_BUFFER_BYTES } from "./metadata-log.ts";
import type { SliceState } from "./metadata.ts";
import { sealPage } from "./page.ts";
import type { StoreCore } from "./store-core.ts";

/** Where the checkpoints of a disk stand. */
export interface CheckpointPosition {
  /** Of the newest whole one. */
  sequence: number;
  /** The first log record it needs. */
  logFrom: number;
}

const PAGES_PER_WRITE = COMMIT_BUFFER_BYTES / PAGE_BYTES;
const header = CHECKPOINT_HEADER.view();
const body = CHECKPOINT_BODY.view();

interface Attempt {
  readonly sequence: number;
  readonly logFrom: number;
  readonly previous: number;
  readonly beforeEntry: number;
  readonly slices: number[];
  next: number;
  readonly pages: EntryPages;
  written: number;
  checksum: number;
  sections: number;
}

export class Checkpointer {
  position: CheckpointPosition;
  readonly #core: StoreCore;
  readonly #buffer: number;
  #running = false;
  #waiters: IoDone[] = [];
  /** How far the next one's sequence is from the newest: the slot is its parity. */
  #steps: 1 | 2 = 1;

  /** `buffer` holds COMMIT_BUFFER_BYTES in the disk's Memory. */
  constructor(core: StoreCore, position: CheckpointPosition, buffer: number) {
    this.#core = core;
    this.position = position;
    this.#buffer = buffer;
  }

  get running(): boolean {
    return this.#running;
  }

  /** Starts one when a quarter of the ring was filled since the last. */
  maybe(): void {
    const filled = this.#core.log.position.sequence - this.position.logFrom;
    if (!this.#running && filled >= this.#core.plan.logSlots / 4) this.#begin();
  }

  /** The ring is full: only another checkpoint makes room, however little came since the last. */
  force(): void {
    if (!this.#running) this.#begin();
  }

  /** Writes one now; `done` when it is whole. One that runs already does not count. */
  request(done: IoDone): void {
    if (this.#core.io.failed) return done(Status.ioError);
    if (this.#running) {
      this.#waiters.push(() => this.request(done));
      return;
    }
    this.#waiters.push(done);
    this.#begin();
  }

  /**
   * The newest, of this sequence, has rotted: writes one over it, not over the older one, by which
   * alone the disk could be opened now.
   */
  replace(sequence: number, done: IoDone): void {
    if (!this.#running && sequence === this.position.sequence) this.#steps = 2;
    this.request(done);
  }

  /** The disk was ejected. */
  fail(): void {
    this.#end(Status.ioError);
  }

  #begin(): void {
    this.#running = true;
    const { sequence, previous, entry } = this.#core.log.position;
    this.#more({
      sequence: this.position.sequence + this.#steps,
      logFrom: sequence,
      previous,
      beforeEntry: entry,
      slices: [...this.#core.metadata.slices.keys()],
      next: 0,
      pages: new EntryPages(CHECKPOINT_BODY.size),
      written: 0,
      checksum: 0,
      sections: 0,
    });
  }

  /** Says the next slices until a write is full, and writes it; then the header. */
  #more(attempt: Attempt): void {
    if (!this.#running) return;
    const { pages, slices } = attempt;
    while (attempt.next < slices.length && pages.pages.length <= PAGES_PER_WRITE) {
      const state = this.#core.metadata.slices.get(slices[attempt.next++] as number);
      if (state === undefined) continue;
      putSlice(pages, state, this.#core.log.appended);
      attempt.sections++;
    }
    if (pages.pages.length === 0) return this.#finish(attempt);
    // The last page may have room left for the next slice.
    const ready = attempt.next < slices.length ? pages.pages.length - 1 : pages.pages.length;
    const count = Math.min(PAGES_PER_WRITE, Math.max(1, ready));
    const { checkpointBytes } = this.#core.plan;
    if ((1 + attempt.written + count) * PAGE_BYTES > checkpointBytes) return this.#again();
    const taken = pages.pages.splice(0, count);
    const at = this.#slotAt(attempt.sequence) + (1 + attempt.written) * PAGE_BYTES;
    for (const [index, page] of taken.entries()) this.#seal(attempt, page, index);
    this.#core.io.write(at, count * PAGE_BYTES, this.#buffer, (status) => {
      if (status === Status.ok) this.#more(attempt);
    });
  }

  /**
   * Too long: extents moved from slices already said to slices said later. Those said twice are
   * owed to frees that became durable meanwhile; a new attempt says each once.
   */
  #again(): void {
    this.#begin();
  }

  #slotAt(sequence: number): number {
    const { checkpointOffset, checkpointBytes } = this.#core.plan;
    return checkpointOffset + (sequence % 2) * checkpointBytes;
  }

  #seal(attempt: Attempt, page: EntryPage, index: number): void {
    body.at(page.bytes, 0);
    body.sequence = attempt.sequence;
    body.index = attempt.written++;
    body.entries = page.entries;
    const { identity, memory } = this.#core;
    const sum = sealPage(page.bytes, 0, PageKind.checkpointBody, page.usedBytes, identity);
    attempt.checksum = chainChecksum(attempt.checksum, sum);
    memory.bytes.set(page.bytes, this.#buffer + index * PAGE_BYTES);
  }

  #finish(attempt: Attempt): void {
    const { log, metadata, memory, identity, io } = this.#core;
    const throughEntry = log.appended;
    // Entries appended from now on are no part of it, what the header says included.
    const { incarnation, number, nextMapping } = metadata;
    log.setUrgent(throughEntry);
    log.sync(throughEntry, (synced) => {
      if (synced !== Status.ok || !this.#running) return;
      memory.bytes.fill(0, this.#buffer, this.#buffer + PAGE_BYTES);
      header.at(memory.bytes, this.#buffer);
      header.sequence = attempt.sequence;
      header.logFrom = attempt.logFrom;
      header.throughEntry = throughEntry;
      header.nextMapping = nextMapping;
      header.previous = attempt.previous;
      header.pages = attempt.written;
      header.bodyChecksum = attempt.checksum;
      header.incarnation = incarnation;
      header.number = number;
      header.slices = attempt.sections;
      header.beforeEntry = attempt.beforeEntry;
      this.#core.health.encode(memory.bytes, this.#buffer);
      const used = CHECKPOINT_HEALTH.size;
      sealPage(memory.bytes, this.#buffer, PageKind.checkpointHeader, used, identity);
      io.write(this.#slotAt(attempt.sequence), PAGE_BYTES, this.#buffer, (status) => {
        if (status !== Status.ok) return;
        io.flush((flushed) => {
          if (flushed === Status.ok) this.#whole(attempt);
        });
      });
    });
  }

  #whole(attempt: Attempt): void {
    const { log, plan } = this.#core;
    const older = this.position.logFrom;
    this.position = { sequence: attempt.sequence, logFrom: attempt.logFrom };
    this.#steps = 1;
    // Short of room, what only the older one needs is given up: a disk that goes on comes first.
    const short = log.position.sequence - older > plan.logSlots / 2;
    log.advanceTail(short ? attempt.logFrom : older);
    this.#end(Status.ok);
    // A ring that is full again already says so now that this one no longer runs.
    log.commit();
    this.maybe();
  }

  #end(status: Status): void {
    this.#running = false;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const done of waiters) done(status);
  }
}

/** Continues the checksum over the body pages' checksums. */
export function chainChecksum(chain: number, checksum: number): number {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, checksum, true);
  return crc32(bytes, 0, 4, chain);
}

/** All that is to be said of one slice, as it is now. */
function putSlice(pages: EntryPages, state: SliceState, throughEntry: number): void {
  const { slice, sizeBytes, syncedEpoch, syncedLineage, record, map } = state;
  const hasRecord = record !== null;
  pages.putSection(slice, { sizeBytes, throughEntry, syncedEpoch, syncedLineage, hasRecord });
  if (record !== null) pages.putRecord(EntryKind.sectionRecord, record);
  if (state.active.size > 0) pages.putActive(slice, state.activeSorted());
  for (let extent = map.next(0); extent !== NOT_MAPPED;) {
    const physical = map.physicalOf(extent);
    const stamp = map.stampOf(extent);
    const mapping = map.mappingOf(extent);
    let count = 1;
    while (
      map.physicalOf(extent + count) === physical + count &&
      map.stampOf(extent + count) === stamp &&
      map.mappingOf(extent + count) === mapping + count
    ) {
      count++;
    }
    pages.putMap(slice, extent, { physical, count, stamp, mapping });
    extent = map.next(extent + count);
  }
}
