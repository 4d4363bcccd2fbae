// SPDX-License-Identifier: Apache-2.0
//
// Which requests this member has carried out (H7): a forwarder that lost a head sends a request
// again under its first name, and it must take effect at most once. Names of one forwarder's run
// rise, from a random start in 2^52, so names close to each other come from one run ("stream").
//
// Invariants
// - What is remembered was applied here. Per stream nothing above its `low` mark was forgotten: an
//   unknown name above it was never applied by this member while it was in sync.
// - A member let in by resync takes its head's marks as low marks: it did not see what went before.
// - A copy over a range (reconciling, healing, resync) may undo what was applied there: a part of
//   which any byte lies in the range, a trim's of many extents too, is neither applied nor new from
//   then on, until it is applied again.
// - A member that restarted knows nothing. A forwarder sends all that waits as soon as it knows the
//   head, so a stream's names heard within SETTLE_MS of its first one raise its low mark.

import { FLAG_RESENT } from "#base/operation.ts";

/** Parts remembered; more than can be under way at once (R13 credit of all portals). */
const REMEMBERED_MAX = 4096;
/** Forwarders' runs remembered. */
const STREAMS_MAX = 1024;
/** Names of one run differ by less than this. */
const STREAM_SPAN = 2 ** 31;
const SETTLE_MS = 5000;

interface Stream {
  highest: number;
  low: number;
  settledMs: number;
}

export type Verdict = "new" | "applied" | "forgotten";

export class Origins {
  // Parts applied: a ring of names and places, written at every change and searched only when
  // something was sent again. Name 0: none. Made when the slice is first changed.
  #names = new Float64Array(0);
  #offsets = new Float64Array(0);
  #ends = new Float64Array(0);
  #nextPart = 0;
  /** Parts that a copy may have undone, by name, oldest first. */
  readonly #doubtful = new Map<number, number[]>();
  #streams: Stream[] = [];
  /** Whether this run has seen everything since the member exists or was let in. */
  #whole: boolean;
  /** A stream had to be given up: no unknown name can be called new. */
  #overflowed = false;

  constructor(whole: boolean) {
    this.#whole = whole;
  }

  /** A part of request `origin`, so many bytes at `offsetBytes`, is in the store. */
  applied(origin: number, offsetBytes: number, lengthBytes: number, nowMs: number): void {
    if (origin === 0) return;
    this.#heard(origin, nowMs);
    if (this.#names.length === 0) {
      this.#names = new Float64Array(REMEMBERED_MAX);
      this.#offsets = new Float64Array(REMEMBERED_MAX);
      this.#ends = new Float64Array(REMEMBERED_MAX);
    }
    const at = this.#nextPart;
    this.#nextPart = (at + 1) % REMEMBERED_MAX;
    const oldest = this.#names[at] as number;
    if (oldest !== 0) {
      const stream = this.#streamOf(oldest);
      if (stream !== null) stream.low = Math.max(stream.low, oldest);
    }
    this.#names[at] = origin;
    this.#offsets[at] = offsetBytes;
    this.#ends[at] = offsetBytes + lengthBytes;
  }

  /** Another member's bytes replace what is in this range, whatever was applied to it. */
  copied(offsetBytes: number, lengthBytes: number): void {
    const end = offsetBytes + lengthBytes;
    for (let at = 0; at < this.#names.length; at++) {
      const origin = this.#names[at] as number;
      const offset = this.#offsets[at] as number;
      if (origin === 0 || offset >= end || (this.#ends[at] as number) <= offsetBytes) continue;
      this.#names[at] = 0;
      const doubtful = this.#doubtful.get(origin);
      if (doubtful === undefined) this.#doubtful.set(origin, [offset]);
      else if (!doubtful.includes(offset)) doubtful.push(offset);
    }
    for (const oldest of this.#doubtful.keys()) {
      if (this.#doubtful.size <= REMEMBERED_MAX) break;
      this.#doubtful.delete(oldest);
      const stream = this.#streamOf(oldest);
      if (stream !== null) stream.low = Math.max(stream.low, oldest);
    }
  }

  /** What to do with a part of a request that a host or a forwarder submits. */
  judge(origin: number, flags: number, offsetBytes: number, nowMs: number): Verdict {
    if (origin === 0) return "new";
    const stream = this.#heard(origin, nowMs);
    if ((flags & FLAG_RESENT) === 0) return "new";
    if (this.#isApplied(origin, offsetBytes)) return "applied";
    if (this.#doubtful.get(origin)?.includes(offsetBytes)) return "forgotten";
    if (this.#overflowed) return "forgotten";
    return origin > stream.low ? "new" : "forgotten";
  }

  /** The highest name heard of each stream: what a member let in now has not seen. */
  marks(): number[] {
    return this.#streams.map((stream) => stream.highest);
  }

  /** R7: let in by resync: what the head had heard until now may be in the copy. */
  letIn(marks: readonly number[]): void {
    this.#whole = true;
    for (const mark of marks) {
      const stream = this.#streamOf(mark) ?? this.#open(mark, Number.NEGATIVE_INFINITY);
      stream.highest = Math.max(stream.highest, mark);
      stream.low = Math.max(stream.low, mark);
    }
  }

  #isApplied(origin: number, offsetBytes: number): boolean {
    for (let at = this.#names.indexOf(origin); at >= 0; at = this.#names.indexOf(origin, at + 1)) {
      if (this.#offsets[at] === offsetBytes) return true;
    }
    return false;
  }

  #heard(origin: number, nowMs: number): Stream {
    const settledMs = this.#whole ? Number.NEGATIVE_INFINITY : nowMs + SETTLE_MS;
    const stream = this.#streamOf(origin) ?? this.#open(origin, settledMs);
    stream.highest = Math.max(stream.highest, origin);
    if (nowMs < stream.settledMs) stream.low = Math.max(stream.low, origin);
    return stream;
  }

  #open(origin: number, settledMs: number): Stream {
    const stream = { highest: origin, low: Number.NEGATIVE_INFINITY, settledMs };
    this.#streams.push(stream);
    if (this.#streams.length > STREAMS_MAX) {
      this.#streams.shift();
      this.#overflowed = true;
    }
    return stream;
  }

  #streamOf(origin: number): Stream | null {
    for (let index = this.#streams.length - 1; index >= 0; index--) {
      const stream = this.#streams[index];
      if (stream !== undefined && Math.abs(stream.highest - origin) < STREAM_SPAN) return stream;
    }
    return null;
  }
}
