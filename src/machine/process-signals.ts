// SPDX-License-Identifier: Apache-2.0
//
// Being told to end, by whoever supervises this process or sits at its terminal.

/** Resolves with the reason, in words, at the first such signal. */
export function untilSignal(): Promise<string> {
  return new Promise((resolve) => {
    process.once("SIGTERM", () => resolve("told to stop"));
    process.once("SIGINT", () => resolve("interrupted"));
    process.once("SIGHUP", () => resolve("its terminal is gone"));
  });
}
