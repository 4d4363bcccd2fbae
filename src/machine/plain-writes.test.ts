// SPDX-License-Identifier: Apache-2.0
//
// Writes by a plain call, on real files: when owners are told, and when nothing is written plainly.

import { afterAll, expect, test } from "bun:test";
import { constants as open, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import path from "node:path";
import { mapMemory, mappedBytes } from "./arena.ts";
import { PlainWrites } from "./plain-writes.ts";

const folder = mkdtempSync(path.join(tmpdir(), "cairn-machine-"));
afterAll(() => rmSync(folder, { recursive: true }));

const LONGEST = 64 << 10;
const at = mapMemory(2 * LONGEST);
const bytes = new Uint8Array(mappedBytes(at, 2 * LONGEST));
const nobody = { laneDone: () => {} };
const plenty = { take: () => true };

function opened(flags = 0): { fd: number; file: string } {
  const file = path.join(folder, "disk");
  return { fd: openSync(file, open.O_RDWR | open.O_CREAT | flags), file };
}

test("written at once, told of by collect, once", () => {
  const { fd, file } = opened();
  const own = new PlainWrites(plenty);
  bytes.fill(7, 0, 4096);
  const told: number[] = [];
  expect(own.write(fd, 8192, at, 4096, { laneDone: (result) => told.push(result) })).toBe(true);
  expect(
    readFileSync(file)
      .subarray(8192)
      .every((byte) => byte === 7),
  ).toBe(true);
  expect([told, own.isNews]).toEqual([[], true]);
  own.collect();
  own.collect();
  expect([told, own.isNews]).toEqual([[4096], false]);
});

test("an owner that writes as it is told → told of that by the next collect", () => {
  const { fd } = opened();
  const own = new PlainWrites(plenty);
  const told: string[] = [];
  const second = { laneDone: () => told.push("second") };
  const first = {
    laneDone: () => {
      told.push("first");
      own.write(fd, 0, at, 512, second);
    },
  };
  own.write(fd, 0, at, 512, first);
  own.write(fd, 0, at, 512, { laneDone: () => told.push("other") });
  own.collect();
  expect([told, own.isNews]).toEqual([["first", "other"], true]);
  own.collect();
  expect([told, own.isNews]).toEqual([["first", "other", "second"], false]);
});

test("a call that fails → its errno", () => {
  const own = new PlainWrites(plenty);
  const told: number[] = [];
  const readOnly = openSync("/proc/self/cmdline", "r");
  expect(own.write(readOnly, 0, at, 512, { laneDone: (result) => told.push(result) })).toBe(true);
  own.collect();
  expect(told).toEqual([-constants.errno.EBADF]);
});

test("too long, or no room → not here", () => {
  const { fd } = opened();
  expect(new PlainWrites(plenty).write(fd, 0, at, LONGEST + 512, nobody)).toBe(false);
  expect(new PlainWrites({ take: () => false }).write(fd, 0, at, 512, nobody)).toBe(false);
});

test("disks on more than one device → not here, until those of all but one are closed", () => {
  const { fd } = opened();
  const own = new PlainWrites(plenty);
  for (const device of [1, 1, 2]) own.diskOpened(device);
  expect(own.write(fd, 0, at, 512, nobody)).toBe(false);
  own.diskClosed(1);
  expect(own.write(fd, 0, at, 512, nobody)).toBe(false);
  own.diskClosed(1);
  expect(own.write(fd, 0, at, 512, nobody)).toBe(true);
});

test("a write that slept → none for a while", () => {
  // Each waits for the medium; which of them for more than half a millisecond is the disk's affair.
  const { fd } = opened(open.O_DSYNC);
  const own = new PlainWrites(plenty);
  let writes = 0;
  while (writes < 10_000 && own.write(fd, 0, at, LONGEST, nobody)) {
    writes++;
    own.collect();
  }
  expect(writes).toBeGreaterThan(0);
  expect(writes).toBeLessThan(10_000);
});
