// SPDX-License-Identifier: Apache-2.0
//
// HTTP on a unix socket or a TCP port, by Bun.serve. Control thread only; what is answered, and to
// whom, is the caller's.
//
// A unix socket is its owner's alone (mode 0600): whoever can open it needs no token. One left by a
// killed daemon is replaced; two living daemons are kept apart by the state directory's lock.

import { rmSync } from "node:fs";
import { Fault } from "#base/fault.ts";

/** A connection without traffic this long is closed; longer than any request may take. */
const IDLE_SECONDS = 120;
/** sockaddr_un.sun_path, unix(7), without the closing zero. */
const UNIX_PATH_BYTES_MAX = 107;

export type HttpPlace =
  | { unixPath: string }
  /** `tls`: certificate and key, PEM; not said: in the clear. */
  | { address: string; port: number; tls?: { cert: string; key: string } };

export interface HttpListenerOptions {
  /** `answer` refuses longer ones; far longer ones never get to it. */
  bodyBytesMax: number;
  /**
   * Must not fail: whatever it rejects with is answered by a bare 500. `from` is the peer's
   * address, empty on a unix socket.
   */
  answer(request: Request, from: string): Promise<Response>;
}

export interface HttpListener {
  /** Null for a unix socket. */
  readonly port: number | null;
  /** Closes the listener and every connection. */
  stop(): Promise<void>;
}

/** What of Bun's server is asked. */
interface AddressBook {
  requestIP(request: Request): { address: string } | null;
}

export function listenHttp(place: HttpPlace, options: HttpListenerOptions): HttpListener {
  // Without `reusePort: false` Bun shares a port with whoever else asks for it (outside of
  // development mode): two units on one port would each answer some of the requests.
  const common = {
    // A body that is somewhat too long is still refused in our words; past this by Bun, without
    // any.
    maxRequestBodySize: 2 * options.bodyBytesMax,
    idleTimeout: IDLE_SECONDS,
    development: false,
    fetch: (request: Request, server: AddressBook) =>
      options.answer(request, server.requestIP(request)?.address ?? ""),
    error: () => new Response(null, { status: 500 }),
  };
  try {
    const server =
      "unixPath" in place
        ? listenUnix(place.unixPath, (unix) => Bun.serve(unixOptions(unix, common)))
        : Bun.serve({
            ...common,
            ...{ hostname: place.address, port: place.port, reusePort: false },
            ...(place.tls === undefined ? {} : { tls: place.tls }),
          });
    return { port: server.port ?? null, stop: () => server.stop(true) };
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw listenFault(place, cause);
  }
}

/** Bun's types know no idle limit for unix sockets, Bun does: unsaid, it is 10 s. */
function unixOptions<C extends object>(
  unix: string,
  common: C,
): Omit<C, "idleTimeout"> & { unix: string } {
  return { ...common, unix };
}

function listenUnix<T>(path: string, listen: (path: string) => T): T {
  if (Buffer.byteLength(path) > UNIX_PATH_BYTES_MAX) {
    const limit = `a unix socket's path has at most ${UNIX_PATH_BYTES_MAX} bytes`;
    throw new Fault("badConfiguration", `${path}: ${limit}; choose a shorter state directory`);
  }
  rmSync(path, { force: true });
  // The mode must hold from the first moment, so it comes from the mask and not from a later chmod.
  const before = process.umask(0o177);
  try {
    return listen(path);
  } finally {
    process.umask(before);
  }
}

function listenFault(place: HttpPlace, cause: unknown): Fault {
  const where = "unixPath" in place ? place.unixPath : `${place.address} port ${place.port}`;
  const code = (cause as { code?: unknown }).code;
  const why = code === "EADDRINUSE" ? "it is in use" : `the system refuses it (${String(code)})`;
  return new Fault("badConfiguration", `cannot listen for HTTP on ${where}: ${why}`, { cause });
}
