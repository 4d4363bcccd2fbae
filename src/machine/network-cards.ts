// SPDX-License-Identifier: Apache-2.0
//
// The network interfaces of the machine as a person at the box sees them: also those without an
// address or without a cable. From sysfs and the addresses that are there.

import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { type LinkAddress, listLinks } from "./network.ts";

export interface NetworkCard {
  name: string;
  mac: string;
  /** Null: not known, as of an interface that is switched off. */
  cable: boolean | null;
  addresses: LinkAddress[];
}

const ETHERNET = "1"; // ARPHRD_ETHER, linux/if_arp.h

/** By name; without the loopback, and of virtual interfaces only those with an address. */
export function listNetworkCards(root = "/"): NetworkCard[] {
  const links = new Map(listLinks().map((link) => [link.name, link]));
  const folder = path.join(root, "sys", "class", "net");
  const cards: NetworkCard[] = [];
  for (const name of entriesOf(folder)) {
    const at = (attribute: string) => readWord(path.join(folder, name, attribute));
    const link = links.get(name);
    const hasCard = entriesOf(path.join(folder, name)).includes("device");
    if (at("type") !== ETHERNET || link?.loopback === true) continue;
    if (!hasCard && link === undefined) continue;
    const carrier = at("carrier");
    cards.push({
      name,
      mac: at("address") ?? "",
      cable: carrier === null ? null : carrier === "1",
      addresses: link?.addresses ?? [],
    });
  }
  return cards.sort((one, other) => (one.name < other.name ? -1 : 1));
}

function entriesOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // no such interface any more: it is not listed
  }
}

function readWord(file: string): string | null {
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    return null; // sysfs answers EINVAL for an interface that is down
  }
}
