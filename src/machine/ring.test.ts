// SPDX-License-Identifier: Apache-2.0
//
// The ring and the loop around it, on this kernel; its refusals by strace in the kernel's place.

import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import path from "node:path";
import { RING_OP, SQE } from "./io-uring.wire.ts";
import { libc } from "./libc.ts";
import { runReactor } from "./reactor-fixture.ts";
import { Ring, type RingTarget, probeRing } from "./ring.ts";

const POLLIN = 1;

class Counting implements RingTarget {
  readonly seen = new Map<number, number>();
  ringDone(tag: number, result: number): void {
    expect(result).toBe(0);
    this.seen.set(tag, (this.seen.get(tag) ?? 0) + 1);
  }
}

test("more submissions than entries, completions too → each told once, slots used again", () => {
  const ring = new Ring({ entries: 8 });
  const target = new Counting();
  for (let round = 0; round < 3; round++) {
    target.seen.clear();
    for (let tag = 0; tag < 1000; tag++) ring.prepare(RING_OP.nop, -1, target, tag);
    while (target.seen.size < 1000) {
      ring.submitAndWait(10);
      ring.dispatch();
    }
    expect([...target.seen.values()].every((count) => count === 1)).toBe(true);
    expect(ring.inFlight).toBe(0);
  }
  ring.close();
});

test("a target that submits from within its completion → goes on, also with a full queue", () => {
  const ring = new Ring({ entries: 8 });
  let left = 5000;
  const target: RingTarget = {
    ringDone() {
      for (let i = 0; i < 3 && left > 0; i++, left--) ring.prepare(RING_OP.nop, -1, target, 0);
    },
  };
  ring.prepare(RING_OP.nop, -1, target, 0);
  while (ring.inFlight > 0) {
    ring.submitAndWait(10);
    ring.dispatch();
  }
  expect(left).toBe(0);
  ring.close();
});

test("looked out for → what came is there without a wait, and nothing for nothing", () => {
  const ring = new Ring({ entries: 8 });
  const seen: number[] = [];
  const target: RingTarget = { ringDone: (_, result) => void seen.push(result) };
  const fd = libc.eventfd(0, 0);
  const entry = ring.prepare(RING_OP.pollAdd, fd, target, 0);
  ring.words[entry + SQE.opFlags] = POLLIN;
  ring.submitAndLook(5, 0);
  expect(ring.waiting).toBe(0);
  const one = new Uint8Array(new ArrayBuffer(4096));
  one[0] = 1;
  libc.write(fd, one, 8);
  ring.submitAndLook(10_000, 0);
  expect(ring.dispatch()).toBe(1);
  expect(seen).toEqual([POLLIN]);
  libc.close(fd);
  ring.close();
});

test("nothing comes → the wait ends by its time, not before and not much after", () => {
  runReactor((reactor, finish) => {
    const startMs = reactor.clock.nowMs();
    reactor.ring.submitAndWait(30);
    reactor.ring.submitAndWait(30); // the wake's read may have been submitted by the first
    const tookMs = reactor.clock.nowMs() - startMs;
    expect(tookMs).toBeGreaterThanOrEqual(30);
    expect(tookMs).toBeLessThan(1000);
    finish();
  });
});

test("ticks come about every 50 ms, deferred calls in order and before the next wait", () => {
  runReactor((reactor, finish) => {
    const order: number[] = [];
    const startMs = reactor.clock.nowMs();
    reactor.defer(() => {
      order.push(1);
      reactor.defer(() => order.push(3));
    });
    reactor.defer(() => order.push(2));
    let ticks = 0;
    reactor.onTick((nowMs) => {
      expect(order).toEqual([1, 2, 3]);
      if (++ticks < 10) return;
      expect(nowMs - startMs).toBeGreaterThan(400);
      expect(nowMs - startMs).toBeLessThan(3000);
      finish();
    });
  });
});

test("probing many times → nothing is used up", () => {
  for (let i = 0; i < 100; i++) expect(probeRing().features).toBeArray();
});

test("io_uring refused by the kernel → badMachine in plain words, per reason", () => {
  // strace answers the call in the kernel's place.
  const script = `
    import { probeRing } from ${JSON.stringify(path.join(import.meta.dir, "ring.ts"))};
    try { probeRing(); console.log("made"); }
    catch (fault) { console.log(fault.code, fault.message); }`;
  const sentences = { ENOSYS: "has no io_uring", EPERM: "forbidden", EINVAL: "too old" };
  for (const [code, sentence] of Object.entries(sentences)) {
    const inject = `inject=io_uring_setup:error=${code}`;
    const traced = ["-f", "-qq", "-e", "trace=io_uring_setup", "-e", inject];
    const args = [...traced, process.execPath, "-e", script];
    const { stdout } = spawnSync("strace", args, { encoding: "utf8" });
    expect(stdout).toStartWith("badMachine ");
    expect(stdout).toContain(sentence);
  }
});
