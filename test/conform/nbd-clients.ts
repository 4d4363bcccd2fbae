// SPDX-License-Identifier: Apache-2.0
//
// The conformance suite's first half: what real clients do (libnbd's tools, qemu's, fio). Each
// check is a test; all of them work on one export, one after the other, and leave its content as it
// falls.

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Prng } from "#base/prng.ts";
import { outcome, run } from "./programs.ts";
import type { Facts } from "./servers.ts";
import { uriOf } from "./servers.ts";

const MIB = 1 << 20;

class Scratch implements Disposable {
  readonly path = mkdtempSync(path.join(tmpdir(), "cairn-conform-"));
  file(name: string): string {
    return path.join(this.path, name);
  }
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}

/**
 * Bytes no compression or zero detection shortens, with holes of whole megabytes where asked for.
 */
function content(sizeBytes: number, seed: number, hole: (megabyte: number) => boolean): Buffer {
  const prng = new Prng(seed);
  const bytes = Buffer.alloc(sizeBytes);
  for (let at = 0; at < sizeBytes; at += 4) {
    if (!hole(Math.floor(at / MIB))) bytes.writeUInt32LE(prng.u32(), at);
  }
  return bytes;
}

interface ExportShown {
  "export-name": string;
  "export-size": number;
  description?: string;
  contexts?: string[];
  is_read_only: boolean;
  can_flush: boolean;
  can_fua: boolean;
  can_trim: boolean;
  can_zero: boolean;
  can_df: boolean;
  can_multi_conn: boolean;
  can_fast_zero: boolean;
  block_size_minimum: number;
  block_size_preferred: number;
  block_size_maximum: number;
}

async function shown(facts: Facts, name: string): Promise<ExportShown> {
  const text = await run("nbdinfo", ["--json", "--no-content", uriOf(facts, name)]);
  const [only] = (JSON.parse(text) as { exports: ExportShown[] }).exports;
  if (only === undefined) throw new Error("nbdinfo shows no export");
  return only;
}

/** `nbdinfo --map` as [length, type] pairs: 0 data, 3 hole and zero. */
async function mapOf(uri: string): Promise<[number, number][]> {
  const text = await run("nbdinfo", ["--map", "--json", uri]);
  const rows = JSON.parse(text) as { length: number; type: number }[];
  const joined: [number, number][] = [];
  for (const { length, type } of rows) {
    const last = joined.at(-1);
    if (last !== undefined && last[1] === type) last[0] += length;
    else joined.push([length, type]);
  }
  return joined;
}

export function nbdinfoChecks(facts: () => Facts): void {
  test("nbdinfo → size, flags, block sizes and contexts as they are", async () => {
    const { name, sizeBytes, description, multiConn, minimumBlockBytes } = facts();
    const seen = await shown(facts(), name);
    expect(seen).toMatchObject({
      "export-name": name,
      "export-size": sizeBytes,
      is_read_only: false,
      can_flush: true,
      can_fua: true,
      can_trim: true,
      can_zero: true,
      can_fast_zero: true,
      can_df: true,
      can_multi_conn: multiConn,
      block_size_minimum: minimumBlockBytes,
      block_size_preferred: 4096,
      block_size_maximum: 32 * MIB,
    });
    expect(seen.contexts).toContain("base:allocation");
    if (description !== null) expect(seen.description).toBe(description);
  });

  test("nbdinfo --list → the export among what is listed", async () => {
    const { name, host, port } = facts();
    const text = await run("nbdinfo", ["--list", "--json", `nbd://${host}:${port}/`]);
    const { exports } = JSON.parse(text) as { exports: { "export-name": string }[] };
    expect(exports.map((one) => one["export-name"])).toContain(name);
  });

  test("an export that is not there → nbdinfo is refused", async () => {
    const result = await outcome("nbdinfo", [uriOf(facts(), "no-such-volume")]);
    expect(result.exitCode).not.toBe(0);
    expect(result.stderr).toContain("no-such-volume");
  });

  test("a read-only export → shown as one, writes refused", async () => {
    const { readOnlyName } = facts();
    if (readOnlyName === null) return;
    expect((await shown(facts(), readOnlyName)).is_read_only).toBe(true);
    const uri = uriOf(facts(), readOnlyName);
    const result = await outcome("qemu-io", ["-f", "raw", "-c", "write 0 512", uri]);
    expect(result.stdout + result.stderr).toMatch(/read-only|denied/i);
  });
}

export function copyChecks(facts: () => Facts): void {
  for (const [how, flags] of [
    ["one connection", ["--connections=1", "--requests=1"]],
    ["four connections, 64 requests each", ["--connections=4", "--requests=64"]],
    ["256 KiB at a time, flushed", ["--request-size=262144", "--flush"]],
  ] as const) {
    test(`nbdcopy there and back, ${how} → the same bytes`, async () => {
      using scratch = new Scratch();
      const { sizeBytes, name } = facts();
      const uri = uriOf(facts(), name);
      const bytes = content(sizeBytes, how.length, (megabyte) => megabyte % 5 === 3);
      writeFileSync(scratch.file("there"), bytes);
      await run("nbdcopy", [...flags, scratch.file("there"), uri]);
      await run("nbdcopy", [...flags, uri, scratch.file("back")]);
      expect(readFileSync(scratch.file("back")).equals(bytes)).toBe(true);
    });
  }

  test("qemu-img convert there, compare, and back as qcow2 → identical", async () => {
    using scratch = new Scratch();
    const { sizeBytes, name } = facts();
    const uri = uriOf(facts(), name);
    const there = scratch.file("there");
    writeFileSync(
      there,
      content(sizeBytes, 5, (megabyte) => megabyte % 2 === 1),
    );
    await run("qemu-img", [..."convert -n -f raw -O raw -W -m 16".split(" "), there, uri]);
    await run("qemu-img", ["compare", "-f", "raw", "-F", "raw", there, uri]);
    const back = scratch.file("back");
    await run("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", "-m", "16", uri, back]);
    await run("qemu-img", ["compare", "-f", "raw", "-F", "qcow2", there, back]);
    await run("qemu-img", ["check", "-f", "qcow2", back]);
    const seen = JSON.parse(await run("qemu-img", ["info", "--output=json", "-f", "raw", uri]));
    expect(seen["virtual-size"]).toBe(sizeBytes);
  });
}

export function qemuIoChecks(facts: () => Facts): void {
  const io = async (...commands: string[]) => {
    const { name } = facts();
    const args = commands.flatMap((command) => ["-c", command]);
    const text = await run("qemu-io", ["-f", "raw", ...args, uriOf(facts(), name)]);
    expect(text).not.toMatch(/fail|error/i);
  };

  test("qemu-io: patterns, FUA, zeroes, trim, flush → every read as expected", async () => {
    await io(
      "write -P 0xa5 0 2M",
      "write -f -P 0x5a 1M 4k",
      "write -P 1 1052672 512",
      "read -P 0xa5 0 1M",
      "read -P 0x5a 1M 4k",
      "read -P 1 1052672 512",
      "read -P 0xa5 1053184 995392",
      "write -z 4096 8192",
      "write -z -u 65536 65536",
      "read -P 0 4096 8192",
      "read -P 0 65536 65536",
      "read -P 0xa5 12288 53248",
      "flush",
      "discard 0 1M",
      "flush",
      "read -P 0x5a 1M 4k",
    );
  });

  test("qemu-io: parts of a sector → merged, the rest stays", async () => {
    await io(
      "write -P 0x11 0 8192",
      "write -P 0x22 1000 100",
      "read -P 0x11 0 1000",
      "read -P 0x22 1000 100",
      "read -P 0x11 1100 7092",
      "write -z 4000 200",
      "read -P 0 4000 200",
      "read -P 0x11 4200 3992",
    );
  });

  test("qemu-io: 64 overlapping writes under way at once → all done", async () => {
    const commands: string[] = [];
    for (let index = 0; index < 64; index++) {
      commands.push(`aio_write -P ${index + 1} ${(index % 8) * 65536} 128k`);
    }
    await io(...commands, "aio_flush", "read -v 0 16");
  });

  test("map after trim and writes → holes where trimmed, data where written", async () => {
    const { name, sizeBytes, thin } = facts();
    await io(`discard 0 ${sizeBytes}`, `write -z -u 0 ${sizeBytes}`, "write -P 9 4M 1M");
    const map = await mapOf(uriOf(facts(), name));
    expect(map.reduce((sum, [length]) => sum + length, 0)).toBe(sizeBytes);
    if (!thin) return;
    expect(map).toEqual([
      [4 * MIB, 3],
      [MIB, 0],
      [sizeBytes - 5 * MIB, 3],
    ]);
    await io(`read -P 0 0 4M`, "read -P 9 4M 1M", `read -P 0 5M ${sizeBytes - 5 * MIB}`);
  });
}

export function fioChecks(facts: () => Facts): void {
  for (const [name, args] of [
    ["random 4k writes, depth 32", ["--rw=randwrite", "--bs=4k", "--iodepth=32"]],
    ["mixed sizes, reads among the writes", ["--rw=randrw", "--bsrange=512-128k", "--iodepth=16"]],
    ["sequential 1 MiB with a flush every 4", ["--rw=write", "--bs=1M", "--fsync=4"]],
  ] as const) {
    test(`fio with crc32c verification: ${name} → every block as written`, async () => {
      using scratch = new Scratch();
      const { sizeBytes } = facts();
      const uri = uriOf(facts(), facts().name);
      const text = await run("fio", [
        ...["--name=verify", "--ioengine=nbd", `--uri=${uri}`, `--size=${sizeBytes}`],
        ...["--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--output-format=json"],
        ...["--randrepeat=1", "--io_size=24M", `--aux-path=${scratch.path}`, ...args],
      ]);
      const report = JSON.parse(text.slice(text.indexOf("{"))) as {
        jobs: { error: number; write: { io_bytes: number }; read: { io_bytes: number } }[];
      };
      const [job] = report.jobs;
      expect(job?.error).toBe(0);
      expect(job?.write.io_bytes).toBeGreaterThan(8 * MIB);
      expect(job?.read.io_bytes).toBeGreaterThan(8 * MIB);
    });
  }
}
