// SPDX-License-Identifier: Apache-2.0
//
// For tests: a real reactor on the test's own thread. It blocks in `run` like in its Worker, so a
// test is a sequence of callbacks that ends with `finish`; one that does not end fails by its
// deadline.

import { NO_BUFFER } from "#base/memory.ts";
import { Operation, type OperationKind } from "#base/operation.ts";
import type { Status } from "#base/status.ts";
import { Reactor } from "./reactor.ts";

const DEADLINE_MS = 15_000;

export function runReactor(
  act: (reactor: Reactor, finish: () => void) => void,
  options: { memoryBytes?: number; lane?: boolean; plain?: boolean } = {},
): void {
  const { plain = false } = options;
  const reactor = new Reactor({
    memoryBytes: options.memoryBytes ?? 64 << 20,
    dirtyRoom: { take: () => plain },
  });
  const endMs = reactor.clock.nowMs() + DEADLINE_MS;
  let finished = false;
  reactor.onTick((nowMs) => {
    if (nowMs < endMs) return;
    reactor.stop();
  });
  const finish = () => {
    finished = true;
    reactor.stop();
  };
  reactor.defer(() => {
    if (options.lane === true) withLane(reactor, () => act(reactor, finish));
    else act(reactor, finish);
  });
  reactor.run();
  if (!finished) throw new Error(`the test did not finish within ${DEADLINE_MS} ms`);
}

/** Calls `then` when a thread serves the reactor's write lane. */
function withLane(reactor: Reactor, then: () => void): void {
  reactor.onLane = (seed) => {
    const worker = new Worker(new URL("./write-lane-fixture.ts", import.meta.url).href);
    worker.unref();
    worker.postMessage(seed);
  };
  const lane = reactor.writeLane();
  let isReady = false;
  reactor.onTick(() => {
    if (isReady || !lane.isServed) return;
    isReady = true;
    then();
  });
}

export function operation(
  kind: OperationKind,
  place: { offsetBytes?: number; lengthBytes?: number; bufferOffset?: number; flags?: number },
  done: (status: Status) => void,
): Operation {
  const made = new Operation();
  made.kind = kind;
  made.offsetBytes = place.offsetBytes ?? 0;
  made.lengthBytes = place.lengthBytes ?? 0;
  made.bufferOffset = place.bufferOffset ?? NO_BUFFER;
  made.flags = place.flags ?? 0;
  made.done = () => done(made.status);
  return made;
}
