// SPDX-License-Identifier: Apache-2.0
//
// Disks on real files and loop devices, with the real tools. Needs root.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, readFileSync } from "node:fs";
import { rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { PARTITION_TYPE, claimDisk, examineDisk, findOurs, listDisks } from "./disk-tools.ts";

const MIB = 1 << 20;
let folder = "";
let devices: string[] = [];

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-machine-"));
  devices = [];
});
afterEach(() => {
  for (const device of devices) spawnSync("losetup", ["--detach", device]);
  rmSync(folder, { recursive: true });
});

function makeFile(bytes: number): string {
  const file = path.join(folder, "disk");
  const fd = openSync(file, "w");
  ftruncateSync(fd, bytes);
  closeSync(fd);
  return file;
}

function put(file: string, offset: number, text: string): void {
  const fd = openSync(file, "r+");
  writeSync(fd, text, offset);
  closeSync(fd);
}

function run(name: string, ...args: string[]): string {
  const answer = spawnSync(name, args, { encoding: "utf8" });
  expect(`${name} ${answer.status} ${answer.stderr}`).toStartWith(`${name} 0`);
  return answer.stdout.trim();
}

function loop(file: string): string {
  const device = run("losetup", "--find", "--show", file);
  devices.push(device);
  return device;
}

const asked = { evenIfNotBlank: false, name: "cairn S1" };

test("a blank file → claimed, found at its place; claimed again → nothing changes", async () => {
  const file = makeFile(64 * MIB);
  expect((await examineDisk(file)).state).toBe("blank");
  expect(await findOurs(file)).toBeNull();
  const place = await claimDisk(file, asked);
  expect(place.offsetBytes).toBe(MIB);
  expect(place.offsetBytes % 4096).toBe(0);
  expect(place.sizeBytes).toBeGreaterThan(61 * MIB);
  expect(place.offsetBytes + place.sizeBytes).toBeLessThanOrEqual(64 * MIB);
  expect((await examineDisk(file)).state).toBe("ours");
  expect(await findOurs(file)).toEqual(place);
  const before = Bun.hash(readFileSync(file));
  expect(await claimDisk(file, asked)).toEqual(place);
  expect(Bun.hash(readFileSync(file))).toBe(before);
});

test("a blank loop device → claimed, same place as in its file", async () => {
  const file = makeFile(64 * MIB);
  const device = loop(file);
  const place = await claimDisk(device, asked);
  const inFile = await findOurs(file);
  expect(inFile).toEqual({ ...place, path: file });
  const listed = (await listDisks()).find((disk) => disk.path === device);
  expect(listed).toMatchObject({ kind: "loop", sizeBytes: 64 * MIB });
});

test("anything on it → refused with the reason, not one byte changed, also by claim", async () => {
  const cases: [string, (file: string) => void][] = [
    ["its first MiB is not empty", (file) => put(file, 700_000, "x")],
    ["its last MiB is not empty", (file) => put(file, 64 * MIB - 5, "x")],
    ["a signature of ext4", (file) => run("mkfs.ext4", "-q", "-F", file)],
    ["a swap area", (file) => run("mkswap", file)],
    [
      "a partition table (GPT) that is not ours",
      (file) => {
        spawnSync("sfdisk", ["--quiet", file], { input: "label: gpt\nsize=8M\n" });
      },
    ],
    [
      "a partition table (MBR)",
      (file) => {
        spawnSync("sfdisk", ["--quiet", file], { input: "label: dos\nsize=8M\n" });
      },
    ],
  ];
  for (const [reason, spoil] of cases) {
    const file = makeFile(64 * MIB);
    spoil(file);
    const before = Bun.hash(readFileSync(file));
    const examination = await examineDisk(file);
    expect(examination.state).toBe("refused");
    expect(examination.reasons.join()).toContain(reason);
    await expect(claimDisk(file, asked)).rejects.toThrow(reason);
    expect(Bun.hash(readFileSync(file))).toBe(before);
  }
});

test("not blank, the owner said yes → claimed, nothing of an older store is left", async () => {
  const file = makeFile(64 * MIB);
  run("mkfs.ext4", "-q", "-F", file);
  put(file, MIB, "an older superblock");
  put(file, 64 * MIB - 2 * MIB, "its second copy");
  const place = await claimDisk(file, { evenIfNotBlank: true, name: "cairn S1" });
  const store = readFileSync(file).subarray(place.offsetBytes, place.offsetBytes + place.sizeBytes);
  expect(store.subarray(0, 4 * MIB).every((byte) => byte === 0)).toBe(true);
  expect(store.subarray(-4 * MIB).every((byte) => byte === 0)).toBe(true);
});

test("mounted → refused even when the owner said yes", async () => {
  const file = makeFile(64 * MIB);
  const device = loop(file);
  run("mkfs.ext4", "-q", device);
  const at = path.join(folder, "mnt");
  mkdirSync(at);
  run("mount", device, at);
  try {
    const examination = await examineDisk(device);
    expect(examination.reasons.join()).toContain("mounted");
    const yes = { evenIfNotBlank: true, name: "x" };
    await expect(claimDisk(device, yes)).rejects.toThrow("mounted");
  } finally {
    run("umount", at);
  }
});

test("too small, missing, a folder → said so", async () => {
  const small = makeFile(4 * MIB);
  expect((await examineDisk(small)).reasons.join()).toContain("too small");
  await expect(claimDisk(small, { evenIfNotBlank: true, name: "x" })).rejects.toThrow("too small");
  await expect(examineDisk(path.join(folder, "none"))).rejects.toThrow("there is no");
  await expect(examineDisk(folder)).rejects.toThrow("neither");
});

test("two partitions of ours, or one that reaches past the end → refused", async () => {
  const file = makeFile(64 * MIB);
  const line = `size=8M, type=${PARTITION_TYPE}\n`;
  spawnSync("sfdisk", ["--quiet", file], { input: `label: gpt\n${line}${line}` });
  await expect(findOurs(file)).rejects.toThrow("one is expected");
  const other = makeFile(64 * MIB);
  await claimDisk(other, asked);
  const fd = openSync(other, "r+");
  ftruncateSync(fd, 40 * MIB);
  closeSync(fd);
  expect((await examineDisk(other)).state).toBe("refused");
});
