// SPDX-License-Identifier: Apache-2.0
//
// A folder in memory (/run/cairn) in which the parts of an appliance leave small files for each
// other, until the next boot. A file is there whole or not at all; only root reads it.

import { chmodSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Fault } from "#base/fault.ts";

const FILE_MODE = 0o600;

export class RunFolder {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  pathOf(name: string): string {
    return path.join(this.#folder, name);
  }

  write(name: string, text: string): void {
    const file = this.pathOf(name);
    const fresh = `${file}.new`;
    try {
      mkdirSync(this.#folder, { recursive: true });
      writeFileSync(fresh, text, { mode: FILE_MODE });
      chmodSync(fresh, FILE_MODE); // also when an older attempt left it behind
      renameSync(fresh, file);
    } catch (cause) {
      throw new Fault("badMachine", `${file} cannot be written`, { cause });
    }
  }

  remove(name: string): void {
    rmSync(this.pathOf(name), { force: true });
  }
}
