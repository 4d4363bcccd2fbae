// SPDX-License-Identifier: Apache-2.0
//
// The real World, per thread: the control thread logs by itself, a reactor hands its sentences
// over.

import type { Clock, Log, LogLevel, World } from "#base/world.ts";
import { createClock } from "./clock.ts";
import { type LogWrite, createLog } from "./log.ts";
import { createRandom } from "./random.ts";
import { createSeal } from "./seal.ts";

/** The control thread's World, or that of a command. */
export function createMainWorld(options: { logLeast?: LogLevel; log?: Log } = {}): World {
  const log = options.log ?? createLog({ least: options.logLeast ?? "info" });
  return { clock: createClock(), random: createRandom(), seal: createSeal(), log };
}

/** A reactor's World: its own clock, its log by `write`. */
export function createReactorWorld(clock: Clock, write: LogWrite): World {
  return { clock, random: createRandom(), seal: createSeal(), log: { write } };
}
