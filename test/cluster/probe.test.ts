// SPDX-License-Identifier: Apache-2.0
//
// The gap probe against qemu-nbd: it measures a pause of known length, connects again, and finds
// lost, torn and foreign blocks. A probe that measures nothing would pass every judge.

import { describe, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync, truncateSync } from "node:fs";
import { readSync, writeFileSync, writeSync } from "node:fs";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { tmpdir } from "node:os";
import path from "node:path";
import { GapProbe, PROBE_BLOCK_BYTES } from "./probe.ts";
import { pause, until } from "./until.ts";

const VOLUME_BYTES = 16 << 20;
const LIMIT_MS = 10_000;
const PAUSE_MS = 700;

/** qemu-nbd on a file, to be ended and started again on the same port. */
class Server implements AsyncDisposable {
  readonly #folder = mkdtempSync(path.join(tmpdir(), "cairn-probe-"));
  readonly file = path.join(this.#folder, "disk.raw");
  readonly port = freePort();
  #child: ReturnType<typeof spawn> | null = null;

  constructor() {
    writeFileSync(this.file, "");
    truncateSync(this.file, VOLUME_BYTES);
  }
  get uri(): string {
    return `nbd://127.0.0.1:${this.port}/probe`;
  }
  start(): void {
    const where = ["--bind=127.0.0.1", `--port=${this.port}`, "--export-name=probe"];
    const how = ["--persistent", "--format=raw", "--shared=8", this.file];
    this.#child = spawn("qemu-nbd", [...where, ...how], { stdio: "inherit" });
  }
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null) return;
    const exit = once(child, "exit");
    child.kill("SIGKILL");
    await exit;
  }
  freeze(): void {
    this.#child?.kill("SIGSTOP");
  }
  thaw(): void {
    this.#child?.kill("SIGCONT");
  }
  change(offsetBytes: number, act: (bytes: Buffer) => Buffer): void {
    const descriptor = openSync(this.file, "r+");
    const bytes = Buffer.alloc(PROBE_BLOCK_BYTES);
    readSync(descriptor, bytes, 0, bytes.length, offsetBytes);
    writeSync(descriptor, act(bytes), 0, bytes.length, offsetBytes);
    closeSync(descriptor);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

async function probing(server: Server, offsetBytes = 4 << 20): Promise<GapProbe> {
  const probe = new GapProbe({ uris: async () => [server.uri], offsetBytes, blocks: 4 });
  await written(probe, 8);
  return probe;
}

/** Waits for more successful writes. */
function written(probe: GapProbe, more: number): Promise<true> {
  const goal = probe.writes + more;
  const look = () => (probe.writes >= goal ? true : null);
  return until(`${goal} writes`, look, { limitMs: LIMIT_MS, trail: () => probe.lastFailure });
}

describe("the gap probe", () => {
  for (const [name, away, back] of [
    ["killed", (server: Server) => server.kill(), (server: Server) => server.start()],
    ["frozen", (server: Server) => server.freeze(), (server: Server) => server.thaw()],
  ] as const) {
    test(`server ${name} for a while → that gap is measured, the data is right`, async () => {
      await using server = new Server();
      server.start();
      await using probe = await probing(server);
      expect(probe.gapSince(0).gapMs).toBeLessThan(PAUSE_MS);
      await away(server);
      await pause(PAUSE_MS);
      await back(server);
      await written(probe, 8);
      const gap = await probe.finish();
      expect(gap.gapMs).toBeGreaterThan(PAUSE_MS - 100);
      expect(gap.gapMs).toBeLessThan(PAUSE_MS + 1500);
    });
  }

  test("a gap that is not over counts", async () => {
    await using server = new Server();
    server.start();
    await using probe = await probing(server);
    const from = performance.now();
    await server.kill();
    await pause(PAUSE_MS);
    expect(probe.gapSince(from).gapMs).toBeGreaterThan(PAUSE_MS - 100);
  });

  test("the second of two addresses serves when the first is dead", async () => {
    await using server = new Server();
    server.start();
    const dead = `nbd://127.0.0.1:${freePort()}/probe`;
    const uris = async () => [dead, server.uri];
    await using probe = new GapProbe({ uris, offsetBytes: 0, blocks: 4 });
    await written(probe, 4);
    expect(probe.attachedTo).toBe(server.uri);
    await probe.finish();
  });

  const offsetBytes = 4 << 20;
  for (const [name, act] of [
    ["an acked write lost", () => Buffer.alloc(PROBE_BLOCK_BYTES)],
    [
      "a torn block",
      (bytes: Buffer) => Buffer.concat([bytes.subarray(0, 512), bytes.fill(0, 512)]),
    ],
    ["a changed byte", (bytes: Buffer) => (bytes.writeUInt8(1, 4000), bytes)],
  ] as const) {
    test(`${name} → verify fails`, async () => {
      await using server = new Server();
      server.start();
      await using probe = await probing(server, offsetBytes);
      await probe.stop();
      await probe.verify();
      server.change(offsetBytes, (bytes) => act(bytes).subarray(0, PROBE_BLOCK_BYTES));
      await expect(probe.verify()).rejects.toThrow("probe block 0");
    });
  }

  test("another block's bytes → verify fails", async () => {
    await using server = new Server();
    server.start();
    await using probe = await probing(server, offsetBytes);
    await probe.stop();
    let other = Buffer.alloc(0);
    server.change(offsetBytes + PROBE_BLOCK_BYTES, (bytes) => (other = Buffer.from(bytes)));
    server.change(offsetBytes, () => other);
    await expect(probe.verify()).rejects.toThrow("probe block 0");
  });
});
