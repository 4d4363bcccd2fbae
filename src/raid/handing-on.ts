// SPDX-License-Identifier: Apache-2.0
//
// A head whose unit is in maintenance hands on: requests under way are ended, all is flushed and
// made inactive, then its members are released and one of them takes over at once (R3, R4), as in
// an orderly stop. But its disk stays, and comes back in as a member by resync (R7).
//
// Invariants
// - Who released its members in an epoch never serves in it again: since they need not wait for
//   their grants, a read answered by one would not be safe (R4).
// - Where nobody takes over, it proposes the same set in the next epoch: a compare-and-swap like
//   any takeover, so that either it serves again or another one does.
// - Nothing is handed on without another member that is in sync, attached and not on its way out.

import { inSyncEntry } from "#base/record.ts";
import type { DiskNumber, DiskPlans, SliceRecord } from "#base/record.ts";
import type { Head } from "./head.ts";

/** How long it waits for requests under way and their flush, before it goes on serving. */
const DRAIN_PATIENCE_MS = 1000;
/** How long those that were released may take, before it proposes itself again. */
const TAKEN_PATIENCE_MS = 2000;
/** How long it serves on before it tries again. */
const REST_MS = 5000;

/** What it asks of its slice. */
export interface HandingHost {
  readonly disk: DiskNumber;
  plans(): DiskPlans;
  record(): SliceRecord | null;
  head(): Head | null;
  isProposing(): boolean;
  /** Ends the headship here; what is under way ends with its truth. */
  endHead(): void;
  propose(next: SliceRecord): void;
}

export class HandingOn {
  readonly #host: HandingHost;
  #draining: { sinceMs: number; isClearing: boolean } | null = null;
  /** The record in which the members were released. */
  #released: { lineage: number; epoch: number; atMs: number } | null = null;
  #restUntilMs = Number.NEGATIVE_INFINITY;

  constructor(host: HandingHost) {
    this.#host = host;
  }

  /** No further request is taken: it waits for the next head. */
  get isDraining(): boolean {
    return this.#draining !== null;
  }

  /** Whether this disk, its head, released the record's members, and so never serves in it. */
  hasReleased(record: SliceRecord): boolean {
    const released = this.#released;
    return released?.lineage === record.lineage && released.epoch === record.epoch;
  }

  tick(nowMs: number): void {
    const head = this.#host.head();
    if (head === null) this.#draining = null;
    if (this.#released !== null) this.#watch(this.#released, nowMs);
    if (head === null) return;
    if (this.#draining !== null) return this.#drain(head, this.#draining, nowMs);
    if (nowMs < this.#restUntilMs || !this.#mayHandOn(head, nowMs)) return;
    this.#draining = { sinceMs: nowMs, isClearing: false };
    this.#drain(head, this.#draining, nowMs);
  }

  #mayHandOn(head: Head, nowMs: number): boolean {
    const { maintained, leaving } = this.#host.plans();
    if (!maintained.has(this.#host.disk) || this.#host.isProposing()) return false;
    if (!head.ready || !head.established || head.released) return false;
    return head.inSyncPeers().some((replica) => {
      const stays = !maintained.has(replica.disk) && !leaving.has(replica.disk);
      return stays && replica.state === "open" && replica.grantHolds(nowMs);
    });
  }

  #drain(head: Head, draining: { sinceMs: number; isClearing: boolean }, nowMs: number): void {
    if (nowMs - draining.sinceMs >= DRAIN_PATIENCE_MS) {
      this.#draining = null;
      this.#restUntilMs = nowMs + REST_MS;
      return;
    }
    if (draining.isClearing || head.hostInFlight > 0) return;
    draining.isClearing = true;
    head.activity.clear(() => {
      // Given up meanwhile, or not all could be reached: it serves on, and tries again later.
      if (this.#draining !== draining || !this.#mayHandOn(head, head.nowMs())) return;
      this.#draining = null;
      const { lineage, epoch } = head.record;
      this.#released = { lineage, epoch, atMs: head.nowMs() };
      head.tellReleased();
      this.#host.endHead();
    });
  }

  #watch(released: { lineage: number; epoch: number; atMs: number }, nowMs: number): void {
    const record = this.#host.record();
    if (record === null || !this.hasReleased(record)) {
      this.#released = null;
      this.#restUntilMs = nowMs + REST_MS;
      return;
    }
    if (nowMs - released.atMs < TAKEN_PATIENCE_MS || this.#host.isProposing()) return;
    if (inSyncEntry(record, this.#host.disk) === undefined) return;
    this.#released = { ...released, atMs: nowMs };
    this.#host.propose({ ...record, epoch: record.epoch + 1 });
  }
}
