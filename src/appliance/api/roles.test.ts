// SPDX-License-Identifier: Apache-2.0
//
// What each role may do, over every route that the OpenAPI document names and every form of the
// pages; and in whose name it is done.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { consoleParts } from "#appliance/console/console-parts-fixture.ts";
import { isConsolePath } from "#appliance/console/paths.ts";
import { type Api, createApi } from "./api.ts";
import { CLAIM_PATH, HOST_PATH } from "./convention.ts";
import { MEMORY_CODE, MemoryBackend } from "./memory-backend-fixture.ts";
import { SERVED_TOKEN, serveInMemory } from "./served-fixture.ts";
import type { ServedApi } from "./serve.ts";

let folder: string;
let backend: MemoryBackend;
let served: ServedApi;
let url: string;
let viewer: string;
let admin: string;

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-roles-"));
  backend = new MemoryBackend();
  served = serveInMemory(backend, folder, { tcp: true });
  url = `http://127.0.0.1:${served.port}`;
  await backend.claim(
    { code: MEMORY_CODE, replace: false, password: "of the owner, long", tokenHash: null },
    "anybody",
  );
  await backend.users.add({ name: "vera", role: "viewer", password: "of the viewer, long" });
  await backend.hosts.add({ name: "db1", addresses: ["10.0.0.7"] });
  const one = { name: "one", sizeBytes: 1 << 30, protection: "mirror-2" as const };
  await backend.createVolume(one, { dryRun: false });
  viewer = (await backend.users.addToken({ name: "screen", role: "viewer" })).token;
  admin = (await backend.users.addToken({ name: "backup", role: "admin" })).token;
});
afterEach(async () => {
  await served.stop();
  rmSync(folder, { recursive: true, force: true });
});

const ask = (token: string, method: string, where: string, body: unknown = null) =>
  fetch(url + where, {
    method,
    redirect: "manual",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    ...(method === "GET" ? {} : { body: JSON.stringify(body) }),
  });

/** All that a request could have changed. */
const state = () =>
  JSON.stringify([
    ...[backend.volumes(), backend.hosts.list(), backend.hosts.requests(), backend.settings()],
    ...[backend.users.list(), backend.users.records(), backend.units(), backend.disks()],
    ...[backend.pools.list(), backend.retired, backend.scrubs, backend.claims, backend.password],
    ...[backend.ownerToken, backend.update.status(), backend.events(0, 1000)],
  ]);

async function documented(): Promise<[method: string, where: string][]> {
  const answer = await ask(viewer, "GET", "/api/v1/openapi.json");
  const { paths } = (await answer.json()) as { paths: Record<string, Record<string, unknown>> };
  return Object.entries(paths).flatMap(([where, methods]) =>
    Object.keys(methods).map((method): [string, string] => [method.toUpperCase(), where]),
  );
}

const filled = (where: string) => where.replaceAll(/\{[^}]+\}/g, "1");

describe("a viewer's token", () => {
  test("every changing route of the document → 403 adminOnly, and nothing is another", async () => {
    const before = state();
    const changing = (await documented()).filter(([method]) => method !== "GET");
    expect(changing.length).toBeGreaterThan(30);
    for (const [method, where] of changing) {
      // A claim brings its own proof; a wrong one is refused as a stranger's is.
      if (where === CLAIM_PATH) continue;
      for (const body of [null, {}, { name: "evil", password: "a long password", role: "admin" }]) {
        const answer = await ask(viewer, method, filled(where), body);
        const { error } = (await answer.json()) as { error: { code: string; message: string } };
        expect([method, where, answer.status, error.code]).toEqual([
          ...[method, where, 403, "adminOnly"],
        ] as never);
        expect(error.message).toContain("token screen is a viewer");
      }
    }
    const claim = await ask(viewer, "POST", CLAIM_PATH, { replace: true });
    expect(claim.status).toBe(403);
    expect(backend.claims.pop()?.code).toBeNull(); // asked, and refused without a code
    expect(state()).toBe(before);
  });

  test("every reading route → read, as an administrator reads it; no secret in it", async () => {
    const reading = (await documented()).filter(
      ([method, where]) => method === "GET" && where !== HOST_PATH && !where.endsWith("/stream"),
    );
    for (const [, where] of reading) {
      const seen = await ask(viewer, "GET", filled(where));
      expect([where, [401, 403].includes(seen.status)]).toEqual([where, false]);
      const text = await seen.text();
      const secrets = [viewer, admin, backend.ownerToken as string, MEMORY_CODE, "of the owner"];
      for (const secret of secrets) expect([where, text.includes(secret)]).toEqual([where, false]);
    }
    const who = await (await ask(viewer, "GET", "/api/v1/whoami")).json();
    expect(who).toEqual({ name: "token screen", role: "viewer" });
  });

  test("an unknown method or path → refused as well: the rule names no route", async () => {
    for (const method of ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"]) {
      const answer = await ask(viewer, method, "/api/v1/not-thought-of-yet", {});
      expect([method, answer.status]).toEqual([method, 403]);
    }
  });

  test("made an administrator's, or void → at once", async () => {
    const create = { name: "two", sizeBytes: 1 << 30 };
    expect((await ask(admin, "POST", "/api/v1/volumes", create)).status).toBe(201);
    await backend.users.removeToken("backup");
    expect((await ask(admin, "POST", "/api/v1/volumes", create)).status).toBe(401);
  });
});

describe("in whose name", () => {
  test("token, unit's own token, root by the socket → the event says who", async () => {
    const create = (name: string) => ({ name, sizeBytes: 1 << 30 });
    await ask(admin, "POST", "/api/v1/volumes", create("by-token"));
    await ask(SERVED_TOKEN, "POST", "/api/v1/volumes", create("by-unit"));
    await fetch("http://localhost/api/v1/volumes", {
      unix: path.join(folder, "api.sock"),
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(create("by-root")),
    });
    const said = backend.events(0, 100).map(({ sentence, actor }) => [sentence, actor]);
    expect(said).toEqual([
      ["volume one was made", null],
      ["volume by-token was made", "token backup"],
      ["volume by-unit was made", "the token of cairn-0001"],
      ["volume by-root was made", "root on cairn-0001"],
    ]);
    const found = await (await ask(viewer, "GET", "/api/v1/events?actor=token%20backup")).json();
    expect(found).toMatchObject({ events: [{ actor: "token backup" }] });
  });
});

describe("a viewer at the pages", () => {
  const HOST = "10.0.0.1:7480";
  let parts: ReturnType<typeof consoleParts>;
  let api: Api;
  let cookie: string;
  const env = { asker: "anybody", from: "10.0.0.9" } as const;

  beforeEach(async () => {
    parts = consoleParts(backend, { tokens: () => backend.users.records() });
    backend.actor = () => parts.actors.current;
    api = createApi(backend, { ...parts, timers: { after: () => () => undefined } });
    cookie = await signedIn("vera", "of the viewer, long");
  });

  const post = (where: string, form: Record<string, string>, shown = cookie) =>
    api.request(
      where,
      {
        method: "POST",
        headers: {
          host: HOST,
          origin: `http://${HOST}`,
          cookie: shown,
          "content-type": "application/x-www-form-urlencoded",
        },
        body: new URLSearchParams(form).toString(),
      },
      env,
    );
  const page = async (where: string, shown = cookie) =>
    (await api.request(where, { headers: { host: HOST, cookie: shown } }, env)).text();
  const formToken = async (shown = cookie) =>
    /name="token" value="([0-9a-f]+)"/.exec(await page("/account", shown))?.[1] ?? "";

  async function signedIn(user: string, password: string): Promise<string> {
    const answer = await post("/login", { user, password }, "");
    return (answer.headers.get("set-cookie") ?? "").split(";")[0] ?? "";
  }

  test("every form of every page, with the page's own token → 403, nothing changed", async () => {
    const token = await formToken();
    const before = state();
    const own = ["/login", "/logout", "/account", "/claim"];
    const forms = api.routes.filter(
      (route) => route.method === "POST" && isConsolePath(route.path) && !own.includes(route.path),
    );
    expect(forms.length).toBeGreaterThan(25);
    for (const { path: where } of forms) {
      const place = where.replaceAll(/:[a-z]+/g, "1");
      const answer = await post(place, { token, name: "admin", role: "viewer", confirm: "one" });
      expect([where, answer.status]).toEqual([where, 403]);
      // A person reads it: a page, and the way back.
      expect(answer.headers.get("content-type")).toContain("text/html");
      const html = await answer.text();
      expect(html).toContain("vera is a viewer");
      expect(html).toContain('<nav aria-label="Console">');
    }
    expect(state()).toBe(before);
  });

  test("who it is → once, where name and role are the same word", async () => {
    expect(await page("/")).toContain('<p class="who">vera (viewer)</p>');
    const owner = await signedIn("admin", "of the owner, long");
    expect(await page("/", owner)).toContain('<p class="who">admin</p>');
  });

  test("pages → all seen; what changes something is disabled, and it is said why", async () => {
    for (const where of ["/settings", "/settings/users", "/volumes/new", "/hosts", "/pools"]) {
      const html = await page(where);
      expect([where, html.includes("A viewer sees everything and changes nothing")]).toEqual([
        ...[where, true],
      ] as never);
      for (const form of html.match(/<form method="post".*?<\/form>/gs) ?? []) {
        const isOwn = form.includes('action="/logout"');
        expect([where, isOwn || form.includes('<fieldset class="barred" disabled')]).toEqual([
          ...[where, true],
        ] as never);
      }
    }
    const owner = await signedIn("admin", "of the owner, long");
    expect(await page("/volumes/new", owner)).not.toContain("disabled");
  });

  test("promoted and demoted → the open session may more, and less, at once", async () => {
    const token = await formToken();
    const create = { token, name: "pool-two" };
    expect((await post("/pools", create)).status).toBe(403);
    await backend.users.changeRole("vera", "admin");
    expect((await post("/pools", create)).status).toBe(303);
    await backend.users.changeRole("vera", "viewer");
    expect((await post("/pools", { token, name: "pool-three" })).status).toBe(403);
    await backend.users.remove("vera");
    expect((await api.request("/", { headers: { host: HOST, cookie } }, env)).status).toBe(303);
  });

  test("own password → by the present one; that one is out elsewhere, others are not", async () => {
    const other = await signedIn("vera", "of the viewer, long");
    const owner = await signedIn("admin", "of the owner, long");
    const token = await formToken();
    const password = "another long one";
    const wrong = ["of the owner, long", viewer, ""];
    for (const current of wrong) {
      expect((await post("/account", { token, current, password })).status).toBe(403);
    }
    const set = await post("/account", { token, current: "of the viewer, long", password });
    expect(set.status).toBe(303);
    const isIn = async (shown: string) =>
      (await api.request("/", { headers: { host: HOST, cookie: shown } }, env)).status === 200;
    const fresh = (set.headers.get("set-cookie") ?? "").split(";")[0] ?? "";
    expect([await isIn(other), await isIn(fresh), await isIn(owner)]).toEqual([false, true, true]);
    expect(backend.users.passwordOf("vera")).toBe(password);
    expect(backend.password).toBe("of the owner, long");
  });

  test("signed in by a viewer's token → no password can be set by it", async () => {
    const byToken = await signedIn("admin", viewer);
    expect(await page("/account", byToken)).toContain("You are signed in by token screen");
    const form = /name="token" value="([0-9a-f]+)"/.exec(await page("/settings", byToken))?.[1];
    const body = { token: form ?? "", current: viewer, password: "another long one" };
    expect((await post("/account", body, byToken)).status).toBe(409);
    expect(backend.password).toBe("of the owner, long");
  });

  test("an administrator makes users and tokens there; the token is shown once", async () => {
    const owner = await signedIn("admin", "of the owner, long");
    const token = await formToken(owner);
    const place = "/settings/users";
    const anna = { token, name: "anna", role: "admin", password: "of anna, and long" };
    expect((await post(place, anna, owner)).status).toBe(303);
    expect((await post(place, anna, owner)).status).toBe(409);
    const made = { token, name: "nightly", role: "viewer" };
    expect((await post(`${place}/tokens`, made, owner)).status).toBe(303);
    const shown = await page(place, owner);
    expect(shown).toMatch(/<code>[0-9a-f]{64}<\/code>/);
    expect(await page(place, owner)).not.toMatch(/<code>[0-9a-f]{64}<\/code>/);
    const last = await post(`${place}/remove`, { token, name: "admin" }, owner);
    expect(last.status).toBe(303); // there is anna
    const cookieOfAnna = await signedIn("anna", "of anna, and long");
    const hers = await formToken(cookieOfAnna);
    const gone = await post(`${place}/remove`, { token: hers, name: "anna" }, cookieOfAnna);
    expect([gone.status, backend.users.list().map(({ name }) => name)]).toEqual([
      409,
      ["anna", "vera"],
    ]);
    const volume = { token: hers, name: "hers", size: "1G", protection: "none", intent: "create" };
    await post("/volumes/new", volume, cookieOfAnna);
    expect(backend.events(0, 100, "anna").map(({ sentence }) => sentence)).toEqual([
      "volume hers was made",
    ]);
    const events = await page("/events?actor=anna", cookieOfAnna);
    expect(events).toContain("volume hers was made");
    expect(events).not.toContain("volume one was made");
  });
});
