// SPDX-License-Identifier: Apache-2.0
//
// What hosts asked of one volume through one portal, counted: requests, bytes, and how long they
// took from the moment they were whole to their answer. Counting costs no clock of its own: times
// are those of the turns in which a request came and was answered.

import { Status } from "./status.ts";

export interface RequestCounts {
  reads: number;
  writes: number;
  /** Flushes, trims and whatever moves no payload. */
  others: number;
  /** Of all of these, those that ended with an error. */
  errors: number;
  readBytes: number;
  writeBytes: number;
  /** Sums over all requests of the kind, ms. */
  readMs: number;
  writeMs: number;
  /** Of one request of any kind, ms: what a host waited at most. */
  longestMs: number;
}

export function noCounts(): RequestCounts {
  return {
    reads: 0,
    writes: 0,
    others: 0,
    errors: 0,
    readBytes: 0,
    writeBytes: 0,
    readMs: 0,
    writeMs: 0,
    longestMs: 0,
  };
}

/** Adds what came later; the longest of both stays. */
export function addCounts(sum: RequestCounts, more: RequestCounts): void {
  sum.reads += more.reads;
  sum.writes += more.writes;
  sum.others += more.others;
  sum.errors += more.errors;
  sum.readBytes += more.readBytes;
  sum.writeBytes += more.writeBytes;
  sum.readMs += more.readMs;
  sum.writeMs += more.writeMs;
  sum.longestMs = Math.max(sum.longestMs, more.longestMs);
}

export type MeteredKind = "read" | "write" | "other";

export class RequestMeter {
  /** When the turn of the loop that runs now began, ms. */
  readonly turnMs: () => number;
  #counts = noCounts();

  constructor(turnMs: () => number) {
    this.turnMs = turnMs;
  }

  ended(kind: MeteredKind, request: { length: number; startedMs: number; status: Status }): void {
    const counts = this.#counts;
    const failed = request.status !== Status.ok;
    const tookMs = Math.max(0, this.turnMs() - request.startedMs);
    if (tookMs > counts.longestMs) counts.longestMs = tookMs;
    if (failed) counts.errors++;
    if (kind === "read") {
      counts.reads++;
      counts.readMs += tookMs;
      if (!failed) counts.readBytes += request.length;
    } else if (kind === "write") {
      counts.writes++;
      counts.writeMs += tookMs;
      if (!failed) counts.writeBytes += request.length;
    } else counts.others++;
  }

  /** What was counted since it was last taken; null: nothing. */
  take(): RequestCounts | null {
    const counts = this.#counts;
    if (counts.reads + counts.writes + counts.others === 0) return null;
    this.#counts = noCounts();
    return counts;
  }
}
