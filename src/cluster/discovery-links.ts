// SPDX-License-Identifier: Apache-2.0
//
// Links of a unit as auto-configuration uses them: which addresses are its own, where a packet to
// all goes on each link, and from which address a packet to somebody leaves. The packet names its
// source, and the receiver compares it with the datagram's, so the caller must send from just that
// address.

import { formatAddress, isFour, isLinkLocal, parseAddress } from "#protocol/autoconfig/address.ts";
import { CARDS_MAX, GROUP_IPV4, GROUP_IPV6 } from "#protocol/autoconfig/autoconfig.wire.ts";
import type { NetworkAddress, NetworkCard } from "#protocol/autoconfig/message-types.ts";

/** A network card that is up, as the machine lists it. */
export interface Link {
  name: string;
  hardwareAddress: Uint8Array;
  mtuBytes: number;
  speedMegabits: number;
  addresses: LinkAddress[];
}
export interface LinkAddress {
  /** Text, without zone. */
  address: string;
  /** In its own family: 24 for an IPv4 /24. */
  prefixBits: number;
  /** IPv4's directed broadcast, where the link has one and it is to be used. */
  broadcast: string | null;
}

/** Where one packet goes. */
export interface Destination {
  /** The link it leaves by; null: whichever the routes say. */
  link: string | null;
  /** Our address it leaves from, text without zone. */
  source: string;
  /** Text; what is of a link only has its zone: groups of both kinds, link-local IPv6. */
  address: string;
  port: number;
}

/** Where somebody can be answered. */
export interface Where {
  address: string;
  port: number;
}

/** A link as the machine lists it; with directed broadcasts where multicast is blocked. */
export function linkOf(
  found: {
    name: string;
    mac: string;
    addresses: readonly { address: string; prefixBits: number }[];
  },
  options: { directedBroadcast: boolean },
): Link {
  const mac = found.mac.split(":").map((part) => Number.parseInt(part, 16) & 0xff);
  const hardwareAddress = Uint8Array.from({ length: 6 }, (_, index) => mac[index] ?? 0);
  const addresses = found.addresses.map(({ address, prefixBits }) => {
    const broadcast = options.directedBroadcast ? broadcastOf(address, prefixBits) : null;
    return { address, prefixBits, broadcast };
  });
  return { name: found.name, hardwareAddress, mtuBytes: 0, speedMegabits: 0, addresses };
}

/** Null where there is none: IPv6, and IPv4 networks of one or two addresses. */
function broadcastOf(address: string, prefixBits: number): string | null {
  const bytes = parseAddress(address);
  if (bytes === null || !isFour(bytes) || prefixBits > 30) return null;
  for (let bit = 96 + prefixBits; bit < 128; bit++) {
    const at = bit >> 3;
    bytes[at] = (bytes[at] as number) | (0x80 >> (bit & 7));
  }
  return formatAddress(bytes);
}

interface OwnAddress {
  link: string;
  text: string;
  bytes: Uint8Array;
  prefixBits: number;
}

const GROUPS = [GROUP_IPV4, GROUP_IPV6].map((text) => parseAddress(text) as Uint8Array);

export class LinkTable {
  readonly #links: readonly Link[];
  readonly #own: OwnAddress[] = [];
  readonly #ours = new Set<string>();

  constructor(links: readonly Link[]) {
    this.#links = links;
    for (const group of GROUPS) this.#ours.add(formatAddress(group));
    for (const link of links) {
      for (const one of link.addresses) this.#add(link.name, one);
    }
  }

  #add(link: string, one: LinkAddress): void {
    const bytes = parseAddress(one.address);
    if (bytes === null) return;
    const prefixBits = isFour(bytes) ? 96 + one.prefixBits : one.prefixBits;
    this.#own.push({ link, text: formatAddress(bytes), bytes, prefixBits });
    this.#ours.add(formatAddress(bytes));
    const broadcast = one.broadcast === null ? null : parseAddress(one.broadcast);
    if (broadcast !== null) this.#ours.add(formatAddress(broadcast));
  }

  /** Of a card, a group, or a directed broadcast. */
  isOurs(address: Uint8Array): boolean {
    return this.#ours.has(formatAddress(address));
  }

  /** One packet for each of these reaches all units of all links. */
  everywhere(port: number): Destination[] {
    const list: Destination[] = [];
    for (const link of this.#links) {
      const own = this.#own.filter((one) => one.link === link.name);
      const local = own.find((one) => isLinkLocal(one.bytes));
      const four = own.find((one) => isFour(one.bytes));
      if (local !== undefined) {
        const address = `${GROUP_IPV6}%${link.name}`;
        list.push({ link: link.name, source: local.text, address, port });
      }
      if (four === undefined) continue;
      const address = `${GROUP_IPV4}%${link.name}`;
      list.push({ link: link.name, source: four.text, address, port });
      for (const { address, broadcast } of link.addresses) {
        if (broadcast === null) continue;
        list.push({ link: link.name, source: address, address: broadcast, port });
      }
    }
    return list;
  }

  /** From the address of ours that is nearest to it; null when no address of ours can reach it. */
  towards(where: Where): Destination | null {
    const bytes = parseAddress(where.address);
    if (bytes === null) return null;
    const zone = where.address.split("%")[1];
    let best: OwnAddress | null = null;
    let bestBits = -1;
    for (const own of this.#own) {
      if (isFour(own.bytes) !== isFour(bytes)) continue;
      if (isLinkLocal(own.bytes) !== isLinkLocal(bytes)) continue;
      if (zone !== undefined && own.link !== zone) continue;
      const bits = Math.min(commonBits(own.bytes, bytes), own.prefixBits);
      if (bits <= bestBits) continue;
      best = own;
      bestBits = bits;
    }
    if (best === null) return null;
    const link = isLinkLocal(bytes) ? best.link : null;
    return { link, source: best.text, address: where.address, port: where.port };
  }

  /** Addresses at which others can call this unit: link-local ones only reach their link. */
  callable(): Uint8Array[] {
    const wide = this.#own.filter((one) => !isLinkLocal(one.bytes));
    const local = this.#own.filter((one) => isLinkLocal(one.bytes));
    return [...wide, ...local].map((one) => one.bytes);
  }

  /** For unit startup. */
  cards(): { cards: NetworkCard[]; addresses: NetworkAddress[] } {
    const links = this.#links.slice(0, CARDS_MAX);
    const cards = links.map(({ name, hardwareAddress, speedMegabits, mtuBytes }) => {
      return { name, hardwareAddress, speedMegabits, mtuBytes };
    });
    const addresses: NetworkAddress[] = [];
    for (const own of this.#own) {
      const card = links.findIndex((link) => link.name === own.link);
      if (card < 0) continue;
      addresses.push({ address: own.bytes, prefixBits: own.prefixBits, card });
    }
    return { cards, addresses };
  }
}

function commonBits(one: Uint8Array, other: Uint8Array): number {
  for (let at = 0; at < one.length; at++) {
    const differs = (one[at] as number) ^ (other[at] as number);
    if (differs !== 0) return 8 * at + Math.clz32(differs) - 24;
  }
  return 8 * one.length;
}
