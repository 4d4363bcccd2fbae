// SPDX-License-Identifier: Apache-2.0
//
// Remote syslog (RFC 5424): every unit sends its own log, the control station the cluster's events,
// so that each event comes once. Off until the setting says where to.

import type { Log, LogLevel, Timers } from "#base/world.ts";
import type { EventRecord } from "#cluster/state.ts";
import type { SyslogTarget } from "#cluster/syslog-target.ts";
import { timeInWords } from "./api/words.ts";

const LOOK_EVERY_MS = 1000;
/** As long as nobody is to be told. */
const LOOK_UNSET_MS = 5000;
/** A datagram that fits into any network's packets. */
const LINE_CHARACTERS_MAX = 1200;
/** local0. */
const FACILITY = 16;
const SEVERITIES = { error: 3, alarm: 2, warn: 4, warning: 4, info: 6, debug: 7 } as const;

export interface SyslogMessage {
  severity: keyof typeof SEVERITIES;
  atMs: number;
  /** The unit's name. */
  host: string;
  /** MSGID: an event's kind, or `log`. */
  id: string;
  text: string;
}

/** One line; what is no printable ASCII in a name gets a dash, as the header demands. */
export function syslogLine({ severity, atMs, host, id, text }: SyslogMessage): string {
  const priority = FACILITY * 8 + SEVERITIES[severity];
  const ms = String(Math.floor(atMs) % 1000).padStart(3, "0");
  const time = `${timeInWords(atMs).replace(" ", "T")}.${ms}Z`;
  const word = (name: string, most: number) =>
    name.replaceAll(/[^\x21-\x7e]/g, "-").slice(0, most) || "-";
  const head = `<${priority}>1 ${time} ${word(host, 255)} cairn - ${word(id, 32)} - `;
  return head + text.replaceAll(/\p{Cc}/gu, " ").slice(0, LINE_CHARACTERS_MAX - head.length);
}

export interface SyslogParts {
  timers: Timers;
  wallMs(): number;
  /** Null: nothing is sent. */
  target(): SyslogTarget | null;
  host(): string;
  /** Whether this unit is the control station. */
  leads(): boolean;
  /** The newest event's number; 0: none is known. */
  newest(): number;
  /** Events after a number, oldest first. */
  events(since: number): EventRecord[];
  send(line: string, to: SyslogTarget): void;
}

export class SyslogOut {
  readonly #parts: SyslogParts;
  #since: number | null = null;
  #cancel: () => void = () => {};
  #stopped = false;

  constructor(parts: SyslogParts) {
    this.#parts = parts;
    this.#look();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  /** A line of this unit's own log. */
  log(level: LogLevel, sentence: string, facts?: Record<string, unknown>): void {
    const target = this.#stopped ? null : this.#parts.target();
    if (target === null || level === "debug") return;
    const { wallMs, host, send } = this.#parts;
    const more = facts === undefined ? "" : ` ${JSON.stringify(facts)}`;
    const text = `${sentence}${more}`;
    send(syslogLine({ severity: level, atMs: wallMs(), host: host(), id: "log", text }), target);
  }

  /** Whoever does not lead only notes how far the events are: the next one goes on from there. */
  #look(): void {
    if (this.#stopped) return;
    const { timers, target, leads, newest, events, host, send } = this.#parts;
    const to = target();
    if (to !== null && leads() && this.#since !== null) {
      for (const { number, atMs, severity, kind, sentence, actor } of events(this.#since)) {
        const text = actor === undefined ? sentence : `${sentence} (by ${actor})`;
        send(syslogLine({ severity, atMs, host: host(), id: kind, text }), to);
        this.#since = number;
      }
    } else this.#since = newest();
    this.#cancel = timers.after(to === null ? LOOK_UNSET_MS : LOOK_EVERY_MS, () => this.#look());
  }
}

/** A log that is heard by somebody else too, once there is somebody. */
export class SharedLog implements Log {
  also: Log["write"] = () => undefined;
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  write(level: LogLevel, sentence: string, facts?: Record<string, unknown>): void {
    this.#log.write(level, sentence, facts);
    this.also(level, sentence, facts);
  }
}
