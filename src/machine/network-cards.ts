// SPDX-License-Identifier: Apache-2.0
//
// The network interfaces of the machine as a person at the box sees them: also those without an
// address or without a cable. From sysfs and the addresses that are there.

import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { cString, libc } from "./libc.ts";
import { type LinkAddress, listLinks } from "./network.ts";

export interface NetworkCard {
  name: string;
  mac: string;
  /** Null: not known, as of an interface that is switched off. */
  cable: boolean | null;
  addresses: LinkAddress[];
}

const SYS_FOLDER = "/sys/class/net";
const ETHERNET = "1"; // ARPHRD_ETHER, linux/if_arp.h

/** By name; without the loopback, and of virtual interfaces only those with an address. */
export function listNetworkCards(): NetworkCard[] {
  const cards = new Map<string, NetworkCard>();
  for (const { name, mac, loopback, addresses } of listLinks()) {
    if (!loopback) cards.set(name, { name, mac, cable: carrierOf(name), addresses });
  }
  for (const name of entriesOf(SYS_FOLDER)) {
    const hasCard = entriesOf(path.join(SYS_FOLDER, name)).includes("device");
    if (cards.has(name) || !hasCard || !isHere(name)) continue;
    if (readWord(name, "type") !== ETHERNET) continue;
    const mac = readWord(name, "address") ?? "";
    cards.set(name, { name, mac, cable: carrierOf(name), addresses: [] });
  }
  return [...cards.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
}

function carrierOf(name: string): boolean | null {
  const word = isHere(name) ? readWord(name, "carrier") : null;
  return word === null ? null : word === "1";
}

/** A mounted sysfs shows the interfaces of the network namespace that it was mounted in. */
function isHere(name: string): boolean {
  const index = libc.if_nametoindex(cString(name));
  return index !== 0 && readWord(name, "ifindex") === String(index);
}

function entriesOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // no such interface any more: it is not listed
  }
}

function readWord(name: string, attribute: string): string | null {
  try {
    return readFileSync(path.join(SYS_FOLDER, name, attribute), "utf8").trim();
  } catch {
    return null; // sysfs answers EINVAL for an interface that is down
  }
}
