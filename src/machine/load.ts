// SPDX-License-Identifier: Apache-2.0
//
// How busy the machine is.

import { availableParallelism, loadavg } from "node:os";

/** Runnable tasks per core over the last minute, in thousandths, at most 65535. */
export function loadPermille(): number {
  const load = (loadavg()[0] ?? 0) / Math.max(1, availableParallelism());
  return Math.min(65_535, Math.round(load * 1000));
}
