// SPDX-License-Identifier: Apache-2.0
//
// Disks that an appliance finds by itself, on real loop devices with the real tools: what is
// listed, what comes and goes, and of a disk in use exactly one partition. Needs root.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { symlinkSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { PARTITION_TYPE, examineDisk, findOurs } from "./disk-tools.ts";
import { disksMark, findCandidates } from "./machine-disks.ts";
import { clearSpare, disksUnder, examineSpare, spareContent } from "./spare-partition.ts";

const MIB = 1 << 20;
const LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
let folder = "";
let devices: string[] = [];
let mounted: string[] = [];

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-disks-"));
  mkdirSync(path.join(folder, "disks"));
  [devices, mounted] = [[], []];
});
afterEach(() => {
  for (const at of mounted) spawnSync("umount", [at]);
  for (const made of devices) {
    spawnSync("partx", ["--delete", made]);
    spawnSync("losetup", ["--detach", made]);
  }
  rmSync(folder, { recursive: true });
});

function run(name: string, args: string[], input = ""): string {
  const answer = spawnSync(name, args, { encoding: "utf8", input });
  expect(`${name} ${answer.status} ${answer.stderr}`).toStartWith(`${name} 0`);
  return answer.stdout.trim();
}

let files = 0;
/** A loop device with these GPT partitions, and a link to it. */
function device(partitions: string[] = [], bytes = 128 * MIB): string {
  const file = path.join(folder, `disk${++files}.img`);
  writeFileSync(file, "");
  truncateSync(file, bytes);
  if (partitions.length > 0)
    run("sfdisk", ["--quiet", file], `label: gpt\n${partitions.join("\n")}\n`);
  const made = run("losetup", ["--find", "--show", "--partscan", file]);
  devices.push(made);
  // A kernel built without GPT is told of the partitions; one with it knows them.
  if (partitions.length > 0) run("partx", ["--update", made]);
  symlinkSync(made, path.join(folder, "disks", path.basename(made)));
  return made;
}
const search = () => ({ bootFolders: [folder], linksIn: path.join(folder, "disks") });

/** A disk like that of a flashed box: state, mounted, beside it spare space of ours. */
function bootDisk(): { disk: string; spare: string; mount: string } {
  const lines = [`size=40M, type=${LINUX}`, `size=64M, type=${PARTITION_TYPE}`];
  const disk = device(lines);
  // Nothing is left for the kernel to initialise later: tests compare bytes.
  run("mkfs.ext4", ["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", `${disk}p1`]);
  const mount = path.join(folder, "state");
  mkdirSync(mount);
  run("mount", [`${disk}p1`, mount]);
  mounted.push(mount);
  return { disk, spare: `${disk}p2`, mount };
}

function put(file: string, offsetBytes: number, text: string): void {
  const fd = openSync(file, "r+");
  writeSync(fd, text, offsetBytes);
  closeSync(fd);
}

test("only what a link points to; the mark changes as disks come and go", async () => {
  expect(await findCandidates(search())).toEqual([]);
  const before = disksMark(search());
  const first = device();
  const with1 = disksMark(search());
  expect(with1).not.toBe(before);
  const candidate = { path: first, part: "whole", refusal: null, sizeBytes: 128 * MIB } as const;
  expect(await findCandidates(search())).toMatchObject([candidate]);
  const second = device();
  symlinkSync("/dev/nothing-there", path.join(folder, "disks", "broken"));
  symlinkSync(second, path.join(folder, "disks", "again"));
  expect((await findCandidates(search())).map((one) => one.path).sort()).toEqual(
    [first, second].sort(),
  );
  rmSync(path.join(folder, "disks", path.basename(second)));
  rmSync(path.join(folder, "disks", "again"));
  expect(disksMark(search())).toBe(with1);
});

test("without a directory of links → no loop device is ever considered", async () => {
  const made = device();
  const all = await findCandidates({ bootFolders: [], linksIn: null });
  expect(all.map((one) => one.path)).not.toContain(made);
});

test("the disk under the state directory is known as such; folders in memory add none", () => {
  const { disk, mount } = bootDisk();
  expect(disksUnder([mount])).toEqual([disk]);
  expect(disksUnder([path.join(folder, "none")])).toEqual([]);
  expect(disksUnder(["/proc", "/dev/shm"])).toEqual([]);
});

test("of a disk in use → our partition alone, by its own device", async () => {
  const { disk, spare, mount } = bootDisk();
  const whole = await examineDisk(disk);
  expect(whole.state).toBe("refused");
  const [candidate] = await findCandidates({ ...search(), bootFolders: [mount] });
  expect(candidate).toMatchObject({ path: disk, part: "spare", refusal: null });
  const examination = await examineSpare(disk);
  expect(examination).toMatchObject({ path: spare, state: "ours", reasons: [] });
  const onDisk = await findOurs(disk);
  expect(examination.ours).toEqual({
    path: spare,
    offsetBytes: 0,
    sizeBytes: onDisk?.sizeBytes as number,
    partitionId: onDisk?.partitionId as string,
  });
});

test("our partition is itself in use → refused", async () => {
  const { disk, spare } = bootDisk();
  run("mkfs.ext4", ["-q", spare]);
  const at = path.join(folder, "other");
  mkdirSync(at);
  run("mount", [spare, at]);
  mounted.push(at);
  const examination = await examineSpare(disk);
  expect(examination).toMatchObject({ state: "refused", ours: null });
  expect(examination.reasons.join()).toContain("mounted");
});

test("no partition of ours, one too small, or two → refused with the reason", async () => {
  const none = await examineSpare(device([`size=40M, type=${LINUX}`]));
  expect(none.reasons.join()).toContain("no part of it is spare");
  const small = await examineSpare(device([`size=16M, type=${PARTITION_TYPE}`]));
  expect(small.reasons.join()).toContain("too small");
  const line = `size=40M, type=${PARTITION_TYPE}`;
  await expect(examineSpare(device([line, line]))).rejects.toThrow("one is expected");
});

test("the kernel knows the partition elsewhere than the GPT says → refused", async () => {
  const made = device([`size=40M, type=${PARTITION_TYPE}`]);
  // A new table, which the kernel has not read.
  const table = `label: gpt\nstart=16384, size=40M, type=${PARTITION_TYPE}\n`;
  run("sfdisk", ["--quiet", "--no-tell-kernel", "--no-reread", "--force", made], table);
  expect((await examineSpare(made)).reasons.join()).toContain("no device for its spare part");
});

test("what lies in it is told; clearing it touches nothing outside", async () => {
  const { disk, spare } = bootDisk();
  const place = (await examineSpare(disk)).ours;
  if (place === null) throw new Error("the spare part is ours");
  const onDisk = await findOurs(disk);
  if (onDisk === null) throw new Error("the partition is ours");
  expect(spareContent(place)).toBe("empty");
  const lastAt = place.sizeBytes - 4096;
  for (const [offsetBytes, text, content] of [
    [0, "somebody's bytes", "other"],
    [lastAt, "somebody's bytes", "other"],
    [0, "CAIR", "store"],
    [lastAt, "CAIR", "store"],
  ] as const) {
    put(spare, offsetBytes, text);
    expect([offsetBytes, text, spareContent(place)]).toEqual([offsetBytes, text, content]);
    clearSpare(place);
    expect(spareContent(place)).toBe("empty");
  }
  const outside = () => {
    run("sync", []);
    const bytes = readFileSync(path.join(folder, `disk${files}.img`));
    const end = onDisk.offsetBytes + onDisk.sizeBytes;
    return [bytes.subarray(MIB, onDisk.offsetBytes), bytes.subarray(end)].map((part) =>
      Bun.hash(part),
    );
  };
  put(spare, 0, "x".repeat(4096));
  const before = outside();
  clearSpare(place);
  expect(outside()).toEqual(before);
});
