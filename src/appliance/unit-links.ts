// SPDX-License-Identifier: Apache-2.0
//
// The machine's network links as auto-configuration sees them.

import { LinkDatagrams } from "#machine/datagram.ts";
import { linkFigures } from "#machine/link-figures.ts";
import type { Link as MachineLink } from "#machine/network.ts";
import type { Link } from "#cluster/discovery-links.ts";
import { GROUP_IPV4, GROUP_IPV6 } from "#protocol/autoconfig/autoconfig.wire.ts";

export function openAutoconfigPort(port: number): Promise<LinkDatagrams> {
  return LinkDatagrams.open({ port, groupIpv4: GROUP_IPV4, groupIpv6: GROUP_IPV6 });
}

/** Links that are up, of those named; none named: all. */
export function usableLinks(links: readonly MachineLink[], named: readonly string[]): Link[] {
  return links
    .filter((link) => named.length === 0 || named.includes(link.name))
    .map((link) => ({
      name: link.name,
      hardwareAddress: Uint8Array.from(link.mac.split(":"), (part) => Number.parseInt(part, 16)),
      ...linkFigures(link.name),
      addresses: link.addresses.map(({ address, family, prefixBits }) => ({
        address,
        prefixBits,
        broadcast: family === 4 && prefixBits < 31 ? broadcastOf(address, prefixBits) : null,
      })),
    }));
}

/** The directed broadcast address of an IPv4 network (RFC 919). */
function broadcastOf(address: string, prefixBits: number): string {
  const value = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  const hosts = 2 ** (32 - prefixBits);
  const last = Math.floor(value / hosts) * hosts + hosts - 1;
  return [24, 16, 8, 0].map((shift) => Math.floor(last / 2 ** shift) % 256).join(".");
}
