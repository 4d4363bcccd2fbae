// SPDX-License-Identifier: Apache-2.0
//
// Files of lines: bounded, in order, whole lines alone, and no trouble for who writes them.

import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  appendFileSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { LineFiles } from "./line-files.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-lines-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const place = { pathOf: (name: string) => path.join(folder, name) };
const make = (bytesMax = 100) => new LineFiles(place, "notes", { filesMax: 3, bytesMax });

test("lines of each file, the newest first; the oldest file goes", () => {
  const lines = make();
  expect(lines.append("too early")).toBe(false);
  for (const name of ["a", "b", "c", "d"]) {
    expect(lines.begin(`begin ${name}`)).toBe(true);
    expect(lines.append(`more ${name}`)).toBe(true);
  }
  const kept = [
    ["begin d", "more d"],
    ["begin c", "more c"],
    ["begin b", "more b"],
  ];
  expect(lines.read()).toEqual(kept);
  expect(readdirSync(folder).sort()).toEqual(["notes.0", "notes.1", "notes.2"]);
  // Another run finds them, and begins a file of its own.
  lines.close();
  const next = make();
  expect(next.read()).toEqual(kept);
  expect(next.append("no file yet")).toBe(false);
  next.begin("begin e");
  expect(next.read()[1]).toEqual(["begin d", "more d"]);
});

test("what does not fit is refused, the file keeps what it has", () => {
  const lines = make(20);
  expect(lines.begin("0123456789")).toBe(true);
  expect(lines.append("012345678")).toBe(false);
  expect(lines.append("01234567")).toBe(true);
  expect(lines.begin("x".repeat(20))).toBe(false);
  expect(lines.read().slice(0, 2)).toEqual([[], ["0123456789", "01234567"]]);
});

test("torn at its end, or longer than any of ours → whole lines within the bound", () => {
  const lines = make(20);
  lines.begin("one");
  lines.close();
  appendFileSync(path.join(folder, "notes.0"), "tw");
  expect(make(20).read()[0]).toEqual(["one"]);
  appendFileSync(path.join(folder, "notes.0"), `o\n${"y".repeat(100)}\n`);
  expect(make(20).read()[0]).toEqual(["one", "two"]);
});

test("a folder that is gone → refused, nothing thrown", () => {
  const lines = new LineFiles({ pathOf: (name) => path.join(folder, "gone", name) }, "notes", {
    filesMax: 2,
    bytesMax: 100,
  });
  expect(lines.begin("one")).toBe(false);
  expect(lines.append("two")).toBe(false);
  expect(lines.read()).toEqual([[], []]);
  writeFileSync(path.join(folder, "notes.0"), "");
  expect(make().read()[0]).toEqual([]);
  expect(readFileSync(path.join(folder, "notes.0"), "utf8")).toBe("");
});
