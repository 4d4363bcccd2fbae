// SPDX-License-Identifier: Apache-2.0
//
// Replaying the metadata log on top of a checkpoint, and telling its end from damage.
//
// The log ends at the first record of which neither twin is sound, in sequence, and chained to the
// one before. That is where a crash tore the last commit, or nothing was written yet. But if any
// sound record behind the end says that the missing one was durable, the end is damage: what was
// acked is gone, and the disk is refused rather than served from an older state. So it is when both
// twins at the end cannot be read: they may be there (a durable record has both).

import { Status } from "#base/status.ts";
import { applyEntries } from "./checkpoint-load.ts";
import type { DiskIo } from "./disk-io.ts";
import type { DiskPlan } from "./disk-plan.ts";
import { LOG_RECORD, LOG_SLOT_BYTES, PAGE_BYTES, PageKind } from "./format.wire.ts";
import type { LogPosition } from "./metadata-log.ts";
import { COMMIT_RECORDS_MAX } from "./metadata-log.ts";
import type { Metadata } from "./metadata.ts";
import { PageState, examinePage, pageChecksumField, pageUsedBytes } from "./page.ts";
import type { PageIdentity } from "./page.ts";

export interface ReplayedLog {
  position: LogPosition;
  /** Why the log cannot be believed, or null. */
  damage: string | null;
  /** Records of which one twin was damaged. */
  halfRecords: number;
}

const view = LOG_RECORD.view();

export class LogReplay {
  readonly #io: DiskIo;
  readonly #plan: DiskPlan;
  readonly #identity: PageIdentity;
  readonly #metadata: Metadata;
  readonly #buffer: number;
  readonly #done: (replayed: ReplayedLog) => void;
  readonly #throughEntry: number;
  readonly #from: number;
  #sequence: number;
  #previous: number;
  #entry: number;
  #halfRecords = 0;
  /** Pages of the present reading that the disk could not read. */
  readonly #unreadable = new Set<number>();
  #damage: string | null = null;
  /** Set once the end was found: the sequence of the first record that is not there. */
  #endAt = 0;

  constructor(
    io: DiskIo,
    plan: DiskPlan,
    options: {
      identity: PageIdentity;
      metadata: Metadata;
      buffer: number;
      from: LogPosition;
      /** Entries the checkpoint contains; the log must reach that far. */
      throughEntry: number;
      done: (replayed: ReplayedLog) => void;
    },
  ) {
    this.#io = io;
    this.#plan = plan;
    this.#identity = options.identity;
    this.#metadata = options.metadata;
    this.#buffer = options.buffer;
    this.#done = options.done;
    this.#throughEntry = options.throughEntry;
    this.#from = options.from.sequence;
    this.#sequence = options.from.sequence;
    this.#previous = options.from.previous;
    this.#entry = options.from.entry;
  }

  begin(): void {
    this.#read(this.#from);
  }

  /** Reads the slots of the records from `sequence` on, once around the ring. */
  #read(sequence: number): void {
    const { logSlots, logOffset } = this.#plan;
    if (sequence === this.#from + logSlots) return this.#end();
    const slot = sequence % logSlots;
    const count = Math.min(COMMIT_RECORDS_MAX, logSlots - slot, this.#from + logSlots - sequence);
    const at = logOffset + slot * LOG_SLOT_BYTES;
    this.#unreadable.clear();
    this.#io.read(at, count * LOG_SLOT_BYTES, this.#buffer, (status) => {
      if (status === Status.ok) return this.#takeSlots(sequence, count);
      this.#readPage(sequence, { count, page: 0 });
    });
  }

  /** Page by page, where the disk cannot read all. */
  #readPage(sequence: number, at: { count: number; page: number }): void {
    if (at.page === 2 * at.count) return this.#takeSlots(sequence, at.count);
    const { logSlots, logOffset } = this.#plan;
    const offset = at.page * PAGE_BYTES;
    const target = this.#buffer + offset;
    const diskAt = logOffset + (sequence % logSlots) * LOG_SLOT_BYTES + offset;
    this.#io.read(diskAt, PAGE_BYTES, target, (status) => {
      if (status !== Status.ok) {
        this.#unreadable.add(at.page);
        this.#io.memory.bytes.fill(0, target, target + PAGE_BYTES);
      }
      this.#readPage(sequence, { count: at.count, page: at.page + 1 });
    });
  }

  #takeSlots(sequence: number, count: number): void {
    for (let index = 0; index < count; index++) {
      const slotAt = this.#buffer + index * LOG_SLOT_BYTES;
      if (this.#endAt === 0 && this.#takeRecord(slotAt)) continue;
      if (this.#endAt === 0) this.#foundEnd(index);
      this.#lookBehindEnd(slotAt);
      if (this.#damage !== null) return this.#end();
    }
    this.#read(sequence + count);
  }

  #takeRecord(slotAt: number): boolean {
    const { bytes } = this.#io.memory;
    const first = this.#isNext(slotAt);
    const second = this.#isNext(slotAt + PAGE_BYTES);
    if (!first && !second) return false;
    if (!first || !second) this.#halfRecords++;
    const at = first ? slotAt : slotAt + PAGE_BYTES;
    view.at(bytes, at);
    const { firstEntry, entries } = view;
    const page = {
      from: at + LOG_RECORD.size,
      end: at + pageUsedBytes(bytes, at),
      entries,
      firstEntry,
    };
    if (firstEntry !== this.#entry + 1) {
      this.#damage = "entries of the metadata log are missing";
    } else if (!applyEntries(this.#metadata, bytes, page)) {
      this.#damage = "an entry of the metadata log makes no sense";
    }
    this.#entry = firstEntry + entries - 1;
    this.#previous = pageChecksumField(bytes, at);
    this.#sequence++;
    return this.#damage === null;
  }

  #isNext(at: number): boolean {
    const { bytes } = this.#io.memory;
    const state = examinePage(bytes, at, PageKind.logRecord, this.#identity);
    if (state !== PageState.ok) return false;
    view.at(bytes, at);
    return view.sequence === this.#sequence && view.previous === this.#previous;
  }

  /** The record that would come next is not in slot `index` of what was read. */
  #foundEnd(index: number): void {
    this.#endAt = this.#sequence;
    if (!this.#unreadable.has(2 * index) || !this.#unreadable.has(2 * index + 1)) return;
    // R0, R4, R6: a disk that forgot its last record would forget an incarnation or a promise.
    this.#damage = "a record of the metadata log cannot be read";
  }

  /** A sound record that knows the end to be durable shows damage. */
  #lookBehindEnd(slotAt: number): void {
    const { bytes } = this.#io.memory;
    for (const at of [slotAt, slotAt + PAGE_BYTES]) {
      const state = examinePage(bytes, at, PageKind.logRecord, this.#identity);
      if (state !== PageState.ok) continue;
      view.at(bytes, at);
      if (view.durable >= this.#endAt) this.#damage = "a record of the metadata log is damaged";
    }
  }

  #end(): void {
    if (this.#damage === null && this.#entry < this.#throughEntry) {
      this.#damage = "the metadata log ends before its checkpoint";
    }
    this.#done({
      position: { sequence: this.#sequence, previous: this.#previous, entry: this.#entry },
      damage: this.#damage,
      halfRecords: this.#halfRecords,
    });
  }
}
