// SPDX-License-Identifier: Apache-2.0
//
// How many network cards the kernel has a driver for, with or without a cable: whether a new
// version still sees the machine's network.

import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";

const ETHERNET = "1"; // ARPHRD_ETHER, linux/if_arp.h

/** Interfaces with a device behind them; `folder` for tests. */
export function countNetworkCards(folder = "/sys/class/net"): number {
  let count = 0;
  for (const name of entriesOf(folder)) {
    if (!entriesOf(path.join(folder, name)).includes("device")) continue;
    if (typeOf(path.join(folder, name)) === ETHERNET) count++;
  }
  return count;
}

function entriesOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // it went meanwhile, or there is no sysfs: then it is not counted
  }
}

function typeOf(folder: string): string {
  try {
    return readFileSync(path.join(folder, "type"), "utf8").trim();
  } catch {
    return ""; // it went meanwhile
  }
}
