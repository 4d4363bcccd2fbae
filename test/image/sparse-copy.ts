// SPDX-License-Identifier: Apache-2.0
//
// Copies of disks that keep their holes. A copy by copyFileSync has none: 8 GB are written for a
// boot disk that holds one.

import { spawnSync } from "node:child_process";

/** Replaces `to`, if it is there. Shares the blocks where the file system can. */
export function copySparse(from: string, to: string): void {
  const result = spawnSync("cp", ["--sparse=always", "--reflink=auto", from, to], {
    encoding: "utf8",
  });
  if (result.status !== 0) throw new Error(`${from} is not copied: ${result.stderr}`);
}
