// SPDX-License-Identifier: Apache-2.0
//
// The log: one line of JSON per sentence on standard error, written at once, so that it works on
// every thread and the last words of a dying process are there. A reader that does not keep up
// loses lines; how many is said in the next one.

import { writeSync } from "node:fs";
import type { Log, LogLevel } from "#base/world.ts";

const STANDARD_ERROR = 2;
const LINE_CHARACTERS_MAX = 8192;
const order: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };

export type LogWrite = Log["write"];

/** Writes to standard error what is at least as grave as `least`. */
export function createLog(options: { least?: LogLevel; descriptor?: number } = {}): Log {
  const least = order[options.least ?? "info"];
  const descriptor = options.descriptor ?? STANDARD_ERROR;
  let lost = 0;
  return {
    write(level, sentence, facts) {
      if (order[level] < least) return;
      const line = logLine(level, sentence, lost === 0 ? facts : { ...facts, linesLost: lost });
      if (writeLine(descriptor, line)) lost = 0;
      else lost++;
    },
  };
}

/** A line as it is printed. Errors among the facts are shown by name, message and cause. */
export function logLine(
  level: LogLevel,
  sentence: string,
  facts?: Record<string, unknown>,
): string {
  const time = new Date().toISOString();
  let text: string;
  try {
    text = JSON.stringify({ time, level, sentence, ...facts }, plain);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : "unknown";
    text = JSON.stringify({ time, level, sentence, factsUnprintable: why });
  }
  if (text.length > LINE_CHARACTERS_MAX) {
    const shown = sentence.slice(0, LINE_CHARACTERS_MAX / 4);
    text = JSON.stringify({ time, level, sentence: shown, factsCharacters: text.length });
  }
  return `${text}\n`;
}

function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  if (!(value instanceof Error)) return value;
  const { name, message, cause, stack } = value;
  return { name, message, ...(cause === undefined ? {} : { cause }), stack };
}

function writeLine(descriptor: number, line: string): boolean {
  try {
    writeSync(descriptor, line);
    return true;
  } catch {
    return false; // a full pipe, or nobody reads any more: the log must not stop the unit
  }
}
