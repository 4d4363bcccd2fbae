// SPDX-License-Identifier: Apache-2.0
//
// The room for dirty pages, read from a text of a kernel and from this machine.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { DirtyRoom } from "./dirty-room.ts";

const folder = mkdtempSync(path.join(tmpdir(), "cairn-machine-"));
afterAll(() => rmSync(folder, { recursive: true }));

const PAGE = 4096;
/** Linux 6.18's order: 60 pages in the middle between the thresholds, 20 of them taken. */
const TEXT = `nr_free_pages 1
nr_dirty 15
nr_writeback 5
nr_writeback_temp 7
nr_dirtied 900
nr_dirty_threshold 80
nr_dirty_background_threshold 40
pgpgin 3
`;

function room(text: string): { room: DirtyRoom; say: (text: string) => void } {
  const file = path.join(folder, "vmstat");
  const say = (news: string) => writeFileSync(file, news);
  say(text);
  return { room: new DirtyRoom(file), say };
}

test("half of what is left until writers are held back is given out, and no more", () => {
  const { room: own } = room(TEXT);
  expect(own.take(20 * PAGE, 0)).toBe(true);
  expect(own.take(1, 0)).toBe(false);
});

test("it is looked again after 50 ms, not before", () => {
  const { room: own, say } = room(TEXT.replace("nr_dirty 15", "nr_dirty 60"));
  expect(own.take(PAGE, 1000)).toBe(false);
  say(TEXT);
  expect(own.take(PAGE, 1049)).toBe(false);
  expect(own.take(PAGE, 1050)).toBe(true);
});

test.each(["nr_dirty", "nr_writeback", "nr_dirty_threshold", "nr_dirty_background_threshold"])(
  "%s is not told → no room",
  (name) => {
    const { room: own } = room(TEXT.replace(`${name} `, "nr_else "));
    expect(own.take(1, 0)).toBe(false);
  },
);

test("this machine tells all of it in the first half of a page", () => {
  const told = readFileSync("/proc/vmstat", "latin1").slice(0, 2048);
  for (const name of ["dirty", "writeback", "dirty_threshold", "dirty_background_threshold"]) {
    expect(told).toMatch(new RegExp(`^nr_${name} \\d+$`, "m"));
  }
});
