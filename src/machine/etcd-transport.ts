// SPDX-License-Identifier: Apache-2.0
//
// etcd's JSON gateway over a unix socket, by fetch: the transport that the control store is handed.
//
// Sure or not: a request is "surely not sent" only when the connection could not be opened.
// Anything later (time ran out, connection lost) may have been done.

import { Fault } from "#base/fault.ts";
import type { Clock } from "#base/world.ts";
import { createClock } from "./clock.ts";

/**
 * One line of a stream, and one answer; etcd's own limit for a request is 1.5 MiB, pages are
 * larger.
 */
const MESSAGE_CHARACTERS_MAX = 64 << 20;

/** Ten times what it is. */
const METRICS_CHARACTERS_MAX = 2 << 20;

interface StreamSink {
  onMessage(value: unknown): void;
  onEnd(reason: string): void;
}

type Answer = { ok: true; value: unknown } | { ok: false; code: number; message: string };

/** What Bun and the system call a connection that was never there. */
const NOT_CONNECTED = new Set([
  "ConnectionRefused",
  "FailedToOpenSocket",
  "ENOENT",
  "ECONNREFUSED",
]);

/** What etcd answers only with a leader behind it, and a learner not at all. */
const VOUCHING_PATHS = new Set(["/v3/kv/range", "/v3/kv/txn", "/v3/lease/keepalive"]);

export class EtcdUnixTransport {
  readonly #socketPath: string;
  readonly #clock: Clock;
  #vouchedMs = Number.NEGATIVE_INFINITY;

  constructor(socketPath: string, clock: Clock = createClock()) {
    this.#socketPath = socketPath;
    this.#clock = clock;
  }

  /** How long ago it last answered what it can only answer as a voter with a leader, ms. */
  get vouchedAgoMs(): number {
    return this.#clock.nowMs() - this.#vouchedMs;
  }

  async call(path: string, body: object, timeoutMs: number): Promise<Answer> {
    const signal = AbortSignal.timeout(timeoutMs);
    let text: string;
    try {
      const response = await this.#post(path, body, signal);
      text = await response.text();
    } catch (cause) {
      throw faultOf(path, cause);
    }
    const answer = answerOf(path, text);
    if (answer.ok && VOUCHING_PATHS.has(path) && !hasError(answer.value)) {
      this.#vouchedMs = this.#clock.nowMs();
    }
    return answer;
  }

  /** What etcd counts of itself, as text for Prometheus. */
  async metrics(timeoutMs: number): Promise<string> {
    const options = { unix: this.#socketPath, signal: AbortSignal.timeout(timeoutMs) };
    let text: string;
    try {
      text = await (await fetch("http://etcd/metrics", options as RequestInit)).text();
    } catch (cause) {
      throw new Fault("controlStoreAway", "etcd does not say what it counts", { cause });
    }
    if (text.length > METRICS_CHARACTERS_MAX) throw new Fault("tooLarge", "etcd's metrics");
    return text;
  }

  stream(path: string, body: object, sink: StreamSink): { cancel(): void } {
    const abort = new AbortController();
    void this.#pump(path, body, sink, abort.signal);
    return { cancel: () => abort.abort() };
  }

  async #pump(path: string, body: object, sink: StreamSink, signal: AbortSignal): Promise<void> {
    const lines = new LineSplitter();
    let reader: { read(): Promise<{ done: boolean; value?: Uint8Array }> } | null = null;
    for (;;) {
      let values: unknown[];
      try {
        reader ??= (await this.#post(path, body, signal)).body?.getReader() ?? null;
        const piece = await reader?.read();
        if (signal.aborted) return;
        if (piece?.value === undefined || piece.done) return sink.onEnd("the stream ended");
        values = lines.push(piece.value).map((line) => JSON.parse(line) as unknown);
      } catch (error) {
        if (!signal.aborted) sink.onEnd(error instanceof Error ? error.message : String(error));
        return;
      }
      // Outside the try: what the sink throws is our own bug and must not pass for a broken stream.
      for (const value of values) if (!signal.aborted) sink.onMessage(value);
    }
  }

  #post(path: string, body: object, signal: AbortSignal): Promise<Response> {
    return fetch(`http://etcd${path}`, {
      method: "POST",
      body: JSON.stringify(body),
      unix: this.#socketPath,
      signal,
      // Streams are quiet for minutes; calls have their own time limit.
      timeout: false,
    } as RequestInit);
  }
}

function faultOf(path: string, cause: unknown): Fault {
  const code = (cause as { code?: unknown } | null)?.code;
  if (typeof code === "string" && NOT_CONNECTED.has(code)) {
    return new Fault("controlStoreAway", "this unit's voter does not run", { cause });
  }
  return new Fault("unknownOutcome", `${path} got no answer`, { cause });
}

function answerOf(path: string, text: string): Answer {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Fault("unknownOutcome", `${path} answered no JSON`, { cause });
  }
  const { code, message } = value as { code?: unknown; message?: unknown };
  if (typeof code === "number" && code !== 0) {
    return { ok: false, code, message: typeof message === "string" ? message : `code ${code}` };
  }
  return { ok: true, value };
}

/** A stream of one message says what went wrong beside its result. */
function hasError(value: unknown): boolean {
  return (value as { error?: unknown } | null)?.error !== undefined;
}

/** Cuts a stream of bytes into lines. */
class LineSplitter {
  readonly #decoder = new TextDecoder();
  #pieces: string[] = [];
  #characters = 0;

  push(bytes: Uint8Array): string[] {
    const text = this.#decoder.decode(bytes, { stream: true });
    this.#pieces.push(text);
    this.#characters += text.length;
    if (this.#characters > MESSAGE_CHARACTERS_MAX) {
      throw new Fault("tooLarge", "a message of etcd's without an end");
    }
    if (!text.includes("\n")) return [];
    const lines = this.#pieces.join("").split("\n");
    const rest = lines.pop() ?? "";
    this.#pieces = [rest];
    this.#characters = rest.length;
    return lines.filter((line) => line !== "");
  }
}
