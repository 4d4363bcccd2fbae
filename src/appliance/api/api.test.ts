// SPDX-License-Identifier: Apache-2.0
//
// Every route of the API over a Backend in memory: what it answers, how it refuses, and that the
// OpenAPI document says the same as the routes.
//
// Long because every route is asked over one Backend.

import { beforeEach, describe, expect, test } from "bun:test";
import { AssertionFailure } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import type { Timers } from "#base/world.ts";
import { type Api, createApi } from "./api.ts";
import type { Asker } from "#appliance/backend.ts";
import { isConsolePath } from "#appliance/console/paths.ts";
import { consoleParts } from "#appliance/console/console-parts-fixture.ts";
import { BODY_BYTES_MAX, CLAIM_PATH, PASSWORD_PATH } from "./convention.ts";
import { STREAMS_MAX } from "./event-stream.ts";
import { KEYS_MAX } from "./idempotency.ts";
import { MEMORY_CODE, MemoryBackend } from "./memory-backend-fixture.ts";
import {
  HostSchema,
  HostTokenSchema,
  MadeCertificateSchema,
  OwnHostSchema,
  RequestSchema,
  RequestsSchema,
} from "./host-schemas.ts";
import { PoolSchema, PoolsSchema } from "./pool-api.ts";
import * as schemas from "./schemas.ts";

/** Timers that the test steps by hand. */
class HandTimers implements Timers {
  readonly waiting: (() => void)[] = [];
  after(_delayMs: number, act: () => void): () => void {
    this.waiting.push(act);
    return () => {
      const at = this.waiting.indexOf(act);
      if (at >= 0) this.waiting.splice(at, 1);
    };
  }
  step(): void {
    for (const act of this.waiting.splice(0)) act();
  }
}

let backend: MemoryBackend;
let timers: HandTimers;
let logged: string[];
let api: Api;

beforeEach(() => {
  backend = new MemoryBackend();
  timers = new HandTimers();
  logged = [];
  const log = {
    write: (_level: string, sentence: string, facts: object = {}) =>
      void logged.push(`${sentence} ${JSON.stringify(facts)}`),
  };
  api = createApi(backend, { ...consoleParts(backend, {}, log), timers });
});

/** Root on the unit asks. */
const LOCAL = { asker: "local", from: "" } as const;
const OWNERS: Asker = { role: "admin", actor: "token owner" };
const ask = (path: string, init?: RequestInit) => api.request(path, init, LOCAL);
const send = (method: string, path: string, body: unknown, headers: object = {}) =>
  ask(path, {
    method,
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
const ONE = { name: "one", sizeBytes: 1 << 30 };

async function expectFault(answer: Response, status: number, code: string): Promise<string> {
  const body = schemas.FaultSchema.parse(await answer.json());
  expect([answer.status, body.error.code]).toEqual([status, code]);
  return body.error.message;
}

describe("reading", () => {
  test("status, units, disks, recovery → what the backend says, as documented", async () => {
    const status = schemas.UnitStatusSchema.parse(await (await ask("/api/v1/status")).json());
    expect(status).toEqual(backend.status());
    const units = schemas.UnitsSchema.parse(await (await ask("/api/v1/units")).json());
    expect(units.units).toEqual(backend.units());
    const disks = schemas.DisksSchema.parse(await (await ask("/api/v1/disks")).json());
    expect(disks.disks).toEqual(backend.disks());
    const recovery = schemas.RecoverySchema.parse(await (await ask("/api/v1/recovery")).json());
    expect(recovery).toEqual(backend.recovery());
  });

  test("units that wait → admitted by words or a window; a removed one made new", async () => {
    const words = ["robin", "tulip"];
    const box = { unitId: "ab".repeat(16), name: "new-box", version: "1", address: "::1", words };
    backend.arrivals.waiting = [box];
    const list = async () => (await ask("/api/v1/arrivals")).json();
    expect(await list()).toEqual({ waiting: [box], window: null });
    const admit = (said: string) => send("POST", "/api/v1/arrivals/admit", { words: said });
    await expectFault(await admit("robin rose"), 404, "notFound");
    await expectFault(await admit("r".repeat(65)), 400, "badRequest");
    expect((await admit("robin-tulip")).status).toBe(202);
    const window = (said: object) => send("PUT", "/api/v1/arrivals/window", said);
    for (const wrong of [{ seconds: 601 }, { seconds: 0 }, { units: 65 }, { units: 0.5 }]) {
      await expectFault(await window(wrong), 400, "badRequest");
    }
    const open = { secondsLeft: 600, unitsLeft: 8 };
    expect((await (await window({})).json()) as object).toEqual(open);
    expect(await list()).toEqual({ waiting: [], window: open });
    expect((await send("DELETE", "/api/v1/arrivals/window", {})).status).toBe(204);
    expect(await list()).toEqual({ waiting: [], window: null });
    await expectFault(await send("POST", "/api/v1/renew", {}), 409, "conflict");
    backend.arrivals.isRemoved = true;
    expect((await send("POST", "/api/v1/renew", {})).status).toBe(202);
  });

  test("units evacuated, kept, replaced, removed; what a loss would mean is asked", async () => {
    const dry = await send("POST", "/api/v1/units/cairn-0002/evacuate", { dryRun: true });
    expect([dry.status, (await dry.json()) as object]).toEqual([200, backend.fleet.answer]);
    expect(backend.fleet.evacuated.size).toBe(0);
    const begun = await send("POST", "/api/v1/units/2/evacuate", { thenRemove: true });
    expect(begun.status).toBe(202);
    const units = (await (await ask("/api/v1/units")).json()) as { units: object[] };
    expect(units.units[1]).toMatchObject({ evacuation: { thenRemove: true, left: 3 } });
    expect((await send("POST", "/api/v1/units/2/keep", {})).status).toBe(204);
    expect((await send("POST", "/api/v1/units/2/keep", {})).status).toBe(409);
    expect((await send("POST", "/api/v1/units/2/replace", { by: "1" })).status).toBe(202);
    expect((await send("POST", "/api/v1/units/2/replace", {})).status).toBe(400);
    const remove = (query: string) => send("DELETE", `/api/v1/units/2${query}`, {});
    backend.fleet.isTight = true;
    expect((await remove("")).status).toBe(409);
    expect((await remove("?force=maybe")).status).toBe(400);
    expect((await remove("?force=true")).status).toBe(204);
    expect(backend.fleet.removed).toEqual([[2, true]]);
    for (const query of ["unit=2", "disk=3", "link=1,2", "maintenance=2"]) {
      expect((await ask(`/api/v1/what-if?${query}`)).status).toBe(200);
    }
    const said = backend.fleet.asked.slice(-4).map((question) => JSON.stringify(question));
    expect(said).toEqual([
      '{"unit":"2"}',
      '{"disk":3}',
      '{"link":["1","2"]}',
      '{"maintenance":"2"}',
    ]);
    expect(await (await ask("/api/v1/questions")).json()).toEqual({ questions: [] });
    expect((await ask("/api/v1/what-if?unit=77")).status).toBe(404);
    expect((await ask("/api/v1/what-if?disk=sda")).status).toBe(400);
    expect((await ask("/api/v1/what-if?link=1")).status).toBe(400);
  });

  test("tried → what would be done, nothing changed; what cannot be tried is refused", async () => {
    const keep = "/api/v1/units/2/keep";
    expect((await send("POST", `${keep}?dryRun=true`, {})).status).toBe(409);
    await send("POST", "/api/v1/units/2/evacuate", {});
    const tried = await send("POST", `${keep}?dryRun=true`, {});
    expect([tried.status, await tried.json()]).toEqual([
      200,
      { dryRun: true, sentences: ["cairn-0002 stays"] },
    ]);
    expect(backend.fleet.evacuated.size).toBe(1);
    expect((await send("POST", `${keep}?dryRun=maybe`, {})).status).toBe(400);
    expect((await send("POST", `${keep}?dryRun=false`, {})).status).toBe(204);
    // Its own is in its body: one that is looked over must not begin for real.
    const elsewhere = await send("POST", "/api/v1/units/2/evacuate?dryRun=true", {});
    await expectFault(elsewhere, 400, "badRequest");
    expect(backend.fleet.evacuated.size).toBe(0);
    expect((await ask("/api/v1/units?dryRun=true")).status).toBe(200);
  });

  test("a unit taken out for work and back; refused while something would stop", async () => {
    const path = "/api/v1/units/cairn-0002/maintenance";
    expect((await send("POST", path, { dryRun: true })).status).toBe(200);
    expect(backend.fleet.maintained.size).toBe(0);
    expect((await send("POST", path, { forMs: 1000 })).status).toBe(400);
    expect((await send("POST", path, { forMs: 86_400_001 })).status).toBe(400);
    backend.fleet.isTight = true;
    const refused = await send("POST", path, {});
    expect([refused.status, await refused.text()]).toEqual([
      409,
      expect.stringContaining("one: offline while it is away"),
    ]);
    const forced = await send("POST", path, { force: true });
    expect([forced.status, backend.fleet.maintained.get(2)]).toEqual([202, 7_200_000]);
    const { units } = (await (await ask("/api/v1/units")).json()) as { units: object[] };
    expect(units[1]).toMatchObject({ maintenance: { by: "owner", heads: 0 } });
    expect((await send("DELETE", path, {})).status).toBe(204);
    expect((await send("DELETE", path, {})).status).toBe(409);
  });

  test("pools made, listed, deleted; units moved; nonsense is refused", async () => {
    const made = await send("POST", "/api/v1/pools", { name: "archive" });
    expect([made.status, PoolSchema.parse(await made.json())]).toEqual([
      201,
      backend.pools.one("archive"),
    ]);
    expect((await send("POST", "/api/v1/pools", { name: "archive" })).status).toBe(409);
    expect((await send("POST", "/api/v1/pools", { name: "a b" })).status).toBe(400);
    const move = (to: object) => send("POST", "/api/v1/units/2/move", to);
    expect((await move({ pool: "archive", role: "member", dryRun: true })).status).toBe(200);
    expect(backend.fleet.placeOf(2).pool).toBe("pool");
    expect((await move({ pool: "archive", role: "member" })).status).toBe(202);
    const { pools } = PoolsSchema.parse(await (await ask("/api/v1/pools")).json());
    expect(pools.map(({ name, units }) => [name, units])).toEqual([
      ["pool", [1]],
      ["archive", [2]],
    ]);
    for (const to of [{ pool: null, role: "member" }, { pool: "archive" }, { role: "spare" }]) {
      expect((await move(to)).status).toBe(400);
    }
    expect((await send("POST", "/api/v1/volumes", { ...ONE, pool: "archive" })).status).toBe(201);
    expect(
      (await send("POST", "/api/v1/volumes", { ...ONE, name: "two", pool: "none" })).status,
    ).toBe(404);
    const remove = (pool: string) => send("DELETE", `/api/v1/pools/${pool}`, {});
    expect((await remove("archive")).status).toBe(409);
    expect((await remove("pool")).status).toBe(409);
    expect((await remove("other")).status).toBe(404);
    expect((await move({ pool: null, role: "spare" })).status).toBe(202);
    expect((await remove("archive")).status).toBe(204);
  });

  test("disks scrubbed, retired, returned, a setting changed; nonsense is refused", async () => {
    const post = (path: string, method: string, body: unknown) =>
      ask(path, {
        method,
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
    const answer = await post("/api/v1/disks/2/scrub", "POST", { urgent: true });
    expect([answer.status, await answer.text()]).toEqual([202, ""]);
    expect((await post("/api/v1/disks/1/scrub", "POST", {})).status).toBe(202);
    expect(backend.scrubs).toEqual([
      [2, true],
      [1, false],
    ]);
    expect((await post("/api/v1/disks/9/scrub", "POST", {})).status).toBe(404);
    expect((await post("/api/v1/disks/one/scrub", "POST", {})).status).toBe(400);
    expect((await post("/api/v1/disks/2/retire", "POST", {})).status).toBe(202);
    expect((await post("/api/v1/disks/2/retire", "POST", {})).status).toBe(409);
    expect((await post("/api/v1/disks/2/return", "POST", {})).status).toBe(202);
    expect((await post("/api/v1/disks/two/return", "POST", {})).status).toBe(400);
    const changed = await post("/api/v1/settings", "PATCH", { scrubEveryMs: 0 });
    expect(await changed.json()).toMatchObject({ scrubEveryMs: 0, diskErrorsMax: 50 });
    for (const wrong of [{}, { scrubEveryMs: -1 }, { scrubbing: 1 }, { diskErrorsMax: "many" }]) {
      expect((await post("/api/v1/settings", "PATCH", wrong)).status).toBe(400);
    }
  });

  test("every answer says how old it is, faults too", async () => {
    backend.staleMs = 2500.4;
    for (const path of ["/api/v1/status", "/api/v1/nothing", "/login", "/metrics"]) {
      const answer = await ask(path);
      expect(answer.headers.get("x-cairn-stale-ms")).toBe("2500");
      expect(answer.headers.get("cache-control")).toBe("no-store");
    }
  });

  test("events after a number, at most so many; without one the newest", async () => {
    for (let count = 1; count <= 5; count++) backend.say("info", `event ${count}`);
    const numbers = async (query: string) => {
      const answer = await ask(`/api/v1/events${query}`);
      const { events } = schemas.EventsSchema.parse(await answer.json());
      return events.map((event) => event.number);
    };
    expect(await numbers("")).toEqual([1, 2, 3, 4, 5]);
    expect(await numbers("?limit=2")).toEqual([4, 5]);
    expect(await numbers("?since=1&limit=2")).toEqual([2, 3]);
    for (const query of ["?limit=0", "?limit=1001", "?since=-1", "?since=x", "?limit="]) {
      await expectFault(await ask(`/api/v1/events${query}`), 400, "badRequest");
    }
  });

  test("metrics → one HELP and TYPE per name, labels escaped", async () => {
    const answer = await ask("/metrics");
    expect(answer.headers.get("content-type")).toContain("version=0.0.4");
    expect(await answer.text()).toBe(
      "# HELP cairn_disk_free_bytes Free space\\nof a disk\n" +
        "# TYPE cairn_disk_free_bytes gauge\n" +
        'cairn_disk_free_bytes{disk="1"} 10737418240\n' +
        'cairn_disk_free_bytes{disk="2 \\"\\\\\\n"} 0.5\n' +
        "# HELP cairn_unit_up_count Units that are up\n" +
        "# TYPE cairn_unit_up_count gauge\n" +
        "cairn_unit_up_count 1\n",
    );
  });
});

describe("volumes", () => {
  test("create → 201, then shown by name and number, listed, changed, deleted", async () => {
    const made = await send("POST", "/api/v1/volumes", ONE);
    expect(made.status).toBe(201);
    const volume = schemas.VolumeSchema.parse(await made.json());
    expect([volume.name, volume.protection, volume.hosts]).toEqual(["one", "mirror-2", []]);
    expect(await (await ask("/api/v1/volumes/one")).json()).toEqual(volume);
    expect(await (await ask("/api/v1/volumes/1")).json()).toEqual(volume);
    expect(await (await ask("/api/v1/volumes")).json()).toEqual({ volumes: [volume] });
    expect(volume.tls).toBe("optional");
    const secured = await send("PATCH", "/api/v1/volumes/one", { tls: "required" });
    expect(await secured.json()).toMatchObject({ tls: "required" });
    const renamed = await send("PATCH", "/api/v1/volumes/one", { name: "uno" });
    expect(await renamed.json()).toMatchObject({ name: "uno", tls: "required" });
    expect((await send("PATCH", "/api/v1/volumes/uno", { name: "one" })).status).toBe(200);
    for (const body of [
      {},
      { tls: "no" },
      { tls: "off", size: 1 },
      { name: "7" },
      { tls: "off", name: "two" },
    ]) {
      await expectFault(await send("PATCH", "/api/v1/volumes/one", body), 400, "badRequest");
    }
    const gone = await ask("/api/v1/volumes/one", { method: "DELETE" });
    expect([gone.status, await gone.text()]).toEqual([204, ""]);
    await expectFault(await ask("/api/v1/volumes/one"), 404, "notFound");
    await expectFault(await ask("/api/v1/volumes/one", { method: "DELETE" }), 404, "notFound");
    const tls = "off";
    await expectFault(await send("PATCH", "/api/v1/volumes/one", { tls }), 404, "notFound");
  });

  test("dry run → 200 and nothing made, also under a key", async () => {
    const headers = { "idempotency-key": "k" };
    const tried = await send("POST", "/api/v1/volumes?dryRun=true", ONE, headers);
    expect(tried.status).toBe(200);
    expect(backend.creations).toBe(0);
    expect((await send("POST", "/api/v1/volumes", ONE, headers)).status).toBe(201);
  });

  test("grown; tried; again by its key, or for the same size → once; else refused", async () => {
    await send("POST", "/api/v1/volumes", ONE);
    const path = "/api/v1/volumes/one/grow";
    const larger = { sizeBytes: 2 * ONE.sizeBytes };
    const tried = await send("POST", `${path}?dryRun=true`, larger);
    expect(tried.status).toBe(200);
    expect(schemas.VolumeSchema.parse(await tried.json())).toMatchObject(larger);
    expect(backend.volume("one").sizeBytes).toBe(ONE.sizeBytes);
    const headers = { "idempotency-key": "grow-1" };
    for (let time = 0; time < 2; time++) {
      const grown = await send("POST", path, larger, headers);
      expect([grown.status, await grown.json()]).toEqual([200, expect.objectContaining(larger)]);
    }
    expect((await send("POST", path, larger)).status).toBe(200);
    expect(backend.events(0, 100).filter(({ sentence }) => sentence.includes("grew"))).toHaveLength(
      1,
    );
    await expectFault(await send("POST", path, { sizeBytes: 4096 }), 409, "conflict");
    const other = { sizeBytes: 3 * ONE.sizeBytes };
    await expectFault(await send("POST", path, other, headers), 409, "conflict");
    for (const body of [{}, { sizeBytes: 4097 }, { sizeBytes: 0 }, { ...larger, name: "x" }]) {
      await expectFault(await send("POST", path, body), 400, "badRequest");
    }
    const none = await send("POST", "/api/v1/volumes/two/grow", larger);
    await expectFault(none, 404, "notFound");
  });

  test("what the backend refuses → its fault, with a hint", async () => {
    await send("POST", "/api/v1/volumes", ONE);
    await expectFault(await send("POST", "/api/v1/volumes", ONE), 409, "conflict");
    const three = { ...ONE, name: "three", protection: "mirror-3" };
    const message = await expectFault(await send("POST", "/api/v1/volumes", three), 507, "noSpace");
    expect(message).toContain("three copies need three units");
  });

  const BAD_BODIES: [string, unknown][] = [
    ["no name", { sizeBytes: 4096 }],
    ["empty name", { ...ONE, name: "" }],
    ["name of digits", { ...ONE, name: "12" }],
    ["name with a slash", { ...ONE, name: "a/b" }],
    ["long name", { ...ONE, name: "a".repeat(64) }],
    ["no size", { name: "one" }],
    ["size as text", { ...ONE, sizeBytes: "1G" }],
    ["size zero", { ...ONE, sizeBytes: 0 }],
    ["half a block", { ...ONE, sizeBytes: 2048 }],
    ["size past the largest", { ...ONE, sizeBytes: 2 ** 53 }],
    ["unknown protection", { ...ONE, protection: "raid-5" }],
    ["host without a name", { ...ONE, hosts: [""] }],
    ["too many hosts", { ...ONE, hosts: Array(65).fill("db1") }],
    ["ranges, as before there were hosts", { ...ONE, allow: ["10.0.0.1"] }],
    ["unknown rule of TLS", { ...ONE, tls: "always" }],
    ["unknown field", { ...ONE, colour: "red" }],
    ["no object", [ONE]],
  ];
  for (const [what, body] of BAD_BODIES) {
    test(`${what} → badRequest, nothing made`, async () => {
      await expectFault(await send("POST", "/api/v1/volumes", body), 400, "badRequest");
      expect(backend.creations).toBe(0);
    });
  }

  test("no JSON, a form, no body → badRequest", async () => {
    const json = { "content-type": "application/json" };
    const form = { "content-type": "text/plain" };
    const post = { method: "POST", body: "{" };
    await expectFault(await ask("/api/v1/volumes", { ...post, headers: json }), 400, "badRequest");
    const text = await ask("/api/v1/volumes", { ...post, headers: form });
    expect(await expectFault(text, 400, "badRequest")).toContain("application/json");
    await expectFault(await ask("/api/v1/volumes", { method: "POST" }), 400, "badRequest");
  });

  test("body past the limit, said or streamed → tooLarge", async () => {
    const long = { ...ONE, name: "x".repeat(BODY_BYTES_MAX) };
    await expectFault(await send("POST", "/api/v1/volumes", long), 413, "tooLarge");
    const body = new Blob([JSON.stringify(long)]).stream();
    const headers = { "content-type": "application/json" };
    const streamed = await ask("/api/v1/volumes", { method: "POST", headers, body });
    await expectFault(streamed, 413, "tooLarge");
  });
});

describe("hosts", () => {
  const DB1 = { name: "db1", addresses: ["10.0.0.7", "fd00::/64"] };

  test("add → 201, shown by name and number, listed, changed, removed", async () => {
    const made = await send("POST", "/api/v1/hosts", DB1);
    expect(made.status).toBe(201);
    const host = HostSchema.parse(await made.json());
    expect(host).toMatchObject({ host: 1, ...DB1, volumes: [], sessions: [], hasToken: false });
    expect(await (await ask("/api/v1/hosts/db1")).json()).toEqual(host);
    expect(await (await ask("/api/v1/hosts/1")).json()).toEqual(host);
    expect(await (await ask("/api/v1/hosts")).json()).toEqual({ hosts: [host] });
    const addresses = ["10.0.0.8"];
    const changed = await send("PATCH", "/api/v1/hosts/db1", { addresses });
    expect(await changed.json()).toEqual({ ...host, addresses });
    expect((await ask("/api/v1/hosts/1", { method: "DELETE" })).status).toBe(204);
    await expectFault(await ask("/api/v1/hosts/db1"), 404, "notFound");
    await expectFault(await ask("/api/v1/hosts/db1", { method: "DELETE" }), 404, "notFound");
    await expectFault(await send("PATCH", "/api/v1/hosts/1", { addresses }), 404, "notFound");
  });

  test("assign and revoke → the volume with its hosts; unknown ones → notFound", async () => {
    await send("POST", "/api/v1/hosts", DB1);
    await send("POST", "/api/v1/volumes", ONE);
    const put = await ask("/api/v1/volumes/one/hosts/db1", { method: "PUT" });
    const db1 = { host: 1, name: "db1" };
    expect(schemas.VolumeSchema.parse(await put.json()).hosts).toEqual([db1]);
    const host = HostSchema.parse(await (await ask("/api/v1/hosts/1")).json());
    expect(host.volumes).toEqual([{ volume: 1, name: "one" }]);
    const taken = await ask("/api/v1/volumes/1/hosts/1", { method: "DELETE" });
    expect(schemas.VolumeSchema.parse(await taken.json()).hosts).toEqual([]);
    for (const method of ["PUT", "DELETE"]) {
      for (const path of ["one/hosts/db2", "two/hosts/db1"]) {
        const answer = await ask(`/api/v1/volumes/${path}`, { method });
        await expectFault(answer, 404, "notFound");
      }
    }
    const made = await send("POST", "/api/v1/volumes", { ...ONE, name: "two", hosts: ["db1"] });
    expect(schemas.VolumeSchema.parse(await made.json()).hosts).toEqual([db1]);
    const three = { ...ONE, name: "three", hosts: ["db2"] };
    await expectFault(await send("POST", "/api/v1/volumes", three), 404, "notFound");
  });

  test("a name or an address that is taken → conflict", async () => {
    await send("POST", "/api/v1/hosts", DB1);
    await expectFault(await send("POST", "/api/v1/hosts", DB1), 409, "conflict");
    const same = await send("POST", "/api/v1/hosts", { ...DB1, name: "db2" });
    expect(await expectFault(same, 409, "conflict")).toContain("10.0.0.7 is host db1 already");
  });

  test("certificates → told once with the key, listed, revoked by the fingerprint", async () => {
    await send("POST", "/api/v1/hosts", { name: "db1", addresses: [] });
    const issued = await send("POST", "/api/v1/hosts/db1/certificates", {});
    expect(issued.status).toBe(201);
    const { fingerprint, key } = MadeCertificateSchema.parse(await issued.json());
    expect(key).toContain("PRIVATE KEY");
    const seen = await (await ask("/api/v1/hosts/db1")).text();
    expect(HostSchema.parse(JSON.parse(seen)).certificates).toMatchObject([{ fingerprint }]);
    expect(seen).not.toContain("PRIVATE");
    const at = (print: string) =>
      ask(`/api/v1/hosts/db1/certificates/${print}`, { method: "DELETE" });
    await expectFault(await at("xyz"), 400, "badRequest");
    expect((await at(fingerprint)).status).toBe(204);
    await expectFault(await at(fingerprint), 404, "notFound");
  });

  const BAD: [string, unknown][] = [
    ["no name", { addresses: ["10.0.0.7"] }],
    ["name of digits", { ...DB1, name: "12" }],
    ["name with a slash", { ...DB1, name: "a/b" }],
    ["nothing said of addresses", { name: "db1" }],
    ["range that is none", { ...DB1, addresses: ["10.0.0.0/33"] }],
    ["too many ranges", { ...DB1, addresses: Array(65).fill("10.0.0.1") }],
    ["unknown field", { ...DB1, iqn: "x" }],
    [
      "a policy at once",
      { ...DB1, policy: { quotaBytes: 1, protections: [], pools: [], grants: true } },
    ],
  ];
  for (const [what, body] of BAD) {
    test(`${what} → badRequest, nothing added`, async () => {
      await expectFault(await send("POST", "/api/v1/hosts", body), 400, "badRequest");
      expect(backend.hosts.list()).toEqual([]);
    });
  }
});

describe("hosts that ask by themselves", () => {
  const GIB = 2 ** 30;
  const policy = { quotaBytes: 10 * GIB, protections: [], pools: [], grants: true };
  const wish = { name: "data", sizeBytes: 4 * GIB, protection: "mirror-2" };
  let asHost: (method: string, path: string, body?: object) => Promise<Response>;

  beforeEach(async () => {
    const { host } = await backend.hosts.add({ name: "db1", addresses: ["10.0.0.7"] });
    const json = { "content-type": "application/json" };
    asHost = async (method, path, body) =>
      api.request(
        path,
        { method, ...(body === undefined ? {} : { headers: json, body: JSON.stringify(body) }) },
        { asker: { host }, from: "" },
      );
  });

  test("policy and token → set by the owner; the token told once", async () => {
    const changed = await send("PATCH", "/api/v1/hosts/db1", { policy });
    expect(HostSchema.parse(await changed.json()).policy).toEqual(policy);
    for (const wrong of [
      { quotaBytes: -1 },
      { protections: ["raid-5"] },
      { grants: 1 },
      { pools: ["a b"] },
      { x: 1 },
    ]) {
      const answer = await send("PATCH", "/api/v1/hosts/db1", { policy: { ...policy, ...wrong } });
      await expectFault(answer, 400, "badRequest");
    }
    const made = await ask("/api/v1/hosts/db1/token", { method: "POST" });
    expect(made.status).toBe(201);
    const { token } = HostTokenSchema.parse(await made.json());
    const shown = await (await ask("/api/v1/hosts/db1")).text();
    expect([shown.includes('"hasToken":true'), shown.includes(token)]).toEqual([true, false]);
    expect((await ask("/api/v1/hosts/db1/token", { method: "DELETE" })).status).toBe(204);
    expect(backend.hosts.one("db1").hasToken).toBe(false);
  });

  test("within the policy → 201 and its own volume; over the quota → 403 overQuota", async () => {
    await backend.hosts.change("db1", { policy });
    const granted = await asHost("POST", "/api/v1/host/requests", wish);
    expect(granted.status).toBe(201);
    expect(RequestSchema.parse(await granted.json())).toMatchObject({
      state: "granted",
      volume: 1,
    });
    const elsewhere = { ...wish, name: "more", pool: "archive" };
    await expectFault(await asHost("POST", "/api/v1/host/requests", elsewhere), 403, "forbidden");
    const over = { ...wish, name: "more", sizeBytes: 7 * GIB };
    await expectFault(await asHost("POST", "/api/v1/host/requests", over), 403, "overQuota");
    const own = OwnHostSchema.parse(await (await asHost("GET", "/api/v1/host")).json());
    expect([own.name, own.volumes.map(({ name }) => name)]).toEqual(["db1", ["data"]]);
    expect(own.requests).toHaveLength(1);
  });

  test("a person is asked → 202; granted, refused with a reason, twice → conflict", async () => {
    await backend.hosts.change("db1", { policy: { ...policy, grants: false } });
    for (const name of ["one", "two"]) {
      const answer = await asHost("POST", "/api/v1/host/requests", { ...wish, name });
      expect(answer.status).toBe(202);
    }
    const { requests } = RequestsSchema.parse(await (await ask("/api/v1/requests")).json());
    expect(requests.map(({ state }) => state)).toEqual(["waiting", "waiting"]);
    const granted = await send("POST", "/api/v1/requests/1/grant", {});
    expect(RequestSchema.parse(await granted.json())).toMatchObject({ state: "granted" });
    const why = "no room for it";
    const refused = await send("POST", "/api/v1/requests/2/refuse", { why });
    expect(RequestSchema.parse(await refused.json())).toMatchObject({ state: "refused", why });
    const again = await send("POST", "/api/v1/requests/2/grant", {});
    await expectFault(again, 409, "conflict");
    await expectFault(await send("POST", "/api/v1/requests/9/grant", {}), 404, "notFound");
    await expectFault(await send("POST", "/api/v1/requests/x/grant", {}), 400, "badRequest");
    const long = { why: "x".repeat(257) };
    await expectFault(await send("POST", "/api/v1/requests/2/refuse", long), 400, "badRequest");
  });

  test("whoever is no host → forbidden, also the owner and the machine itself", async () => {
    for (const asker of ["local", OWNERS, "anybody"] as const) {
      const env = { asker, from: "" };
      await expectFault(await api.request("/api/v1/host", {}, env), 403, "forbidden");
    }
    await expectFault(await send("POST", "/api/v1/host/requests", wish), 403, "forbidden");
    expect(backend.hosts.requests()).toEqual([]);
  });
});

describe("idempotency keys", () => {
  const create = (body: object, key: string) =>
    send("POST", "/api/v1/volumes", body, { "idempotency-key": key });

  test("same key, same request → same answer, made once", async () => {
    const first = await create(ONE, "key");
    const second = await create(ONE, "key");
    expect(second.status).toBe(201);
    expect(await second.json()).toEqual(await first.json());
    expect(backend.creations).toBe(1);
  });

  test("second request while the first still runs → waits for its answer", async () => {
    const gate = Promise.withResolvers<void>();
    backend.gate = gate.promise;
    const both = [create(ONE, "key"), create(ONE, "key")];
    gate.resolve();
    const answers = await Promise.all(both);
    expect(answers.map((answer) => answer.status)).toEqual([201, 201]);
    expect(backend.creations).toBe(1);
  });

  test("same key, another request → conflict", async () => {
    await create(ONE, "key");
    await expectFault(await create({ ...ONE, name: "two" }, "key"), 409, "conflict");
  });

  test("a failure is not remembered", async () => {
    await create(ONE, "first");
    await expectFault(await create(ONE, "key"), 409, "conflict");
    await ask("/api/v1/volumes/one", { method: "DELETE" });
    expect((await create(ONE, "key")).status).toBe(201);
  });

  test("more keys than are kept → the oldest is forgotten; all running → notReady", async () => {
    for (let count = 0; count <= KEYS_MAX; count++) {
      await create({ ...ONE, name: `v-${count}` }, `key-${count}`);
    }
    await expectFault(await create({ ...ONE, name: "v-0" }, "key-0"), 409, "conflict");
    const gate = Promise.withResolvers<void>();
    backend.gate = gate.promise;
    const running = Array.from({ length: KEYS_MAX }, (_, count) =>
      create({ ...ONE, name: `w-${count}` }, `other-${count}`),
    );
    // A request reaches the backend some microtasks after it was sent; one at the end tells when.
    const last = await create({ ...ONE, name: "last" }, "last");
    await expectFault(last, 503, "notReady");
    gate.resolve();
    expect((await Promise.all(running)).every((answer) => answer.status === 201)).toBe(true);
  });
});

describe("failures", () => {
  test("unknown path or method → notFound, with the way to the document", async () => {
    const message = await expectFault(await ask("/api/v1/nothing"), 404, "notFound");
    expect(message).toContain("/api/v1/openapi.json");
    await expectFault(await ask("/api/v1/status", { method: "POST" }), 404, "notFound");
  });

  test("exception of ours → internal without details; the log has them", async () => {
    backend.nextFailure = new Error("secret detail");
    const answer = await ask("/api/v1/volumes");
    expect(await expectFault(answer, 500, "internal")).not.toContain("secret");
    expect(logged.join()).toContain("secret detail");
  });

  test("failed assertion → not answered, so that the process ends", async () => {
    backend.nextFailure = new AssertionFailure("wrong");
    const thrown = await Promise.resolve(ask("/api/v1/volumes")).catch((error: unknown) => error);
    expect(thrown).toBeInstanceOf(AssertionFailure);
  });

  test("every fault of the backend keeps its code and status", async () => {
    backend.nextFailure = new Fault("controlStoreAway", "no answer for 3 s");
    await expectFault(await ask("/api/v1/volumes"), 503, "controlStoreAway");
    backend.nextFailure = new Fault("unknownOutcome", "no answer");
    await expectFault(await ask("/api/v1/volumes/one"), 504, "unknownOutcome");
  });
});

describe("event stream", () => {
  const decoder = new TextDecoder();
  async function open(query = "", headers: Record<string, string> = {}) {
    const answer = await ask(`/api/v1/events/stream${query}`, { headers });
    expect(answer.headers.get("content-type")).toStartWith("text/event-stream");
    const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
    return { reader, read: async () => decoder.decode((await reader.read()).value) };
  }

  test("old events after a number, then new ones as they come", async () => {
    backend.say("info", "first");
    backend.say("alarm", "second\nline");
    const { read, reader } = await open("?since=1");
    const second = await read();
    expect(second).toStartWith("id: 2\nevent: alarm\ndata: {");
    expect(second).toEndWith("}\n\n");
    const third = read();
    backend.say("info", "third");
    timers.step();
    expect(await third).toContain('"third"');
    await reader.cancel();
    expect(timers.waiting).toHaveLength(0);
  });

  test("Last-Event-ID → goes on there", async () => {
    for (let count = 1; count <= 3; count++) backend.say("info", `event ${count}`);
    const { read, reader } = await open("?since=0", { "last-event-id": "2" });
    expect(await read()).toStartWith("id: 3\n");
    await reader.cancel();
  });

  test("nothing new → a comment at once, and again every 15 s", async () => {
    const { read, reader } = await open();
    expect(await read()).toBe(": nothing new\n\n");
    const next = read();
    for (let looks = 0; looks < 31; looks++) timers.step();
    expect(await next).toBe(": nothing new\n\n");
    await reader.cancel();
  });

  test("whoever listens may no longer → it ends, and its place is free", async () => {
    let holds = true;
    const env = { asker: OWNERS, from: "", holds: () => holds };
    const streams = await Promise.all(
      Array.from({ length: STREAMS_MAX }, () => api.request("/api/v1/events/stream", {}, env)),
    );
    const readers = streams.map((one) => (one.body as ReadableStream<Uint8Array>).getReader());
    for (const reader of readers) await reader.read();
    const last = readers.map((reader) => reader.read());
    holds = false;
    backend.say("info", "not for them");
    timers.step();
    for (const read of last) expect((await read).done).toBe(true);
    const { reader } = await open();
    await reader.cancel();
  });

  test("unit in no cluster yet → waits, then tells", async () => {
    backend.inCluster = false;
    const { read, reader } = await open();
    expect(await read()).toBe(": nothing new\n\n");
    const next = read();
    timers.step();
    backend.inCluster = true;
    backend.say("info", "joined");
    timers.step();
    expect(await next).toContain("joined");
    await reader.cancel();
  });

  test("too many streams → notReady until one ends", async () => {
    const streams = [];
    for (let count = 0; count < STREAMS_MAX; count++) streams.push(await open());
    await expectFault(await ask("/api/v1/events/stream"), 503, "notReady");
    await streams[0]?.reader.cancel();
    const again = await open();
    await again.reader.cancel();
  });
});

describe("OpenAPI document", () => {
  interface Document {
    openapi: string;
    paths: Record<string, Record<string, { responses: Record<string, unknown> }>>;
  }
  const documented = async () => (await (await ask("/api/v1/openapi.json")).json()) as Document;

  test("names every route of the app and no other", async () => {
    const document = await documented();
    expect(document.openapi).toBe("3.1.0");
    const inDocument = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const inApp = api.routes
      .filter((route) => route.method !== "ALL" && !isConsolePath(route.path))
      .map((route) => `${route.method} ${route.path.replaceAll(/:(\w+)/g, "{$1}")}`);
    expect([...new Set(inApp)].sort()).toEqual(inDocument.sort());
    expect(inDocument).toContain("PATCH /api/v1/volumes/{id}");
  });

  test("every route documents its faults", async () => {
    const { paths } = await documented();
    for (const methods of Object.values(paths)) {
      for (const { responses } of Object.values(methods)) {
        expect(Object.keys(responses)).toContain("default");
      }
    }
  });
});

describe("claim", () => {
  const claim = (body: unknown, asker?: Asker) =>
    api.request(
      CLAIM_PATH,
      {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      },
      asker === undefined ? undefined : { asker, from: "" },
    );

  test("who asks gets to the backend; not known → anybody", async () => {
    const answer = await claim({ code: MEMORY_CODE });
    expect(answer.status).toBe(201);
    const { token } = schemas.ClaimedSchema.parse(await answer.json());
    expect(token).toBe(backend.ownerToken);
    await expectFault(await claim({ code: MEMORY_CODE }, "anybody"), 409, "conflict");
    expect((await claim({ replace: true }, OWNERS)).status).toBe(201);
    expect((await claim({ replace: true }, "local")).status).toBe(201);
    expect(backend.claims).toEqual([
      { code: MEMORY_CODE, replace: false, asker: "anybody", password: null, tokenHash: null },
      { code: MEMORY_CODE, replace: false, asker: "anybody", password: null, tokenHash: null },
      { code: null, replace: true, asker: OWNERS, password: null, tokenHash: null },
      { code: null, replace: true, asker: "local", password: null, tokenHash: null },
    ]);
  });

  test("a token of the claimer's own → none is told, and the same again is no harm", async () => {
    const tokenHash = "5e".repeat(32);
    const mine = { code: MEMORY_CODE, tokenHash, password: "correct horse battery" };
    for (const body of [mine, mine, { ...mine, password: null }]) {
      const answer = await claim(body);
      expect([answer.status, await answer.json()]).toEqual([201, { token: null }]);
    }
    expect(backend.users.ownerHash).toBe(tokenHash);
    await expectFault(await claim({ ...mine, password: "another of them" }), 409, "conflict");
    await expectFault(await claim({ ...mine, tokenHash: "00".repeat(32) }), 409, "conflict");
    await expectFault(await claim({ ...mine, code: "sesame" }), 403, "forbidden");
    expect([backend.users.ownerHash, backend.password]).toEqual([tokenHash, mine.password]);
  });

  test("a wrong code, none, a body of another shape → refused", async () => {
    await expectFault(await claim({ code: "sesame" }), 403, "forbidden");
    await expectFault(await claim({}), 403, "forbidden");
    const shapes = [{ code: 12345678 }, { code: "x".repeat(201) }, { token: "x" }, [], "x"];
    const hashes = ["", "5e", "5E".repeat(32), "5e".repeat(33), 5].map((tokenHash) => {
      return { code: MEMORY_CODE, tokenHash };
    });
    for (const body of [...shapes, ...hashes]) {
      await expectFault(await claim(body), 400, "badRequest");
    }
    expect(backend.ownerToken).toBeNull();
  });

  test("the code is told through the socket alone, while it claims something", async () => {
    const told = async (asker?: Asker) => {
      const env = asker === undefined ? undefined : { asker, from: "" };
      const answer = await api.request("/api/v1/status", {}, env);
      return schemas.UnitStatusSchema.parse(await answer.json()).claim;
    };
    expect(await told("local")).toEqual({ claimed: false, code: MEMORY_CODE });
    for (const asker of [OWNERS, "anybody", undefined] as const) {
      expect([asker, await told(asker)]).toEqual([asker, { claimed: false, code: null }]);
    }
    await claim({ code: MEMORY_CODE });
    expect(await told("local")).toEqual({ claimed: true, code: null });
    for (const path of ["/claim", "/login"]) {
      expect(await (await ask(path)).text()).not.toContain(MEMORY_CODE);
    }
    expect(await (await ask("/metrics")).text()).not.toContain(MEMORY_CODE);
  });
});

describe("password", () => {
  const put = (body: unknown, asker?: Asker) =>
    api.request(
      PASSWORD_PATH,
      {
        method: "PUT",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      },
      asker === undefined ? undefined : { asker, from: "" },
    );

  test("set by a token or the socket, by nobody else; too short → badRequest", async () => {
    const password = "correct horse battery";
    for (const asker of [undefined, "anybody"] as const) {
      await expectFault(await put({ password }, asker), 401, "unauthorised");
    }
    expect(backend.password).toBeNull();
    expect((await put({ password }, "local")).status).toBe(204);
    expect(backend.password).toBe(password);
    expect((await put({ password: "another good one" }, OWNERS)).status).toBe(204);
    const short = await expectFault(await put({ password: "short" }, OWNERS), 400, "badRequest");
    expect(short).toContain("at least 10 characters");
    await expectFault(await put({ password, owner: "x" }, OWNERS), 400, "badRequest");
    await expectFault(await put({ password, user: "x" }, OWNERS), 404, "notFound");
    expect(backend.password).toBe("another good one");
  });
});
