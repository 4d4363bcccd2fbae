// SPDX-License-Identifier: Apache-2.0
//
// A program: an NBD server made of the session and the reactor, with a volume in memory named
// "vol". Prints its port on a line of its own, then serves until it is ended. For the conformance
// suite: what fails here lies in protocol or machine, not in store, raid or the daemon.
//
//   bun test/conform/memory-server-fixture.ts <size in bytes>

import { writeSync } from "node:fs";
import type { StreamSocket } from "#base/stream.ts";
import { Listener } from "#machine/listener.ts";
import { Reactor } from "#machine/reactor.ts";
import { HostCredit } from "#protocol/nbd/credit.ts";
import { MemoryVolume } from "#protocol/nbd/memory-volume-fixture.ts";
import { NbdSession } from "#protocol/nbd/session.ts";
import type { Secured } from "#protocol/nbd/session.ts";

const sizeBytes = Number(process.argv[2]);
const reactor = new Reactor({ memoryBytes: 128 << 20 });
const volume = {
  name: "vol",
  description: "a volume in memory",
  sizeBytes,
  readOnly: false,
  multiConn: true,
  tls: "optional" as const,
  target: new MemoryVolume(reactor.memory, sizeBytes),
};
const readOnly = { ...volume, name: "vol-ro", readOnly: true };
const exported = [volume, readOnly];
const options = {
  credit: new HostCredit(96 << 20),
  tls: "none" as const,
  defer: (act: () => void) => reactor.defer(act),
  exports: {
    find: (name: string) => exported.find((one) => one.name === name) ?? null,
    list: () => exported,
  },
};
const sessions = new Set<NbdSession>();
const effects = {
  entered: () => {},
  secure: (socket: StreamSocket, done: Secured) => socket.detach(() => done(null, null)),
  finished: (session: NbdSession) => void sessions.delete(session),
};
const listener = new Listener(reactor, { address: "127.0.0.1", port: 0 }, {}, (socket) => {
  sessions.add(new NbdSession(reactor.memory, options, effects, socket));
});
reactor.onTick((nowMs) => {
  for (const session of sessions) session.tick(nowMs);
});
writeSync(1, `${listener.port}\n`);
reactor.run();
