// SPDX-License-Identifier: Apache-2.0
//
// The API on a real unix socket and a real TCP port: who is answered, who is refused and how, and
// what is left behind.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash, timingSafeEqual } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { AssertionFailure } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { listenHttp } from "#machine/http-listener.ts";
import { issueWebCertificate, webAuthority } from "#machine/web-certificates.ts";
import { createApi } from "./api.ts";
import type { Role } from "#cluster/user-state.ts";
import { consoleParts } from "#appliance/console/console-parts-fixture.ts";
import { MEMORY_CODE, MemoryBackend } from "./memory-backend-fixture.ts";
import { FaultSchema } from "./schemas.ts";
import { serveApi, type ServedApi, type ServeOptions, SOCKET_FILE, tcpAsker } from "./serve.ts";

const TOKEN = "0123456789abcdef".repeat(4);
const seal = {
  sha256: (bytes: Uint8Array) => new Uint8Array(createHash("sha256").update(bytes).digest()),
  equal: (left: Uint8Array, right: Uint8Array) => timingSafeEqual(left, right),
};
const log = { write: () => undefined };

let folder: string;
let backend: MemoryBackend;
let fatal: unknown[];
let owners: { name: string; role: Role; tokenHash: string }[];
let parts: ReturnType<typeof consoleParts>;
let served: ServedApi;
let tlsOnly: number | null = null;

function start(change: Partial<ServeOptions> = {}): ServedApi {
  parts = consoleParts(backend, { token: TOKEN, tokens: () => owners });
  return serveApi(createApi(backend, { ...parts, timers: { after: () => () => undefined } }), {
    listen: listenHttp,
    seal,
    log,
    socketPath: path.join(folder, SOCKET_FILE),
    tcp: { address: "127.0.0.1", port: 0 },
    token: TOKEN,
    unitName: "cairn-0001",
    tokens: () => owners,
    hostOf: (tokenHash) => backend.hosts.hostOf(tokenHash),
    signedIn: parts.signedIn,
    tlsPortOnly: () => tlsOnly,
    names: () => ["cairn-0001", "cairn-0001.local"],
    fatal: (error) => void fatal.push(error),
    ...change,
  });
}

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-serve-"));
  backend = new MemoryBackend();
  fatal = [];
  tlsOnly = null;
  owners = [];
  served = start();
});
afterEach(async () => {
  await served.stop();
  rmSync(folder, { recursive: true, force: true });
});

const unixStatus = () =>
  fetch("http://cairn/api/v1/status", { unix: path.join(folder, SOCKET_FILE) });

interface Answer {
  status: number;
  code: string | null;
  headers: Record<string, unknown>;
}

/** Over TCP with exactly these headers, the Host too. */
function overTcp(
  headers: Record<string, string>,
  method = "GET",
  place = "/api/v1/volumes",
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const options = {
    host: "127.0.0.1",
    port: served.port,
    path: place,
    method,
    headers,
  };
  const sent = httpRequest(options, (answer) => {
    let text = "";
    answer.setEncoding("utf8");
    answer.on("data", (piece: string) => (text += piece));
    answer.on("end", () => {
      const fault = text.includes('"error"') ? FaultSchema.parse(JSON.parse(text)).error : null;
      const status = answer.statusCode ?? 0;
      resolve({ status, code: fault?.code ?? null, headers: answer.headers });
    });
  });
  sent.on("error", reject);
  sent.end();
  return promise;
}

const bearer = { authorization: `Bearer ${TOKEN}` };
const basic = { authorization: `Basic ${btoa(`anybody:${TOKEN}`)}` };

describe("unix socket", () => {
  test("answers without a token; the socket is its owner's alone", async () => {
    expect((await unixStatus()).status).toBe(200);
    expect(statSync(path.join(folder, SOCKET_FILE)).mode & 0o777).toBe(0o600);
  });

  test("a socket left by a killed daemon is replaced", async () => {
    await served.stop();
    writeFileSync(path.join(folder, SOCKET_FILE), "");
    served = start();
    expect((await unixStatus()).status).toBe(200);
  });

  test("a path too long for a socket → badConfiguration that says so", () => {
    const socketPath = path.join(folder, "x".repeat(100));
    expect(() => start({ socketPath })).toThrow("shorter state directory");
  });
});

describe("TCP", () => {
  test("token shown → answered, under any of our names", async () => {
    const port = String(served.port);
    const hosts = ["127.0.0.1", `127.0.0.1:${port}`, "[fe80::1]:80", "localhost", "LOCALHOST:1"];
    for (const host of [...hosts, "cairn.local", "cairn-0001", "Cairn-0001.local.:7480"]) {
      expect([host, (await overTcp({ ...bearer, host })).status]).toEqual([host, 200]);
    }
  });

  test("a name that is not ours → 421, token or not", async () => {
    for (const host of ["evil.example", "cairn.local.evil.example", "a b", "[x]", "1.2.3"]) {
      const answer = await overTcp({ ...bearer, host });
      expect([answer.status, answer.code, host]).toEqual([421, "wrongHost", host]);
    }
  });

  test("no name at all → 421", () => {
    const fault = tcpAsker(new Request("http://localhost/", { headers: bearer }), {
      seal,
      token: TOKEN,
      unitName: "cairn-0001",
      tokens: () => [],
      hostOf: () => null,
      signedIn: () => null,
      names: () => [],
    });
    expect(fault).toMatchObject({ code: "wrongHost" });
  });

  test("a host's token → its own path, and nothing else; void → nothing", async () => {
    await backend.hosts.add({ name: "db1", addresses: ["10.0.0.7"] });
    const { token } = await backend.hosts.makeToken("db1");
    const host = { host: "localhost", authorization: `Bearer ${token}` };
    const codeAt = async (place: string, method = "GET", headers: Record<string, string> = host) =>
      (await overTcp(headers, method, place)).code;
    expect(await codeAt("/api/v1/host")).toBeNull();
    for (const place of ["/api/v1/status", "/api/v1/volumes", "/api/v1/hosts", "/api/v1/hosted"]) {
      expect([place, await codeAt(place)]).toEqual([place, "forbidden"]);
    }
    for (const [place, method] of [
      ["/api/v1/claim", "POST"],
      ["/api/v1/password", "PUT"],
      ["/api/v1/host/../hosts", "GET"],
      ["/api/v1/hosts/db1/token", "POST"],
      ["/volumes", "GET"],
    ] as const) {
      expect([place, await codeAt(place, method)]).toEqual([place, "forbidden"]);
    }
    const basic = { host: "localhost", authorization: `Basic ${btoa(`db1:${token}`)}` };
    expect(await codeAt("/api/v1/host", "GET", basic)).toBe("forbidden");
    expect(await codeAt("/api/v1/host", "GET", { ...host, ...bearer })).toBe("forbidden");
    await backend.hosts.voidToken("db1");
    expect(await codeAt("/api/v1/host")).toBe("unauthorised");
  });

  test("no token, a wrong one, a part of it → 401 that says how", async () => {
    const words = ["", "Bearer", `Bearer ${TOKEN}0`, `Bearer ${TOKEN.slice(1)}`, `Token ${TOKEN}`];
    const pairs = ["Basic %%%", `Basic ${btoa(TOKEN)}`, `Basic ${btoa("a:b")}`];
    for (const authorization of [...words, ...pairs]) {
      const answer = await overTcp({ host: "localhost", authorization });
      expect([answer.status, answer.code, authorization]).toEqual([
        401,
        "unauthorised",
        authorization,
      ]);
      expect(answer.headers["www-authenticate"]).toContain("Bearer");
    }
  });

  test("the token as a browser's password → reads, never changes", async () => {
    expect((await overTcp({ ...basic, host: "localhost" })).status).toBe(200);
    const change = await overTcp({ ...basic, host: "localhost" }, "DELETE");
    expect([change.status, change.code]).toEqual([403, "forbidden"]);
  });

  test("an administrator's token → answered as the unit's own; another hash → not", async () => {
    const owner = "owner-of-the-cluster-".padEnd(40, "x");
    const asked = () => overTcp({ host: "localhost", authorization: `Bearer ${owner}` });
    expect((await asked()).status).toBe(401);
    const hash = (text: string) => createHash("sha256").update(text).digest("hex");
    const record = (text: string) => ({
      name: "one",
      role: "admin" as const,
      tokenHash: hash(text),
    });
    owners = [record("somebody"), record(owner)];
    expect((await asked()).status).toBe(200);
    expect((await overTcp({ ...bearer, host: "localhost" })).status).toBe(200);
    const wrong = { host: "localhost", authorization: `Bearer ${hash(owner)}` };
    expect((await overTcp(wrong)).status).toBe(401);
    owners = [record("somebody")]; // replaced
    expect((await asked()).status).toBe(401);
  });

  test("the claim, and nothing else, needs no token; who asks is passed on", async () => {
    const claim = (headers: object, body: object = {}, where = "/api/v1/claim", method = "POST") =>
      fetch(`http://127.0.0.1:${served.port}${where}`, {
        method,
        headers: { "content-type": "application/json", ...headers },
        ...(method === "GET" ? {} : { body: JSON.stringify(body) }),
      });
    expect((await claim({}, { code: "wrong" })).status).toBe(403);
    expect((await claim({}, { code: MEMORY_CODE })).status).toBe(201);
    expect((await claim(bearer, { replace: true })).status).toBe(201);
    expect(backend.claims.map(({ asker }) => asker)).toEqual([
      "anybody",
      "anybody",
      { role: "admin", actor: "the token of cairn-0001" },
    ]);
    // A token that is shown must be a right one, and a browser's password changes nothing.
    const shown = await claim({ authorization: "Bearer wrong" }, { code: MEMORY_CODE });
    expect([shown.status, (await claim(basic, { replace: true })).status]).toEqual([401, 403]);
    for (const where of ["/api/v1/claim/", "/api/v1/claim/x", "/api/v1//claim", "/API/v1/claim"]) {
      expect([where, (await claim({}, {}, where)).status]).toEqual([where, 401]);
    }
    for (const method of ["GET", "PUT", "DELETE"]) {
      expect([method, (await claim({}, {}, "/api/v1/claim", method)).status]).toEqual([
        method,
        401,
      ]);
    }
    expect((await claim({ origin: "https://evil.example" })).status).toBe(403);
    expect((await claim({ host: "evil.example" }, { code: MEMORY_CODE })).status).toBe(421);
    expect(backend.claims).toHaveLength(3);
  });

  test("a session's cookie → reads, changes nothing; ends with its credential", async () => {
    backend.password = "a good password";
    const begun = () => parts.sessions.begin(parts.credentials.ofUser("admin") as string).token;
    const token = begun();
    const cookie = `other=1; cairn-session=${token}`;
    expect((await overTcp({ host: "localhost", cookie })).status).toBe(200);
    expect((await overTcp({ host: "localhost", cookie }, "DELETE")).status).toBe(401);
    for (const wrong of ["", "x", "0".repeat(64), token.toUpperCase(), `${token}0`]) {
      const answer = await overTcp({ host: "localhost", cookie: `cairn-session=${wrong}` });
      expect([wrong, answer.status]).toEqual([wrong, 401]);
    }
    backend.password = "another password";
    expect((await overTcp({ host: "localhost", cookie })).status).toBe(401);
  });

  test("a page without a session → the way in, but not under a foreign name", async () => {
    const page = (headers: object = {}, where = "/volumes") =>
      fetch(`http://127.0.0.1:${served.port}${where}`, {
        redirect: "manual",
        headers: { ...headers },
      });
    const led = await page();
    expect([led.status, led.headers.get("location")]).toEqual([303, "/claim"]);
    expect((await page({ host: "evil.example" })).status).toBe(421);
    expect((await page({ host: "evil.example" }, "/claim")).status).toBe(421);
    expect((await page({}, "/claim")).status).toBe(200);
    expect((await page({}, "/metrics")).status).toBe(401);
  });

  test("a page of another origin → forbidden; our own → answered", async () => {
    const host = "localhost:7480";
    for (const origin of ["https://evil.example", "null", "http://localhost:1"]) {
      expect((await overTcp({ ...bearer, host, origin })).code).toBe("forbidden");
    }
    expect((await overTcp({ ...bearer, host, origin: "http://localhost:7480" })).status).toBe(200);
  });

  test("over TLS → the same answers; plain pages are led there, plain API refused", async () => {
    const cluster = { clusterSecret: new Uint8Array(32), clusterUuid: "0".repeat(32) };
    const options = { ...cluster, clusterName: "attic" };
    const own = { name: "box", names: ["127.0.0.1"], nowMs: Date.now() };
    const ca = webAuthority(options).pem;
    const tls = issueWebCertificate(options, own);
    const port = (await served.secure({ address: "127.0.0.1", port: 0, tls })) ?? 0;
    const status = `https://127.0.0.1:${port}/api/v1/status`;
    const secured = (headers: Record<string, string>) => fetch(status, { headers, tls: { ca } });
    expect([(await secured(bearer)).status, (await secured({})).status]).toEqual([200, 401]);
    const host = `127.0.0.1:${served.port}`;
    expect((await overTcp({ ...bearer, host })).status).toBe(200);
    tlsOnly = port;
    const led = await overTcp({ host }, "GET", "/volumes?q=a");
    expect([led.status, led.headers["location"]]).toEqual([
      307,
      `https://127.0.0.1:${port}/volumes?q=a`,
    ]);
    expect((await overTcp({ ...bearer, host })).code).toBe("forbidden");
    expect((await overTcp({ host }, "POST", "/login")).code).toBe("forbidden");
    expect((await overTcp({ host: "evil.example" }, "GET", "/")).status).toBe(421);
    expect((await overTcp({ host }, "GET", "/ca.pem")).status).toBe(200);
    await served.secure(null);
    await expect(secured(bearer)).rejects.toThrow();
  });

  test("port in use → badConfiguration, and nothing stays behind", () => {
    const tcp = { address: "127.0.0.1", port: served.port ?? 0 };
    const socketPath = path.join(folder, "second.sock");
    expect(() => start({ tcp, socketPath })).toThrow(Fault);
    expect(existsSync(socketPath)).toBe(false);
  });

  test("no TCP wanted → only the socket", async () => {
    const socketPath = path.join(folder, "third.sock");
    const only = start({ tcp: null, socketPath });
    expect(only.port).toBeNull();
    await only.stop();
  });
});

test("failed assertion → told, so that the process ends; the client hears internal", async () => {
  backend.nextFailure = new AssertionFailure("wrong");
  const answer = await overTcp({ ...bearer, host: "localhost" });
  expect([answer.status, answer.code]).toEqual([500, "internal"]);
  expect(fatal).toHaveLength(1);
  expect(fatal[0]).toBeInstanceOf(AssertionFailure);
});

test("a token too short to be one → refused", () => {
  expect(() => start({ token: "short" })).toThrow("too short");
});
