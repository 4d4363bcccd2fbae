// SPDX-License-Identifier: Apache-2.0
//
// Child processes and progress for the other scripts: plain Node, no dependency, because it runs
// before anything is installed.
//
// Rules it keeps: every child has a process group of its own and a time limit; a signal to us ends
// the group, first politely, so that what a test made can be removed; a child that fails is shown
// with its command and its last lines.

import { spawn } from "node:child_process";
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
export const CACHE = path.join(ROOT, ".cache");

const LAST_LINES_MAX = 60;
const POLITE_END_MS = 30_000;
const LOCK_POLL_MS = 500;

// Exit statuses of the scripts themselves; a task of its own may add others.
export const EXIT = { failed: 1, usage: 2, missing: 3, interrupted: 130 };

/** What is missing or went wrong, in words for the person at the terminal. */
export class StepFailed extends Error {
  constructor(message, options = {}) {
    super(message);
    this.exitStatus = options.exitStatus ?? EXIT.failed;
  }
}

export function say(text) {
  process.stdout.write(`${text}\n`);
}

// A reader that went away (`| head`) must not keep us from ending our children in order.
process.stdout.on("error", (error) => {
  if (error.code !== "EPIPE") throw error;
});

// Debian keeps system tools in sbin, which a plain user's PATH lacks.
const searchPath = [
  path.join(CACHE, "bin"),
  path.join(ROOT, "node_modules", ".bin"),
  ...(process.env.PATH ?? "").split(":"),
  "/usr/local/sbin",
  "/usr/sbin",
  "/sbin",
];
process.env.PATH = [...new Set(searchPath)].join(":");

/** Full path of a program, or null. */
export function which(program) {
  for (const folder of process.env.PATH.split(":")) {
    const candidate = path.join(folder, program);
    if (existsSync(candidate)) return candidate;
  }
  return null;
}

const running = new Set();
let endSignal = null;

function endGroup(child, signal) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, signal);
  } catch (error) {
    if (error.code !== "ESRCH") throw error; // gone already is what we wanted
  }
}

function onSignal(signal) {
  const again = endSignal !== null;
  endSignal = signal;
  if (running.size === 0) process.exit(EXIT.interrupted);
  // npm and the terminal may both deliver the same Ctrl-C: the second one changes nothing, the
  // child is ended hard only when its time to clean up is over.
  if (again) return;
  for (const child of running) endGroup(child, "SIGTERM");
  setTimeout(() => {
    for (const child of running) endGroup(child, "SIGKILL");
  }, POLITE_END_MS);
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => onSignal(signal));

/**
 * Runs a child to its end and resolves with `{ status, output }`; never throws for a bad status.
 * `show` passes its output on while it runs; `limitMinutes` ends it.
 */
export function runChild(command, args, options = {}) {
  const { show = false, limitMinutes = 20, env = {}, cwd = ROOT } = options;
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    running.add(child);
    const lines = [];
    let open = "";
    const take = (chunk) => {
      if (show) process.stdout.write(chunk);
      const parts = (open + chunk).split("\n");
      open = parts.pop() ?? "";
      lines.push(...parts);
      if (lines.length > LAST_LINES_MAX) lines.splice(0, lines.length - LAST_LINES_MAX);
    };
    child.stdout.setEncoding("utf8").on("data", take);
    child.stderr.setEncoding("utf8").on("data", take);
    let late = false;
    const limit = setTimeout(() => {
      late = true;
      endGroup(child, "SIGTERM");
      setTimeout(() => endGroup(child, "SIGKILL"), POLITE_END_MS).unref();
    }, limitMinutes * 60_000);
    const finish = (status, reason) => {
      clearTimeout(limit);
      running.delete(child);
      if (open !== "") lines.push(open);
      if (late) lines.push(`(ended by us: longer than ${limitMinutes} minutes)`);
      if (reason) lines.push(reason);
      if (endSignal !== null) process.exit(EXIT.interrupted);
      resolve({ status: late && status === 0 ? EXIT.failed : status, output: lines.join("\n") });
    };
    child.on("error", (error) => finish(EXIT.failed, error.message));
    child.on("close", (code, signal) =>
      finish(code ?? EXIT.failed, signal === null ? "" : `(ended by ${signal})`),
    );
  });
}

/** Like `runChild`, but a bad status is a StepFailed that shows the last lines. */
export async function mustRun(what, command, args, options = {}) {
  const result = await runChild(command, args, options);
  if (result.status === 0) return result.output;
  const shown = options.show ? "" : `\n${indent(result.output)}`;
  throw new StepFailed(
    `${what} failed with status ${result.status}: ${[command, ...args].join(" ")}${shown}`,
  );
}

/**
 * Hands the terminal to a task of ours (the demo, the simulator): same process group, so Ctrl-C
 * reaches it directly, and it cleans up by itself. Resolves with its exit status.
 */
export function runInForeground(command, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      env: { ...process.env, ...options.env },
      stdio: "inherit",
    });
    // The terminal tells the child as well; for a signal sent to us alone we pass it on.
    const pass = (signal) => child.kill(signal);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
      process.removeAllListeners(signal);
      process.on(signal, () => pass(signal));
    }
    child.on("error", (error) => {
      say(error.message);
      resolve(EXIT.failed);
    });
    child.on("exit", (code, signal) => {
      if (code !== null) resolve(code);
      else resolve(signal === "SIGINT" ? EXIT.interrupted : EXIT.failed);
    });
  });
}

export function indent(text) {
  return text
    .split("\n")
    .map((line) => `    ${line}`)
    .join("\n");
}

export function wait(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// The lock appears with its content by one link(), so a reader never sees it half written.
function tryLock(file) {
  const mine = `${file}.${process.pid}`;
  writeFileSync(mine, `${process.pid}\n`);
  try {
    linkSync(mine, file);
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    return false;
  } finally {
    rmSync(mine, { force: true });
  }
}

function holderAlive(file) {
  if (!existsSync(file)) return false;
  const pid = Number.parseInt(readFileSync(file, "utf8"), 10);
  return existsSync(`/proc/${pid}`);
}

/**
 * One set-up at a time per tree. The lock names its holder's process, so that one left behind by
 * a killed run is taken over.
 */
export async function withLock(name, task) {
  mkdirSync(CACHE, { recursive: true });
  const file = path.join(CACHE, `${name}.lock`);
  let told = false;
  while (!tryLock(file)) {
    if (!holderAlive(file)) {
      rmSync(file, { force: true });
      continue;
    }
    if (!told) say(`${name}: another run holds the lock, waiting for it`);
    told = true;
    await wait(LOCK_POLL_MS);
  }
  const release = () => rmSync(file, { force: true });
  process.once("exit", release);
  try {
    return await task();
  } finally {
    release();
    process.removeListener("exit", release);
  }
}
