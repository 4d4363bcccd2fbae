// SPDX-License-Identifier: Apache-2.0
//
// Two units' links over connections in memory: opening, both lanes, early verbs, silence,
// replacement, wrong keys, and who owns which buffer. Sockets, time and the turns of both reactors
// are the test's.

import { describe, expect, test } from "bun:test";
import { Memory, NO_BUFFER } from "#base/memory.ts";
import type { StreamSocket } from "#base/stream.ts";
import { PeerVerb, VerbKind } from "#base/verbs.ts";
import { createSeal } from "#machine/seal.ts";
import { MemorySocket } from "#protocol/nbd/memory-socket-fixture.ts";
import { ClusterState, unitIdOf } from "#protocol/peer-channel/identity.ts";
import type { OwnIdentity } from "#protocol/peer-channel/identity.ts";
import { PeerLinks } from "./peer-links.ts";
import type { PeerUnit } from "./reactor-messages.ts";

const seal = createSeal();
const SECRET = new Uint8Array(32).fill(5);
const CLUSTER = new Uint8Array(16).fill(7);

function identity(unitNumber: number): OwnIdentity {
  const { publicKey, privateKey } = seal.ed25519KeyPair();
  return {
    unitId: unitIdOf(seal, publicKey),
    publicKey,
    privateKey,
    linkKeys: seal.x25519KeyPair(),
    clusterId: CLUSTER,
    clusterState: ClusterState.used,
    unitNumber,
    featureLevel: 1,
  };
}

interface Call {
  address: string;
  done: (socket: StreamSocket | null, reason: string) => void;
}

/** One unit: its links and what they told it. */
class End {
  readonly memory = new Memory(new ArrayBuffer(24 << 20));
  readonly own: OwnIdentity;
  readonly calls: Call[] = [];
  readonly ups: number[] = [];
  readonly downs: string[] = [];
  readonly received: PeerVerb[] = [];
  readonly logged: string[] = [];
  /** Ups and verbs in the order they were told. */
  readonly told: (string | number)[] = [];
  readonly links: PeerLinks;
  readonly unit: number;
  #turnEnds: (() => void)[] = [];

  constructor(own: OwnIdentity, nowMs: () => number, preSharedKey: Uint8Array = SECRET) {
    this.unit = own.unitNumber;
    this.own = own;
    const world = {
      clock: { nowMs, wallMs: () => 0 },
      seal,
      log: {
        write: (_level: string, sentence: string, facts?: Record<string, unknown>) =>
          void this.logged.push(`${sentence} ${JSON.stringify(facts)}`),
      },
    };
    this.links = new PeerLinks(
      world,
      this.memory,
      { own: this.own, preSharedKey },
      {
        connect: ({ address }, done) => void this.calls.push({ address, done }),
        linkUp: (other) => {
          this.ups.push(other);
          this.told.push("up");
        },
        linkDown: (other, reason) => void this.downs.push(`${other}: ${reason}`),
        receive: (_from, verb) => {
          this.received.push(verb);
          this.told.push(verb.sequence);
          if (verb.bufferOffset !== NO_BUFFER) this.memory.release(verb.bufferOffset);
        },
        atTurnEnd: (act) => void this.#turnEnds.push(act),
      },
    );
  }

  get peer(): PeerUnit {
    const publicKey = this.own.publicKey.toHex();
    const addresses = [`fd00::${this.unit}`, `192.0.2.${this.unit}`];
    return { unit: this.unit, publicKey, addresses, port: 1 };
  }
  endTurn(): boolean {
    const acts = this.#turnEnds;
    this.#turnEnds = [];
    for (const act of acts) act();
    return acts.length > 0;
  }
}

interface Wire {
  near: MemorySocket;
  far: MemorySocket;
  /** Nothing passes; or nothing to the one who called. */
  stopped: boolean;
  backStopped: boolean;
}

/** Two units, the lower number calling; every connection is a pair of sockets. */
class Pair {
  nowMs = 1000;
  readonly low: End;
  readonly high: End;
  readonly wires: Wire[] = [];

  constructor(options: { low?: OwnIdentity; high?: End; highSecret?: Uint8Array } = {}) {
    const now = () => this.nowMs;
    this.low = new End(options.low ?? identity(1), now);
    this.high = options.high ?? new End(identity(2), now, options.highSecret);
  }

  /** Both know each other. */
  introduced(): this {
    this.low.links.setPeers([this.low.peer, this.high.peer]);
    this.high.links.setPeers([this.low.peer, this.high.peer]);
    return this;
  }
  up(): this {
    this.introduced().pass(50);
    this.answer();
    this.settle();
    expect([this.low.ups, this.high.ups]).toEqual([[2], [1]]);
    return this;
  }

  /** Time passes in ticks of 50 ms, as the reactor's do. */
  pass(lengthMs: number, options = { low: true, high: true }): void {
    for (let passed = 0; passed < lengthMs; passed += 50) {
      this.nowMs += 50;
      if (options.low) this.low.links.tick(this.nowMs);
      if (options.high) this.high.links.tick(this.nowMs);
      this.settle();
    }
  }

  /** Answers calls of the lower unit: a connection each. */
  answer(count = Number.POSITIVE_INFINITY): void {
    for (const call of this.low.calls.splice(0, count)) {
      const near = new MemorySocket(this.low.memory, call.address);
      const far = new MemorySocket(this.high.memory, "192.0.2.1");
      this.wires.push({ near, far, stopped: false, backStopped: false });
      this.high.links.accepted(far);
      call.done(near, "");
    }
  }

  settle(): void {
    for (let more = true; more;) {
      more = this.low.endTurn();
      more = this.high.endTurn() || more;
      for (const wire of this.wires) if (!wire.stopped) more = carry(wire) || more;
    }
  }
}

function carry({ near, far, backStopped }: Wire): boolean {
  let carried = false;
  for (const [from, to] of [
    [near, far],
    [far, near],
  ] as const) {
    from.turn();
    if (from === far && backStopped) continue;
    const bytes = from.takeSent();
    if (bytes.length > 0 && to.closedWith === null) {
      to.arrive(bytes);
      to.turn();
      carried = true;
    }
    if (from.closedWith !== null && to.closedWith === null) {
      to.hangUp();
      to.turn();
      carried = true;
    }
  }
  return carried;
}

function verb(sequence: number, fields: Partial<PeerVerb> = {}): PeerVerb {
  return Object.assign(new PeerVerb(), { kind: VerbKind.tick, sequence, tickMs: 1 }, fields);
}

/** With payload: it travels on the data lane. */
function loaded(end: End, sequence: number, lengthBytes: number): PeerVerb {
  const bufferOffset = end.memory.allocate(lengthBytes);
  end.memory.bytes.fill(sequence & 0xff, bufferOffset, bufferOffset + lengthBytes);
  const made = verb(sequence, {
    kind: VerbKind.write,
    slice: 1,
    epoch: 1,
    lengthBytes,
    bufferOffset,
    payloadBytes: lengthBytes,
  });
  made.sent = () => end.memory.release(bufferOffset);
  return made;
}

function sequences(end: End): number[] {
  return end.received.map((one) => one.sequence);
}

describe("opening", () => {
  test("two units of one list → one link with two lanes, called by the lower number alone", () => {
    const pair = new Pair().introduced();
    pair.pass(500);
    expect([pair.low.calls.length, pair.high.calls.length]).toEqual([2, 0]);
    pair.answer();
    pair.settle();
    expect([pair.low.ups, pair.high.ups]).toEqual([[2], [1]]);
    expect(pair.low.links.isUp(2) && pair.high.links.isUp(1)).toBe(true);
    pair.pass(500);
    expect([pair.low.calls.length, pair.wires.length]).toEqual([0, 2]);
  });

  test("one lane alone → not up, nothing can be sent; given up after a while", () => {
    const pair = new Pair().introduced();
    pair.pass(50);
    pair.answer(1);
    pair.settle();
    expect(pair.low.links.isUp(2) || pair.high.links.isUp(1)).toBe(false);
    expect(pair.low.links.send(2, verb(1))).toBe(false);
    pair.pass(3100);
    expect(pair.wires[0]?.near.closedWith).not.toBeNull();
    expect(pair.high.links.isUp(1)).toBe(false);
  });

  test("nobody answers → called again, later and later, at the next address, never a storm", () => {
    const pair = new Pair().introduced();
    const addresses: string[] = [];
    for (let step = 0; step < 400; step++) {
      pair.pass(50);
      const calls = pair.low.calls.splice(0);
      if (calls.length > 0) addresses.push(calls[0]?.address as string);
      for (const call of calls) call.done(null, "connection refused");
    }
    // 20 s: at 0.1, 0.2, 0.4, 0.8 s, then every second.
    expect(addresses.length).toBeGreaterThan(15);
    expect(addresses.length).toBeLessThan(30);
    expect(addresses.slice(0, 4)).toEqual(["fd00::2", "192.0.2.2", "fd00::2", "192.0.2.2"]);
  });

  test("a connection of an attempt given up → closed, not used", () => {
    const pair = new Pair().introduced();
    pair.pass(50);
    const [control, data] = pair.low.calls.splice(0) as [Call, Call];
    control.done(null, "connection refused");
    const late = new MemorySocket(pair.low.memory);
    data.done(late, "");
    late.turn();
    expect(late.closedWith).not.toBeNull();
    pair.pass(200);
    pair.answer();
    pair.settle();
    expect(pair.low.links.isUp(2)).toBe(true);
  });
});

describe("who is spoken to", () => {
  test("another join secret → never up on either side, refused with a reason", () => {
    const pair = new Pair({ highSecret: new Uint8Array(32).fill(6) }).introduced();
    pair.pass(50);
    pair.answer();
    pair.settle();
    expect([...pair.low.ups, ...pair.high.ups]).toEqual([]);
    expect(pair.wires.every(({ near }) => near.closedWith !== null)).toBe(true);
    expect(pair.high.logged.some((line) => line.includes("was refused"))).toBe(true);
  });

  test("the secret, but not in the list, or under another key → refused", () => {
    const stranger = new Pair();
    stranger.low.links.setPeers([stranger.low.peer, stranger.high.peer]);
    stranger.high.links.setPeers([stranger.high.peer]);
    const impostor = new Pair();
    const publicKey = identity(1).publicKey.toHex();
    impostor.low.links.setPeers([impostor.high.peer]);
    impostor.high.links.setPeers([{ ...impostor.low.peer, publicKey }]);
    for (const pair of [stranger, impostor]) {
      pair.pass(50);
      pair.answer();
      pair.settle();
      expect([...pair.low.ups, ...pair.high.ups]).toEqual([]);
      expect(pair.high.logged.join()).toMatch(/list/);
    }
  });

  test("another unit answers at the address → the caller refuses it", () => {
    const pair = new Pair();
    const expected = { ...pair.high.peer, publicKey: identity(2).publicKey.toHex() };
    pair.low.links.setPeers([expected]);
    pair.high.links.setPeers([pair.low.peer]);
    pair.pass(50);
    pair.answer();
    pair.settle();
    expect([...pair.low.ups, ...pair.high.ups]).toEqual([]);
  });

  test("removed from the list → its link ends at once and it is not called again", () => {
    const pair = new Pair().up();
    pair.low.links.setPeers([pair.low.peer]);
    pair.settle();
    expect(pair.low.downs).toEqual(["2: no longer in the cluster"]);
    expect(pair.high.downs).toHaveLength(1);
    pair.pass(5000);
    expect(pair.low.calls).toEqual([]);
  });

  test("connections that prove nothing → at most 32 at a time, the rest closed at once", () => {
    const pair = new Pair().introduced();
    const sockets = Array.from({ length: 40 }, () => new MemorySocket(pair.high.memory));
    for (const socket of sockets) pair.high.links.accepted(socket);
    for (const socket of sockets) socket.turn();
    expect(sockets.filter((socket) => socket.closedWith !== null)).toHaveLength(8);
    // They have their time, and make room again.
    pair.pass(20_000);
    for (const socket of sockets) socket.turn();
    expect(sockets.every((socket) => socket.closedWith !== null)).toBe(true);
    pair.answer();
    pair.settle();
    expect(pair.low.ups).toEqual([2]);
  });
});

describe("verbs", () => {
  test("with and without payload, both ways → each arrives once, in the order of its lane", () => {
    const pair = new Pair().up();
    const { low, high } = pair;
    const used = [low.memory.usedBytes, high.memory.usedBytes];
    for (let sequence = 1; sequence <= 20; sequence++) {
      expect(low.links.send(2, loaded(low, sequence, sequence * 5000))).toBe(true);
      expect(low.links.send(2, verb(100 + sequence))).toBe(true);
      expect(high.links.send(1, verb(200 + sequence))).toBe(true);
    }
    expect(high.received).toEqual([]); // never from within send
    pair.settle();
    const seen = sequences(high);
    const upTo = (from: number) => Array.from({ length: 20 }, (_, index) => from + index);
    expect(seen.filter((sequence) => sequence < 100)).toEqual(upTo(1));
    expect(seen.filter((sequence) => sequence > 100)).toEqual(upTo(101));
    expect(sequences(low)).toEqual(upTo(201));
    expect(high.received.find(({ sequence }) => sequence === 20)?.payloadBytes).toBe(100_000);
    expect([low.memory.usedBytes, high.memory.usedBytes]).toEqual(used);
  });

  test("R13: payload that the other side does not take → leases still pass beside it", () => {
    const pair = new Pair().up();
    const data = pair.wires[1] as Wire;
    data.stopped = true;
    for (let sequence = 1; sequence <= 8; sequence++) {
      pair.low.links.send(2, loaded(pair.low, sequence, 1 << 20));
    }
    pair.low.links.send(2, verb(99));
    pair.settle();
    expect(sequences(pair.high)).toEqual([99]);
    data.stopped = false;
    pair.pass(100);
    expect(sequences(pair.high).slice(1)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test("R13: no memory for a payload → held back, goes on when there is some", () => {
    const pair = new Pair().up();
    const hoard: number[] = [];
    for (;;) {
      const buffer = pair.high.memory.allocate(1 << 18);
      if (buffer === NO_BUFFER) break;
      hoard.push(buffer);
    }
    pair.low.links.send(2, loaded(pair.low, 1, 200_000));
    pair.low.links.send(2, loaded(pair.low, 2, 4096));
    pair.low.links.send(2, verb(99));
    pair.pass(500);
    expect(sequences(pair.high)).toEqual([99]);
    for (const buffer of hoard) pair.high.memory.release(buffer);
    pair.pass(100);
    expect(sequences(pair.high)).toEqual([99, 1, 2]);
  });

  test("a verb on one lane before the other is open here → delivered after linkUp", () => {
    const pair = new Pair().introduced();
    pair.pass(50);
    pair.answer();
    const [, data] = pair.wires as [Wire, Wire];
    // The answerer's last word on the data lane is held back: it is up first.
    carry(data);
    data.backStopped = true;
    pair.settle();
    expect([pair.low.ups, pair.high.ups]).toEqual([[], [1]]);
    pair.high.links.send(1, verb(7));
    pair.settle();
    expect(pair.low.told).toEqual([]);
    data.backStopped = false;
    pair.settle();
    expect(pair.low.told).toEqual(["up", 7]);
  });

  test("too many verbs before the other lane is open → down, their buffers released", () => {
    const pair = new Pair().introduced();
    pair.pass(50);
    pair.answer();
    const [control] = pair.wires as [Wire];
    carry(control);
    control.backStopped = true;
    pair.settle();
    for (let sequence = 1; sequence <= 300; sequence++) {
      pair.high.links.send(1, loaded(pair.high, sequence, 512));
    }
    pair.settle();
    expect(pair.low.received).toEqual([]);
    control.backStopped = false;
    pair.settle();
    expect(pair.wires.every(({ near, far }) => near.closedWith && far.closedWith)).toBe(true);
    expect([pair.low.memory.usedBytes, pair.high.memory.usedBytes]).toEqual([0, 0]);
  });
});

describe("the end of a link", () => {
  test("either lane is cut → both end, told once, every sent called, called again and up", () => {
    for (const lane of [0, 1]) {
      const pair = new Pair().up();
      let sent = 0;
      const queued = loaded(pair.low, 1, 4096);
      const release = queued.sent as () => void;
      queued.sent = () => {
        sent++;
        release();
      };
      pair.low.links.send(2, queued);
      pair.wires[lane]?.near.hangUp();
      pair.wires[lane]?.near.turn();
      expect(sent).toBe(1);
      expect(pair.low.downs).toEqual(["2: the peer closed"]);
      expect(pair.low.links.send(2, verb(2))).toBe(false);
      pair.settle();
      expect(pair.high.downs).toHaveLength(1);
      expect(pair.wires.every(({ near, far }) => near.closedWith && far.closedWith)).toBe(true);
      pair.pass(200);
      pair.answer();
      pair.settle();
      expect([pair.low.ups, pair.high.ups]).toEqual([
        [2, 2],
        [1, 1],
      ]);
      expect(sent).toBe(1);
    }
  });

  test("the other side is silent → down after 1.5 s, and not before", () => {
    const pair = new Pair().up();
    for (const wire of pair.wires) wire.stopped = true;
    pair.pass(1500);
    expect(pair.low.downs).toEqual([]);
    pair.pass(50);
    expect(pair.low.downs).toEqual([expect.stringMatching(/^2: silent for 15\d\d ms$/)]);
    expect(pair.high.downs).toHaveLength(1);
  });

  test("it says a little every second → stays up", () => {
    const pair = new Pair().up();
    for (let second = 0; second < 10; second++) {
      pair.low.links.send(2, verb(second));
      pair.high.links.send(1, verb(second));
      pair.pass(1000);
    }
    expect([pair.low.downs, pair.high.downs]).toEqual([[], []]);
  });

  test("the caller restarted and calls anew → the old link down, then the new one up", () => {
    const pair = new Pair().up();
    for (const wire of pair.wires) wire.stopped = true; // it died without a word
    // The same unit, its key with it.
    const again = new Pair({ low: pair.low.own, high: pair.high });
    again.nowMs = pair.nowMs;
    again.low.links.setPeers([pair.high.peer]);
    again.pass(50);
    again.answer();
    again.settle();
    expect(pair.high.downs).toEqual(["1: the other side called anew"]);
    expect(pair.high.ups).toEqual([1, 1]);
    expect(again.low.ups).toEqual([2]);
    again.low.links.send(2, verb(55));
    again.settle();
    expect(sequences(pair.high)).toEqual([55]);
  });

  test("close → every link ends as stopping, connections not proved yet too", () => {
    const pair = new Pair().up();
    const unproved = new MemorySocket(pair.high.memory);
    pair.high.links.accepted(unproved);
    pair.high.links.close();
    unproved.turn();
    pair.settle();
    expect(pair.high.downs).toEqual(["1: stopping"]);
    expect(unproved.closedWith).not.toBeNull();
    expect(pair.low.downs).toHaveLength(1);
  });

  test("garbage instead of a handshake → refused, the link beside it stays", () => {
    const pair = new Pair().up();
    for (const bytes of [Buffer.from("GET / HTTP/1.1\r\n\r\n"), Buffer.alloc(5000, 0xff)]) {
      const socket = new MemorySocket(pair.high.memory);
      pair.high.links.accepted(socket);
      socket.arrive(bytes);
      socket.turn();
      expect(socket.closedWith).not.toBeNull();
    }
    expect(pair.high.links.isUp(1)).toBe(true);
  });

  test("a record changed on the way → the link ends, nothing of it is received", () => {
    const pair = new Pair().up();
    const [control] = pair.wires as [Wire];
    pair.low.links.send(2, verb(1));
    pair.low.endTurn();
    control.near.turn();
    const bytes = control.near.takeSent();
    bytes[bytes.length - 3] = (bytes[bytes.length - 3] as number) ^ 1;
    control.far.arrive(bytes);
    control.far.turn();
    expect(pair.high.received).toEqual([]);
    expect(pair.high.downs).toHaveLength(1);
  });
});
