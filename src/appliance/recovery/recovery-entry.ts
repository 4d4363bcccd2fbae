// SPDX-License-Identifier: Apache-2.0
//
// Who may see and steer the recovery page: whoever types the code that the box's screen shows, or
// the API token of the state directory, where that can be read.
//
// Invariants
// - Nothing tells how much of a code was right, not even the time an answer takes.
// - Wrong codes are counted for everybody together, and after a few of them each costs a wait, so
//   that a code of 46 bits cannot be tried out. The token, of 256 bits, never waits.
// - A session is random, kept in memory only, and ends with the recovery itself.

import type { Clock, Random, Seal } from "#base/world.ts";
import { sameCode } from "#appliance/claim-code.ts";

const SESSION_BYTES = 32;
const SESSIONS_MAX = 32;
const SESSION_MS = 60 * 60_000;
/** Typing errors that cost nothing. */
const FREE_ERRORS = 5;
const WAIT_MS = 2000;
const WAIT_MS_MAX = 30_000;
const SHOWN_CHARACTERS_MAX = 256;

export interface EntryOptions {
  code: string;
  /** Null: the state directory cannot be read. */
  token: string | null;
}

export type SignIn = { session: string } | { waitMs: number } | "wrong";

export class RecoveryEntry {
  readonly #world: { clock: Clock; random: Random; seal: Pick<Seal, "sha256" | "equal"> };
  readonly #options: EntryOptions;
  /** By session, until when it lasts. */
  readonly #sessions = new Map<string, number>();
  /** When somebody signed in was seen last, by the world's clock, ms; -Infinity: nobody was. */
  usedMs = Number.NEGATIVE_INFINITY;
  #errors = 0;
  #openMs = Number.NEGATIVE_INFINITY;

  constructor(
    world: { clock: Clock; random: Random; seal: Pick<Seal, "sha256" | "equal"> },
    options: EntryOptions,
  ) {
    this.#world = world;
    this.#options = options;
  }

  signIn(typed: string): SignIn {
    const nowMs = this.#world.clock.nowMs();
    if (this.isToken(typed)) return { session: this.#newSession(nowMs) };
    if (nowMs < this.#openMs) return { waitMs: this.#openMs - nowMs };
    const { seal } = this.#world;
    const short = typed.length <= SHOWN_CHARACTERS_MAX;
    if (short && sameCode(seal, typed, this.#options.code)) {
      this.#errors = 0;
      return { session: this.#newSession(nowMs) };
    }
    this.#errors++;
    if (this.#errors > FREE_ERRORS) {
      const waitMs = WAIT_MS * 2 ** (this.#errors - FREE_ERRORS - 1);
      this.#openMs = nowMs + Math.min(waitMs, WAIT_MS_MAX);
    }
    return "wrong";
  }

  isSession(session: string): boolean {
    const nowMs = this.#world.clock.nowMs();
    const untilMs = this.#sessions.get(session);
    if (untilMs === undefined || untilMs < nowMs) return false;
    this.usedMs = nowMs;
    this.#sessions.set(session, nowMs + SESSION_MS);
    return true;
  }

  /** For programs, which show it with every request. */
  isToken(shown: string): boolean {
    const { token } = this.#options;
    if (token === null || token === "" || shown.length > SHOWN_CHARACTERS_MAX) return false;
    const { seal } = this.#world;
    const digest = (text: string) => seal.sha256(new TextEncoder().encode(text));
    return seal.equal(digest(shown.trim()), digest(token));
  }

  #newSession(nowMs: number): string {
    const [oldest] = this.#sessions.keys();
    if (this.#sessions.size >= SESSIONS_MAX && oldest !== undefined) this.#sessions.delete(oldest);
    const bytes = new Uint8Array(SESSION_BYTES);
    this.#world.random.fill(bytes);
    const session = bytes.toHex();
    this.#sessions.set(session, nowMs + SESSION_MS);
    this.usedMs = nowMs;
    return session;
  }
}
