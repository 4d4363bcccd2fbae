// SPDX-License-Identifier: Apache-2.0
//
// How a process ends: told to, by whoever supervises it or sits at its terminal, or because it
// found itself wrong.

import type { Log } from "#base/world.ts";

/** Exit status of a process that found itself wrong; whoever supervises it starts it again. */
const EXIT_WRONG = 70;

/**
 * Resolves with the reason, in words, at the first such signal. `terminal`: it ends with its
 * terminal too; a daemon that somebody started at one goes on without.
 */
export function untilSignal(options: { terminal: boolean }): Promise<string> {
  return new Promise((resolve) => {
    process.once("SIGTERM", () => resolve("told to stop"));
    process.once("SIGINT", () => resolve("interrupted"));
    if (options.terminal) process.once("SIGHUP", () => resolve("its terminal is gone"));
  });
}

/**
 * Ends the process at the first thing that was thrown and not caught: our own bug. The runtime
 * itself would go on while something is awaited. Answers what ends it for a wrong found elsewhere.
 */
export function endWhenWrong(log: Log): (error: unknown) => void {
  const wrong = (error: unknown) => {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    log.write("error", "this process found itself wrong and ends", { error: text });
    process.exit(EXIT_WRONG);
  };
  process.on("uncaughtException", wrong);
  process.on("unhandledRejection", wrong);
  return wrong;
}
