// SPDX-License-Identifier: Apache-2.0
//
// Sees to it that a box asks those time servers that the cluster's setting names. What a unit on
// somebody's machine is told of them it passes over: that machine's clock is its own.

import { Fault } from "#base/fault.ts";
import type { Log, Timers } from "#base/world.ts";
import { parseTimeServers } from "#cluster/time-servers.ts";

const LOOK_MS = 5000;

export interface TimeServerParts {
  log: Log;
  timers: Timers;
  box: {
    readonly isAppliance: boolean;
    /** Does nothing where just these are asked already. */
    setTimeServers(servers: readonly string[]): Promise<void>;
  };
  /** As the setting has it; undefined: not known yet, and nothing is changed. */
  wanted(): string | null | undefined;
}

/** Ends when it is called. */
export function startTimeServers({ log, timers, box, wanted }: TimeServerParts): () => void {
  if (!box.isAppliance) return () => undefined;
  let done: string | null | undefined;
  let cancel: () => void = () => undefined;
  let isOver = false;
  const look = async () => {
    const now = wanted();
    if (now !== undefined && now !== done) {
      try {
        await box.setTimeServers(now === null ? [] : (parseTimeServers(now) ?? []));
        done = now;
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        log.write("warn", "the time servers cannot be set", { reason: error.message });
      }
    }
    if (!isOver) cancel = timers.after(LOOK_MS, () => void look());
  };
  void look();
  return () => {
    isOver = true;
    cancel();
  };
}
