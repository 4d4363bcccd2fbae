// SPDX-License-Identifier: Apache-2.0
//
// Copies or compares files, as a process of its own, because it stands still while the volume
// does: `bun copy-files.ts copy|compare LIST TARGET`. LIST holds one source path per line; each
// goes to TARGET under its own path.
//
// Every MiB is made durable before the next, so that what it reports was on the volume. It prints
// lines of JSON: progress, and at the end the longest time between two finished steps.

import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  writeSync,
} from "node:fs";
import path from "node:path";

const STEP_BYTES = 1 << 20;

/** A line of what it prints. */
export interface CopyProgress {
  bytes: number;
  files: number;
  /** Longest time between two finished steps so far. */
  gapMs: number;
  done: boolean;
  /** Of compare: the files that differ, at most ten. */
  different?: string[];
}

let bytes = 0;
let files = 0;
let gapMs = 0;
let lastMs = performance.now();

function stepDone(): void {
  const now = performance.now();
  gapMs = Math.max(gapMs, now - lastMs);
  lastMs = now;
}

function tell(more: Partial<CopyProgress> = {}): void {
  const line: CopyProgress = { bytes, files, gapMs, done: false, ...more };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function copy(sources: readonly string[], target: string): void {
  const buffer = Buffer.alloc(STEP_BYTES);
  let unsynced = 0;
  for (const source of sources) {
    const to = path.join(target, source);
    mkdirSync(path.dirname(to), { recursive: true });
    const input = openSync(source, "r");
    const output = openSync(to, "w");
    for (let at = 0; ;) {
      const length = readSync(input, buffer, 0, buffer.length, at);
      if (length === 0) break;
      let written = 0;
      while (written < length) {
        written += writeSync(output, buffer, written, length - written, at + written);
      }
      at += length;
      bytes += length;
      unsynced += length;
      if (unsynced < STEP_BYTES) continue;
      fsyncSync(output);
      unsynced = 0;
      stepDone();
      tell();
    }
    closeSync(input);
    closeSync(output);
    files++;
  }
  stepDone();
  tell({ done: true });
}

function compare(sources: readonly string[], target: string): void {
  const different: string[] = [];
  for (const source of sources) {
    const wanted = readFileSync(source);
    if (!wanted.equals(readFileSync(path.join(target, source)))) different.push(source);
    bytes += wanted.length;
    files++;
    stepDone();
    if (files % 100 === 0) tell();
  }
  tell({ done: true, different: different.slice(0, 10) });
  if (different.length > 0) process.exitCode = 1;
}

if (import.meta.main) {
  const [act, list = "", target = ""] = process.argv.slice(2);
  const sources = readFileSync(list, "utf8").trimEnd().split("\n");
  if (act === "copy") copy(sources, target);
  else compare(sources, target);
}
