// SPDX-License-Identifier: Apache-2.0
//
// The way from the command line to a unit: REST over the unix socket of a unit on this machine, or
// over TCP with the token. What does not come back is told apart: never sent, or sent and unknown.

import { Fault } from "#base/fault.ts";
import { CONFIGURATION_BYTES_MAX } from "#appliance/configuration.ts";
import { SOCKET_FILE, STALE_HEADER } from "#appliance/api/convention.ts";
import { FaultSchema } from "#appliance/api/schemas.ts";
import { Misuse, UnitFault } from "./failure.ts";
import type { FlagDefinition, Flags } from "./flags.ts";
import type { CliMachine } from "./machine.ts";

/** Where a unit of this machine usually listens, in the order they are tried. */
export const USUAL_SOCKETS = [`/run/cairn/${SOCKET_FILE}`, `/var/lib/cairn/${SOCKET_FILE}`];

export const URL_FLAG: FlagDefinition = {
  name: "url",
  kind: "text",
  value: "URL",
  sentence: "a unit elsewhere: http://ADDRESS:7480",
};
export const TOKEN_FLAG: FlagDefinition = {
  name: "token-file",
  kind: "path",
  value: "FILE",
  sentence: "a token: the owner's (cairn claim), another (cairn token add), a host's, a unit's own",
};
export const CA_FLAG: FlagDefinition = {
  name: "ca",
  kind: "path",
  value: "FILE",
  sentence: "the certificate of the authority that units' certificates must be of",
};

export const CONNECTION_FLAGS: readonly FlagDefinition[] = [
  { name: "socket", kind: "path", value: "PATH", sentence: "the unit's unix socket" },
  {
    name: "state-directory",
    kind: "path",
    value: "DIRECTORY",
    sentence: "the unit's state directory, with its socket in it",
  },
  URL_FLAG,
  TOKEN_FLAG,
  CA_FLAG,
];

const READ_TIMEOUT_MS = 10_000;
/** A creation answers when the volume can be attached. */
const CHANGE_TIMEOUT_MS = 120_000;

/** Failures of `fetch` after which the request surely never left. */
const NEVER_SENT: readonly string[] = [
  "ENOENT",
  "ENOTSOCK",
  "EACCES",
  "ECONNREFUSED",
  "ENOTFOUND",
  "ENETUNREACH",
  "EHOSTUNREACH",
];

interface Place {
  base: string;
  unix?: string;
  token?: string;
  /** Whose certificates are believed, PEM; not said: what the machine believes. */
  ca?: string;
  inWords: string;
}

export interface Answer {
  body: unknown;
  /** Age of what the unit knows, ms. */
  staleMs: number;
}

export class Connection {
  readonly #machine: CliMachine;
  readonly #place: Place;

  /** `needsToken`: of a unit elsewhere; what may be asked without one is said so by the caller. */
  constructor(machine: CliMachine, flags: Flags, options: { needsToken: boolean }) {
    this.#machine = machine;
    this.#place = placeOf(machine, flags, options.needsToken);
  }

  /** The answer's JSON, or null where there is none; a fault that the unit tells is thrown. */
  async ask(method: string, path: string, body?: unknown): Promise<Answer> {
    if (body === undefined) return this.#send(method, path, null);
    return this.#send(method, path, { type: "application/json", content: JSON.stringify(body) });
  }

  /** Bytes of a file; the answer is JSON all the same. */
  async put(path: string, bytes: Uint8Array<ArrayBuffer>): Promise<Answer> {
    return this.#send("PUT", path, { type: "application/octet-stream", content: bytes });
  }

  async #send(
    method: string,
    path: string,
    body: { type: string; content: string | Uint8Array<ArrayBuffer> } | null,
  ): Promise<Answer> {
    const { base, unix, token, ca } = this.#place;
    const reads = method === "GET";
    const headers: Record<string, string> = { accept: "application/json" };
    if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
    if (body !== null) headers["content-type"] = body.type;
    let answer: Response;
    let text: string;
    try {
      answer = await this.#machine.fetch(base + path, {
        method,
        headers,
        timeoutMs: reads ? READ_TIMEOUT_MS : CHANGE_TIMEOUT_MS,
        ...(ca === undefined ? {} : { ca }),
        ...(unix === undefined ? {} : { unix }),
        ...(body === null ? {} : { body: body.content }),
      });
      text = await answer.text();
    } catch (cause) {
      throw this.#silence(cause, { reads });
    }
    return this.#answered(answer, text);
  }

  #silence(cause: unknown, { reads }: { reads: boolean }): Error {
    const code = String((cause as { code?: unknown }).code ?? "no code");
    const { inWords } = this.#place;
    if (!reads && !NEVER_SENT.includes(code)) {
      return new Fault("unknownOutcome", `${inWords} did not answer (${code})`, { cause });
    }
    return noUnit(`no unit answers at ${inWords} (${code})`);
  }

  #answered(answer: Response, text: string): Answer {
    const body = text === "" ? null : parsed(text);
    if (answer.ok) {
      return { body, staleMs: Number(answer.headers.get(STALE_HEADER) ?? 0) };
    }
    const fault = FaultSchema.safeParse(body);
    if (fault.success) throw new UnitFault(fault.data.error);
    const { inWords } = this.#place;
    throw new Fault("programFailed", `${inWords} is no Cairn unit (HTTP ${answer.status})`);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Fault("programFailed", "what answered is no Cairn unit: it speaks no JSON", {
      cause,
    });
  }
}

function noUnit(message: string): UnitFault {
  const hint = "start one by cairn unit, or name one by --socket, --state-directory or --url";
  return new UnitFault({ code: "notReady", message, hint });
}

function placeOf(machine: CliMachine, flags: Flags, needsToken: boolean): Place {
  const url = flags.word("url");
  const socket = flags.word("socket");
  const directory = flags.word("state-directory");
  if ([url, socket, directory].filter((one) => one !== null).length > 1) {
    throw new Misuse("say one of --url, --socket and --state-directory");
  }
  if (url !== null) {
    const place = remotePlace(machine, url, { tokenFile: flags.word("token-file"), needsToken });
    const file = flags.word("ca");
    if (file === null) return place;
    const ca = machine.readText(file, CONFIGURATION_BYTES_MAX);
    if (ca === null) throw new Fault("notFound", `${file} does not exist`);
    return { ...place, ca };
  }
  if (flags.word("token-file") !== null) throw new Misuse("--token-file goes with --url");
  if (socket !== null) return socketPlace(socket);
  if (directory !== null) return socketPlace(`${directory.replace(/\/+$/, "")}/${SOCKET_FILE}`);
  const found = USUAL_SOCKETS.find((one) => machine.exists(one));
  if (found !== undefined) return socketPlace(found);
  throw noUnit(`no unit runs on this machine (no ${USUAL_SOCKETS.join(", no ")})`);
}

function socketPlace(path: string): Place {
  return { base: "http://cairn.local", unix: path, inWords: path };
}

function remotePlace(
  machine: CliMachine,
  url: string,
  { tokenFile, needsToken }: { tokenFile: string | null; needsToken: boolean },
): Place {
  const parsedUrl = URL.parse(url);
  const isHttp = parsedUrl !== null && ["http:", "https:"].includes(parsedUrl.protocol);
  if (parsedUrl === null || !isHttp) throw new Misuse("--url is like http://10.0.0.1:7480");
  if (tokenFile === null) {
    if (!needsToken) return { base: parsedUrl.origin, inWords: parsedUrl.origin };
    throw new Misuse(
      "--url needs --token-file: a token by cairn claim or cairn token add, or a unit's api-token",
    );
  }
  const token = machine.readText(tokenFile, CONFIGURATION_BYTES_MAX);
  if (token === null) throw new Fault("notFound", `the token file ${tokenFile} does not exist`);
  return { base: parsedUrl.origin, token: token.trim(), inWords: parsedUrl.origin };
}
