// SPDX-License-Identifier: Apache-2.0
//
// The simulated network between units: connections that keep each lane in order, made of the peer
// protocol's own bytes (encoded at the sender, decoded into the receiver's Memory).
//
// - Two lanes per direction, control and payload (R13): in order within a lane, in any order
//   across.
// - Payload is taken from the sender's buffer only when it is transmitted, later than `send`; then
//   `sent` is called. A link that breaks calls every outstanding `sent` before it reports itself
//   down.
// - A cut direction stalls: what is under way arrives late if it heals soon, else the connection
//   breaks, and both ends notice, each in its own time. Loss is a broken connection, as on TCP.
// - The end of a process is noticed soon, the loss of a machine's power only by timeout.
// - Verbs may come twice (where `duplicate` says so): they are allowed to (base/verbs.ts).

import { assert } from "#base/assert.ts";
import { Memory } from "#base/memory.ts";
import type { Prng } from "#base/prng.ts";
import type { UnitNumber } from "#base/record.ts";
import { onControlLane } from "#base/verbs.ts";
import type { PeerVerb } from "#base/verbs.ts";
import { NO_MEMORY, decodeVerb, encodeHead, headBytes } from "#protocol/peer/codec.ts";
import type { Simulation } from "./simulation.ts";

/** A unit's process as the network sees it. A new process is a new endpoint. */
export interface Endpoint {
  readonly unit: UnitNumber;
  /** Of the cluster, as it takes it to be. */
  readonly generation: number;
  readonly memory: Memory;
  /** Runs now, or after a pause; never once the process is gone. */
  deliver(act: () => void): void;
  receive(from: UnitNumber, verb: PeerVerb): void;
  linkUp(unit: UnitNumber): void;
  linkDown(unit: UnitNumber): void;
}

export interface NetOptions {
  /** One way, milliseconds. */
  latencyMs: { least: number; most: number };
  /** Probability that a message takes twenty times as long. */
  straggler: number;
  /** Probability per message that the connection breaks there. */
  loss: number;
  /** Probability that a control-lane verb comes twice. */
  duplicate: number;
  /** Probability that a verb with payload comes twice. */
  duplicatePayload: number;
}

export const NET_USUAL: NetOptions = {
  latencyMs: { least: 0.05, most: 0.6 },
  straggler: 0.01,
  loss: 0,
  duplicate: 0,
  duplicatePayload: 0,
};

const RECONNECT_MS = 150;
const BREAK_LEAST_MS = 400;
const BREAK_MOST_MS = 2500;
const BUFFER_RETRY_MS = 1;

interface Message {
  verb: PeerVerb | null;
  bytes: Uint8Array;
  headLength: number;
  twice: boolean;
}

export class SimNet {
  options: NetOptions;
  readonly counts = { messages: 0, breaks: 0, duplicates: 0, stalls: 0, noMemory: 0 };
  readonly #simulation: Simulation;
  readonly #prng: Prng;
  readonly #endpoints = new Map<UnitNumber, Endpoint>();
  readonly #connections = new Map<string, Connection>();
  readonly #cuts = new Set<string>();

  constructor(simulation: Simulation, options: NetOptions) {
    this.#simulation = simulation;
    this.#prng = simulation.prng.fork();
    this.options = options;
  }

  get simulation(): Simulation {
    return this.#simulation;
  }
  get prng(): Prng {
    return this.#prng;
  }

  up(endpoint: Endpoint): void {
    assert(!this.#endpoints.has(endpoint.unit), "one process per unit");
    for (const other of this.#endpoints.keys()) this.#connectLater(endpoint.unit, other);
    this.#endpoints.set(endpoint.unit, endpoint);
  }

  /** The process, or with `silent` the whole machine, is gone. */
  down(unit: UnitNumber, { silent }: { silent: boolean }): void {
    this.#endpoints.delete(unit);
    for (const connection of [...this.#connections.values()]) {
      if (connection.has(unit)) this.#break(connection, silent);
    }
  }

  /** False: the sender's side has no link now. */
  send(from: UnitNumber, to: UnitNumber, verb: PeerVerb): boolean {
    const connection = this.#connections.get(pair(from, to));
    return connection?.send(from, verb) ?? false;
  }

  isCut(from: UnitNumber, to: UnitNumber): boolean {
    return this.#cuts.has(`${from}>${to}`);
  }

  cut(from: UnitNumber, to: UnitNumber): void {
    this.#cuts.add(`${from}>${to}`);
    const connection = this.#connections.get(pair(from, to));
    if (connection === undefined) return;
    this.counts.stalls++;
    const patience = BREAK_LEAST_MS + this.#prng.fraction() * (BREAK_MOST_MS - BREAK_LEAST_MS);
    this.#simulation.after(patience, () => {
      if (this.isCut(from, to)) this.#break(connection, true);
    });
  }

  heal(from: UnitNumber, to: UnitNumber): void {
    if (!this.#cuts.delete(`${from}>${to}`)) return;
    this.#connections.get(pair(from, to))?.resume();
  }

  healAll(): void {
    for (const cut of [...this.#cuts]) {
      const [from, to] = cut.split(">").map(Number) as [number, number];
      this.heal(from, to);
    }
  }

  /** Breaks the connection between two units, as a reset does. */
  reset(left: UnitNumber, right: UnitNumber): void {
    const connection = this.#connections.get(pair(left, right));
    if (connection !== undefined) this.#break(connection, false);
  }

  endpoint(unit: UnitNumber): Endpoint | null {
    return this.#endpoints.get(unit) ?? null;
  }

  /** Both ends learn of it, each in its own time; then they connect again. */
  breakNow(connection: Connection): void {
    this.#break(connection, false);
  }

  #break(connection: Connection, silent: boolean): void {
    if (connection.broken) return;
    connection.broken = true;
    this.counts.breaks++;
    this.#simulation.trace("break", connection.left.unit, connection.right.unit);
    let unaware = 2;
    for (const side of [connection.left, connection.right]) {
      const delayMs = silent ? 100 + this.#prng.fraction() * 1000 : this.#prng.fraction() * 4;
      this.#simulation.after(delayMs, () => {
        connection.notice(side);
        unaware--;
        if (unaware > 0) return;
        if (this.#connections.get(connection.key) === connection) {
          this.#connections.delete(connection.key);
        }
        this.#connectLater(connection.left.unit, connection.right.unit);
      });
    }
  }

  #connectLater(left: UnitNumber, right: UnitNumber): void {
    const delayMs = RECONNECT_MS * (0.5 + this.#prng.fraction());
    this.#simulation.after(delayMs, () => this.#connect(left, right));
  }

  #connect(left: UnitNumber, right: UnitNumber): void {
    const key = pair(left, right);
    const [a, b] = [this.#endpoints.get(left), this.#endpoints.get(right)];
    // Who comes up later connects again.
    if (a === undefined || b === undefined || this.#connections.has(key)) return;
    // Neither gets through to the other; one that changes its generation comes up again.
    if (a.generation !== b.generation) return;
    if (this.isCut(left, right) || this.isCut(right, left)) {
      this.#connectLater(left, right);
      return;
    }
    this.#connections.set(key, new Connection(this, key, a, b));
  }
}

function pair(left: UnitNumber, right: UnitNumber): string {
  return left < right ? `${left}-${right}` : `${right}-${left}`;
}

/** One connection from its making to its end. */
class Connection {
  broken = false;
  readonly key: string;
  readonly left: Endpoint;
  readonly right: Endpoint;
  readonly #net: SimNet;
  readonly #lanes: Lane[];
  /** Endpoints that hold it for up. */
  readonly #aware = new Set<Endpoint>();

  constructor(net: SimNet, key: string, left: Endpoint, right: Endpoint) {
    this.#net = net;
    this.key = key;
    this.left = left;
    this.right = right;
    this.#lanes = [
      new Lane(net, this, left, right),
      new Lane(net, this, left, right),
      new Lane(net, this, right, left),
      new Lane(net, this, right, left),
    ];
    net.simulation.trace("connect", left.unit, right.unit);
    for (const side of [left, right]) {
      net.simulation.after(net.prng.fraction() * 3, () => {
        side.deliver(() => {
          if (this.broken) return;
          this.#aware.add(side);
          side.linkUp(this.other(side).unit);
          this.resume();
        });
      });
    }
  }

  has(unit: UnitNumber): boolean {
    return this.left.unit === unit || this.right.unit === unit;
  }
  other(side: Endpoint): Endpoint {
    return side === this.left ? this.right : this.left;
  }
  isAware(side: Endpoint): boolean {
    return this.#aware.has(side);
  }

  send(from: UnitNumber, verb: PeerVerb): boolean {
    const side = from === this.left.unit ? this.left : this.right;
    if (!this.#aware.has(side)) return false;
    const lane = (side === this.left ? 0 : 2) + (onControlLane(verb) ? 0 : 1);
    (this.#lanes[lane] as Lane).push(verb);
    return true;
  }

  /** Something that stalled may go on: a cut healed, an end came up. */
  resume(): void {
    for (const lane of this.#lanes) lane.pump();
  }

  /** One end finds the connection gone: `sent` first, then linkDown. */
  notice(side: Endpoint): void {
    side.deliver(() => {
      const was = this.#aware.delete(side);
      for (const lane of this.#lanes) if (lane.from === side) lane.abandon();
      if (was) side.linkDown(this.other(side).unit);
    });
  }
}

/** One direction of one lane: transmits in order, delivers in order. */
class Lane {
  readonly from: Endpoint;
  readonly #to: Endpoint;
  readonly #net: SimNet;
  readonly #connection: Connection;
  #waiting: Message[] = [];
  #flying: Message[] = [];
  #transmitting = false;
  #delivering = false;

  constructor(net: SimNet, connection: Connection, from: Endpoint, to: Endpoint) {
    this.#net = net;
    this.#connection = connection;
    this.from = from;
    this.#to = to;
  }

  push(verb: PeerVerb): void {
    const { options, prng } = this.#net;
    const headLength = headBytes(verb);
    const bytes = new Uint8Array(headLength + verb.payloadBytes);
    encodeHead(verb, bytes, 0);
    const rate = verb.payloadBytes > 0 ? options.duplicatePayload : options.duplicate;
    this.#waiting.push({ verb, bytes, headLength, twice: rate > 0 && prng.chance(rate) });
    this.pump();
  }

  pump(): void {
    if (!this.#transmitting) this.#transmitNext();
    if (!this.#delivering) this.#deliverNext();
  }

  /** The sender's end is down: nobody reads its buffers any more. */
  abandon(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { verb } of waiting) verb?.sent?.();
  }

  get #stalled(): boolean {
    return this.#net.isCut(this.from.unit, this.#to.unit);
  }

  #transmitNext(): void {
    const first = this.#waiting[0];
    if (first === undefined || this.#stalled || this.#connection.broken) return;
    this.#transmitting = true;
    this.#net.simulation.after(this.#latencyMs() / 2, () => {
      this.from.deliver(() => {
        this.#transmitting = false;
        if (this.#waiting[0] === first) this.#transmit(first);
        this.pump();
      });
    });
  }

  #transmit(message: Message): void {
    const { verb } = message;
    this.#waiting.shift();
    if (verb === null) return;
    if (verb.payloadBytes > 0) {
      const from = verb.bufferOffset;
      message.bytes.set(
        this.from.memory.bytes.subarray(from, from + verb.payloadBytes),
        message.headLength,
      );
    }
    message.verb = null;
    verb.sent?.();
    if (this.#connection.broken) return;
    if (this.#net.prng.chance(this.#net.options.loss)) {
      this.#net.breakNow(this.#connection);
      return;
    }
    this.#flying.push(message);
    if (message.twice) {
      this.#net.counts.duplicates++;
      this.#flying.push(message);
    }
  }

  #deliverNext(): void {
    const first = this.#flying[0];
    if (first === undefined || this.#stalled || !this.#connection.isAware(this.#to)) return;
    this.#delivering = true;
    this.#net.simulation.after(this.#latencyMs() / 2, () => {
      this.#to.deliver(() => {
        this.#delivering = false;
        // Stalled meanwhile: it waits in the network.
        if (this.#stalled || !this.#connection.isAware(this.#to)) return;
        this.#receive(first);
      });
    });
  }

  #receive(message: Message): void {
    const verb = decodeVerb(message.bytes, this.#to.memory);
    if (verb === NO_MEMORY) {
      // Back-pressure (R13): the lane stands until a buffer is free.
      this.#net.counts.noMemory++;
      this.#delivering = true;
      this.#net.simulation.after(BUFFER_RETRY_MS, () => {
        this.#delivering = false;
        this.pump();
      });
      return;
    }
    assert(typeof verb !== "string", `a verb decodes: ${String(verb)}`);
    this.#flying.shift();
    this.#net.counts.messages++;
    this.#net.simulation.trace("verb", verb.kind, verb.slice, verb.fromDisk, verb.toDisk);
    this.#to.receive(this.from.unit, verb);
    this.pump();
  }

  #latencyMs(): number {
    const { latencyMs, straggler } = this.#net.options;
    const { prng } = this.#net;
    const usual = latencyMs.least + prng.fraction() * (latencyMs.most - latencyMs.least);
    return straggler > 0 && prng.chance(straggler) ? usual * 20 : usual;
  }
}
