// SPDX-License-Identifier: Apache-2.0
//
// A socket on the ring that gets large payloads one after the other, each behind a head: what is
// foreseen of them, and what comes otherwise. Both ends real.

import { expect, test } from "bun:test";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import type { StreamSocket } from "#base/stream.ts";
import { Listener, connect } from "./listener.ts";
import type { Reactor } from "./reactor.ts";
import { runReactor } from "./reactor-fixture.ts";
import { socketToRelay } from "./relay-socket.ts";
import { RingSocket } from "./stream-socket.ts";

const HEAD_BYTES = 12;
const PAYLOAD_BYTES = 64 << 10;
const MAGIC = 0x48454144;
const PEER = { address: "192.0.2.7", port: 5 };

type Ready = (server: StreamSocket, client: StreamSocket) => void;

function overUnix(reactor: Reactor, ready: Ready): void {
  const made = socketToRelay(reactor, PEER) as NonNullable<ReturnType<typeof socketToRelay>>;
  ready(made.socket, RingSocket.create(reactor, made.other, PEER) as RingSocket);
}

function overTcp(reactor: Reactor, ready: Ready): void {
  let server: StreamSocket | null = null;
  let client: StreamSocket | null = null;
  const both = () => {
    if (server === null || client === null) return;
    listener.close();
    ready(server, client);
  };
  const listener = new Listener(reactor, { address: "127.0.0.1", port: 0 }, {}, (socket) => {
    server = socket;
    server.onBytes = () => 0;
    both();
  });
  connect(reactor, { address: "127.0.0.1", port: listener.port }, {}, (socket) => {
    client = socket as StreamSocket;
    client.onBytes = () => 0;
    both();
  });
}

/** A head: MAGIC, its number, the bytes of its payload. */
function writeHead(reactor: Reactor, at: number, number: number, payloadBytes: number): void {
  reactor.memory.view.setUint32(at, MAGIC, true);
  reactor.memory.view.setUint32(at + 4, number, true);
  reactor.memory.view.setUint32(at + 8, payloadBytes, true);
}

/** Takes messages apart; `whole` is told of each, its payload checked. */
class Reader {
  readonly #reactor: Reactor;
  readonly #socket: StreamSocket;
  readonly #target: number;
  readonly #whole: (number: number, payloadBytes: number) => void;
  /** Bytes presented per call of onBytes that used any. */
  readonly presented: number[] = [];
  readonly statuses: Status[] = [];
  /** Asked before a message is taken: false leaves it for later. */
  mayTake: () => boolean = () => true;

  constructor(
    reactor: Reactor,
    socket: StreamSocket,
    whole: (number: number, payloadBytes: number) => void,
  ) {
    this.#reactor = reactor;
    this.#socket = socket;
    this.#target = reactor.memory.allocate(1 << 20);
    this.#whole = whole;
    socket.onBytes = (at, lengthBytes) => this.#take(at, lengthBytes);
  }

  #take(at: number, lengthBytes: number): number {
    if (lengthBytes < HEAD_BYTES || !this.mayTake()) return 0;
    const { view } = this.#reactor.memory;
    expect(view.getUint32(at, true)).toBe(MAGIC);
    const number = view.getUint32(at + 4, true);
    const payloadBytes = view.getUint32(at + 8, true);
    this.presented.push(lengthBytes);
    if (payloadBytes === 0) this.#whole(number, 0);
    else this.#receive(number, payloadBytes);
    return HEAD_BYTES;
  }

  #receive(number: number, payloadBytes: number): void {
    this.#socket.receiveInto(this.#target, payloadBytes, (status) => {
      this.statuses.push(status);
      if (status !== Status.ok) return;
      const { bytes } = this.#reactor.memory;
      const got = bytes.subarray(this.#target, this.#target + payloadBytes);
      const wanted = payloadOf(number, payloadBytes);
      expect(Buffer.compare(got, wanted)).toBe(0);
      this.#whole(number, payloadBytes);
    });
  }
}

const PATTERN = new Uint8Array(1 << 21).map((_, index) => (index * 2654435761) >>> 13);

function payloadOf(number: number, payloadBytes: number): Uint8Array {
  const from = (number * 977) % (1 << 19);
  return PATTERN.subarray(from, from + payloadBytes);
}

for (const [name, over] of [
  ["a unix socket", overUnix],
  ["TCP", overTcp],
] as const) {
  test(`${name}, payloads of one size → none but the first passes the receive buffer`, () => {
    runReactor((reactor, finish) => {
      over(reactor, (server, client) => {
        const { memory } = reactor;
        const count = 64;
        const at = memory.allocate(1 << 20);
        const reader = new Reader(reactor, server, (number) => {
          if (number < count - 1) return;
          // One may have been cut anywhere; what follows a large payload is a head alone.
          expect(reader.presented.slice(2).every((bytes) => bytes === HEAD_BYTES)).toBe(true);
          expect(reader.presented).toHaveLength(count);
          server.onClose = () => finish();
          client.close();
        });
        const send = (number: number) => {
          writeHead(reactor, at, number, PAYLOAD_BYTES);
          memory.bytes.set(payloadOf(number, PAYLOAD_BYTES), at + HEAD_BYTES);
          const next = number + 1 < count ? () => send(number + 1) : null;
          client.send(at, HEAD_BYTES + PAYLOAD_BYTES, next);
        };
        send(0);
      });
    });
  });

  for (const seed of [1, 2, 3, 4]) {
    test(`${name}, seed ${seed}: any sizes, cut anywhere, now and then paused → every byte`, () => {
      runReactor((reactor, finish) => {
        over(reactor, (server, client) => {
          const prng = new Prng(seed);
          const count = 400;
          let expected = 0;
          const reader = new Reader(reactor, server, (number) => {
            expect(number).toBe(expected);
            expected++;
            if (expected < count) return;
            server.onClose = () => finish();
            client.close();
          });
          reader.mayTake = () => {
            if (!prng.chance(0.1)) return true;
            server.pauseReceive();
            reactor.defer(() => reactor.defer(() => server.resumeReceive()));
            return false;
          };
          sendMessages(reactor, client, { count, prng: prng.fork() });
        });
      });
    });
  }

  test(`${name}, the peer ends in the middle of a payload → linkLost, then onClose`, () => {
    runReactor((reactor, finish) => {
      over(reactor, (server, client) => {
        const at = reactor.memory.allocate(1 << 20);
        const reader = new Reader(reactor, server, () => {});
        for (let number = 0; number < 4; number++) {
          const message = at + number * 2 * PAYLOAD_BYTES;
          writeHead(reactor, message, number, PAYLOAD_BYTES);
          reactor.memory.bytes.set(payloadOf(number, PAYLOAD_BYTES), message + HEAD_BYTES);
          const sent = number < 3 ? PAYLOAD_BYTES : PAYLOAD_BYTES / 2;
          client.send(message, HEAD_BYTES + sent, null);
        }
        client.finish();
        server.onClose = (reason) => {
          expect(reason).toBe("the peer closed");
          expect(reader.statuses).toEqual([Status.ok, Status.ok, Status.ok, Status.linkLost]);
          finish();
        };
      });
    });
  });
}

test("paused while a payload comes → whole, the next head waits; given away with it → null", () => {
  runReactor((reactor, finish) => {
    overUnix(reactor, (server, client) => {
      const at = reactor.memory.allocate(1 << 20);
      const numbers: number[] = [];
      const reader = new Reader(reactor, server, (number) => {
        numbers.push(number);
        if (number === 2) server.pauseReceive();
      });
      for (let number = 0; number < 4; number++) {
        const message = at + number * 2 * PAYLOAD_BYTES;
        writeHead(reactor, message, number, PAYLOAD_BYTES);
        reactor.memory.bytes.set(payloadOf(number, PAYLOAD_BYTES), message + HEAD_BYTES);
        client.send(message, HEAD_BYTES + PAYLOAD_BYTES, null);
      }
      let ticks = 0;
      reactor.onTick(() => {
        if (++ticks !== 3) return;
        expect(numbers).toEqual([0, 1, 2]);
        expect(reader.statuses).toHaveLength(3);
        server.resumeReceive();
      });
      reactor.onTick(() => {
        if (ticks !== 5) return;
        expect(numbers).toEqual([0, 1, 2, 3]);
        reader.mayTake = () => {
          server.pauseReceive();
          return false;
        };
        client.send(at, HEAD_BYTES, null);
      });
      reactor.onTick(() => {
        if (ticks !== 7) return;
        client.onClose = () => finish();
        server.detach((handle) => expect(handle).toBeNull());
      });
    });
  });
});

/** In pieces of any length, which leave in turns of their own. */
function sendMessages(
  reactor: Reactor,
  client: StreamSocket,
  how: { count: number; prng: Prng },
): void {
  const { count, prng } = how;
  const { memory } = reactor;
  const at = memory.allocate(1 << 20);
  let number = 0;
  let usual = PAYLOAD_BYTES;
  const next = () => {
    if (number === count) return;
    if (prng.chance(0.05)) usual = prng.pick([20 << 10, 40_000, PAYLOAD_BYTES, 300_000]);
    const payloadBytes = prng.chance(0.8) ? usual : prng.pick([0, 0, 1, 4096, 17_000, 150_000]);
    writeHead(reactor, at, number, payloadBytes);
    memory.bytes.set(payloadOf(number, payloadBytes), at + HEAD_BYTES);
    number++;
    const end = HEAD_BYTES + payloadBytes;
    const piece = (from: number) => {
      if (from === end) return next();
      const isWhole = prng.chance(0.5);
      const length = isWhole ? end - from : prng.between(1, Math.min(end - from, 70_000));
      client.send(at + from, length, () => {
        if (prng.chance(0.7)) piece(from + length);
        else reactor.defer(() => reactor.defer(() => piece(from + length)));
      });
    };
    piece(0);
  };
  next();
}
