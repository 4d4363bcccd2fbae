// SPDX-License-Identifier: Apache-2.0
//
// RecordKeeper: a unit's way to the slice records of the control store (contract.md, R2, R3, R14).
// Proposes changes by compare-and-swap, and hears of everybody's.
//
// Invariants
// - R2: a proposal ends only when its outcome is known. When an answer is lost, the record is read
//   back linearizably and the same compare tried again, until either this record or another is
//   there.
// - A request that is still under way after its client gave up can only commit while the record is
//   unchanged: its compare names the exact revision. So once another record was read, it never
//   will.
// - R14: a proposal waits as long as the store is away; the number of those waiting is bounded by
//   the slices (each has one under way at most).
// - Records heard are committed ones. They may come late, twice (again after a lost watch), and
//   with epochs left out; never a record that was not committed.

import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { Outcome, carriedOver } from "#base/record.ts";
import type { SliceNumber, SliceRecord } from "#base/record.ts";
import type { Timers, World } from "#base/world.ts";
import type { ControlStore, Entry, Watch, WatchEvent } from "./control-store.ts";
import { recordRefusal } from "./record-rules.ts";
import type { Proposer } from "./record-rules.ts";
import { keys, parseSlice } from "./state.ts";

const RETRY_LEAST_MS = 20;
const RETRY_MOST_MS = 1000;

export interface RecordKeeperEffects {
  /** Committed and confirmed. */
  recordChanged(record: SliceRecord): void;
  /** The slice's record was deleted. */
  recordRemoved(slice: SliceNumber): void;
}

export type ProposeDone = (outcome: Outcome, current: SliceRecord | null) => void;

interface Known {
  record: SliceRecord;
  modRevision: number;
}

export class RecordKeeper {
  readonly #world: Pick<World, "random" | "log">;
  readonly #timers: Timers;
  readonly #store: ControlStore;
  readonly #effects: RecordKeeperEffects;
  readonly #known = new Map<SliceNumber, Known>();
  readonly #proposing = new Set<SliceNumber>();
  #watch: Watch | null = null;
  #stopped = false;

  constructor(
    world: Pick<World, "random" | "log">,
    timers: Timers,
    store: ControlStore,
    effects: RecordKeeperEffects,
  ) {
    this.#world = world;
    this.#timers = timers;
    this.#store = store;
    this.#effects = effects;
  }

  /** Reads all records, then follows their changes, across any outage. */
  start(): void {
    this.#follow(0).catch((cause: unknown) => this.#broken(cause));
  }

  /** No callback runs any more; proposals under way may still be committed. */
  stop(): void {
    this.#stopped = true;
    this.#watch?.cancel();
  }

  /** Proposals whose outcome is not known yet. */
  get proposing(): number {
    return this.#proposing.size;
  }

  /**
   * Puts `next` in the place of `expected` (the same slice, lineage and epoch). `done` gets the
   * record as it is then, or null when the slice is no more. At most one per slice at a time.
   */
  propose(
    next: SliceRecord,
    expected: SliceRecord,
    done: ProposeDone,
    proposer: Proposer = next.head,
  ): void {
    assert(!this.#proposing.has(next.slice), "one proposal per slice at a time");
    this.#proposing.add(next.slice);
    this.#settle(next, expected, proposer).then(
      ({ outcome, current }) => {
        this.#proposing.delete(next.slice);
        if (!this.#stopped) done(outcome, current);
      },
      (cause: unknown) => {
        this.#broken(cause);
        this.#proposing.delete(next.slice);
        if (!this.#stopped) done(Outcome.refused, null);
      },
    );
  }

  async #settle(
    next: SliceRecord,
    expected: SliceRecord,
    proposer: Proposer,
  ): Promise<{ outcome: Outcome; current: SliceRecord | null }> {
    const key = keys.slice(next.slice);
    for (let attempt = 0; ; attempt++) {
      if (attempt > 0) await this.#pause(attempt);
      const there = await this.#current(next.slice, expected, attempt);
      if (there === "away") continue;
      if (there === null) return { outcome: Outcome.refused, current: null };
      const { record: current, modRevision } = there;
      // Ours already: an attempt whose answer was lost.
      if (sameRecord(current, next)) return { outcome: Outcome.committed, current };
      if (current.lineage !== expected.lineage || current.epoch !== expected.epoch) {
        return { outcome: Outcome.conflict, current };
      }
      // R8: what the proposer's record came by (a link, a disk) does not say what is kept.
      const whole = carriedOver(current, next);
      const refusal = recordRefusal(current, whole, proposer);
      if (refusal !== null) {
        this.#world.log.write("error", `a proposal breaks a rule: ${refusal}`, { next, current });
        return { outcome: Outcome.refused, current };
      }
      const revision = await this.#swap(key, whole, modRevision);
      if (revision === null) continue;
      if (revision instanceof Fault) {
        const { message: reason } = revision;
        this.#world.log.write("error", "a proposal is not allowed", { reason, next });
        return { outcome: Outcome.refused, current };
      }
      this.#known.set(next.slice, { record: whole, modRevision: revision });
      return { outcome: Outcome.committed, current: whole };
    }
  }

  /**
   * The record to compare with: what the watch said, at the first attempt and if it is the expected
   * one (the compare finds out if it is old); after that read linearizably.
   */
  async #current(
    slice: SliceNumber,
    expected: SliceRecord,
    attempt: number,
  ): Promise<Known | null | "away"> {
    const known = this.#known.get(slice);
    if (attempt === 0 && known !== undefined && sameRecord(known.record, expected)) return known;
    try {
      const { entry } = await this.#store.get(keys.slice(slice));
      if (entry === null) return null;
      return { record: parseSlice(entry.key, entry.value), modRevision: entry.modRevision };
    } catch (cause) {
      if (isOutage(cause)) return "away";
      throw cause;
    }
  }

  /**
   * The revision of the commit; null: not committed, or nobody knows, look again; a Fault: it may
   * not be.
   */
  async #swap(key: string, next: SliceRecord, modRevision: number): Promise<number | null | Fault> {
    try {
      const result = await this.#store.transaction({
        ifs: [{ key, modRevision }],
        puts: [{ key, value: JSON.stringify(next) }],
      });
      return result.committed ? result.revision : null;
    } catch (cause) {
      if (isOutage(cause)) return null;
      if (cause instanceof Fault && cause.code === "forbidden") return cause;
      throw cause;
    }
  }

  /** Reads all records and watches from there; comes again when the watch is lost. */
  async #follow(before: number): Promise<void> {
    for (let attempt = before; !this.#stopped; attempt++) {
      if (attempt > 0) await this.#pause(attempt);
      try {
        const { revision, entries } = await this.#store.range(keys.slices);
        if (this.#stopped) return;
        this.#takeAll(entries);
        this.#watch = this.#store.watch(keys.slices, revision + 1, {
          onEvents: (events) => this.#takeEvents(events),
          onLost: () => {
            this.#watch = null;
            this.#follow(1).catch((cause: unknown) => this.#broken(cause));
          },
        });
        return;
      } catch (cause) {
        if (!isOutage(cause)) throw cause;
      }
    }
  }

  #takeAll(entries: readonly Entry[]): void {
    const present = new Set<SliceNumber>();
    for (const entry of entries) {
      const record = parseSlice(entry.key, entry.value);
      present.add(record.slice);
      this.#take(record, entry.modRevision);
    }
    for (const slice of [...this.#known.keys()]) if (!present.has(slice)) this.#remove(slice);
  }

  #takeEvents(events: readonly WatchEvent[]): void {
    for (const event of events) {
      if (this.#stopped) return;
      if (event.kind === "delete") this.#remove(Number(event.key.slice(keys.slices.length)));
      else this.#take(parseSlice(event.key, event.value), event.modRevision);
    }
  }

  #take(record: SliceRecord, modRevision: number): void {
    const known = this.#known.get(record.slice);
    // What a proposal of ours brought back may be newer than what the watch still has to say.
    if (known !== undefined && known.modRevision > modRevision) return;
    this.#known.set(record.slice, { record, modRevision });
    this.#effects.recordChanged(record);
  }

  #remove(slice: SliceNumber): void {
    if (this.#known.delete(slice)) this.#effects.recordRemoved(slice);
  }

  #pause(attempt: number): Promise<void> {
    const longest = Math.min(RETRY_MOST_MS, RETRY_LEAST_MS * 2 ** Math.min(attempt, 10));
    const delayMs = longest * (0.5 + 0.5 * this.#world.random.fraction());
    return new Promise((resolve) => void this.#timers.after(delayMs, resolve));
  }

  /** A record that cannot be read is no outage: said aloud, and left alone. */
  #broken(cause: unknown): void {
    this.#world.log.write("error", "the slice records cannot be followed", {
      cause: cause instanceof Error ? cause.message : String(cause),
    });
  }
}

function isOutage(cause: unknown): boolean {
  return (
    cause instanceof Fault && (cause.code === "controlStoreAway" || cause.code === "unknownOutcome")
  );
}

/** Equal in all that a proposal decides; fields added by newer versions do not count. */
export function sameRecord(left: SliceRecord, right: SliceRecord): boolean {
  return (
    left.slice === right.slice &&
    left.lineage === right.lineage &&
    left.epoch === right.epoch &&
    left.head === right.head &&
    left.sizeBytes === right.sizeBytes &&
    left.copies === right.copies &&
    left.inSync.length === right.inSync.length &&
    left.inSync.every((member) =>
      right.inSync.some((m) => m.disk === member.disk && m.incarnation === member.incarnation),
    ) &&
    left.resyncing.length === right.resyncing.length &&
    left.resyncing.every((disk) => right.resyncing.includes(disk))
  );
}
