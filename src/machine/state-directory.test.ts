// SPDX-License-Identifier: Apache-2.0
//
// What a unit keeps beside its disks: small files, secrets, the catalog's file, the log.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createLog, logLine } from "./log.ts";
import { SecretBox } from "./secret-box.ts";
import { openDatabase } from "./sqlite.ts";
import { StateDirectory } from "./state-directory.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cairn-machine-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

test("a file is written → read back whole, only for root, replaced, removed, no rest left", () => {
  const directory = new StateDirectory(path.join(folder, "a", "b"));
  expect(directory.read("unit.json")).toBeNull();
  writeFileSync(directory.pathOf("unit.json.new"), "left by a crash", { mode: 0o644 });
  directory.write("unit.json", "one");
  directory.write("unit.json", "two");
  expect(directory.readText("unit.json")).toBe("two");
  expect(statSync(directory.pathOf("unit.json")).mode & 0o777).toBe(0o600);
  expect(statSync(directory.folder).mode & 0o777).toBe(0o700);
  expect(readdirSync(directory.folder).sort()).toEqual(["lock", "unit.json"]);
  directory.remove("unit.json");
  expect(directory.read("unit.json")).toBeNull();
  expect(() => directory.pathOf("../elsewhere")).toThrow("lies in the state directory");
  directory.close();
});

test("a second daemon on the same directory → refused; after the first has gone → taken", () => {
  const first = new StateDirectory(folder);
  expect(() => new StateDirectory(folder)).toThrow("another process uses");
  first.close();
  new StateDirectory(folder).close();
});

test("a secret sealed → opens with the same key file only, and only unchanged", async () => {
  const directory = new StateDirectory(path.join(folder, "one"));
  const box = await SecretBox.open(directory);
  const sealed = box.sealSecret(new TextEncoder().encode("join secret"));
  expect(Buffer.from(sealed).includes("join secret")).toBe(false);
  const again = await SecretBox.open(directory);
  expect(new TextDecoder().decode(again.openSecret(sealed))).toBe("join secret");
  const changed = sealed.slice();
  changed[sealed.length - 1] = (changed[sealed.length - 1] as number) ^ 1;
  expect(() => box.openSecret(changed)).toThrow("does not open");
  expect(() => box.openSecret(sealed.subarray(0, 20))).toThrow("not in our form");
  const other = new StateDirectory(path.join(folder, "two"));
  const otherBox = await SecretBox.open(other);
  expect(() => otherBox.openSecret(sealed)).toThrow("does not open");
  directory.close();
  other.close();
});

test("the database: kept over a reopening; a damaged file → put aside and made anew", () => {
  const file = path.join(folder, "catalog.db");
  const { database, putAside } = openDatabase(file);
  expect(putAside).toBeNull();
  database.exec("CREATE TABLE t (x INTEGER); INSERT INTO t VALUES (7)");
  database.close();
  const second = openDatabase(file);
  expect(second.database.query("SELECT x FROM t").get()).toEqual({ x: 7 });
  second.database.close();
  writeFileSync(file, "this is no database, for sure it is not");
  const third = openDatabase(file);
  expect(third.putAside).toBe(`${file}.damaged`);
  expect(third.database.query("SELECT count(*) AS n FROM sqlite_schema").get()).toEqual({ n: 0 });
  third.database.close();
});

test("the log: a JSON line each, nothing below the level; errors, cycles, lengths survived", () => {
  const file = path.join(folder, "log");
  const descriptor = openSync(file, "w");
  const log = createLog({ least: "info", descriptor });
  log.write("debug", "not shown");
  log.write("warn", "disk failed", { disk: 3, error: new Error("EIO", { cause: "cable" }) });
  const cycle: Record<string, unknown> = {};
  cycle["self"] = cycle;
  log.write("error", "odd", cycle);
  log.write("error", "long", { text: "x".repeat(100_000) });
  closeSync(descriptor);
  log.write("error", "nobody listens"); // must not throw
  const lines = readFileSync(file, "utf8").trim().split("\n");
  const parsed = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(parsed.map((line) => line["sentence"])).toEqual(["disk failed", "odd", "long"]);
  expect(parsed[0]).toMatchObject({ level: "warn", disk: 3, error: { message: "EIO" } });
  expect(lines.every((line) => line.length < 10_000)).toBe(true);
  expect(logLine("info", "a\nb")).toEndWith('"a\\nb"}\n');
});
