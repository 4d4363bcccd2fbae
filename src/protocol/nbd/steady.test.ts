// SPDX-License-Identifier: Apache-2.0
//
// The steady state: whatever a host asks for again and again allocates nothing in this room.

import { heapStats } from "bun:jsc";
import { expect, test } from "bun:test";
import { Memory } from "#base/memory.ts";
import type { Operation } from "#base/operation.ts";
import { Status } from "#base/status.ts";
import type { StreamSocket } from "#base/stream.ts";
import { HostCredit } from "./credit.ts";
import type { HeaderStyle } from "./handshake.ts";
import { extendedRequestBytes, requestBytes } from "./host-fixture.ts";
import { Command } from "./nbd.wire.ts";
import { SLAB_BYTES, Transmission } from "./transmission.ts";

const WARM_UP = 200_000;
const REQUESTS = 200_000;
/**
 * One object of 16 bytes per request would be twelve times as much: capacity counts garbage too.
 */
const GROWTH_BYTES_MAX = 256 << 10;

type Done = ((status: Status) => void) | null;

/** A connection whose sends are taken at the end of each turn, without an object per send. */
function connection(headers: HeaderStyle) {
  const memory = new Memory(new ArrayBuffer(8 << 20));
  const sent: Done[] = [];
  const ignore = () => {};
  const socket: StreamSocket = {
    peerAddress: "192.0.2.7",
    peerPort: 1,
    unheardMs: 0,
    queuedBytes: 0,
    onBytes: () => 0,
    onClose: ignore,
    receiveInto: ignore,
    pauseReceive: ignore,
    resumeReceive: ignore,
    send: (_at, _length, done) => void sent.push(done),
    detach: ignore,
    close: ignore,
    finish: ignore,
  };
  const volume = {
    name: "vol",
    description: "",
    sizeBytes: 2 ** 40,
    readOnly: false,
    multiConn: true,
    tls: "optional" as const,
    target: { submit: (operation: Operation) => operation.complete(Status.ok) },
  };
  const transmission = new Transmission(
    {
      memory,
      socket,
      account: new HostCredit(4 << 20).open("192.0.2.7", ignore),
      negotiated: { volume, headers, allocationContext: true },
      defer: (act) => act(),
      broken: (reason) => expect.unreachable(reason),
      idle: ignore,
    },
    memory.allocate(SLAB_BYTES),
  );
  return (bytes: Buffer, times: number) => {
    const at = memory.allocate(bytes.length);
    memory.bytes.set(bytes, at);
    for (let count = 0; count < times; count++) {
      transmission.feed(at, bytes.length);
      for (let index = 0; index < sent.length; index++) sent[index]?.(Status.ok);
      sent.length = 0;
    }
    memory.release(at);
  };
}

const { READ, WRITE, FLUSH, TRIM, WRITE_ZEROES } = Command;
for (const headers of ["simple", "structured", "extended"] as const) {
  test(`${headers} headers: reads, writes, flushes, trims → no object per request`, () => {
    const make = headers === "extended" ? extendedRequestBytes : requestBytes;
    const repeat = connection(headers);
    for (const bytes of [
      make(READ, { offset: 4096, length: 4096 }),
      make(READ, { offset: 4096, length: 65536 }),
      make(READ, { offset: 4096, length: 1 << 20 }),
      make(WRITE, { offset: 4096, payload: Buffer.alloc(4096) }),
      make(FLUSH),
      make(TRIM, { length: 1 << 20 }),
      make(WRITE_ZEROES, { length: 1 << 20, flags: 1 }),
      make(READ, { offset: 1, length: 4096 }),
    ]) {
      repeat(bytes, WARM_UP);
      Bun.gc(true);
      const before = heapStats().heapCapacity;
      repeat(bytes, REQUESTS);
      expect(heapStats().heapCapacity - before).toBeLessThan(GROWTH_BYTES_MAX);
    }
  });
}
