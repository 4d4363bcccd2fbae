// SPDX-License-Identifier: Apache-2.0
//
// Slots as the boot loader names them: names taken apart and put together, versions in order, and
// which slot runs, over a made-up appliance in a folder.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { compareVersions, isVersion } from "#base/release.ts";
import {
  type SlotPlaces,
  listSlots,
  parseUkiName,
  partitionIdsOf,
  runningSystem,
  ukiFileName,
} from "./slots.ts";

const ROOT_HASH = "0123456789abcdef0123456789abcdeffedcba9876543210fedcba9876543210";
let folder: string;
let places: SlotPlaces;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-slots-"));
  places = {
    ukiDirectory: path.join(folder, "Linux"),
    commandLineFile: path.join(folder, "cmdline"),
    versionFile: path.join(folder, "version"),
    bootIdFile: path.join(folder, "boot_id"),
  };
  mkdirSync(places.ukiDirectory);
  writeFileSync(places.commandLineFile, `quiet roothash=${ROOT_HASH} rw\n`);
  writeFileSync(places.versionFile, "0.2.0\n");
  writeFileSync(places.bootIdFile, "8f3c6e2e-9e55-4ec6-a2b4-5b8f3a0f5a11\n");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const put = (name: string) => writeFileSync(path.join(places.ukiDirectory, name), "uki");

test("names with and without counters come apart and together again", () => {
  for (const name of ["cairn_0.2.0.efi", "cairn_1.20.300+3-0.efi", "cairn_0.2.0+0-3.efi"]) {
    const parsed = parseUkiName(name);
    expect(parsed).not.toBeNull();
    expect(parsed === null ? "" : ukiFileName(parsed)).toBe(name);
  }
  expect(parseUkiName("cairn_0.2.0+3.efi")).toEqual({
    version: "0.2.0",
    tries: { left: 3, done: 0 },
  });
});

test("names that are not ours → null", () => {
  const names = ["debian.efi", "cairn_0.2.efi", "cairn_0.2.0-rc1.efi", "cairn_0.2.0+3-0.efi.new"];
  for (const name of [...names, "cairn_0.2.0+a.efi", "Cairn_0.2.0.efi", "cairn_0.2.0+1000-0.efi"]) {
    expect(parseUkiName(name)).toBeNull();
  }
});

test("versions are compared by number, not by letter", () => {
  expect(compareVersions("0.10.0", "0.9.9")).toBeGreaterThan(0);
  expect(compareVersions("1.0.0", "1.0.0")).toBe(0);
  expect(compareVersions("1.0.9", "1.1.0")).toBeLessThan(0);
  expect(["1.0", "1.0.0-rc1", "1.0.0.0", "v1.0.0", "1.0.0\n", "1..0"].filter(isVersion)).toEqual(
    [],
  );
});

test("partition ids are the halves of the root hash", () => {
  expect(partitionIdsOf(ROOT_HASH)).toEqual({
    root: "01234567-89ab-cdef-0123-456789abcdef",
    hash: "fedcba98-7654-3210-fedc-ba9876543210",
  });
});

test("the running system is what command line and image say", () => {
  expect(runningSystem(places)).toEqual({
    version: "0.2.0",
    rootHash: ROOT_HASH,
    bootId: "8f3c6e2e9e554ec6a2b45b8f3a0f5a11",
  });
});

test("without roothash or version this machine is no appliance", () => {
  writeFileSync(places.commandLineFile, "quiet notroothash=1\n");
  expect(runningSystem(places)).toBeNull();
  writeFileSync(places.commandLineFile, `roothash=${ROOT_HASH}`);
  expect(runningSystem(places)).not.toBeNull();
  rmSync(places.versionFile);
  expect(runningSystem(places)).toBeNull();
});

test("slots come newest first, each with its state", () => {
  for (const name of ["cairn_0.1.9+0-3.efi", "cairn_0.10.0+3-0.efi", "cairn_0.2.0.efi", "x.efi"]) {
    put(name);
  }
  expect(listSlots(places).map(({ version, state, running }) => [version, state, running])).toEqual(
    [
      ["0.10.0", "trial", false],
      ["0.2.0", "good", true],
      ["0.1.9", "bad", false],
    ],
  );
});

test("the running slot in its last try is on trial, not bad", () => {
  put("cairn_0.2.0+0-3.efi");
  expect(listSlots(places)[0]?.state).toBe("trial");
});

test("the running slot that was put last is good", () => {
  put("cairn_0.2.0+0-0.efi");
  expect(listSlots(places)[0]?.state).toBe("good");
});

test("no boot loader's folder → no slots", () => {
  rmSync(places.ukiDirectory, { recursive: true });
  expect(listSlots(places)).toEqual([]);
});
