// SPDX-License-Identifier: Apache-2.0
//
// Who may ask the API, and where it is served: on a unix socket in the state directory to whoever
// may open it, and on TCP to whoever shows the token of the state directory.
//
// Invariants
// - On TCP nothing is answered without a token, this unit's own or one of the cluster's, compared
//   in constant time; but for the claim, which takes a code instead (claim-desk.ts), and the pages,
//   which take a session (src/appliance/console). A session reads the API too, and changes nothing
//   through it. What who is known may change is decided in roles.ts.
// - A name that is not ours is refused before the token is looked at (DNS rebinding), and so is a
//   page of another origin. A host's own token opens HOST_PATH and nothing else. A password typed
//   into a browser (Basic, the token as password) only reads: a browser adds it to requests by
//   itself, so changes take a bearer token.

import { Fault } from "#base/fault.ts";
import type { HostNumber } from "#base/record.ts";
import type { Log, Seal } from "#base/world.ts";
import { addressBytes } from "#cluster/address-range.ts";
import type { HttpListener, HttpListenerOptions, HttpPlace } from "#machine/http-listener.ts";
import type { Asker, Known } from "#appliance/backend.ts";
import { isConsolePath } from "#appliance/console/paths.ts";
import type { Asking } from "./api.ts";
import { BODY_BYTES_MAX, CLAIM_PATH, HOST_PATH, TOKEN_FILE } from "./convention.ts";
import { faultResponse } from "./fault-answer.ts";
import { originOf } from "./origin.ts";
import { isReading } from "./roles.ts";
import { type KnownTokens, knownToken } from "./tokens.ts";

export { SOCKET_FILE, TOKEN_FILE } from "./convention.ts";

const TOKEN_CHARACTERS_MIN = 32;

/** What is asked: the Hono app's `fetch`. */
export interface Answering {
  fetch(request: Request, asking: Asking): Response | Promise<Response>;
}

export interface ServeOptions {
  /** listenHttp of src/machine. */
  listen(place: HttpPlace, options: HttpListenerOptions): HttpListener;
  seal: Pick<Seal, "sha256" | "equal">;
  log: Log;
  socketPath: string;
  /** Null: only the unix socket. */
  tcp: { address: string; port: number } | null;
  /** At least 32 characters; made once by the unit, kept in its state directory. */
  token: string;
  unitName: string;
  tokens: KnownTokens["tokens"];
  /** Whose token has this hash, hex; null: no host's. */
  hostOf(tokenHash: string): HostNumber | null;
  /** Whose session at the pages it is whose cookie a browser shows; null: nobody's. */
  signedIn(request: Request): Known | null;
  /** Where TLS is answered, while plain requests are to be led there; else null. */
  tlsPortOnly?(): number | null;
  /** Host names that are ours, besides addresses, localhost and cairn.local. */
  names(): readonly string[];
  /** An assertion failed while answering: the process must end. */
  fatal(error: unknown): void;
}

export interface ServedApi {
  /** Null when not served on TCP. */
  readonly port: number | null;
  /** Answers over TLS there from now on, instead of where it did; null: no more. The port. */
  secure(place: TlsPlace | null): Promise<number | null>;
  stop(): Promise<void>;
}

export interface TlsPlace {
  address: string;
  port: number;
  tls: { cert: string; key: string };
}

export function serveApi(api: Answering, options: ServeOptions): ServedApi {
  if (options.token.length < TOKEN_CHARACTERS_MIN) {
    throw new Fault("badConfiguration", `${TOKEN_FILE} is too short to be a token`);
  }
  const byToken = (request: Request) => tcpAsker(request, options);
  const serve = (place: HttpPlace, check: (request: Request) => Fault | Asker, isPlain = false) =>
    options.listen(place, {
      bodyBytesMax: BODY_BYTES_MAX,
      answer: async (request, from) => {
        try {
          const led = isPlain ? ledToTls(request, options) : null;
          if (led !== null) return led;
          const asker = check(request);
          if (asker instanceof Fault) return faultResponse(asker);
          return await api.fetch(request, {
            asker,
            from,
            holds: () => isSame(check(request), asker),
          });
        } catch (error) {
          options.fatal(error);
          return faultResponse(new Fault("internal", "the unit restarts", { cause: error }));
        }
      },
    });
  const unix = serve({ unixPath: options.socketPath }, () => "local");
  let tcp: HttpListener | null = null;
  try {
    if (options.tcp !== null) tcp = serve(options.tcp, byToken, true);
  } catch (error) {
    // The unit does not start; its socket must not answer for it meanwhile.
    void unix.stop();
    throw error;
  }
  let overTls: HttpListener | null = null;
  return {
    port: tcp?.port ?? null,
    secure: async (place) => {
      await overTls?.stop();
      overTls = null;
      if (place === null) return null;
      overTls = serve(place, byToken);
      return overTls.port;
    },
    stop: async () => {
      await Promise.all([unix.stop(), tcp?.stop(), overTls?.stop()]);
    },
  };
}

/** The answer to a plain request where only TLS is to be; null: it is answered as it is. */
function ledToTls(
  request: Request,
  { tlsPortOnly, names }: Pick<ServeOptions, "tlsPortOnly" | "names">,
): Response | null {
  const port = tlsPortOnly?.() ?? null;
  const path = pathOf(request);
  // Trust has to begin somewhere: a certificate that is compared by its fingerprint.
  if (port === null || path === "/ca.pem") return null;
  const fault = placeFault(request, names());
  if (fault !== null) return faultResponse(fault);
  if (!isReading(request) || !isConsolePath(path)) {
    return faultResponse(new Fault("forbidden", `only over TLS: https, port ${port}`));
  }
  const url = new URL(request.url);
  url.protocol = "https:";
  url.port = String(port);
  return new Response(null, { status: 307, headers: { location: url.href } });
}

type CheckOptions = Pick<
  ServeOptions,
  "seal" | "token" | "unitName" | "tokens" | "hostOf" | "names" | "signedIn"
>;

/** Why a request on TCP is refused whoever asks, or null: a foreign name, a foreign page. */
export function placeFault(request: Request, names: readonly string[]): Fault | null {
  const host = request.headers.get("host") ?? "";
  if (!isOurs(host, names)) {
    return new Fault("wrongHost", `${printable(host)} is no name of this unit`);
  }
  if (originOf(request) === "another") {
    return new Fault("forbidden", "a page of another origin asks");
  }
  return null;
}

/** Who asks on TCP, or why the request is refused. */
export function tcpAsker(request: Request, options: CheckOptions): Fault | Asker {
  const fault = placeFault(request, options.names());
  if (fault !== null) return fault;
  const shown = shownToken(request);
  if (shown === null) {
    // The pages see to it themselves, since they must be able to ask for a password.
    if (isClaim(request) || isConsolePath(pathOf(request))) return "anybody";
    const person = isReading(request) ? options.signedIn(request) : null;
    return person ?? new Fault("unauthorised", "no token was shown");
  }
  const known = knownToken(shown.token, options);
  if (known === null) return hostAsker(request, shown, options);
  if (shown.byBrowser && !isReading(request)) {
    return new Fault("forbidden", "changes need the token as a bearer token, not as a password");
  }
  return { role: known.role, actor: known.actor };
}

/** No time tells of a hash what helps to find a token with it. */
function hostAsker(
  request: Request,
  shown: { token: string; byBrowser: boolean },
  options: CheckOptions,
): Fault | Asker {
  const tokenHash = options.seal.sha256(new TextEncoder().encode(shown.token)).toHex();
  const host = options.hostOf(tokenHash);
  if (host === null) return new Fault("unauthorised", "the token is wrong");
  const path = pathOf(request);
  if (shown.byBrowser || (path !== HOST_PATH && !path.startsWith(`${HOST_PATH}/`))) {
    return new Fault("forbidden", `a host's token opens ${HOST_PATH} alone, as a bearer token`);
  }
  return { host };
}

function isSame(left: Fault | Asker, right: Asker): boolean {
  if (left instanceof Fault || typeof left === "string" || typeof right === "string") {
    return left === right;
  }
  if ("host" in left) return "host" in right && left.host === right.host;
  return "actor" in right && left.actor === right.actor;
}

function isClaim(request: Request): boolean {
  return request.method === "POST" && pathOf(request) === CLAIM_PATH;
}

function pathOf(request: Request): string {
  return URL.parse(request.url)?.pathname ?? "";
}

function isOurs(host: string, names: readonly string[]): boolean {
  const name = (/^\[([^\]]*)\](?::\d+)?$/.exec(host)?.[1] ?? host.replace(/:\d+$/, ""))
    .toLowerCase()
    .replace(/\.$/, "");
  // An address cannot be pointed elsewhere by a name server.
  if (addressBytes(name) !== null) return true;
  const ours = ["localhost", "cairn.local", ...names.map((one) => one.toLowerCase())];
  return ours.includes(name);
}

/** For a message: what came from outside, short and without control characters. */
function printable(text: string): string {
  return JSON.stringify(text.slice(0, 100));
}

function shownToken(request: Request): { token: string; byBrowser: boolean } | null {
  const header = request.headers.get("authorization") ?? "";
  const match = /^(bearer|basic) +([\x21-\x7e]{1,1024})$/i.exec(header);
  if (match === null) return null;
  const [, scheme = "", word = ""] = match;
  if (scheme.toLowerCase() === "bearer") return { token: word, byBrowser: false };
  const pair = decodedBase64(word);
  if (pair === null || !pair.includes(":")) return null;
  return { token: pair.slice(pair.indexOf(":") + 1), byBrowser: true };
}

function decodedBase64(word: string): string | null {
  try {
    return atob(word);
  } catch (error) {
    if (error instanceof DOMException) return null; // no base64: then nothing was shown
    throw error;
  }
}
