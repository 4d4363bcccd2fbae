// SPDX-License-Identifier: Apache-2.0
//
// A head's account of the slice's active regions (R6): those in which its members may differ or
// hold unflushed bytes.
//
// Invariants
// - A region leaves the account only when it saw no write since a flush began that all in-sync
//   members completed, and no reconciliation is due in it. Then it is ordered inactive everywhere.
// - At most `activeRegionsMax` are entered by writes; more wait for the oldest to be made inactive.
//   What members report when they attach is taken in regardless.
// - A sole copy owes nobody anything for a region that is active, so neighbours of one that is
//   written to are made active with the next tick, before their own first write has to wait for it;
//   where writes go on from one region to the next, those behind them too. They count as any other.
// - A target's regions that still await a copy are not ordered inactive there (R7: own active).

import { REGION_IDLE_BUSY_MS, REGION_IDLE_BUSY_MS_EACH, REGION_IDLE_MS } from "#base/limits.ts";
import { EXTENTS_PER_REGION, REGION_BYTES } from "#base/grains.ts";
import { VerbKind } from "#base/verbs.ts";
import { Status } from "#base/status.ts";
import type { Head } from "./head.ts";

interface Region {
  users: number;
  usedMs: number;
  /** Counts its uses, so that a flush knows whether one began since. */
  uses: number;
}

/** Under pressure at least this share of the regions is made inactive at once. */
const PRESSURE_SHARE = 0.5;
/** Regions, aligned, that a sole copy makes active together. */
const TOGETHER = 16;

export class Activity {
  readonly #head: Head;
  readonly #regions = new Map<number, Region>();
  readonly #waiters = new Set<() => void>();
  #cycling = false;
  /** Written to for the first time since the last tick, of a sole copy. */
  #entered: number[] = [];
  /** When a write last ended in any region. */
  #usedMs = Number.NEGATIVE_INFINITY;

  constructor(head: Head) {
    this.#head = head;
  }

  get count(): number {
    return this.#regions.size;
  }

  has(region: number): boolean {
    return this.#regions.has(region);
  }

  /** Enters regions for a write; false: the account is full, and `again` runs when it is not. */
  enter(first: number, last: number, again: () => void): boolean {
    const only = first === last && this.#waiters.size === 0 ? this.#regions.get(first) : undefined;
    if (only !== undefined) {
      only.users++;
      if (only.uses++ === 0 && this.#isSole) this.#entered.push(first);
      return true;
    }
    let missing = 0;
    for (let region = first; region <= last; region++) if (!this.#regions.has(region)) missing++;
    const full = missing > 0 && this.#regions.size + missing > this.#head.activeRegionsMax;
    if (full || (missing > 0 && this.#waiters.size > 0 && !this.#waiters.has(again))) {
      this.#waiters.add(again);
      this.#relieve();
      return false;
    }
    this.#waiters.delete(again);
    if (missing > 0 && this.#isSole) this.#entered.push(first);
    this.enterAnyway(first, last);
    return true;
  }

  /** Enters regions whatever their number: repair and resync, bounded by their own jobs. */
  enterAnyway(first: number, last: number): void {
    for (let region = first; region <= last; region++) {
      const entry = this.#entry(region);
      entry.users++;
      entry.uses++;
    }
  }

  leave(first: number, last: number): void {
    const nowMs = this.#head.nowMs();
    this.#usedMs = nowMs;
    for (let region = first; region <= last; region++) {
      const entry = this.#regions.get(region);
      if (entry === undefined) continue;
      entry.users--;
      entry.usedMs = nowMs;
    }
    if (this.#waiters.size > 0) this.#relieve();
  }

  /** Regions that members have active from before. */
  report(regions: readonly number[]): void {
    for (const region of regions) this.#entry(region);
  }

  tick(nowMs: number): void {
    if (this.#entered.length > 0) this.#goAhead();
    if (this.#waiters.size > 0) return this.#relieve();
    if (!this.#cycling) this.#cycle(this.#idleSince(nowMs - this.#idleMs(nowMs)));
  }

  /** Orderly stop: all regions at once. `done` runs when nothing more can be made inactive. */
  clear(done: () => void): void {
    if (this.#cycling) {
      this.#head.onNextTick(() => (this.#head.ended ? done() : this.clear(done)));
      return;
    }
    this.#cycle(this.#idleSince(Number.POSITIVE_INFINITY), done);
  }

  /** Not what is left of several: what is active is copied to those that come back (R7). */
  get #isSole(): boolean {
    return this.#head.record.copies === 1 && this.#head.replicas.size === 0;
  }

  /** Neighbours of what was entered, as far as there is room for them. */
  #goAhead(): void {
    const { store, activeRegionsMax, ready } = this.#head;
    const entered = this.#entered;
    this.#entered = [];
    if (!ready || !this.#isSole || this.#waiters.size > 0) return;
    const regions = Math.ceil(store.sizeBytes / REGION_BYTES);
    const ahead: number[] = [];
    for (const one of entered) {
      const from = one - (one % TOGETHER);
      const goesOn = (this.#regions.get(one - 1)?.uses ?? 0) > 0;
      const end = Math.min(from + (goesOn ? 2 : 1) * TOGETHER, regions);
      for (let region = from; region < end; region++) {
        if (this.#regions.has(region) || this.#regions.size >= activeRegionsMax) continue;
        // In use until it is active: else it might be ordered inactive first.
        this.#entry(region).users++;
        ahead.push(region);
      }
    }
    if (ahead.length > 0) store.activate(ahead, () => this.#left(ahead));
  }

  #left(regions: readonly number[]): void {
    for (const region of regions) {
      const entry = this.#regions.get(region);
      if (entry !== undefined) entry.users--;
    }
  }

  #idleMs(nowMs: number): number {
    if (nowMs - this.#usedMs >= REGION_IDLE_MS) return REGION_IDLE_MS;
    return Math.max(REGION_IDLE_BUSY_MS, this.#regions.size * REGION_IDLE_BUSY_MS_EACH);
  }

  #entry(region: number): Region {
    const known = this.#regions.get(region);
    if (known !== undefined) return known;
    const made = { users: 0, usedMs: this.#head.nowMs(), uses: 0 };
    this.#regions.set(region, made);
    return made;
  }

  #relieve(): void {
    if (this.#cycling) return;
    const idle = this.#idleSince(Number.POSITIVE_INFINITY);
    idle.sort((a, b) => (this.#regions.get(a)?.usedMs ?? 0) - (this.#regions.get(b)?.usedMs ?? 0));
    this.#cycle(idle.slice(0, Math.ceil(this.#regions.size * PRESSURE_SHARE)));
  }

  #idleSince(beforeMs: number): number[] {
    const idle: number[] = [];
    for (const [region, entry] of this.#regions) {
      if (entry.users > 0 || entry.usedMs > beforeMs) continue;
      if (this.#head.reconcile.dueIn(region)) continue;
      idle.push(region);
    }
    return idle;
  }

  /** Flushes everywhere, then orders inactive what saw no use since. */
  #cycle(candidates: number[], done?: () => void): void {
    if (candidates.length === 0 || !this.#head.ready) {
      done?.();
      return;
    }
    this.#cycling = true;
    const uses = candidates.map((region) => this.#regions.get(region)?.uses ?? -1);
    this.#head.flusher.request({ targetsToo: true }, (status) => {
      this.#cycling = false;
      if (status === Status.ok && !this.#head.ended) {
        this.#deactivate(
          candidates.filter((region, index) => {
            const entry = this.#regions.get(region);
            if (entry === undefined || entry.users > 0) return false;
            return entry.uses === uses[index] && !this.#head.reconcile.dueIn(region);
          }),
        );
      }
      done?.();
    });
  }

  #deactivate(regions: number[]): void {
    if (regions.length === 0) return;
    for (const region of regions) this.#regions.delete(region);
    this.#head.store.deactivate(regions);
    for (const replica of this.#head.replicas.values()) {
      const there = replica.resync?.settled(regions) ?? regions;
      if (there.length > 0) this.orderInactive(replica.disk, there);
    }
    const waiters = [...this.#waiters];
    for (const again of waiters) again();
  }

  /** A member that does not hear it keeps its regions and reports them at its next attach. */
  orderInactive(disk: number, regions: number[]): void {
    const verb = this.#head.verb(VerbKind.deactivate, disk);
    verb.regions = regions;
    this.#head.send(verb);
  }
}

export function regionOfExtent(extent: number): number {
  return Math.floor(extent / EXTENTS_PER_REGION);
}
