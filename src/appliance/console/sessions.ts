// SPDX-License-Identifier: Apache-2.0
//
// Sessions of people at the pages, in this unit's memory alone: a restart ends them, and each unit
// has its own.
//
// Invariants
// - At most SESSIONS_MAX; a new one ends the one that was idle longest.
// - A session ends IDLE_MS after a person last did something, and AGE_MS after it began. A page's
//   looking again by itself keeps nothing alive.
// - It is begun by a credential and lives no longer than that: once the password is another, or
//   the token void, it is over at every unit.
// - Its token is made at sign-in and never taken from outside (no fixation); kept is its hash.

import { Fault } from "#base/fault.ts";
import type { World } from "#base/world.ts";
import type { SignedIn } from "./credentials.ts";

export const SESSIONS_MAX = 64;
export const IDLE_MS = 30 * 60_000;
export const AGE_MS = 12 * 3_600_000;
const TOKEN_BYTES = 32;

export interface Session {
  /** A form shows it; whoever forges a request does not know it. */
  readonly formToken: string;
  /** What the person proved to know, as a mark that changes with it. */
  readonly credential: string;
  /** Whose it is, as it was when the session was last looked for. */
  who: SignedIn;
  readonly beganAtMs: number;
  usedAtMs: number;
  /** Said once on the next page. */
  note: string | null;
  /** The owner's token after a claim, until it was shown once. */
  ownerToken: string | null;
  /** A token that was made, until it was shown once. */
  madeToken: { name: string; token: string } | null;
  /** A host's token that was made, until it was shown once. */
  hostToken: { host: number; token: string } | null;
}

type SessionWorld = Pick<World, "clock" | "random" | "seal">;

export class Sessions {
  readonly #world: SessionWorld;
  readonly #whose: (credential: string) => SignedIn | null;
  /** By the hash of the token, the one used longest ago first. */
  readonly #sessions = new Map<string, Session>();

  constructor(world: SessionWorld, whose: (credential: string) => SignedIn | null) {
    this.#world = world;
    this.#whose = whose;
  }

  get size(): number {
    return this.#sessions.size;
  }

  /** By a credential that was just proved; a Fault when it is worth nothing any more. */
  begin(credential: string): { token: string; session: Session } {
    const who = this.#whose(credential);
    if (who === null) throw new Fault("notReady", "that was changed just now; sign in again");
    const [oldest] = this.#sessions.keys();
    if (this.#sessions.size >= SESSIONS_MAX && oldest !== undefined) this.#sessions.delete(oldest);
    const token = this.#fresh();
    const nowMs = this.#world.clock.nowMs();
    const session: Session = {
      formToken: this.#fresh(),
      credential,
      who,
      beganAtMs: nowMs,
      usedAtMs: nowMs,
      note: null,
      ownerToken: null,
      madeToken: null,
      hostToken: null,
    };
    this.#sessions.set(this.#keyOf(token), session);
    return { token, session };
  }

  /** `byPerson`: somebody does something, and so keeps it alive. */
  find(token: string, { byPerson }: { byPerson: boolean }): Session | null {
    const key = this.#keyOf(token);
    const session = this.#sessions.get(key);
    if (session === undefined) return null;
    const nowMs = this.#world.clock.nowMs();
    const isOver = nowMs - session.usedAtMs >= IDLE_MS || nowMs - session.beganAtMs >= AGE_MS;
    const who = isOver ? null : this.#whose(session.credential);
    if (who === null) {
      this.#sessions.delete(key);
      return null;
    }
    session.who = who;
    if (byPerson) {
      session.usedAtMs = nowMs;
      this.#sessions.delete(key);
      this.#sessions.set(key, session);
    }
    return session;
  }

  end(token: string): void {
    this.#sessions.delete(this.#keyOf(token));
  }

  /** Whether a form was made for this session; in equal time. */
  isFormToken(session: Session, shown: string): boolean {
    return this.#world.seal.equal(this.#hash(shown), this.#hash(session.formToken));
  }

  #fresh(): string {
    const bytes = new Uint8Array(TOKEN_BYTES);
    this.#world.random.fill(bytes);
    return bytes.toHex();
  }
  #keyOf(token: string): string {
    return this.#hash(token).toHex();
  }
  #hash(text: string): Uint8Array {
    return this.#world.seal.sha256(new TextEncoder().encode(text));
  }
}

/** Without TLS a cookie cannot be kept from the wire; with it, it is never sent in the clear. */
const COOKIE = "cairn-session";
const COOKIE_SECURE = "__Host-cairn-session";

function isSecure(request: Request): boolean {
  return URL.parse(request.url)?.protocol === "https:";
}

/** The session's token that a browser shows, or null. */
export function shownSession(request: Request): string | null {
  const name = isSecure(request) ? COOKIE_SECURE : COOKIE;
  for (const pair of (request.headers.get("cookie") ?? "").split(";")) {
    const [left = "", right = ""] = pair.split("=", 2);
    if (left.trim() === name && /^[0-9a-f]{64}$/.test(right.trim())) return right.trim();
  }
  return null;
}

/** Who is, without keeping the session alive; null: nobody. */
export function signedIn(sessions: Sessions, request: Request): SignedIn | null {
  const token = shownSession(request);
  if (token === null) return null;
  return sessions.find(token, { byPerson: false })?.who ?? null;
}

/** The Set-Cookie line; a null token takes it away. */
export function sessionCookie(request: Request, token: string | null): string {
  const name = isSecure(request) ? `${COOKIE_SECURE}=` : `${COOKIE}=`;
  const secure = isSecure(request) ? "; Secure" : "";
  const age = token === null ? "; Max-Age=0" : "";
  return `${name}${token ?? ""}; Path=/; HttpOnly; SameSite=Strict${secure}${age}`;
}
