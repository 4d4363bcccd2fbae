// SPDX-License-Identifier: Apache-2.0
//
// What the relay tells the reactor first: taken at every split of the stream, never more of it.

import { expect, test } from "bun:test";
import { Memory } from "#base/memory.ts";
import type { StreamSocket } from "#base/stream.ts";
import { identityBytes, receiveIdentity } from "./relay-identity.ts";

const FINGERPRINT = "0123456789abcdef".repeat(4);

/** As the ring presents bytes: what was not used up again, with more behind it. */
class Presented {
  readonly memory = new Memory(new ArrayBuffer(1 << 20));
  onBytes: (at: number, length: number) => number = () => 0;
  onClose: (reason: string) => void = () => {};
  #held = Buffer.alloc(0);

  arrive(bytes: Uint8Array): void {
    this.#held = Buffer.concat([this.#held, bytes]);
    for (;;) {
      this.memory.bytes.set(this.#held, 4096);
      const used = this.onBytes(4096, this.#held.length);
      this.#held = this.#held.subarray(used);
      if (used === 0 || this.#held.length === 0) return;
    }
  }
}

for (const [said, certificate] of [
  [FINGERPRINT, FINGERPRINT],
  [null, null],
] as const) {
  test(`${said ?? "no certificate"}, split anywhere → told once, what follows is untouched`, () => {
    for (let split = 0; split <= 32; split++) {
      const socket = new Presented();
      const told: (string | null)[] = [];
      let rest = "";
      receiveIdentity(socket.memory, socket as never as StreamSocket, (plain, shown) => {
        expect(plain as unknown).toBe(socket);
        told.push(shown);
        socket.onBytes = (at, length) => {
          rest += Buffer.from(socket.memory.bytes.subarray(at, at + length)).toString();
          return length;
        };
      });
      const bytes = Buffer.concat([identityBytes(said), Buffer.from("go")]);
      socket.arrive(bytes.subarray(0, split));
      socket.arrive(bytes.subarray(split));
      expect([split, told, rest]).toEqual([split, [certificate], "go"]);
    }
  });
}

test("the relay gives up → told that there is no TLS", () => {
  const socket = new Presented();
  const told: unknown[] = [];
  receiveIdentity(socket.memory, socket as never as StreamSocket, (...both) => told.push(both));
  socket.arrive(identityBytes(FINGERPRINT).subarray(0, 31));
  socket.onClose("ended");
  expect(told).toEqual([[null, null]]);
});
