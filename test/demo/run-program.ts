// SPDX-License-Identifier: Apache-2.0
//
// Runs a program for a lab, within a time. It never blocks this process, because what it touches
// may stand still while a unit is away; what is still running when the lab ends is killed with it.

import type { Lab } from "#test/cluster/lab.ts";

const OUTPUT_CHARACTERS_MAX = 1 << 20;

export interface Ran {
  status: number | null;
  output: string;
}

/** Runs it whatever it answers; one that takes too long is killed and fails. */
export async function outcome(
  lab: Lab,
  words: readonly [string, ...string[]],
  limitMs: number,
): Promise<Ran> {
  const [command, ...rest] = words;
  const child = lab.spawn(command, command, rest);
  let output = "";
  const take = (chunk: Buffer): void => {
    if (output.length < OUTPUT_CHARACTERS_MAX) output += chunk.toString("utf8");
  };
  child.stdout?.on("data", take);
  child.stderr?.on("data", take);
  return await new Promise<Ran>((done, failed) => {
    const limit = setTimeout(() => {
      child.kill("SIGKILL");
      failed(new Error(`${words.join(" ")}: not done within ${limitMs / 1000} s\n${output}`));
    }, limitMs);
    child.on("error", (error) => {
      clearTimeout(limit);
      failed(error);
    });
    child.on("close", (status) => {
      clearTimeout(limit);
      done({ status, output });
    });
  });
}

/** Runs it; anything but status 0 fails with what it said. */
export async function run(
  lab: Lab,
  words: readonly [string, ...string[]],
  limitMs: number,
): Promise<string> {
  const { status, output } = await outcome(lab, words, limitMs);
  if (status === 0) return output;
  throw new Error(`${words.join(" ")}: exit status ${status}\n${output.trim()}`);
}
