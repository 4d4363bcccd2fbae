// SPDX-License-Identifier: Apache-2.0
//
// UDP over real links in a network namespace of its own, and the text form of addresses.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import path from "node:path";
import type { Link } from "./network.ts";
import { sameAddress } from "./network.ts";
import { encodeEndpoint, decodeEndpoint, formatIpv6, parseIpv6 } from "./socket-address.ts";

const NAMESPACE = `cairn-machine-${process.pid}`;

function ip(...args: string[]): void {
  const { status, stderr } = spawnSync("ip", args, { encoding: "utf8" });
  expect(`${args.join(" ")}: ${status} ${stderr}`).toStartWith(`${args.join(" ")}: 0`);
}

beforeAll(() => {
  ip("netns", "add", NAMESPACE);
  const within = ["-n", NAMESPACE];
  ip(...within, "link", "set", "lo", "up");
  ip(...within, "link", "add", "left", "type", "veth", "peer", "name", "right");
  // Without duplicate address detection, so that the link-local addresses are there at once.
  const off = "net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.left.accept_dad=0".split(" ");
  const sysctl = ["net.ipv6.conf.right.accept_dad=0", ...off];
  spawnSync("ip", ["netns", "exec", NAMESPACE, "sysctl", "-qw", ...sysctl]);
  ip(...within, "link", "set", "left", "up");
  ip(...within, "link", "set", "right", "up");
});
afterAll(() => ip("netns", "delete", NAMESPACE));

interface Seen {
  names: string[];
  before?: Link;
  during?: Link;
  after?: Link;
  seen: string[];
  taken: string;
}

test("two links: groups of both families, unicast, own addresses; unusable ones → not sent", () => {
  const fixture = path.join(import.meta.dir, "datagram-fixture.ts");
  const args = ["netns", "exec", NAMESPACE, process.execPath, fixture];
  const { stdout, stderr } = spawnSync("ip", args, { encoding: "utf8" });
  expect(stderr).toBe("");
  const told = JSON.parse(stdout) as Seen;
  expect(told.names).toEqual(["left", "right"]);
  expect(told.before?.addresses.every((entry) => entry.linkLocal && entry.family === 6)).toBe(true);
  const during = told.during?.addresses ?? [];
  expect(during).toContainEqual({
    address: "169.254.7.7",
    family: 4,
    prefixBits: 16,
    linkLocal: true,
  });
  expect(during.some((entry) => sameAddress(entry.address, "fd00:11:0::7"))).toBe(true);
  expect(told.after?.addresses.some((entry) => entry.address === "fd00:11::7")).toBe(false);
  expect(told.taken).toContain("EADDRINUSE");

  const packets = told.seen;
  // The IPv6 group goes out on "left" and comes in on "right" with the link in the source's name.
  expect(packets.find((text) => text.startsWith("group6"))).toMatch(
    /^group6 from fe80::[0-9a-f:]+%right 47444$/,
  );
  expect(packets).toContain("unicast6 from fd00:11::7 47444");
  expect(packets).toContain("unicast4 from 169.254.7.7 47444");
  for (const text of ["gone not sent", "gone4 not sent", "noroute not sent"]) {
    expect(packets).toContain(text);
  }
});

test("addresses: RFC 4291 and 5952 examples, both ways; what is none → null", () => {
  const cases: [string, string][] = [
    ["2001:DB8:0:0:8:800:200C:417A", "2001:db8::8:800:200c:417a"],
    ["FF01:0:0:0:0:0:0:101", "ff01::101"],
    ["0:0:0:0:0:0:0:1", "::1"],
    ["::", "::"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
  ];
  for (const [text, canonical] of cases) {
    expect(formatIpv6(parseIpv6(text) as Uint8Array)).toBe(canonical);
  }
  const wrong = ["", ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::", "g::"];
  for (const text of [...wrong, "1.2.3.4", "::1.2.3", "1:2:3:4:5:6:7:8::", "1.2.3.4::"]) {
    expect(parseIpv6(text)).toBeNull();
  }
  const bytes = new Uint8Array(128);
  encodeEndpoint({ address: "fe80::1%lo", port: 3260 }, bytes, 0);
  expect(decodeEndpoint(bytes, 0)).toEqual({ address: "fe80::1%lo", port: 3260 });
  encodeEndpoint({ address: "192.0.2.9", port: 65535 }, bytes, 4);
  expect(decodeEndpoint(bytes, 4)).toEqual({ address: "192.0.2.9", port: 65535 });
  expect(() => encodeEndpoint({ address: "::1", port: 65536 }, bytes, 0)).toThrow("no port");
  expect(() => encodeEndpoint({ path: "x".repeat(108) }, bytes, 0)).toThrow("1 to 107");
});
