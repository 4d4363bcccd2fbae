// SPDX-License-Identifier: Apache-2.0
//
// The starred rules of the house, checked on the source text of the whole tree. Each rule is first
// shown to catch a bad sample and to pass a good one, so that a rule that went blind is seen.

import { describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { spawnSync } from "node:child_process";
import { COMPOSITION_ROOTS, barrels, determinism, rooms } from "./tidy/import-rules.ts";
import { parseSource, type Source, type Violation } from "./tidy/source.ts";
import {
  columns,
  comments,
  emptyCatches,
  enums,
  fileLength,
  functionLength,
  heads,
  names,
  sleeps,
} from "./tidy/text-rules.ts";
import { ROOT, allText, machineNames, machineWords, sources } from "./tidy/tree.ts";

const RULES: Readonly<Record<string, (source: Source) => Violation[]>> = {
  barrels,
  columns,
  comments,
  determinism,
  emptyCatches,
  enums,
  fileLength,
  functionLength,
  heads,
  names,
  rooms,
  sleeps,
};

const SPDX = "// SPDX-License-Identifier: Apache-2.0";
const LONG_BODY = "  step();\n".repeat(70);
const LONG_SWITCH = `  switch (kind) {\n${"    case 1:\n".repeat(80)}      return 1;\n  }\n`;

type Sample = readonly [rule: string, path: string, text: string];

const BAD: readonly Sample[] = [
  ["rooms", "src/raid/a.ts", 'import { b } from "#store/b.ts";'],
  ["rooms", "src/raid/a.ts", 'import type { B } from "#protocol/b.ts";'],
  ["rooms", "src/protocol/a.ts", 'export { b } from "#raid/b.ts";'],
  ["rooms", "src/protocol/a.ts", 'export * from "#raid/b.ts";'],
  ["rooms", "src/store/a.ts", 'const b = await import("#machine/b.ts");'],
  ["rooms", "src/store/a.ts", 'type B = import("#machine/b.ts").B;'],
  ["rooms", "src/store/a.ts", "const b = await import(name);"],
  ["rooms", "src/base/a.ts", 'import { b } from "#raid/b.ts";'],
  ["rooms", "src/base/a.ts", 'import { z } from "zod";'],
  ["rooms", "src/cluster/a.ts", 'import { b } from "#raid/b.ts";'],
  ["rooms", "src/machine/a.ts", 'import { b } from "#cluster/b.ts";'],
  ["rooms", "src/appliance/a.ts", 'import { b } from "#test/b.ts";'],
  ["rooms", "src/raid/a.test.ts", 'import { b } from "#store/b.ts";'],
  ["rooms", "src/raid/a.ts", 'import { b } from "../base/b.ts";'],
  ["rooms", "src/raid/a.ts", 'import { b } from "./c/../b.ts";'],
  ["rooms", "src/raid/a.ts", 'import { b } from "./b";'],
  ["rooms", "src/raid/a.ts", 'import { b } from "#base/../raid/b.ts";'],
  ["rooms", "src/raid/a.ts", 'import fs from "node:fs";'],
  ["rooms", "src/appliance/a.ts", 'import { Database } from "bun:sqlite";'],
  ["rooms", "src/cluster/a.ts", 'import { file } from "bun";'],
  ["rooms", "src/garage/a.ts", 'import { b } from "#base/b.ts";'],
  ["barrels", "src/raid/index.ts", "export const a = 1;"],
  ["barrels", "src/raid/all.ts", 'export * from "./a.ts";\nexport { b } from "./b.ts";'],
  ["enums", "src/raid/a.ts", "export enum Color { red }"],
  ["enums", "src/raid/a.ts", "export const enum Color { red }"],
  ["comments", "src/raid/a.ts", "// FIXME this is wrong"],
  ["comments", "src/raid/a.ts", "// TODO: later"],
  ["comments", "src/raid/a.ts", "// const a = oldWay(3);"],
  ["comments", "src/raid/a.ts", "/*\n * send(message);\n */"],
  ["comments", "src/raid/a.ts", "// if (a > 3) {"],
  ["comments", "src/raid/a.ts", '// import { b } from "./b.ts";'],
  ["columns", "src/raid/a.ts", `const text = "${"x".repeat(90)}";`],
  ["fileLength", "src/raid/a.ts", "step();\n".repeat(601)],
  ["functionLength", "src/raid/a.ts", `function long() {\n${LONG_BODY}}`],
  ["functionLength", "src/raid/a.ts", `const long = () => {\n${LONG_BODY}};`],
  ["functionLength", "src/raid/a.ts", `class A {\n  long() {\n${LONG_BODY}  }\n}`],
  ["functionLength", "src/raid/a.ts", `function pick(kind) {\n${LONG_SWITCH}}`],
  [
    "functionLength",
    "src/raid/a.ts",
    `// tidy: exhaustive switch\nfunction long() {\n${LONG_BODY}}`,
  ],
  ["functionLength", "src/raid/a.test.ts", `test("long", () => {\n${LONG_BODY}});`],
  ["determinism", "src/raid/a.ts", "const now = Date.now();"],
  ["determinism", "src/raid/a.ts", "const day = new Date();"],
  ["determinism", "src/cluster/a.ts", "setTimeout(() => step(), 5);"],
  ["determinism", "src/cluster/a.ts", "globalThis.setTimeout(step, 5);"],
  ["determinism", "src/raid/a.ts", "const one = Math.random();"],
  ["determinism", "src/protocol/a.ts", "const id = crypto.randomUUID();"],
  ["determinism", "src/appliance/a.ts", "const name = process.env.NAME;"],
  ["determinism", "src/store/a.ts", "const bytes = Bun.file(name);"],
  ["determinism", "src/store/a.ts", "const sum = Bun.hash.crc32(bytes);"],
  ["determinism", "src/base/a.ts", "const bytes = Bun.file(name);"],
  ["determinism", "src/cluster/a.ts", "const answer = await fetch(address);"],
  ["determinism", "src/raid/a.ts", "const clock = { now: performance };"],
  ["emptyCatches", "src/raid/a.ts", "try { step(); } catch {}"],
  ["emptyCatches", "src/raid/a.ts", "try { step(); } catch (error) { /* fine */ }"],
  ["emptyCatches", "src/raid/a.ts", "step().catch(() => {});"],
  ["sleeps", "src/raid/a.test.ts", "await Bun.sleep(10);"],
  ["sleeps", "test/a.test.ts", "await new Promise((done) => setTimeout(done, 10));"],
  ["sleeps", "test/a.test.ts", 'import { setTimeout as wait } from "node:timers/promises";'],
  ["names", "src/raid/utils.ts", ""],
  ["names", "src/helpers/a.ts", ""],
  ["names", "src/raid/writeIntent.ts", ""],
  ["names", "src/raid/WriteIntent.ts", ""],
];

const GOOD: readonly Sample[] = [
  ["rooms", "src/raid/a.ts", 'import { b } from "#base/b.ts";\nimport { c } from "./c.ts";'],
  ["rooms", "src/protocol/nbd/a.ts", 'import { b } from "#protocol/peer/b.ts";'],
  ["rooms", "src/cluster/a.ts", 'import { b } from "#protocol/b.ts";\nimport { z } from "zod";'],
  ["rooms", "src/appliance/a.ts", 'import { b } from "#raid/b.ts";'],
  ["rooms", "src/machine/a.ts", 'import fs from "node:fs";\nimport { dlopen } from "bun:ffi";'],
  ["rooms", "src/raid/a.test.ts", 'import { test } from "bun:test";\nimport fc from "fast-check";'],
  ["rooms", "test/a.test.ts", 'import { b } from "#raid/b.ts";'],
  ["barrels", "src/raid/a.ts", 'export { b } from "./b.ts";\nexport const c = 1;'],
  ["comments", "src/raid/a.ts", "// The member waits; the head does not send again;"],
  ["comments", "src/raid/a.ts", "// TODO(when formats are frozen): drop version 0"],
  ["comments", "src/raid/a.ts", "// For example:\n//    const a = struct(3);"],
  ["comments", "src/raid/a.ts", "// a retry (see R10);"],
  ["columns", "src/raid/a.ts", `// https://example.org/${"x".repeat(90)}`],
  ["functionLength", "src/raid/a.ts", `function short() {\n${"  step();\n".repeat(68)}}`],
  [
    "functionLength",
    "src/raid/a.ts",
    `// tidy: exhaustive switch\nfunction pick(kind) {\n${LONG_SWITCH}}`,
  ],
  ["functionLength", "src/raid/a.test.ts", `describe("all", () => {\n${LONG_BODY}});`],
  ["determinism", "src/machine/a.ts", "const now = Date.now();"],
  ["determinism", "src/raid/a.test.ts", "const now = Date.now();"],
  ["determinism", "src/raid/a.ts", "const clock = { process: 1 };\nclock.process = 2;"],
  ["determinism", "src/raid/a.ts", "function f(process: number) {\n  return process;\n}"],
  ["determinism", "src/raid/a.ts", "const most = Math.max(1, 2);"],
  ["determinism", "src/base/a.ts", "const sum = Bun.hash.crc32(bytes);"],
  ["emptyCatches", "src/raid/a.ts", "try { step(); } catch (error) { throw wrap(error); }"],
  ["sleeps", "test/demo/until.ts", "setTimeout(step, 10);"],
  ["names", "src/raid/write-intent.wire.ts", ""],
];

function violationsOf(rule: string, path: string, text: string): Violation[] {
  const check = RULES[rule];
  if (check === undefined) throw new Error(`no rule ${rule}`);
  return check(
    parseSource(path, `${SPDX}\n//\n// A sample that a rule looks at closely.\n\n${text}`),
  );
}

function shown(violations: readonly Violation[]): string[] {
  return violations.map((one) => `${one.path}:${one.line} ${one.rule}: ${one.text}`);
}

describe("a rule catches its bad sample", () => {
  for (const [rule, file, text] of BAD) {
    test(`${rule}: ${file}: ${text.slice(0, 60).replaceAll("\n", " ")}`, () => {
      expect(violationsOf(rule, file, text)).not.toBeEmpty();
    });
  }

  test("every rule has a bad sample", () => {
    const shownToFail = new Set([...BAD.map(([rule]) => rule), "heads"]);
    expect([...shownToFail].sort()).toEqual(Object.keys(RULES).sort());
  });

  test("heads: no SPDX line, or no paragraph → violation", () => {
    expect(heads(parseSource("src/raid/a.ts", "export const a = 1;"))).toHaveLength(1);
    const bare = parseSource("src/raid/a.ts", `${SPDX}\nexport const a = 1;`);
    expect(heads(bare)).toHaveLength(1);
  });

  test("a promise nobody waits for → Biome's noFloatingPromises", () => {
    const folder = mkdtempSync(path.join(tmpdir(), "cairn-tidy-"));
    try {
      writeFloatingSample(folder);
      const platform = `cli-linux-${process.arch}`;
      const biome = path.join(ROOT, "node_modules", "@biomejs", platform, "biome");
      const args = ["lint", "--colors=off", "--vcs-enabled=false", "src"];
      const answer = spawnSync(biome, args, { cwd: folder, encoding: "utf8" });
      expect(answer.status).toBe(1);
      expect(answer.stdout + answer.stderr).toContain("noFloatingPromises");
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test("the path of this tree in a file → violation", () => {
    const words = machineWords();
    expect(words.length).toBeGreaterThan(0);
    expect(machineNames("README.md", `see ${ROOT}/docs`, [`${ROOT}/`])).toHaveLength(1);
  });
});

function writeFloatingSample(folder: string): void {
  copyFileSync(path.join(ROOT, "biome.json"), path.join(folder, "biome.json"));
  const text = "async function step(): Promise<void> {}\nstep();\n";
  mkdirSync(path.join(folder, "src"));
  writeFileSync(path.join(folder, "src", "a.ts"), text);
}

describe("a rule passes its good sample", () => {
  for (const [rule, file, text] of GOOD) {
    test(`${rule}: ${file}: ${text.slice(0, 60).replaceAll("\n", " ")}`, () => {
      expect(shown(violationsOf(rule, file, text))).toEqual([]);
    });
  }
});

describe("the tree keeps", () => {
  const all = sources();

  for (const [rule, check] of Object.entries(RULES)) {
    test(rule, () => {
      expect(shown(all.flatMap(check))).toEqual([]);
    });
  }

  test("no file names this machine, its registry or its mirror", () => {
    const words = machineWords();
    const found = allText().flatMap(([file, text]) => machineNames(file, text, words));
    expect(shown(found)).toEqual([]);
  });

  test("the rules see the source: a room file, a test, a script", () => {
    const seen = all.map((source) => source.path);
    expect(seen).toContain("src/base/status.ts");
    expect(seen).toContain("test/tidy.test.ts");
    expect(seen).toContain("scripts/run.mjs");
    expect(COMPOSITION_ROOTS.every((file) => file.startsWith("src/appliance/"))).toBe(true);
  });
});
