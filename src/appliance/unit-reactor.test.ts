// SPDX-License-Identifier: Apache-2.0
//
// A control thread that stands still, as its reactor sees it: the test's own thread, which the
// reactor blocks.

import { expect, test } from "bun:test";
import { MessageChannel, receiveMessageOnPort } from "node:worker_threads";
import { COUNTERS_MAX, ReactorEnd } from "#machine/control-channel.ts";
import { createReactorWorld } from "#machine/main-world.ts";
import { runReactor } from "#machine/reactor-fixture.ts";
import type { FromReactor, ToReactor } from "./reactor-messages.ts";
import { UnitReactor } from "./unit-reactor.ts";

const SILENT_MS = 200;
const SHARED_BYTES = 64 + COUNTERS_MAX * 8;

test("the control thread stands still → the slices are given up, and it is told so", () => {
  const { port1, port2 } = new MessageChannel();
  const told: string[] = [];
  runReactor((reactor, finish) => {
    const shared = new SharedArrayBuffer(SHARED_BYTES);
    const seed = { kind: "reactor-seed" as const, shared, port: port1, options: {} };
    const channel = new ReactorEnd(seed, reactor, { controlSilentMs: SILENT_MS });
    const world = createReactorWorld(reactor.clock, (_level, sentence) => told.push(sentence));
    new UnitReactor(world, reactor, channel);
    const keys = { publicKey: "ab".repeat(32), privateKey: "cd".repeat(32) };
    const join: ToReactor = {
      kind: "join",
      unit: 1,
      clusterId: "ef".repeat(16),
      linkKey: "12".repeat(32),
      ...keys,
    };
    port2.postMessage(join);
    reactor.onTick(() => {
      for (;;) {
        const received = receiveMessageOnPort(port2) as { message: FromReactor } | undefined;
        if (received === undefined) return;
        if (received.message.kind !== "released") continue;
        told.push("released");
        finish();
      }
    });
  });
  port1.close();
  expect(told).toContain("the control thread is silent; giving up heads");
  expect(told.at(-1)).toBe("released");
});
