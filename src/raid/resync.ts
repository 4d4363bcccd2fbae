// SPDX-License-Identifier: Apache-2.0
//
// Resync of one target (R7): compares the extent maps, copies what the target may lack, flushes it,
// and lets the record name it in sync. Runs beside writes.
//
// Invariants
// - What a target may lack: extents whose stamp differs, or is later than the last epoch in which
//   it was in sync; extents in its own active regions; extents that only it has mapped (trimmed
//   there). Dirt is kept as stamps (base/member-store.ts); the head's own copy is complete, since
//   it starts only after reconciliation.
// - An extent not compared yet counts as pending. A change of a pending extent does not go to the
//   target but leaves the extent pending; a change of any other goes to it like to a member, and is
//   not acked without it. A copy holds the extent's lock: old data never lands on new.
// - A target that cannot be reached makes every change of that time pending; with the same
//   incarnation it goes on where it was, with another it begins again.
// - From the flush on it is required like a member: the record may name it any moment. Until its
//   last extent is copied, its own active regions stay active there.

import { BLOCK_BYTES, EXTENT_BYTES, EXTENTS_PER_REGION } from "#base/grains.ts";
import type { MapEntry } from "#base/member-store.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { FLAG_KEEP_STAMP, FLAG_LOST } from "#base/operation.ts";
import type { Incarnation } from "#base/record.ts";
import { Status } from "#base/status.ts";
import type { PeerVerb } from "#base/verbs.ts";
import { VerbKind } from "#base/verbs.ts";
import { regionOfExtent } from "./activity.ts";
import { FLAG_DIGEST, digestBytes, matchesDigests } from "./digest.ts";
import { ExtentSet } from "./extent-set.ts";
import { HappeningKind } from "./happening.ts";
import type { Head } from "./head.ts";
import { Once, runsAround } from "./heal.ts";
import type { Ticket } from "./range-lock.ts";
import type { Asker, Replica } from "./replica.ts";
import { Spread } from "./spread.ts";

/** After a copy failed for want of space. */
const RETRY_MS = 1000;

export type ResyncPhase = "comparing" | "copying" | "flushing" | "ready";

export class Resync implements Asker {
  readonly #head: Head;
  readonly #replica: Replica;
  readonly incarnation: Incarnation;
  readonly #syncedEpoch: number;
  #extents: number;
  readonly #pending: ExtentSet;
  /** Of the target's map; says whether a copy allocates there. */
  readonly #mappedThere: ExtentSet;
  /** The target's active regions as it came: it may hold there what nobody else has (R7). */
  readonly #activeThere: ReadonlySet<number>;
  /** Regions still active there that the head's account does not order inactive. */
  readonly #own = new Set<number>();
  readonly #copying = new Set<number>();
  #compared = 0;
  #asking = false;
  #retryMs = Number.NEGATIVE_INFINITY;
  #copied = 0;
  phase: ResyncPhase = "comparing";
  /** What holds it up, in words, or "". */
  obstacle = "";

  constructor(head: Head, replica: Replica, attached: PeerVerb) {
    this.#head = head;
    this.#replica = replica;
    this.incarnation = attached.incarnation;
    this.#extents = head.record.sizeBytes / EXTENT_BYTES;
    this.#pending = new ExtentSet(this.#extents);
    this.#mappedThere = new ExtentSet(this.#extents);
    // R8: epochs of another lineage say nothing here.
    const sameLineage = attached.syncedLineage === head.record.lineage;
    this.#syncedEpoch = sameLineage ? attached.syncedEpoch : 0;
    this.#activeThere = new Set(attached.regions ?? []);
    this.reattached(attached);
  }

  /**
   * H11: the slice grew, by a record that the target has not stored yet. Neither side has anything
   * there, so once all else was compared that is compared as well.
   */
  growTo(extents: number): void {
    if (extents <= this.#extents) return;
    if (this.phase !== "comparing") this.#compared = extents;
    this.#extents = extents;
    this.#pending.growTo(extents);
    this.#mappedThere.growTo(extents);
  }

  /** It is back in the same incarnation. */
  reattached(attached: PeerVerb): void {
    for (const region of attached.regions ?? []) {
      if (!this.#head.activity.has(region)) this.#own.add(region);
    }
    this.#asking = false;
  }

  /** Extents whose copying is under way. */
  get copies(): number {
    return this.#copying.size;
  }
  get doneBytes(): number {
    return this.#copied * EXTENT_BYTES;
  }
  get totalBytes(): number {
    return (this.#copied + this.#pending.count) * EXTENT_BYTES;
  }

  /** Whether a change of this range must go to the target; if not, it stays or becomes pending. */
  covers(offsetBytes: number, lengthBytes: number): boolean {
    const first = Math.floor(offsetBytes / EXTENT_BYTES);
    const end = Math.ceil((offsetBytes + lengthBytes) / EXTENT_BYTES);
    const isCovered =
      this.#replica.promoting || (end <= this.#compared && !this.#pending.hasAnyIn(first, end));
    if (isCovered && (this.#replica.state === "open" || this.#replica.promoting)) return true;
    this.miss(offsetBytes, lengthBytes);
    return false;
  }

  /** It is to be copied yet, as far as is known. */
  awaits(extent: number): boolean {
    return extent >= this.#compared || this.#pending.has(extent);
  }

  /** The target did not get a change. */
  miss(offsetBytes: number, lengthBytes: number): void {
    const end = Math.ceil((offsetBytes + lengthBytes) / EXTENT_BYTES);
    for (let extent = Math.floor(offsetBytes / EXTENT_BYTES); extent < end; extent++) {
      this.#pending.add(extent);
    }
    if (this.phase === "flushing" && !this.#replica.promoting) this.phase = "copying";
  }

  /** Of regions that become inactive, those that may do so on the target too; others later. */
  settled(regions: readonly number[]): number[] {
    return regions.filter((region) => {
      const first = region * EXTENTS_PER_REGION;
      const end = first + EXTENTS_PER_REGION;
      const isSettled = end <= this.#compared && !this.#pending.hasAnyIn(first, end);
      if (!isSettled) this.#own.add(region);
      return isSettled;
    });
  }

  pump(): void {
    const head = this.#head;
    if (!head.ready || head.reconcile.count > 0 || this.#replica.state !== "open") return;
    if (head.nowMs() < this.#retryMs) return;
    if (this.phase === "comparing") return this.#compare();
    if (this.phase === "copying") this.#copyMore();
  }

  /** The proposal to name it in sync was not committed. */
  notCommitted(): void {
    this.#replica.promoting = false;
    this.phase = "copying";
  }

  // Comparing.

  #compare(): void {
    if (this.#asking) return;
    const verb = this.#head.verb(VerbKind.mapRead, this.#replica.disk);
    verb.offsetBytes = this.#compared * EXTENT_BYTES;
    this.#asking = this.#head.ask(this.#replica, verb, this, false);
  }

  answered(_replica: Replica, verb: PeerVerb): void {
    this.#asking = false;
    if (verb.kind !== VerbKind.map || verb.entries === null) {
      this.#hold("the target does not report its map");
      return;
    }
    const hasMore = verb.flags === 1;
    const last = verb.entries.at(-1)?.extent ?? -1;
    const end = hasMore ? Math.min(last + 1, this.#extents) : this.#extents;
    if (end <= this.#compared) return this.#hold("the target's map makes no progress");
    this.#compareChunk(verb.entries, end);
    this.#compared = end;
    if (end < this.#extents) return this.#compare();
    this.phase = "copying";
    this.#copyMore();
  }

  lost(): void {
    this.#asking = false;
  }

  #compareChunk(there: readonly MapEntry[], end: number): void {
    const stampThere = new Map<number, number>();
    for (const { extent, stamp } of there) {
      if (extent < this.#compared || extent >= end) continue;
      stampThere.set(extent, stamp);
      this.#mappedThere.add(extent);
    }
    for (let extent = this.#compared; extent < end; extent++) {
      const here = this.#head.store.stampOf(extent);
      const stamp = stampThere.get(extent) ?? 0;
      if (here === 0 && stamp === 0) continue;
      const isOwn = this.#activeThere.has(regionOfExtent(extent));
      if (isOwn || here !== stamp || here > this.#syncedEpoch) this.#pending.add(extent);
    }
  }

  // Copying.

  #copyMore(): void {
    const head = this.#head;
    const most = head.copyBudget.sliceMost(head.hostInFlight);
    let extent = this.#pending.next(0);
    while (extent >= 0 && this.#copying.size < most) {
      if (!this.#copying.has(extent)) {
        // Others of this unit copy enough at the moment: the next tick tries again.
        if (!head.copyBudget.take()) return;
        this.#copy(extent);
        // It could not even begin: the next tick tries again.
        if (!this.#copying.has(extent) && this.#pending.has(extent)) return;
      }
      if (head.ended || this.phase !== "copying") return;
      extent = this.#pending.next(extent + 1);
    }
    if (this.#pending.count === 0 && this.#copying.size === 0) this.#finish();
  }

  #copy(extent: number): void {
    this.#copying.add(extent);
    const range = {
      offsetBytes: extent * EXTENT_BYTES,
      lengthBytes: EXTENT_BYTES,
      exclusive: true,
    };
    let ticket: Ticket | null = null;
    let isOver = false;
    const over = (isCopied: boolean) => {
      this.#copying.delete(extent);
      this.#head.copyBudget.give();
      isOver = true;
      if (isCopied) {
        this.#pending.delete(extent);
        this.#mappedThere.add(extent);
        this.#copied++;
      }
      if (this.#head.ended) return;
      if (ticket !== null) this.#head.locks.release(ticket);
      if (isCopied) this.pump();
    };
    const granted = () => this.#copyLocked(extent, over);
    ticket = this.#head.locks.acquire(range, granted);
    if (isOver && !this.#head.ended && !ticket.released) this.#head.locks.release(ticket);
  }

  #copyLocked(extent: number, over: (isCopied: boolean) => void): void {
    const head = this.#head;
    const isCurrent = this.#replica.resync === this && this.#replica.state === "open";
    if (head.ended || !head.ready || !isCurrent || !this.#pending.has(extent)) return over(false);
    if (head.store.stampOf(extent) === 0) {
      return this.#send({ extent, bufferOffset: NO_BUFFER, lengthBytes: EXTENT_BYTES }, over);
    }
    if (!this.#mappedThere.has(extent) && this.#replica.creditLeft <= 0) {
      if (this.#replica.allocating === 0) this.#hold("no space on the target");
      return over(false);
    }
    const bufferOffset = head.memory.allocate(EXTENT_BYTES);
    if (bufferOffset === NO_BUFFER) return over(false);
    const offsetBytes = extent * EXTENT_BYTES;
    const unreadable: number[] = [];
    const range = {
      offsetBytes,
      lengthBytes: EXTENT_BYTES,
      bufferOffset,
      acceptOwn: false,
      unreadable,
    };
    head.heal.read(range, (status) => {
      if (status === Status.ok && !head.ended) {
        if (unreadable.length > 0) {
          return this.#copyAround({ extent, bufferOffset, unreadable }, over);
        }
        return this.#compareContent(extent, bufferOffset, over);
      }
      head.memory.release(bufferOffset);
      over(false);
    });
  }

  /**
   * H8: blocks that nobody can read are marked so on the target, the others are copied: it answers
   * for what there is, and one block does not hold up all protection.
   */
  #copyAround(
    copy: { extent: number; bufferOffset: number; unreadable: readonly number[] },
    over: (isCopied: boolean) => void,
  ): void {
    const head = this.#head;
    const { extent, bufferOffset, unreadable } = copy;
    const from = extent * EXTENT_BYTES;
    const region = regionOfExtent(extent);
    // Active until all of it is there: half of it must not look whole after a restart (R7).
    head.activity.enterAnyway(region, region);
    const finish = (isCopied: boolean) => {
      head.activity.leave(region, region);
      head.memory.release(bufferOffset);
      if (isCopied) this.#carried(extent, unreadable);
      over(isCopied);
    };
    const runs = runsAround(from, from + EXTENT_BYTES, unreadable);
    const next = (isSent: boolean) => {
      const run = runs.shift();
      if (!isSent || run === undefined || head.ended) return finish(isSent && !head.ended);
      const at = bufferOffset + (run.offsetBytes - from);
      this.#spread({ ...run, bufferOffset: at, lost: null, allocates: false }, next);
    };
    const lost = unreadable.map((offset) => (offset - from) / BLOCK_BYTES);
    const allocates = !this.#mappedThere.has(extent);
    const mark = { offsetBytes: from, lengthBytes: EXTENT_BYTES, bufferOffset: NO_BUFFER };
    this.#spread({ ...mark, lost, allocates }, (isMarked) => {
      if (isMarked) this.#mappedThere.add(extent);
      next(isMarked);
    });
  }

  #carried(extent: number, unreadable: readonly number[]): void {
    const head = this.#head;
    const { disk } = this.#replica;
    const blocks = unreadable.length;
    head.counters.carried += blocks;
    const offsetBytes = unreadable[0] ?? extent * EXTENT_BYTES;
    const { volume, slice } = head.record;
    const facts = { volume, slice, disk, offsetBytes, blocks };
    head.log.write("error", "unreadable blocks were marked as such on a new copy", facts);
    head.happened({ kind: HappeningKind.carried, disk, offsetBytes, blocks });
  }

  /** What is mapped on both sides may be equal all the same: then only its stamp goes over. */
  #compareContent(extent: number, bufferOffset: number, over: (isCopied: boolean) => void): void {
    const head = this.#head;
    const whole = { extent, bufferOffset, lengthBytes: EXTENT_BYTES };
    if (!this.#mappedThere.has(extent)) return this.#send(whole, over);
    const verb = head.verb(VerbKind.read, this.#replica.disk);
    verb.offsetBytes = extent * EXTENT_BYTES;
    verb.lengthBytes = EXTENT_BYTES;
    verb.flags = FLAG_DIGEST;
    const asker = new Once((answer) => {
      if (answer === null || head.ended) {
        head.memory.release(bufferOffset);
        return over(false);
      }
      const isThere =
        answer.status === Status.ok && answer.payloadBytes === digestBytes(EXTENT_BYTES);
      const isEqual =
        isThere && matchesDigests(head.memory, bufferOffset, EXTENT_BYTES, answer.bufferOffset);
      // R7: the target takes the stamp over, so that it owes others what we owe them.
      this.#send(isEqual ? { ...whole, lengthBytes: BLOCK_BYTES } : whole, over);
    });
    if (head.ask(this.#replica, verb, asker, false)) return;
    head.memory.release(bufferOffset);
    over(false);
  }

  #send(
    piece: { extent: number; bufferOffset: number; lengthBytes: number },
    over: (isCopied: boolean) => void,
  ): void {
    const head = this.#head;
    const { extent, bufferOffset, lengthBytes } = piece;
    const isTrim = bufferOffset === NO_BUFFER;
    const region = regionOfExtent(extent);
    head.activity.enterAnyway(region, region);
    const allocates = !isTrim && !this.#mappedThere.has(extent);
    const whole = { offsetBytes: extent * EXTENT_BYTES, lengthBytes, bufferOffset };
    this.#spread({ ...whole, lost: null, allocates }, (isCopied) => {
      head.activity.leave(region, region);
      if (!isTrim) head.memory.release(bufferOffset);
      over(isCopied);
    });
  }

  /** One message to the target: bytes, none (a trim), or which blocks are lost. */
  #spread(
    part: {
      offsetBytes: number;
      lengthBytes: number;
      bufferOffset: number;
      lost: number[] | null;
      allocates: boolean;
    },
    done: (isDone: boolean) => void,
  ): void {
    const head = this.#head;
    const { bufferOffset, lengthBytes, lost } = part;
    const isWrite = bufferOffset !== NO_BUFFER;
    let wasDropped = false;
    const kind = lost !== null ? "lose" : isWrite ? "write" : "trim";
    const spread = new Spread(head, kind, (ended) => {
      const isDone = ended.status === Status.ok && !wasDropped;
      if (isDone && isWrite) head.counters.resyncedBytes += lengthBytes;
      if (isDone) this.obstacle = "";
      done(isDone);
    });
    spread.offsetBytes = part.offsetBytes;
    spread.lengthBytes = lengthBytes;
    spread.bufferOffset = bufferOffset;
    spread.lostBlocks = lost;
    spread.allocates = part.allocates;
    if (kind === "write") spread.flags = FLAG_KEEP_STAMP;
    if (kind === "lose") spread.flags = FLAG_KEEP_STAMP | FLAG_LOST;
    spread.dropped = () => {
      wasDropped = true;
    };
    spread.start([this.#replica], { local: false });
  }

  // Finishing.

  #finish(): void {
    const { record, stayingCount } = this.#head;
    if (stayingCount >= record.copies) {
      // Others were brought up first; whether it stays is the control station's to say.
      this.obstacle = "enough members are in sync";
      return;
    }
    this.phase = "flushing";
    this.#replica.promoting = true;
    let wasDropped = false;
    const spread = new Spread(this.#head, "flush", (ended) => {
      if (this.#head.ended) return;
      if (ended.status !== Status.ok || wasDropped) {
        if (this.phase === "flushing") this.notCommitted();
        return;
      }
      this.#orderOwnInactive();
      this.phase = "ready";
      this.#head.sessions.evaluate();
    });
    spread.dropped = () => {
      wasDropped = true;
    };
    spread.start([this.#replica], { local: false });
  }

  /** Copied and flushed: what only the target had active is equal now (R6). */
  #orderOwnInactive(): void {
    const regions = [...this.#own].filter((region) => !this.#head.activity.has(region));
    this.#own.clear();
    if (regions.length > 0) this.#head.activity.orderInactive(this.#replica.disk, regions);
  }

  #hold(obstacle: string): void {
    this.obstacle = obstacle;
    this.#retryMs = this.#head.nowMs() + RETRY_MS;
  }
}
