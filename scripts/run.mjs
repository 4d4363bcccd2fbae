// SPDX-License-Identifier: Apache-2.0
//
// The front door of the tree: `npm test`, `npm start` and `npm run
// sim|bench|build|image|check|format` come here. Each task first brings the machine to what it
// needs (scripts/setup.mjs), so that a fresh Debian with Node and npm is enough.

import { existsSync } from "node:fs";
import path from "node:path";
import { EXECUTABLE, buildExecutable } from "./build.mjs";
import { buildImage } from "./image.mjs";
import { PARTS, runParts } from "./parts.mjs";
import { setUp } from "./setup.mjs";
import { EXIT, ROOT, StepFailed, mustRun, runInForeground, say, withLock } from "./steps.mjs";
import { wrapFiles } from "./wrap.mjs";

function script(entry) {
  return (bun, args) => {
    if (!existsSync(path.join(ROOT, entry))) throw new StepFailed(`${entry} does not exist`);
    return runInForeground(bun, [entry, ...args], { env: { CAIRN_EXECUTABLE: EXECUTABLE } });
  };
}

async function format(bun, args) {
  const paths = args.length > 0 ? args : ["src", "test", "types", "scripts"];
  for (const name of wrapFiles(paths)) say(`wrapped comments: ${name}`);
  await mustRun("bun fmt", bun, ["fmt", "--no-script", ...paths], { show: true });
  return 0;
}

// What each task needs of the machine, and what it does with the arguments after `--`.
const TASKS = {
  setup: { programs: "machine", etcd: true, run: () => 0 },
  check: {
    programs: "machine",
    etcd: true,
    run: (bun, args) => runParts(PARTS.check, bun, args),
  },
  format: { programs: "none", run: format },
  sim: { programs: "none", run: script("test/sim/main.ts") },
  build: { programs: "build", etcd: true, build: true, run: () => 0 },
  image: {
    programs: "image",
    etcd: true,
    build: true,
    root: "mkosi mounts and makes file systems as root",
    run: buildImage,
  },
  bench: {
    programs: "bench",
    etcd: true,
    build: true,
    root: "it makes network namespaces",
    run: script("test/bench/main.ts"),
  },
  start: {
    programs: "machine",
    etcd: true,
    build: true,
    root: "it makes network namespaces, loop devices and a mount",
    run: script("test/demo/main.ts"),
  },
  test: {
    programs: "test",
    etcd: true,
    root: "it makes network namespaces, loop devices and mounts",
    run: (bun, args) => runParts(PARTS.test, bun, args),
  },
};

async function main() {
  const [name, ...args] = process.argv.slice(2);
  const task = Object.hasOwn(TASKS, name ?? "") ? TASKS[name] : null;
  if (task === null) {
    throw new StepFailed(
      `usage: node scripts/run.mjs ${Object.keys(TASKS).join("|")} [arguments]`,
      {
        exitStatus: EXIT.usage,
      },
    );
  }
  if (process.platform !== "linux") {
    throw new StepFailed("Cairn is built and run on Linux", { exitStatus: EXIT.missing });
  }
  if (task.root && process.getuid() !== 0) {
    throw new StepFailed(`npm run ${name} needs root: ${task.root}`, { exitStatus: EXIT.missing });
  }
  const bun = await withLock("setup", async () => {
    const found = await setUp({ programs: task.programs, etcd: task.etcd === true });
    if (task.build) await buildExecutable(found);
    return found;
  });
  return task.run(bun, args);
}

main().then(
  (status) => process.exit(status),
  (error) => {
    if (!(error instanceof StepFailed)) throw error;
    say(`\n${error.message}`);
    process.exit(error.exitStatus);
  },
);
