// SPDX-License-Identifier: Apache-2.0
//
// The entry point as a process of its own: arguments in, output and exit code out, over a real
// socket.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { MemoryBackend } from "./api/memory-backend-fixture.ts";
import { type ServedApi, SOCKET_FILE } from "./api/serve.ts";
import { serveInMemory } from "./api/served-fixture.ts";

const MAIN = path.join(import.meta.dir, "main.ts");
let folder: string;
let backend: MemoryBackend;
let served: ServedApi;

beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-main-"));
  backend = new MemoryBackend();
  served = serveInMemory(backend, folder, { tcp: false });
});
afterAll(async () => {
  await served.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function cairn(...args: string[]): Promise<{ status: number; out: string; err: string }> {
  await using child = Bun.spawn([process.execPath, MAIN, ...args], {
    cwd: folder,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, status] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  return { status, out, err };
}

describe("the process", () => {
  test("asks over the socket, prints, ends with 0", async () => {
    const create = ["volume", "create", "one", "--size", "1G", "-o", "json"];
    const made = await cairn(...create, "--socket", path.join(folder, SOCKET_FILE));
    expect(made.status).toBe(0);
    expect(JSON.parse(made.out)).toEqual(backend.volume("one"));
  });

  test("an answer of many pages arrives whole through a pipe", async () => {
    for (let count = 0; count < 1000; count++) backend.say("info", "x".repeat(500));
    const args = ["event", "list", "--limit", "1000", "-o", "json", "--state-directory", folder];
    const { status, out } = await cairn(...args);
    expect(status).toBe(0);
    expect(JSON.parse(out).events).toHaveLength(1000);
  });

  test("exit codes and messages leave it", async () => {
    const missing = await cairn("volume", "show", "none", "--state-directory", folder);
    expect([missing.status, missing.out]).toEqual([4, ""]);
    expect(missing.err).toContain("no volume none");
    expect((await cairn("nonsense")).status).toBe(2);
    expect((await cairn("status", "--socket", "/nowhere/at/all")).status).toBe(6);
  });

  test("deleting without a person to ask wants --yes", async () => {
    const gone = await cairn("volume", "delete", "one", "--state-directory", folder);
    expect([gone.status, backend.volumes().length]).toEqual([2, 1]);
    expect(gone.err).toContain("--yes");
  });

  test("files are read from where it is called, with a limit", async () => {
    writeFileSync(path.join(folder, "cairn.json"), '{ "disks": ["a.img"] }');
    writeFileSync(path.join(folder, "huge.json"), " ".repeat(100_000));
    const shown = await cairn("config", "show", "--config", "cairn.json");
    expect(JSON.parse(shown.out).disks).toEqual([path.join(folder, "a.img")]);
    const huge = await cairn("config", "show", "--config", "huge.json");
    expect([huge.status, huge.err]).toEqual([2, expect.stringContaining("larger than 65536")]);
    const none = await cairn("unit", "--config", "none.json");
    expect([none.status, none.err]).toEqual([2, expect.stringContaining("no such file")]);
    const directory = await cairn("config", "show", "--config", folder);
    expect([directory.status, directory.err]).toEqual([2, expect.stringContaining("EISDIR")]);
  });

  test("whoever reads leaves early → it ends by itself", async () => {
    const command = `"$0" "$1" event list --limit 1000 --state-directory "$2" | head -n 1`;
    await using child = Bun.spawn(["sh", "-c", command, process.execPath, MAIN, folder], {
      stdout: "pipe",
      stderr: "pipe",
    });
    expect(await child.stdout.text()).toContain("WHAT HAPPENED");
    expect(await child.stderr.text()).toBe("");
    expect(await child.exited).toBe(0);
  });
});
