// SPDX-License-Identifier: Apache-2.0
//
// Emptying disks, on files: ours become blank whatever the moment an attempt was cut off, a shared
// disk keeps what is not ours, and a foreign one is not touched.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { claimDisk, examineDisk, findOurs, PARTITION_TYPE } from "./disk-tools.ts";
import { wipeDisk } from "./disk-wipe.ts";
import { runProgram } from "./program.ts";

setDefaultTimeout(30_000);

const MIB = 1 << 20;
const DISK_BYTES = 64 * MIB;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-wipe-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function emptyFile(name: string): string {
  const file = path.join(folder, name);
  writeFileSync(file, "");
  truncateSync(file, DISK_BYTES);
  return file;
}

function writeAt(file: string, offsetBytes: number, text: string): void {
  const fd = openSync(file, "r+");
  writeSync(fd, text, offsetBytes);
  closeSync(fd);
}

function readAt(file: string, offsetBytes: number, lengthBytes: number): string {
  const fd = openSync(file, "r");
  const bytes = Buffer.alloc(lengthBytes);
  readSync(fd, bytes, 0, lengthBytes, offsetBytes);
  closeSync(fd);
  return bytes.toString("latin1");
}

/** A disk as the daemon leaves it: something where superblocks are, at both ends. */
async function claimed(name: string): Promise<string> {
  const file = emptyFile(name);
  const place = await claimDisk(file, { evenIfNotBlank: false, name: "trial" });
  writeAt(file, place.offsetBytes, "first superblock");
  writeAt(file, place.offsetBytes + place.sizeBytes - 4096, "last superblock");
  return file;
}

class PowerCut extends Error {}

describe("a disk of ours", () => {
  test("wiped → blank, and claimed again like a new one", async () => {
    const file = await claimed("whole.img");
    expect(await wipeDisk(file)).toBe("emptied");
    expect(await examineDisk(file)).toMatchObject({ state: "blank", reasons: [] });
    const place = await claimDisk(file, { evenIfNotBlank: false, name: "again" });
    expect(readAt(file, place.offsetBytes, 16)).toBe("\0".repeat(16));
  });

  test("cut off before any step → the next attempt ends with a blank disk", async () => {
    const steps: string[] = [];
    await wipeDisk(await claimed("steps.img"), (step) => steps.push(step));
    expect(steps.length).toBeGreaterThan(30);
    expect(steps[0]).toBe("mark");
    const file = await claimed("cut.img");
    const original = readFileSync(file);
    for (const [at, step] of steps.entries()) {
      // The edges of each part, and some between them.
      if (at > 2 && at < steps.length - 3 && at % 8 > 1) continue;
      writeFileSync(file, original);
      let seen = 0;
      const cut = wipeDisk(file, () => {
        if (seen++ === at) throw new PowerCut(step);
      });
      await expect(cut).rejects.toThrow(PowerCut);
      expect(await wipeDisk(file), step).toBe("emptied");
      expect(await examineDisk(file), step).toMatchObject({ state: "blank" });
    }
  });

  test("cut off and then again in the other order of steps → still known as ours", async () => {
    const file = await claimed("twice.img");
    for (const at of [20, 35, 3, 40]) {
      let seen = 0;
      const cut = wipeDisk(file, () => {
        if (seen++ === at) throw new PowerCut();
      });
      await expect(cut).rejects.toThrow();
    }
    expect(await wipeDisk(file)).toBe("emptied");
    expect(await examineDisk(file)).toMatchObject({ state: "blank" });
    expect(await wipeDisk(file)).toBe("notOurs");
  });
});

test("a shared disk → GPT and the others' content stay, our store is gone", async () => {
  const file = emptyFile("shared.img");
  const script = `label: gpt\n, 16M, L\nname="cairn-disk", type=${PARTITION_TYPE}\n`;
  await runProgram("sfdisk", ["--quiet", file], { input: script });
  const place = await findOurs(file);
  if (place === null) throw new Error("the partition was not made");
  writeAt(file, MIB, "somebody's file system");
  writeAt(file, place.offsetBytes, "first superblock");
  writeAt(file, place.offsetBytes + place.sizeBytes - 16, "last superblock.");
  expect(await wipeDisk(file)).toBe("emptied");
  expect(await findOurs(file)).toEqual(place);
  expect(readAt(file, MIB, 22)).toBe("somebody's file system");
  expect(readAt(file, place.offsetBytes, 16)).toBe("\0".repeat(16));
  expect(readAt(file, place.offsetBytes + place.sizeBytes - 16, 16)).toBe("\0".repeat(16));
  expect(await wipeDisk(file)).toBe("emptied");
});

test("a disk that is not ours → not a byte is changed", async () => {
  const files = ["ext4.img", "gpt.img", "text.img", "blank.img"].map(emptyFile);
  const [ext4 = "", gpt = "", text = ""] = files;
  await runProgram("mkfs.ext4", ["-q", ext4]);
  await runProgram("sfdisk", ["--quiet", gpt], { input: "label: gpt\n, 16M, L\n" });
  writeAt(text, 0, "CAIRN IS SOMETHING ELSE");
  for (const file of files) {
    const before = readFileSync(file);
    expect(await wipeDisk(file)).toBe("notOurs");
    expect(Buffer.compare(readFileSync(file), before)).toBe(0);
  }
});

test("a disk that is not there → a fault that names it", async () => {
  const gone = path.join(folder, "nowhere.img");
  await expect(wipeDisk(gone)).rejects.toThrow("nowhere.img");
});
