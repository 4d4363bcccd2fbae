// SPDX-License-Identifier: Apache-2.0
//
// Volumes as their hosts see them, on any unit (in-band). A request is split at slice borders; each
// part goes to its slice's head: here, or over a peer link (design.md, section 5).
//
// Invariants
// - A part is at one place at a time: at the local slice, at one unit (`#pending`), or waiting.
// - H7: a part that may have taken effect is sent again only with FLAG_RESENT and its first origin,
//   at most FORWARD_RESENDS_MAX times, and never after its host's connection ended (`cancelled`).
// - A part that found no head waits for a record, a link or the next tick; what may wait is bounded
//   by the portals' credit (R14).
// - A sequence tells, modulo REACTORS_MAX, which reactor of its unit used it: so answers find it.

import { assert } from "#base/assert.ts";
import { FORWARD_RESENDS_MAX, REACTORS_MAX } from "#base/limits.ts";
import type { Memory } from "#base/memory.ts";
import { NO_BUFFER } from "#base/memory.ts";
import type { OperationTarget, StatusRun } from "#base/operation.ts";
import { FLAG_RESENT, FLAG_WARM, Operation, OperationKind, TrafficClass } from "#base/operation.ts";
import type { SliceNumber, UnitNumber, VolumeNumber } from "#base/record.ts";
import { Status, statusOf } from "#base/status.ts";
import { PeerVerb, VerbKind } from "#base/verbs.ts";
import type { World } from "#base/world.ts";

/** A volume as the data path needs it; the rest of it is the catalogue's. */
export interface VolumeShape {
  volume: VolumeNumber;
  sizeBytes: number;
  sliceBytes: number;
  /** In order; slice i covers bytes from i * sliceBytes. */
  slices: SliceNumber[];
  /** R8: per slice the lineage to read, where another than the current one is meant; else 0. */
  lineages?: readonly number[] | undefined;
}

/** A volume, and what is kept of it from before its owner's overrides, by their numbers. */
export interface ShapeWithCopies extends VolumeShape {
  copies?: readonly { number: number; lineages: readonly number[] }[] | undefined;
}

/** Where a slice's head is, as far as this unit knows. */
export type HeadPlace =
  { at: "here"; target: OperationTarget } | { at: "unit"; unit: UnitNumber } | { at: "unknown" };

export interface ForwarderEffects {
  /** `lineage`: 0, or one that lost, to be read alone. */
  headOf(slice: SliceNumber, lineage: number): HeadPlace;
  /** False: no link now. */
  send(unit: UnitNumber, verb: PeerVerb): boolean;
}

/** One request of a host that has several parts, while they are under way. */
interface Whole {
  partsLeft: number;
  status: Status;
  /** Of blockStatus, per part, joined at the end. */
  runs: StatusRun[][] | null;
}

/** One slice's share of a request, mostly all of it. */
class Part {
  /** The host's. */
  source: Operation = NO_OPERATION;
  /** Null: there is no other part. */
  whole: Whole | null = null;
  index = 0;
  slice: SliceNumber = 0;
  lineage = 0;
  readonly operation = new Operation();
  resends = 0;
  /** Sent at least once to a head that may have begun it. */
  maybeDone = false;
  /** Where it is pending, 0 if here or waiting. */
  unit: UnitNumber = 0;
  /** Of its last sending to another unit; 0: there was none. */
  sequence = 0;
  /** A link still holds the host's buffer; until it lets go the part neither moves nor ends. */
  sending = false;

  constructor(done: (operation: Operation) => void) {
    this.operation.owner = this;
    this.operation.done = done;
  }
}

const NO_OPERATION = new Operation();

/** Kinds that change something, so that a second time would matter. */
function changes(kind: number): boolean {
  return (
    kind === OperationKind.write ||
    kind === OperationKind.trim ||
    kind === OperationKind.writeZeroes
  );
}

/** Which reactor of its unit forwarded what is answered. */
export function forwarderOf({ sequence }: PeerVerb): number {
  return sequence % REACTORS_MAX;
}

export class Forwarder {
  readonly #memory: Memory;
  readonly #effects: ForwarderEffects;
  readonly #spare: Part[] = [];
  readonly #pending = new Map<number, Part>();
  readonly #lastTickMs = new Map<UnitNumber, number>();
  readonly #reactor: number;
  #waiting: Part[] = [];
  #sequence: number;

  /** `reactor`: which of its unit's it is. */
  constructor(
    world: Pick<World, "random">,
    memory: Memory,
    reactor: number,
    effects: ForwarderEffects,
  ) {
    this.#memory = memory;
    this.#effects = effects;
    this.#reactor = reactor;
    // Origins must differ between units and between runs of one: a random start in 2^52.
    const start = Math.floor((world.random.fraction() * 2 ** 52) / REACTORS_MAX);
    this.#sequence = start * REACTORS_MAX + reactor;
  }

  /** Requests that wait for a head. */
  get waitingCount(): number {
    return this.#waiting.length;
  }
  get pendingCount(): number {
    return this.#pending.size;
  }

  /** A volume to submit to. `shape()` answers the newest shape, or null once it is gone. */
  target(shape: () => VolumeShape | null): OperationTarget {
    return { submit: (operation) => this.#submit(operation, shape()) };
  }

  #submit(operation: Operation, shape: VolumeShape | null): void {
    if (shape === null) return operation.complete(Status.notFound);
    const { offsetBytes, lengthBytes, kind } = operation;
    const isFlush = kind === OperationKind.flush;
    if (!isFlush && offsetBytes + lengthBytes > shape.sizeBytes) {
      return operation.complete(Status.outOfRange);
    }
    if (!isFlush && lengthBytes === 0) return operation.complete(Status.ok);
    if (isFlush) return this.#dispatchParts(operation, shape, 0, shape.slices.length - 1);
    const first = Math.floor(offsetBytes / shape.sliceBytes);
    const last = Math.floor((offsetBytes + lengthBytes - 1) / shape.sliceBytes);
    if (first !== last || kind === OperationKind.blockStatus) {
      return this.#dispatchParts(operation, shape, first, last);
    }
    const part = this.#makePart(operation, shape, first);
    part.operation.offsetBytes = offsetBytes - first * shape.sliceBytes;
    part.operation.lengthBytes = lengthBytes;
    part.operation.bufferOffset = operation.bufferOffset;
    this.#dispatch(part);
  }

  #dispatchParts(operation: Operation, shape: VolumeShape, first: number, last: number): void {
    const whole: Whole = {
      partsLeft: last - first + 1,
      status: Status.ok,
      runs: operation.kind === OperationKind.blockStatus ? [] : null,
    };
    for (let index = first; index <= last; index++) {
      const part = this.#makePart(operation, shape, index);
      part.whole = whole;
      part.index = index - first;
      cutOut(part, shape, index);
      this.#dispatch(part);
    }
  }

  #makePart(source: Operation, shape: VolumeShape, sliceIndex: number): Part {
    const part = this.#spare.pop() ?? new Part(this.#localDone);
    part.source = source;
    part.slice = shape.slices[sliceIndex] as SliceNumber;
    part.lineage = shape.lineages?.[sliceIndex] ?? 0;
    const { operation } = part;
    operation.kind = source.kind;
    operation.flags = source.flags;
    operation.class = source.class;
    operation.origin = changes(source.kind) ? this.#nextSequence() : 0;
    return part;
  }

  #nextSequence(): number {
    const isLast = this.#sequence > Number.MAX_SAFE_INTEGER - REACTORS_MAX;
    this.#sequence = (isLast ? this.#reactor : this.#sequence) + REACTORS_MAX;
    return this.#sequence;
  }

  #dispatch(part: Part): void {
    if (part.sending) {
      this.#waiting.push(part);
      return;
    }
    if (part.source.cancelled) return this.#finish(part, Status.cancelled);
    if (part.resends > FORWARD_RESENDS_MAX) return this.#finish(part, Status.ioError);
    const place = this.#effects.headOf(part.slice, part.lineage);
    if (place.at === "unknown") {
      this.#waiting.push(part);
      return;
    }
    if (part.maybeDone) part.operation.flags |= FLAG_RESENT;
    if (place.at === "here") {
      part.unit = 0;
      place.target.submit(part.operation);
      return;
    }
    this.#sendPart(part, place.unit);
  }

  #sendPart(part: Part, unit: UnitNumber): void {
    const tickMs = this.#lastTickMs.get(unit);
    if (tickMs === undefined) {
      this.#waiting.push(part);
      return;
    }
    const { operation } = part;
    const verb = new PeerVerb();
    verb.kind = VerbKind.forward;
    verb.slice = part.slice;
    verb.lineage = part.lineage;
    verb.class = TrafficClass.forwarded;
    verb.sequence = part.sequence = this.#nextSequence();
    verb.operation = operation.kind;
    verb.flags = operation.flags;
    verb.origin = operation.origin;
    verb.offsetBytes = operation.offsetBytes;
    verb.lengthBytes = operation.lengthBytes;
    verb.tickMs = tickMs;
    if (operation.kind === OperationKind.write) {
      // Sent from the host's own buffer. An answer comes only after all of it went out; a part that
      // is lost before (the head changed, the link is slow) waits until the link lets go of it.
      part.sending = true;
      verb.sent = () => {
        part.sending = false;
      };
      verb.bufferOffset = operation.bufferOffset;
      verb.payloadBytes = operation.lengthBytes;
    }
    part.unit = unit;
    this.#pending.set(part.sequence, part);
    if (!this.#effects.send(unit, verb)) {
      this.#pending.delete(part.sequence);
      part.unit = 0;
      part.sending = false;
      this.#waiting.push(part);
    }
  }

  /** The local slice ended a part. */
  readonly #localDone = (operation: Operation): void => {
    this.#settle(operation.owner as Part, operation.status);
  };

  /** A head on another unit answered; the verb's payload is ours to release. */
  forwarded(verb: PeerVerb): void {
    const part = this.#pending.get(verb.sequence);
    const { operation } = part ?? {};
    if (part !== undefined && operation !== undefined) {
      this.#pending.delete(verb.sequence);
      operation.runs = verb.runs;
      if (verb.status === Status.ok && operation.kind === OperationKind.read) {
        if ((operation.flags & FLAG_WARM) !== 0) {
          // Only the head's nearness was wanted; an older unit sends the bytes all the same.
        } else if (verb.payloadBytes === operation.lengthBytes) {
          const from = verb.bufferOffset;
          this.#memory.bytes.copyWithin(operation.bufferOffset, from, from + verb.payloadBytes);
        } else {
          verb.status = Status.ioError;
        }
      }
    }
    if (verb.bufferOffset !== NO_BUFFER) this.#memory.release(verb.bufferOffset);
    if (part !== undefined) this.#settle(part, statusOf(verb.status));
  }

  /** Decides between done, again, and wait. */
  #settle(part: Part, status: Status): void {
    part.unit = 0;
    switch (status) {
      case Status.notHead:
      case Status.staleEpoch:
      case Status.expired:
      case Status.busy:
      case Status.shuttingDown:
        // Nothing was done: it waits for a head, or for the next tick.
        this.#waiting.push(part);
        return;
      case Status.linkLost:
      case Status.unknownOutcome:
        this.#lost(part);
        return;
      default:
        this.#finish(part, status);
    }
  }

  /** The answer will not come; the part may have taken effect. */
  #lost(part: Part): void {
    part.unit = 0;
    if (changes(part.operation.kind)) {
      part.maybeDone = true;
      part.resends++;
    }
    this.#waiting.push(part);
  }

  #finish(part: Part, status: Status): void {
    const { source, whole } = part;
    if (whole === null) {
      this.#giveBack(part);
      source.complete(status);
      return;
    }
    if (whole.runs !== null) whole.runs[part.index] = wholeRuns(part.operation);
    if (status !== Status.ok && whole.status === Status.ok) whole.status = status;
    whole.partsLeft--;
    assert(whole.partsLeft >= 0, "a part ends once");
    if (whole.partsLeft > 0) return;
    if (whole.runs !== null) source.runs = joinRuns(whole.runs);
    source.complete(whole.status);
  }

  /** For another request, if no link ever knew it. */
  #giveBack(part: Part): void {
    if (part.sequence !== 0 || part.resends > 0) return;
    part.source = NO_OPERATION;
    this.#spare.push(part);
  }

  /** A slice's record changed, so its head may be another: what is with the old one goes on. */
  headChanged(slice: SliceNumber): void {
    for (const part of [...this.#pending.values()]) {
      if (part.slice !== slice) continue;
      const place = this.#effects.headOf(slice, part.lineage);
      if (place.at === "unit" && place.unit === part.unit) continue;
      if (place.at === "unknown") continue;
      this.#pending.delete(part.sequence);
      this.#lost(part);
    }
    this.#retry((part) => part.slice === slice);
  }

  /** The link to `unit` ended; the link has called every `sent` before. */
  linkDown(unit: UnitNumber): void {
    this.#lastTickMs.delete(unit);
    for (const part of [...this.#pending.values()]) {
      if (part.unit !== unit) continue;
      this.#pending.delete(part.sequence);
      this.#lost(part);
    }
  }

  /** H7: the other unit's clock, to be echoed in what is forwarded to it. */
  tickHeard(unit: UnitNumber, tickMs: number): void {
    const first = !this.#lastTickMs.has(unit);
    this.#lastTickMs.set(unit, tickMs);
    if (first) this.#retry(() => true);
  }

  /** Every 50 ms or so: tries again whatever waits. */
  tick(): void {
    if (this.#waiting.length > 0) this.#retry(() => true);
  }

  #retry(which: (part: Part) => boolean): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const part of waiting) {
      if (which(part)) this.#dispatch(part);
      else this.#waiting.push(part);
    }
  }
}

/** What of its request lies in the slice; a flush has no place. */
function cutOut({ source, operation }: Part, shape: VolumeShape, sliceIndex: number): void {
  operation.offsetBytes = 0;
  operation.lengthBytes = 0;
  operation.bufferOffset = NO_BUFFER;
  if (source.kind === OperationKind.flush) return;
  const sliceStart = sliceIndex * shape.sliceBytes;
  const from = Math.max(source.offsetBytes, sliceStart);
  const to = Math.min(source.offsetBytes + source.lengthBytes, sliceStart + shape.sliceBytes);
  operation.offsetBytes = from - sliceStart;
  operation.lengthBytes = to - from;
  if (source.bufferOffset === NO_BUFFER) return;
  operation.bufferOffset = source.bufferOffset + (from - source.offsetBytes);
}

/**
 * A part's runs, just as long as the part: what was not told counts as allocated, so that what
 * follows stays in its place (H9).
 */
function wholeRuns({ runs, lengthBytes }: Operation): StatusRun[] {
  const told = (runs ?? []).reduce((sum, run) => sum + run.lengthBytes, 0);
  if (runs !== null && told === lengthBytes) return runs;
  if (runs === null || told > lengthBytes) return [{ lengthBytes, allocated: true }];
  return [...runs, { lengthBytes: lengthBytes - told, allocated: true }];
}

/** Joins the parts' runs, merging neighbours that are alike. */
function joinRuns(parts: StatusRun[][]): StatusRun[] {
  const joined: StatusRun[] = [];
  for (const run of parts.flat()) {
    const last = joined.at(-1);
    if (last !== undefined && last.allocated === run.allocated) last.lengthBytes += run.lengthBytes;
    else joined.push({ ...run });
  }
  return joined;
}
