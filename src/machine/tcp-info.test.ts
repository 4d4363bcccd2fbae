// SPDX-License-Identifier: Apache-2.0
//
// What the kernel tells of a connection, asked of real ones. Loopback loses nothing, so an idle
// connection that nobody asks for a sign of life stands for a machine that gives none.

import { afterEach, expect, test } from "bun:test";
import { libc } from "./libc.ts";
import { closeDescriptor, setNonBlocking, socketPair } from "./socket-pair.ts";
import { closeStream, connectStream, noticeSilence } from "./stream-connection.ts";
import { isStanding, unheardMs } from "./tcp-info.ts";

type Socket = Bun.Socket<undefined>;
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

async function connection(): Promise<{ fd: number; other: Socket }> {
  const arrived = Promise.withResolvers<Socket>();
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { open: (socket) => arrived.resolve(socket), data: () => {} },
  });
  const fd = connectStream({ address: "127.0.0.1", port: server.port }, { limitMs: 2000 });
  ends.push(
    () => server.stop(true),
    () => closeStream(fd),
  );
  return { fd, other: await arrived.promise };
}

const SETTLED_MS = 300;

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise<void>((resolve) => setImmediate(resolve));
}

test("nothing said and nothing asked → unheard, longer and longer, until a word", async () => {
  const { fd, other } = await connection();
  await until(() => unheardMs(fd) >= 300);
  other.write("x");
  await until(() => unheardMs(fd) < 300);
  expect(isStanding(fd)).toBe(true);
});

test("asked every second (keepalive) → the kernel answers for its silent program", async () => {
  const { fd } = await connection();
  noticeSilence(fd, 3000);
  await until(() => unheardMs(fd) >= 500);
  await until(() => unheardMs(fd) < 500);
});

test("it takes nothing at the moment (a closed window) → not called unheard", async () => {
  const { fd, other } = await connection();
  other.pause();
  setNonBlocking(fd);
  const bytes = new Uint8Array(1 << 20);
  // Neither kernel takes more, for long enough that nothing is on its way either.
  let takenMs = performance.now();
  await until(() => {
    const isTaken = Number(libc.write(fd, bytes, bytes.length)) > 0;
    if (isTaken || unheardMs(fd) > 0) takenMs = performance.now();
    return performance.now() - takenMs >= SETTLED_MS;
  });
  let longestMs = 0;
  const endMs = performance.now() + 700;
  await until(() => {
    longestMs = Math.max(longestMs, unheardMs(fd));
    return performance.now() >= endMs;
  });
  expect([longestMs, isStanding(fd)]).toEqual([0, true]);
});

test("a pair of sockets → stands, and is never unheard", () => {
  const [one, other] = socketPair();
  ends.push(
    () => closeDescriptor(one),
    () => closeDescriptor(other),
  );
  expect([isStanding(one), unheardMs(one)]).toEqual([true, 0]);
});
