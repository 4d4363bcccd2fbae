// SPDX-License-Identifier: Apache-2.0
//
// A Backend in memory served as a unit serves its own: on a socket in a folder and, where asked
// for, on TCP at a free port.

import { consoleParts } from "#appliance/console/console-parts-fixture.ts";
import { listenHttp } from "#machine/http-listener.ts";
import { createApi } from "./api.ts";
import type { MemoryBackend } from "./memory-backend-fixture.ts";
import { type ServedApi, SOCKET_FILE, serveApi } from "./serve.ts";

export const SERVED_TOKEN = "f".repeat(64);

/** An assertion that fails while answering is thrown. */
export function serveInMemory(
  backend: MemoryBackend,
  folder: string,
  options: { tcp: boolean },
): ServedApi {
  const parts = consoleParts(backend, { tokens: () => backend.users.records() });
  const { log, seal } = parts.world;
  backend.actor = () => parts.actors.current;
  return serveApi(createApi(backend, { ...parts, timers: { after: () => () => undefined } }), {
    listen: listenHttp,
    seal,
    log,
    socketPath: `${folder}/${SOCKET_FILE}`,
    tcp: options.tcp ? { address: "127.0.0.1", port: 0 } : null,
    token: SERVED_TOKEN,
    unitName: backend.status().name,
    tokens: () => backend.users.records(),
    hostOf: (tokenHash) => backend.hosts.hostOf(tokenHash),
    signedIn: parts.signedIn,
    names: () => [],
    fatal: (error) => {
      throw error;
    },
  });
}
