// SPDX-License-Identifier: Apache-2.0
//
// A disk's share of a slice as its head's servant: carries out what the head of the stored record
// orders, grants it the right to answer reads, and refuses everybody else.
//
// Invariants
// - R4: a higher epoch comes only by `attach` from the disk that its record names head, and is
//   stored durably before the answer; everything of another epoch, lineage or sender is refused.
// - A session begins at an attach: nothing sent before it (a lower sequence) is carried out after
//   it, since the head asks again for whatever was not answered. All that was under way has ended
//   by then.
// - R0: an attach that names this disk in sync in another incarnation is never stored: it would
//   make us look in sync in an epoch of which we know nothing.
// - R6: no region becomes inactive but by the head's order, and then only if nothing was written in
//   it since that order was sent: orders and writes travel on different lanes.
// - R4: `lastGrantMs` is read before the grant is sent, so whoever counts from it counts late.

import { Incident } from "#base/disk-health.ts";
import {
  BLOCK_BYTES,
  BLOCKS_PER_EXTENT,
  EXTENT_BYTES,
  REGION_BYTES,
  SECTOR_BYTES,
} from "#base/grains.ts";
import { TRANSFER_BYTES_MAX } from "#base/limits.ts";
import type { MapEntry, MemberStore } from "#base/member-store.ts";
import type { Memory } from "#base/memory.ts";
import { NO_BUFFER } from "#base/memory.ts";
import {
  FLAG_FUA,
  FLAG_KEEP_STAMP,
  FLAG_LOST,
  FLAG_MENDS,
  FLAG_NO_HOLE,
  FLAG_PAST_CACHE,
  OperationKind,
  TrafficClass,
} from "#base/operation.ts";
import type { OperationPool } from "#base/operation.ts";
import { inSyncEntry, supersedes } from "#base/record.ts";
import type { DiskNumber, SliceRecord } from "#base/record.ts";
import { Status } from "#base/status.ts";
import { PeerVerb, VerbKind } from "#base/verbs.ts";
import { STAMP_CURRENT } from "./applier.ts";
import type { Applier } from "./applier.ts";
import { CREDIT_EXTENTS } from "./credit.ts";
import { FLAG_DIGEST, FLAG_STORED, digestBytes, putDigests, putStored } from "./digest.ts";
import { DOUBTS_PER_GRANT, entryOfDoubt } from "./doubt.ts";
import type { DoubtedRange } from "./doubt.ts";
import type { Origins } from "./origins.ts";

/** Map entries in one answer. */
const MAP_ENTRIES_MAX = 4096;
/** Sequence numbers remembered, so that a verb that comes twice is carried out once. */
const SEEN_MAX = 1024;

/** What a member asks of its slice. */
export interface MemberHost {
  readonly memory: Memory;
  readonly store: MemberStore;
  readonly pool: OperationPool;
  readonly applier: Applier;
  readonly origins: Origins;
  nowMs(): number;
  send(verb: PeerVerb): boolean;
  /** The newest committed record known here. */
  record(): SliceRecord | null;
  /** A record that a head attaches with, hence committed. */
  learned(record: SliceRecord): void;
  /**
   * R4: false from the moment this member proposes itself until that is decided; or a failed disk.
   */
  mayGrant(): boolean;
}

interface Session {
  readonly head: DiskNumber;
  readonly lineage: number;
  readonly epoch: number;
  /** The attach's sequence number. */
  readonly floor: number;
  readonly seen: Float64Array;
}

export class Member {
  readonly #host: MemberHost;
  #session: Session | null = null;
  /** The newest attach not answered yet. */
  #attaching: PeerVerb | null = null;
  /** The sequence number of the last write per region in this session. */
  readonly #written = new Map<number, number>();
  /** What a scrub of the disk doubts, for the head (R9): goes with the next grant. */
  readonly #doubts = new Map<number, MapEntry>();
  /** When the head of the session was last heard. */
  lastHeardMs: number;
  /** R4: when a grant was given last, to whomever. A fresh run may have given one just before. */
  lastGrantMs: number;
  /** The head of this epoch will not answer reads again. */
  releasedEpoch = 0;
  releasedLineage = 0;

  constructor(host: MemberHost) {
    this.#host = host;
    this.lastHeardMs = host.nowMs();
    this.lastGrantMs = host.nowMs();
  }

  /** The epoch in which a head has attached us, or 0. */
  get sessionEpoch(): number {
    return this.#session?.epoch ?? 0;
  }
  get attaching(): boolean {
    return this.#attaching !== null;
  }

  /** This disk is head now, or its record's epoch is past: nobody's orders count. */
  close(): void {
    this.#session = null;
    this.#attaching = null;
    this.#written.clear();
  }

  /** A verb of a head. Payload that is not taken is released by the caller. */
  receive(verb: PeerVerb): void {
    if (verb.kind === VerbKind.attach) return this.#attach(verb);
    const session = this.#session;
    const isOfSession =
      session !== null &&
      verb.fromDisk === session.head &&
      verb.epoch === session.epoch &&
      verb.lineage === session.lineage &&
      this.#isCurrent(session);
    if (!isOfSession) return this.#refuse(verb);
    if (verb.sequence < session.floor) return;
    const slot = verb.sequence % SEEN_MAX;
    if (session.seen[slot] === verb.sequence) return;
    session.seen[slot] = verb.sequence;
    this.lastHeardMs = this.#host.nowMs();
    this.#carryOut(verb);
  }

  /** R9: wrong blocks that only the head may put right. */
  doubted(range: DoubtedRange): void {
    const entry = entryOfDoubt(range);
    if (this.#doubts.size < DOUBTS_PER_GRANT) this.#doubts.set(entry.extent, entry);
  }

  /** The link to a head went away: what it asked may be asked again, in a new session. */
  linkDown(disk: DiskNumber): void {
    if (this.#attaching?.fromDisk === disk) this.#attaching = null;
  }

  /** A newer record with the same head keeps the session until that head attaches anew. */
  #isCurrent(session: Session): boolean {
    const record = this.#host.record();
    return record === null || (record.head === session.head && record.lineage === session.lineage);
  }

  #refuse(verb: PeerVerb): void {
    switch (verb.kind) {
      case VerbKind.deactivate:
      case VerbKind.release:
        return;
      case VerbKind.beacon:
        this.#tellStale(verb);
        return;
      default:
        this.#answer(verb, VerbKind.done, Status.staleEpoch);
    }
  }

  /** A head that does not know it was deposed learns it from whoever does. */
  #tellStale(verb: PeerVerb): void {
    const record = this.#host.record();
    if (record === null || (record.epoch <= verb.epoch && record.lineage === verb.lineage)) return;
    const answer = this.#make(verb, VerbKind.state, Status.staleEpoch);
    answer.record = record;
    answer.incarnation = this.#host.store.incarnation;
    answer.stamp = this.#host.store.bootIncarnation ?? answer.incarnation;
    this.#host.send(answer);
  }

  // Attach.

  #attach(verb: PeerVerb): void {
    const { store } = this.#host;
    const { record } = verb;
    if (record === null || record.head !== verb.fromDisk || record.head === store.disk) return;
    const known = this.#host.record();
    const isKnown =
      known !== null && known.lineage === record.lineage && known.epoch === record.epoch;
    if (known !== null && !isKnown && !supersedes(record, known)) {
      return this.#answerAttach(verb, Status.staleEpoch, known);
    }
    const session = this.#session;
    const isSame = session?.epoch === record.epoch && session.lineage === record.lineage;
    if (isSame && verb.sequence <= session.floor) return;
    if (this.#attaching !== null && this.#attaching.sequence >= verb.sequence && isKnown) {
      if (this.#attaching.epoch === record.epoch) return;
    }
    this.#host.learned(record);
    const named = inSyncEntry(record, store.disk);
    if (named !== undefined && named.incarnation !== store.incarnation) {
      return this.#answerAttach(verb, Status.invalid, null); // R0
    }
    if (named === undefined && !record.resyncing.includes(store.disk)) {
      return this.#answerAttach(verb, Status.invalid, null);
    }
    this.#session = null;
    this.#attaching = verb;
    this.lastHeardMs = this.#host.nowMs();
    const wasIn = store.record !== null && inSyncEntry(store.record, store.disk) !== undefined;
    this.#host.applier.storeRecord(record, (status) => {
      if (this.#attaching !== verb) return;
      this.#attaching = null;
      if (status !== Status.ok) return this.#answerAttach(verb, status, null);
      if (named !== undefined && !wasIn) {
        this.#host.origins.letIn((verb.entries ?? []).map((entry) => entry.stamp));
      }
      this.#open(verb, record);
    });
  }

  #open(verb: PeerVerb, record: SliceRecord): void {
    this.#written.clear();
    this.#session = {
      head: record.head,
      lineage: record.lineage,
      epoch: record.epoch,
      floor: verb.sequence,
      seen: new Float64Array(SEEN_MAX),
    };
    this.lastHeardMs = this.#host.nowMs();
    this.#answerAttach(verb, Status.ok, null);
  }

  #answerAttach(verb: PeerVerb, status: Status, record: SliceRecord | null): void {
    const { store } = this.#host;
    const answer = this.#make(verb, VerbKind.attached, status);
    answer.record = record ?? store.record;
    answer.incarnation = store.incarnation;
    answer.syncedEpoch = store.syncedEpoch;
    answer.syncedLineage = store.syncedLineage;
    answer.regions = store.activeRegions();
    answer.credit = store.reserve(CREDIT_EXTENTS);
    this.#host.send(answer);
  }

  // Orders.

  #carryOut(verb: PeerVerb): void {
    switch (verb.kind) {
      case VerbKind.write:
      case VerbKind.trim:
      case VerbKind.writeZeroes:
        this.#change(verb);
        return;
      case VerbKind.flush:
        this.#flush(verb);
        return;
      case VerbKind.deactivate:
        this.#deactivate(verb);
        return;
      case VerbKind.read:
        this.#read(verb);
        return;
      case VerbKind.mapRead:
        this.#map(verb);
        return;
      case VerbKind.beacon:
        this.#grant(verb);
        return;
      case VerbKind.release:
        this.releasedEpoch = verb.epoch;
        this.releasedLineage = verb.lineage;
        return;
      default:
    }
  }

  #change(verb: PeerVerb): void {
    if (verb.kind === VerbKind.trim && (verb.flags & FLAG_LOST) !== 0) return this.#lose(verb);
    const isWrite = verb.kind === VerbKind.write;
    const isSound =
      this.#isRange(verb, isWrite ? TRANSFER_BYTES_MAX : this.#host.store.sizeBytes) &&
      (!isWrite || verb.payloadBytes === verb.lengthBytes);
    if (!isSound) return this.#answer(verb, VerbKind.done, Status.invalid);
    const { bufferOffset, offsetBytes, lengthBytes, origin } = verb;
    verb.bufferOffset = NO_BUFFER; // Ours until it is applied.
    this.#noteWritten(verb, offsetBytes, lengthBytes);
    const change = {
      kind: changeKind(verb.kind),
      offsetBytes,
      lengthBytes,
      flags: verb.flags & (FLAG_FUA | FLAG_NO_HOLE),
      bufferOffset,
      stamp: (verb.flags & FLAG_KEEP_STAMP) === 0 ? STAMP_CURRENT : verb.stamp,
    };
    // H7: only a host's change has a name; this is the head's copy of what it holds.
    if (origin === 0) this.#host.origins.copied(offsetBytes, lengthBytes);
    this.#host.applier.apply(change, NEVER_ENDED, (status, fault) => {
      if (bufferOffset !== NO_BUFFER) this.#host.memory.release(bufferOffset);
      if (status === Status.ok) {
        this.#host.origins.applied(origin, offsetBytes, lengthBytes, this.#host.nowMs());
        const mends = (verb.flags & FLAG_MENDS) !== 0;
        if (mends) this.#host.store.noteIncident(Incident.healed, offsetBytes);
      }
      const answer = this.#make(verb, VerbKind.done, status);
      if (fault >= 0) answer.offsetBytes = fault;
      this.#host.send(answer);
    });
  }

  #noteWritten({ sequence }: PeerVerb, offsetBytes: number, lengthBytes: number): void {
    const first = Math.floor(offsetBytes / REGION_BYTES);
    const last = Math.floor((offsetBytes + lengthBytes - 1) / REGION_BYTES);
    for (let region = first; region <= last; region++) {
      const before = this.#written.get(region) ?? 0;
      this.#written.set(region, Math.max(before, sequence));
    }
  }

  /** H8: blocks of one extent that nobody can read are to read as damaged here as well. */
  #lose(verb: PeerVerb): void {
    const { offsetBytes, stamp } = verb;
    const blocks = verb.regions ?? [];
    const isSound =
      offsetBytes % EXTENT_BYTES === 0 &&
      offsetBytes + EXTENT_BYTES <= this.#host.store.sizeBytes &&
      blocks.length > 0 &&
      blocks.every((block) => block < BLOCKS_PER_EXTENT);
    if (!isSound) return this.#answer(verb, VerbKind.done, Status.invalid);
    this.#noteWritten(verb, offsetBytes, EXTENT_BYTES);
    this.#host.origins.copied(offsetBytes, EXTENT_BYTES);
    const left = [...blocks];
    const next = (status: Status) => {
      const block = left.shift();
      if (status !== Status.ok || block === undefined) {
        return this.#answer(verb, VerbKind.done, status);
      }
      const change = {
        kind: OperationKind.write,
        offsetBytes: offsetBytes + block * BLOCK_BYTES,
        lengthBytes: BLOCK_BYTES,
        flags: FLAG_LOST,
        bufferOffset: NO_BUFFER,
        stamp,
      };
      this.#host.applier.apply(change, NEVER_ENDED, next);
    };
    next(Status.ok);
  }

  #flush(verb: PeerVerb): void {
    const operation = this.#host.pool.take();
    operation.kind = OperationKind.flush;
    operation.offsetBytes = 0;
    operation.lengthBytes = 0;
    operation.done = (ended) => {
      const { status } = ended;
      this.#host.pool.give(ended);
      this.#answer(verb, VerbKind.done, status);
    };
    this.#host.applier.submit(operation);
  }

  /** R6: not what was written since, nor what is being written. */
  #deactivate(verb: PeerVerb): void {
    const regions = (verb.regions ?? []).filter((region) => {
      if (this.#host.applier.uses(region)) return false;
      return (this.#written.get(region) ?? 0) < verb.sequence;
    });
    for (const region of regions) this.#written.delete(region);
    if (regions.length > 0) this.#host.store.deactivate(regions);
  }

  #read(verb: PeerVerb): void {
    const { offsetBytes, lengthBytes } = verb;
    const wantsDigest = (verb.flags & FLAG_DIGEST) !== 0;
    if (wantsDigest && (verb.flags & FLAG_STORED) !== 0) return this.#readStored(verb);
    const isWhole = offsetBytes % BLOCK_BYTES === 0 && lengthBytes % BLOCK_BYTES === 0;
    if (!this.#isRange(verb, TRANSFER_BYTES_MAX) || (wantsDigest && !isWhole)) {
      return this.#answer(verb, VerbKind.done, Status.invalid);
    }
    const { memory, pool, applier } = this.#host;
    const bufferOffset = memory.allocate(lengthBytes);
    if (bufferOffset === NO_BUFFER) return this.#answer(verb, VerbKind.done, Status.busy);
    applier.whenClear(offsetBytes, lengthBytes, () => {
      const operation = pool.take();
      operation.kind = OperationKind.read;
      operation.offsetBytes = offsetBytes;
      operation.lengthBytes = lengthBytes;
      operation.bufferOffset = bufferOffset;
      operation.flags = verb.flags & FLAG_PAST_CACHE;
      operation.done = (ended) => {
        const { status, faultOffsetBytes } = ended;
        pool.give(ended);
        const answer = this.#make(verb, VerbKind.done, status);
        if (faultOffsetBytes >= 0) answer.offsetBytes = faultOffsetBytes;
        if (status === Status.ok) {
          answer.bufferOffset = bufferOffset;
          answer.payloadBytes = lengthBytes;
          if (wantsDigest) {
            putDigests(memory, bufferOffset, lengthBytes, bufferOffset);
            answer.payloadBytes = digestBytes(lengthBytes);
          }
          answer.sent = () => memory.release(bufferOffset);
        } else memory.release(bufferOffset);
        if (!this.#host.send(answer) && status === Status.ok) memory.release(bufferOffset);
      };
      applier.submit(operation);
    });
  }

  /** R9: what is stored of one extent's blocks, to be compared. */
  #readStored(verb: PeerVerb): void {
    const { memory, store } = this.#host;
    const { offsetBytes, lengthBytes } = verb;
    const isSound = offsetBytes % EXTENT_BYTES === 0 && lengthBytes === EXTENT_BYTES;
    if (!isSound || !this.#isRange(verb, EXTENT_BYTES)) {
      return this.#answer(verb, VerbKind.done, Status.invalid);
    }
    store.checksumsOf(Math.floor(offsetBytes / EXTENT_BYTES), (checksums) => {
      if (checksums === null) return this.#answer(verb, VerbKind.done, Status.ioError);
      const bufferOffset = memory.allocate(digestBytes(EXTENT_BYTES));
      if (bufferOffset === NO_BUFFER) return this.#answer(verb, VerbKind.done, Status.busy);
      putStored(memory, checksums, bufferOffset);
      const answer = this.#make(verb, VerbKind.done, Status.ok);
      answer.bufferOffset = bufferOffset;
      answer.payloadBytes = digestBytes(EXTENT_BYTES);
      answer.sent = () => memory.release(bufferOffset);
      if (!this.#host.send(answer)) memory.release(bufferOffset);
    });
  }

  #map(verb: PeerVerb): void {
    const { store } = this.#host;
    const from = Math.floor(verb.offsetBytes / EXTENT_BYTES);
    const answer = this.#make(verb, VerbKind.map, Status.ok);
    answer.entries = store.mapFrom(from, MAP_ENTRIES_MAX);
    answer.flags = answer.entries.length === MAP_ENTRIES_MAX ? 1 : 0;
    this.#host.send(answer);
  }

  /** R4: the promise counts from before it is sent. */
  #grant(verb: PeerVerb): void {
    if (!this.#host.mayGrant()) return;
    this.lastGrantMs = this.#host.nowMs();
    const answer = this.#make(verb, VerbKind.grant, Status.ok);
    answer.tickMs = verb.tickMs;
    if (this.#doubts.size > 0) {
      // Said again by the scrub until they are right, so that none is lost with a link.
      answer.entries = [...this.#doubts.values()].sort((a, b) => a.extent - b.extent);
      this.#doubts.clear();
    }
    this.#host.send(answer);
  }

  // Answers.

  #isRange(verb: PeerVerb, lengthMax: number): boolean {
    const { offsetBytes, lengthBytes } = verb;
    return (
      offsetBytes % SECTOR_BYTES === 0 &&
      lengthBytes % SECTOR_BYTES === 0 &&
      lengthBytes > 0 &&
      lengthBytes <= lengthMax &&
      offsetBytes + lengthBytes <= this.#host.store.sizeBytes
    );
  }

  #make(verb: PeerVerb, kind: VerbKind, status: Status): PeerVerb {
    const answer = new PeerVerb();
    answer.kind = kind;
    answer.class = TrafficClass.control;
    answer.slice = verb.slice;
    answer.fromDisk = this.#host.store.disk;
    answer.toDisk = verb.fromDisk;
    answer.sequence = verb.sequence;
    answer.epoch = verb.epoch;
    answer.lineage = verb.lineage;
    answer.status = status;
    answer.credit = this.#host.store.reserve(CREDIT_EXTENTS);
    return answer;
  }

  #answer(verb: PeerVerb, kind: VerbKind, status: Status): void {
    this.#host.send(this.#make(verb, kind, status));
  }
}

/** A member's orders start whatever becomes of their head. */
const NEVER_ENDED = { ended: false };

function changeKind(kind: VerbKind): OperationKind {
  if (kind === VerbKind.write) return OperationKind.write;
  return kind === VerbKind.trim ? OperationKind.trim : OperationKind.writeZeroes;
}
