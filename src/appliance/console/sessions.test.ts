// SPDX-License-Identifier: Apache-2.0
//
// Sessions: how long they live, how many there are, and what their cookie says; and how often a
// password may be tried.

import { beforeEach, describe, expect, test } from "bun:test";
import { createRandom } from "#machine/random.ts";
import { createSeal } from "#machine/seal.ts";
import { HandClock } from "./console-parts-fixture.ts";
import {
  AGE_MS,
  IDLE_MS,
  SESSIONS_MAX,
  Sessions,
  sessionCookie,
  shownSession,
} from "./sessions.ts";
import { TRIES_MAX, TRIES_MS, TRIES_OF_ALL_MAX, TryLimit } from "./try-limit.ts";

let clock: HandClock;
let valid: Set<string>;
let sessions: Sessions;

beforeEach(() => {
  clock = new HandClock();
  valid = new Set(["one", "two"]);
  const world = { clock, random: createRandom(), seal: createSeal() };
  sessions = new Sessions(world, (credential) =>
    valid.has(credential) ? { role: "admin", actor: "anna", user: "anna" } : null,
  );
});

const byPerson = { byPerson: true };

describe("sessions", () => {
  test("begun → found by its token alone, which is never the same", () => {
    const { token, session } = sessions.begin("one");
    const other = sessions.begin("one");
    expect(token).toMatch(/^[0-9a-f]{64}$/);
    expect(other.token).not.toBe(token);
    expect(other.session.formToken).not.toBe(session.formToken);
    expect(sessions.find(token, byPerson)).toBe(session);
    expect(sessions.find(session.formToken, byPerson)).toBeNull();
    expect(sessions.isFormToken(session, session.formToken)).toBe(true);
    expect(sessions.isFormToken(session, other.session.formToken)).toBe(false);
    expect(sessions.isFormToken(session, "")).toBe(false);
  });

  test("idle too long → over; used in between → goes on, until it is too old", () => {
    const idle = sessions.begin("one");
    const used = sessions.begin("one");
    for (let passedMs = 0; passedMs < AGE_MS - IDLE_MS; passedMs += IDLE_MS - 1) {
      expect(sessions.find(used.token, byPerson)).toBe(used.session);
      clock.atMs += IDLE_MS - 1;
    }
    expect(sessions.find(idle.token, byPerson)).toBeNull();
    clock.atMs = used.session.beganAtMs + AGE_MS - 1;
    expect(sessions.find(used.token, byPerson)).toBeNull(); // idle by now
    const old = sessions.begin("one");
    while (clock.atMs < old.session.beganAtMs + AGE_MS - IDLE_MS / 2) {
      clock.atMs += IDLE_MS / 2;
      expect(sessions.find(old.token, byPerson)).toBe(old.session);
    }
    clock.atMs = old.session.beganAtMs + AGE_MS;
    expect(sessions.find(old.token, byPerson)).toBeNull();
  });

  test("a page that looks by itself keeps nothing alive", () => {
    const { token } = sessions.begin("one");
    for (let looks = 0; looks < 4; looks++) {
      expect(sessions.find(token, { byPerson: false }) !== null).toBe(looks < 2);
      clock.atMs += IDLE_MS / 2;
    }
  });

  test("ended, or its credential void → over", () => {
    const [one, two] = [sessions.begin("one"), sessions.begin("two")];
    sessions.end(one.token);
    expect(sessions.find(one.token, byPerson)).toBeNull();
    expect(sessions.find(two.token, byPerson)).toBe(two.session);
    valid.delete("two");
    expect(sessions.find(two.token, byPerson)).toBeNull();
    valid.add("two");
    expect(sessions.find(two.token, byPerson)).toBeNull();
  });

  test("more than are kept → the one used longest ago goes", () => {
    const all = Array.from({ length: SESSIONS_MAX }, () => sessions.begin("one"));
    sessions.find(all[0]?.token ?? "", byPerson);
    sessions.begin("one");
    expect(sessions.size).toBe(SESSIONS_MAX);
    expect(sessions.find(all[0]?.token ?? "", byPerson)).not.toBeNull();
    expect(sessions.find(all[1]?.token ?? "", byPerson)).toBeNull();
  });
});

describe("cookie", () => {
  const token = "ab".repeat(32);
  const asked = (url: string, cookie: string) => new Request(url, { headers: { cookie } });

  test("in the clear and under TLS: for this unit alone, not for scripts, not for others", () => {
    const plain = sessionCookie(new Request("http://cairn.local/"), token);
    expect(plain).toBe(`cairn-session=${token}; Path=/; HttpOnly; SameSite=Strict`);
    const secure = sessionCookie(new Request("https://cairn.local/"), token);
    expect(secure).toStartWith(`__Host-cairn-session=${token}; Path=/; HttpOnly; SameSite=Strict`);
    expect(secure).toContain("; Secure");
    expect(sessionCookie(new Request("http://cairn.local/"), null)).toContain("Max-Age=0");
  });

  test("read back; the one set in the clear counts for nothing under TLS", () => {
    expect(shownSession(asked("http://a/", `x=1; cairn-session=${token}`))).toBe(token);
    expect(shownSession(asked("https://a/", `cairn-session=${token}`))).toBeNull();
    expect(shownSession(asked("https://a/", `__Host-cairn-session=${token}`))).toBe(token);
    for (const cookie of ["", "cairn-session", "cairn-session=", "cairn-session=../x"]) {
      expect(shownSession(asked("http://a/", cookie))).toBeNull();
    }
  });
});

describe("tries", () => {
  const refused = (limit: TryLimit, address: string) => {
    try {
      limit.take(address);
      return null;
    } catch (error) {
      return (error as { code: string }).code;
    }
  };

  test("more than five a minute from one address → refused there, not elsewhere", () => {
    const limit = new TryLimit(clock);
    for (let count = 0; count < TRIES_MAX; count++) expect(refused(limit, "10.0.0.1")).toBeNull();
    expect(refused(limit, "10.0.0.1")).toBe("rateLimited");
    expect(refused(limit, "::ffff:10.0.0.1")).toBe("rateLimited");
    expect(refused(limit, "10.0.0.2")).toBeNull();
    clock.atMs += TRIES_MS;
    expect(refused(limit, "10.0.0.1")).toBeNull();
    limit.forget("10.0.0.1");
    for (let count = 0; count < TRIES_MAX; count++) expect(refused(limit, "10.0.0.1")).toBeNull();
  });

  test("a whole /64 is one address; many addresses meet the limit of all", () => {
    const limit = new TryLimit(clock);
    for (let at = 0; at < TRIES_MAX; at++) expect(refused(limit, `fd00::${at}`)).toBeNull();
    expect(refused(limit, "fd00::ffff:1")).toBe("rateLimited");
    for (let at = TRIES_MAX; at < TRIES_OF_ALL_MAX; at++) {
      expect(refused(limit, `10.1.0.${at}`)).toBeNull();
    }
    expect(refused(limit, "10.2.0.1")).toBe("rateLimited");
    clock.atMs += TRIES_MS;
    for (let at = 0; at < 1000; at++) {
      expect(refused(limit, `10.3.${at >> 8}.${at & 255}`)).toBeNull();
      if (at % TRIES_OF_ALL_MAX === TRIES_OF_ALL_MAX - 1) clock.atMs += TRIES_MS;
    }
  });
});
