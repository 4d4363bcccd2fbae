// SPDX-License-Identifier: Apache-2.0
//
// Three reactors of one unit, all on the test's own ring: who is linked when, where verbs of other
// units and for them go, what becomes of those of a lost link, and who owns which buffer.

import { describe, expect, test } from "bun:test";
import { type Memory, NO_BUFFER } from "#base/memory.ts";
import { OperationKind } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import { PeerVerb, VerbKind, tickVerb } from "#base/verbs.ts";
import type { Reactor } from "#machine/reactor.ts";
import { runReactor } from "#machine/reactor-fixture.ts";
import { threadRingMemory } from "#machine/thread-ring.ts";
import { ReactorMesh, type SiblingNote, siblingNode } from "./reactor-mesh.ts";

const UNIT = 9;
/** Whose disk it is, by its number. */
const DISK_OF = new Map([
  [10, 0],
  [11, 1],
  [12, 2],
]);

/** One reactor of the three: its mesh, and what it was told. */
class Node {
  readonly mesh: ReactorMesh;
  readonly memory: Memory;
  readonly told: string[] = [];
  readonly received: { from: number; verb: PeerVerb }[] = [];
  readonly notes: SiblingNote[] = [];
  /** Verbs for other units that the door was given, not sent yet. */
  readonly outgoing: { unit: number; verb: PeerVerb }[] = [];
  takes = true;

  constructor(reactor: Reactor, own: number, rings: Map<number, SharedArrayBuffer>) {
    this.memory = reactor.memory;
    this.mesh = new ReactorMesh(reactor, own, rings, {
      linkUp: (node) => void this.told.push(`up ${node}`),
      linkDown: (node) => void this.told.push(`down ${node}`),
      receive: (from, verb) => void this.received.push({ from, verb }),
      sendToUnit: (unit, verb) => {
        if (this.takes) this.outgoing.push({ unit, verb });
        return this.takes;
      },
      placeOf: (verb) => {
        const reactor = DISK_OF.get(verb.toDisk || verb.slice) ?? own;
        return reactor === own ? 1 : siblingNode(reactor);
      },
      noted: (_, note) => void this.notes.push(note),
    });
  }

  /** A verb whose payload says `text`; `sent` is told. */
  verb(fields: Partial<PeerVerb>, text = ""): PeerVerb {
    const verb = Object.assign(new PeerVerb(), fields);
    if (text === "") return verb;
    const bytes = new TextEncoder().encode(text);
    verb.bufferOffset = this.memory.allocate(bytes.length);
    this.memory.bytes.set(bytes, verb.bufferOffset);
    verb.payloadBytes = verb.lengthBytes = bytes.length;
    return verb;
  }

  /** The payload of the last verb that came, whose buffer is given back. */
  payload(verb = this.received.at(-1)?.verb as PeerVerb): string {
    const { bufferOffset: from, payloadBytes } = verb;
    const text = new TextDecoder().decode(this.memory.bytes.slice(from, from + payloadBytes));
    if (from !== NO_BUFFER) this.memory.release(from);
    return text;
  }
}

type Step = (nodes: [Node, Node, Node], reactor: Reactor) => void;

/** Runs the steps, each some turns after the one before: all is there that was sent. */
function play(...steps: Step[]): void {
  runReactor(
    (reactor, finish) => {
      const pairs = new Map<string, SharedArrayBuffer>();
      const ringOf = (left: number, right: number) => {
        const key = [Math.min(left, right), Math.max(left, right)].join();
        const ring = pairs.get(key) ?? threadRingMemory();
        pairs.set(key, ring);
        return ring;
      };
      const nodes = [0, 1, 2].map((own) => {
        const others = [0, 1, 2].filter((other) => other !== own);
        return new Node(reactor, own, new Map(others.map((other) => [other, ringOf(own, other)])));
      }) as [Node, Node, Node];
      const next = (at: number) => {
        const step = steps[at];
        if (step === undefined) return finish();
        step(nodes, reactor);
        later(reactor, () => next(at + 1));
      };
      next(0);
    },
    { memoryBytes: 64 << 20 },
  );
}

const TURNS = 40;
function later(reactor: Reactor, act: () => void, turns = TURNS): void {
  reactor.defer(() => (turns === 0 ? act() : later(reactor, act, turns - 1)));
}

const joined: Step = (nodes) => {
  for (const { mesh } of nodes) mesh.join();
};
const linked: Step = ([door]) => door.mesh.unitUp(UNIT);

describe("links", () => {
  test("both have joined → linked; the door's units too, in whatever order they came", () => {
    play(
      ([door, second]) => {
        door.mesh.unitUp(UNIT);
        door.mesh.join();
        second.mesh.join();
      },
      ([door, second, third]) => {
        expect(door.told).toEqual(["up 9", "up -2"]);
        expect(second.told).toEqual(["up -1", "up 9"]);
        expect(third.told).toEqual([]);
        third.mesh.join();
      },
      ([door, second, third]) => {
        expect(door.told).toEqual(["up 9", "up -2", "up -3"]);
        expect(second.told).toEqual(["up -1", "up 9", "up -3"]);
        expect(third.told.toSorted()).toEqual(["up -1", "up -2", "up 9"]);
        door.mesh.unitDown(UNIT);
      },
      (nodes) => {
        for (const { told } of nodes) expect(told.at(-1)).toBe("down 9");
      },
    );
  });

  test("one that starts later → linked once it has joined; the door's units too", () => {
    let late: Node | null = null;
    play(
      joined,
      linked,
      ([door], reactor) => {
        const ring = threadRingMemory();
        late = new Node(reactor, 3, new Map([[0, ring]]));
        late.mesh.join(); // before the door knows of it
        door.mesh.add(3, ring);
      },
      ([door]) => {
        expect(door.mesh.siblings).toEqual([1, 2, 3]);
        expect(door.told.at(-1)).toBe("up -4");
        expect(late?.told).toEqual(["up -1", "up 9"]);
        expect(late?.mesh.send(siblingNode(0), tickVerb(7))).toBe(true);
      },
      ([door]) => expect(door.received.at(-1)).toMatchObject({ from: siblingNode(3) }),
    );
  });

  test("one is over → down, and nothing is taken for it; the others stay linked", () => {
    play(
      joined,
      ([, second]) => second.mesh.close(),
      ([door, , third]) => {
        for (const { told, mesh, memory } of [door, third]) {
          expect(told.at(-1)).toBe("down -2");
          const used = memory.usedBytes;
          expect(mesh.send(siblingNode(1), tickVerb(1))).toBe(false);
          expect(memory.usedBytes).toBe(used);
        }
        expect(door.notes).toEqual([{ kind: "over" }]);
        expect(third.mesh.send(siblingNode(0), tickVerb(5))).toBe(true);
      },
      ([door]) => expect(door.received.at(-1)).toMatchObject({ from: siblingNode(2) }),
    );
  });

  test("not joined → no verb leaves", () => {
    play(
      ([door]) => door.mesh.join(),
      ([door, second]) => {
        expect(door.mesh.send(siblingNode(1), tickVerb(1))).toBe(false);
        expect(second.mesh.send(siblingNode(0), tickVerb(1))).toBe(false);
        expect(second.mesh.send(UNIT, tickVerb(1))).toBe(false);
      },
    );
  });
});

describe("verbs", () => {
  test("between siblings → with the payload, which its sender has back then", () => {
    const sent: string[] = [];
    play(
      joined,
      ([, second]) => {
        const verb = second.verb(
          { kind: VerbKind.forward, slice: 12, operation: OperationKind.write },
          "bytes",
        );
        const { bufferOffset } = verb;
        verb.sent = () => {
          second.memory.release(bufferOffset);
          sent.push("sent");
        };
        expect(second.mesh.send(siblingNode(2), verb)).toBe(true);
        expect(sent).toEqual([]);
      },
      ([, , third]) => {
        expect(third.received.map(({ from }) => from)).toEqual([siblingNode(1)]);
        expect(third.received[0]?.verb).toMatchObject({ slice: 12, kind: VerbKind.forward });
        expect([third.payload(), sent]).toEqual(["bytes", ["sent"]]);
      },
    );
  });

  test("every field of a verb travels, with lists and without; numbers up to the largest", () => {
    const numbers = Object.entries(new PeerVerb()).filter(([, value]) => typeof value === "number");
    const fixed = { kind: VerbKind.done, class: 2, status: Status.notHead, operation: 0 };
    const filled = Object.fromEntries(
      numbers.map(([name], index) => [name, (index + 1) * 2 ** 31 - 1]),
    );
    const own = { flags: 513, bufferOffset: NO_BUFFER, payloadBytes: 0, credit: 2 ** 32 - 1 };
    const small = { slice: 2 ** 32 - 1, fromDisk: 7, toDisk: 8, tickMs: 1234.5678 };
    const flat = Object.assign(new PeerVerb(), filled, fixed, own, small);
    const listed = Object.assign(new PeerVerb(), flat, { regions: [1, 2] });
    play(
      joined,
      ([door]) => {
        door.mesh.send(siblingNode(1), flat);
        door.mesh.send(siblingNode(1), listed);
      },
      ([, second]) => expect(second.received.map(({ verb }) => verb)).toEqual([flat, listed]),
    );
  });

  test("of another unit → to whose disk, head or question it is; else here; ticks: all", () => {
    play(
      joined,
      linked,
      ([door]) => {
        const to = (fields: Partial<PeerVerb>) => door.mesh.fromUnit(UNIT, door.verb(fields));
        to({ kind: VerbKind.flush, toDisk: 11 });
        to({ kind: VerbKind.forward, slice: 12, operation: OperationKind.trim });
        to({ kind: VerbKind.forwarded, sequence: 4 * 1000 + 1 });
        to({ kind: VerbKind.forwarded, sequence: 4 * 1000 });
        to({ kind: VerbKind.flush, toDisk: 77 });
        door.mesh.fromUnit(UNIT, tickVerb(123));
      },
      (nodes) => {
        const [door, second, third] = nodes.map(({ received }) => {
          expect(received.every(({ from }) => from === UNIT)).toBe(true);
          return received.map(({ verb }) => [
            verb.kind,
            verb.toDisk || verb.slice || verb.sequence,
          ]);
        });
        const tick = [VerbKind.tick, 0];
        expect(door).toEqual([[VerbKind.forwarded, 4000], [VerbKind.flush, 77], tick]);
        expect(second).toEqual([[VerbKind.flush, 11], [VerbKind.forwarded, 4001], tick]);
        expect(third).toEqual([[VerbKind.forward, 12], tick]);
      },
    );
  });

  test("for another unit → over the door's link; a buffer each, given back when sent", () => {
    let usedBytes = 0;
    play(
      joined,
      linked,
      ([, second]) => {
        usedBytes = second.memory.usedBytes;
        const verb = second.verb({ kind: VerbKind.write, toDisk: 90 }, "replica");
        const { bufferOffset } = verb;
        verb.sent = () => second.memory.release(bufferOffset);
        expect(second.mesh.send(UNIT, verb)).toBe(true);
        // Its door has the same clock to tell.
        expect(second.mesh.send(UNIT, tickVerb(1))).toBe(true);
      },
      ([door]) => {
        expect(door.outgoing.map(({ unit }) => unit)).toEqual([UNIT]);
        const { verb } = door.outgoing[0] as { verb: PeerVerb };
        expect([verb.kind, verb.toDisk]).toEqual([VerbKind.write, 90]);
        verb.sent?.();
        expect(door.memory.usedBytes).toBe(usedBytes);
      },
    );
  });

  test("the link is lost meanwhile → what was for it is dropped, its sender told before", () => {
    const order: string[] = [];
    let usedBytes = 0;
    play(
      joined,
      linked,
      ([door, second]) => {
        usedBytes = second.memory.usedBytes;
        const verb = second.verb({ kind: VerbKind.write, toDisk: 90 }, "replica");
        const { bufferOffset } = verb;
        verb.sent = () => {
          expect(second.told).not.toContain("down 9");
          order.push("sent");
          second.memory.release(bufferOffset);
        };
        // Lost, and there again, before the door has seen it.
        door.mesh.unitDown(UNIT);
        door.mesh.unitUp(UNIT);
        expect(second.mesh.send(UNIT, verb)).toBe(true);
      },
      ([door, second]) => {
        expect([order, door.outgoing]).toEqual([["sent"], []]);
        expect(second.told.slice(-3)).toEqual(["up 9", "down 9", "up 9"]);
        expect(door.memory.usedBytes).toBe(usedBytes);
      },
    );
  });

  test("the link takes nothing → the door keeps no buffer of it", () => {
    let usedBytes = 0;
    play(
      joined,
      linked,
      ([door, second]) => {
        usedBytes = door.memory.usedBytes;
        door.takes = false;
        const verb = second.verb({ kind: VerbKind.write, toDisk: 90 }, "replica");
        const { bufferOffset } = verb;
        verb.sent = () => second.memory.release(bufferOffset);
        second.mesh.send(UNIT, verb);
      },
      ([door]) => expect(door.memory.usedBytes).toBe(usedBytes),
    );
  });

  test("R13: more forwarded than may wait for siblings → busy, none kept; later again", () => {
    const MIB = 1 << 20;
    let usedBytes = 0;
    const forward = (door: Node, sequence: number) => {
      const verb = door.verb({ kind: VerbKind.forward, slice: 11, operation: OperationKind.write });
      verb.bufferOffset = door.memory.allocate(4 * MIB);
      Object.assign(verb, { payloadBytes: 4 * MIB, lengthBytes: 4 * MIB, sequence });
      door.mesh.fromUnit(UNIT, verb);
    };
    play(
      joined,
      linked,
      ([door]) => {
        usedBytes = door.memory.usedBytes;
        for (let sequence = 1; sequence <= 5; sequence++) forward(door, sequence);
        const answers = door.outgoing.map(({ verb }) => [verb.kind, verb.sequence, verb.status]);
        expect(answers).toEqual([[VerbKind.forwarded, 5, Status.busy]]);
      },
      ([door, second]) => {
        expect(second.received.map(({ verb }) => verb.sequence)).toEqual([1, 2, 3, 4]);
        for (const { verb } of second.received) second.memory.release(verb.bufferOffset);
        expect(door.memory.usedBytes).toBe(usedBytes);
        forward(door, 6);
      },
      ([, second]) => expect(second.received.at(-1)?.verb.sequence).toBe(6),
    );
  });
});
