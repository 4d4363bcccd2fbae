// SPDX-License-Identifier: Apache-2.0
//
// The channel to a real Worker with a reactor: order, bound, and each side noticing the other hang.

import { describe, expect, test } from "bun:test";
import { MessageChannel } from "node:worker_threads";
import { createClock } from "./clock.ts";
import { COUNTERS_MAX, ControlEnd, MESSAGES_MAX, ReactorEnd, WORD } from "./control-channel.ts";

interface Told {
  kind: string;
  number?: number;
}

/** A control end with a Worker behind it; `told` gets every message. */
function start(told: (message: Told) => void): { control: ControlEnd; worker: Worker } {
  const worker = new Worker(new URL("./control-channel-fixture.ts", import.meta.url).href);
  const control = new ControlEnd(worker, {}, { reactorSilentMs: 1000 });
  control.onMessage = (message) => told(message as Told);
  return { control, worker };
}

test("100,000 messages to a blocked Worker and back → all, in order, bounded", async () => {
  const count = 100_000;
  const { promise, resolve } = Promise.withResolvers<void>();
  let posted = 0;
  let echoed = 0;
  let refusals = 0;
  const fill = () => {
    while (posted < count) {
      if (!control.post({ kind: "echo", number: posted })) {
        refusals++;
        return;
      }
      posted++;
    }
  };
  const startMs = performance.now();
  const { control, worker } = start((message) => {
    if (message.kind === "listening") {
      fill();
      expect(posted).toBeGreaterThanOrEqual(MESSAGES_MAX);
    }
    if (message.kind === "echo") {
      expect(message.number).toBe(echoed);
      echoed++;
      if (posted < count) fill();
      if (echoed === count) control.post({ kind: "stop" });
    }
    if (message.kind === "stopped") resolve();
  });
  await promise;
  expect(control.counters.get(0)).toBe(count + 1);
  expect(refusals).toBeGreaterThan(0);
  const perSecond = Math.round((count / (performance.now() - startMs)) * 1000);
  console.log(`  (${perSecond} echoes per second)`);
  control.close();
  worker.terminate();
});

test("a reactor that hangs longer than its limit → the control thread is told, once", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  let silences = 0;
  const { control, worker } = start((message) => {
    if (message.kind === "ticking") control.post({ kind: "hang", number: 1800 });
    if (message.kind === "stopped") resolve();
  });
  control.onReactorSilent = () => {
    silences++;
    control.post({ kind: "stop" });
  };
  await promise;
  expect(silences).toBe(1);
  control.close();
  worker.terminate();
});

test("an exception in the reactor → the control thread is told at once, in its words", async () => {
  const { promise, resolve } = Promise.withResolvers<string>();
  const startMs = performance.now();
  const { control, worker } = start((message) => {
    if (message.kind === "listening") control.post({ kind: "throw" });
  });
  control.onReactorSilent = resolve;
  expect(await promise).toContain("a bug in the reactor");
  expect(performance.now() - startMs).toBeLessThan(1000);
  control.close();
  worker.terminate();
});

test("a control thread that hangs longer than its limit → the reactor is told", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const { control, worker } = start((message) => {
    if (message.kind === "ticking") {
      const clock = createClock();
      const untilMs = clock.nowMs() + 1800;
      while (clock.nowMs() < untilMs); // what a bug would look like
    }
    if (message.kind === "control-silent") control.post({ kind: "stop" });
    if (message.kind === "stopped") resolve();
  });
  await promise;
  control.close();
  worker.terminate();
});

describe("messages and wakes", () => {
  function reactorEnd() {
    const { port1, port2 } = new MessageChannel();
    const shared = new SharedArrayBuffer(64 + COUNTERS_MAX * 8);
    const words = new Int32Array(shared, 0, 16);
    let tick: (nowMs: number) => void = () => {};
    const reactor = {
      ...{ clock: createClock(), wakeFd: -1, onWake: () => {}, defer: () => {} },
      onTick: (act: typeof tick) => {
        tick = act;
      },
    };
    const end = new ReactorEnd({ kind: "reactor-seed", port: port2, shared }, reactor);
    const taken: unknown[] = [];
    end.onMessage = (message) => taken.push(message);
    return { port: port1, words, taken, tick: (nowMs: number) => tick(nowMs) };
  }

  test("posted without a wake → taken at the next tick", () => {
    const { port, words, taken, tick } = reactorEnd();
    port.postMessage({ kind: "one" });
    Atomics.add(words, WORD.toReactorPosted, 1);
    tick(0);
    expect(taken).toEqual([{ kind: "one" }]);
    tick(60_000);
    port.close();
  });

  test("posted and nowhere → the reactor ends, when it has waited for long", () => {
    const { port, words, taken, tick } = reactorEnd();
    Atomics.add(words, WORD.toReactorPosted, 1);
    for (const nowMs of [0, 1000, 2000]) tick(nowMs);
    // Another one arrives: the one before is missed all the same, and waited for anew.
    port.postMessage({ kind: "two" });
    Atomics.add(words, WORD.toReactorPosted, 1);
    for (const nowMs of [3000, 5500, 7900]) tick(nowMs);
    expect(taken).toEqual([{ kind: "two" }]);
    expect(() => tick(8000)).toThrow("each message of the control thread arrives");
    port.close();
  });
});
