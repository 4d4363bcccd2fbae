// SPDX-License-Identifier: Apache-2.0
//
// A copy to or from a volume of a booted box, by nbdcopy. It has a limit: a client has none of its
// own, and one whose unit is silent would wait for ever.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";

/** Of one copy, ms; a starved box takes half of it. */
const COPY_MS = 3 * 60_000;

/** Rejects with what nbdcopy said, or with what was there to be seen when the time was over. */
export async function copyOnce(from: string, to: string): Promise<void> {
  // An emulated box is slow: with the many requests that nbdcopy has under way at once, each of
  // them would take long.
  const window = ["--connections=1", "--requests=4"];
  const words = ["--flush", ...window, from, to];
  const child = spawn("nbdcopy", words, { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      said += String(chunk);
    });
  }
  const tooLong = Promise.withResolvers<never>();
  const limit = setTimeout(() => {
    const state = existsSync(`/proc/${child.pid}`) ? connectionsOf(to, from) : "it is gone";
    const how = `not done after ${COPY_MS / 1000} s, ended by us (${state})`;
    tooLong.reject(new Error(`nbdcopy ${from} ${to}: ${how}: ${said}`));
    child.kill("SIGKILL");
  }, COPY_MS);
  const exit = once(child, "exit") as Promise<[number | null]>;
  const [status] = await Promise.race([exit, tooLong.promise]);
  clearTimeout(limit);
  if (status !== 0) throw new Error(`nbdcopy ${from} ${to}: status ${status}: ${said}`);
}

/** What this machine's kernel knows of connections to the unit that is named in one of them. */
function connectionsOf(...names: string[]): string {
  const uri = names.find((name) => name.startsWith("nbd://")) ?? "";
  return spawnSync("ss", ["-tino", "dst", new URL(uri).hostname], { encoding: "utf8" }).stdout;
}
