// SPDX-License-Identifier: Apache-2.0
//
// Runs a program to its end, within a time, and fails with its output.

import { existsSync } from "node:fs";
import path from "node:path";

const TIME_MS_DEFAULT = 60_000;

export interface Result {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** The path of a program that must be there. */
export function program(name: string): string {
  const found = Bun.which(name);
  if (found === null) throw new Error(`${name} is not installed: npm run setup installs it`);
  return found;
}

/**
 * One of qemu's programs, new enough to speak NBD's extended headers: the machine's own, or the one
 * that `npm run setup` fetched.
 */
export function newerQemu(name: string): string {
  const own = path.join(import.meta.dir, "../../.cache/qemu/usr/bin", name);
  return existsSync(own) ? own : program(name);
}

/** Runs it whatever it answers; a program that does not end in time fails. */
export async function outcome(
  name: string,
  args: string[],
  options: { timeMs?: number; input?: string } = {},
): Promise<Result> {
  const child = Bun.spawn([program(name), ...args], {
    stdin: options.input === undefined ? "ignore" : new Blob([options.input]),
    stdout: "pipe",
    stderr: "pipe",
    timeout: options.timeMs ?? TIME_MS_DEFAULT,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (child.signalCode === "SIGKILL") throw new Error(`${name} did not end: ${stdout}${stderr}`);
  return { exitCode, stdout, stderr };
}

/** Runs it; anything but exit status 0 fails. */
export async function run(name: string, args: string[], timeMs?: number): Promise<string> {
  const result = await outcome(name, args, timeMs === undefined ? {} : { timeMs });
  if (result.exitCode !== 0) {
    const said = `${result.stdout}${result.stderr}`.trim();
    throw new Error(`${name} ${args.join(" ")}: exit status ${result.exitCode}\n${said}`);
  }
  return result.stdout;
}
