// SPDX-License-Identifier: Apache-2.0
//
// Peer verbs to bytes and back; no I/O. A sender writes header and body with `encodeHead` and sends
// the payload from its own buffer behind it, uncopied; a receiver feeds what the channel decrypted
// to a VerbDecoder, at whatever borders it came. `encodeVerb` and `decodeVerb` do a whole message
// at once (the simulator's links).
//
// Invariants: no length or count from outside sizes anything before it met its limit in
// peer.wire.ts; a payload lies in a buffer of the receiver's Memory that belongs to the receiver of
// the verb, or to the decoder until the verb is complete; a malformed message yields a reason and
// nothing after it is read, since the place in the stream is lost. What is wrong to encode is our
// own bug: asserted.

import { assert } from "#base/assert.ts";
import type { MapEntry } from "#base/member-store.ts";
import type { Memory } from "#base/memory.ts";
import { NO_BUFFER } from "#base/memory.ts";
import type { StatusRun, TrafficClass } from "#base/operation.ts";
import { OperationKind } from "#base/operation.ts";
import type { SliceRecord } from "#base/record.ts";
import { statusOf } from "#base/status.ts";
import { PeerVerb, VerbKind } from "#base/verbs.ts";
import type { View } from "#base/wire.ts";
import {
  ANCESTRY_MAX,
  BODY_BYTES_MAX,
  ENTRIES_MAX,
  ENTRY,
  EXTENT_COUNT_MAX,
  HEADER,
  LINEAGE,
  LISTS_ALL,
  LIST_ENTRIES,
  LIST_RECORD,
  LIST_REGIONS,
  LIST_RUNS,
  MEMBER,
  NUMBER,
  PAYLOAD_BYTES_MAX,
  PEER_MAGIC,
  PEER_VERSION,
  RECORD,
  RECORD_MEMBERS_MAX,
  REGION_COUNT_MAX,
  RUN,
  RUNS_MAX,
} from "./peer.wire.ts";

/** The receiver's Memory has no buffer for the payload: wait and decode again, nothing is wrong. */
export const NO_MEMORY = "no memory for the payload";

const LISTS_NEEDED = new Map<number, number>([
  [VerbKind.attach, LIST_RECORD],
  [VerbKind.deactivate, LIST_REGIONS],
  [VerbKind.map, LIST_ENTRIES],
]);
const KINDS = new Set<number>(Object.values(VerbKind));
const OPERATIONS = new Set<number>(Object.values(OperationKind));

// One view of each structure, moved to where it is needed; nothing here runs twice at once.
const header = HEADER.view();
const recordView = RECORD.view();
const memberView = MEMBER.view();
const entryView = ENTRY.view();
const runView = RUN.view();
const numberView = NUMBER.view();
const lineageView = LINEAGE.view();

// Sizes

function recordBytes(record: SliceRecord): number {
  const members = record.inSync.length * MEMBER.size + record.resyncing.length * NUMBER.size;
  return RECORD.size + members + record.ancestry.length * LINEAGE.size;
}

/** Bytes of a verb's lists. */
export function bodyBytes(verb: PeerVerb): number {
  let size = 0;
  if (verb.record !== null) size += recordBytes(verb.record);
  if (verb.regions !== null) size += NUMBER.size * (1 + verb.regions.length);
  if (verb.entries !== null) size += NUMBER.size + ENTRY.size * verb.entries.length;
  if (verb.runs !== null) size += NUMBER.size + RUN.size * verb.runs.length;
  return size;
}

/** Bytes `encodeHead` writes: header and lists, without the payload. */
export function headBytes(verb: PeerVerb): number {
  return HEADER.size + bodyBytes(verb);
}

// Encoding

/** Writes header and lists at `at` in `target`; the answer is where they end. */
export function encodeHead(verb: PeerVerb, target: Uint8Array, at: number): number {
  const size = bodyBytes(verb);
  assert(size <= BODY_BYTES_MAX, "the lists of a verb fit its body");
  assert(verb.payloadBytes <= PAYLOAD_BYTES_MAX, "the payload of a verb is bounded");
  assert(verb.payloadBytes > 0 === (verb.bufferOffset !== NO_BUFFER), "a payload has a buffer");
  header.at(target, at).clear();
  header.magic = PEER_MAGIC;
  header.version = PEER_VERSION;
  header.kind = verb.kind;
  header.flags = verb.flags;
  header.status = verb.status;
  header.operation = verb.operation;
  header.class = verb.class;
  header.lists = listsOf(verb);
  header.bodyBytes = size;
  header.payloadBytes = verb.payloadBytes;
  header.slice = verb.slice;
  header.fromDisk = verb.fromDisk;
  header.toDisk = verb.toDisk;
  header.sequence = verb.sequence;
  header.epoch = verb.epoch;
  header.lineage = verb.lineage;
  header.offsetBytes = verb.offsetBytes;
  header.lengthBytes = verb.lengthBytes;
  header.stamp = verb.stamp;
  header.tickMs = verb.tickMs;
  header.origin = verb.origin;
  header.credit = verb.credit;
  header.incarnation = verb.incarnation;
  header.syncedEpoch = verb.syncedEpoch;
  header.syncedLineage = verb.syncedLineage;
  // The same rules as the receiver's: what it would refuse must not leave here.
  const reason = invalid(header);
  assert(reason === null, `a verb to send is well formed: ${reason}`);
  const end = encodeLists(verb, target, at + HEADER.size);
  assert(end === at + HEADER.size + size, "the lists are as long as announced");
  return end;
}

function listsOf(verb: PeerVerb): number {
  return (
    (verb.record === null ? 0 : LIST_RECORD) |
    (verb.regions === null ? 0 : LIST_REGIONS) |
    (verb.entries === null ? 0 : LIST_ENTRIES) |
    (verb.runs === null ? 0 : LIST_RUNS)
  );
}

function encodeLists(verb: PeerVerb, target: Uint8Array, start: number): number {
  let at = start;
  if (verb.record !== null) at = encodeRecord(verb.record, target, at);
  if (verb.regions !== null) {
    assert(verb.regions.length <= REGION_COUNT_MAX, "regions of a verb are bounded");
    at = encodeNumber(verb.regions.length, target, at);
    for (const region of verb.regions) at = encodeNumber(region, target, at);
  }
  if (verb.entries !== null) {
    assert(verb.entries.length <= ENTRIES_MAX, "entries of a verb are bounded");
    at = encodeNumber(verb.entries.length, target, at);
    let last = -1;
    for (const entry of verb.entries) {
      assert(entry.extent > last, "map entries ascend");
      last = entry.extent;
      entryView.at(target, at);
      entryView.extent = entry.extent;
      entryView.stamp = entry.stamp;
      at += ENTRY.size;
    }
  }
  if (verb.runs !== null) {
    assert(verb.runs.length <= RUNS_MAX, "runs of a verb are bounded");
    at = encodeNumber(verb.runs.length, target, at);
    for (const run of verb.runs) {
      runView.at(target, at).clear();
      runView.lengthBytes = run.lengthBytes;
      runView.allocated = run.allocated ? 1 : 0;
      at += RUN.size;
    }
  }
  return at;
}

function encodeNumber(value: number, target: Uint8Array, at: number): number {
  numberView.at(target, at).value = value;
  return at + NUMBER.size;
}

function encodeRecord(record: SliceRecord, target: Uint8Array, start: number): number {
  assert(record.inSync.length <= RECORD_MEMBERS_MAX, "in-sync members are bounded");
  assert(record.resyncing.length <= RECORD_MEMBERS_MAX, "resyncing members are bounded");
  assert(record.ancestry.length <= ANCESTRY_MAX, "the ancestry is bounded");
  recordView.at(target, start).clear();
  recordView.slice = record.slice;
  recordView.volume = record.volume;
  recordView.index = record.index;
  recordView.head = record.head;
  recordView.sizeBytes = record.sizeBytes;
  recordView.lineage = record.lineage;
  recordView.epoch = record.epoch;
  recordView.copies = record.copies;
  recordView.inSyncCount = record.inSync.length;
  recordView.resyncingCount = record.resyncing.length;
  recordView.ancestryCount = record.ancestry.length;
  let at = start + RECORD.size;
  for (const member of record.inSync) {
    memberView.at(target, at);
    memberView.disk = member.disk;
    memberView.incarnation = member.incarnation;
    at += MEMBER.size;
  }
  for (const disk of record.resyncing) at = encodeNumber(disk, target, at);
  for (const lineage of record.ancestry) {
    lineageView.at(target, at).value = lineage;
    at += LINEAGE.size;
  }
  return at;
}

/** A whole message in bytes of its own, the payload copied from `memory`. */
export function encodeVerb(verb: PeerVerb, memory: Memory): Uint8Array {
  const head = headBytes(verb);
  const message = new Uint8Array(head + verb.payloadBytes);
  encodeHead(verb, message, 0);
  if (verb.payloadBytes > 0) {
    const from = verb.bufferOffset;
    message.set(memory.bytes.subarray(from, from + verb.payloadBytes), head);
  }
  return message;
}

// Decoding

/** Why a header is malformed, or null. */
function invalid(view: View<typeof HEADER.rows>): string | null {
  if (view.magic !== PEER_MAGIC) return "not a peer verb";
  if (view.version !== PEER_VERSION) return "another version of the peer protocol";
  if (!KINDS.has(view.kind)) return "unknown verb";
  if (!view.reservedIsZero()) return "reserved bytes are not zero";
  if (view.bodyBytes > BODY_BYTES_MAX) return "body too long";
  if (view.payloadBytes > PAYLOAD_BYTES_MAX) return "payload too long";
  if (view.lists > LISTS_ALL) return "unknown list";
  if (view.lists === 0 && view.bodyBytes > 0) return "body without a list";
  const needed = LISTS_NEEDED.get(view.kind) ?? 0;
  if ((view.lists & needed) !== needed) return "a list the verb needs is missing";
  if (view.class > 3) return "unknown class";
  if (view.kind === VerbKind.forward ? !OPERATIONS.has(view.operation) : view.operation !== 0) {
    return "unknown operation";
  }
  if (!(view.tickMs >= 0 && view.tickMs <= Number.MAX_SAFE_INTEGER)) return "tick out of range";
  return numbersInvalid(view) ?? payloadInvalid(view);
}

function numbersInvalid(view: View<typeof HEADER.rows>): string | null {
  // u64 reads what a number cannot hold as Infinity.
  const sum =
    view.sequence +
    view.epoch +
    view.lineage +
    view.stamp +
    view.origin +
    view.incarnation +
    view.syncedEpoch +
    view.syncedLineage;
  if (!Number.isFinite(sum)) return "number out of range";
  if (!(view.offsetBytes + view.lengthBytes <= Number.MAX_SAFE_INTEGER)) return "range too large";
  return null;
}

/** A verb that writes carries exactly what it writes; one that cannot carry data carries none. */
function payloadInvalid(view: View<typeof HEADER.rows>): string | null {
  const { kind, payloadBytes } = view;
  const writes =
    kind === VerbKind.write ||
    (kind === VerbKind.forward && view.operation === OperationKind.write);
  if (writes) {
    return payloadBytes > 0 && payloadBytes === view.lengthBytes
      ? null
      : "payload is not the range";
  }
  if (payloadBytes === 0 || kind === VerbKind.done || kind === VerbKind.forwarded) return null;
  return "payload where none belongs";
}

function verbOf(view: View<typeof HEADER.rows>): PeerVerb {
  const verb = new PeerVerb();
  verb.kind = view.kind as VerbKind;
  verb.slice = view.slice;
  verb.fromDisk = view.fromDisk;
  verb.toDisk = view.toDisk;
  verb.sequence = view.sequence;
  verb.epoch = view.epoch;
  verb.lineage = view.lineage;
  verb.class = view.class as TrafficClass;
  verb.flags = view.flags;
  verb.status = statusOf(view.status);
  verb.operation = view.operation;
  verb.offsetBytes = view.offsetBytes;
  verb.lengthBytes = view.lengthBytes;
  verb.stamp = view.stamp;
  verb.tickMs = view.tickMs;
  verb.origin = view.origin;
  verb.credit = view.credit;
  verb.incarnation = view.incarnation;
  verb.syncedEpoch = view.syncedEpoch;
  verb.syncedLineage = view.syncedLineage;
  verb.payloadBytes = view.payloadBytes;
  return verb;
}

/** Reads the lists of one body; `reason` says what was wrong with it. */
class BodyReader {
  reason: string | null = null;
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  #end = 0;

  read(verb: PeerVerb, lists: number, bytes: Uint8Array, start: number, length: number): void {
    this.reason = null;
    this.#bytes = bytes;
    this.#at = start;
    this.#end = start + length;
    if (lists & LIST_RECORD) verb.record = this.#record();
    if (lists & LIST_REGIONS) verb.regions = this.#regions();
    if (lists & LIST_ENTRIES) verb.entries = this.#entries();
    if (lists & LIST_RUNS) verb.runs = this.#runs();
    if (this.#at !== this.#end) this.#fail("body longer than its lists");
  }

  #fail(reason: string): void {
    this.reason ??= reason;
  }

  /** Whether `count` elements of `made` lie within what is left, and `count` within its limit. */
  #room(made: { name: string; size: number }, count: number, limit: number): boolean {
    if (count > limit) this.#fail(`too many: ${made.name}`);
    else if (this.#at + count * made.size > this.#end) this.#fail(`cut short: ${made.name}`);
    return this.reason === null;
  }

  #number(): number {
    const { value } = numberView.at(this.#bytes, this.#at);
    this.#at += NUMBER.size;
    return value;
  }

  #count(): number {
    return this.#room(NUMBER, 1, 1) ? this.#number() : 0;
  }

  #regions(): number[] {
    const regions: number[] = [];
    const count = this.#count();
    if (!this.#room(NUMBER, count, REGION_COUNT_MAX)) return regions;
    for (let left = count; left > 0; left--) {
      const region = this.#number();
      if (region >= REGION_COUNT_MAX) this.#fail("region out of range");
      regions.push(region);
    }
    return regions;
  }

  #entries(): MapEntry[] {
    const entries: MapEntry[] = [];
    const count = this.#count();
    if (!this.#room(ENTRY, count, ENTRIES_MAX)) return entries;
    let last = -1;
    for (let left = count; left > 0; left--) {
      const { extent, stamp } = entryView.at(this.#bytes, this.#at);
      if (extent >= EXTENT_COUNT_MAX || !Number.isFinite(stamp)) this.#fail("entry out of range");
      if (extent <= last) this.#fail("entries do not ascend");
      last = extent;
      entries.push({ extent, stamp });
      this.#at += ENTRY.size;
    }
    return entries;
  }

  #runs(): StatusRun[] {
    const runs: StatusRun[] = [];
    const count = this.#count();
    if (!this.#room(RUN, count, RUNS_MAX)) return runs;
    for (let left = count; left > 0; left--) {
      const { lengthBytes, allocated } = runView.at(this.#bytes, this.#at);
      if (lengthBytes === 0 || !Number.isFinite(lengthBytes)) this.#fail("run out of range");
      if (allocated > 1 || !runView.reservedIsZero()) this.#fail("run malformed");
      runs.push({ lengthBytes, allocated: allocated === 1 });
      this.#at += RUN.size;
    }
    return runs;
  }

  #record(): SliceRecord | null {
    if (!this.#room(RECORD, 1, 1)) return null;
    const view = recordView.at(this.#bytes, this.#at);
    this.#at += RECORD.size;
    if (!view.reservedIsZero()) this.#fail("record malformed");
    if (!Number.isFinite(view.sizeBytes + view.lineage + view.epoch)) {
      this.#fail("record out of range");
    }
    const record: SliceRecord = {
      slice: view.slice,
      volume: view.volume,
      index: view.index,
      sizeBytes: view.sizeBytes,
      copies: view.copies,
      lineage: view.lineage,
      ancestry: [],
      epoch: view.epoch,
      head: view.head,
      inSync: [],
      resyncing: [],
    };
    const { inSyncCount, resyncingCount, ancestryCount } = view;
    if (!this.#room(MEMBER, inSyncCount, RECORD_MEMBERS_MAX)) return null;
    for (let left = inSyncCount; left > 0; left--) {
      const { disk, incarnation } = memberView.at(this.#bytes, this.#at);
      if (!Number.isFinite(incarnation)) this.#fail("record out of range");
      record.inSync.push({ disk, incarnation });
      this.#at += MEMBER.size;
    }
    if (!this.#room(NUMBER, resyncingCount, RECORD_MEMBERS_MAX)) return null;
    for (let left = resyncingCount; left > 0; left--) record.resyncing.push(this.#number());
    if (!this.#room(LINEAGE, ancestryCount, ANCESTRY_MAX)) return null;
    for (let left = ancestryCount; left > 0; left--) {
      const { value } = lineageView.at(this.#bytes, this.#at);
      if (!Number.isFinite(value)) this.#fail("record out of range");
      record.ancestry.push(value);
      this.#at += LINEAGE.size;
    }
    return record;
  }
}

const body = new BodyReader();

/**
 * Verbs out of a stream. `feed` takes what it can and answers how many bytes that were: all of
 * them, unless no buffer was free for a payload (`waiting`; feed the rest again later:
 * back-pressure, R13), or the stream is malformed (`failure` says how; the link must be closed).
 */
export class VerbDecoder {
  /** Why the stream is malformed; null while it is not. */
  failure: string | null = null;
  /** No buffer was free for the payload that comes next. */
  waiting = false;
  readonly #memory: Memory;
  readonly #take: (verb: PeerVerb) => void;
  /** Header and lists so far; grows to the longest head seen, at most HEADER and BODY_BYTES_MAX. */
  #head = new Uint8Array(HEADER.size + 512);
  #headHave = 0;
  #headNeed: number = HEADER.size;
  /** The verb whose payload is being received. */
  #verb: PeerVerb | null = null;
  #payloadHave = 0;
  #ended = false;

  /** `take` owns each verb and its payload's buffer. It may call `end`. */
  constructor(memory: Memory, take: (verb: PeerVerb) => void) {
    this.#memory = memory;
    this.#take = take;
  }

  feed(bytes: Uint8Array, start = 0, length: number = bytes.length - start): number {
    const end = start + length;
    let at = start;
    this.waiting = false;
    while (at < end && this.failure === null && !this.waiting && !this.#ended) {
      at +=
        this.#verb === null ? this.#feedHead(bytes, at, end) : this.#feedPayload(bytes, at, end);
    }
    return at - start;
  }

  /** The link is gone: a payload received in part is given back, later bytes are ignored. */
  end(): void {
    this.#ended = true;
    if (this.#verb !== null && this.#verb.bufferOffset !== NO_BUFFER) {
      this.#memory.release(this.#verb.bufferOffset);
    }
    this.#verb = null;
  }

  #feedHead(bytes: Uint8Array, at: number, end: number): number {
    const took = Math.min(this.#headNeed - this.#headHave, end - at);
    this.#head.set(bytes.subarray(at, at + took), this.#headHave);
    this.#headHave += took;
    if (this.#headHave < this.#headNeed) return took;
    const view = header.at(this.#head, 0);
    if (this.#headNeed === HEADER.size) {
      this.failure = invalid(view);
      if (this.failure !== null) return took;
      this.#headNeed += view.bodyBytes;
      if (view.bodyBytes > 0) {
        this.#growHead();
        return took;
      }
    }
    const verb = verbOf(view);
    body.read(verb, view.lists, this.#head, HEADER.size, view.bodyBytes);
    this.failure = body.reason;
    if (this.failure !== null) return took;
    this.#verb = verb;
    this.#payloadHave = 0;
    this.#headHave = 0;
    this.#headNeed = HEADER.size;
    if (verb.payloadBytes === 0) this.#give(verb);
    return took;
  }

  #growHead(): void {
    if (this.#headNeed <= this.#head.length) return;
    const grown = new Uint8Array(this.#headNeed);
    grown.set(this.#head.subarray(0, this.#headHave));
    this.#head = grown;
  }

  #feedPayload(bytes: Uint8Array, at: number, end: number): number {
    const verb = this.#verb as PeerVerb;
    if (verb.bufferOffset === NO_BUFFER) {
      verb.bufferOffset = this.#memory.allocate(verb.payloadBytes);
      this.waiting = verb.bufferOffset === NO_BUFFER;
      if (this.waiting) return 0;
    }
    const took = Math.min(verb.payloadBytes - this.#payloadHave, end - at);
    this.#memory.bytes.set(bytes.subarray(at, at + took), verb.bufferOffset + this.#payloadHave);
    this.#payloadHave += took;
    if (this.#payloadHave === verb.payloadBytes) this.#give(verb);
    return took;
  }

  #give(verb: PeerVerb): void {
    this.#verb = null;
    this.#take(verb);
  }
}

/**
 * What `encodeHead` wrote at `at`: the verb, its payload still to be given a buffer; or why not.
 */
export function decodeHead(bytes: Uint8Array, at: number, lengthBytes: number): PeerVerb | string {
  if (lengthBytes < HEADER.size) return "message cut short";
  const view = header.at(bytes, at);
  const reason = invalid(view);
  if (reason !== null) return reason;
  const size = view.bodyBytes;
  if (HEADER.size + size !== lengthBytes) return "a head of another length";
  const verb = verbOf(view);
  body.read(verb, view.lists, bytes, at + HEADER.size, size);
  return body.reason ?? verb;
}

/** One whole message: the verb, its payload in a fresh buffer of `memory`; or why not. */
export function decodeVerb(message: Uint8Array, memory: Memory): PeerVerb | string {
  let decoded: PeerVerb | null = null;
  const decoder = new VerbDecoder(memory, (verb) => {
    decoded = verb;
    decoder.end();
  });
  const took = decoder.feed(message);
  // The callback's assignment is out of the type checker's sight.
  const verb = decoded as PeerVerb | null;
  if (verb !== null && took === message.length) return verb;
  if (verb !== null && verb.bufferOffset !== NO_BUFFER) memory.release(verb.bufferOffset);
  decoder.end();
  if (decoder.failure !== null) return decoder.failure;
  if (decoder.waiting) return NO_MEMORY;
  return verb === null ? "message cut short" : "bytes after the message";
}
