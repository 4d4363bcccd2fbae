// SPDX-License-Identifier: Apache-2.0
//
// A spread: one change or flush carried out by a set of members, and by the head's own disk if
// asked. It lasts until each of them has answered or has left the set, over any number of links and
// epochs.
//
// Invariants
// - R1: done only when every member of the set accepted it.
// - R2: not before every in-sync member has stored the head's present record.
// - Ownership: done only when every link has let go of the payload (`sent`) and the local disk too.
// - A member that cannot be asked now is asked when its session opens again.

import { OperationKind, TrafficClass } from "#base/operation.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { Status } from "#base/status.ts";
import { FLAG_KEEP_STAMP } from "#base/operation.ts";
import { EXTENT_BYTES } from "#base/grains.ts";
import { PeerVerb, VerbKind } from "#base/verbs.ts";
import { STAMP_CURRENT } from "./applier.ts";
import type { LocalChange } from "./applier.ts";
import type { Head } from "./head.ts";
import type { Asker, Replica } from "./replica.ts";
import { type Listed, NO_PLACE } from "./roster.ts";

export type SpreadKind = "write" | "trim" | "writeZeroes" | "flush" | "lose";

const verbKinds = {
  write: VerbKind.write,
  trim: VerbKind.trim,
  writeZeroes: VerbKind.writeZeroes,
  flush: VerbKind.flush,
  lose: VerbKind.trim,
} as const;
const operationKinds = {
  write: OperationKind.write,
  trim: OperationKind.trim,
  writeZeroes: OperationKind.writeZeroes,
  flush: OperationKind.flush,
  lose: OperationKind.write,
} as const;

export class Spread implements Asker, Listed {
  place = NO_PLACE;
  readonly #head: Head;
  kind: SpreadKind;
  offsetBytes = 0;
  lengthBytes = 0;
  flags = 0;
  bufferOffset = NO_BUFFER;
  origin = 0;
  /** Of `lose`: blocks of the extent at `offsetBytes`, ascending. */
  lostBlocks: number[] | null = null;
  /** Spends one extent of credit at each member (R10). */
  allocates = false;
  /** The first thing that went wrong on the head's own disk, or that no member can undo. */
  status: Status = Status.ok;
  readonly done: (spread: Spread) => void;
  /** A target left before it had answered. */
  dropped: ((replica: Replica, spread: Spread) => void) | null = null;

  readonly #waiting: Replica[] = [];
  readonly #asked: boolean[] = [];
  #localWaits = false;
  #localFlying = false;
  #unsent = 0;
  #settled = false;
  /** What the head's own disk is asked. */
  readonly #change: LocalChange = {
    kind: OperationKind.write,
    offsetBytes: 0,
    lengthBytes: 0,
    flags: 0,
    bufferOffset: NO_BUFFER,
    stamp: STAMP_CURRENT,
  };
  readonly #applied = (status: Status): void => this.#appliedHere(status);

  constructor(head: Head, kind: SpreadKind, done: (spread: Spread) => void) {
    this.#head = head;
    this.kind = kind;
    this.done = done;
  }

  /** For another use of one that nobody but the own disk was asked by: no late answer can come. */
  renew(): void {
    this.#settled = false;
    this.status = Status.ok;
  }

  /** Begins: asks those whose session is open, the others when it opens. */
  start(replicas: readonly Replica[], options: { local: boolean }): void {
    this.#head.spreads.add(this);
    this.#localWaits = options.local;
    if (replicas.length > 0) this.#ask(replicas);
    if (options.local) this.#applyHere();
    this.check();
  }

  #ask(replicas: readonly Replica[]): void {
    for (const replica of replicas) {
      this.#waiting.push(replica);
      this.#asked.push(false);
    }
    for (const replica of replicas) this.offer(replica);
  }

  waitsFor(replica: Replica): boolean {
    return this.#waiting.includes(replica);
  }

  /** The replica's session is open: ask it if it has not been asked in this session. */
  offer(replica: Replica): void {
    const index = this.#waiting.indexOf(replica);
    if (index < 0 || this.#asked[index] || replica.state !== "open") return;
    if (this.status !== Status.ok) return;
    const verb = this.#head.verb(verbKinds[this.kind], replica.disk);
    verb.flags = this.flags;
    verb.offsetBytes = this.offsetBytes;
    verb.lengthBytes = this.lengthBytes;
    verb.origin = this.origin;
    verb.class = TrafficClass.replica;
    if ((this.flags & FLAG_KEEP_STAMP) !== 0) {
      verb.stamp = this.#head.store.stampOf(Math.floor(this.offsetBytes / EXTENT_BYTES));
      // Nothing mapped any more: the content is zero, of the present epoch.
      if (verb.stamp === 0) verb.stamp = verb.epoch;
    }
    if (this.kind === "lose") {
      // Without a length: who does not know of lost blocks refuses it, and writes no zeros.
      verb.lengthBytes = 0;
      verb.regions = this.lostBlocks;
    }
    if (this.kind === "write") {
      verb.bufferOffset = this.bufferOffset;
      verb.payloadBytes = this.lengthBytes;
      verb.sent = () => {
        this.#unsent--;
        this.check();
      };
      this.#unsent++;
    }
    this.#asked[index] = true;
    if (this.#head.ask(replica, verb, this, this.allocates)) return;
    this.#asked[index] = false;
    if (this.kind === "write") this.#unsent--;
  }

  answered(replica: Replica, verb: PeerVerb): void {
    const index = this.#waiting.indexOf(replica);
    if (index < 0) return;
    switch (verb.status) {
      case Status.ok:
        this.#forget(index);
        this.check();
        return;
      case Status.busy:
        this.#asked[index] = false; // Offered again by the head's next tick.
        return;
      case Status.staleEpoch:
        this.#asked[index] = false;
        this.#head.sessions.doubted(replica);
        return;
      case Status.checksumMismatch:
        this.#repairPeer(replica, index, verb.offsetBytes);
        return;
      default:
        this.#asked[index] = false;
        this.#head.sessions.failed(replica, verb.status);
        this.check();
    }
  }

  lost(replica: Replica): void {
    const index = this.#waiting.indexOf(replica);
    if (index < 0) return;
    this.#asked[index] = false;
    if (this.status !== Status.ok) this.check();
  }

  /** The replica is no longer waited for: dropped from the set, or a target that went away. */
  drop(replica: Replica): void {
    const index = this.#waiting.indexOf(replica);
    if (index < 0) return;
    this.#forget(index);
    this.dropped?.(replica, this);
    this.check();
  }

  /** The headship ended: nobody is waited for but the disk and the links that hold the buffer. */
  end(): void {
    if (this.#settled) return;
    if (this.status === Status.ok) this.status = Status.cancelled;
    this.#waiting.length = 0;
    this.#asked.length = 0;
    this.#localWaits = false;
    this.check();
  }

  /** Done if nothing is missing any more. */
  check(): void {
    if (this.#settled || this.#unsent > 0 || this.#localFlying || this.#localWaits) return;
    if (this.status !== Status.ok && !this.#head.ended) this.#forgetUnasked();
    if (this.#waiting.length > 0) return;
    // R2: the first ack of an epoch comes after every member of it has stored the record.
    if (!this.#head.ended && !this.#head.recordStored && this.status === Status.ok) return;
    this.#settled = true;
    this.#head.spreads.delete(this);
    this.done(this);
  }

  /** It failed: nobody else is asked, but who was asked may still be at it. */
  #forgetUnasked(): void {
    for (let index = this.#waiting.length - 1; index >= 0; index--) {
      if (!this.#asked[index]) this.#forget(index);
    }
  }

  #forget(index: number): void {
    this.#waiting.splice(index, 1);
    this.#asked.splice(index, 1);
  }

  #applyHere(): void {
    this.#localFlying = true;
    if (this.kind === "flush") return this.#head.flushHere(this.#applied);
    const change = this.#change;
    change.kind = operationKinds[this.kind];
    change.offsetBytes = this.offsetBytes;
    change.lengthBytes = this.lengthBytes;
    change.flags = this.flags;
    change.bufferOffset = this.bufferOffset;
    this.#head.applier.apply(change, this.#head, this.#applied);
  }

  #appliedHere(status: Status): void {
    this.#localFlying = false;
    if (this.#head.ended) {
      this.#localWaits = false;
      return this.check();
    }
    switch (status) {
      case Status.ok:
        this.#localWaits = false;
        this.#head.appliedHere(this);
        return this.check();
      case Status.checksumMismatch:
        return this.#healHere();
      default:
        this.#failHere(status);
    }
  }

  /** R9: a block that the write merges with is bad here: repaired from another member. */
  #healHere(): void {
    this.#head.heal.edges(this, (outcome) => {
      if (outcome === Status.ok && !this.#head.ended) return this.#applyHere();
      this.#failHere(outcome);
    });
  }

  /** The head's own disk cannot take it. H8: some members may have the new bytes already. */
  #failHere(status: Status): void {
    this.#localWaits = false;
    if (this.status === Status.ok) this.status = status;
    this.#head.failedHere(this, status);
    this.check();
  }

  #repairPeer(replica: Replica, index: number, fault: number): void {
    if (this.kind === "flush") {
      this.#asked[index] = false;
      return this.#head.sessions.failed(replica, Status.checksumMismatch);
    }
    this.#head.heal.peerEdges(replica, this, fault, (status) => {
      const now = this.#waiting.indexOf(replica);
      if (now < 0) return;
      this.#asked[now] = false;
      if (status === Status.ok) return this.offer(replica);
      if (status === Status.linkLost) return; // Asked again when its session opens.
      if (this.status === Status.ok) this.status = status;
      // H8: others may have the new bytes already.
      this.#head.leftUnequal(this);
      this.check();
    });
  }
}
