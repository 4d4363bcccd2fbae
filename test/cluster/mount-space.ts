// SPDX-License-Identifier: Apache-2.0
//
// A mount namespace of a lab: what is mounted in it is seen by nobody else and is gone with its
// last process. Without it a namespace that anybody on this machine makes meanwhile would hold a
// copy of the mount, and unmounting ours would not write the file system's end.

import { readlinkSync } from "node:fs";
import type { Lab } from "./lab.ts";
import { need } from "./until.ts";

const OPEN_MS = 10_000;

export class MountSpace {
  readonly #pid: number;

  private constructor(pid: number) {
    this.#pid = pid;
  }

  /** Lives as long as the lab. */
  static async open(lab: Lab): Promise<MountSpace> {
    const how = ["--mount", "--propagation", "private", "sleep", "infinity"];
    const { pid } = lab.spawn("mount space", "unshare", how);
    const look = () => {
      need(namespaceOf(pid as number) !== namespaceOf("self"), "no namespace of its own yet");
      return true;
    };
    await lab.until("a mount namespace", look, OPEN_MS, { lookMs: 10 });
    return new MountSpace(pid as number);
  }

  /** A command to be run in it. */
  inside(words: readonly string[]): [string, ...string[]] {
    return ["nsenter", `--mount=/proc/${this.#pid}/ns/mnt`, ...words];
  }

  /** The path by which the rest of this machine sees one of it. */
  view(path: string): string {
    return `/proc/${this.#pid}/root${path}`;
  }
}

function namespaceOf(process: number | "self"): string {
  return readlinkSync(`/proc/${process}/ns/mnt`);
}
