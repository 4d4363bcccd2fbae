// SPDX-License-Identifier: Apache-2.0
//
// The data plane of one unit: its disks' stores, the slices that have a member on them, and the
// volumes that any host may reach through it. It joins raid to store, routes verbs between members,
// and is the same in the reactor and in the simulator: bytes, clock and control store come in as
// effects. Siblings (several reactors, decision 0060) are units to it, with numbers below zero.
//
// Invariants
// - At most one Slice per slice number: members of a slice never share a unit.
// - A record is acted on only once it is confirmed: from the watch, from the outcome of a proposal,
//   or in a head's attach (R2: confirmed before its epoch is sent to anyone).
// - One proposal per slice at a time, also across a disk's openings: what a slice of an earlier one
//   still has under way ends first, and fails what was decided by an older record.
// - R8: a member that its record names kept has no Slice: it is only read, by its lineage. What
//   comes by links and disks does not say what is kept; nothing is given back by such a record.
// - Verbs for slices unknown here are dropped, their payload released; so are those of a slice that
//   a drill keeps silent, in both directions, and what it proposes waits until that is over.

import { EXTENT_BYTES } from "#base/grains.ts";
import { BEACON_EVERY_MS } from "#base/limits.ts";
import { type Memory, NO_BUFFER } from "#base/memory.ts";
import type { OperationTarget } from "#base/operation.ts";
import type {
  DiskNumber,
  DiskPlans,
  Outcome,
  SliceNumber,
  SliceRecord,
  UnitNumber,
  VolumeNumber,
} from "#base/record.ts";
import { NO_PLANS, disksOf, holdersOf, isFuller, keptOn, supersedes } from "#base/record.ts";
import { Status } from "#base/status.ts";
import { type PeerVerb, VerbKind, tickVerb } from "#base/verbs.ts";
import type { ScrubPace } from "#base/disk-health.ts";
import type { World } from "#base/world.ts";
import type { Happening } from "#raid/happening.ts";
import { CopyBudget } from "#raid/copy-budget.ts";
import { Slice, type SliceOptions, type SliceStatus } from "#raid/slice.ts";
import type { DiskStore } from "#store/disk-store.ts";
import type { ScrubListener } from "#store/scrubber.ts";
import { busiestHead } from "./busiest-head.ts";
import { ForwardServer } from "./forward-server.ts";
import { Forwarder, type HeadPlace, type ShapeWithCopies, type VolumeShape } from "./forwarder.ts";
import { type Held, heldRecords } from "./held-records.ts";
import { KeptMembers, type KeptReport, isSurplus, onlyRead, settleKept } from "./kept-members.ts";
import { Silences } from "./silences.ts";
import type { SliceHappening, Takeover } from "./slice-happenings.ts";

export type ProposeDone = (outcome: Outcome, current: SliceRecord | null) => void;

export interface DataPlaneEffects {
  /**
   * False: no link to that unit now. Takes the verb; its payload stays the sender's until `sent`.
   */
  send(unit: UnitNumber, verb: PeerVerb): boolean;
  /** Compare-and-swap of a slice's record; answers when it knows, however long that takes (R14). */
  propose(next: SliceRecord, expected: SliceRecord, done: ProposeDone): void;
  /** Something a person or the control station should know changed on this slice. */
  sliceChanged(slice: SliceNumber): void;
  /** A head here met wrong blocks (R9). */
  happened?(happening: SliceHappening): void;
  /** A disk here heads a slice that another one headed, and serves. */
  tookOver?(takeover: Takeover): void;
  /** A disk here was scrubbed to its end. */
  scrubbed?(disk: DiskNumber): void;
}

export interface DataPlaneOptions {
  unit: UnitNumber;
  slice: SliceOptions;
  /** Absent: as the store has it. */
  scrub?: ScrubPace;
  /** Which reactor of its unit it is; absent: the first. */
  reactor?: number;
}

/** What `sliceStatuses` reports, for the console and the control station. */
export interface SliceReport extends SliceStatus {
  slice: SliceNumber;
  disk: DiskNumber;
  /** Space that the member holds on its disk. */
  mappedBytes: number;
}

/** Hosts seen at a head so lately count as using it: they pause between requests. */
const HOSTS_SEEN_MS = 500;

const NOWHERE: HeadPlace = { at: "unknown" };

export class DataPlane {
  readonly #world: Pick<World, "clock" | "random" | "log">;
  readonly #memory: Memory;
  readonly #options: DataPlaneOptions;
  readonly #effects: DataPlaneEffects;
  readonly #disks = new Map<DiskNumber, DiskStore>();
  readonly #slices = new Map<SliceNumber, { slice: Slice; disk: DiskNumber; here: HeadPlace }>();
  readonly #creating = new Set<SliceNumber>();
  readonly #records = new Map<SliceNumber, SliceRecord>();
  /** Proposals under way, and what is to be proposed next. */
  readonly #proposing = new Map<SliceNumber, (() => void) | null>();
  readonly #volumes = new Map<VolumeNumber, VolumeShape>();
  readonly #diskUnits = new Map<DiskNumber, UnitNumber>();
  #plans = NO_PLANS;
  readonly #links = new Set<UnitNumber>();
  readonly #forwarder: Forwarder;
  readonly #copyBudget = new CopyBudget();
  readonly #forwards: ForwardServer;
  readonly #kept: KeptMembers;
  #hostsSeenMs = Number.NEGATIVE_INFINITY;
  #scrubPace: ScrubPace | null;
  readonly #silences = new Silences();
  /** Heads are given up once; a slice started later has none to give. */
  #released = false;
  #lastBeatMs = Number.NEGATIVE_INFINITY;

  constructor(
    world: Pick<World, "clock" | "random" | "log">,
    memory: Memory,
    options: DataPlaneOptions,
    effects: DataPlaneEffects,
  ) {
    this.#world = world;
    this.#memory = memory;
    this.#options = options;
    this.#effects = effects;
    this.#scrubPace = options.scrub ?? null;
    this.#kept = new KeptMembers({
      ...{ memory, unit: options.unit },
      member: (disk, slice) => this.#disks.get(disk)?.member(slice) ?? null,
      unitOf: (disk) => this.#diskUnits.get(disk),
      isLinked: (unit) => this.#links.has(unit),
    });
    this.#forwards = new ForwardServer(world, memory, {
      target: (slice, lineage) =>
        lineage === 0
          ? (this.#slices.get(slice)?.slice ?? null)
          : this.#kept.target(slice, lineage),
      send: (unit, verb) => this.#links.has(unit) && effects.send(unit, verb),
    });
    this.#forwarder = new Forwarder(world, memory, options.reactor ?? 0, {
      headOf: (slice, lineage) =>
        lineage === 0 ? this.#headOf(slice) : this.#kept.place(slice, lineage),
      send: (unit, verb) => this.#links.has(unit) && effects.send(unit, verb),
    });
  }

  // Disks and records: what there is.

  /** A disk that is open and has its number; its slices come alive. */
  addDisk(store: DiskStore): void {
    this.#disks.set(store.number, store);
    this.#diskUnits.set(store.number, this.#options.unit);
    store.scrub.listener = this.#scrubListener(store);
    const { onFailed } = store;
    store.onFailed = (reason) => {
      onFailed(reason);
      // R10: also slices that nobody uses at the moment count it as a copy no more.
      if (this.#disks.get(store.number) === store) this.dropDisk(store.number, "its disk failed");
    };
    if (this.#scrubPace !== null) store.scrub.pace = this.#scrubPace;
    for (const [slice, entry] of this.#slices) {
      if (entry.disk !== store.number) continue; // of an earlier opening: given up
      entry.slice.stop();
      this.#slices.delete(slice);
    }
    for (const slice of store.slices()) {
      const record = this.#records.get(slice);
      const isKept = record !== undefined && keptOn(record, store.number) !== undefined;
      if (!isKept && !this.#slices.has(slice)) this.#startSlice(store, slice);
    }
    for (const record of this.#records.values()) this.#settle(record);
  }

  /**
   * A disk failed, was taken out, or is to be opened anew: its slices serve no more, and say so,
   * until it is added again. Its store is the caller's to close.
   */
  dropDisk(disk: DiskNumber, reason: string): void {
    if (!this.#disks.delete(disk)) return;
    for (const entry of this.#slices.values()) if (entry.disk === disk) entry.slice.giveUp(reason);
  }

  /** A part of what a disk here remembers; null: it is not open. */
  heldRecords(disk: DiskNumber, from: SliceNumber): Held | null {
    return heldRecords(this.#disks.get(disk), from);
  }

  // Scrubs (R9): the store reads, the slice heals, or has it healed by its head.

  setScrubPace(pace: ScrubPace): void {
    this.#scrubPace = pace;
    for (const store of this.#disks.values()) store.scrub.pace = pace;
  }

  /** Scrubs a disk at once; false: it is not here, or out of use. */
  startScrub(disk: DiskNumber, options: { urgent: boolean }): boolean {
    const store = this.#disks.get(disk);
    if (store === undefined || store.failed) return false;
    store.scrub.start(options);
    return true;
  }

  #scrubListener(store: DiskStore): ScrubListener {
    const sliceOf = (number: SliceNumber) => {
      const entry = this.#slices.get(number);
      return entry?.disk === store.number ? entry.slice : null;
    };
    return {
      doubted: (doubt) => sliceOf(doubt.slice)?.doubted(doubt),
      verified: (number, extent, done) => {
        const slice = sliceOf(number);
        if (slice === null) done();
        else slice.verified(extent, done);
      },
      sliceVerified: (number, done) => {
        const slice = sliceOf(number);
        if (slice === null) done();
        else slice.allVerified(done);
      },
      ended: () => this.#effects.scrubbed?.(store.number),
    };
  }

  #happened(slice: SliceNumber, happening: Happening): void {
    const record = this.#records.get(slice);
    if (record === undefined) return;
    const { volume, index } = record;
    const sliceBytes = this.#volumes.get(volume)?.sliceBytes ?? record.sizeBytes;
    const volumeOffsetBytes = index * sliceBytes + happening.offsetBytes;
    this.#effects.happened?.({ ...happening, slice, volume, volumeOffsetBytes });
  }

  /** Which unit, or sibling, a disk is in, from the control state. */
  placeDisk(disk: DiskNumber, unit: UnitNumber): void {
    if (this.#disks.has(disk) || this.#diskUnits.get(disk) === unit) return;
    this.#diskUnits.set(disk, unit);
    if (!this.#links.has(unit)) return;
    for (const { slice } of this.#slices.values()) slice.linkUp(disk);
  }

  /** From the control state. */
  setPlans(plans: DiskPlans): void {
    this.#plans = plans;
    for (const { slice } of this.#slices.values()) slice.setPlans(plans);
  }

  /** A record, committed and confirmed. Late and repeated ones are harmless. */
  recordChanged(record: SliceRecord): void {
    const known = this.#records.get(record.slice);
    if (known !== undefined && !supersedes(record, known) && !isFuller(record, known)) return;
    this.#records.set(record.slice, record);
    this.#kept.recordChanged(record);
    this.#settle(record, known);
    this.#forwarder.headChanged(record.slice);
  }

  /** Brings what is here of a slice in line with its newest record. */
  #settle(record: SliceRecord, before: SliceRecord = record): void {
    for (const { disk } of record.kept ?? []) this.#keep(record, disk);
    this.#slices.get(record.slice)?.slice.recordChanged(record);
    this.#adopt(record);
    this.#dropSurplus(record, before);
  }

  /** R8: a member of a lineage that lost stays as it is, durably, and serves no more. */
  #keep(record: SliceRecord, disk: DiskNumber): void {
    if (this.#slices.get(record.slice)?.disk !== disk) return;
    this.#stopSlice(record.slice);
    const member = this.#disks.get(disk)?.member(record.slice);
    this.#effects.sliceChanged(record.slice);
    if (member != null) settleKept(member);
  }

  /** The slice's record is gone from the control store: its volume was deleted. */
  sliceRemoved(slice: SliceNumber): void {
    this.#records.delete(slice);
    this.#kept.removed(slice);
    this.#stopSlice(slice);
    for (const store of this.#disks.values()) this.#dropMember(store, slice);
  }

  volumeChanged(shape: ShapeWithCopies): void {
    this.#volumes.set(shape.volume, shape);
    this.#kept.volumeChanged(shape);
  }
  volumeRemoved(volume: VolumeNumber): void {
    this.#volumes.delete(volume);
    this.#kept.volumeRemoved(volume);
  }

  /** Where a portal submits a volume's requests; it outlives changes of the volume. */
  volume(volume: VolumeNumber): OperationTarget {
    return this.#forwarder.target(() => this.#volumes.get(volume) ?? null);
  }

  /** R8: what is kept of a volume from before an override; only read. */
  keptCopy(volume: VolumeNumber, number: number): OperationTarget {
    return onlyRead(this.#forwarder.target(() => this.#kept.shape(volume, number)));
  }

  /** Kept members on disks here. */
  keptReports(): KeptReport[] {
    return this.#kept.reports();
  }

  /** Makes the member that a record asks of one of our disks. */
  #adopt(record: SliceRecord): void {
    if (this.#creating.has(record.slice)) return;
    const named = disksOf(record);
    const entry = this.#slices.get(record.slice);
    if (entry !== undefined && named.includes(entry.disk)) return;
    for (const disk of named) {
      const store = this.#disks.get(disk);
      if (store === undefined || store.failed) continue;
      // Another disk here had it before.
      this.#stopSlice(record.slice);
      if (store.member(record.slice) !== null) return this.#startSlice(store, record.slice);
      this.#creating.add(record.slice);
      store.createMember(record.slice, record.sizeBytes, (status) => {
        this.#creating.delete(record.slice);
        if (this.#disks.get(disk) !== store) return; // taken out meanwhile
        if (status !== Status.ok) {
          this.#world.log.write("error", "a slice's member could not be made", {
            slice: record.slice,
            disk,
            status,
          });
          return;
        }
        this.#startSlice(store, record.slice);
      });
      return;
    }
    if (entry === undefined) this.#startStale(record);
  }

  /**
   * A member that was kept, and is not any more: its head brings it up once it hears of it (R7).
   */
  #startStale(record: SliceRecord): void {
    if (record.kept === undefined || record.inSync.length >= record.copies) return;
    const isStale = (store: DiskStore) =>
      !store.failed && !keptOn(record, store.number) && store.member(record.slice) !== null;
    const store = [...this.#disks.values()].find(isStale);
    if (store !== undefined) this.#startSlice(store, record.slice);
  }

  #startSlice(store: DiskStore, number: SliceNumber): void {
    const member = store.member(number);
    if (member === null) return;
    const options = { copyBudget: this.#copyBudget, ...this.#options.slice };
    const slice = new Slice(this.#world, this.#memory, options, member, {
      send: (verb) => this.#sendToDisk(verb),
      propose: (next, expected, done) => this.#propose(next, expected, done),
      statusChanged: () => this.#effects.sliceChanged(number),
      happened: (happening) => this.#happened(number, happening),
      tookOver: (from, pauseMs) => {
        const volume = this.#records.get(number)?.volume;
        if (volume !== undefined) this.#effects.tookOver?.({ volume, from, pauseMs });
      },
    });
    this.#slices.set(number, { slice, disk: store.number, here: { at: "here", target: slice } });
    slice.setPlans(this.#plans);
    for (const disk of this.#linkedDisks()) slice.linkUp(disk);
    const record = this.#records.get(number);
    if (record !== undefined) slice.recordChanged(record);
  }

  // Drills.

  /**
   * As if this unit were dead to one slice: no verb of it comes or goes, no proposal of it is made,
   * for so long. Whoever else is in sync takes over as after a real death. To this unit it is a cut
   * network and a control store that does not answer, which a slice must stand at any time.
   */
  silence(slice: SliceNumber, forMs: number): void {
    const entry = this.#slices.get(slice);
    if (entry === undefined) return;
    this.#silences.begin(slice, this.#world.clock.nowMs() + forMs);
    for (const disk of this.#linkedDisks()) entry.slice.linkDown(disk);
  }

  #endSilences(nowMs: number): void {
    for (const [slice, { proposal, unanswered }] of this.#silences.takeEnded(nowMs)) {
      proposal?.();
      // The link never broke: who asked here, and found no other head, waits for an answer.
      for (const { from, sequence } of unanswered) {
        this.#forwards.refuse(from, sequence, Status.expired);
      }
      const entry = this.#slices.get(slice);
      if (entry === undefined) continue;
      for (const disk of this.#linkedDisks()) entry.slice.linkUp(disk);
    }
  }

  #linkedDisks(): DiskNumber[] {
    const linked = (disk: DiskNumber) => this.#links.has(this.#diskUnits.get(disk) ?? 0);
    return [...this.#diskUnits.keys()].filter(linked);
  }

  #propose(next: SliceRecord, expected: SliceRecord, done: ProposeDone): void {
    const { slice } = next;
    const silence = this.#silences.of(slice);
    if (silence !== null) {
      silence.proposal = () => this.#propose(next, expected, done);
      return;
    }
    if (this.#proposing.has(slice)) {
      // Only the newest Slice of a number lives: whoever waited before it is stopped.
      this.#proposing.set(slice, () => this.#propose(next, expected, done));
      return;
    }
    this.#proposing.set(slice, null);
    this.#effects.propose(next, expected, (outcome, current) => {
      const waiting = this.#proposing.get(slice) ?? null;
      this.#proposing.delete(slice);
      done(outcome, current);
      if (current !== null) this.recordChanged(current);
      waiting?.();
    });
  }

  /**
   * Members that are no longer needed give their space back; one still owed data, or kept (R8),
   * never. Only by a record that says what is kept.
   */
  #dropSurplus(record: SliceRecord, before: SliceRecord): void {
    if (record.kept === undefined || record.inSync.length < record.copies) return;
    const holders = holdersOf(record);
    const entry = this.#slices.get(record.slice);
    if (entry !== undefined && !holders.includes(entry.disk)) this.#stopSlice(record.slice);
    for (const store of this.#disks.values()) {
      if (isSurplus(store, record, before)) this.#dropMember(store, record.slice);
    }
  }

  #stopSlice(slice: SliceNumber): void {
    this.#slices.get(slice)?.slice.stop();
    this.#slices.delete(slice);
  }

  #dropMember(store: DiskStore, slice: SliceNumber): void {
    store.member(slice)?.drop(() => this.#effects.sliceChanged(slice));
  }

  // Links and verbs.

  linkUp(unit: UnitNumber): void {
    this.#links.add(unit);
    this.#sendTick(unit);
    for (const [disk, at] of this.#diskUnits) {
      if (at !== unit) continue;
      for (const { slice } of this.#slices.values()) slice.linkUp(disk);
    }
  }

  /** All that was under way on the link is lost; every `sent` has been called. */
  linkDown(unit: UnitNumber): void {
    if (!this.#links.delete(unit)) return;
    for (const [disk, at] of this.#diskUnits) {
      if (at !== unit) continue;
      for (const { slice } of this.#slices.values()) slice.linkDown(disk);
    }
    this.#forwarder.linkDown(unit);
  }

  #sendToDisk(verb: PeerVerb): boolean {
    const unit = this.#diskUnits.get(verb.toDisk);
    if (unit === undefined || !this.#links.has(unit)) return false;
    if (this.#silences.of(verb.slice) !== null) return false;
    return this.#effects.send(unit, verb);
  }

  /** A verb from another unit. The payload's buffer is the receiver's from here on. */
  receive(from: UnitNumber, verb: PeerVerb): void {
    const silence = this.#silences.of(verb.slice);
    if (silence !== null) {
      const { sequence } = verb;
      if (verb.kind === VerbKind.forward) silence.unanswered.push({ from, sequence });
      if (verb.bufferOffset !== NO_BUFFER) this.#memory.release(verb.bufferOffset);
      return;
    }
    switch (verb.kind) {
      case VerbKind.tick:
        this.#forwarder.tickHeard(from, verb.tickMs);
        return;
      case VerbKind.forward:
        this.#forwards.serve(from, verb);
        return;
      case VerbKind.forwarded:
        this.#forwarder.tickHeard(from, verb.tickMs);
        this.#forwarder.forwarded(verb);
        return;
      default:
        this.#receiveMemberVerb(verb);
    }
  }

  #receiveMemberVerb(verb: PeerVerb): void {
    if (verb.kind === VerbKind.attach && verb.record !== null) this.recordChanged(verb.record);
    const entry = this.#slices.get(verb.slice);
    if (entry === undefined || entry.disk !== verb.toDisk) {
      if (verb.bufferOffset !== NO_BUFFER) this.#memory.release(verb.bufferOffset);
      return;
    }
    entry.slice.receive(verb);
  }

  // In-band: requests that other units forward to heads here.

  #headOf(slice: SliceNumber): HeadPlace {
    const record = this.#records.get(slice);
    if (record === undefined) return NOWHERE;
    const unit = this.#diskUnits.get(record.head);
    if (unit === undefined) return NOWHERE;
    if (unit !== this.#options.unit) {
      return this.#links.has(unit) ? { at: "unit", unit } : NOWHERE;
    }
    return this.#slices.get(slice)?.here ?? NOWHERE;
  }

  /** The unit or sibling that a verb is for which came for this unit. */
  placeOf(verb: PeerVerb): UnitNumber {
    const { unit } = this.#options;
    if (verb.kind !== VerbKind.forward) return this.#diskUnits.get(verb.toDisk) ?? unit;
    const { slice, lineage } = verb;
    const place = lineage === 0 ? this.#headOf(slice) : this.#kept.place(slice, lineage);
    return place.at === "unit" ? place.unit : unit;
  }

  /** The unit or sibling that heads most of a volume, if any of it is headed at all. */
  frontOf(volume: VolumeNumber): UnitNumber | null {
    const { slices = [] } = this.#volumes.get(volume) ?? {};
    return busiestHead(slices.map((at) => this.#diskUnits.get(this.#records.get(at)?.head ?? 0)));
  }

  // Time and the end.

  /** Every 50 ms or so. */
  tick(nowMs: number): void {
    const wallMs = this.#world.clock.wallMs();
    for (const store of this.#disks.values()) store.tick(nowMs, wallMs);
    for (const { slice } of this.#slices.values()) slice.tick(nowMs);
    this.#forwarder.tick();
    this.#endSilences(nowMs);
    this.#countCopies(nowMs);
    if (nowMs - this.#lastBeatMs < BEACON_EVERY_MS) return;
    this.#lastBeatMs = nowMs;
    for (const unit of this.#links) this.#sendTick(unit);
  }

  /** Before a deadline that would be missed, copying yields to hosts no more. */
  setHurried(isHurried: boolean): void {
    this.#copyBudget.isHurried = isHurried;
  }

  #countCopies(nowMs: number): void {
    let copies = 0;
    for (const { slice } of this.#slices.values()) {
      const { load } = slice;
      copies += load.copies;
      if (load.hostInFlight > 0) this.#hostsSeenMs = nowMs;
    }
    this.#copyBudget.counted(copies, { isBesideHosts: nowMs - this.#hostsSeenMs < HOSTS_SEEN_MS });
  }

  #sendTick(unit: UnitNumber): void {
    this.#effects.send(unit, tickVerb(this.#world.clock.nowMs()));
  }

  /** Orderly stop: every head here is given up so that its takeover needs no wait (R4). */
  release(done: () => void): void {
    if (this.#released) return done();
    this.#released = true;
    let left = this.#slices.size + 1;
    const one = () => {
      if (--left === 0) done();
    };
    for (const { slice } of this.#slices.values()) slice.release(one);
    one();
  }

  /** Host requests that wait for a head. */
  get waitingCount(): number {
    return this.#forwarder.waitingCount;
  }

  sliceReports(): SliceReport[] {
    return [...this.#slices].map(([slice, entry]) => ({
      ...entry.slice.status(),
      ...{ slice, disk: entry.disk },
      mappedBytes: (this.#disks.get(entry.disk)?.member(slice)?.mappedExtents ?? 0) * EXTENT_BYTES,
    }));
  }

  record(slice: SliceNumber): SliceRecord | null {
    return this.#records.get(slice) ?? null;
  }
}
