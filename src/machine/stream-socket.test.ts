// SPDX-License-Identifier: Apache-2.0
//
// Sockets on the ring, both ends real, over loopback and unix sockets.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync, existsSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Prng } from "#base/prng.ts";
import { Status } from "#base/status.ts";
import type { StreamSocket } from "#base/stream.ts";
import { Listener, connect } from "./listener.ts";
import type { Reactor } from "./reactor.ts";
import { mapMemory, mappedBytes } from "./arena.ts";
import { address, libc } from "./libc.ts";
import { runReactor } from "./reactor-fixture.ts";
import { socketToRelay } from "./relay-socket.ts";
import { RingSocket } from "./stream-socket.ts";
import { type Endpoint, decodeEndpoint, encodeEndpoint } from "./socket-address.ts";

function pair(
  reactor: Reactor,
  options: { receiveBytes?: number; endpoint?: Endpoint },
  ready: (server: StreamSocket, client: StreamSocket, listener: Listener) => void,
): void {
  let server: StreamSocket | null = null;
  let client: StreamSocket | null = null;
  const both = () => {
    if (server !== null && client !== null) ready(server, client, listener);
  };
  const endpoint = options.endpoint ?? { address: "127.0.0.1", port: 0 };
  const streams = options.receiveBytes === undefined ? {} : { receiveBytes: options.receiveBytes };
  const listener = new Listener(reactor, endpoint, streams, (socket) => {
    server = socket;
    socket.onBytes = () => 0;
    both();
  });
  const to = "path" in endpoint ? endpoint : { address: endpoint.address, port: listener.port };
  connect(reactor, to, streams, (socket, reason) => {
    expect(reason).toBe("");
    client = socket as StreamSocket;
    client.onBytes = () => 0;
    both();
  });
}

test("many small messages, split anywhere → all arrive in order, none lost or doubled", () => {
  runReactor((reactor, finish) => {
    pair(reactor, { receiveBytes: 4096 }, (server, client, listener) => {
      const { memory } = reactor;
      const count = 20_000;
      const at = memory.allocate(1 << 20);
      let expected = 0;
      // A message is its number and a length; the receiver uses up whole messages only.
      server.onBytes = (offset, length) => {
        let used = 0;
        while (length - used >= 8) {
          const size = memory.view.getUint32(offset + used + 4, true);
          if (length - used < size) break;
          expect(memory.view.getUint32(offset + used, true)).toBe(expected);
          expected++;
          used += size;
        }
        if (expected === count) client.close();
        return used;
      };
      const prng = new Prng(7);
      let sent = 0;
      const sendSome = () => {
        let from = at;
        while (sent < count && from < at + (1 << 20) - 64) {
          const size = prng.between(8, 60);
          memory.view.setUint32(from, sent++, true);
          memory.view.setUint32(from + 4, size, true);
          const last = sent === count || from + size >= at + (1 << 20) - 64;
          client.send(from, size, last ? sendSome : null);
          from += size;
        }
      };
      sendSome();
      server.onClose = (reason) => {
        expect(reason).toContain("peer closed");
        expect(expected).toBe(count);
        listener.close();
        finish();
      };
    });
  });
});

test("receiveInto, within and outside onBytes, of every size → exactly the payload's bytes", () => {
  runReactor((reactor, finish) => {
    pair(reactor, {}, (server, client, listener) => {
      const { memory } = reactor;
      const sizes = [1, 100, 4096, 16384, 65535, 65536, 65537, 300_000, 1 << 20, 3, 5 << 20];
      const source = memory.allocate(8 << 20);
      const target = memory.allocate(8 << 20);
      for (let i = 0; i < 8 << 20; i += 4) memory.view.setUint32(source + i, i * 2654435761, true);
      const control = memory.allocate(4096);
      let index = 0;
      server.onBytes = (offset, length) => {
        if (length < 4) return 0;
        const size = memory.view.getUint32(offset, true);
        expect(size).toBe(sizes[index] as number);
        const take = () =>
          server.receiveInto(target, size, (status) => {
            expect(status).toBe(Status.ok);
            const got = memory.bytes.subarray(target, target + size);
            const wanted = memory.bytes.subarray(source + index, source + index + size);
            expect(Buffer.compare(got, wanted)).toBe(0);
            index++;
            if (index === sizes.length) client.close();
          });
        if (index % 2 === 0) take();
        else {
          server.pauseReceive(); // as for want of a buffer, which comes later
          reactor.defer(() => {
            take();
            server.resumeReceive();
          });
        }
        return 4;
      };
      for (const [i, size] of sizes.entries()) {
        memory.view.setUint32(control + i * 4, size, true);
        client.send(control + i * 4, 4, null);
        client.send(source + i, size, null);
      }
      server.onClose = () => {
        expect(index).toBe(sizes.length);
        expect(client.queuedBytes).toBe(0);
        listener.close();
        finish();
      };
    });
  });
});

test("R13: a paused receiver → the sender's queue stays; resumed → every byte arrives", () => {
  runReactor((reactor, finish) => {
    pair(reactor, {}, (server, client, listener) => {
      const chunk = reactor.memory.allocate(1 << 20);
      const chunks = 32;
      server.pauseReceive();
      let received = 0;
      let calls = 0;
      server.onBytes = (_offset, length) => {
        calls++;
        received += length;
        if (received === chunks << 20) server.close();
        return length;
      };
      for (let i = 0; i < chunks; i++) client.send(chunk, 1 << 20, null);
      let ticks = 0;
      reactor.onTick(() => {
        if (++ticks !== 6) return;
        expect(calls).toBe(0);
        expect(client.queuedBytes).toBeGreaterThan(8 << 20);
        server.resumeReceive();
      });
      client.onClose = () => {
        expect(received).toBe(chunks << 20);
        listener.close();
        finish();
      };
    });
  });
});

test("H7: the peer goes away while receiving is paused → onClose all the same", () => {
  runReactor((reactor, finish) => {
    pair(reactor, {}, (server, client, listener) => {
      server.pauseReceive();
      server.onClose = (reason) => {
        expect(reason).toBe("the peer went away");
        listener.close();
        finish();
      };
      client.close();
    });
  });
});

test("closed with sends and a receiveInto pending → each linkLost once, then onClose once", () => {
  runReactor((reactor, finish) => {
    const before = reactor.memory.usedBytes;
    pair(reactor, {}, (server, client, listener) => {
      const at = reactor.memory.allocate(32 << 20);
      const events: string[] = [];
      server.pauseReceive();
      for (let i = 0; i < 20; i++) {
        client.send(at, 32 << 20, (status) => events.push(`send ${status}`));
      }
      client.receiveInto(at, 100, (status) => events.push(`into ${status}`));
      client.onClose = () => {
        events.push("close");
        client.send(at, 1, (status) => {
          events.push(`late ${status}`);
          expect(events.filter((event) => event === `send ${Status.linkLost}`)).toHaveLength(20);
          expect(events.filter((event) => event === `into ${Status.linkLost}`)).toHaveLength(1);
          expect(events.at(-2)).toBe("close");
          expect(events.at(-1)).toBe(`late ${Status.linkLost}`);
          listener.close();
          reactor.memory.release(at);
        });
      };
      server.onClose = () => {
        let ticks = 0;
        reactor.onTick(() => {
          if (++ticks !== 2) return;
          expect(reactor.memory.usedBytes).toBe(before); // nothing leaks
          expect(events.filter((event) => event === "close")).toHaveLength(1);
          finish();
        });
      };
      let ticks = 0;
      reactor.onTick(() => {
        if (++ticks === 2) {
          client.close();
          client.close();
        }
      });
    });
  });
});

test("finish → what is queued arrives whole before the end", () => {
  runReactor((reactor, finish) => {
    pair(reactor, {}, (server, client, listener) => {
      const at = reactor.memory.allocate(8 << 20);
      let received = 0;
      server.onBytes = (_offset, length) => {
        received += length;
        return length;
      };
      for (let i = 0; i < 8; i++) client.send(at + (i << 20), 1 << 20, null);
      client.finish();
      server.onClose = () => {
        expect(received).toBe(8 << 20);
        listener.close();
        finish();
      };
    });
  });
});

test("a message larger than the receive buffer → the connection ends, nothing grows", () => {
  runReactor((reactor, finish) => {
    pair(reactor, { receiveBytes: 4096 }, (server, client, listener) => {
      const at = reactor.memory.allocate(64 << 10);
      client.send(at, 64 << 10, null);
      server.onClose = (reason) => {
        expect(reason).toContain("larger than the receive buffer");
        listener.close();
        finish();
      };
    });
  });
});

test("given away while the peer speaks → the descriptor's new owner gets every byte", () => {
  runReactor((reactor, finish) => {
    pair(reactor, {}, (server, client, listener) => {
      const { memory } = reactor;
      const at = memory.allocate(4096);
      server.onClose = () => expect.unreachable();
      server.onBytes = (offset, length) => {
        expect([length, memory.bytes[offset]]).toEqual([1, 1]);
        server.pauseReceive();
        const used = memory.usedBytes;
        // A turn later, when the watch for the peer's end is in the kernel.
        reactor.onTick(() => giveAway(used));
        return length;
      };
      let given = false;
      const giveAway = (used: number) => {
        if (given) return;
        given = true;
        client.send(at + 1, 1, null);
        server.detach((handle) => {
          expect(memory.usedBytes).toBe(used - (4096 + (64 << 10)));
          client.send(at + 2, 1, null);
          const seen: number[] = [];
          const peer = { address: server.peerAddress, port: server.peerPort };
          const owner = RingSocket.create(reactor, handle as number, peer) as RingSocket;
          owner.onBytes = (offset, length) => {
            seen.push(...memory.bytes.subarray(offset, offset + length));
            if (seen.length === 2) client.close();
            return length;
          };
          owner.onClose = () => {
            expect(seen).toEqual([2, 3]);
            listener.close();
            finish();
          };
        });
      };
      memory.bytes.set([1, 2, 3], at);
      client.send(at, 1, null);
    });
  });
});

for (const [name, makeGone] of [
  ["with bytes nobody used up", (client: StreamSocket, at: number) => client.send(at, 3, null)],
  ["when the peer is gone", (client: StreamSocket) => client.close()],
] as const) {
  test(`given away ${name} → null, and it is closed`, () => {
    runReactor((reactor, finish) => {
      pair(reactor, {}, (server, client, listener) => {
        const at = reactor.memory.allocate(4096);
        const before = reactor.memory.usedBytes;
        server.onBytes = () => {
          server.pauseReceive();
          return 0;
        };
        server.onClose = () => {};
        if (name.startsWith("when")) server.pauseReceive();
        makeGone(client, at);
        let ticks = 0;
        reactor.onTick(() => {
          if (++ticks !== 2) return;
          server.detach((handle) => {
            expect(handle).toBeNull();
            const both = name.startsWith("when") ? 2 : 1;
            expect(reactor.memory.usedBytes).toBe(before - both * (4096 + (64 << 10)));
            client.close();
            listener.close();
            finish();
          });
        });
      });
    });
  });
}

test("a socket to a relay → bytes both ways, its end seen on either side", () => {
  runReactor((reactor, finish) => {
    const made = socketToRelay(reactor, { address: "192.0.2.7", port: 5 });
    const { socket, other } = made as NonNullable<typeof made>;
    expect([socket.peerAddress, socket.peerPort]).toEqual(["192.0.2.7", 5]);
    const peer = { address: "192.0.2.7", port: 5 };
    const relay = RingSocket.create(reactor, other, peer) as RingSocket;
    const at = reactor.memory.allocate(1 << 20);
    let [there, back] = [0, 0];
    socket.onBytes = (_, length) => {
      there += length;
      if (there === 1 << 20) socket.send(at, 1 << 19, () => socket.finish());
      return length;
    };
    relay.onBytes = (_, length) => {
      back += length;
      return length;
    };
    relay.onClose = () => {
      expect([there, back]).toEqual([1 << 20, 1 << 19]);
      finish();
    };
    relay.send(at, 1 << 20, null);
  });
});

test("IPv6 and unix sockets → connected, peer named; a stale unix socket file is replaced", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "cairn-machine-"));
  const socketPath = path.join(folder, "s");
  try {
    for (const endpoint of [{ address: "::1", port: 0 }, { path: socketPath }]) {
      if ("path" in endpoint) leaveStaleSocket(endpoint.path);
      runReactor((reactor, finish) => {
        pair(reactor, { endpoint }, (server, client, listener) => {
          expect(server.peerAddress).toBe("path" in endpoint ? "unix" : "::1");
          expect(client.peerPort).toBe("path" in endpoint ? 0 : listener.port);
          const at = reactor.memory.allocate(4096);
          server.onBytes = (_offset, length) => {
            client.close();
            return length;
          };
          server.onClose = () => {
            listener.close();
            finish();
          };
          client.send(at, 1, null);
        });
      });
    }
    expect(existsSync(socketPath)).toBe(false);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("an address that is taken, a file in the way → Fault with the place", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "cairn-machine-"));
  try {
    runReactor((reactor, finish) => {
      const first = new Listener(reactor, { address: "127.0.0.1", port: 0 }, {}, () => {});
      const again = () =>
        new Listener(reactor, { address: "127.0.0.1", port: first.port }, {}, () => {});
      expect(again).toThrow("EADDRINUSE");
      const file = path.join(folder, "file");
      writeFileSync(file, "not a socket");
      expect(() => new Listener(reactor, { path: file }, {}, () => {})).toThrow("EADDRINUSE");
      expect(existsSync(file)).toBe(true);
      expect(() => new Listener(reactor, { address: "1.2.3", port: 1 }, {}, () => {})).toThrow(
        "no IP address",
      );
      first.close();
      finish();
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("connecting: refused, no such address, no answer in time → null with the reason", () => {
  runReactor((reactor, finish) => {
    const reasons: string[] = [];
    const told = (socket: StreamSocket | null, reason: string) => {
      expect(socket).toBeNull();
      reasons.push(reason);
      if (reasons.length < 3) return;
      expect(reasons.some((text) => text.includes("ECONNREFUSED"))).toBe(true);
      expect(reasons.some((text) => text.includes("no IP address"))).toBe(true);
      expect(reasons.some((text) => text.includes("ETIMEDOUT"))).toBe(true);
      finish();
    };
    connect(reactor, { address: "127.0.0.1", port: 1 }, {}, told);
    connect(reactor, { address: "example.invalid", port: 1 }, {}, told);
    // A listener whose backlog of one is full takes no further connection: as if nobody answered.
    const full = fullBacklog();
    connect(reactor, { address: "127.0.0.1", port: full }, { timeoutMs: 200 }, told);
  });
});

/** As a process leaves it that was killed. */
function leaveStaleSocket(file: string): void {
  const bytes = new Uint8Array(4096);
  const { lengthBytes } = encodeEndpoint({ path: file }, bytes, 0);
  const fd = libc.socket(1, 1, 0);
  expect(libc.bind(fd, bytes, lengthBytes)).toBe(0);
  libc.close(fd);
}

/** The port of a loopback listener that completes no further handshake. */
function fullBacklog(): number {
  const at = mapMemory(4096);
  const bytes = new Uint8Array(mappedBytes(at, 4096));
  const listening = libc.socket(2, 1, 0);
  const { lengthBytes } = encodeEndpoint({ address: "127.0.0.1", port: 0 }, bytes, 0);
  libc.bind(listening, address(at), lengthBytes);
  libc.listen(listening, 0);
  bytes[128] = 128;
  libc.getsockname(listening, address(at), address(at + 128));
  const { port } = decodeEndpoint(bytes, 0);
  for (let i = 0; i < 4; i++) {
    const client = libc.socket(2, 1 | 0x800, 0); // non-blocking
    libc.connect(client, address(at), lengthBytes);
  }
  return port;
}

/** Does random things to a connection until it ends; every `done` is counted. */
class Chaos {
  readonly prng: Prng;
  readonly reactor: Reactor;
  pending = 0;
  ends = 0;
  #intoPending = false;
  readonly #buffer: number;

  constructor(reactor: Reactor, seed: number) {
    this.reactor = reactor;
    this.prng = new Prng(seed);
    this.#buffer = reactor.memory.allocate(CHAOS_BYTES);
  }

  attach(socket: StreamSocket): void {
    socket.onBytes = (_offset, length) => {
      if (this.prng.chance(0.2)) this.act(socket);
      return this.prng.chance(0.1) ? 0 : this.prng.between(1, length);
    };
    socket.onClose = () => {
      this.ends++;
      if (this.prng.chance(0.5)) this.act(socket);
    };
  }

  act(socket: StreamSocket): void {
    const length = this.prng.between(1, CHAOS_BYTES);
    switch (this.prng.below(12)) {
      case 0:
        socket.pauseReceive();
        break;
      case 1:
      case 2:
        socket.resumeReceive();
        break;
      case 3:
      case 4:
        if (this.#intoPending) break;
        this.#intoPending = true;
        this.pending++;
        socket.receiveInto(this.#buffer, length, () => {
          this.#intoPending = false;
          this.pending--;
          if (this.ends === 0 && this.prng.chance(0.3)) this.act(socket);
        });
        break;
      case 5:
        if (this.prng.chance(0.05)) socket.close();
        break;
      default:
        this.pending++;
        socket.send(this.#buffer, this.prng.chance(0.5) ? 1 + (length >> 8) : length, () => {
          this.pending--;
        });
    }
  }

  release(): void {
    this.reactor.memory.release(this.#buffer);
  }
}
const CHAOS_BYTES = 200_000;

test("chaos on many connections → every done and onClose once, no memory or slot kept", () => {
  runReactor((reactor, finish) => {
    const before = reactor.memory.usedBytes;
    const sides: { chaos: Chaos; socket: StreamSocket }[] = [];
    const listeners: Listener[] = [];
    const pairs = 40;
    for (let seed = 0; seed < pairs; seed++) {
      pair(reactor, { receiveBytes: 8192 }, (server, client, listener) => {
        listeners.push(listener);
        for (const [i, socket] of [server, client].entries()) {
          const chaos = new Chaos(reactor, seed * 2 + i);
          chaos.attach(socket);
          sides.push({ chaos, socket });
        }
      });
    }
    let ticks = 0;
    reactor.onTick(() => {
      ticks++;
      if (ticks < 20) {
        for (const { chaos, socket } of sides) {
          for (let i = 0; i < 5; i++) if (chaos.ends === 0) chaos.act(socket);
        }
      } else if (ticks === 20) {
        expect(sides).toHaveLength(pairs * 2);
        for (const { socket } of sides.filter((_side, i) => i % 2 === 0)) socket.close();
      } else if (ticks === 30) {
        for (const { socket } of sides) socket.close();
        for (const listener of listeners) listener.close();
      } else if (ticks === 36) {
        for (const { chaos } of sides) {
          expect(chaos.ends).toBe(1);
          expect(chaos.pending).toBe(0);
          chaos.release();
        }
        expect(reactor.memory.usedBytes).toBe(before);
        expect(reactor.ring.inFlight).toBe(1); // the wake's read
        finish();
      }
    });
  });
});
