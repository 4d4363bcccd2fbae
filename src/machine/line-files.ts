// SPDX-License-Identifier: Apache-2.0
//
// A few files of lines in the state directory that are only added to: what a daemon notes down as
// it goes, to be read after its end. No fsync: what was written outlives the process, not a power
// cut.
//
// Invariants
// - At most `filesMax` files of at most `bytesMax` bytes: the oldest goes when another begins.
// - A line is there whole or not at all: one that is torn at a file's end is not read.
// - A failure to write ends the writing and is answered, never thrown: nobody waits for these
//   lines.

import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { assert } from "#base/assert.ts";
import type { StateDirectory } from "./state-directory.ts";

const FILE_MODE = 0o600;
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_APPEND;

export interface LineFilesOptions {
  filesMax: number;
  /** Of one file. */
  bytesMax: number;
}

export class LineFiles {
  readonly #state: Pick<StateDirectory, "pathOf">;
  readonly #name: string;
  readonly #options: LineFilesOptions;
  #descriptor: number | null = null;
  #bytes = 0;

  /** Files are `name.0`, the newest, to `name.<filesMax - 1>`. */
  constructor(state: Pick<StateDirectory, "pathOf">, name: string, options: LineFilesOptions) {
    assert(options.filesMax >= 1 && options.bytesMax >= 1, "there is room for a line");
    this.#state = state;
    this.#name = name;
    this.#options = options;
  }

  /** Begins a file with this line; false: it does not fit, or cannot be written. */
  begin(line: string): boolean {
    this.close();
    try {
      for (let age = this.#options.filesMax - 1; age > 0; age--) this.#moveTo(age);
      this.#descriptor = openSync(this.#pathOf(0), NEW_FILE, FILE_MODE);
    } catch (cause) {
      return failed(cause);
    }
    this.#bytes = 0;
    return this.append(line);
  }

  /** False: no file was begun, it has no room for that, or it cannot be written. */
  append(line: string): boolean {
    assert(!line.includes("\n"), "a line is one line");
    if (this.#descriptor === null) return false;
    const bytes = new TextEncoder().encode(`${line}\n`);
    if (this.#bytes + bytes.length > this.#options.bytesMax) return false;
    try {
      for (let at = 0; at < bytes.length;) {
        at += writeSync(this.#descriptor, bytes, at, bytes.length - at);
      }
    } catch (cause) {
      this.close();
      return failed(cause);
    }
    this.#bytes += bytes.length;
    return true;
  }

  /** The lines of each file, the newest file first; of one that cannot be read: none. */
  read(): string[][] {
    return Array.from({ length: this.#options.filesMax }, (_, age) => this.#linesOf(age));
  }

  close(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }

  #linesOf(age: number): string[] {
    let descriptor: number;
    try {
      descriptor = openSync(this.#pathOf(age), constants.O_RDONLY);
    } catch (cause) {
      failed(cause);
      return [];
    }
    try {
      const size = Math.min(fstatSync(descriptor).size, this.#options.bytesMax);
      const bytes = new Uint8Array(size);
      let got = 0;
      while (got < size) {
        const read = readSync(descriptor, bytes, got, size - got, got);
        if (read === 0) break;
        got += read;
      }
      // What follows the last end of a line is torn.
      return new TextDecoder().decode(bytes.subarray(0, got)).split("\n").slice(0, -1);
    } catch (cause) {
      failed(cause);
      return [];
    } finally {
      closeSync(descriptor);
    }
  }

  #moveTo(age: number): void {
    try {
      rmSync(this.#pathOf(age), { force: true });
      renameSync(this.#pathOf(age - 1), this.#pathOf(age));
    } catch (cause) {
      if ((cause as { code?: string }).code !== "ENOENT") throw cause;
    }
  }

  #pathOf(age: number): string {
    return this.#state.pathOf(`${this.#name}.${age}`);
  }
}

/** The machine's refusal; anything else is our bug. */
function failed(cause: unknown): false {
  if (typeof (cause as { code?: unknown }).code !== "string") throw cause;
  return false;
}
