// SPDX-License-Identifier: Apache-2.0
//
// Reading the newest whole checkpoint of a disk: the one with the higher sequence, or, when that is
// torn or rotten, the other (checkpoint.ts keeps the log that one needs).

import { PAGE_BYTES, CHECKPOINT_BODY, CHECKPOINT_HEADER, PageKind } from "./format.wire.ts";
import { Status } from "#base/status.ts";
import type { CheckpointPosition } from "./checkpoint.ts";
import { chainChecksum } from "./checkpoint.ts";
import type { DiskIo } from "./disk-io.ts";
import type { DiskPlan } from "./disk-plan.ts";
import { Health } from "./health.ts";
import type { LogPosition } from "./metadata-log.ts";
import { COMMIT_BUFFER_BYTES } from "./metadata-log.ts";
import { Metadata } from "./metadata.ts";
import { PageState, examinePage, pageChecksumField, pageUsedBytes } from "./page.ts";
import type { PageIdentity } from "./page.ts";

export interface LoadedCheckpoint {
  metadata: Metadata;
  position: CheckpointPosition;
  /** Where the log goes on from it. */
  log: LogPosition;
  throughEntry: number;
  health: Health;
  /** The first log record the other slot's checkpoint needs, or null when that is not whole. */
  olderLogFrom: number | null;
}

interface Header {
  readonly sequence: number;
  readonly logFrom: number;
  readonly previous: number;
  readonly throughEntry: number;
  readonly nextMapping: number;
  readonly pages: number;
  readonly bodyChecksum: number;
  readonly incarnation: number;
  readonly number: number;
  readonly slices: number;
  readonly beforeEntry: number;
  readonly health: Health;
}

type Loaded = (loaded: LoadedCheckpoint | null) => void;

const PAGES_PER_READ = COMMIT_BUFFER_BYTES / PAGE_BYTES;
const header = CHECKPOINT_HEADER.view();
const body = CHECKPOINT_BODY.view();

export class CheckpointLoad {
  readonly #io: DiskIo;
  readonly #plan: DiskPlan;
  readonly #identity: PageIdentity;
  readonly #buffer: number;
  readonly #done: Loaded;
  readonly #headers: Header[] = [];

  constructor(
    io: DiskIo,
    plan: DiskPlan,
    options: { identity: PageIdentity; buffer: number; done: Loaded },
  ) {
    this.#io = io;
    this.#plan = plan;
    this.#identity = options.identity;
    this.#buffer = options.buffer;
    this.#done = options.done;
  }

  begin(): void {
    this.#readHeader(0);
  }

  #readHeader(slot: number): void {
    if (slot === 2) {
      this.#headers.sort((left, right) => right.sequence - left.sequence);
      return this.#try(0);
    }
    const at = this.#plan.checkpointOffset + slot * this.#plan.checkpointBytes;
    this.#io.read(at, PAGE_BYTES, this.#buffer, (status) => {
      const found = status === Status.ok ? this.#decodeHeader(slot) : null;
      if (found !== null) this.#headers.push(found);
      this.#readHeader(slot + 1);
    });
  }

  #decodeHeader(slot: number): Header | null {
    const { bytes } = this.#io.memory;
    const state = examinePage(bytes, this.#buffer, PageKind.checkpointHeader, this.#identity);
    if (state !== PageState.ok) return null;
    header.at(bytes, this.#buffer);
    const { sequence, logFrom, previous, throughEntry, nextMapping } = header;
    const { pages, bodyChecksum, incarnation, number, slices, beforeEntry } = header;
    if (sequence % 2 !== slot || (1 + pages) * PAGE_BYTES > this.#plan.checkpointBytes) return null;
    const health = new Health();
    health.decode(bytes, this.#buffer);
    return {
      health,
      sequence,
      logFrom,
      previous,
      throughEntry,
      nextMapping,
      pages,
      bodyChecksum,
      incarnation,
      number,
      slices,
      beforeEntry,
    };
  }

  #try(which: number): void {
    const chosen = this.#headers[which];
    if (chosen === undefined) return this.#done(null);
    const metadata = new Metadata(this.#plan.extents);
    metadata.incarnation = chosen.incarnation;
    metadata.number = chosen.number;
    metadata.nextMapping = chosen.nextMapping;
    this.#readBody(chosen, metadata, { page: 0, checksum: 0 }, (whole) => {
      if (!whole) return this.#try(which + 1);
      metadata.endSections();
      const older = this.#headers[which + 1];
      this.#done({
        metadata,
        position: { sequence: chosen.sequence, logFrom: chosen.logFrom },
        log: {
          sequence: chosen.logFrom,
          previous: chosen.previous,
          entry: chosen.beforeEntry,
        },
        throughEntry: chosen.throughEntry,
        health: chosen.health,
        olderLogFrom: older === undefined ? null : older.logFrom,
      });
    });
  }

  #readBody(
    chosen: Header,
    metadata: Metadata,
    from: { page: number; checksum: number },
    done: (whole: boolean) => void,
  ): void {
    if (from.page === chosen.pages) {
      const complete = metadata.slices.size === chosen.slices;
      return done(complete && from.checksum === chosen.bodyChecksum);
    }
    const count = Math.min(PAGES_PER_READ, chosen.pages - from.page);
    const { checkpointOffset, checkpointBytes } = this.#plan;
    const slotAt = checkpointOffset + (chosen.sequence % 2) * checkpointBytes;
    const at = slotAt + (1 + from.page) * PAGE_BYTES;
    this.#io.read(at, count * PAGE_BYTES, this.#buffer, (status) => {
      if (status !== Status.ok) return done(false);
      let { checksum } = from;
      for (let index = 0; index < count; index++) {
        const pageAt = this.#buffer + index * PAGE_BYTES;
        if (!this.#applyPage(chosen, metadata, pageAt, from.page + index)) return done(false);
        checksum = chainChecksum(checksum, pageChecksumField(this.#io.memory.bytes, pageAt));
      }
      this.#readBody(chosen, metadata, { page: from.page + count, checksum }, done);
    });
  }

  #applyPage(chosen: Header, metadata: Metadata, pageAt: number, index: number): boolean {
    const { bytes } = this.#io.memory;
    const state = examinePage(bytes, pageAt, PageKind.checkpointBody, this.#identity);
    if (state !== PageState.ok) return false;
    body.at(bytes, pageAt);
    if (body.sequence !== chosen.sequence || body.index !== index) return false;
    const end = pageAt + pageUsedBytes(bytes, pageAt);
    return applyEntries(metadata, bytes, {
      from: pageAt + CHECKPOINT_BODY.size,
      end,
      entries: body.entries,
      firstEntry: 0,
    });
  }
}

/**
 * Applies the packed entries of a page; numbers them from `firstEntry`, or not at all when it is 0.
 */
export function applyEntries(
  metadata: Metadata,
  source: Uint8Array,
  page: { from: number; end: number; entries: number; firstEntry: number },
): boolean {
  let at = page.from;
  for (let index = 0; index < page.entries; index++) {
    const number = page.firstEntry === 0 ? 0 : page.firstEntry + index;
    const applied = metadata.apply(source, at, page.end - at, number);
    if (typeof applied !== "number") return false;
    at += applied;
  }
  return at === page.end;
}
