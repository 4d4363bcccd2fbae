// SPDX-License-Identifier: Apache-2.0
//
// Links: where a packet to all goes, from which address one to somebody leaves, which are our own.

import { describe, expect, test } from "bun:test";
import { parseAddress } from "#protocol/autoconfig/address.ts";
import { GROUP_IPV4, GROUP_IPV6 } from "#protocol/autoconfig/autoconfig.wire.ts";
import { linkOf, LinkTable } from "./discovery-links.ts";
import type { Link } from "./discovery-links.ts";

function link(name: string, addresses: [string, number, string?][]): Link {
  return {
    name,
    hardwareAddress: new Uint8Array(6),
    mtuBytes: 1500,
    speedMegabits: 1000,
    addresses: addresses.map(([address, prefixBits, broadcast]) => {
      return { address, prefixBits, broadcast: broadcast ?? null };
    }),
  };
}
const table = new LinkTable([
  link("eth0", [
    ["192.0.2.7", 24, "192.0.2.255"],
    ["fe80::7", 64],
    ["2001:db8::7", 64],
  ]),
  link("eth1", [
    ["198.51.100.7", 24],
    ["fe80::17", 64],
  ]),
  link("eth2", [["fe80::27", 64]]),
]);

describe("links", () => {
  test("to all → both groups on each link with such an address, directed broadcast", () => {
    const list = table
      .everywhere(10811)
      .map(({ link, source, address }) => [link, source, address]);
    expect(list).toEqual([
      ["eth0", "fe80::7", `${GROUP_IPV6}%eth0`],
      ["eth0", "192.0.2.7", `${GROUP_IPV4}%eth0`],
      ["eth0", "192.0.2.7", "192.0.2.255"],
      ["eth1", "fe80::17", `${GROUP_IPV6}%eth1`],
      ["eth1", "198.51.100.7", `${GROUP_IPV4}%eth1`],
      ["eth2", "fe80::27", `${GROUP_IPV6}%eth2`],
    ]);
  });

  test("to somebody → from the nearest address of the same kind, by its zone's link", () => {
    const from = (address: string) => table.towards({ address, port: 1 });
    expect(from("198.51.100.99")).toMatchObject({ source: "198.51.100.7", link: null });
    expect(from("fe80::99%eth1")).toMatchObject({ source: "fe80::17", link: "eth1" });
    expect(from("2001:db8:1::1")).toMatchObject({ source: "2001:db8::7", link: null });
    expect(from("203.0.113.1")?.source).toMatch(/^(192|198)/);
    expect(from("fe80::99%eth9")).toBeNull();
    expect(from("no address")).toBeNull();
    expect(new LinkTable([]).towards({ address: "192.0.2.1", port: 1 })).toBeNull();
  });

  test("ours → own addresses, groups and directed broadcasts, nothing else", () => {
    const ours = ["192.0.2.7", "fe80::27", GROUP_IPV4, GROUP_IPV6, "192.0.2.255"];
    const others = ["192.0.2.8", "198.51.100.255", "ff02::1", "::", "255.255.255.255"];
    const is = (text: string) => table.isOurs(parseAddress(text) as Uint8Array);
    expect(ours.map(is)).toEqual(ours.map(() => true));
    expect(others.map(is)).toEqual(others.map(() => false));
  });

  test("a link of the machine's list → bytes of its card, broadcast where there is one", () => {
    const addresses = [
      { address: "10.1.2.3", prefixBits: 20 },
      { address: "10.9.9.1", prefixBits: 31 },
      { address: "fe80::1", prefixBits: 64 },
    ];
    const found = { name: "eth0", mac: "02:00:5e:ff:00:0a", addresses };
    const made = linkOf(found, { directedBroadcast: true });
    expect([...made.hardwareAddress]).toEqual([2, 0, 0x5e, 255, 0, 10]);
    expect(made.addresses.map((one) => one.broadcast)).toEqual(["10.1.15.255", null, null]);
    const without = linkOf(found, { directedBroadcast: false });
    expect(without.addresses.map((one) => one.broadcast)).toEqual([null, null, null]);
  });

  test("cards for a startup → prefixes of the 16 bytes, addresses by card", () => {
    const { cards, addresses } = table.cards();
    expect(cards.map((card) => card.name)).toEqual(["eth0", "eth1", "eth2"]);
    expect(addresses.map((one) => [one.card, one.prefixBits])).toEqual([
      [0, 120],
      [0, 64],
      [0, 64],
      [1, 120],
      [1, 64],
      [2, 64],
    ]);
  });
});
