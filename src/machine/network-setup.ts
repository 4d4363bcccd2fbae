// SPDX-License-Identifier: Apache-2.0
//
// Files for systemd-networkd, and the kernel's host name. Control thread only, as root, before
// networkd starts.

import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import path from "node:path";
import { Fault } from "#base/fault.ts";

/** networkd reads them as a user of its own. */
const READABLE_MODE = 0o644;
const FOLDER_MODE = 0o755;
const HOST_NAME_FILE = "/proc/sys/kernel/hostname";

/**
 * Makes the files of a prefix in a directory exactly these; others are left alone. Answers whether
 * anything was changed by it.
 */
export function replaceFiles(
  directory: string,
  prefix: string,
  files: ReadonlyMap<string, string>,
): boolean {
  try {
    mkdirSync(directory, { recursive: true, mode: FOLDER_MODE });
    const there = readdirSync(directory).filter((name) => name.startsWith(prefix));
    const over = there.filter((name) => !files.has(name));
    const fresh = [...files].filter(([name, content]) => {
      return !there.includes(name) || readFileSync(path.join(directory, name), "utf8") !== content;
    });
    for (const [name, content] of fresh) replaceReadable(path.join(directory, name), content);
    for (const name of over) rmSync(path.join(directory, name));
    return over.length + fresh.length > 0;
  } catch (cause) {
    throw new Fault("badMachine", `${directory} cannot be written`, { cause });
  }
}

/** Replaces a small file that everybody may read; its folder is made. Not durable: for /run. */
export function replaceReadable(file: string, content: string): void {
  mkdirSync(path.dirname(file), { recursive: true, mode: FOLDER_MODE });
  writeFileSync(`${file}.new`, content, { mode: READABLE_MODE });
  renameSync(`${file}.new`, file);
}

/** The kernel's host name, until the next start of the machine. */
export function setHostName(name: string, file = HOST_NAME_FILE): void {
  try {
    const fd = openSync(file, "w");
    try {
      writeSync(fd, name);
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    throw new Fault("badMachine", `the host name cannot be set through ${file}`, { cause });
  }
}
