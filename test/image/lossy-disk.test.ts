// SPDX-License-Identifier: Apache-2.0
//
// The forgetful disk keeps what was flushed and nothing else for sure: written by QEMU's own tool
// through the driver that guests use, cut, and looked at.

import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import path from "node:path";
import { Prng } from "#base/prng.ts";
import { LossyDisk } from "./lossy-disk.ts";
import { journalWords } from "./qemu-words.ts";

const KIB = 1024;
const SEEDS = 40;

function qemuIo(disk: LossyDisk, commands: readonly string[]): void {
  const words = commands.flatMap((command) => ["-c", command]);
  // Ended without closing: closing flushes.
  const abort = ["-c", "sigraise 9"];
  const args = ["--image-opts", "-t", "writeback", ...words, ...abort, journalWords(disk)];
  const result = spawnSync("qemu-io", args, { encoding: "utf8" });
  if (result.signal !== "SIGKILL") throw new Error(`qemu-io: ${result.stdout}${result.stderr}`);
}

function withDisk(run: (disk: LossyDisk) => void): void {
  const folder = mkdtempSync(path.join(tmpdir(), "cairn-lossy-"));
  try {
    const disk = new LossyDisk(path.join(folder, "disk.raw"));
    writeFileSync(disk.file, "");
    truncateSync(disk.file, 256 * KIB);
    run(disk);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const COMMANDS = [
  "write -P 1 0 64k",
  "write -P 2 64k 64k",
  "flush",
  "write -P 3 0 32k",
  "write -P 4 128k 32k",
];

describe("a power cut", () => {
  test("what was flushed is there, whatever the dice say", () => {
    withDisk((disk) => {
      for (let seed = 1; seed <= 5; seed++) {
        writeFileSync(disk.file, Buffer.alloc(256 * KIB));
        disk.begin();
        qemuIo(disk, COMMANDS);
        disk.cut(new Prng(seed));
        const bytes = readFileSync(disk.file);
        expect(bytes.subarray(32 * KIB, 64 * KIB).every((byte) => byte === 1)).toBe(true);
        expect(bytes.subarray(64 * KIB, 128 * KIB).every((byte) => byte === 2)).toBe(true);
        expect(bytes.subarray(160 * KIB).every((byte) => byte === 0)).toBe(true);
      }
    });
  });

  test("what was not is kept, lost and torn at a sector, over some seeds each", () => {
    withDisk((disk) => {
      const seen = new Set<string>();
      for (let seed = 1; seed <= SEEDS; seed++) {
        writeFileSync(disk.file, Buffer.alloc(256 * KIB));
        disk.begin();
        qemuIo(disk, COMMANDS);
        disk.cut(new Prng(seed));
        const late = readFileSync(disk.file).subarray(128 * KIB, 160 * KIB);
        const fours = late.lastIndexOf(4) + 1;
        expect(late.subarray(0, fours).every((byte) => byte === 4)).toBe(true);
        expect(fours % 512).toBe(0);
        seen.add(fours === 0 ? "lost" : fours === late.length ? "kept" : "torn");
      }
      expect([...seen].sort()).toEqual(["kept", "lost", "torn"]);
    });
  });
});
