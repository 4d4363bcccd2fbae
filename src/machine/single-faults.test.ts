// SPDX-License-Identifier: Apache-2.0
//
// A file that is mapped and touched in single places: without the registration whole
// neighbourhoods become resident, with it the touched pages only, and all bytes stay as they are.

import { expect, test } from "bun:test";
import { ptr } from "bun:ffi";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import path from "node:path";
import { address, libc } from "./libc.ts";
import { faultSingly } from "./single-faults.ts";

const MIB = 1 << 20;
const PAGE_BYTES = 4096;
const FILE_MIB = 32;
const MADV_DONTNEED = 4;
const [MAJOR = 0, MINOR = 0] = release().split(".").map(Number);
const KERNEL_CAN = MAJOR > 6 || (MAJOR === 6 && MINOR >= 7);

/** KiB of `file` that are mapped and resident. */
function residentOf(file: string): number {
  const lines = readFileSync("/proc/self/smaps", "latin1").split("\n");
  const at = lines.findIndex((line) => line.endsWith(` ${file}`));
  const rss = lines.slice(at).find((line) => line.startsWith("Rss:"));
  return Number(/(\d+) kB/.exec(rss ?? "")?.[1]);
}

test("single pages are touched → they alone become resident, every byte is right", () => {
  // Memory: a disk's file system may keep such a file in huge pages, which are mapped as a whole.
  const folder = mkdtempSync("/dev/shm/cairn-faults-");
  try {
    const resident = ["plain", "singly"].map((name) => {
      const file = path.join(folder, name);
      writeFileSync(file, new Uint8Array(FILE_MIB * MIB).fill(0x5a));
      const mapped = Bun.mmap(file, { shared: false });
      const start = ptr(mapped);
      if (name === "singly") {
        expect(faultSingly([{ start, lengthBytes: mapped.length }])).toBe(KERNEL_CAN);
      }
      libc.madvise(address(start), mapped.length, MADV_DONTNEED);
      for (let at = 0; at < mapped.length; at += MIB) expect(mapped[at]).toBe(0x5a);
      const kibibytes = residentOf(file);
      expect(mapped.every((byte) => byte === 0x5a)).toBe(true);
      mapped[PAGE_BYTES] = 1; // writing is as it was
      expect(mapped[PAGE_BYTES]).toBe(1);
      return kibibytes;
    });
    const touched = (FILE_MIB * PAGE_BYTES) / 1024;
    expect(resident[0]).toBeGreaterThan(touched);
    if (KERNEL_CAN) expect(resident[1]).toBe(touched);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a range that is not mapped → refused, not thrown", () => {
  expect(faultSingly([{ start: 4096, lengthBytes: 4096 }])).toBe(false);
});
