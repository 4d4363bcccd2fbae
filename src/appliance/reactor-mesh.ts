// SPDX-License-Identifier: Apache-2.0
//
// How the reactors of one unit reach each other, and, through the first of them, the door, other
// units (decision 0060). Each is one end of it; with one reactor in the unit all goes straight.
//
// Invariants
// - A sibling is linked once both have joined; it stays so until one of them ends. Its number as a
//   unit is below zero.
// - Siblings see links to units in the order in which the door does. What a sibling gave for a link
//   that was lost meanwhile is dropped by the door, and no verb of a lost link is taken here.
// - When a unit's link is lost every `sent` of what was on its way there has been called.
// - A payload that the door passes on is its own until the sibling has copied it; of forwarded ones
//   so much at most is held for siblings, and what is beyond is refused as busy, so that hosts of
//   other units cannot take the memory that all that passes the door needs (R13).

import { assert } from "#base/assert.ts";
import type { Memory } from "#base/memory.ts";
import { NO_BUFFER } from "#base/memory.ts";
import { TrafficClass } from "#base/operation.ts";
import type { UnitNumber } from "#base/record.ts";
import { Status, statusOf } from "#base/status.ts";
import { PeerVerb, VerbKind } from "#base/verbs.ts";
import type { World } from "#base/world.ts";
import type { Reactor } from "#machine/reactor.ts";
import { ThreadRing } from "#machine/thread-ring.ts";
import { decodeHead, encodeHead, headBytes } from "#protocol/peer/codec.ts";
import { forwarderOf } from "./forwarder.ts";
import type { AdoptedHost } from "./nbd-portal.ts";
import {
  FLAT_VERB,
  SIBLING_FLAT_VERB,
  SIBLING_HEAD,
  SIBLING_NOTE,
  SIBLING_VERB,
} from "./sibling.wire.ts";

/** The reactor that has the listeners and the links. */
export const DOOR = 0;
/** The share of the door's memory that forwarded payload may hold while siblings have none. */
const PASSED_SHARE = 1 / 4;

/** As a unit's number, for data planes. */
export function siblingNode(reactor: number): UnitNumber {
  return -1 - reactor;
}
/** Null: it is another unit, or this one. */
export function reactorOf(node: UnitNumber): number | null {
  return node < 0 ? -1 - node : null;
}

/** What siblings tell each other besides verbs. */
export type SiblingNote =
  /** Its data plane is there. */
  | { kind: "joined" }
  /** The door's, to the others. */
  | { kind: "link"; unit: UnitNumber; up: boolean; count: number }
  /** A host's connection is the receiver's from now on. */
  | { kind: "host"; host: AdoptedHost }
  /** A connection that was given to it is over. */
  | { kind: "hostEnded"; id: number }
  /** The unit goes down: its hosts are drained, and nobody's head is needed for them. */
  | { kind: "drained" }
  /** It says nothing more. */
  | { kind: "over" };

export interface MeshEffects {
  linkUp(node: UnitNumber): void;
  linkDown(node: UnitNumber): void;
  /** The payload's buffer is the callee's. */
  receive(from: UnitNumber, verb: PeerVerb): void;
  /** The door's: over its link to another unit. */
  sendToUnit(unit: UnitNumber, verb: PeerVerb): boolean;
  /** Where a verb belongs that came for this unit (DataPlane.placeOf). */
  placeOf(verb: PeerVerb): UnitNumber;
  noted(reactor: number, note: SiblingNote): void;
}

interface Sibling {
  reactor: number;
  node: UnitNumber;
  ring: ThreadRing;
  hasJoined: boolean;
  isOver: boolean;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const headView = SIBLING_HEAD.view();
const receivedView = SIBLING_HEAD.view();
const flatWritten = FLAT_VERB.view();
const flatRead = FLAT_VERB.view();

export class ReactorMesh {
  readonly #clock: World["clock"];
  readonly #memory: Memory;
  readonly #reactor: Reactor;
  readonly #own: number;
  readonly #effects: MeshEffects;
  readonly #siblings: Sibling[] = [];
  /** Units with a link, and which of their links it is. */
  readonly #units = new Map<UnitNumber, number>();
  #linkCount = 0;
  #hasJoined = false;
  #passedBytes = 0;

  /** `rings`: shared with each sibling that is there, by its number. */
  constructor(
    reactor: Reactor,
    own: number,
    rings: ReadonlyMap<number, SharedArrayBuffer>,
    effects: MeshEffects,
  ) {
    this.#clock = reactor.clock;
    this.#memory = reactor.memory;
    this.#reactor = reactor;
    this.#own = own;
    this.#effects = effects;
    for (const [other, shared] of rings) this.add(other, shared);
  }

  /** One more; what it has said already is taken. */
  add(other: number, shared: SharedArrayBuffer): void {
    const ring = new ThreadRing(this.#reactor, shared, this.#own < other ? 0 : 1, {
      received: (head, payload) => this.#received(sibling, head, payload),
    });
    const node = siblingNode(other);
    const sibling = { reactor: other, node, ring, hasJoined: false, isOver: false };
    this.#siblings.push(sibling);
    if (this.#hasJoined) this.#note(sibling, { kind: "joined" });
  }

  get isDoor(): boolean {
    return this.#own === DOOR;
  }
  get siblings(): number[] {
    return this.#siblings.map(({ reactor }) => reactor);
  }

  /** The data plane is there. */
  join(): void {
    this.#hasJoined = true;
    for (const sibling of this.#siblings) {
      this.#note(sibling, { kind: "joined" });
      if (sibling.hasJoined) this.#linked(sibling);
    }
  }

  #linked(sibling: Sibling): void {
    this.#effects.linkUp(sibling.node);
    if (!this.isDoor) return;
    for (const [unit, count] of this.#units) {
      this.#note(sibling, { kind: "link", unit, up: true, count });
    }
  }

  note(reactor: number, note: SiblingNote): void {
    const sibling = this.#siblings.find((one) => one.reactor === reactor);
    if (sibling !== undefined) this.#note(sibling, note);
  }

  noteAll(note: SiblingNote): void {
    for (const sibling of this.#siblings) this.#note(sibling, note);
  }

  /** Says so to all, and nothing more: who waits for this reactor need not. */
  close(): void {
    for (const sibling of this.#siblings) {
      this.#note(sibling, { kind: "over" });
      sibling.ring.close();
      sibling.isOver = true;
    }
  }

  // What the data plane sends.

  /** False: there is no link to that unit or sibling now. */
  send(to: UnitNumber, verb: PeerVerb): boolean {
    if (to < 0) {
      const sibling = this.#siblings.find(({ node }) => node === to);
      if (sibling === undefined || !this.#isLinked(sibling)) return false;
      this.#post(sibling, 0, verb);
      return true;
    }
    if (this.isDoor) return this.#effects.sendToUnit(to, verb);
    const door = this.#siblings.find(({ reactor }) => reactor === DOOR);
    if (door === undefined || door.isOver || !this.#units.has(to)) return false;
    // The door tells it the clock that all reactors have.
    if (verb.kind !== VerbKind.tick) this.#post(door, to, verb);
    return true;
  }

  #isLinked({ hasJoined, isOver }: Sibling): boolean {
    return this.#hasJoined && hasJoined && !isOver;
  }

  #post(to: Sibling, unit: UnitNumber, verb: PeerVerb): void {
    const { bufferOffset, payloadBytes: lengthBytes, sent } = verb;
    const lent = bufferOffset === NO_BUFFER ? null : { bufferOffset, lengthBytes, sent, tag: unit };
    assert(lent !== null || sent === null, "only a payload is given back");
    const linkCount = this.#units.get(unit) ?? 0;
    const isFlat = hasNoLists(verb);
    const kind = isFlat ? SIBLING_FLAT_VERB : SIBLING_VERB;
    const write = (target: Uint8Array, at: number) => {
      writeHead(target, at, kind, unit, linkCount);
      const behind = at + SIBLING_HEAD.size;
      if (isFlat) writeFlat(verb, target, behind);
      else encodeHead(verb, target, behind);
    };
    to.ring.send(SIBLING_HEAD.size + (isFlat ? FLAT_VERB.size : headBytes(verb)), write, lent);
  }

  #note(to: Sibling, note: SiblingNote): void {
    if (to.isOver) return;
    const text = encoder.encode(JSON.stringify(note));
    to.ring.send(SIBLING_HEAD.size + text.length, (target, at) => {
      writeHead(target, at, SIBLING_NOTE, 0, 0);
      target.set(text, at + SIBLING_HEAD.size);
    });
  }

  // The door's: links to other units.

  unitUp(unit: UnitNumber): void {
    const count = ++this.#linkCount;
    this.#units.set(unit, count);
    this.#effects.linkUp(unit);
    this.#noteLinked({ kind: "link", unit, up: true, count });
  }

  unitDown(unit: UnitNumber): void {
    const count = this.#units.get(unit) ?? 0;
    this.#units.delete(unit);
    this.#effects.linkDown(unit);
    this.#noteLinked({ kind: "link", unit, up: false, count });
  }

  #noteLinked(note: SiblingNote): void {
    for (const sibling of this.#siblings) if (this.#isLinked(sibling)) this.#note(sibling, note);
  }

  /** A verb from another unit: for whom it is, it goes to. */
  fromUnit(unit: UnitNumber, verb: PeerVerb): void {
    if (verb.kind === VerbKind.tick) {
      for (const sibling of this.#siblings) {
        if (this.#isLinked(sibling)) this.#post(sibling, unit, verb);
      }
      return this.#effects.receive(unit, verb);
    }
    const sibling = this.#siblings.length === 0 ? null : this.#siblingFor(verb);
    if (sibling === null) return this.#effects.receive(unit, verb);
    this.#passOn(sibling, unit, verb);
  }

  #siblingFor(verb: PeerVerb): Sibling | null {
    const isAnswer = verb.kind === VerbKind.forwarded;
    const node = isAnswer ? siblingNode(forwarderOf(verb)) : this.#effects.placeOf(verb);
    const sibling = this.#siblings.find((one) => one.node === node);
    return sibling !== undefined && this.#isLinked(sibling) ? sibling : null;
  }

  #passOn(to: Sibling, unit: UnitNumber, verb: PeerVerb): void {
    const { bufferOffset, payloadBytes } = verb;
    if (bufferOffset === NO_BUFFER) return this.#post(to, unit, verb);
    const isForward = verb.kind === VerbKind.forward;
    if (isForward) {
      if (this.#passedBytes + payloadBytes > this.#memory.bytes.length * PASSED_SHARE) {
        this.#memory.release(bufferOffset);
        this.#effects.sendToUnit(unit, this.#busy(verb));
        return;
      }
      this.#passedBytes += payloadBytes;
    }
    verb.sent = () => {
      if (isForward) this.#passedBytes -= payloadBytes;
      this.#memory.release(bufferOffset);
    };
    this.#post(to, unit, verb);
  }

  /** Nothing was done: its forwarder tries again soon. */
  #busy({ sequence }: PeerVerb): PeerVerb {
    const answer = new PeerVerb();
    answer.kind = VerbKind.forwarded;
    answer.sequence = sequence;
    answer.status = Status.busy;
    answer.class = TrafficClass.forwarded;
    answer.tickMs = this.#clock.nowMs();
    return answer;
  }

  // What comes from siblings.

  #received(
    from: Sibling,
    { bytes, at, lengthBytes }: { bytes: Uint8Array; at: number; lengthBytes: number },
    payload: { bufferOffset: number },
  ): void {
    const { kind, unit, linkCount } = receivedView.at(bytes, at);
    const start = at + SIBLING_HEAD.size;
    if (kind === SIBLING_NOTE) {
      const text = decoder.decode(bytes.slice(start, at + lengthBytes)); // of no shared memory
      return this.#noted(from, JSON.parse(text) as SiblingNote);
    }
    const isFlat = kind === SIBLING_FLAT_VERB;
    const headLengthBytes = lengthBytes - SIBLING_HEAD.size;
    const verb = isFlat ? readFlat(bytes, start) : decodeHead(bytes, start, headLengthBytes);
    assert(typeof verb !== "string", "a sibling's verb is well formed");
    verb.bufferOffset = payload.bufferOffset;
    if (unit === 0) return this.#effects.receive(from.node, verb);
    if (this.#units.get(unit) !== linkCount) return this.#drop(verb);
    if (!this.isDoor) return this.#effects.receive(unit, verb);
    if (verb.bufferOffset !== NO_BUFFER) {
      const { bufferOffset } = verb;
      verb.sent = () => this.#memory.release(bufferOffset);
    }
    if (!this.#effects.sendToUnit(unit, verb)) this.#drop(verb);
  }

  #drop(verb: PeerVerb): void {
    if (verb.bufferOffset !== NO_BUFFER) this.#memory.release(verb.bufferOffset);
  }

  #noted(from: Sibling, note: SiblingNote): void {
    switch (note.kind) {
      case "joined":
        from.hasJoined = true;
        if (this.#hasJoined) this.#linked(from);
        return;
      case "link":
        return this.#unitLink(from, note);
      case "over": {
        const wasLinked = this.#isLinked(from);
        from.isOver = true;
        from.ring.close();
        if (wasLinked) this.#effects.linkDown(from.node);
        break;
      }
      default:
    }
    this.#effects.noted(from.reactor, note);
  }

  #unitLink(door: Sibling, note: Extract<SiblingNote, { kind: "link" }>): void {
    const { unit, up, count } = note;
    if (up) {
      this.#units.set(unit, count);
      return this.#effects.linkUp(unit);
    }
    if (this.#units.get(unit) !== count) return;
    this.#units.delete(unit);
    door.ring.takeBack(unit);
    this.#effects.linkDown(unit);
  }
}

function writeHead(
  target: Uint8Array,
  at: number,
  kind: number,
  unit: UnitNumber,
  linkCount: number,
): void {
  headView.at(target, at);
  headView.kind = kind;
  headView.unit = unit;
  headView.linkCount = linkCount;
}

function hasNoLists({ record, regions, entries, runs }: PeerVerb): boolean {
  return record === null && regions === null && entries === null && runs === null;
}

function writeFlat(verb: PeerVerb, target: Uint8Array, at: number): void {
  const view = flatWritten.at(target, at);
  view.kind = verb.kind;
  view.slice = verb.slice;
  view.fromDisk = verb.fromDisk;
  view.toDisk = verb.toDisk;
  view.sequence = verb.sequence;
  view.epoch = verb.epoch;
  view.lineage = verb.lineage;
  view.class = verb.class;
  view.flags = verb.flags;
  view.status = verb.status;
  view.operation = verb.operation;
  view.offsetBytes = verb.offsetBytes;
  view.lengthBytes = verb.lengthBytes;
  view.stamp = verb.stamp;
  view.tickMs = verb.tickMs;
  view.origin = verb.origin;
  view.credit = verb.credit;
  view.incarnation = verb.incarnation;
  view.syncedEpoch = verb.syncedEpoch;
  view.syncedLineage = verb.syncedLineage;
  view.payloadBytes = verb.payloadBytes;
}

function readFlat(bytes: Uint8Array, at: number): PeerVerb {
  const view = flatRead.at(bytes, at);
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
