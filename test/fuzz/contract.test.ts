// SPDX-License-Identifier: Apache-2.0
//
// The API over a Backend in memory, walked through by its OpenAPI document: each operation does
// once what it is for, and answers as documented. And that what is not as documented is found.

import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { MemoryBackend } from "#appliance/api/memory-backend-fixture.ts";
import { SOCKET_FILE, type ServedApi } from "#appliance/api/serve.ts";
import { SERVED_TOKEN, serveInMemory } from "#appliance/api/served-fixture.ts";
import { walk } from "./contract-walk.ts";
import { Contract } from "./contract.ts";

setDefaultTimeout(60_000);

describe("walked through", () => {
  let folder: string;
  let backend: MemoryBackend;
  let served: ServedApi;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "cairn-walk-"));
    backend = new MemoryBackend();
    served = serveInMemory(backend, folder, { tcp: true });
  });
  afterEach(async () => {
    await served.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test("every operation of the document → a success, as documented", async () => {
    const words = ["babad", "dadab", "fafaf", "gagag", "hahah"];
    const stranger = { unitId: "1".repeat(32), name: "new", version: "0.1.0", address: "fe80::1" };
    backend.arrivals.waiting = [{ ...stranger, words }];
    backend.arrivals.isRemoved = true;
    backend.control.answers = false;
    backend.control.told = 1;
    backend.overridable = "walked";
    backend.update.uploadFiles = [{ name: "a", bytes: 3 }];
    backend.update.state.roll = {
      ...{ version: "0.2.0", state: "loaded", sentence: "it is loaded" },
      ...{ current: null, done: [], waiting: [1, 2] },
    };
    // One that stands still, and something that is kept of it.
    const create = backend.createVolume.bind(backend);
    backend.createVolume = async (wish, options) => {
      const made = await create(wish, options);
      const where = { slice: 1, index: 0, disk: 1, unit: 1, bytes: null, there: true };
      const kept = { number: 1, name: `${wish.name}@before-1`, wentOnAtMs: 1, untilMs: null };
      const how = { readable: true, sentence: "it can be read", bytes: null, uris: [] };
      const goOn = { from: "disk 2", costs: "what was written since" };
      return Object.assign(made, { goOn, kept: [{ ...kept, ...how, slices: [where] }] });
    };
    const door = {
      url: `http://127.0.0.1:${served.port}`,
      socket: path.join(folder, SOCKET_FILE),
      token: SERVED_TOKEN,
    };
    const facts = {
      units: ["cairn-0001", "cairn-0002"] as [string, string],
      ...{ disk: 1, volumeBytes: 1 << 30, protection: "mirror-2", words: words.join(" ") },
    };
    expect(await walk(door, facts)).toEqual([]);
  });
});

describe("what is not as documented is found", () => {
  const json = { "application/json": { schema: { $ref: "#/components/schemas/Thing" } } };
  const fault = { "application/json": { schema: { $ref: "#/components/schemas/Fault" } } };
  const contract = new Contract({
    openapi: "3.1.0",
    paths: {
      "/thing": {
        get: { responses: { 200: { content: json }, default: { content: fault } } },
        delete: { responses: { 204: { description: "gone" } } },
      },
    },
    components: {
      schemas: {
        Thing: {
          type: "object",
          properties: {
            name: { type: "string" },
            sizes: { type: "array", items: { type: "integer", minimum: 1 } },
            place: { anyOf: [{ type: "null" }, { $ref: "#/components/schemas/Place" }] },
          },
          required: ["name"],
        },
        Place: { type: "object", properties: { row: { type: "integer" } }, required: ["row"] },
        Fault: { type: "object", properties: { error: { type: "string" } }, required: ["error"] },
      },
    },
  });
  const get = contract.operation("GET /thing");
  const remove = contract.operation("DELETE /thing");
  const answer = (body: unknown, status = 200, contentType = "application/json; charset=UTF-8") =>
    contract.violation(get, { status, contentType, text: JSON.stringify(body) });

  test("as documented → nothing is wrong; a success is counted, a fault is not", () => {
    expect(contract.unreached()).toEqual(["DELETE /thing", "GET /thing"]);
    expect(answer({ error: "no" }, 404)).toBeNull();
    expect(contract.unreached()).toEqual(["DELETE /thing", "GET /thing"]);
    expect(answer({ name: "a", sizes: [1, 2], place: { row: 3 } })).toBeNull();
    expect(answer({ name: "a", place: null })).toBeNull();
    expect(contract.violation(remove, { status: 204, contentType: null, text: "" })).toBeNull();
    expect(contract.unreached()).toEqual([]);
  });

  for (const [what, wrong] of Object.entries({
    "a member left out": () => answer({}),
    "a member of another type": () => answer({ name: 1 }),
    "a value out of bounds": () => answer({ name: "a", sizes: [0] }),
    "a member that is not documented": () => answer({ name: "a", secret: 1 }),
    "one of those deeper": () => answer({ name: "a", place: { row: 1, column: 2 } }),
    "a status that is not documented": () => answer({ name: "a" }, 201),
    "a success under the faults' default": () => answer({ error: "no" }, 204),
    "a fault of another shape": () => answer({ fault: "no" }, 404),
    "another content type": () => answer({ name: "a" }, 200, "text/html"),
    "no JSON": () =>
      contract.violation(get, { status: 200, contentType: "application/json", text: "<p>" }),
    "a fault where none is documented": () =>
      contract.violation(remove, { status: 404, contentType: null, text: "" }),
    "a body where none is": () =>
      contract.violation(remove, { status: 204, contentType: "text/plain", text: "gone" }),
  })) {
    test(`${what} → a violation`, () => expect(wrong()).not.toBeNull());
  }

  test("a document with a word that JSON Schema does not know → none", () => {
    const schema = { type: "string", lenght: 3 } as object;
    const content = { "application/json": { schema } };
    const paths = { "/x": { get: { responses: { 200: { content } } } } };
    expect(() => new Contract({ openapi: "3.1.0", paths })).toThrow("lenght");
    expect(() => new Contract({ openapi: "3.0.3", paths: {} })).toThrow("3.1");
  });
});
