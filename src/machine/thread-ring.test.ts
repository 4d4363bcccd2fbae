// SPDX-License-Identifier: Apache-2.0
//
// Both ends of a ring on one real reactor: order, wrapping, room, payloads, memory that is short,
// and what is owed at the end.

import { describe, expect, test } from "bun:test";
import { NO_BUFFER } from "#base/memory.ts";
import type { Reactor } from "./reactor.ts";
import { runReactor } from "./reactor-fixture.ts";
import { HEAD_BYTES_MAX, ThreadRing, threadRingMemory } from "./thread-ring.ts";

interface Got {
  number: number;
  headBytes: number;
  payload: string;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Two ends; what the second one receives is told to `got`, its payload released. */
function pair(reactor: Reactor, got: (one: Got) => void): [ThreadRing, ThreadRing] {
  const shared = threadRingMemory();
  const nobody = { received: () => expect.unreachable() };
  const near = new ThreadRing(reactor, shared, 0, nobody);
  const far = new ThreadRing(reactor, shared, 1, {
    received: ({ bytes, at, lengthBytes }, payload) => {
      const number = new DataView(bytes.buffer, bytes.byteOffset + at).getUint32(0);
      const { bufferOffset: from } = payload;
      const { memory } = reactor;
      const text = decoder.decode(
        memory.bytes.slice(Math.max(0, from), Math.max(0, from) + payload.lengthBytes),
      );
      if (from !== NO_BUFFER) memory.release(from);
      got({ number, headBytes: lengthBytes, payload: text });
    },
  });
  return [near, far];
}

function numbered(number: number) {
  return (target: Uint8Array, at: number) => {
    new DataView(target.buffer, target.byteOffset + at).setUint32(0, number);
  };
}

function lend(reactor: Reactor, text: string, sent: () => void, tag = 0) {
  const bytes = encoder.encode(text);
  const bufferOffset = reactor.memory.allocate(bytes.length);
  reactor.memory.bytes.set(bytes, bufferOffset);
  return { bufferOffset, lengthBytes: bytes.length, sent, tag };
}

describe("ThreadRing", () => {
  test("more heads than the ring has room for, of all lengths → all of them, in order", () => {
    const count = 3000;
    const got: Got[] = [];
    const lengthOf = (number: number) => 4 + ((number * 7919) % 9000);
    runReactor((reactor, finish) => {
      const [near] = pair(reactor, (one) => {
        got.push(one);
        if (got.length === count) finish();
      });
      for (let number = 0; number < count; number++) near.send(lengthOf(number), numbered(number));
    });
    expect(got.map(({ number }) => number)).toEqual(Array.from({ length: count }, (_, at) => at));
    expect(got.every(({ number, headBytes }) => headBytes === lengthOf(number))).toBe(true);
  });

  test("the longest heads, one behind the other → none waits for ever", () => {
    const got: number[] = [];
    runReactor((reactor, finish) => {
      const [near] = pair(reactor, ({ number }) => {
        got.push(number);
        if (number < 20) near.send(HEAD_BYTES_MAX, numbered(number + 1));
        else finish();
      });
      near.send(HEAD_BYTES_MAX, numbered(0));
    });
    expect(got).toHaveLength(21);
  });

  test("payloads → copied, each sender told once, its memory whole again", () => {
    const got: string[] = [];
    const sent: number[] = [];
    let leftBytes = -1;
    runReactor((reactor, finish) => {
      const [near] = pair(reactor, ({ payload }) => void got.push(payload));
      const before = reactor.memory.usedBytes;
      for (let number = 0; number < 3; number++) {
        const lent = lend(reactor, `payload ${number}`, () => {
          expect(got).toContain(`payload ${number}`);
          sent.push(number);
          reactor.memory.release(lent.bufferOffset);
          if (sent.length < 3) return;
          leftBytes = reactor.memory.usedBytes - before;
          finish();
        });
        near.send(4, numbered(number), lent);
        expect(sent).toEqual([]); // never from within send
      }
    });
    expect(got).toEqual(["payload 0", "payload 1", "payload 2"]);
    expect([sent, leftBytes]).toEqual([[0, 1, 2], 0]);
  });

  test("no memory for a payload → what has none passes it; in time it comes, then others", () => {
    const got: number[] = [];
    runReactor((reactor, finish) => {
      const { memory } = reactor;
      const [near] = pair(reactor, ({ number }) => {
        got.push(number);
        if (number === 3) for (const block of taken.splice(0)) memory.release(block);
        if (number === 2) finish();
      });
      const first = lend(reactor, "first", () => {});
      const second = lend(reactor, "second", () => {});
      // There is some, but what leaves needs it.
      const taken: number[] = [];
      const mostBytes = (memory.bytes.length * 3) / 4;
      while (memory.usedBytes < mostBytes) taken.push(memory.allocate(1 << 20));
      near.send(4, numbered(1), first);
      near.send(4, numbered(2), second);
      near.send(4, numbered(3));
    });
    expect(got).toEqual([3, 1, 2]);
  });

  test("taken back by its tag → told at once and not again; others later", () => {
    const told: string[] = [];
    runReactor((reactor, finish) => {
      const [near] = pair(reactor, ({ number }) => void told.push(`came ${number}`));
      near.send(
        4,
        numbered(1),
        lend(reactor, "a", () => told.push("sent 1"), 7),
      );
      near.send(
        4,
        numbered(2),
        lend(reactor, "b", () => void (told.push("sent 2"), finish()), 8),
      );
      near.takeBack(7);
      expect(told).toEqual(["sent 1"]);
    });
    expect(told.toSorted()).toEqual(["came 1", "came 2", "sent 1", "sent 2"]);
  });

  test("the sender is closed before a payload was copied → heads come, the payload never", () => {
    const told: string[] = [];
    runReactor((reactor, finish) => {
      const [near] = pair(reactor, ({ number }) => {
        told.push(`came ${number}`);
        if (number === 3) finish();
      });
      near.send(4, numbered(1));
      near.send(
        4,
        numbered(2),
        lend(reactor, "a", () => told.push("sent 2")),
      );
      near.send(4, numbered(3));
      near.close();
    });
    expect(told).toEqual(["sent 2", "came 1", "came 3"]);
  });

  test("closed → what is lent is told once, nothing comes any more, later sends end too", () => {
    const told: string[] = [];
    runReactor((reactor, finish) => {
      const [near, far] = pair(reactor, ({ number }) => void told.push(`came ${number}`));
      near.send(
        4,
        numbered(1),
        lend(reactor, "a", () => told.push("sent 1")),
      );
      far.close();
      near.close();
      expect(told).toEqual(["sent 1"]);
      near.send(
        4,
        numbered(2),
        lend(reactor, "b", () => void (told.push("sent 2"), finish())),
      );
    });
    expect(told).toEqual(["sent 1", "sent 2"]);
  });
});
