// SPDX-License-Identifier: Apache-2.0
//
// The files for systemd-networkd, whole, and host names.

import { expect, test } from "bun:test";
import { hostNameOf, networkFiles } from "./network-files.ts";

const sections = (text: string | undefined): string[] =>
  (text ?? "").split("\n").filter((line) => line !== "" && !line.startsWith("#"));

test("nothing said → DHCP on every card, else link-local of both families", () => {
  const files = networkFiles([]);
  expect([...files.keys()]).toEqual(["cairn-90-default.network"]);
  expect(sections(files.get("cairn-90-default.network"))).toEqual([
    "[Match]",
    "Type=ether",
    "Kind=!*",
    "[Link]",
    "RequiredForOnline=no",
    "[Network]",
    "DHCP=yes",
    "LinkLocalAddressing=yes",
    "IPv6AcceptRA=yes",
    "LLMNR=no",
    "MulticastDNS=no",
    "[DHCPv4]",
    "ClientIdentifier=mac",
    "UseHostname=no",
    "[DHCPv6]",
    "UseHostname=no",
  ]);
});

test("fixed addresses → a file each, before the default's name; no DHCP in them", () => {
  const files = networkFiles([
    {
      interface: "eno1",
      addresses: ["192.168.1.10/24", "fd00::10/64"],
      gateways: ["192.168.1.1", "fd00::1"],
      dns: ["192.168.1.1"],
      ntp: ["192.168.1.1", "time.example"],
    },
    { mac: "52:54:00:12:34:56", addresses: ["10.0.0.2/8"] },
    { interface: "eno3", addresses: ["fd00:1::2/64"] },
  ]);
  const names = [...files.keys()];
  expect(names.toSorted()).toEqual(names);
  expect(names).toHaveLength(4);
  expect(sections(files.get("cairn-01-static.network"))).toEqual([
    "[Match]",
    "Name=eno1",
    "Type=ether",
    "Kind=!*",
    "[Link]",
    "RequiredForOnline=no",
    "[Network]",
    "DHCP=no",
    "LinkLocalAddressing=ipv6",
    "IPv6AcceptRA=no",
    "LLMNR=no",
    "MulticastDNS=no",
    "Address=192.168.1.10/24",
    "Address=fd00::10/64",
    "Gateway=192.168.1.1",
    "Gateway=fd00::1",
    "DNS=192.168.1.1",
    "NTP=192.168.1.1",
    "NTP=time.example",
  ]);
  const second = sections(files.get("cairn-02-static.network"));
  expect(second).toContain("MACAddress=52:54:00:12:34:56");
  expect(second).toContain("IPv6AcceptRA=yes");
  const third = sections(files.get("cairn-03-static.network"));
  expect(third).toContain("LinkLocalAddressing=yes"); // IPv4 has no other address
});

test("host names → letters, digits and dashes of the unit's name", () => {
  for (const [name, host] of [
    ["Attic-1", "attic-1"],
    ["a_b.c", "a-b-c"],
    ["box.", "box"],
    ["_x_", "x"],
    ["...", "cairn"],
    ["", "cairn"],
    ["a".repeat(63), "a".repeat(63)],
  ] as const) {
    expect([name, hostNameOf(name)]).toEqual([name, host]);
  }
});
