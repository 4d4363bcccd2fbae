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
  const parts = consoleParts(backend);
  const { log, seal } = parts.world;
  return serveApi(createApi(backend, { ...parts, timers: { after: () => () => undefined } }), {
    listen: listenHttp,
    seal,
    log,
    socketPath: `${folder}/${SOCKET_FILE}`,
    tcp: options.tcp ? { address: "127.0.0.1", port: 0 } : null,
    token: SERVED_TOKEN,
    administrators: () => [],
    hostOf: (tokenHash) => backend.hosts.hostOf(tokenHash),
    isSignedIn: parts.isSignedIn,
    names: () => [],
    fatal: (error) => {
      throw error;
    },
  });
}
