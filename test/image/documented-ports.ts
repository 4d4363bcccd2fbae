// SPDX-License-Identifier: Apache-2.0
//
// The ports that docs/PORTS.md promises, as the tests compare them.

import { readFileSync } from "node:fs";
import path from "node:path";
import type { OpenPort } from "./port-scan.ts";

const FILE = path.resolve(import.meta.dir, "..", "..", "docs", "PORTS.md");
const ROW = /^\| (TCP|UDP) \| (\d+) \| [^|]+ \| ([^|]+) \|$/;

export interface DocumentedPort extends OpenPort {
  /** Open on every box, always. */
  always: boolean;
}

export function documentedPorts(): DocumentedPort[] {
  const found: DocumentedPort[] = [];
  for (const line of readFileSync(FILE, "utf8").split("\n")) {
    const row = ROW.exec(line);
    if (row === null) continue;
    const [, protocol = "", port = "", open = ""] = row;
    found.push({
      protocol: protocol.toLowerCase() as OpenPort["protocol"],
      port: Number(port),
      always: open.trim() === "always",
    });
  }
  return found;
}

export function portName({ protocol, port }: OpenPort): string {
  return `${protocol} ${port}`;
}
