// SPDX-License-Identifier: Apache-2.0
//
// Makes dist/cairn, the one executable: the daemon, its Workers, the CLI, etcd inside.
//
// Workers must be entry points of the compilation, or the executable does not find them; they are
// listed here and nowhere else. The build is skipped while the hash of all its inputs is the one
// written beside the executable.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from "node:fs";
import { statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { CACHE, ROOT, StepFailed, mustRun, say } from "./steps.mjs";

const MAIN = "src/appliance/main.ts";
const WORKERS = ["reactor-main", "tls-main", "writer-main"].map(
  (name) => `src/appliance/${name}.ts`,
);

const DIST = path.join(ROOT, "dist");
export const EXECUTABLE = path.join(DIST, "cairn");
const INPUTS_MARK = path.join(DIST, "cairn.inputs");

function filesBelow(folder) {
  const found = [];
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const full = path.join(folder, entry.name);
    if (entry.isDirectory()) found.push(...filesBelow(full));
    else if (entry.isFile() && !/\.test\.tsx?$/.test(entry.name)) found.push(full);
  }
  return found.sort();
}

function inputsHash() {
  const hash = createHash("sha256");
  const files = [
    ...filesBelow(path.join(ROOT, "src")),
    path.join(ROOT, "package.json"),
    path.join(ROOT, "package-lock.json"),
    path.join(ROOT, "tsconfig.json"),
    path.join(ROOT, "scripts", "build.mjs"),
    path.join(CACHE, "etcd", "etcd.zst"),
  ];
  for (const file of files) {
    hash.update(`${path.relative(ROOT, file)}\n`);
    hash.update(createHash("sha256").update(readFileSync(file)).digest());
  }
  return hash.digest("hex");
}

export async function buildExecutable(bun) {
  for (const entry of [MAIN, ...WORKERS]) {
    if (!existsSync(path.join(ROOT, entry))) throw new StepFailed(`build: ${entry} does not exist`);
  }
  const inputs = inputsHash();
  const built = existsSync(EXECUTABLE) && existsSync(INPUTS_MARK);
  if (built && readFileSync(INPUTS_MARK, "utf8").trim() === inputs) return;
  const start = Date.now();
  say("build: compiling dist/cairn");
  mkdirSync(DIST, { recursive: true });
  rmSync(INPUTS_MARK, { force: true });
  const fresh = path.join(DIST, "cairn.new");
  // Bytecode: half the start's processor time, and 6 MB less heap of a unit than from source. With
  // await at the top level it needs the format to be named.
  const flags = ["--compile", "--bytecode", "--format=esm"];
  flags.push("--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig");
  await mustRun("bun build", bun, ["build", ...flags, MAIN, ...WORKERS, "--outfile", fresh]);
  renameSync(fresh, EXECUTABLE);
  writeFileSync(INPUTS_MARK, `${inputs}\n`);
  for (const name of readdirSync(ROOT).filter((entry) => entry.endsWith(".bun-build"))) {
    rmSync(path.join(ROOT, name), { force: true }); // left by a compilation that was interrupted
  }
  const megabytes = Math.round(statSync(EXECUTABLE).size / 1e6);
  say(`build: dist/cairn, ${megabytes} MB (${((Date.now() - start) / 1000).toFixed(1)} s)`);
}
