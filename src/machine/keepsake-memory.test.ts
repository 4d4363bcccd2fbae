// SPDX-License-Identifier: Apache-2.0
//
// Keepsake memory: stays over the death of a process, not over a boot.

import { expect, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import {
  KEEPSAKE_BYTES,
  attachmentOf,
  dropKeepsake,
  keepsakeDirectory,
  openKeepsake,
} from "./keepsake-memory.ts";

function place() {
  const directory = mkdtempSync(path.join(tmpdir(), "cairn-keepsake-"));
  return {
    directory,
    name: "disk-a",
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}

test("killed with -9 → the next process finds what it wrote; each disk has its own", async () => {
  using here = place();
  const fixture = path.join(import.meta.dir, "keepsake-process-fixture.ts");
  const child = Bun.spawn([process.execPath, fixture, here.directory, here.name, "171"]);
  await child.exited;
  expect(child.signalCode).toBe("SIGKILL");
  const bytes = openKeepsake(here);
  expect(bytes.length).toBe(KEEPSAKE_BYTES);
  expect([bytes[99], bytes[100], bytes[199], bytes[200]]).toEqual([0, 171, 171, 0]);
  const other = openKeepsake({ ...here, name: "disk-b" });
  expect(other[100]).toBe(0);
});

test("left by a version that made it shorter → as it was left", async () => {
  using here = place();
  const fixture = path.join(import.meta.dir, "keepsake-process-fixture.ts");
  await Bun.spawn([process.execPath, fixture, here.directory, here.name, "171"]).exited;
  const [name = ""] = readdirSync(here.directory);
  const shorter = 8 << 20;
  truncateSync(path.join(here.directory, name), shorter);
  const bytes = openKeepsake(here);
  expect([bytes.length, bytes[100]]).toEqual([shorter, 171]);
});

test("cut short to nothing that makes sense → as long as it should be", () => {
  using here = place();
  const other = { ...here, name: "disk-b" };
  openKeepsake(other);
  const [name = ""] = readdirSync(here.directory);
  const file = path.join(here.directory, name.replace(other.name, here.name));
  writeFileSync(file, new Uint8Array(1000), { mode: 0o600 });
  expect(openKeepsake(here).length).toBe(KEEPSAKE_BYTES);
});

test("left by another boot → removed, and begun anew", () => {
  using here = place();
  const old = path.join(here.directory, "disk-a.00000000-0000-0000-0000-000000000000");
  writeFileSync(old, new Uint8Array(KEEPSAKE_BYTES).fill(7));
  expect(openKeepsake(here)[100]).toBe(0);
  expect(existsSync(old)).toBe(false);
});

test("dropped → the next one is empty", () => {
  using here = place();
  openKeepsake(here)[5] = 9;
  expect(openKeepsake(here)[5]).toBe(9);
  dropKeepsake(here);
  expect(readdirSync(here.directory)).toEqual([]);
  expect(openKeepsake(here)[5]).toBe(0);
});

test("attached another time → begun anew; what may be another process's stays", () => {
  using here = place();
  openKeepsake({ ...here, attachment: "17" })[5] = 9;
  expect(openKeepsake({ ...here, attachment: "18" })[5]).toBe(0);
  expect(openKeepsake({ ...here, attachment: "17" })[5]).toBe(9);
});

test("in use by another process → refused", async () => {
  using here = place();
  openKeepsake(here);
  const fixture = path.join(import.meta.dir, "keepsake-process-fixture.ts");
  const argv = [process.execPath, fixture, here.directory, here.name, "1"];
  const child = Bun.spawn(argv, { stderr: "pipe" });
  expect(await child.exited).toBe(1);
  expect(await new Response(child.stderr).text()).toContain("in use by another process");
  expect(openKeepsake(here)[100]).toBe(0);
});

test("a file's attachment → 0; the directory is this user's alone", () => {
  expect(attachmentOf(import.meta.path)).toBe("0");
  const directory = keepsakeDirectory();
  if (directory !== null) expect(lstatSync(directory).mode & 0o077).toBe(0);
});
