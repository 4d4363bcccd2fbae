// SPDX-License-Identifier: Apache-2.0
//
// Network interfaces and their addresses, and the addresses a unit gives itself (on its links to
// other units, and the group address). Control thread only.

import { networkInterfaces } from "node:os";
import { Fault } from "#base/fault.ts";
import { parseIpv4, parseIpv6 } from "./socket-address.ts";
import { runProgram } from "./program.ts";

export interface LinkAddress {
  /** Without zone. */
  address: string;
  family: 4 | 6;
  prefixBits: number;
  linkLocal: boolean;
}

/** A network interface that is up and has an address. */
export interface Link {
  name: string;
  mac: string;
  loopback: boolean;
  addresses: LinkAddress[];
}

export function listLinks(): Link[] {
  const links: Link[] = [];
  for (const [name, entries] of Object.entries(networkInterfaces())) {
    const first = entries?.[0];
    if (entries === undefined || first === undefined) continue;
    links.push({
      name,
      mac: first.mac,
      loopback: first.internal,
      addresses: entries.map((entry) => {
        const family = entry.family === "IPv4" ? 4 : 6;
        const [address] = entry.address.split("%") as [string];
        return {
          address,
          family,
          prefixBits: Number(entry.cidr?.split("/")[1] ?? (family === 4 ? 32 : 128)),
          linkLocal: family === 4 ? address.startsWith("169.254.") : isLinkLocal(address),
        };
      }),
    });
  }
  return links;
}

/**
 * Puts an address on an interface; it may be there already. It can be bound at once and is routed
 * to within milliseconds.
 */
export async function addAddress(link: string, address: string, prefixBits: number): Promise<void> {
  const args = ["address", "replace", `${address}/${prefixBits}`, "dev", checkedLink(link)];
  // Our own addresses are derived from unit ids: nobody else has them, so nothing waits for a
  // probe.
  if (checkedFamily(address) === 6) args.push("nodad");
  await runProgram("ip", args, { debianPackage: "iproute2" });
}

/**
 * Puts an address alone on an interface for so many seconds, or for so many again: the kernel takes
 * it away by itself. It is not the one that what goes out comes from.
 */
export async function addAddressFor(link: string, address: string, seconds: number): Promise<void> {
  const isSix = checkedFamily(address) === 6;
  const place = [`${address}/${isSix ? 128 : 32}`, "dev", checkedLink(link)];
  const lifetime = ["valid_lft", String(seconds), "preferred_lft", isSix ? "0" : String(seconds)];
  const args = ["address", "replace", ...place, ...lifetime, ...(isSix ? ["nodad"] : [])];
  await runProgram("ip", args, { debianPackage: "iproute2" });
}

/** Whether one of them has it. */
export function hasAddress(links: readonly Link[], address: string): boolean {
  return links.some((link) => {
    return link.addresses.some((entry) => sameAddress(entry.address, address));
  });
}

/** Takes it away; it may be gone already. */
export async function removeAddress(
  link: string,
  address: string,
  prefixBits: number,
): Promise<void> {
  const present = listLinks()
    .filter((found) => found.name === link)
    .some((found) => found.addresses.some((entry) => sameAddress(entry.address, address)));
  if (!present) return;
  const args = ["address", "delete", `${address}/${prefixBits}`, "dev", checkedLink(link)];
  checkedFamily(address);
  await runProgram("ip", args, { debianPackage: "iproute2" });
}

function isLinkLocal(address: string): boolean {
  const bytes = parseIpv6(address);
  return bytes !== null && bytes[0] === 0xfe && ((bytes[1] as number) & 0xc0) === 0x80;
}

/** Whether two texts name one address ("fd00::1" and "fd00:0::1"). */
export function sameAddress(left: string, right: string): boolean {
  const one = parseIpv4(left) ?? parseIpv6(left);
  const other = parseIpv4(right) ?? parseIpv6(right);
  return one !== null && other !== null && Buffer.compare(one, other) === 0;
}

function checkedFamily(address: string): 4 | 6 {
  if (parseIpv4(address) !== null) return 4;
  if (parseIpv6(address) !== null) return 6;
  throw new Fault("badConfiguration", `"${address}" is no IP address`);
}

/** An interface's name goes to a program: never one that reads as an option. */
function checkedLink(link: string): string {
  if (/^[A-Za-z0-9_][A-Za-z0-9._@-]{0,14}$/.test(link)) return link;
  throw new Fault("badConfiguration", `"${link}" is no name of a network interface`);
}
