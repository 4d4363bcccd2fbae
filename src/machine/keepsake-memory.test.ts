// SPDX-License-Identifier: Apache-2.0
//
// Keepsake memory: stays over the death of a process, not over a boot.

import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { KEEPSAKE_BYTES, dropKeepsake, openKeepsake } from "./keepsake-memory.ts";

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
