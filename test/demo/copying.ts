// SPDX-License-Identifier: Apache-2.0
//
// Which files the demo copies, and the copying process as the demo sees it.

import { readdirSync, statSync, writeFileSync } from "node:fs";
import type { ChildProcess } from "node:child_process";
import path from "node:path";
import type { Lab } from "#test/cluster/lab.ts";
import type { MountSpace } from "#test/cluster/mount-space.ts";
import { Hopeless } from "#test/cluster/until.ts";
import type { CopyProgress } from "./copy-files.ts";

const SCRIPT = path.join(import.meta.dir, "copy-files.ts");
const FILE_BYTES_MAX = 24 << 20;
/** Very many small files would make the demo a test of ext4. */
const FILE_BYTES_MIN = 32 << 10;
const FILES_MAX = 3000;

export interface Selection {
  list: string;
  files: number;
  bytes: number;
}

/** About `bytes` of what is below `root`, the same files at every run on a machine. */
export function selectFiles(root: string, bytes: number, list: string): Selection {
  const found: string[] = [];
  let sum = 0;
  const walk = (folder: string): void => {
    const entries = readdirSync(folder, { withFileTypes: true });
    for (const entry of entries.sort((one, other) => (one.name < other.name ? -1 : 1))) {
      if (sum >= bytes || found.length >= FILES_MAX) return;
      const full = path.join(folder, entry.name);
      if (full.includes("\n")) continue;
      if (entry.isDirectory()) walk(full);
      if (!entry.isFile()) continue;
      const { size } = statSync(full);
      if (size < FILE_BYTES_MIN || size > FILE_BYTES_MAX) continue;
      found.push(full);
      sum += size;
    }
  };
  walk(root);
  writeFileSync(list, `${found.join("\n")}\n`);
  return { list, files: found.length, bytes: sum };
}

export interface CopyOptions {
  list: string;
  /** A folder in the mount space. */
  target: string;
  space: MountSpace;
}

/** A copy or comparison under way. */
export class Copying {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #closed = false;
  #latest: CopyProgress = { bytes: 0, files: 0, gapMs: 0, done: false };
  #errors = "";

  constructor(lab: Lab, act: "copy" | "compare", { list, target, space }: CopyOptions) {
    const [enter, ...words] = space.inside([process.execPath, SCRIPT, act, list, target]);
    this.#child = lab.spawn(act, enter, words);
    let open = "";
    this.#child.stdout?.on("data", (chunk: Buffer) => {
      const lines = (open + chunk.toString("utf8")).split("\n");
      open = lines.pop() ?? "";
      const last = lines.at(-1);
      if (last !== undefined) this.#latest = JSON.parse(last) as CopyProgress;
    });
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString("utf8")).slice(-4000);
    });
    this.#ended = new Promise((done) =>
      this.#child.on("close", () => {
        this.#closed = true;
        done();
      }),
    );
  }

  get latest(): CopyProgress {
    return this.#latest;
  }

  /** Null while it works; fails when it failed. */
  finished(): CopyProgress | null {
    if (!this.#closed) return null;
    if (this.#latest.done) return this.#latest;
    throw new Hopeless(`${this.#child.spawnargs.join(" ")} failed: ${this.#errors}`);
  }

  async end(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }
}
