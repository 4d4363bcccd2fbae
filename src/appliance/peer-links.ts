// SPDX-License-Identifier: Apache-2.0
//
// The links of one unit to the others of its cluster. Of two units the one with the lower number
// calls; a link is up while both its lanes are, and the loss of one ends both, so that "the link is
// down" always means that everything under way on it is lost.
//
// Invariants
// - At most one link per unit; a newly proved lane replaces an older one and takes the old link
//   down.
// - Only units of the list with the key of the list are spoken to: whoever is removed from it is
//   cut.
// - A link silent for LINK_SILENCE_MS is down: units send ticks four times as often.

import type { Memory } from "#base/memory.ts";
import { NO_BUFFER } from "#base/memory.ts";
import type { UnitNumber } from "#base/record.ts";
import type { StreamSocket } from "#base/stream.ts";
import type { PeerVerb } from "#base/verbs.ts";
import { onControlLane } from "#base/verbs.ts";
import type { World } from "#base/world.ts";
import { Purpose } from "#protocol/peer-channel/channel.wire.ts";
import type { OwnIdentity, PeerIdentity } from "#protocol/peer-channel/identity.ts";
import { sameBytes, unitIdOf } from "#protocol/peer-channel/identity.ts";
import { PeerLane } from "./peer-lane.ts";
import type { LaneEffects } from "./peer-lane.ts";
import type { PeerUnit } from "./reactor-messages.ts";

/** A link from which nothing came this long is taken for lost, ms. */
const LINK_SILENCE_MS = 1500;
const REDIAL_FIRST_MS = 100;
const REDIAL_LAST_MS = 1000;
/** Both lanes must be open this long after the first call, ms. */
const CALL_MS_MAX = 3000;
/** Connections that have not proved themselves yet. */
const UNPROVED_MAX = 32;
/** Verbs held between the opening of a link's two lanes. */
const EARLY_VERBS_MAX = 256;

export interface LinkEffects {
  connect(
    endpoint: { address: string; port: number },
    done: (socket: StreamSocket | null, reason: string) => void,
  ): void;
  linkUp(unit: UnitNumber): void;
  linkDown(unit: UnitNumber, reason: string): void;
  receive(unit: UnitNumber, verb: PeerVerb): void;
  atTurnEnd(act: () => void): void;
}

export interface LinkOptions {
  own: OwnIdentity;
  preSharedKey: Uint8Array;
}

interface Link {
  peer: PeerUnit;
  publicKey: Uint8Array;
  unitId: Uint8Array;
  control: PeerLane | null;
  data: PeerLane | null;
  up: boolean;
  /** Ours to call: connections asked for and not open yet. */
  calling: boolean;
  calledMs: number;
  nextCallMs: number;
  waitMs: number;
  nextAddress: number;
  /** Counts attempts, so that a late connection of an older one is let go. */
  attempt: number;
  /** What came on one lane before the other was open here: the other end was up first. */
  early: PeerVerb[];
}

export class PeerLinks {
  readonly #world: Pick<World, "clock" | "seal" | "log">;
  readonly #memory: Memory;
  readonly #options: LinkOptions;
  readonly #effects: LinkEffects;
  readonly #links = new Map<UnitNumber, Link>();
  readonly #unproved = new Set<PeerLane>();
  readonly #laneEffects: LaneEffects;

  constructor(
    world: Pick<World, "clock" | "seal" | "log">,
    memory: Memory,
    options: LinkOptions,
    effects: LinkEffects,
  ) {
    this.#world = world;
    this.#memory = memory;
    this.#options = options;
    this.#effects = effects;
    this.#laneEffects = {
      authenticate: (peer) => this.#authenticate(peer),
      opened: (lane, peer) => this.#opened(lane, peer),
      verb: (lane, verb) => this.#verb(lane, verb),
      ended: (lane, reason) => this.#ended(lane, reason),
      atTurnEnd: effects.atTurnEnd,
    };
  }

  /** The other units of the cluster as the control state has them; replaces the list before. */
  setPeers(peers: readonly PeerUnit[]): void {
    const named = new Set(peers.map((peer) => peer.unit));
    for (const [unit, link] of this.#links) {
      if (named.has(unit)) continue;
      this.#links.delete(unit);
      this.#down(link, "no longer in the cluster");
    }
    for (const peer of peers) {
      if (peer.unit === this.#options.own.unitNumber) continue;
      const known = this.#links.get(peer.unit);
      if (known !== undefined) {
        known.peer = peer;
        continue;
      }
      const publicKey = Uint8Array.fromHex(peer.publicKey);
      this.#links.set(peer.unit, {
        peer,
        publicKey,
        unitId: unitIdOf(this.#world.seal, publicKey),
        control: null,
        data: null,
        up: false,
        calling: false,
        calledMs: 0,
        nextCallMs: 0,
        waitMs: REDIAL_FIRST_MS,
        nextAddress: 0,
        attempt: 0,
        early: [],
      });
    }
  }

  /** A connection to our peer port. */
  accepted(socket: StreamSocket): void {
    if (this.#unproved.size >= UNPROVED_MAX) {
      socket.onBytes = (_offset, length) => length;
      socket.close();
      return;
    }
    this.#unproved.add(this.#makeLane(socket, null, null));
  }

  send(unit: UnitNumber, verb: PeerVerb): boolean {
    const link = this.#links.get(unit);
    if (link === undefined || !link.up) return false;
    const lane = onControlLane(verb) ? link.control : link.data;
    if (lane === null || !lane.isOpen) return false;
    lane.send(verb);
    return true;
  }

  isUp(unit: UnitNumber): boolean {
    return this.#links.get(unit)?.up ?? false;
  }
  states(): { unit: UnitNumber; up: boolean }[] {
    return [...this.#links.values()].map((link) => ({ unit: link.peer.unit, up: link.up }));
  }

  /** Every 50 ms. */
  tick(nowMs: number): void {
    for (const lane of [...this.#unproved]) lane.tick();
    for (const link of this.#links.values()) {
      link.control?.tick();
      link.data?.tick();
      if (link.up && link.control !== null) {
        const silentMs = nowMs - link.control.heardMs;
        if (silentMs > LINK_SILENCE_MS) this.#down(link, `silent for ${Math.round(silentMs)} ms`);
      } else {
        this.#callIfDue(link, nowMs);
      }
    }
  }

  close(): void {
    for (const lane of [...this.#unproved]) lane.end("stopping");
    for (const link of this.#links.values()) this.#down(link, "stopping");
  }

  #callIfDue(link: Link, nowMs: number): void {
    if (this.#options.own.unitNumber > link.peer.unit) return;
    if (link.calling && nowMs - link.calledMs > CALL_MS_MAX) {
      return this.#down(link, "the other side did not answer in time");
    }
    if (link.calling || nowMs < link.nextCallMs || link.peer.addresses.length === 0) return;
    link.calling = true;
    link.calledMs = nowMs;
    const attempt = ++link.attempt;
    const { addresses, port } = link.peer;
    const address = addresses[link.nextAddress % addresses.length] as string;
    for (const purpose of [Purpose.controlLane, Purpose.dataLane]) {
      this.#effects.connect({ address, port }, (socket, reason) => {
        const current = link.attempt === attempt && link.calling;
        if (socket === null) {
          if (current) this.#down(link, reason);
        } else if (!current) {
          socket.onBytes = (_offset, length) => length;
          socket.close();
        } else {
          const lane = this.#makeLane(socket, purpose, link.unitId);
          if (purpose === Purpose.controlLane) link.control = lane;
          else link.data = lane;
        }
      });
    }
  }

  #makeLane(socket: StreamSocket, call: Purpose | null, expectUnitId: Uint8Array | null): PeerLane {
    const { own, preSharedKey } = this.#options;
    const options = { call, own, preSharedKey, expectUnitId };
    return new PeerLane(this.#world, this.#memory, socket, options, this.#laneEffects);
  }

  #authenticate(peer: PeerIdentity): string | null {
    const link = this.#links.get(peer.unitNumber);
    if (link === undefined) return `unit ${peer.unitNumber} is not in this cluster's list`;
    return sameBytes(link.publicKey, peer.publicKey)
      ? null
      : `unit ${peer.unitNumber} has another key in this cluster's list`;
  }

  #opened(lane: PeerLane, peer: PeerIdentity): void {
    const link = this.#links.get(peer.unitNumber);
    if (link === undefined) return lane.end("no longer in the cluster");
    if (this.#unproved.delete(lane)) {
      const slot = lane.purpose === Purpose.controlLane ? "control" : "data";
      if (link[slot] !== null) this.#down(link, "the other side called anew");
      link[slot] = lane;
    }
    if (link.control?.isOpen !== true || link.data?.isOpen !== true) return;
    link.up = true;
    link.calling = false;
    link.waitMs = REDIAL_FIRST_MS;
    this.#world.log.write("info", "link up", { unit: link.peer.unit });
    this.#effects.linkUp(link.peer.unit);
    for (const verb of link.early.splice(0)) {
      if (link.up) this.#effects.receive(link.peer.unit, verb);
      else this.#drop(verb);
    }
  }

  #verb(lane: PeerLane, verb: PeerVerb): void {
    const link = this.#linkOf(lane);
    if (link === null) return this.#drop(verb);
    if (link.up) return this.#effects.receive(link.peer.unit, verb);
    link.early.push(verb);
    if (link.early.length > EARLY_VERBS_MAX) this.#down(link, "too much before the link was up");
  }

  #drop(verb: PeerVerb): void {
    if (verb.bufferOffset !== NO_BUFFER) this.#memory.release(verb.bufferOffset);
  }

  #ended(lane: PeerLane, reason: string): void {
    if (this.#unproved.delete(lane)) {
      this.#world.log.write("info", "a connection to the peer port was refused", { reason });
      return;
    }
    const link = this.#linkOf(lane);
    if (link !== null) this.#down(link, reason);
  }

  #linkOf(lane: PeerLane): Link | null {
    for (const link of this.#links.values()) {
      if (link.control === lane || link.data === lane) return link;
    }
    return null;
  }

  #down(link: Link, reason: string): void {
    const { control, data, up } = link;
    link.control = null;
    link.data = null;
    link.up = false;
    for (const verb of link.early.splice(0)) this.#drop(verb);
    if (link.calling) link.nextAddress++;
    link.calling = false;
    link.nextCallMs = this.#world.clock.nowMs() + link.waitMs;
    link.waitMs = Math.min(REDIAL_LAST_MS, link.waitMs * 2);
    // The lanes are no longer this link's: their `ended` finds none, and every `sent` has been
    // called.
    control?.end(reason);
    data?.end(reason);
    if (!up) return;
    this.#world.log.write("warn", "link down", { unit: link.peer.unit, reason });
    this.#effects.linkDown(link.peer.unit, reason);
  }
}
