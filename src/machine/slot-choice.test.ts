// SPDX-License-Identifier: Apache-2.0
//
// Choosing a slot: which one the boot loader takes afterwards, by the order it has (newest first,
// those without tries last), and that a cut between two renames leaves both to be booted.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { chooseSlot, nextSlot, placesBelow } from "./slot-choice.ts";
import { listSlots } from "./slots.ts";

let root = "";
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), "cairn-slots-"));
  for (const folder of ["efi/EFI/Linux", "proc/sys/kernel/random", "usr/share/cairn"]) {
    mkdirSync(path.join(root, folder), { recursive: true });
  }
  const hash = "ab".repeat(32);
  writeFileSync(path.join(root, "proc/cmdline"), `console=tty0 roothash=${hash}\n`);
  writeFileSync(path.join(root, "proc/sys/kernel/random/boot_id"), "0f6f-1234\n");
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function given(running: string, ...files: string[]): void {
  writeFileSync(path.join(root, "usr/share/cairn/version"), `${running}\n`);
  for (const file of files) writeFileSync(path.join(root, "efi/EFI/Linux", file), "uki");
}
const choose = (version: string) => chooseSlot(version, placesBelow(root));
const files = () => readdirSync(path.join(root, "efi/EFI/Linux")).sort();
const next = () => nextSlot(listSlots(placesBelow(root)))?.version;

test("two good slots, the older one chosen → it is next, and the newer one last", () => {
  given("0.2.0", "cairn_0.1.0.efi", "cairn_0.2.0.efi");
  expect(next()).toBe("0.2.0");
  expect(choose("0.1.0")).toMatchObject({ version: "0.1.0", state: "good" });
  expect(files()).toEqual(["cairn_0.1.0.efi", "cairn_0.2.0+0-0.efi"]);
  expect(next()).toBe("0.1.0");
});

test("and back again → both are as they were", () => {
  given("0.1.0", "cairn_0.1.0.efi", "cairn_0.2.0+0-0.efi");
  expect(choose("0.2.0")).toMatchObject({ version: "0.2.0", tries: null });
  expect(files()).toEqual(["cairn_0.1.0.efi", "cairn_0.2.0.efi"]);
  expect(next()).toBe("0.2.0");
});

test("a slot that failed its trial is chosen → it gets a new trial", () => {
  given("0.1.0", "cairn_0.1.0.efi", "cairn_0.2.0+0-3.efi");
  expect(next()).toBe("0.1.0");
  expect(choose("0.2.0")).toMatchObject({ state: "trial", tries: { left: 3, done: 0 } });
  expect(next()).toBe("0.2.0");
});

test("the older one while the newer one is on trial → the trial's count is kept", () => {
  given("0.2.0", "cairn_0.1.0.efi", "cairn_0.2.0+2-1.efi");
  choose("0.1.0");
  expect(files()).toEqual(["cairn_0.1.0.efi", "cairn_0.2.0+0-1.efi"]);
  expect(next()).toBe("0.1.0");
});

test("the running one on its last try is chosen → its name stays for its blessing", () => {
  given("0.2.0", "cairn_0.1.0.efi", "cairn_0.2.0+0-3.efi");
  choose("0.2.0");
  expect(files()).toEqual(["cairn_0.1.0.efi", "cairn_0.2.0+0-3.efi"]);
});

test("the one that is next already → nothing is renamed", () => {
  given("0.1.0", "cairn_0.1.0.efi", "cairn_0.2.0+3-0.efi");
  choose("0.2.0");
  expect(files()).toEqual(["cairn_0.1.0.efi", "cairn_0.2.0+3-0.efi"]);
});

describe("what is not there", () => {
  test("a version in no slot → notFound, and the ones that are", () => {
    given("0.1.0", "cairn_0.1.0.efi", "README.txt", "other_9.9.9.efi");
    expect(() => choose("9.9.9")).toThrow("there are: 0.1.0");
    expect(files()).toContain("other_9.9.9.efi");
  });

  test("no slot at all → nothing is next", () => {
    expect(nextSlot([])).toBe(null);
  });

  test("only slots without tries → the newest of them is next, as the boot loader does", () => {
    given("0.1.0", "cairn_0.1.0+0-1.efi", "cairn_0.2.0+0-3.efi");
    expect(next()).toBe("0.2.0");
  });
});
