// SPDX-License-Identifier: Apache-2.0
//
// The state directory of a unit: small files that are replaced whole (identity, tokens, settings)
// and a lock, so that two daemons never share one. Nothing that makes a disk safe is kept here.
//
// Replacing: write beside it, fsync, rename, fsync the directory. After a power cut there is the
// old file or the new one, never a piece.

import {
  closeSync,
  constants,
  fchmodSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import path from "node:path";
import { assert } from "#base/assert.ts";
import { Fault } from "#base/fault.ts";
import { libc } from "./libc.ts";
import { patiently } from "./patience.ts";

const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;
const LOCK_NAME = "lock";
const LOCK_EX_NB = 2 | 4;
/** Files here are small; a larger one is not ours. */
const FILE_BYTES_MAX = 16 << 20;

export class StateDirectory {
  readonly folder: string;
  readonly #lockFd: number;

  /**
   * Makes the folder if need be and takes its lock. Throws Fault conflict when another holds it.
   */
  constructor(folder: string) {
    this.folder = path.resolve(folder);
    try {
      mkdirSync(this.folder, { recursive: true, mode: DIRECTORY_MODE });
      const flags = constants.O_RDWR | constants.O_CREAT;
      this.#lockFd = openSync(path.join(this.folder, LOCK_NAME), flags, FILE_MODE);
    } catch (cause) {
      throw new Fault("badMachine", `the state directory ${folder} cannot be used`, { cause });
    }
    const lock = () => libc.flock(this.#lockFd, LOCK_EX_NB);
    if (patiently(lock, (answer) => answer !== 0) !== 0) {
      closeSync(this.#lockFd);
      throw new Fault("conflict", `another process uses the state directory ${this.folder}`);
    }
  }

  /** The whole file, or null when there is none. */
  read(name: string): Uint8Array | null {
    try {
      const bytes = readFileSync(this.pathOf(name));
      assert(bytes.length <= FILE_BYTES_MAX, "files of the state directory are small");
      return new Uint8Array(bytes);
    } catch (cause) {
      if ((cause as { code?: string }).code === "ENOENT") return null;
      throw new Fault("badMachine", `${this.pathOf(name)} cannot be read`, { cause });
    }
  }

  /** The whole file as text, or null when there is none. */
  readText(name: string): string | null {
    const bytes = this.read(name);
    return bytes === null ? null : new TextDecoder().decode(bytes);
  }

  /** Replaces the file; durable when it returns. Only root may read it. */
  write(name: string, content: Uint8Array | string): void {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    writeWhole(this.pathOf(name), bytes);
  }

  remove(name: string): void {
    rmSync(this.pathOf(name), { force: true });
    syncFolder(this.folder);
  }

  /** Where a file lies; for programs and sockets that need its path. */
  pathOf(name: string): string {
    const full = path.join(this.folder, name);
    assert(full.startsWith(`${this.folder}${path.sep}`), "the file lies in the state directory");
    return full;
  }

  /** Gives the lock back. */
  close(): void {
    closeSync(this.#lockFd);
  }
}

/** A file that somebody names; a Fault where it is not there, or longer. */
export function readNamedFile(file: string, bytesMax: number): Uint8Array {
  try {
    const { size } = statSync(file);
    if (size > bytesMax) throw new Fault("tooLarge", `${file} has more than ${bytesMax} bytes`);
    const bytes = new Uint8Array(readFileSync(file));
    if (bytes.length <= bytesMax) return bytes;
    throw new Fault("tooLarge", `${file} has more than ${bytesMax} bytes`);
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw new Fault("notFound", `${file} cannot be read`, { cause });
  }
}

/** Replaces a small file atomically and durably. */
export function writeWhole(file: string, bytes: Uint8Array): void {
  const fresh = `${file}.new`;
  try {
    const fd = openSync(fresh, "w", FILE_MODE);
    try {
      fchmodSync(fd, FILE_MODE); // also when an older attempt left it behind
      let at = 0;
      while (at < bytes.length) at += writeSync(fd, bytes, at, bytes.length - at);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(fresh, file);
    syncFolder(path.dirname(file));
  } catch (cause) {
    throw new Fault("badMachine", `${file} cannot be written`, { cause });
  }
}

export function syncFolder(folder: string): void {
  const fd = openSync(folder, constants.O_RDONLY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
