// SPDX-License-Identifier: Apache-2.0
//
// A slice on one unit: the state machine that keeps a piece of a volume equal on its members and
// alive when some of them are lost (contract.md, R0 to R7, R9, R10, R13, R14; design.md, section
// 5). Fed with operations, verbs, records, links and ticks; acts by one effects object and its
// disk's store. It is the head while the newest record names its disk and run as head, else a
// member.
//
// Parts: head.ts (epochs, sessions, membership) with change.ts, host-read.ts, flusher.ts,
// spread.ts, activity.ts, credit.ts, reconcile.ts, resync.ts, heal.ts, mender.ts, compare.ts;
// member.ts; takeover.ts;
// applier.ts (the one way to the own disk); origins.ts (at most once across resends);
// handing-on.ts (another member is to head it).
//
// Invariants
// - Acts only on committed records: from the watch, a proposal's outcome, a head's attach, or a
//   member's stored one. They may come late, twice, or skip epochs; only superseding ones count.
// - One proposal at a time; nothing healthy proposes (R14).
// - After `stop` or a failed disk nothing is granted, proposed or acked.

import { assert } from "#base/assert.ts";
import { SECTOR_BYTES, SLICE_BYTES_MAX } from "#base/grains.ts";
import { ACTIVE_REGIONS_MAX, REQUEST_BYTES_MAX } from "#base/limits.ts";
import type { MemberStore } from "#base/member-store.ts";
import type { Memory } from "#base/memory.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { OperationKind, OperationPool, TrafficClass } from "#base/operation.ts";
import type { Operation } from "#base/operation.ts";
import { NO_PLANS, Outcome, disksOf, inSync, inSyncEntry, supersedes } from "#base/record.ts";
import type { DiskNumber, DiskPlans, SliceRecord } from "#base/record.ts";
import { Status } from "#base/status.ts";
import { PeerVerb, VerbKind } from "#base/verbs.ts";
import type { World } from "#base/world.ts";
import { Applier } from "./applier.ts";
import { CopyBudget } from "./copy-budget.ts";
import { CREDIT_EXTENTS } from "./credit.ts";
import type { DoubtedRange } from "./doubt.ts";
import type { Happening } from "./happening.ts";
import { HandingOn } from "./handing-on.ts";
import { Head } from "./head.ts";
import type { Counters } from "./head.ts";
import { Member } from "./member.ts";
import { Returns } from "./membership.ts";
import { Origins } from "./origins.ts";
import type { SliceEffects, SliceOptions } from "./slice-effects.ts";
import { sliceStatus } from "./slice-status.ts";
import type { SliceStatus } from "./slice-status.ts";
import { Answers, decide } from "./takeover.ts";
import type { Decision } from "./takeover.ts";

export type { SliceEffects, SliceOptions } from "./slice-effects.ts";
export type { SliceStatus } from "./slice-status.ts";

const LINK_GRACE_MS = 200;
const REJOIN_DELAY_MS = 10_000;
const REJOIN_DELAY_MAX_MS = 600_000;
/** A tick this late means that the process itself slept: nobody else is late. */
const OVERSLEPT_MS = 1000;
/** After a proposal that the control store refused. */
const REFUSED_PAUSE_MS = 1000;
/** How often one outside the set makes itself heard. */
const KNOCK_EVERY_MS = 500;
/** How long an orderly stop waits for requests under way. */
const RELEASE_PATIENCE_MS = 1000;

type World3 = Pick<World, "clock" | "random" | "log">;

export class Slice {
  readonly #world: World3;
  readonly #memory: Memory;
  readonly #store: MemberStore;
  readonly #effects: SliceEffects;
  readonly #pool = new OperationPool();
  readonly #applier: Applier;
  readonly #origins: Origins;
  readonly #member: Member;
  readonly #answers = new Answers();
  readonly #links = new Set<DiskNumber>();
  #plans = NO_PLANS;
  readonly #handing: HandingOn;
  readonly #returns: Returns;
  readonly #linkGraceMs: number;
  readonly #activeRegionsMax: number;
  readonly #copyBudget: CopyBudget;
  readonly #counters: Counters = {
    healed: 0,
    reconciled: 0,
    accepted: 0,
    unreadable: 0,
    diverged: 0,
    carried: 0,
    resyncedBytes: 0,
  };
  readonly #startedMs: number;
  /** Regions active when this run began. */
  readonly #doubtful: ReadonlySet<number>;
  #record: SliceRecord | null;
  #head: Head | null = null;
  #sequence = 0;
  #proposingSinceMs: number | null = null;
  #proposed: SliceRecord | null = null;
  /** Proposed, and not told yet; `silentSinceMs`: when the head before was heard last. */
  #takeover: { from: DiskNumber; silentSinceMs: number } | null = null;
  #pausedUntilMs = Number.NEGATIVE_INFINITY;
  #jitter: number;
  #lastTickMs: number;
  #knockedMs = Number.NEGATIVE_INFINITY;
  #waitsFor = "";
  #stopped = false;
  /** The own disk failed: why (R10). */
  #failure: string | null = null;
  #releasing: { done: () => void; sinceMs: number; isClearing: boolean } | null = null;

  constructor(
    world: World3,
    memory: Memory,
    options: SliceOptions,
    store: MemberStore,
    effects: SliceEffects,
  ) {
    this.#world = world;
    this.#memory = memory;
    this.#store = store;
    this.#effects = effects;
    this.#linkGraceMs = options.linkGraceMs ?? LINK_GRACE_MS;
    this.#activeRegionsMax = options.activeRegionsMax ?? ACTIVE_REGIONS_MAX;
    this.#copyBudget = options.copyBudget ?? new CopyBudget();
    this.#returns = new Returns({
      delayMs: options.rejoinDelayMs ?? REJOIN_DELAY_MS,
      delayMaxMs: options.rejoinDelayMaxMs ?? REJOIN_DELAY_MAX_MS,
    });
    this.#startedMs = world.clock.nowMs();
    this.#lastTickMs = this.#startedMs;
    this.#jitter = world.random.fraction();
    this.#record = store.record;
    this.#doubtful = new Set(store.activeRegions());
    // A member made in this run has seen all there was.
    this.#origins = new Origins(store.record === null);
    this.#applier = new Applier(store, () => this.#giveUp("its disk failed"));
    this.#member = new Member(this.#memberHost());
    this.#handing = new HandingOn(this.#handingHost());
    store.reserve(CREDIT_EXTENTS);
  }

  #memberHost() {
    return {
      memory: this.#memory,
      store: this.#store,
      pool: this.#pool,
      applier: this.#applier,
      origins: this.#origins,
      nowMs: () => this.#world.clock.nowMs(),
      send: (verb: PeerVerb) => this.#effects.send(verb),
      record: () => this.#record,
      learned: (record: SliceRecord) => this.#adopt(record),
      mayGrant: () => !this.#mayBecomeHead() && this.#failure === null && !this.#stopped,
    };
  }

  /** A proposal of ours may be committed yet: not once a record of its epoch or later is known. */
  #mayBecomeHead(): boolean {
    const { lineage, epoch } = this.#record ?? { lineage: 0, epoch: 0 };
    const proposed = this.#proposed;
    return proposed !== null && proposed.lineage === lineage && epoch < proposed.epoch;
  }

  #handingHost() {
    return {
      disk: this.#store.disk,
      plans: () => this.#plans,
      record: () => this.#record,
      head: () => this.#head,
      isProposing: () => this.#proposingSinceMs !== null,
      endHead: () => this.#endHead(Status.notHead),
      propose: (next: SliceRecord) => this.#propose(next, () => {}),
    };
  }

  #headHost() {
    return {
      ...this.#memberHost(),
      log: this.#world.log,
      counters: this.#counters,
      returns: this.#returns,
      linkGraceMs: this.#linkGraceMs,
      activeRegionsMax: this.#activeRegionsMax,
      copyBudget: this.#copyBudget,
      links: this.#links,
      plans: () => this.#plans,
      nextSequence: () => ++this.#sequence,
      enquire: (disk: DiskNumber) => {
        this.#effects.send(this.#own(VerbKind.enquire, disk));
      },
      proposingSinceMs: () => this.#proposingSinceMs,
      propose: (next: SliceRecord, done: (isCommitted: boolean) => void) =>
        this.#propose(next, done),
      giveUp: (reason: string) => this.#giveUp(reason),
      changed: () => this.#effects.statusChanged?.(),
      happened: (happening: Happening) => this.#effects.happened?.(happening),
    };
  }

  // Scrubs of the own disk (R9).

  /** Blocks of this disk that may be wrong: the head puts right what is, under its range lock. */
  doubted(range: DoubtedRange): void {
    if (this.#stopped || this.#failure !== null) return;
    if (this.#head !== null) this.#head.mender.doubted(null, range);
    else this.#member.doubted(range);
  }

  /** An extent of this disk is right: its members are compared by their checksums. */
  verified(extent: number, done: () => void): void {
    if (this.#head === null || this.#stopped) done();
    else this.#head.compare.extent(extent, done);
  }

  /** All extents of this disk were looked at: what only others have mapped is left. */
  allVerified(done: () => void): void {
    if (this.#head === null || this.#stopped) done();
    else this.#head.compare.unmapped(done);
  }

  // Hosts.

  /** A host's request at offsets of the slice; its end may come before this returns. */
  submit(operation: Operation): void {
    const head = this.#head;
    const { offsetBytes, lengthBytes } = operation;
    if (this.#releasing !== null || this.#stopped) {
      return operation.complete(Status.shuttingDown);
    }
    if (head === null || head.released || this.#handing.isDraining) {
      const isLost = this.#failure !== null && this.#record?.inSync.length === 1;
      return operation.complete(isLost ? Status.ioError : Status.notHead);
    }
    if (operation.kind !== OperationKind.flush) {
      const isWhole = offsetBytes % SECTOR_BYTES === 0 && lengthBytes % SECTOR_BYTES === 0;
      if (!isWhole || offsetBytes < 0 || lengthBytes < 0) {
        return operation.complete(Status.invalid);
      }
      if (offsetBytes + lengthBytes > SLICE_BYTES_MAX) {
        return operation.complete(Status.outOfRange);
      }
      // H11: the volume has grown, and the record that says so is on its way here.
      if (offsetBytes + lengthBytes > head.servedBytes) return operation.complete(Status.busy);
      if (lengthBytes === 0) return operation.complete(Status.ok);
      const hasBuffer =
        operation.kind === OperationKind.read || operation.kind === OperationKind.write;
      if (hasBuffer && lengthBytes > REQUEST_BYTES_MAX) return operation.complete(Status.invalid);
    }
    head.submit(operation);
  }

  // Verbs.

  /** From another member; its payload belongs to the slice from now on. */
  receive(verb: PeerVerb): void {
    if (!this.#stopped) this.#dispatch(verb);
    if (verb.bufferOffset === NO_BUFFER) return;
    // Nobody took the payload.
    this.#memory.release(verb.bufferOffset);
    verb.bufferOffset = NO_BUFFER;
  }

  #dispatch(verb: PeerVerb): void {
    switch (verb.kind) {
      case VerbKind.attached:
      case VerbKind.done:
      case VerbKind.map:
      case VerbKind.grant:
        this.#head?.receive(verb);
        return;
      case VerbKind.enquire:
        this.#heard(verb);
        this.#answerEnquiry(verb);
        return;
      case VerbKind.state:
        if (verb.status === Status.ioError) this.#head?.sessions.out(verb.fromDisk);
        else this.#heard(verb);
        return;
      default:
        if (this.#failure === null) this.#member.receive(verb);
        else this.#sayOut(verb.fromDisk);
    }
  }

  /** R10: a head need not wait for this disk to answer anything, nor for its grants. */
  #sayOut(head: DiskNumber): void {
    if (head === this.#store.disk) return;
    const verb = new PeerVerb();
    verb.kind = VerbKind.state;
    verb.class = TrafficClass.control;
    verb.slice = this.#store.slice;
    verb.fromDisk = this.#store.disk;
    verb.toDisk = head;
    verb.sequence = ++this.#sequence;
    // Without an incarnation: it says nothing of what the disk will be when it comes back (R3).
    verb.status = Status.ioError;
    this.#effects.send(verb);
  }

  /** What another member says of itself (R3); its record is one it stored, hence committed. */
  #heard(verb: PeerVerb): void {
    if (verb.record !== null) this.#adopt(verb.record);
    if (verb.incarnation === 0) return;
    this.#answers.heard(verb.fromDisk, {
      incarnation: verb.incarnation,
      // A sender that does not know counts every start as a loss.
      bootIncarnation: verb.stamp === 0 ? verb.incarnation : verb.stamp,
    });
    this.#head?.sessions.heard(verb.fromDisk, verb.incarnation);
  }

  #answerEnquiry(verb: PeerVerb): void {
    if (this.#failure !== null) return;
    const answer = this.#own(VerbKind.state, verb.fromDisk);
    answer.sequence = verb.sequence;
    this.#effects.send(answer);
  }

  /** What we say of ourselves. */
  #own(kind: VerbKind, toDisk: DiskNumber): PeerVerb {
    const verb = new PeerVerb();
    verb.kind = kind;
    verb.class = TrafficClass.control;
    verb.slice = this.#store.slice;
    verb.fromDisk = this.#store.disk;
    verb.toDisk = toDisk;
    verb.sequence = ++this.#sequence;
    verb.record = this.#record;
    verb.epoch = this.#record?.epoch ?? 0;
    verb.lineage = this.#record?.lineage ?? 0;
    verb.incarnation = this.#store.incarnation;
    verb.stamp = this.#store.bootIncarnation ?? this.#store.incarnation;
    verb.syncedEpoch = this.#store.syncedEpoch;
    verb.syncedLineage = this.#store.syncedLineage;
    return verb;
  }

  linkUp(disk: DiskNumber): void {
    this.#links.add(disk);
    this.#answers.askSoon();
    this.#head?.sessions.linkUp(disk);
  }

  linkDown(disk: DiskNumber): void {
    this.#links.delete(disk);
    this.#answers.linkDown(disk);
    this.#member.linkDown(disk);
    this.#head?.sessions.linkDown(disk);
  }

  setPlans(plans: DiskPlans): void {
    this.#plans = plans;
  }

  /** The disk was taken out, or is to be opened anew: as after an I/O error (R10). */
  giveUp(reason: string): void {
    if (!this.#stopped) this.#giveUp(reason);
  }

  // Records.

  /** Committed and confirmed; late, repeated and skipped ones are harmless. */
  recordChanged(record: SliceRecord): void {
    if (!this.#stopped) this.#adopt(record);
  }

  #adopt(record: SliceRecord): void {
    assert(record.slice === this.#store.slice, "a record of this slice");
    const known = this.#record;
    const isSame =
      known !== null && known.lineage === record.lineage && known.epoch === record.epoch;
    // The first time also if it is the stored one: now it is known to be the newest.
    if (known !== null && !isSame && !supersedes(record, known)) return;
    if (isSame && this.#head !== null) return;
    const isNew = !isSame;
    this.#record = record;
    if (isNew) this.#jitter = this.#world.random.fraction();
    const { disk, incarnation } = this.#store;
    const isHead = record.head === disk && inSync(record, disk, incarnation);
    if (isHead && this.#handing.hasReleased(record)) return;
    if (isHead && this.#failure === null && !this.#stopped) this.#becomeHead(record);
    else this.#endHead(Status.notHead);
    if (isNew && !isHead) this.#takeover = null;
    if (isNew) this.#effects.statusChanged?.();
  }

  #becomeHead(record: SliceRecord): void {
    this.#member.close();
    if (this.#head === null) {
      this.#head = new Head(this.#headHost(), record, this.#doubtful);
    }
    this.#head.adopt(record);
  }

  #endHead(status: Status): void {
    const head = this.#head;
    if (head === null) return;
    this.#head = null;
    // Its own silence as a member begins now.
    this.#member.lastHeardMs = this.#world.clock.nowMs();
    head.end(status);
    this.#effects.statusChanged?.();
  }

  #propose(next: SliceRecord, done: (isCommitted: boolean) => void): void {
    const expected = this.#record;
    assert(expected !== null, "a proposal follows a record");
    assert(this.#proposingSinceMs === null, "one proposal at a time");
    assert(next.epoch === expected.epoch + 1, "a proposal is made from the newest record");
    this.#proposingSinceMs = this.#world.clock.nowMs();
    this.#proposed = next;
    this.#effects.propose(next, expected, (outcome, current) => {
      this.#proposingSinceMs = null;
      this.#proposed = null;
      if (this.#stopped) return;
      const isCommitted = outcome === Outcome.committed;
      if (outcome === Outcome.refused) {
        this.#pausedUntilMs = this.#world.clock.nowMs() + REFUSED_PAUSE_MS;
      }
      if (isCommitted) this.#adopt(next);
      if (current !== null) this.#adopt(current);
      done(isCommitted);
    });
  }

  /** R10: this disk serves no more in this run. Who else is in sync takes over without waiting. */
  #giveUp(reason: string): void {
    if (this.#failure !== null) return;
    this.#failure = reason;
    this.#world.log.write("error", "a disk's share of a slice is given up", {
      slice: this.#store.slice,
      disk: this.#store.disk,
      reason,
    });
    this.#head?.tellReleased();
    if (this.#record !== null) this.#sayOut(this.#record.head);
    const isOnly = this.#record?.inSync.length === 1;
    this.#endHead(isOnly ? Status.ioError : Status.notHead);
    this.#effects.statusChanged?.();
  }

  // Time.

  /** Every 50 ms or so. */
  tick(nowMs: number): void {
    if (this.#stopped) return;
    if (nowMs - this.#lastTickMs > OVERSLEPT_MS) {
      this.#member.lastHeardMs = nowMs;
      this.#head?.overslept(nowMs);
    }
    this.#lastTickMs = nowMs;
    if (this.#failure !== null) return this.#tickRelease(nowMs);
    if (this.#head !== null) {
      if (nowMs >= this.#pausedUntilMs) this.#head.tick(nowMs);
      this.#tellTakeover(nowMs);
    } else this.#tickMember(nowMs);
    if (this.#releasing === null) this.#handing.tick(nowMs);
    this.#tickRelease(nowMs);
  }

  /** Once it serves; a head that ends before is not told. */
  #tellTakeover(nowMs: number): void {
    const takeover = this.#takeover;
    if (takeover === null || this.#head?.ready !== true || !this.#head.established) return;
    this.#takeover = null;
    this.#effects.tookOver?.(takeover.from, nowMs - takeover.silentSinceMs);
  }

  #tickMember(nowMs: number): void {
    const record = this.#record;
    if (record === null || this.#releasing !== null || this.#member.attaching) return;
    const named = inSyncEntry(record, this.#store.disk);
    if (named === undefined) return this.#knock(record, nowMs);
    if (this.#proposingSinceMs !== null || nowMs < this.#pausedUntilMs) return;
    const decision = this.#decide(record, nowMs);
    this.#waitsFor = decision.act === "enquire" ? decision.waitsFor : "";
    if (decision.act === "propose") {
      this.#world.log.write("info", "taking over a slice", {
        slice: record.slice,
        disk: this.#store.disk,
        epoch: decision.next.epoch,
      });
      this.#takeover = { from: record.head, silentSinceMs: this.#member.lastHeardMs };
      this.#returns.led(record.head);
      this.#propose(decision.next, () => {});
    } else if (decision.act === "enquire" && this.#answers.isDue(nowMs)) this.#enquire(record);
  }

  #decide(record: SliceRecord, nowMs: number): Decision {
    const member = this.#member;
    return decide({
      nowMs,
      record,
      disk: this.#store.disk,
      incarnation: this.#store.incarnation,
      isIdle: this.#store.activeRegions().length === 0,
      lastHeardMs: member.lastHeardMs,
      lastGrantMs: member.lastGrantMs,
      startedMs: this.#startedMs,
      isAttached: member.sessionEpoch === record.epoch,
      isReleased:
        member.releasedEpoch === record.epoch && member.releasedLineage === record.lineage,
      answers: this.#answers.byDisk,
      bootIncarnation: this.#store.bootIncarnation ?? this.#store.incarnation,
      jitter: this.#jitter,
    });
  }

  #enquire(record: SliceRecord): void {
    for (const disk of disksOf(record)) {
      if (disk !== this.#store.disk && this.#links.has(disk)) {
        this.#effects.send(this.#own(VerbKind.enquire, disk));
      }
    }
  }

  /** Outside the set: the head brings us up again once it hears of us (R7). */
  #knock(record: SliceRecord, nowMs: number): void {
    if (nowMs - this.#knockedMs < KNOCK_EVERY_MS || !this.#links.has(record.head)) return;
    this.#knockedMs = nowMs;
    this.#effects.send(this.#own(VerbKind.enquire, record.head));
  }

  // The end.

  /**
   * Orderly stop (R4): ends what is under way, flushes, makes all inactive, releases the members.
   */
  release(done: () => void): void {
    const sinceMs = this.#world.clock.nowMs();
    assert(this.#releasing === null, "released once");
    this.#releasing = { done, sinceMs, isClearing: false };
    this.#tickRelease(sinceMs);
  }

  #tickRelease(nowMs: number): void {
    const releasing = this.#releasing;
    if (releasing === null) return;
    const head = this.#head;
    const isLate = nowMs - releasing.sinceMs >= RELEASE_PATIENCE_MS;
    if (head !== null && head.hostInFlight > 0 && !isLate) return;
    if (releasing.isClearing && !isLate) return;
    const finish = () => {
      if (this.#stopped) return;
      this.stop();
      releasing.done();
    };
    if (head === null) return finish();
    if (isLate) {
      head.tellReleased();
      return finish();
    }
    releasing.isClearing = true;
    head.release(finish);
  }

  /** At once: nothing is granted, proposed or acked any more; what is under way ends. */
  stop(): void {
    this.#stopped = true;
    this.#member.close();
    this.#endHead(Status.notHead);
  }

  /** Of the head: requests of hosts under way, and extents being copied to targets. */
  get load(): { hostInFlight: number; copies: number } {
    return { hostInFlight: this.#head?.hostInFlight ?? 0, copies: this.#head?.copies ?? 0 };
  }

  status(): SliceStatus {
    return sliceStatus({
      record: this.#record,
      head: this.#head,
      failure: this.#failure,
      disk: this.#store.disk,
      counters: { ...this.#counters },
      waitsFor: this.#waitsFor,
      isProposing: this.#proposingSinceMs !== null,
      headHeardMs: this.#world.clock.nowMs() - this.#member.lastHeardMs,
    });
  }
}
