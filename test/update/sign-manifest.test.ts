// SPDX-License-Identifier: Apache-2.0
//
// Releases as scripts/sign-manifest.mjs signs them, opened as a unit opens them; and what the
// script refuses to sign.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { FEATURE_LEVEL } from "#appliance/version.ts";
import { openManifest, parseUpdateKeys } from "#cluster/update-manifest.ts";
import { createSeal } from "#machine/seal.ts";
import { FORMAT_VERSION } from "#store/format.wire.ts";

const SCRIPT = path.join(import.meta.dir, "..", "..", "scripts", "sign-manifest.mjs");
const ROOT_HASH = "0123456789abcdef0123456789abcdeffedcba9876543210fedcba9876543210";
let folder: string;
let release: string;
let key: string;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-sign-"));
  release = path.join(folder, "release");
  key = path.join(folder, "keys", "release.pem");
  mkdirSync(release);
  put("cairn_0.2.0.efi", kernelImage(`quiet roothash=${ROOT_HASH}`));
  put("cairn_0.2.0.root.raw", partition(5000, 3 << 20));
  put("cairn_0.2.0.hash.raw", partition(4096, 8192));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function put(name: string, content: string | Uint8Array): void {
  writeFileSync(path.join(release, name), content);
}

/** Content, then zeros up to the partition's size. */
function partition(contentBytes: number, bytes: number): Uint8Array {
  return new Uint8Array(bytes).fill(7, 0, contentBytes);
}

/** The least that is a PE file with a command line. */
function kernelImage(line: string, section = ".cmdline"): Uint8Array {
  const bytes = Buffer.alloc(1024);
  bytes.write("MZ", 0, "latin1");
  bytes.writeUInt32LE(0x80, 0x3c);
  bytes.write("PE\0\0", 0x80, "latin1");
  bytes.writeUInt16LE(2, 0x80 + 6);
  bytes.writeUInt16LE(16, 0x80 + 20);
  const table = 0x80 + 24 + 16;
  bytes.write(".osrel", table, "latin1");
  bytes.write(section, table + 40, "latin1");
  bytes.writeUInt32LE(Buffer.byteLength(line), table + 40 + 8);
  bytes.writeUInt32LE(512, table + 40 + 20);
  bytes.write(line, 512, "utf8");
  return bytes;
}

function run(args: string[], environment: Record<string, string> = {}) {
  const made = Bun.spawnSync(["node", SCRIPT, ...args], {
    env: { ...process.env, CAIRN_UPDATE_KEY: key, SOURCE_DATE_EPOCH: "1767225600", ...environment },
  });
  return { status: made.exitCode, output: made.stdout.toString() };
}
const read = (name: string) => readFileSync(path.join(release, name), "utf8");
const signed = () => ({ text: read("manifest.json"), signature: read("manifest.json.sig") });

test("a signed release opens with the keys that the script prints, and says what it is", () => {
  expect(run(["new-key", key]).status).toBe(0);
  expect(statSync(key).mode & 0o777).toBe(0o600);
  expect(run(["sign", release]).status).toBe(0);
  const keys = parseUpdateKeys(run(["keys"]).output);
  expect(keys[0]?.keyId).toMatch(/^release-[0-9a-f]{16}$/);
  const manifest = openManifest(createSeal(), signed(), keys);
  expect(manifest).toMatchObject({
    version: "0.2.0",
    featureLevel: FEATURE_LEVEL,
    diskFormat: FORMAT_VERSION,
    architecture: "x86-64",
    built: "2026-01-01T00:00:00Z",
  });
  expect(
    manifest.files.map(({ role, name, bytes, partitionUuid }) => [
      role,
      name,
      bytes,
      partitionUuid,
    ]),
  ).toEqual([
    ["root", "cairn_0.2.0.root.raw", 8192, "01234567-89ab-cdef-0123-456789abcdef"],
    ["hash", "cairn_0.2.0.hash.raw", 4096, "fedcba98-7654-3210-fedc-ba9876543210"],
    ["uki", "cairn_0.2.0.efi", 1024, undefined],
  ]);
});

test("the same files sign to the same bytes", () => {
  run(["new-key", key]);
  run(["sign", release]);
  const first = signed();
  run(["sign", release]);
  expect(signed()).toEqual(first);
});

test("another key does not open it; keys to be replaced are trusted beside the new one", () => {
  run(["new-key", key]);
  run(["sign", release]);
  const old = signed();
  const oldKeys = path.join(folder, "old-keys.json");
  writeFileSync(oldKeys, run(["keys"]).output);
  const next = { CAIRN_UPDATE_KEY: path.join(folder, "next.pem") };
  run(["new-key", next.CAIRN_UPDATE_KEY]);
  const only = parseUpdateKeys(run(["keys"], next).output);
  expect(() => openManifest(createSeal(), old, only)).toThrow("not trusted here");
  const both = run(["keys"], { ...next, CAIRN_UPDATE_KEYS_ALSO: oldKeys }).output;
  expect(openManifest(createSeal(), old, parseUpdateKeys(both)).version).toBe("0.2.0");
});

test("levels and architecture may be said", () => {
  run(["new-key", key]);
  const flags = ["--feature-level", "3", "--disk-format", "2", "--architecture", "arm64"];
  expect(run(["sign", release, ...flags]).status).toBe(0);
  expect(JSON.parse(read("manifest.json"))).toMatchObject({
    featureLevel: 3,
    diskFormat: 2,
    architecture: "arm64",
  });
});

test("names of partition files may carry more; of two versions one is said", () => {
  run(["new-key", key]);
  put("cairn_0.3.0.efi", kernelImage(`roothash=${ROOT_HASH}`));
  put("cairn_0.3.0.root.0123.raw", "root");
  put("cairn_0.3.0.hash.4567.raw", "hash");
  expect(run(["sign", release])).toMatchObject({
    status: 1,
    output: expect.stringContaining("2 files for the kernel image; one is needed"),
  });
  expect(run(["sign", release, "--version", "0.3.0"]).status).toBe(0);
  expect(read("manifest.json")).toContain("cairn_0.3.0.root.0123.raw");
});

test("what cannot be signed is said, and leaves no manifest", () => {
  run(["new-key", key]);
  const wrong: [string | Uint8Array, string][] = [
    ["not a kernel", "no MZ header"],
    [kernelImage("quiet"), "no roothash="],
    [kernelImage(`roothash=${ROOT_HASH}`, ".other"), "no .cmdline section"],
  ];
  for (const [uki, words] of wrong) {
    put("cairn_0.2.0.efi", uki);
    const { status, output } = run(["sign", release]);
    expect([status, output]).toEqual([1, expect.stringContaining(words)]);
  }
  put("cairn_0.2.0.efi", kernelImage(`roothash=${ROOT_HASH}`));
  rmSync(path.join(release, "cairn_0.2.0.hash.raw"));
  expect(run(["sign", release]).output).toContain("0 files for hash");
  expect(existsSync(path.join(release, "manifest.json"))).toBe(false);
});

test("keys: none over one that is there, none that is no key", () => {
  run(["new-key", key]);
  const before = readFileSync(key, "utf8");
  expect(run(["new-key", key]).status).not.toBe(0);
  expect(readFileSync(key, "utf8")).toBe(before);
  writeFileSync(key, "nonsense");
  expect(run(["sign", release])).toMatchObject({
    status: 1,
    output: expect.stringContaining("is no private key"),
  });
});

test("a command line that makes no sense → usage", () => {
  for (const args of [[], ["sign"], ["sign", "a", "b"], ["other", "x"]]) {
    expect(run(args).status).toBe(2);
  }
  expect(run(["sign", release, "--feature-level", "x"]).status).toBe(2);
});
