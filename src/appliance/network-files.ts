// SPDX-License-Identifier: Apache-2.0
//
// From the setting `network` to the files of systemd-networkd (systemd.network(5), version 257) and
// the host name. Pure.
//
// What holds for every interface: an IPv6 link-local address always, since units hear each other by
// it; no name resolution by multicast, since nothing listens that need not; nothing waits for a
// cable that is not there. Where DHCP answers nothing, networkd takes an IPv4 link-local address
// and goes on asking.

import { isIpv4 } from "./network-settings.ts";
import type { NetworkEntry } from "./network-settings.ts";

/** Files of ours begin so: others in the directory are left alone. */
export const NETWORK_FILE_PREFIX = "cairn-";
const DEFAULT_FILE = `${NETWORK_FILE_PREFIX}90-default.network`;
const HOST_NAME_CHARACTERS_MAX = 63;
const HEAD = "# Made by `cairn appliance network` at every start from the boot medium.\n";

/** File name to content. networkd takes the first file that matches an interface, by name. */
export function networkFiles(entries: readonly NetworkEntry[]): Map<string, string> {
  const files = new Map<string, string>();
  for (const [index, entry] of entries.entries()) {
    const number = String(index + 1).padStart(2, "0");
    files.set(`${NETWORK_FILE_PREFIX}${number}-static.network`, staticFile(entry));
  }
  files.set(DEFAULT_FILE, defaultFile());
  return files;
}

function staticFile(entry: NetworkEntry): string {
  const { addresses, gateways = [], dns = [], ntp = [] } = entry;
  const hasFour = addresses.some(isIpv4);
  const hasSix = addresses.some((address) => !isIpv4(address));
  const match =
    entry.interface === undefined ? `MACAddress=${entry.mac}` : `Name=${entry.interface}`;
  return text([
    // Never a bridge or tunnel that took over the card's MAC address.
    ["Match", [match, "Type=ether", "Kind=!*"]],
    ["Link", ["RequiredForOnline=no"]],
    [
      "Network",
      [
        "DHCP=no",
        // Fixed addresses of one family leave the other one to link-local.
        `LinkLocalAddressing=${hasFour ? "ipv6" : "yes"}`,
        // A router's word is not asked for where the owner has said what holds.
        `IPv6AcceptRA=${hasSix ? "no" : "yes"}`,
        "LLMNR=no",
        "MulticastDNS=no",
        ...addresses.map((address) => `Address=${address}`),
        ...gateways.map((gateway) => `Gateway=${gateway}`),
        ...dns.map((server) => `DNS=${server}`),
        ...ntp.map((server) => `NTP=${server}`),
      ],
    ],
  ]);
}

function defaultFile(): string {
  return text([
    ["Match", ["Type=ether", "Kind=!*"]],
    ["Link", ["RequiredForOnline=no"]],
    [
      "Network",
      ["DHCP=yes", "LinkLocalAddressing=yes", "IPv6AcceptRA=yes", "LLMNR=no", "MulticastDNS=no"],
    ],
    // The same lease after the box was flashed again, and by its card for whoever reserves one.
    ["DHCPv4", ["ClientIdentifier=mac", "UseHostname=no"]],
    ["DHCPv6", ["UseHostname=no"]],
  ]);
}

function text(sections: readonly (readonly [string, readonly string[]])[]): string {
  const parts = sections.map(([name, lines]) => `[${name}]\n${lines.join("\n")}\n`);
  return `${HEAD}\n${parts.join("\n")}`;
}

/** A name of a unit as a host name (RFC 1123): letters, digits, dashes. */
export function hostNameOf(unitName: string): string {
  const plain = unitName
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, "-")
    .slice(0, HOST_NAME_CHARACTERS_MAX)
    .replaceAll(/^-+|-+$/g, "");
  return plain === "" ? "cairn" : plain;
}
