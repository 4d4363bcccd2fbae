// SPDX-License-Identifier: Apache-2.0
//
// Figures in the words of people, for pages and CLI alike.

import type { RequestCounts } from "#base/request-meter.ts";
import { sizeInWords } from "./api/words.ts";
import type { IoChart } from "./io-history.ts";
import type { DriveView, UnitFigures } from "./unit-figures.ts";

/** `about 12 min`, from seconds to days; two digits are as much as an estimate says. */
export function spanInWords(ms: number): string {
  const seconds = Math.max(1, Math.round(ms / 1000));
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}

/** What is left of a copy, honestly. */
export function leftInWords(leftMs: number | null): string {
  return leftMs === null ? "not known yet" : `about ${spanInWords(leftMs)}`;
}

export function perSecond(bytes: number, ms: number): string {
  return `${sizeInWords(Math.round((bytes * 1000) / ms))}/s`;
}

/** One digit after the point below ten, none above. */
export function msInWords(ms: number): string {
  return `${ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms)} ms`;
}

/** Of one request, ms; null: there was none. */
export function meanMs(sumMs: number, count: number): number | null {
  return count === 0 ? null : sumMs / count;
}

export interface ChartWords {
  /** Of the last whole step that something was asked in. */
  nowRead: string;
  nowWrite: string;
  /** In the whole hour. */
  mostRead: string;
  mostWrite: string;
  readMs: string;
  writeMs: string;
  longestMs: string;
  requests: number;
  errors: number;
}

export function chartWords({ steps, stepMs }: IoChart): ChartWords {
  const sum = (of: (counts: RequestCounts) => number) =>
    steps.reduce((total, counts) => total + (counts === null ? 0 : of(counts)), 0);
  const most = (of: (counts: RequestCounts) => number) =>
    Math.max(0, ...steps.map((counts) => (counts === null ? 0 : of(counts))));
  // The last step is not over yet.
  const now = steps.at(-2) ?? null;
  const words = (bytes: number) => perSecond(bytes, stepMs);
  const mean = (ms: number, count: number) => (count === 0 ? "none" : msInWords(ms / count));
  return {
    nowRead: words(now?.readBytes ?? 0),
    nowWrite: words(now?.writeBytes ?? 0),
    mostRead: words(most((counts) => counts.readBytes)),
    mostWrite: words(most((counts) => counts.writeBytes)),
    readMs: mean(
      sum((counts) => counts.readMs),
      sum((counts) => counts.reads),
    ),
    writeMs: mean(
      sum((counts) => counts.writeMs),
      sum((counts) => counts.writes),
    ),
    longestMs: msInWords(most((counts) => counts.longestMs)),
    requests: sum(({ reads, writes, others }) => reads + writes + others),
    errors: sum(({ errors }) => errors),
  };
}

/** `healthy, 34 °C, 8123 h in use, 2 % worn`, or why nothing is known. */
export function smartInWords({ smart, smartMissing }: DriveView): string {
  if (smart === null) return smartMissing;
  const { passed, temperatureCelsius, powerOnHours, wearPercent, mediaErrors } = smart;
  const words = [passed ? "healthy, as it says itself" : "it says itself that it fails"];
  if (temperatureCelsius !== null) words.push(`${temperatureCelsius} °C`);
  if (powerOnHours !== null) words.push(`${powerOnHours} h in use`);
  if (wearPercent !== null) words.push(`${wearPercent} % worn`);
  if (mediaErrors !== null && mediaErrors > 0) words.push(`${mediaErrors} places given up`);
  return words.join(", ");
}

/** `Samplium 4000, S4-0001, flash`. */
export function driveInWords({ model, serial, kind }: DriveView): string {
  const words = [model, serial, kind === "unknown" ? null : kind];
  return words.filter((word) => word !== null).join(", ") || "not known";
}

/** What is worth a line about a unit, for people. */
export function figureFacts(figures: UnitFigures): [string, string][] {
  const { io, cards } = figures;
  const load = `${Math.round(figures.loadPermille / 10)} % of ${figures.cores} cores`;
  const free = sizeInWords(figures.memoryAvailableBytes);
  const out = cards.filter(({ cable }) => cable === false).map(({ name }) => name);
  const pulled = out.length === 0 ? "" : `; no cable in ${out.join(", ")}`;
  return [
    ["Load", load],
    ["Memory", `${free} free of ${sizeInWords(figures.memorySizeBytes)}`],
    ["Running for", spanInWords(figures.uptimeSeconds * 1000)],
    ["Version", `${figures.version}, kernel ${figures.kernel}`],
    ["Links", `${figures.linksUp} of ${figures.links} to other units up${pulled}`],
    ["Slices", `heads ${figures.headedSlices}`],
    ["Hosts", `${figures.connections} connections, ${figures.waitingRequests} requests waiting`],
    [
      "Last minute",
      `${perSecond(io.readBytes, 60_000)} read, ${perSecond(io.writeBytes, 60_000)} written`,
    ],
    ["Copied", `${sizeInWords(figures.resyncedBytes)} to other members since it started`],
  ];
}
