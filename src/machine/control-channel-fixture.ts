// SPDX-License-Identifier: Apache-2.0
//
// For tests: a Worker with a reactor that echoes what it is sent, listens as an echo over TCP, can
// be told to fall silent, and stops when told.

import { ReactorEnd, onReactorSeed } from "./control-channel.ts";
import { Listener } from "./listener.ts";
import { Reactor } from "./reactor.ts";

onReactorSeed((seed) => {
  const reactor = new Reactor({ memoryBytes: 16 << 20 });
  const channel = new ReactorEnd(seed, reactor, { controlSilentMs: 1200 });
  const listener = new Listener(reactor, { address: "127.0.0.1", port: 0 }, {}, (socket) => {
    // Echo by a copy, since the receive buffer is the socket's.
    socket.onBytes = (offset, length) => {
      const copy = reactor.memory.allocate(length);
      reactor.memory.bytes.copyWithin(copy, offset, offset + length);
      socket.send(copy, length, () => reactor.memory.release(copy));
      return length;
    };
  });
  const unsent: object[] = [];
  let ticks = 0;
  reactor.onTick(() => {
    if (++ticks === 12) channel.post({ kind: "ticking" });
    while (unsent.length > 0 && channel.post(unsent[0] as object)) unsent.shift();
  });
  channel.onControlSilent = () => channel.post({ kind: "control-silent" });
  channel.onMessage = (message) => {
    const { kind, number } = message as { kind: string; number?: number };
    channel.counters.add(0, 1);
    if (kind === "stop") {
      listener.close();
      reactor.stop();
    } else if (kind === "throw") {
      throw new Error("a bug in the reactor");
    } else if (kind === "hang") {
      const untilMs = reactor.clock.nowMs() + (number ?? 0);
      while (reactor.clock.nowMs() < untilMs); // what a bug would look like
    } else if (unsent.length > 0 || !channel.post({ kind: "echo", number })) {
      unsent.push({ kind: "echo", number });
    }
  };
  channel.post({ kind: "listening", number: listener.port });
  reactor.run();
  channel.post({ kind: "stopped" });
});
