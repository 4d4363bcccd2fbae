// SPDX-License-Identifier: Apache-2.0
//
// Patience with what a killed predecessor of ours still holds. The kernel takes a dead process's
// ring apart in the background, so for some tens of milliseconds its locks, its exclusive disks and
// its ports are still taken (measured: 10 to 30 ms). Only at starts; blocks the calling thread.

import { createClock } from "./clock.ts";

/** Well below what counts as a silent reactor. */
const PATIENCE_MS = 400;
const STEP_MS = 5;
const never = new Int32Array(new SharedArrayBuffer(4));

/** Tries until `attempt` answers something else than "busy", or patience ends. */
export function patiently<T>(attempt: () => T, isBusy: (answer: T) => boolean): T {
  let answer = attempt();
  if (!isBusy(answer)) return answer;
  const clock = createClock();
  const endMs = clock.nowMs() + PATIENCE_MS;
  while (isBusy(answer) && clock.nowMs() < endMs) {
    Atomics.wait(never, 0, 0, STEP_MS);
    answer = attempt();
  }
  return answer;
}
