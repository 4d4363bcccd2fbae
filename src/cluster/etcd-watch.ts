// SPDX-License-Identifier: Apache-2.0
//
// One watch on etcd: a stream of changes from a revision on, opened again from the next revision
// when it breaks (etcd restarted, was slow, lost its leader), ended when that revision was
// compacted.
//
// Invariant: `#next` is the first revision not yet handed over. It moves past a revision only after
// its changes were handed over whole, or when a progress notice says that nothing more of it will
// come.

import { Fault } from "#base/fault.ts";
import type { Timers } from "#base/world.ts";
import type { Watch, WatchEvent, WatchSink } from "./control-store.ts";
import { fieldsOf, integerOf, listOf, prefixRange, textOf, textOfBase64 } from "./etcd-json.ts";
import type { Fields } from "./etcd-json.ts";
import { RpcCode } from "./etcd-transport.ts";
import type { EtcdTransport } from "./etcd-transport.ts";

const REOPEN_LEAST_MS = 50;
const REOPEN_MOST_MS = 1000;

export interface EtcdWatchOptions {
  prefix: string;
  fromRevision: number;
  sink: WatchSink;
}

export class EtcdWatch implements Watch {
  readonly #timers: Timers;
  readonly #transport: EtcdTransport;
  readonly #prefix: string;
  readonly #sink: WatchSink;
  #next: number;
  #stream: { cancel(): void } | null = null;
  #cancelReopen: (() => void) | null = null;
  #reopenMs = REOPEN_LEAST_MS;
  #ended = false;

  constructor(timers: Timers, transport: EtcdTransport, options: EtcdWatchOptions) {
    this.#timers = timers;
    this.#transport = transport;
    this.#prefix = options.prefix;
    this.#sink = options.sink;
    // From 1 at least: 0 would mean "from now on" to etcd, which is not what was asked.
    this.#next = Math.max(1, options.fromRevision);
    this.#open();
  }

  cancel(): void {
    this.#ended = true;
    this.#cancelReopen?.();
    this.#stream?.cancel();
    this.#stream = null;
  }

  #open(): void {
    const body = {
      create_request: {
        ...prefixRange(this.#prefix),
        start_revision: String(this.#next),
        progress_notify: true,
      },
    };
    let over = false;
    this.#stream = this.#transport.stream("/v3/watch", body, {
      onMessage: (value) => {
        if (over || this.#ended) return;
        if (this.#message(fieldsOf(value))) return;
        over = true;
        this.#reopen();
      },
      onEnd: () => {
        if (over || this.#ended) return;
        over = true;
        this.#reopen();
      },
    });
  }

  /** False: the stream is of no more use. */
  #message(message: Fields): boolean {
    const failure = fieldsOf(message.error);
    if (failure.code !== undefined || failure.grpc_code !== undefined) {
      const code = integerOf(failure.grpc_code ?? failure.code);
      if (code !== RpcCode.outOfRange) return false;
      this.#lose("the history from there on is gone");
      return true;
    }
    const result = fieldsOf(message.result);
    if (integerOf(result.compact_revision) > 0) {
      this.#lose(`the history up to revision ${integerOf(result.compact_revision)} is gone`);
      return true;
    }
    if (result.canceled === true) return false;
    this.#reopenMs = REOPEN_LEAST_MS;
    const raw = listOf(result.events);
    if (raw.length > 0) {
      const events = changesOf(raw);
      if (events === null) return false;
      this.#handOver(events);
    } else if (result.created !== true) this.#progress(integerOf(fieldsOf(result.header).revision));
    return true;
  }

  /** A notice without events: everything up to its revision has been sent. */
  #progress(revision: number): void {
    this.#next = Math.max(this.#next, revision + 1);
  }

  /** Hands the changes over, one call per revision. */
  #handOver(events: readonly WatchEvent[]): void {
    for (let from = 0; from < events.length && !this.#ended;) {
      const revision = events[from]?.modRevision ?? 0;
      let to = from;
      while (events[to]?.modRevision === revision) to++;
      // Older ones were seen before the stream was opened again.
      if (revision >= this.#next) this.#give(events.slice(from, to), revision);
      from = to;
    }
  }

  #give(batch: WatchEvent[], revision: number): void {
    this.#next = revision + 1;
    this.#sink.onEvents(batch, revision);
  }

  #lose(reason: string): void {
    this.cancel();
    this.#sink.onLost(reason);
  }

  #reopen(): void {
    this.#stream?.cancel();
    this.#stream = null;
    const delayMs = this.#reopenMs;
    this.#reopenMs = Math.min(REOPEN_MOST_MS, this.#reopenMs * 2);
    this.#cancelReopen = this.#timers.after(delayMs, () => this.#open());
  }
}

/** Null when a message is not what etcd sends. */
function changesOf(raw: readonly Fields[]): WatchEvent[] | null {
  try {
    return raw.map((each) => {
      const kv = fieldsOf(each.kv);
      return {
        kind: textOf(each.type) === "DELETE" ? "delete" : "put",
        key: textOfBase64(kv.key),
        value: textOfBase64(kv.value),
        modRevision: integerOf(kv.mod_revision),
      };
    });
  } catch (error) {
    if (error instanceof Fault) return null;
    throw error;
  }
}
