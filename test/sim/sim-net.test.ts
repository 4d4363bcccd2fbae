// SPDX-License-Identifier: Apache-2.0
//
// The simulated links: in order within a lane, late payload, stalls and breaks.

import { expect, test } from "bun:test";
import { Memory, NO_BUFFER } from "#base/memory.ts";
import { PeerVerb, VerbKind } from "#base/verbs.ts";
import type { Endpoint } from "./sim-net.ts";
import { NET_USUAL, SimNet } from "./sim-net.ts";
import type { NetOptions } from "./sim-net.ts";
import { Simulation } from "./simulation.ts";

class Peer implements Endpoint {
  readonly generation = 1;
  readonly memory = new Memory(new ArrayBuffer(1 << 20));
  readonly heard: PeerVerb[] = [];
  readonly log: string[] = [];
  readonly unit: number;
  constructor(unit: number) {
    this.unit = unit;
  }
  deliver(act: () => void): void {
    act();
  }
  receive(_from: number, verb: PeerVerb): void {
    this.heard.push(verb);
  }
  linkUp(unit: number): void {
    this.log.push(`up ${unit}`);
  }
  linkDown(unit: number): void {
    this.log.push(`down ${unit}`);
  }
}

function make(seed = 1, options: Partial<NetOptions> = {}) {
  const simulation = new Simulation(seed);
  const net = new SimNet(simulation, { ...NET_USUAL, ...options });
  const [one, two] = [new Peer(1), new Peer(2)];
  net.up(one);
  net.up(two);
  simulation.run(1000);
  return { simulation, net, one, two };
}

function write(peer: Peer, sequence: number, fill: number): PeerVerb {
  const verb = new PeerVerb();
  verb.kind = VerbKind.write;
  verb.sequence = sequence;
  verb.lengthBytes = verb.payloadBytes = 4096;
  verb.bufferOffset = peer.memory.allocate(4096);
  peer.memory.bytes.fill(fill, verb.bufferOffset, verb.bufferOffset + 4096);
  return verb;
}

function flush(sequence: number): PeerVerb {
  const verb = new PeerVerb();
  verb.kind = VerbKind.flush;
  verb.sequence = sequence;
  return verb;
}

test("verbs of one lane → in order, whole, in the receiver's memory; `sent` first", () => {
  const { simulation, net, one, two } = make(3, { straggler: 0.2 });
  for (let sequence = 1; sequence <= 50; sequence++) {
    const verb = write(one, sequence, sequence);
    verb.sent = () => {
      one.memory.bytes.fill(0, verb.bufferOffset, verb.bufferOffset + 4096);
      one.memory.release(verb.bufferOffset);
    };
    expect(net.send(1, 2, verb)).toBe(true);
  }
  simulation.run(5000);
  expect(two.heard.map((verb) => verb.sequence)).toEqual(
    Array.from({ length: 50 }, (_, i) => i + 1),
  );
  for (const verb of two.heard) {
    expect(two.memory.bytes[verb.bufferOffset + 4095]).toBe(verb.sequence);
  }
  expect(one.memory.usedBytes).toBe(0);
});

test("control overtakes payload → sometimes; never within its lane", () => {
  const { simulation, net, one, two } = make(5);
  for (let sequence = 1; sequence <= 20; sequence++) {
    net.send(1, 2, write(one, sequence, 1));
    net.send(1, 2, flush(100 + sequence));
  }
  simulation.run(5000);
  const order = two.heard.map((verb) => verb.sequence);
  const payload = order.filter((sequence) => sequence < 100);
  const control = order.filter((sequence) => sequence > 100);
  expect(payload).toEqual([...payload].sort((a, b) => a - b));
  expect(control).toEqual([...control].sort((a, b) => a - b));
  expect(order).not.toEqual(Array.from({ length: 20 }, (_, i) => [i + 1, 101 + i]).flat());
});

test("a short cut → late but all there; a long one → both told, `sent` called, up again", () => {
  const { simulation, net, one, two } = make();
  net.cut(1, 2);
  net.send(1, 2, flush(1));
  simulation.run(simulation.nowMs + 100);
  expect(two.heard.length).toBe(0);
  net.heal(1, 2);
  simulation.run(simulation.nowMs + 100);
  expect(two.heard.length).toBe(1);
  net.cut(1, 2);
  let sent = 0;
  const verb = write(one, 2, 7);
  verb.sent = () => {
    sent++;
    expect(one.log).toEqual(["up 2"]);
  };
  net.send(1, 2, verb);
  simulation.run(simulation.nowMs + 8000);
  expect([sent, one.log, two.log]).toEqual([1, ["up 2", "down 2"], ["up 1", "down 1"]]);
  expect(net.send(1, 2, flush(3))).toBe(false);
  net.heal(1, 2);
  simulation.run(simulation.nowMs + 1000);
  expect([one.log.at(-1), two.log.at(-1), two.heard.length]).toEqual(["up 2", "up 1", 1]);
});

test("a process that is gone → its peer is told soon, and hears of the next one", () => {
  const { simulation, net, one, two } = make();
  net.down(1, { silent: false });
  simulation.run(simulation.nowMs + 50);
  expect(two.log).toEqual(["up 1", "down 1"]);
  net.up(new Peer(1));
  simulation.run(simulation.nowMs + 1000);
  expect([two.log.at(-1), one.log]).toEqual(["up 1", ["up 2", "down 2"]]);
});

test("the receiver's memory is full → the lane stands until there is room (R13)", () => {
  const { simulation, net, one, two } = make();
  const held: number[] = [];
  for (let offset = 0; offset !== NO_BUFFER;) {
    offset = two.memory.allocate(4096);
    if (offset !== NO_BUFFER) held.push(offset);
  }
  net.send(1, 2, write(one, 1, 9));
  simulation.run(simulation.nowMs + 100);
  expect(two.heard.length).toBe(0);
  two.memory.release(held[0] as number);
  simulation.run(simulation.nowMs + 100);
  expect(two.heard.length).toBe(1);
});

test("duplicates where asked for → the verb comes twice, each with a buffer of its own", () => {
  const { simulation, net, one, two } = make(1, { duplicatePayload: 1 });
  net.send(1, 2, write(one, 1, 9));
  simulation.run(simulation.nowMs + 100);
  expect(two.heard.length).toBe(2);
  expect(two.heard[0]?.bufferOffset).not.toBe(two.heard[1]?.bufferOffset);
});
