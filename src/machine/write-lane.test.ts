// SPDX-License-Identifier: Apache-2.0
//
// The write lane's side of the reactor: whom it takes writes from, and when. The thread itself is
// tested with files (file-area.test.ts).

import { expect, test } from "bun:test";
import { mappedBytes } from "./arena.ts";
import { libc } from "./libc.ts";
import { WriteLane } from "./write-lane.ts";

const nobody = { laneDone: () => {} };
/** As the thread says of itself that it is awake. */
const THREAD_WORD = 64;
const AWAKE = 1;

function lane(): { lane: WriteLane; words: Int32Array; take: () => boolean } {
  const made = new WriteLane(libc.eventfd(0, 0));
  const words = new Int32Array(mappedBytes(made.seed.address, 4096));
  return { lane: made, words, take: () => made.write(1, 0, 4096, 4096, nobody) };
}

test("nobody serves it → it takes nothing, and never keeps the reactor awake", () => {
  const { lane: own, take } = lane();
  expect(take()).toBe(false);
  expect([own.isServed, own.inFlight, own.mayWait()]).toEqual([false, 0, true]);
});

test("its thread hangs → nothing more is given to it, until it goes on", () => {
  const { lane: own, words, take } = lane();
  Atomics.store(words, THREAD_WORD, AWAKE);
  expect(take()).toBe(true);
  own.tick();
  expect(take()).toBe(true);
  own.tick();
  expect(take()).toBe(false);
  Atomics.store(words, 16, 1); // the thread has completed it
  own.tick();
  expect(take()).toBe(true);
});

test("it takes as many writes as it has entries", () => {
  const { lane: own, words, take } = lane();
  Atomics.store(words, THREAD_WORD, AWAKE);
  let taken = 0;
  while (take()) taken++;
  expect([taken, own.inFlight]).toEqual([512, 512]);
});
