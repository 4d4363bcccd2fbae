// SPDX-License-Identifier: Apache-2.0
//
// Timers of the control thread. They never fire on a reactor's thread, which gets ticks instead.

import type { Timers } from "#base/world.ts";

export function createTimers(): Timers {
  return {
    after(delayMs, act) {
      const timer = setTimeout(act, delayMs);
      return () => clearTimeout(timer);
    },
  };
}
