// SPDX-License-Identifier: Apache-2.0
//
// Payloads come in from folders, web servers and pieces, and only whole and right ones count:
// altered, short and long files, no room, a stop in the middle, two at once.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Fault } from "#base/fault.ts";
import { payloadSource } from "./payload-sources.ts";
import { type Payload, PayloadStore, receivePayload } from "./payload-store.ts";

const MIB = 1 << 20;
let folder: string;
let source: string;
let store: PayloadStore;
let free: number;

const content = (seed: number, bytes: number) =>
  Uint8Array.from({ length: bytes }, (_, at) => (at * 31 + seed + (at >> 8)) & 255);
const files: Record<string, Uint8Array> = {
  "cairn_0.2.0.root.raw": content(1, 3 * MIB + 5),
  "cairn_0.2.0.hash.raw": content(2, 4096),
  "cairn_0.2.0.efi": content(3, MIB),
};
function payload(version = "0.2.0"): Payload {
  return {
    version,
    papers: { "manifest.json": `{"version":"${version}"}`, "manifest.json.sig": "signature" },
    files: Object.entries(files).map(([name, bytes]) => ({
      name,
      bytes: bytes.length,
      sha256: createHash("sha256").update(bytes).digest("hex"),
    })),
  };
}

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-payload-"));
  source = path.join(folder, "source");
  mkdirSync(source);
  for (const [name, bytes] of Object.entries(files)) writeFileSync(path.join(source, name), bytes);
  free = 1000 * MIB;
  store = openStore();
});
afterEach(async () => {
  await store.receiving?.abandon();
  rmSync(folder, { recursive: true, force: true });
});

const openStore = () => new PayloadStore(path.join(folder, "update"), async () => free);
const fromFolder = () => payloadSource(source);
const receive = (one = payload()) =>
  receivePayload(store, one, (name) => fromFolder().pieces(name));
const kept = () => readdirSync(path.join(folder, "update")).sort();

async function refusal(act: Promise<unknown>): Promise<[string, string]> {
  try {
    await act;
  } catch (error) {
    if (error instanceof Fault) return [error.code, error.message];
    throw error;
  }
  return ["", "it went well"];
}

describe("receiving", () => {
  test("a whole payload counts, with its papers, also after a restart", async () => {
    await receive();
    store = openStore();
    expect(store.version).toBe("0.2.0");
    expect(store.paper("0.2.0", "manifest.json")).toBe('{"version":"0.2.0"}');
    expect(store.paper("0.2.0", "other")).toBeNull();
    const place = { offsetBytes: 3 * MIB, lengthBytes: 100 };
    const root = files["cairn_0.2.0.root.raw"] ?? new Uint8Array();
    expect(await store.read("0.2.0", "cairn_0.2.0.root.raw", place)).toEqual(
      root.subarray(3 * MIB),
    );
  });

  test("one altered bit, one byte less, one byte more → notTrusted, nothing is kept", async () => {
    const name = "cairn_0.2.0.hash.raw";
    const right = files[name] ?? new Uint8Array();
    const altered = right.slice();
    altered[100] = (altered[100] ?? 0) ^ 1;
    const wrong: [Uint8Array, string][] = [
      [altered, `${name} is not the file that was signed`],
      [right.subarray(1), `${name} is shorter than the file that was signed`],
      [Uint8Array.from([...right, 0]), `${name} is longer than the file that was signed`],
    ];
    for (const [bytes, words] of wrong) {
      writeFileSync(path.join(source, name), bytes);
      const [code, message] = await refusal(receive());
      expect([code, message]).toEqual(["notTrusted", `the update cannot be trusted: ${words}`]);
      expect([store.version, store.receiving, kept()]).toEqual([null, null, []]);
    }
  });

  test("a file is missing → notFound, nothing is kept", async () => {
    rmSync(path.join(source, "cairn_0.2.0.efi"));
    expect((await refusal(receive()))[0]).toBe("notFound");
    expect(kept()).toEqual([]);
  });

  test("a second payload takes the place of the first, also of the same version", async () => {
    await receive();
    await receive(payload("0.3.0"));
    expect(kept()).toEqual(["0.3.0"]);
    await receive(payload("0.3.0"));
    expect(kept()).toEqual(["0.3.0"]);
  });

  test("the first payload stays until the second is whole", async () => {
    await receive();
    writeFileSync(path.join(source, "cairn_0.2.0.efi"), "short");
    await refusal(receive(payload("0.3.0")));
    expect(kept()).toEqual(["0.2.0"]);
  });

  test("a stop in the middle leaves what the next start throws away", async () => {
    const receiver = await store.begin(payload());
    await receiver.take("cairn_0.2.0.root.raw", 0, content(1, MIB));
    expect(kept()).toEqual(["0.2.0.new"]);
    store = openStore();
    expect([store.version, kept()]).toEqual([null, []]);
    await receiver.abandon(); // the file of the store that was stopped
  });
});

describe("room", () => {
  test("no room for payload and reserve → noSpace, said in MiB, nothing begun", async () => {
    free = 68 * MIB;
    const [code, message] = await refusal(receive());
    expect([code, message]).toEqual([
      "noSpace",
      "not enough free space: the update needs 69 MiB on this unit, 68 are free",
    ]);
    expect(kept()).toEqual([]);
  });

  test("room only without the older payload → the older one goes first", async () => {
    await receive();
    free = 10 * MIB;
    await refusal(receive(payload("0.3.0")));
    expect(store.version).toBeNull();
  });
});

describe("pieces", () => {
  test("any cut of a file into pieces is taken; the last one ends the payload", async () => {
    const receiver = await store.begin(payload());
    let whole = false;
    for (const [name, bytes] of Object.entries(files)) {
      for (let at = 0; at < bytes.length;) {
        const length = Math.min(bytes.length - at, 1 + ((at * 7) % 60_000));
        whole = await receiver.take(name, at, bytes.subarray(at, at + length));
        at += length;
      }
    }
    expect([whole, store.version]).toEqual([true, "0.2.0"]);
  });

  test("a piece out of turn, of another file, past the end → refused", async () => {
    const receiver = await store.begin(payload());
    const root = "cairn_0.2.0.root.raw";
    await receiver.take(root, 0, content(1, 10));
    const words = "awaited is cairn_0.2.0.root.raw from byte 10";
    for (const [name, at] of [
      [root, 0],
      [root, 20],
      ["cairn_0.2.0.efi", 10],
    ] as const) {
      const [code, message] = await refusal(receiver.take(name, at, content(1, 10)));
      expect([code, message.includes(words)]).toEqual(["conflict", true]);
    }
    const [code] = await refusal(receiver.take(root, 10, content(1, 4 * MIB)));
    expect(code).toBe("notTrusted");
  });

  test("an abandoned reception takes nothing more", async () => {
    const receiver = await store.begin(payload());
    await store.begin(payload("0.3.0"));
    expect((await refusal(receiver.take("cairn_0.2.0.root.raw", 0, content(1, 10))))[0]).toBe(
      "conflict",
    );
    expect(kept()).toEqual(["0.3.0.new"]);
  });

  test("two pieces at once → the second is refused", async () => {
    const receiver = await store.begin(payload());
    const root = files["cairn_0.2.0.root.raw"] ?? new Uint8Array();
    const first = receiver.take("cairn_0.2.0.root.raw", 0, root.subarray(0, MIB));
    const [code] = await refusal(receiver.take("cairn_0.2.0.root.raw", 0, root.subarray(0, MIB)));
    await first;
    expect(code).toBe("conflict");
  });
});

describe("sources", () => {
  test("small files are read, up to a bound; none is null", async () => {
    writeFileSync(path.join(source, "manifest.json"), "text");
    const from = fromFolder();
    expect(await from.small("manifest.json", 4)).toBe("text");
    expect(await from.small("nothing", 4)).toBeNull();
    expect((await refusal(from.small("manifest.json", 3)))[0]).toBe("tooLarge");
  });

  test("a folder's pipe or device is no file", async () => {
    rmSync(path.join(source, "cairn_0.2.0.efi"));
    mkdirSync(path.join(source, "cairn_0.2.0.efi"));
    expect((await refusal(receive()))[0]).toBe("notFound");
    expect(await payloadSource("/dev").small("zero", 10)).toBeNull();
  });

  test("only absolute paths and http(s) URLs are places", () => {
    for (const place of [
      "relative",
      "",
      "ftp://x/y",
      "file:///etc",
      `http://${"x".repeat(3000)}`,
    ]) {
      expect(() => payloadSource(place)).toThrow(Fault);
    }
  });

  test("a web server serves a payload; what it lacks or refuses is told apart", async () => {
    using server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: (request) => {
        const name = path.basename(new URL(request.url).pathname);
        if (name === "broken") return new Response(null, { status: 500 });
        const file = path.join(source, name);
        if (!existsSync(file)) return new Response(null, { status: 404 });
        return new Response(Bun.file(file));
      },
    });
    const from = payloadSource(`http://127.0.0.1:${server.port}/releases/0.2.0/`);
    await receivePayload(store, payload(), (name) => from.pieces(name));
    expect(store.version).toBe("0.2.0");
    expect(await from.small("manifest.json", 100)).toBeNull();
    const [code, message] = await refusal(from.small("broken", 100));
    expect([code, message.includes("/releases/0.2.0/broken answers with HTTP 500")]).toEqual([
      "notReady",
      true,
    ]);
  });

  test("no web server → notReady, without the password of the URL", async () => {
    const from = payloadSource("http://me:secret@127.0.0.1:1/");
    const [code, message] = await refusal(from.small("manifest.json", 100));
    expect([code, message.includes("secret")]).toEqual(["notReady", false]);
  });
});
