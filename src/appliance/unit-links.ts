// SPDX-License-Identifier: Apache-2.0
//
// The machine's network links as auto-configuration sees them.

import { LinkDatagrams } from "#machine/datagram.ts";
import { linkFigures } from "#machine/link-figures.ts";
import type { Link as MachineLink } from "#machine/network.ts";
import { linkOf } from "#cluster/discovery-links.ts";
import type { Link } from "#cluster/discovery-links.ts";
import { withoutGroupAddress } from "./group-address.ts";
import { parsePeer } from "./configuration.ts";
import type { Configuration } from "./configuration.ts";
import { GROUP_IPV4, GROUP_IPV6 } from "#protocol/autoconfig/autoconfig.wire.ts";

const ADDRESSES_MAX = 32;

export function openAutoconfigPort(port: number): Promise<LinkDatagrams> {
  return LinkDatagrams.open({ port, groupIpv4: GROUP_IPV4, groupIpv6: GROUP_IPV6 });
}

/** Links that are up, of those named; none named: all. */
export function usableLinks(links: readonly MachineLink[], named: readonly string[]): Link[] {
  return links
    .filter((link) => named.length === 0 || named.includes(link.name))
    .map(withoutGroupAddress)
    .map((link) => ({ ...linkOf(link, { directedBroadcast: true }), ...linkFigures(link.name) }));
}

/** What a unit's record says besides its address among units: no address of one link alone. */
export function toldAddresses(links: readonly Link[], ula: string): string[] {
  const all = links.flatMap((link) => link.addresses.map(({ address }) => address));
  return all.filter((one) => one !== ula && !/^fe[89ab]/i.test(one)).slice(0, ADDRESSES_MAX);
}

/** Units that multicast does not reach; the configuration has checked them. */
export function peersOf(configuration: Pick<Configuration, "unicastPeers">, usualPort: number) {
  return configuration.unicastPeers.flatMap((text) => {
    const peer = parsePeer(text);
    return peer === null ? [] : [{ address: peer.address, port: peer.port ?? usualPort }];
  });
}
