// SPDX-License-Identifier: Apache-2.0
//
// Why the daemon is not there, in one sentence, from how its process ended and what it said last.
// Pure.

import type { ServiceEnd } from "#machine/journal.ts";
import { logLineInWords } from "#appliance/screen/log-lines.ts";

const SAID_CHARACTERS_MAX = 300;

export interface RecoveryCause {
  /** Null: systemd could not be asked. */
  end: ServiceEnd | null;
  /** Newest last. */
  logLines: readonly string[];
  /** Why this box has no state; null: it has. */
  stateProblem: string | null;
}

export function recoveryReason({ end, logLines, stateProblem }: RecoveryCause): string {
  if (stateProblem !== null) return `Cairn was not started: ${sentence(stateProblem)}`;
  if (end === null || end.how === "") return "Cairn does not run.";
  const times = end.restarts === 0 ? "" : ` ${end.restarts + 1} times in a row`;
  const last = end.restarts === 0 ? "" : ", the last time";
  const said = lastWords(logLines);
  const words = said === null ? "" : ` It said: ${sentence(said)}`;
  return `Cairn ended${times}${last} ${endInWords(end)}.${words}`;
}

function endInWords({ result, how, status }: ServiceEnd): string {
  if (result === "watchdog") return "by the watchdog, because it hung";
  if (result === "oom-kill") return "because this box ran out of memory";
  if (result === "timeout") return "because it did not start in time";
  if (how === "killed" || how === "dumped") return `by signal ${status}`;
  const meaning = MEANINGS[status];
  return `with exit status ${status}${meaning === undefined ? "" : ` (${meaning})`}`;
}

/** src/appliance/cli/exit-codes.ts, and EXIT_WRONG of run-unit.ts. */
const MEANINGS: Readonly<Record<number, string>> = {
  2: "its configuration is wrong",
  3: "this box lacks something it needs",
  70: "it found itself wrong",
};

/** The last line that tells of a failure. */
function lastWords(lines: readonly string[]): string | null {
  for (const line of [...lines].reverse()) {
    if (line.startsWith("cairn: ")) return clipped(line.slice("cairn: ".length));
    if (!line.startsWith("{")) continue;
    const words = logLineInWords(line).replace(/^\d\d:\d\d:\d\d /, "");
    if (words.startsWith("error: ")) return clipped(words.slice("error: ".length));
  }
  return null;
}

function clipped(text: string): string {
  return text.length <= SAID_CHARACTERS_MAX ? text : `${text.slice(0, SAID_CHARACTERS_MAX)}...`;
}

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
