// SPDX-License-Identifier: Apache-2.0
//
// The recovery page: why it is there, who gets in, and that nothing is told or done before.

import { beforeEach, describe, expect, test } from "bun:test";
import { createHash, timingSafeEqual } from "node:crypto";
import type { Hono } from "hono";
import { Fault } from "#base/fault.ts";
import type { ServiceEnd } from "#machine/journal.ts";
import { RECOVERY_BODY_BYTES_MAX, createRecoveryApp } from "./recovery-app.ts";
import type { RecoveryOutside } from "./recovery-app.ts";
import { RecoveryEntry } from "./recovery-entry.ts";
import { apiPlaceOf } from "./recovery-place.ts";
import { recoveryReason } from "./recovery-reason.ts";
import { TRY_AGAIN_MS, tryAgainInMs, whenDue } from "./try-again.ts";

const CODE = "K7QWM-2XHDA";
const TOKEN = "f".repeat(64);
const HOST = "192.168.1.21:7480";

let nowMs: number;
let drawn: number;
let done: string[];
let entry: RecoveryEntry;
let outside: RecoveryOutside;
let app: Hono;
beforeEach(() => {
  [nowMs, drawn, done] = [0, 0, []];
  const world = {
    clock: { nowMs: () => nowMs, wallMs: () => 0 },
    random: { fill: (bytes: Uint8Array) => void bytes.fill(++drawn), fraction: () => 0 },
    seal: {
      sha256: (bytes: Uint8Array) => new Uint8Array(createHash("sha256").update(bytes).digest()),
      equal: timingSafeEqual,
    },
  };
  entry = new RecoveryEntry(world, { code: CODE, token: TOKEN });
  outside = {
    log: { write: () => undefined },
    name: "box-a",
    names: ["box-a"],
    entry,
    hasToken: true,
    facts: async () => ({
      name: "box-a",
      version: "0.1.0",
      reason: "Cairn ended 6 times in a row, the last time with exit status 70.",
      forWords: "3 min 10 s",
      againWords: "2 min",
      logLines: ['{"time":"2026-03-01T12:34:56.7Z","level":"error","sentence":"<b>it</b> failed"}'],
      slots: [slot("0.2.0", true), slot("0.1.0", false)],
    }),
    wholeLog: async () => "one\ntwo\n",
    startAgain: async () => void done.push("start"),
    reboot: async () => void done.push("reboot"),
    useSlot: async (version) => {
      if (version !== "0.1.0") throw new Fault("notFound", `no slot holds version ${version}`);
      done.push(`slot ${version}`);
    },
    reset: async (level) => void done.push(`reset ${level}`),
  };
  app = createRecoveryApp(outside);
});

function slot(version: string, running: boolean) {
  return {
    version,
    tries: null,
    file: `cairn_${version}.efi`,
    bytes: 1,
    state: "good" as const,
    running,
  };
}

interface Ask {
  form?: Record<string, string>;
  cookie?: string;
  headers?: Record<string, string>;
}

async function ask(path: string, { form, cookie, headers }: Ask = {}): Promise<Response> {
  const request = new Request(`http://${HOST}${path}`, {
    method: form === undefined ? "GET" : "POST",
    headers: {
      host: HOST,
      ...(form === undefined ? {} : { origin: `http://${HOST}` }),
      ...(cookie === undefined ? {} : { cookie }),
      ...headers,
    },
    ...(form === undefined ? {} : { body: new URLSearchParams(form) }),
  });
  return app.fetch(request);
}

async function signedIn(typed = CODE): Promise<string> {
  const answer = await ask("/sign-in", { form: { code: typed } });
  expect([answer.status, answer.headers.get("location")]).toEqual([303, "/"]);
  const [cookie = ""] = (answer.headers.get("set-cookie") ?? "").split(";");
  return cookie;
}

describe("before somebody has signed in", () => {
  test("the page says that it is the recovery, and nothing else", async () => {
    const answer = await ask("/");
    const text = await answer.text();
    expect(answer.status).toBe(401);
    expect(text).toContain("box-a is in recovery");
    for (const word of ["exit status", "failed", "0.1.0", "0.2.0", CODE, TOKEN]) {
      expect(text).not.toContain(word);
    }
  });

  test("nothing can be done and nothing read", async () => {
    for (const [path, form] of [
      ["/log", undefined],
      ["/try-again", {}],
      ["/reboot", {}],
      ["/use-slot", { version: "0.1.0" }],
      ["/reset", { level: "settings", name: "box-a" }],
      ["/nothing", undefined],
    ] as const) {
      const answer = await ask(path, form === undefined ? {} : { form });
      expect([path, answer.status]).toEqual([path, 401]);
      expect(await answer.text()).not.toContain("one\ntwo");
    }
    expect(done).toEqual([]);
  });

  test("a program asks the API → unauthorised; with the token → not ready", async () => {
    expect((await ask("/api/v1/status")).status).toBe(401);
    const wrong = { authorization: `Bearer ${"0".repeat(64)}` };
    expect((await ask("/api/v1/status", { headers: wrong })).status).toBe(401);
    const right = { authorization: `Bearer ${TOKEN}` };
    const answer = await ask("/api/v1/status", { headers: right });
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({ error: { code: "notReady" } });
  });
});

describe("signing in", () => {
  test("with the code, however it is written, or the token → a session of one's own", async () => {
    const cookies = [];
    for (const typed of [CODE, "k7qwm 2xhda", "K7QWM2XHDA", TOKEN, `${TOKEN}\n`]) {
      cookies.push(await signedIn(typed));
    }
    expect(new Set(cookies).size).toBe(5);
    for (const cookie of cookies) expect((await ask("/", { cookie })).status).toBe(200);
  });

  test("the cookie is for this page alone", async () => {
    const answer = await ask("/sign-in", { form: { code: CODE } });
    expect(answer.headers.get("set-cookie")).toMatch(/HttpOnly; SameSite=Strict/);
  });

  test("a wrong code, none, a huge one, a made-up session → no", async () => {
    for (const code of ["", "K7QWM-2XHDB", "x".repeat(3000)]) {
      const answer = await ask("/sign-in", { form: { code } });
      expect(answer.status).toBe(401);
      expect(answer.headers.get("set-cookie")).toBe(null);
    }
    expect((await ask("/", { cookie: "cairn-recovery=0101" })).status).toBe(401);
    const huge = await ask("/sign-in", { form: { code: "x".repeat(RECOVERY_BODY_BYTES_MAX) } });
    expect(huge.status).toBe(413);
  });

  test("wrong codes one after the other → each costs a wait, but never the token", () => {
    for (let at = 0; at < 6; at++) expect(entry.signIn("WRONG-CODES")).toBe("wrong");
    expect(entry.signIn(CODE)).toEqual({ waitMs: 2000 });
    expect(entry.signIn(TOKEN)).toHaveProperty("session");
    nowMs += 2000;
    expect(entry.signIn("WRONG-CODES")).toBe("wrong");
    expect(entry.signIn(CODE)).toEqual({ waitMs: 4000 });
    let tried = 0;
    for (nowMs = 10_000; nowMs < 3_610_000; nowMs += 100) {
      if (entry.signIn("WRONG-CODES") === "wrong") tried++;
    }
    expect(tried).toBeLessThan(130);
    nowMs += 30_000;
    expect(entry.signIn(CODE)).toHaveProperty("session");
    expect(entry.signIn("WRONG-CODES")).toBe("wrong");
    expect(entry.signIn(CODE)).toHaveProperty("session");
  });

  test("a session ends after an hour without use, and there are not more than so many", () => {
    const first = entry.signIn(CODE) as { session: string };
    nowMs += 59 * 60_000;
    expect(entry.isSession(first.session)).toBe(true);
    nowMs += 61 * 60_000;
    expect(entry.isSession(first.session)).toBe(false);
    const early = entry.signIn(CODE) as { session: string };
    for (let at = 0; at < 40; at++) entry.signIn(CODE);
    expect(entry.isSession(early.session)).toBe(false);
  });

  test("no token can be read → an empty one opens nothing", () => {
    const closed = new RecoveryEntry(
      {
        clock: { nowMs: () => 0, wallMs: () => 0 },
        random: { fill: () => undefined, fraction: () => 0 },
        seal: { sha256: (bytes) => bytes.slice(0, 1), equal: () => true },
      },
      { code: CODE, token: null },
    );
    expect([closed.isToken(""), closed.isToken(TOKEN)]).toEqual([false, false]);
  });
});

describe("signed in", () => {
  let cookie: string;
  beforeEach(async () => {
    cookie = await signedIn();
  });

  test("the page → why, the log, the other slot, resets; nothing that runs or loads", async () => {
    const answer = await ask("/", { cookie });
    const text = await answer.text();
    expect(text).toContain("with exit status 70");
    expect(text).toContain("12:34:56 error: &lt;b&gt;it&lt;/b&gt; failed");
    expect(text).toContain("Restart with version 0.1.0");
    expect(text).toContain("prefers-color-scheme: dark");
    expect(text).not.toContain("<script");
    expect(answer.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(answer.headers.get("cache-control")).toBe("no-store");
  });

  test("every field has its label", async () => {
    const text = await (await ask("/", { cookie })).text();
    const ids = [...text.matchAll(/<input id="([^"]+)"/g)].map((match) => match[1]);
    expect(ids).toEqual(["name-settings", "name-everything"]);
    for (const id of ids) expect(text).toContain(`<label for="${id}">`);
    expect(text).toContain('<html lang="en">');
  });

  test("the log → as a file", async () => {
    const answer = await ask("/log", { cookie });
    expect(await answer.text()).toBe("one\ntwo\n");
    expect(answer.headers.get("content-disposition")).toContain("cairn-log.txt");
  });

  for (const [path, form, act] of [
    ["/try-again", {}, "start"],
    ["/reboot", {}, "reboot"],
    ["/use-slot", { version: "0.1.0" }, "slot 0.1.0"],
    ["/reset", { level: "settings", name: "box-a" }, "reset settings"],
    ["/reset", { level: "everything", name: " box-a " }, "reset everything"],
  ] as const) {
    test(`${path} ${JSON.stringify(form)} → ${act}`, async () => {
      const answer = await ask(path, { cookie, form });
      expect(answer.status).toBe(200);
      expect(await answer.text()).toContain("Look again");
      expect(done).toEqual([act]);
    });
  }

  for (const [path, form] of [
    ["/reset", { level: "everything", name: "box-b" }],
    ["/reset", { level: "all", name: "box-a" }],
    ["/reset", { level: "settings" }],
    ["/use-slot", { version: "9.9.9" }],
    ["/use-slot", {}],
  ] as const) {
    test(`${path} ${JSON.stringify(form)} → refused, and nothing is done`, async () => {
      const answer = await ask(path, { cookie, form });
      expect(answer.status).toBeGreaterThanOrEqual(400);
      expect(await answer.text()).toContain('role="alert"');
      expect(done).toEqual([]);
    });
  }

  test("a page of another origin, or a foreign name of a host → refused", async () => {
    const origin = { origin: "http://evil.example" };
    expect((await ask("/reboot", { cookie, form: {}, headers: origin })).status).toBe(403);
    const nobody = { origin: "null" };
    expect((await ask("/reboot", { cookie, form: {}, headers: nobody })).status).toBe(403);
    const host = { host: "evil.example" };
    expect((await ask("/", { cookie, headers: host })).status).toBe(421);
    expect(done).toEqual([]);
  });

  test("no GET changes anything; what is not there is not found", async () => {
    for (const path of ["/try-again", "/reboot", "/use-slot", "/reset", "/sign-in", "/nothing"]) {
      expect((await ask(path, { cookie })).status).toBe(404);
    }
    expect(done).toEqual([]);
  });

  test("a mistake of ours → 500, without its insides", async () => {
    outside.facts = async () => {
      throw new Error("ours");
    };
    const answer = await ask("/", { cookie });
    expect(answer.status).toBe(500);
    expect(await answer.text()).not.toContain("ours");
  });
});

describe("why", () => {
  const end = (more: Partial<ServiceEnd>): ServiceEnd => ({
    result: "exit-code",
    how: "exited",
    status: 70,
    restarts: 5,
    ...more,
  });
  const why = (more: Partial<ServiceEnd>, ...logLines: string[]) =>
    recoveryReason({ end: end(more), logLines, stateProblem: null });

  test("how it ended, how often, and what it said last", () => {
    const line = JSON.stringify({
      time: "2026-03-01T12:34:56.7Z",
      level: "error",
      sentence: "this unit found itself wrong and ends",
      error: "AssertionFailure: a is b\n  at c",
    });
    expect(why({}, "other", line, '{"level":"info","sentence":"later"}')).toBe(
      "Cairn ended 6 times in a row, the last time with exit status 70 (it found itself wrong). " +
        "It said: this unit found itself wrong and ends (error AssertionFailure: a is b).",
    );
    expect(why({ status: 2, restarts: 0 }, "cairn: role in /efi/cairn.json.", "  advice")).toBe(
      "Cairn ended with exit status 2 (its configuration is wrong). " +
        "It said: role in /efi/cairn.json.",
    );
    expect(why({ status: 9, restarts: 0 })).toBe("Cairn ended with exit status 9.");
  });

  test("a signal, the watchdog, no memory, no state, nothing known", () => {
    const once = { restarts: 0 };
    expect(why({ ...once, how: "killed", status: 11, result: "signal" })).toContain("by signal 11");
    expect(why({ ...once, how: "killed", result: "watchdog" })).toContain("it hung");
    expect(why({ ...once, how: "killed", result: "oom-kill" })).toContain("out of memory");
    const stateProblem = "the state partition /dev/sda6 cannot be mounted";
    expect(recoveryReason({ end: null, logLines: [], stateProblem })).toBe(
      "Cairn was not started: the state partition /dev/sda6 cannot be mounted.",
    );
    expect(recoveryReason({ end: null, logLines: [], stateProblem: null })).toBe(
      "Cairn does not run.",
    );
    expect(why({ how: "" })).toBe("Cairn does not run.");
  });
});

test("where it is served: as the media say of the API, the stronger one last", () => {
  const usual = { address: "::", port: 7480 };
  for (const [media, place] of [
    [[], usual],
    [["", "no JSON", "[]", "7", "null"], usual],
    [['{"apiAddress":null}'], { address: "127.0.0.1", port: 7480 }],
    [['{"apiAddress":null}', '{"apiAddress":"10.0.0.1"}'], { address: "10.0.0.1", port: 7480 }],
    [['{"ports":{"api":8000}}', '{"ports":{"nbd":1}}'], { address: "::", port: 8000 }],
    [['{"apiAddress":"nowhere","ports":{"api":70000}}'], usual],
    [['{"apiAddress":7,"ports":null}'], usual],
  ] as const) {
    expect(apiPlaceOf(media, usual)).toEqual(place);
  }
});

describe("started again by itself", () => {
  const facts = { nowMs: 1000, sinceMs: 0, usedMs: Number.NEGATIVE_INFINITY, mayPass: true };

  test("nobody is there → some minutes after the recovery began", () => {
    expect(tryAgainInMs(facts)).toBe(TRY_AGAIN_MS - 1000);
    expect(tryAgainInMs({ ...facts, nowMs: TRY_AGAIN_MS + 5 })).toBe(0);
  });

  test("somebody is at work there → so long after what they did last", async () => {
    expect(entry.usedMs).toBe(Number.NEGATIVE_INFINITY);
    nowMs = 50_000;
    await ask("/sign-in", { form: { code: "nonsense" } });
    expect(entry.usedMs).toBe(Number.NEGATIVE_INFINITY);
    const signedIn = entry.signIn(CODE) as { session: string };
    nowMs = 70_000;
    expect(entry.isSession(signedIn.session)).toBe(true);
    expect(tryAgainInMs({ ...facts, nowMs, usedMs: entry.usedMs })).toBe(TRY_AGAIN_MS);
  });

  test("the box has no state → never", () => {
    expect(tryAgainInMs({ ...facts, mayPass: false })).toBeNull();
  });

  test("the time moves while it is waited for → waited for again, then once", () => {
    const dues: (number | null)[] = [100, 40, 0];
    const waits: number[] = [];
    let acts = 0;
    const timers = {
      after: (ms: number, act: () => void) => {
        waits.push(ms);
        act();
        return () => {};
      },
    };
    whenDue(
      timers,
      () => dues.shift() ?? null,
      () => {
        acts++;
      },
    );
    expect([waits, acts]).toEqual([[100, 40], 1]);
  });
});
