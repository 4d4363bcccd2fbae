// SPDX-License-Identifier: Apache-2.0
//
// `npm start`: the whole of Cairn once, on this machine. Three units and a spare find each other,
// serve a mirrored volume to a real file system, lose the unit it works on in the middle of a
// copy, get it back, and lose another for good.
//
//   --once   ends afterwards, with status 0 or 1 by what happened (else it stays until Ctrl-C)
//   --keep   leaves disks and logs behind, for a look at what went wrong

import { executable, missing } from "#test/cluster/lab.ts";
import { Demo } from "./demo.ts";
import { MOUNT_PROGRAMS } from "./mounted-volume.ts";

const EXIT = { ok: 0, failed: 1, usage: 2, missing: 3 } as const;

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function main(words: readonly string[]): Promise<number> {
  const unknown = words.filter((word) => word !== "--once" && word !== "--keep");
  if (unknown.length > 0) {
    say(`unknown: ${unknown.join(" ")}\nusage: npm start -- [--once] [--keep]`);
    return EXIT.usage;
  }
  const lacking = missing({ programs: MOUNT_PROGRAMS });
  if (lacking.length > 0) {
    say(`The demo cannot run on this machine. It lacks:\n  ${lacking.join("\n  ")}`);
    return EXIT.missing;
  }
  await using demo = new Demo({ say, keep: words.includes("--keep"), executable: executable() });
  try {
    await demo.run();
  } catch (error) {
    // After a Ctrl-C everything fails; the lab's end is under way and ends the process.
    if (demo.interrupted) return await new Promise<never>(() => {});
    say(`\nThe demo failed: ${error instanceof Error ? error.message : String(error)}`);
    say(demo.table());
    return EXIT.failed;
  }
  say(demo.table());
  if (words.includes("--once")) return EXIT.ok;
  await demo.stayUp();
  return EXIT.ok;
}

process.exit(await main(process.argv.slice(2)));
