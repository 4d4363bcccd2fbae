// SPDX-License-Identifier: Apache-2.0
//
// The API over a Backend in memory, asked everything wrongly; and what must be refused of a browser
// that others drive. The same fuzz asks a real unit in test/conform.

import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { MEMORY_CODE, MemoryBackend } from "#appliance/api/memory-backend-fixture.ts";
import type { ServedApi } from "#appliance/api/serve.ts";
import { SERVED_TOKEN, serveInMemory } from "#appliance/api/served-fixture.ts";
import { HttpFuzz } from "./http-fuzz.ts";

setDefaultTimeout(60_000);

let folder: string;
let backend: MemoryBackend;
let served: ServedApi;
let url: string;

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-fuzz-"));
  backend = new MemoryBackend();
  served = serveInMemory(backend, folder, { tcp: true });
  url = `http://127.0.0.1:${served.port}`;
  await backend.hosts.add({ name: "db1", addresses: ["10.0.0.7"] });
  await backend.createVolume(
    { name: "kept", sizeBytes: 1 << 30, protection: "mirror-2", hosts: ["db1"] },
    { dryRun: false },
  );
});
afterEach(async () => {
  await served.stop();
  rmSync(folder, { recursive: true, force: true });
});

const state = () =>
  JSON.stringify([
    ...[backend.volumes(), backend.hosts.list(), backend.hosts.requests()],
    ...[backend.settings(), backend.units(), backend.disks(), backend.ownerToken],
  ]);

test("by strangers → refused, and nothing is another afterwards", async () => {
  const { token: hostToken } = await backend.hosts.makeToken("db1");
  for (const seed of [1, 2, 3]) {
    const fuzz = await HttpFuzz.of({ url, token: SERVED_TOKEN, hostToken }, seed);
    const before = state();
    await fuzz.byStrangers();
    expect(state()).toBe(before);
    expect(fuzz.figures.asked).toBeGreaterThan(fuzz.figures.operations * 8);
  }
});

test("by the owner, right and wrong → no 5xx, every refusal a fault", async () => {
  const fuzz = await HttpFuzz.of({ url, token: SERVED_TOKEN, hostToken: null }, 7);
  await fuzz.byOwner(25);
  const { statuses } = fuzz.figures;
  for (const status of [200, 201, 400, 404]) expect(statuses.get(status) ?? 0).toBeGreaterThan(0);
});

/** A browser that somebody else's page drives: it sends what it has, and its page's origin. */
async function forged(method: string, place: string, headers: Record<string, string>) {
  const answer = await fetch(url + place, {
    method,
    redirect: "manual",
    headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
    ...(method === "GET" ? {} : { body: "password=a-long-password&code=x&name=evil" }),
  });
  await answer.arrayBuffer();
  return answer.status;
}

test("rebinding: our pages and API under another's name → 421, whatever is shown", async () => {
  const bearer = { authorization: `Bearer ${SERVED_TOKEN}` };
  for (const host of [
    "evil.example",
    "evil.example:7480",
    "localhost.evil.example",
    "127.1.evil",
  ]) {
    for (const place of ["/", "/login", "/claim", "/assets/console.css", "/api/v1/status"]) {
      expect(await forged("GET", place, { host, ...bearer })).toBe(421);
    }
    expect(await forged("POST", "/claim", { host, origin: `http://${host}` })).toBe(421);
  }
});

/** Led to the way in, forbidden, or no such page. */
const REFUSED = [303, 403, 404];

test("forged forms: each page that changes something → refused without our origin", async () => {
  const before = state();
  const pages = ["/claim", "/login", "/logout", "/account", "/volumes", "/hosts", "/settings"];
  for (const place of pages) {
    for (const origin of ["http://evil.example", "null", `https://127.0.0.1:${served.port}.evil`]) {
      const status = await forged("POST", place, { origin, cookie: "cairn-session=x" });
      expect(REFUSED).toContain(status);
    }
    expect(REFUSED).toContain(await forged("POST", place, {}));
  }
  expect(state()).toBe(before);
});

test("claim by guessing at the pages → nobody's, and the code is in no answer", async () => {
  const own = { origin: url };
  for (let guess = 0; guess < 50; guess++) {
    const body = new URLSearchParams({ code: `guess-${guess}`, password: "a-long-password" });
    const answer = await fetch(`${url}/claim`, { method: "POST", headers: own, body });
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(await answer.text()).not.toContain(MEMORY_CODE);
  }
  expect(backend.ownerToken).toBeNull();
});

test("claim by guessing at the API → nobody's; a claimed one → stays whose it was", async () => {
  const tokenHash = "ee".repeat(32);
  const tried = async (code: string) => {
    const answer = await fetch(`${url}/api/v1/claim`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ code, tokenHash }),
    });
    return [answer.status, (await answer.text()).includes(MEMORY_CODE)];
  };
  for (let guess = 0; guess < 50; guess++) {
    expect(await tried(`guess-${guess}`)).toEqual([403, false]);
  }
  expect(backend.users.ownerHash).toBeNull();
  const its = { code: MEMORY_CODE, replace: false, password: null, tokenHash: "aa".repeat(32) };
  await backend.claim(its, "anybody");
  // Whoever saw the code on the screen, too: it is the claimer's token that is the same.
  expect(await tried(MEMORY_CODE)).toEqual([409, false]);
  expect(backend.users.ownerHash).toBe(its.tokenHash);
});

test("a session fixed beforehand → worth nothing, before and after signing in", async () => {
  const fixed = "b".repeat(64);
  const cookie = `cairn-session=${fixed}`;
  expect(await forged("GET", "/volumes", { cookie })).toBe(303);
  const body = new URLSearchParams({ password: SERVED_TOKEN });
  const headers = { origin: url, cookie };
  const options = { method: "POST", headers, body, redirect: "manual" } as const;
  const answer = await fetch(`${url}/login`, options);
  const given = answer.headers.getSetCookie().join(" ");
  expect(given).not.toContain(fixed);
  expect(await forged("GET", "/volumes", { cookie })).toBe(303);
  const own = /cairn-session=([0-9a-f]{64})/.exec(given)?.[0];
  if (own !== undefined) expect(await forged("GET", "/volumes", { cookie: own })).toBe(200);
});

/** The first line that a socket answers to these bytes, after which nothing comes. */
function raw(bytes: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(served.port ?? 0, "127.0.0.1", () => socket.end(bytes, "latin1"));
    let text = "";
    socket.on("end", () => socket.destroy());
    socket.on("data", (piece) => {
      text += piece.toString("latin1");
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => resolve(text.split("\r\n")[0] ?? ""));
  });
}

test("bytes that are no HTTP → no 5xx, and it goes on answering", async () => {
  const host = "Host: localhost\r\n";
  const post = `POST /api/v1/volumes HTTP/1.1\r\n${host}`;
  for (const bytes of [
    "\u0016\u0003\u0001\u0002\u0000\u0001\u0000",
    "GET\r\n\r\n",
    `GET /${"a".repeat(200_000)} HTTP/1.1\r\n${host}\r\n`,
    `GET / HTTP/9.9\r\n${host}\r\n`,
    `GET /api/v1/status HTTP/1.1\r\n${host}${host}\r\n`,
    `${post}Content-Length: -5\r\n\r\n`,
    `${post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    `GET http://evil.example/ HTTP/1.1\r\n${host}\r\n`,
    `GET / HTTP/1.1\r\n${host}X: ${"b".repeat(100_000)}\r\n\r\n`,
    "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    `TRACE / HTTP/1.1\r\n${host}\r\n`,
  ]) {
    // But for the one that says that HTTP/9.9 is not spoken (RFC 9110, section 15.6.6).
    expect(await raw(bytes)).not.toMatch(/^HTTP\/1\.1 5(?!05 )/);
  }
  const answer = await fetch(`${url}/api/v1/status`, {
    headers: { authorization: `Bearer ${SERVED_TOKEN}` },
  });
  expect(answer.status).toBe(200);
});
