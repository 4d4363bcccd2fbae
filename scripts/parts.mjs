// SPDX-License-Identifier: Apache-2.0
//
// What `npm test` and `npm run check` run, as a list of named parts in order.
//
// A part counts its passed and failed tests; a part without files, one that crashes, and one that
// takes too long count as a failure, so that nothing can vanish unseen. The last line is
// `N passed, N failed` over all parts.

import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { buildExecutable } from "./build.mjs";
import { fetchGuest } from "./guest.mjs";
import { buildImage } from "./image.mjs";
import { PROGRAMS, installPrograms } from "./setup.mjs";
import { CACHE, EXIT, ROOT, StepFailed, indent, runChild, say } from "./steps.mjs";

const SIMULATED_SEEDS = 300;
const FORMATTED = [
  "src",
  "test",
  "types",
  "scripts",
  "package.json",
  "tsconfig.json",
  "biome.json",
];

// Tests against the real executable run last, one folder at a time.
const LATE_FOLDERS = ["test/conform", "test/cluster", "test/console", "test/host", "test/image"];

function testFilesBelow(folder) {
  const full = path.join(ROOT, folder);
  if (!existsSync(full)) return [];
  const found = [];
  for (const entry of readdirSync(full, { withFileTypes: true })) {
    const name = `${folder}/${entry.name}`;
    if (LATE_FOLDERS.includes(name)) continue;
    if (entry.isDirectory()) found.push(...testFilesBelow(name));
    else if (/\.test\.tsx?$/.test(entry.name)) found.push(name);
  }
  return found.sort();
}

/** One command, one test: its exit status decides. */
function command(name, limitMinutes, args, options = {}) {
  return {
    name,
    async run(bun) {
      const [program, ...rest] = args;
      const result = await runChild(program === "bun" ? bun : program, rest, {
        limitMinutes,
        ...options,
      });
      if (result.status === 0) return { passed: 1, failed: 0 };
      if (!options.show) say(indent(result.output));
      return { passed: 0, failed: 1 };
    },
  };
}

function countsOf(report) {
  if (!existsSync(report)) return null;
  const head = /<testsuites [^>]*>/.exec(readFileSync(report, "utf8"))?.[0];
  if (head === undefined) return null;
  const count = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(head)?.[1] ?? 0);
  const failed = count("failures") + count("errors");
  const skipped = count("skipped");
  return { passed: count("tests") - failed - skipped, failed, skipped };
}

/** Test files under `bun test`, counted from its JUnit report. */
function tests(name, limitMinutes, files, flags = []) {
  return {
    name,
    async run(bun) {
      const found = files();
      if (found.length === 0) {
        say("    no test files");
        return { passed: 0, failed: 1 };
      }
      mkdirSync(CACHE, { recursive: true });
      const report = path.join(CACHE, `${name}.${process.pid}.xml`);
      const reporter = ["--only-failures", "--reporter=junit", `--reporter-outfile=${report}`];
      const args = ["test", ...flags, ...reporter, ...found.map((file) => `./${file}`)];
      const result = await runChild(bun, args, { limitMinutes, show: true });
      const counts = countsOf(report) ?? { passed: 0, failed: 0, skipped: 0 };
      rmSync(report, { force: true });
      // A crash, or an error between tests, fails the run without a failed test.
      if (result.status !== 0 && counts.failed === 0) counts.failed = 1;
      return counts;
    },
  };
}

const build = {
  name: "build",
  async run(bun) {
    await buildExecutable(bun);
    return { passed: 1, failed: 0 };
  },
};

const simulation = {
  name: "simulation",
  async run(bun) {
    const entry = "test/sim/main.ts";
    if (!existsSync(path.join(ROOT, entry))) throw new StepFailed(`${entry} does not exist`);
    const seeds = ["--seeds", String(SIMULATED_SEEDS), "--first", "1"];
    return command("simulation", 10, ["bun", entry, ...seeds], { show: true }).run(bun);
  },
};

/**
 * The image is built (or taken from where CAIRN_IMAGE_DIRECTORY says), and booted in QEMU. Two
 * files at once: an emulated box is busy with one processor most of the time. Bun cuts the sorted
 * list in two and begins both halves: the two longest stories should be first there.
 */
const image = {
  name: "image",
  async run(bun) {
    if (process.env.CAIRN_IMAGE_DIRECTORY === undefined) {
      await buildExecutable(bun);
      await buildImage(bun, []);
    }
    // Each wait of these tests has a limit of its own, for a machine that emulates slowly; all of
    // them take 20 minutes where two processors do nothing else.
    const flags = ["--timeout=3600000", "--parallel=2"];
    const booted = tests("image", 45, () => testFilesBelow("test/image"), flags);
    const counts = await booted.run(bun);
    return { ...counts, passed: counts.passed + 1 };
  },
};

/**
 * A host in QEMU, with Debian's kernel, attaches volumes of units on this machine. Runs only when
 * it is named (`npm test -- host`), after `npm run image`: it fetches a kernel, and takes minutes.
 */
const host = {
  name: "host",
  onlyByName: true,
  async run(bun) {
    await buildExecutable(bun);
    await installPrograms(PROGRAMS.host);
    await fetchGuest();
    const flags = ["--timeout=590000"];
    return tests("host", 15, () => testFilesBelow("test/host"), flags).run(bun);
  },
};

const INNER = [
  command("format", 2, ["bun", "fmt", "--no-script", "--check", ...FORMATTED]),
  command("lint", 2, ["biome", "lint", "--colors=off", "--error-on-warnings"]),
  command("types", 5, ["bun", "check", "--no-script", "--no-pretty"]),
  tests("unit", 20, () => [...testFilesBelow("src"), ...testFilesBelow("test")], [
    "--timeout=30000",
  ]),
];

export const PARTS = {
  check: INNER,
  test: [
    ...INNER,
    build,
    simulation,
    tests("conform", 15, () => testFilesBelow("test/conform"), ["--timeout=120000"]),
    tests("console", 10, () => testFilesBelow("test/console"), ["--timeout=180000"]),
    // Real units mostly wait: three files at once, each in a network of its own.
    tests("cluster", 20, () => testFilesBelow("test/cluster"), [
      "--timeout=300000",
      "--parallel=3",
    ]),
    image,
    host,
  ],
};

async function runPart(part, bun) {
  try {
    return await part.run(bun);
  } catch (error) {
    if (!(error instanceof StepFailed)) throw error;
    say(indent(error.message));
    return { passed: 0, failed: 1 };
  }
}

/** Runs the parts in order (only the named ones, if any are named) and returns the exit status. */
export async function runParts(parts, bun, only) {
  const unknown = only.filter((name) => !parts.some((part) => part.name === name));
  if (unknown.length > 0) {
    const names = parts.map((part) => part.name).join(" ");
    throw new StepFailed(`no part named ${unknown.join(", ")}; there are: ${names}`, {
      exitStatus: EXIT.usage,
    });
  }
  const rows = [];
  let passed = 0;
  let failed = 0;
  for (const part of parts) {
    if (only.length > 0 ? !only.includes(part.name) : part.onlyByName) continue;
    say(`== ${part.name}`);
    const start = Date.now();
    const counts = await runPart(part, bun);
    passed += counts.passed;
    failed += counts.failed;
    const minutes = ((Date.now() - start) / 60_000).toFixed(2);
    const skipped = counts.skipped ? `, ${counts.skipped} skipped` : "";
    const row = `${part.name.padEnd(12)} ${counts.passed} ok, ${counts.failed} bad${skipped}`;
    rows.push(`${row.padEnd(44)} ${minutes} min`);
  }
  say(`\n${rows.join("\n")}\n`);
  say(`${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0 ? 0 : EXIT.failed;
}
