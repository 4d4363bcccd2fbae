// SPDX-License-Identifier: Apache-2.0
//
// What is given back in quiet times: free blocks and nothing else; text and nothing that was
// changed; what a child has mapped and does not use.

import { describe, expect, test } from "bun:test";
import { closeSync, fsyncSync, mkdtempSync, openSync, readFileSync } from "node:fs";
import { rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createMemory } from "./arena.ts";
import { findSection } from "./elf.ts";
import { giveBackArena, pageOut, unchangedText } from "./idle-memory.ts";

const MIB = 1 << 20;

describe("giveBackArena", () => {
  test("free blocks lose their pages, held ones keep every byte", () => {
    const memory = createMemory(16 * MIB);
    const held: number[] = [];
    const free: number[] = [];
    for (let i = 0; i < 16; i++) {
      const offset = memory.allocate(256 << 10);
      memory.bytes.fill(0xa0 + i, offset, offset + (256 << 10));
      (i % 2 === 0 ? held : free).push(offset);
    }
    for (const offset of free) memory.release(offset);
    expect(giveBackArena(memory)).toBe(8 * (256 << 10));
    for (const [at, offset] of held.entries()) {
      const bytes = memory.bytes.subarray(offset, offset + (256 << 10));
      expect(bytes.every((byte) => byte === 0xa0 + at * 2)).toBe(true);
    }
    // Gone back to the system means: it reads zero.
    for (const offset of free) expect(memory.bytes[offset]).toBe(0);
  });
});

const SMAPS = `00200000-01a39000 r--p 00000000 fe:00 2149156                            /opt/cairn
Rss:                3968 kB
Anonymous:             0 kB
01a40000-0684a000 r-xp 01838000 fe:00 2149156                            /opt/cairn
Rss:               26888 kB
Anonymous:             0 kB
06867000-07394000 rw-p 0665e000 fe:00 2149156                            /opt/cairn
Rss:               10412 kB
Anonymous:             0 kB
07400000-07401000 r--p 07394000 fe:00 2149156                            /opt/cairn
Rss:                   4 kB
Anonymous:             4 kB
7ff118b8f000-7ff158b8f000 r-xp 00000000 fe:00 77                         /lib/libc.so.6
Anonymous:             0 kB
`;

describe("unchangedText", () => {
  test("only the program's own mappings that are not writable and have no changed page", () => {
    expect(unchangedText(SMAPS, "/opt/cairn")).toEqual([
      { start: 0x00200000, lengthBytes: 0x01a39000 - 0x00200000 },
      { start: 0x01a40000, lengthBytes: 0x0684a000 - 0x01a40000 },
    ]);
  });

  test("of a running process → nothing that is writable", () => {
    const smaps = readFileSync("/proc/self/smaps", "latin1");
    const found = unchangedText(smaps, process.execPath);
    expect(found.length).toBeGreaterThan(0);
    for (const { start } of found) {
      const line = smaps.split("\n").find((each) => each.startsWith(start.toString(16)));
      expect(line?.split(" ")[1]?.[1] ?? "-").toBe("-");
    }
  });
});

describe("pageOut", () => {
  test("pages of a mapped file go, and come back with what they held", async () => {
    const folder = mkdtempSync(path.join(tmpdir(), "cairn-pageout-"));
    const file = path.join(folder, "mapped");
    writeFileSync(file, new Uint8Array(4 * MIB).fill(0x5a));
    fsyncSyncOf(file);
    const mapped = Bun.mmap(file);
    expect(mapped.every((byte) => byte === 0x5a)).toBe(true);
    expect(residentOf(file)).toBeGreaterThan(3 << 10);
    expect(pageOut(process.pid, file)).toBe(true);
    expect(residentOf(file)).toBeLessThan(1 << 10);
    expect(mapped.every((byte) => byte === 0x5a)).toBe(true);
    rmSync(folder, { recursive: true });
  });

  test("no such process, no such mapping → false", () => {
    expect(pageOut(2 ** 22 + 1, "/nowhere")).toBe(false);
    expect(pageOut(process.pid, "/nowhere")).toBe(false);
  });
});

/** KiB of `file` that this process has mapped and resident. */
function residentOf(file: string): number {
  const lines = readFileSync("/proc/self/smaps", "latin1").split("\n");
  const at = lines.findIndex((line) => line.endsWith(` ${file}`));
  const rss = lines.slice(at).find((line) => line.startsWith("Rss:"));
  return Number(/(\d+) kB/.exec(rss ?? "")?.[1]);
}

function fsyncSyncOf(file: string): void {
  const descriptor = openSync(file, "r+");
  fsyncSync(descriptor);
  closeSync(descriptor);
}

describe("findSection", () => {
  test("of a program → where it is loaded; of anything else → null", () => {
    const text = findSection(process.execPath, ".text");
    expect(text?.lengthBytes).toBeGreaterThan(MIB);
    const maps = readFileSync("/proc/self/maps", "latin1").split("\n");
    const executable = maps.find(
      (line) => line.includes(" r-xp ") && line.endsWith(process.execPath),
    );
    expect(executable).toBeDefined();
    const [from = 0, to = 0] = (executable ?? "").split(/[- ]/).map((word) => parseInt(word, 16));
    expect(text?.address).toBeGreaterThanOrEqual(from);
    expect((text?.address ?? 0) + (text?.lengthBytes ?? 0)).toBeLessThanOrEqual(to);
    expect(findSection(process.execPath, ".no-such-section")).toBeNull();
    expect(findSection("/proc/self/maps", ".text")).toBeNull();
    expect(findSection("/dev/null", ".text")).toBeNull();
  });

  test("every word of the heads cut off or wrong → null, never a throw", () => {
    const folder = mkdtempSync(path.join(tmpdir(), "cairn-elf-"));
    const file = path.join(folder, "elf");
    const head = readFileSync(process.execPath).subarray(0, 64);
    for (let at = 0; at < 64; at++) {
      const wrong = Uint8Array.from(head);
      wrong[at] = 0xff;
      writeFileSync(file, wrong);
      expect(findSection(file, ".text")).toBeNull();
      writeFileSync(file, head.subarray(0, at));
      expect(findSection(file, ".text")).toBeNull();
    }
    rmSync(folder, { recursive: true });
  });
});
