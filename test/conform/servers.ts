// SPDX-License-Identifier: Apache-2.0
//
// The NBD servers the conformance suite is run against, each a child process: qemu-nbd, to judge
// the suite itself, and our session on our reactor over a volume in memory.

import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { newerQemu, program, run } from "./programs.ts";

/** What a server is expected to be; the checks go by this. */
export interface Facts {
  host: string;
  port: number;
  /** The export to write to, and its size. Its content may be anything. */
  name: string;
  sizeBytes: number;
  /** The same bytes, read-only; null when there is no such export. */
  readOnlyName: string | null;
  /** Null where the server is not ours to say. */
  description: string | null;
  minimumBlockBytes: number;
  multiConn: boolean;
  /** Trim and write zeroes free space, and block status shows it. */
  thin: boolean;
  /** EXTENDED_HEADERS is on offer. */
  extended: boolean;
  /** Where qemu-nbd 7.2 does not do what the protocol asks: checked for what it does instead. */
  isQemu: boolean;
}

export interface Server extends AsyncDisposable {
  facts: Facts;
}

export function uriOf({ host, port }: Facts, name: string): string {
  const address = host.includes(":") ? `[${host}]` : host;
  return `nbd://${address}:${port}/${name}`;
}

/** qemu-nbd on a raw file: the machine's, or one that has extended headers. */
export async function qemuServer(sizeBytes: number, options: { newer: boolean }): Promise<Server> {
  const directory = mkdtempSync(path.join(tmpdir(), "cairn-conform-"));
  const file = path.join(directory, "disk.raw");
  writeFileSync(file, "");
  truncateSync(file, sizeBytes);
  const pidFile = path.join(directory, "pid");
  const port = freePort();
  // With --fork it returns once it listens.
  const nbd = options.newer ? newerQemu("qemu-nbd") : "qemu-nbd";
  await run(nbd, [
    ...["--fork", "--persistent", "--format=raw", "--discard=unmap", "--shared=32"],
    ...["--bind=127.0.0.1", `--port=${port}`, "--export-name=vol", `--pid-file=${pidFile}`, file],
  ]);
  const pid = Number(readFileSync(pidFile, "utf8"));
  return {
    facts: {
      host: "127.0.0.1",
      port,
      name: "vol",
      sizeBytes,
      readOnlyName: null,
      description: null,
      minimumBlockBytes: 1,
      multiConn: true,
      thin: true,
      extended: await hasExtendedHeaders(nbd),
      isQemu: true,
    },
    async [Symbol.asyncDispose]() {
      process.kill(pid);
      rmSync(directory, { recursive: true });
    },
  };
}

/** From qemu 8.2 on. */
async function hasExtendedHeaders(nbd: string): Promise<boolean> {
  const said = /qemu-nbd (\d+)\.(\d+)/.exec(await run(nbd, ["--version"]));
  const [major, minor] = [Number(said?.[1]), Number(said?.[2])];
  return major > 8 || (major === 8 && minor >= 2);
}

/** memory-server-fixture.ts */
export async function memoryServer(sizeBytes: number): Promise<Server> {
  const entry = path.join(import.meta.dir, "memory-server-fixture.ts");
  const child = Bun.spawn([process.execPath, entry, String(sizeBytes)], {
    stdout: "pipe",
    stderr: "inherit",
  });
  const port = Number(await firstLine(child.stdout));
  if (!(port > 0)) throw new Error("the server in memory did not start");
  return {
    facts: {
      host: "127.0.0.1",
      port,
      name: "vol",
      sizeBytes,
      readOnlyName: "vol-ro",
      description: "a volume in memory",
      minimumBlockBytes: 512,
      multiConn: true,
      thin: true,
      extended: true,
      isQemu: false,
    },
    async [Symbol.asyncDispose]() {
      child.kill();
      await child.exited;
    },
  };
}

/**
 * A server of ours that runs already, as CAIRN_CONFORM_URI names it: nbd://address:port/export, 32
 * MiB to 1 GiB. The export's content is lost.
 */
export async function givenServer(uri: string): Promise<Server> {
  const { hostname, port, pathname } = new URL(uri);
  const sizeBytes = Number(await run("nbdinfo", ["--size", uri]));
  return {
    facts: {
      host: hostname.replace(/^\[|\]$/g, ""),
      port: Number(port),
      name: decodeURIComponent(pathname.slice(1)),
      sizeBytes,
      readOnlyName: null,
      description: null,
      minimumBlockBytes: 512,
      multiConn: true,
      thin: true,
      extended: true,
      isQemu: false,
    },
    async [Symbol.asyncDispose]() {},
  };
}

async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text += decoder.decode(chunk);
    const end = text.indexOf("\n");
    if (end >= 0) return text.slice(0, end);
  }
  return text;
}

/** A port nobody listens on now. qemu-nbd takes none by itself. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

/** Clients of the suite; a missing one fails it, by name. */
export function requirePrograms(): void {
  for (const name of ["nbdinfo", "nbdcopy", "qemu-img", "qemu-io", "qemu-nbd", "fio"])
    program(name);
}
