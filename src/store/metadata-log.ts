// SPDX-License-Identifier: Apache-2.0
//
// The metadata log: the one write-ahead fact of a disk. A ring of records (format.wire.ts,
// LOG_RECORD), each written twice side by side, group-committed: what is appended while a commit is
// in flight rides in the next one. A commit is one write of up to eight records, stable by itself
// (FUA): where much is written, a flush of all that takes far longer than the few records do. Only
// where somebody waits for whatever was written before as well is it a write and a flush.
//
// Invariants:
// - Entries become durable in the order in which they were appended, and are applied to Metadata
//   when appended, so memory is never behind the disk.
// - At most one commit is in flight, so that only the last commit of a run can be torn.
// - A record is overwritten only when a checkpoint before the newest one no longer needs it
//   (`tail`). A quarter of the ring is kept for the entries a checkpoint waits for: the log never
//   blocks for ever.

import { assert } from "#base/assert.ts";
import { Status } from "#base/status.ts";
import type { DiskIo, IoDone } from "./disk-io.ts";
import type { DiskPlan } from "./disk-plan.ts";
import { EntryPages } from "./entry-pages.ts";
import type { EntryPage } from "./entry-pages.ts";
import { LOG_RECORD, LOG_SLOT_BYTES, PAGE_BYTES, PageKind } from "./format.wire.ts";
import type { Metadata } from "./metadata.ts";
import { sealPage } from "./page.ts";
import type { PageIdentity } from "./page.ts";

/** Records in one commit. */
export const COMMIT_RECORDS_MAX = 8;
export const COMMIT_BUFFER_BYTES = COMMIT_RECORDS_MAX * LOG_SLOT_BYTES;
/** Staged pages from which on operations that would add more wait (R13). */
export const STAGED_PAGES_MAX = 16;

/** Where a log goes on. */
export interface LogPosition {
  /** The next record's sequence. */
  sequence: number;
  /** The checksum of the record before it; 0: there is none. */
  previous: number;
  /** The last entry of the records before it. */
  entry: number;
}

interface Waiter {
  entry: number;
  done: IoDone;
  /** All that was written before has to be on media too. */
  wantsAll: boolean;
}

/** Of a wait that wants entries on media, and nothing of what else was written. */
export interface SyncOptions {
  of: "entries";
}

const view = LOG_RECORD.view();

export class MetadataLog {
  readonly staged = new EntryPages(LOG_RECORD.size);
  /** The last entry appended, and the last one known durable. */
  appended: number;
  durable: number;
  /** The oldest record that is still needed. */
  tail: number;
  /** Told whenever entries became durable. */
  onDurable: () => void = () => {};
  /** Told of every entry as it is appended: its number and its bytes. */
  onAppended: (entry: number, bytes: Uint8Array, at: number, lengthBytes: number) => void =
    () => {};
  /** Told when a commit waits for room in the ring: a checkpoint must come. */
  onFull: () => void = () => {};
  readonly #io: DiskIo;
  readonly #plan: DiskPlan;
  readonly #identity: PageIdentity;
  readonly #metadata: Metadata;
  readonly #buffer: number;
  readonly #reserveSlots: number;
  #sequence: number;
  #previous: number;
  #sealedEntries: number;
  #durableSequence: number;
  #committing = false;
  #urgentEntry = 0;
  #waiters: Waiter[] = [];

  /** `buffer` holds COMMIT_BUFFER_BYTES in the disk's Memory. */
  constructor(
    io: DiskIo,
    plan: DiskPlan,
    start: {
      metadata: Metadata;
      identity: PageIdentity;
      buffer: number;
      position: LogPosition;
      tail: number;
    },
  ) {
    this.#io = io;
    this.#plan = plan;
    this.#identity = start.identity;
    this.#metadata = start.metadata;
    this.#buffer = start.buffer;
    this.#reserveSlots = Math.floor(plan.logSlots / 4);
    this.#sequence = start.position.sequence;
    this.#previous = start.position.previous;
    this.#durableSequence = start.position.sequence - 1;
    this.tail = start.tail;
    this.appended = start.position.entry;
    this.durable = start.position.entry;
    this.#sealedEntries = start.position.entry;
  }

  /** Appends the one entry that `put` writes, applies it, and answers its number. */
  append(put: (pages: EntryPages) => void): number {
    put(this.staged);
    this.appended++;
    const { bytes, at } = this.staged;
    const applied = this.#metadata.apply(bytes, at, PAGE_BYTES - at, this.appended);
    assert(typeof applied === "number", `our own entry applies: ${applied}`);
    this.onAppended(this.appended, bytes, at, applied);
    return this.appended;
  }

  /** Appends an entry as an earlier run had; false, and nothing done, when it makes no sense. */
  restage(bytes: Uint8Array): boolean {
    // Counted first: what it frees waits for this very entry (H9).
    this.appended++;
    if (this.#metadata.apply(bytes, 0, bytes.length, this.appended) !== bytes.length) {
      this.appended--;
      return false;
    }
    this.staged.putBytes(bytes);
    return true;
  }

  /**
   * `done` once every entry up to `entry` is durable; starts a commit for them. Unless only entries
   * are wanted, a commit that begins within the call or later covers all writes that ended before.
   */
  sync(entry: number, done: IoDone, options?: SyncOptions): void {
    if (this.#io.failed) return done(Status.ioError);
    if (entry <= this.durable) return done(Status.ok);
    this.#waiters.push({ entry, done, wantsAll: options === undefined });
    this.commit();
  }

  /** The last record known durable. */
  get durableSequence(): number {
    return this.#durableSequence;
  }

  /** Whether an entry up to `entry` waits for a commit that has not begun. */
  waitsForCommit(entry: number): boolean {
    return entry > this.#sealedEntries;
  }

  /** Records that are still needed. */
  get usedSlots(): number {
    return this.#sequence - this.tail;
  }

  get idle(): boolean {
    return !this.#committing && this.staged.pages.length === 0;
  }

  get position(): LogPosition {
    const entry = this.#sealedEntries;
    return { sequence: this.#sequence, previous: this.#previous, entry };
  }

  /** Lets the records before `tail` go. */
  advanceTail(tail: number): void {
    assert(tail >= this.tail, "the log's tail only advances");
    this.tail = tail;
    this.commit();
  }

  /** A checkpoint needs every entry up to this durable, and may use the ring's last part for it. */
  setUrgent(entry: number): void {
    this.#urgentEntry = entry;
    this.commit();
  }

  /** Starts a commit of what is staged, unless one is in flight: its end starts the next. */
  commit(): void {
    if (this.#committing || this.#io.failed || this.staged.pages.length === 0) return;
    const slot = this.#sequence % this.#plan.logSlots;
    const free = this.#plan.logSlots - this.usedSlots;
    const count = Math.min(
      COMMIT_RECORDS_MAX,
      this.staged.pages.length,
      this.#plan.logSlots - slot,
      Math.max(free - this.#reserveSlots, Math.min(free, this.#urgentPages())),
    );
    if (count <= 0) return this.onFull();
    this.#committing = true;
    const pages = this.staged.pages.splice(0, count);
    const firstSequence = this.#sequence;
    for (let index = 0; index < count; index++) this.#seal(pages[index] as EntryPage, index);
    const through = { sequence: firstSequence + count - 1, entry: this.#sealedEntries };
    const offset = this.#plan.logOffset + slot * LOG_SLOT_BYTES;
    const bytes = count * LOG_SLOT_BYTES;
    if (!this.#waiters.some(({ wantsAll }) => wantsAll)) {
      this.#io.writeStable(offset, bytes, this.#buffer, (status) => this.#end(status, through));
      return;
    }
    this.#io.write(offset, bytes, this.#buffer, (status) => {
      if (status !== Status.ok) return this.#end(status, through);
      this.#io.flush((flushed) => this.#end(flushed, through));
    });
  }

  /** Staged pages that hold entries a checkpoint waits for. */
  #urgentPages(): number {
    let entry = this.#sealedEntries;
    let pages = 0;
    for (; entry < this.#urgentEntry && pages < this.staged.pages.length; pages++) {
      entry += (this.staged.pages[pages] as EntryPage).entries;
    }
    return pages;
  }

  /** Ends every wait: the disk was ejected. */
  fail(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.done(Status.ioError);
  }

  #seal(page: EntryPage, index: number): void {
    view.at(page.bytes, 0);
    view.sequence = this.#sequence++;
    view.durable = this.#durableSequence;
    view.firstEntry = this.#sealedEntries + 1;
    view.entries = page.entries;
    view.previous = this.#previous;
    view.incarnation = this.#metadata.incarnation;
    this.#previous = sealPage(page.bytes, 0, PageKind.logRecord, page.usedBytes, this.#identity);
    this.#sealedEntries += page.entries;
    const target = this.#buffer + index * LOG_SLOT_BYTES;
    this.#io.memory.bytes.set(page.bytes, target);
    this.#io.memory.bytes.set(page.bytes, target + PAGE_BYTES);
  }

  #end(status: Status, through: { sequence: number; entry: number }): void {
    this.#committing = false;
    if (status !== Status.ok) return;
    this.#durableSequence = through.sequence;
    this.durable = through.entry;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) {
      if (waiter.entry <= this.durable) waiter.done(Status.ok);
      else this.#waiters.push(waiter);
    }
    this.onDurable();
    this.commit();
  }
}
