// SPDX-License-Identifier: Apache-2.0
//
// The part of a scrub that looks at what the disk keeps twice of itself (R9): superblocks, the two
// checkpoints, the records of the log that are still needed and their twins. Opening a disk does
// with one of each; so what has rotted must be made whole before the other rots as well.
//
// A superblock is written again. For checkpoints and log two checkpoints are written, one after the
// other, the first over the one that has rotted: then both slots are new, and the log is needed
// from behind what has rotted.

import { NO_BUFFER } from "#base/memory.ts";
import { Status } from "#base/status.ts";
import { chainChecksum } from "./checkpoint.ts";
import type { Checkpointer } from "./checkpoint.ts";
import {
  CHECKPOINT_BODY,
  CHECKPOINT_HEADER,
  LOG_RECORD,
  LOG_SLOT_BYTES,
  PAGE_BYTES,
  PageKind,
} from "./format.wire.ts";
import { PageState, examinePage, pageChecksumField, sameBytes } from "./page.ts";
import { CHUNK_BYTES } from "./scrub-extent.ts";
import type { StoreCore } from "./store-core.ts";
import { encodeSuperblock } from "./superblock.ts";
import type { Superblock } from "./superblock.ts";

const header = CHECKPOINT_HEADER.view();
const body = CHECKPOINT_BODY.view();
const record = LOG_RECORD.view();
const PAGES_PER_READ = CHUNK_BYTES / PAGE_BYTES;
const SLOTS_PER_READ = CHUNK_BYTES / LOG_SLOT_BYTES;

export interface MetadataScrubParts {
  core: StoreCore;
  checkpointer: Checkpointer;
  superblock: Superblock;
  /** Runs `act` when so many bytes may be read. */
  pace(bytes: number, act: () => void): void;
  /** So many pages had rotted and are whole again. */
  done(mended: number): void;
}

export class MetadataScrub {
  readonly #parts: MetadataScrubParts;
  #buffer = NO_BUFFER;
  #mended = 0;
  /** Pages of checkpoints and log that have rotted. */
  #rotten = 0;
  /** The sequence of the newest checkpoint, where it is among them; else 0. */
  #newestRotten = 0;

  constructor(parts: MetadataScrubParts) {
    this.#parts = parts;
  }

  /** False: there is no buffer for it now. */
  begin(): boolean {
    const { core } = this.#parts;
    this.#buffer = core.memory.allocate(CHUNK_BYTES);
    if (this.#buffer === NO_BUFFER) return false;
    core.backgroundBegan();
    this.#superblock(0, () =>
      this.#superblock(1, () => this.#checkpoints(() => this.#log(() => this.#mend()))),
    );
    return true;
  }

  get #bytes(): Uint8Array {
    return this.#parts.core.memory.bytes;
  }

  /** Reads into the buffer; ends all when the disk failed or is being closed. */
  #read(at: number, bytes: number, then: (status: Status) => void): void {
    const { core, pace } = this.#parts;
    pace(bytes, () => {
      if (core.io.failed || core.closing) return this.#end();
      core.io.readPastCache(at, bytes, this.#buffer, (status) => {
        if (core.io.failed || core.closing) this.#end();
        else then(status);
      });
    });
  }

  #superblock(copy: 0 | 1, next: () => void): void {
    const { core, superblock } = this.#parts;
    const at = copy === 0 ? 0 : superblock.plan.areaBytes - PAGE_BYTES;
    this.#read(at, PAGE_BYTES, (status) => {
      const expected = new Uint8Array(PAGE_BYTES);
      encodeSuperblock(expected, 0, superblock, copy);
      const found = this.#bytes.subarray(this.#buffer, this.#buffer + PAGE_BYTES);
      if (status === Status.ok && sameBytes(found, expected)) return next();
      this.#bytes.set(expected, this.#buffer);
      core.io.write(at, PAGE_BYTES, this.#buffer, (written) => {
        if (written !== Status.ok) return this.#end();
        core.io.flush((flushed) => {
          if (flushed !== Status.ok) return this.#end();
          this.#mended++;
          next();
        });
      });
    });
  }

  #checkpoints(next: () => void): void {
    const { checkpointer } = this.#parts;
    const { sequence } = checkpointer.position;
    // One that is being written says nothing, nor does what it replaces.
    const isSettled = () => !checkpointer.running && checkpointer.position.sequence === sequence;
    if (!isSettled()) return next();
    this.#checkpoint(sequence, (newest) => {
      if (newest > 0) this.#newestRotten = sequence;
      const judged = (rotten: number) => {
        if (isSettled()) this.#rotten += rotten;
        next();
      };
      // The first one has no other beside it.
      if (sequence === 1 || !isSettled()) return judged(newest);
      this.#checkpoint(sequence - 1, (older) => judged(newest + older));
    });
  }

  /** `done` with how many of its pages have rotted. */
  #checkpoint(sequence: number, done: (rotten: number) => void): void {
    const { core } = this.#parts;
    const { checkpointOffset, checkpointBytes } = core.plan;
    const slotAt = checkpointOffset + (sequence % 2) * checkpointBytes;
    this.#read(slotAt, PAGE_BYTES, (status) => {
      const kind = PageKind.checkpointHeader;
      const state = examinePage(this.#bytes, this.#buffer, kind, core.identity);
      if (status !== Status.ok || state !== PageState.ok) return done(1);
      header.at(this.#bytes, this.#buffer);
      const { pages, bodyChecksum } = header;
      if (header.sequence !== sequence || (1 + pages) * PAGE_BYTES > checkpointBytes)
        return done(1);
      const from = { page: 0, checksum: 0, rotten: 0 };
      this.#body({ slotAt, sequence, pages, bodyChecksum }, from, done);
    });
  }

  #body(
    whole: { slotAt: number; sequence: number; pages: number; bodyChecksum: number },
    from: { page: number; checksum: number; rotten: number },
    done: (rotten: number) => void,
  ): void {
    const { core } = this.#parts;
    if (from.page === whole.pages) {
      const adds = from.rotten === 0 && from.checksum !== whole.bodyChecksum ? 1 : 0;
      return done(from.rotten + adds);
    }
    const count = Math.min(PAGES_PER_READ, whole.pages - from.page);
    const at = whole.slotAt + (1 + from.page) * PAGE_BYTES;
    this.#read(at, count * PAGE_BYTES, (status) => {
      let { checksum, rotten } = from;
      for (let index = 0; index < count; index++) {
        const pageAt = this.#buffer + index * PAGE_BYTES;
        const kind = PageKind.checkpointBody;
        const state = examinePage(this.#bytes, pageAt, kind, core.identity);
        body.at(this.#bytes, pageAt);
        const isRight = body.sequence === whole.sequence && body.index === from.page + index;
        if (status !== Status.ok || state !== PageState.ok || !isRight) rotten++;
        checksum = chainChecksum(checksum, pageChecksumField(this.#bytes, pageAt));
      }
      this.#body(whole, { page: from.page + count, checksum, rotten }, done);
    });
  }

  /** Every record that is still needed, and its twin. */
  #log(next: () => void): void {
    const { log } = this.#parts.core;
    this.#records(log.tail, log.durableSequence, next);
  }

  #records(from: number, through: number, next: () => void): void {
    const { core } = this.#parts;
    const { logOffset, logSlots } = core.plan;
    const sequence = Math.max(from, core.log.tail);
    if (sequence > through) return next();
    const slot = sequence % logSlots;
    const count = Math.min(SLOTS_PER_READ, through - sequence + 1, logSlots - slot);
    this.#read(logOffset + slot * LOG_SLOT_BYTES, count * LOG_SLOT_BYTES, (status) => {
      for (let page = 0; page < 2 * count; page++) {
        const expected = sequence + Math.floor(page / 2);
        if (expected < core.log.tail) continue; // no longer needed, perhaps overwritten
        const pageAt = this.#buffer + page * PAGE_BYTES;
        const state = examinePage(this.#bytes, pageAt, PageKind.logRecord, core.identity);
        const isRight = record.at(this.#bytes, pageAt).sequence === expected;
        if (status !== Status.ok || state !== PageState.ok || !isRight) this.#rotten++;
      }
      this.#records(sequence + count, through, next);
    });
  }

  #mend(): void {
    if (this.#rotten === 0) return this.#end();
    const { checkpointer } = this.#parts;
    checkpointer.replace(this.#newestRotten, (first) => {
      if (first !== Status.ok) return this.#end();
      checkpointer.request((second) => {
        if (second === Status.ok) this.#mended += this.#rotten;
        this.#end();
      });
    });
  }

  #end(): void {
    const { core, done } = this.#parts;
    core.memory.release(this.#buffer);
    done(this.#mended);
    core.backgroundEnded();
  }
}
