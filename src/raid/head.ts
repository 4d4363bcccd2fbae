// SPDX-License-Identifier: Apache-2.0
//
// The head of a slice, from the moment its record names it until it is named no more: opens epochs,
// gives its parts what they share, serves and ends. Its sessions with the members: sessions.ts.
//
// Invariants
// - R2: an epoch opens by storing its record here, then by `attach` to every member; nothing is
//   acked in it before every in-sync member has stored it (`recordStored`), nothing begun before
//   all their sessions are open (`ready`).
// - R4: reads are answered while every in-sync member's grant holds. A grant given in an earlier
//   epoch of the same headship counts: its giver waits as long before it proposes itself.
// - H11: a record may be larger than the one before. What it adds is served once it is stored here,
//   and changed, as in any epoch, once every in-sync member has stored it.
// - Served only once established: every in-sync member attached in the named incarnation, and what
//   any of them had active is due for reconciliation (R3, R6).
// - At most one proposal is under way (the slice sees to it); each is made from the newest record.

import { assert } from "#base/assert.ts";
import { EXTENT_BYTES, REGION_BYTES } from "#base/grains.ts";
import { MEMBER_STALL_MS } from "#base/limits.ts";
import type { MemberStore } from "#base/member-store.ts";
import type { Memory } from "#base/memory.ts";
import { OperationKind } from "#base/operation.ts";
import type { Operation, OperationPool } from "#base/operation.ts";
import { inSyncEntry } from "#base/record.ts";
import type { DiskNumber, DiskPlans, SliceRecord } from "#base/record.ts";
import { Status, statusName } from "#base/status.ts";
import { PeerVerb, VerbKind } from "#base/verbs.ts";
import type { Log } from "#base/world.ts";
import { Activity } from "./activity.ts";
import type { Applier } from "./applier.ts";
import { Change } from "./change.ts";
import { Compare } from "./compare.ts";
import type { CopyBudget } from "./copy-budget.ts";
import { Credit } from "./credit.ts";
import { Flusher } from "./flusher.ts";
import type { Happening } from "./happening.ts";
import { Heal } from "./heal.ts";
import { HostRead } from "./host-read.ts";
import type { Returns } from "./membership.ts";
import { Mender } from "./mender.ts";
import type { Origins } from "./origins.ts";
import { policyOf } from "./policy.ts";
import type { Policy } from "./policy.ts";
import { RangeLock } from "./range-lock.ts";
import { Reconcile } from "./reconcile.ts";
import type { Asker, Replica } from "./replica.ts";
import { Roster } from "./roster.ts";
import { Sessions } from "./sessions.ts";
import type { Spread } from "./spread.ts";

/** What happened to blocks and extents, since the slice's object was made. */
export interface Counters {
  /** Blocks rewritten from another member. */
  healed: number;
  /** Extents made equal after a takeover. */
  reconciled: number;
  /** Blocks torn by a crash and taken as they were. */
  accepted: number;
  /** Blocks that no member could read, each time somebody tried. */
  unreadable: number;
  /** Blocks that differ from the head's on a member though both match their checksums. */
  diverged: number;
  /** Unreadable blocks marked so on disks that were brought up. */
  carried: number;
  resyncedBytes: number;
}

/** What a head asks of its slice. */
export interface HeadHost {
  readonly log: Log;
  readonly memory: Memory;
  readonly store: MemberStore;
  readonly pool: OperationPool;
  readonly applier: Applier;
  readonly origins: Origins;
  readonly counters: Counters;
  readonly returns: Returns;
  /** How long a link may be away before its member is dropped. */
  readonly linkGraceMs: number;
  readonly activeRegionsMax: number;
  readonly copyBudget: CopyBudget;
  /** Disks whose unit is linked. */
  readonly links: ReadonlySet<DiskNumber>;
  plans(): DiskPlans;
  nowMs(): number;
  send(verb: PeerVerb): boolean;
  nextSequence(): number;
  /** Asks a member what it holds, and tells it what we do. */
  enquire(disk: DiskNumber): void;
  /** Null: nothing is proposed. Since when the present proposal is under way. */
  proposingSinceMs(): number | null;
  propose(next: SliceRecord, done: (isCommitted: boolean) => void): void;
  /** A committed record that a member holds. */
  learned(record: SliceRecord): void;
  /** This disk cannot serve any more. */
  giveUp(reason: string): void;
  changed(): void;
  /** Something about wrong blocks, for the event history. */
  happened(happening: Happening): void;
}

const NOBODY: readonly Replica[] = [];

export class Head {
  readonly #host: HeadHost;
  readonly memory: Memory;
  readonly store: MemberStore;
  readonly pool: OperationPool;
  readonly applier: Applier;
  readonly origins: Origins;
  readonly counters: Counters;
  readonly log: Log;
  readonly activeRegionsMax: number;
  readonly copyBudget: CopyBudget;
  readonly sessions: Sessions;
  readonly replicas: ReadonlyMap<DiskNumber, Replica>;
  readonly locks = new RangeLock();
  readonly activity = new Activity(this);
  readonly credit = new Credit(this);
  readonly flusher = new Flusher(this);
  readonly heal = new Heal(this);
  readonly mender = new Mender(this);
  readonly compare = new Compare(this);
  readonly reconcile: Reconcile;
  /** All under way, so that they can be offered again and ended. */
  readonly spreads = new Roster<Spread>();
  /** Changes that wait for sessions or credit. */
  readonly blocked = new Set<() => void>();
  /** Reads that wait for grants. */
  readonly readers = new Set<() => void>();
  readonly #requests = new Roster<Change | HostRead>();
  readonly #spareReads: HostRead[] = [];
  readonly #spareChanges: Change[] = [];
  #flushes = new Set<Operation>();
  /** Requests that came before the headship was established, in order of arrival. */
  #early: (Change | HostRead)[] = [];
  #whenReady: (() => void)[] = [];
  #nextTick: (() => void)[] = [];

  record: SliceRecord;
  policy: Policy;
  ended = false;
  endStatus: Status = Status.notHead;
  established = false;
  /** Neither asks for grants nor answers reads any more. */
  released = false;
  readonly #doubtful: ReadonlySet<number>;
  #hereEpoch = 0;
  #wasReady = false;
  /** Regions that members had active as they attached for the first time. */
  readonly reported = new Set<number>();
  #completedBefore = 0;
  #progressMs: number;

  /** `doubtful`: regions active here when this run began: a crash may have torn blocks in them. */
  constructor(host: HeadHost, record: SliceRecord, doubtful: ReadonlySet<number>) {
    this.#host = host;
    this.memory = host.memory;
    this.store = host.store;
    this.pool = host.pool;
    this.applier = host.applier;
    this.origins = host.origins;
    this.counters = host.counters;
    this.log = host.log;
    this.activeRegionsMax = host.activeRegionsMax;
    this.copyBudget = host.copyBudget;
    this.record = record;
    this.policy = policyOf(record);
    this.sessions = new Sessions(this, host, record.epoch);
    this.replicas = this.sessions.replicas;
    this.#doubtful = doubtful;
    this.#progressMs = host.nowMs();
    this.reconcile = new Reconcile(this, record.sizeBytes / EXTENT_BYTES);
  }

  // What the parts ask.

  nowMs(): number {
    return this.#host.nowMs();
  }
  regionAt(offsetBytes: number): number {
    return Math.floor(offsetBytes / REGION_BYTES);
  }
  stampFor(offsetBytes: number): number {
    return this.store.stampOf(Math.floor(offsetBytes / EXTENT_BYTES)) || this.record.epoch;
  }
  /** Requests of hosts under way. */
  get hostInFlight(): number {
    return this.#requests.size;
  }
  /** Extents that are being copied to targets. */
  get copies(): number {
    let copies = 0;
    for (const replica of this.replicas.values()) copies += replica.resync?.copies ?? 0;
    return copies;
  }
  /** R2: every in-sync member, this disk included, has stored the present record. */
  get recordStored(): boolean {
    if (!this.isStoredHere) return false;
    if (this.replicas.size === 0) return true; // a sole copy's requests make no iterator
    for (const replica of this.replicas.values()) {
      if (replica.inSync && replica.sessionEpoch !== this.record.epoch) return false;
    }
    return true;
  }
  /** Every in-sync member's session is open in the present epoch. */
  get ready(): boolean {
    if (this.ended || !this.recordStored) return false;
    if (this.replicas.size === 0) return true;
    for (const replica of this.replicas.values()) {
      if (replica.inSync && replica.state !== "open") return false;
    }
    return true;
  }
  get isStoredHere(): boolean {
    return this.#hereEpoch === this.record.epoch;
  }
  /** R4: looked at with a clock read now. */
  mayRead(): boolean {
    if (!this.established || this.released || this.ended) return false;
    if (this.replicas.size === 0) return true;
    const nowMs = this.nowMs();
    for (const replica of this.replicas.values()) {
      // A target that is proposed may be in the set any moment, and take over from there (R4).
      if (replica.required && !replica.grantHolds(nowMs)) return false;
    }
    return true;
  }
  /** In-sync members that are not being retired. */
  get stayingCount(): number {
    const { leaving } = this.#host.plans();
    return this.record.inSync.filter((member) => !leaving.has(member.disk)).length;
  }
  inSyncPeers(): Replica[] {
    return [...this.replicas.values()].filter((replica) => replica.inSync);
  }
  /**
   * Whom a change of this range goes to: all that acks wait for, and targets that have the range.
   */
  recipients(offsetBytes: number, lengthBytes: number): readonly Replica[] {
    if (this.replicas.size === 0) return NOBODY;
    const list: Replica[] = [];
    for (const replica of this.replicas.values()) {
      const isTold = replica.inSync || replica.resync?.covers(offsetBytes, lengthBytes) === true;
      if (isTold) list.push(replica);
    }
    return list;
  }
  whenReady(act: () => void): void {
    if (this.ended || this.ready) act();
    else this.#whenReady.push(act);
  }
  onNextTick(act: () => void): void {
    this.#nextTick.push(act);
  }
  verb(kind: VerbKind, toDisk: DiskNumber): PeerVerb {
    const verb = new PeerVerb();
    verb.kind = kind;
    verb.slice = this.record.slice;
    verb.fromDisk = this.store.disk;
    verb.toDisk = toDisk;
    verb.sequence = this.#host.nextSequence();
    verb.epoch = this.record.epoch;
    verb.lineage = this.record.lineage;
    return verb;
  }
  send(verb: PeerVerb): boolean {
    return this.#host.send(verb);
  }
  /** Sends what is to be answered. */
  ask(replica: Replica, verb: PeerVerb, asker: Asker, allocates: boolean): boolean {
    replica.asked(verb.sequence, { asker, sentMs: this.nowMs(), allocates });
    if (this.#host.send(verb)) return true;
    replica.unasked(verb.sequence);
    return false;
  }
  readHere(
    range: { offsetBytes: number; lengthBytes: number; bufferOffset: number },
    flags: number,
    done: (status: Status, faultOffsetBytes: number) => void,
  ): void {
    this.applier.whenClear(range.offsetBytes, range.lengthBytes, () => {
      const operation = this.pool.take();
      operation.kind = OperationKind.read;
      operation.offsetBytes = range.offsetBytes;
      operation.lengthBytes = range.lengthBytes;
      operation.bufferOffset = range.bufferOffset;
      operation.flags = flags;
      operation.done = (ended) => {
        const { status, faultOffsetBytes } = ended;
        this.pool.give(ended);
        done(status, faultOffsetBytes);
      };
      this.applier.submit(operation);
    });
  }
  flushHere(done: (status: Status) => void): void {
    const operation = this.pool.take();
    operation.kind = OperationKind.flush;
    operation.offsetBytes = 0;
    operation.lengthBytes = 0;
    operation.done = (ended) => {
      const { status } = ended;
      this.pool.give(ended);
      done(status);
    };
    this.applier.submit(operation);
  }
  /** The head's own disk took a piece. */
  appliedHere(spread: Spread): void {
    const { origin, offsetBytes, lengthBytes } = spread;
    this.origins.applied(origin, offsetBytes, lengthBytes, this.nowMs());
  }
  /** The head's own disk did not take a piece that members may have taken. */
  failedHere(spread: Spread, status: Status): void {
    if (this.ended || status === Status.cancelled) return;
    if (spread.kind === "flush") return this.#host.giveUp(`flush failed: ${statusName(status)}`);
    if (status === Status.mediumError) return this.leftUnequal(spread);
    if (this.inSyncPeers().length > 0) this.#host.giveUp(`write failed: ${statusName(status)}`);
  }
  /** A change that some members carried out and others could not: they are made equal (H2, H8). */
  leftUnequal(spread: Spread): void {
    if (this.ended || spread.kind === "flush") return;
    const end = spread.offsetBytes + spread.lengthBytes;
    const last = Math.floor((end - 1) / EXTENT_BYTES);
    for (let extent = Math.floor(spread.offsetBytes / EXTENT_BYTES); extent <= last; extent++) {
      this.reconcile.unequal(extent);
    }
  }
  giveUp(reason: string): void {
    if (!this.ended) this.#host.giveUp(reason);
  }
  happened(happening: Happening): void {
    this.#host.happened(happening);
  }
  forget(request: Change | HostRead): void {
    this.#requests.delete(request);
  }
  /** What nobody knows of any more, for the next request. */
  giveRead(read: HostRead): void {
    this.#spareReads.push(read);
  }
  /** A change that spent credit has ended: others may wait for some (a sole copy hears nobody). */
  creditGiven(): void {
    if (this.blocked.size > 0 && !this.ended && this.ready) this.#unblock();
  }
  giveChange(change: Change): void {
    this.#spareChanges.push(change);
  }
  /** Reconciliation has come to its end. */
  reconciled(): void {
    this.#host.changed();
    for (const replica of this.replicas.values()) replica.resync?.pump();
  }

  // Hosts.

  submit(operation: Operation): void {
    switch (operation.kind) {
      case OperationKind.flush:
        this.#flush(operation);
        return;
      case OperationKind.read:
      case OperationKind.blockStatus: {
        const read = this.#spareReads.pop() ?? new HostRead(this);
        read.prepare(operation);
        return this.#begin(read);
      }
      default: {
        const change = this.#spareChanges.pop() ?? new Change(this);
        change.prepare(operation);
        this.#begin(change);
      }
    }
  }

  /** What is to be reconciled is known once established: nobody takes a lock before (R6). */
  #begin(request: Change | HostRead): void {
    this.#requests.add(request);
    if (this.established) request.start();
    else this.#early.push(request);
  }

  #flush(operation: Operation): void {
    this.#flushes.add(operation);
    this.flusher.request({ targetsToo: false }, (status) => {
      if (!this.#flushes.delete(operation)) return;
      operation.complete(this.ended ? this.endStatus : status);
    });
  }

  // Epochs and sessions.

  /** Begins, and again with every newer record that still names this disk head. */
  adopt(record: SliceRecord): void {
    assert(!this.ended, "an ended headship adopts nothing");
    this.record = record;
    this.policy = policyOf(record);
    for (const replica of [...this.replicas.values()]) {
      const isNamed =
        inSyncEntry(record, replica.disk) !== undefined || record.resyncing.includes(replica.disk);
      if (!isNamed) this.sessions.drop(replica);
    }
    for (const { disk, incarnation } of record.inSync) {
      if (disk !== this.store.disk) this.sessions.name(disk, incarnation);
    }
    for (const disk of record.resyncing) this.sessions.name(disk, 0);
    for (const replica of this.replicas.values()) this.sessions.close(replica);
    this.applier.storeRecord(record, (status) => {
      if (this.ended || status !== Status.ok) return;
      this.#hereEpoch = record.epoch;
      this.#grow();
      if (this.record !== record) return; // A newer one is being stored already.
      for (const replica of this.replicas.values()) {
        replica.attachSentMs = this.nowMs();
        this.sessions.attach(replica);
      }
      this.progress();
    });
  }

  /** Before any member is told of the record: until then nobody has anything there. */
  #grow(): void {
    const extents = this.record.sizeBytes / EXTENT_BYTES;
    this.reconcile.growTo(extents);
    for (const replica of this.replicas.values()) replica.resync?.growTo(extents);
  }

  /** Bytes of the slice that can be served: of the present record, as far as it is stored here. */
  get servedBytes(): number {
    return Math.min(this.record.sizeBytes, this.store.sizeBytes);
  }

  /** Goes on with whatever waited for sessions. */
  progress(): void {
    if (this.ended) return;
    const { ready } = this;
    if (ready && !this.established) this.#establish();
    if (ready !== this.#wasReady) this.#host.changed();
    this.#wasReady = ready;
    for (const spread of this.spreads.list()) spread.check();
    if (!ready) return;
    const waiting = this.#whenReady;
    this.#whenReady = [];
    for (const act of waiting) act();
    this.#unblock();
    this.reconcile.pump();
    for (const replica of this.replicas.values()) replica.resync?.pump();
    this.wakeReaders();
  }

  /** R3, R6: what any in-sync member had active is made equal before it is read. */
  #establish(): void {
    this.established = true;
    const own = this.store.activeRegions();
    this.activity.report([...this.reported, ...own]);
    // A sole member has nobody to differ from; only what a crash may have torn is looked at.
    const isAlone = this.inSyncPeers().length === 0;
    const due = isAlone ? own.filter((region) => this.#doubtful.has(region)) : own;
    this.reconcile.recover(new Set([...this.reported, ...due]));
    const early = this.#early;
    this.#early = [];
    for (const request of early) request.start();
    this.log.write("info", "slice served", {
      slice: this.record.slice,
      disk: this.store.disk,
      epoch: this.record.epoch,
      toReconcile: this.reconcile.count,
    });
  }

  #unblock(): void {
    const blocked = [...this.blocked];
    this.blocked.clear();
    for (const pump of blocked) pump();
  }

  wakeReaders(): void {
    if (this.readers.size === 0 || !this.mayRead()) return;
    for (const pump of [...this.readers]) pump();
  }

  // Verbs.

  /** An answer of a member. Payload that nobody took is released by the caller. */
  receive(verb: PeerVerb): void {
    const replica = this.replicas.get(verb.fromDisk);
    if (replica === undefined) return;
    switch (verb.kind) {
      case VerbKind.attached:
        this.sessions.attached(replica, verb);
        return;
      case VerbKind.grant:
        this.sessions.granted(replica, verb);
        return;
      case VerbKind.done:
      case VerbKind.map:
        if (!replica.answer(verb, this.nowMs()) || this.ended) return;
        if (this.blocked.size > 0 && this.ready) this.#unblock();
        return;
      default:
    }
  }

  // Time.

  tick(nowMs: number): void {
    this.sessions.tick(nowMs);
    for (const spread of this.spreads.list()) {
      for (const replica of this.replicas.values()) spread.offer(replica);
    }
    const acts = this.#nextTick;
    this.#nextTick = [];
    for (const act of acts) act();
    if (this.ended) return;
    this.#unblock();
    this.wakeReaders();
    this.activity.tick(nowMs);
    this.reconcile.pump();
    for (const replica of this.replicas.values()) replica.resync?.pump();
    this.#watchOwnDisk(nowMs);
    this.sessions.evaluate();
  }

  /** The process slept: nobody is late but we ourselves. */
  overslept(nowMs: number): void {
    for (const replica of this.replicas.values()) replica.overslept(nowMs);
    this.#progressMs = nowMs;
  }

  /** R13 for the head's own disk: another member serves better. */
  #watchOwnDisk(nowMs: number): void {
    const { completed, outstanding } = this.applier;
    if (outstanding === 0 || completed !== this.#completedBefore) {
      this.#completedBefore = completed;
      this.#progressMs = nowMs;
      return;
    }
    if (nowMs - this.#progressMs <= MEMBER_STALL_MS || this.inSyncPeers().length === 0) return;
    this.#host.giveUp("its disk makes no progress");
  }

  // The end.

  /**
   * Orderly stop, once no request is under way: all flushed and inactive, then the release (R4).
   */
  release(done: () => void): void {
    const finish = () => {
      this.tellReleased();
      done();
    };
    if (!this.ready) return finish();
    this.activity.clear(finish);
  }

  /** From here on no read is answered in this headship. */
  tellReleased(): void {
    this.released = true;
    for (const replica of this.replicas.values()) {
      if (!replica.inSync || replica.sessionEpoch === 0) continue;
      this.#host.send(this.verb(VerbKind.release, replica.disk));
    }
  }

  /** Named head no more, or unable: whatever is under way ends with its truth. */
  end(status: Status): void {
    if (this.ended) return;
    this.ended = true;
    this.endStatus = status;
    for (const replica of this.replicas.values()) replica.close();
    this.applier.cancel(this);
    for (const request of this.#requests.list()) request.end(status);
    for (const spread of this.spreads.list()) spread.end();
    this.flusher.end();
    const acts = [...this.#whenReady, ...this.#nextTick];
    this.#whenReady = [];
    this.#nextTick = [];
    for (const act of acts) act();
    this.blocked.clear();
    this.readers.clear();
  }
}
