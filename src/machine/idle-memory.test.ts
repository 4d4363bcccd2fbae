// SPDX-License-Identifier: Apache-2.0
//
// What is given back in quiet times: free blocks and nothing else; text and nothing that was
// changed.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { createMemory } from "./arena.ts";
import { giveBackArena, unchangedText } from "./idle-memory.ts";

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
