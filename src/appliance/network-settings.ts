// SPDX-License-Identifier: Apache-2.0
//
// The setting `network`: fixed addresses of an appliance, one entry per network interface, named by
// its name or its MAC address. Interfaces without an entry take DHCP, else link-local addresses.
//
// Invariants
// - What passes here holds nothing that would end a line or a value of a networkd file: names, MAC
//   addresses and IP addresses have their forms checked, and there is no free text.
// - A gateway is within reach of an address of its entry: a typing error is found before the box
//   is gone from the network.

import { z } from "zod";
import { addressBytes, isAllowed, parseRange } from "#cluster/address-range.ts";

/** Interfaces with fixed addresses, and addresses or servers of one. */
const ENTRIES_MAX = 16;
const LIST_MAX = 8;

/** Names as the kernel takes them (IFNAMSIZ), without what networkd reads as a pattern. */
const linkName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$/, "an interface's name, such as eno1");
const macAddress = z
  .string()
  .regex(/^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$/, "a MAC address, such as 52:54:00:12:34:56");
const addressWithPrefix = z
  .string()
  .max(64)
  .refine(isHostAddress, "an address with its prefix length, such as 192.168.1.10/24");
const plainAddress = z
  .string()
  .max(64)
  .refine(
    (text) => isPlainAddress(text) && !isUnspecified(text),
    "an IPv4 or IPv6 address, such as 192.168.1.1",
  );

/** A host's name (RFC 1123); one that begins its last part with a digit would be an address. */
const HOST_NAME_CHARACTERS_MAX = 253;
const PART = "[A-Za-z0-9-]{0,61}[A-Za-z0-9]";
const HOST_NAME = new RegExp(`^(?:[A-Za-z0-9](?:${PART})?\\.)*[A-Za-z](?:${PART})?$`);
const serverName = z
  .string()
  .max(HOST_NAME_CHARACTERS_MAX)
  .refine(
    (text) => HOST_NAME.test(text) || plainAddress.safeParse(text).success,
    "an address or a name, such as 192.168.1.1 or time.example",
  );

export const networkEntrySchema = z
  .strictObject({
    interface: linkName.optional().describe("the interface's name; this or mac"),
    mac: macAddress.optional().describe("the interface's MAC address; this or interface"),
    addresses: z
      .array(addressWithPrefix)
      .min(1)
      .max(LIST_MAX)
      .describe("its addresses, each with its prefix length"),
    gateways: z
      .array(plainAddress)
      .max(2)
      .optional()
      .describe("default routes: at most one for IPv4 and one for IPv6"),
    dns: z.array(plainAddress).max(LIST_MAX).optional().describe("name servers"),
    ntp: z
      .array(serverName)
      .max(LIST_MAX)
      .optional()
      .describe("time servers; without: those that Debian keeps for all, where they are reached"),
  })
  .superRefine((entry, context) => {
    for (const { path, message } of entryFaults(entry)) {
      context.addIssue({ code: "custom", path, message });
    }
  });
export type NetworkEntry = z.infer<typeof networkEntrySchema>;

export const networkSchema = z
  .array(networkEntrySchema)
  .max(ENTRIES_MAX)
  .superRefine((entries, context) => {
    const seen = new Set<string>();
    for (const [index, entry] of entries.entries()) {
      const link = (entry.interface ?? entry.mac ?? "").toLowerCase();
      if (seen.has(link)) {
        context.addIssue({ code: "custom", path: [index], message: "each interface once" });
      }
      seen.add(link);
    }
  });

function entryFaults(entry: {
  interface?: string | undefined;
  mac?: string | undefined;
  addresses: string[];
  gateways?: string[] | undefined;
}): { path: (string | number)[]; message: string }[] {
  const faults: { path: (string | number)[]; message: string }[] = [];
  if ((entry.interface === undefined) === (entry.mac === undefined)) {
    faults.push({ path: [], message: "say either interface or mac" });
  }
  const gateways = entry.gateways ?? [];
  for (const [index, gateway] of gateways.entries()) {
    const path = ["gateways", index];
    const isFour = isIpv4(gateway);
    if (gateways.slice(0, index).some((other) => isIpv4(other) === isFour)) {
      faults.push({ path, message: "at most one for IPv4 and one for IPv6" });
    } else if (!isReachable(gateway, entry.addresses)) {
      faults.push({ path, message: "it lies in the network of none of the addresses" });
    }
  }
  return faults;
}

/** An address a host can have: not a network's own, not a group. */
function isHostAddress(text: string): boolean {
  const [address = "", prefix] = text.split("/");
  if (prefix === undefined || !isPlainAddress(address) || isUnspecified(address)) return false;
  const range = parseRange(text);
  if (range === null || range.prefixBits === (isIpv4(address) ? 96 : 0)) return false;
  const bytes = range.bytes;
  const first = isIpv4(address) ? (bytes[12] as number) : (bytes[0] as number);
  return isIpv4(address) ? first < 224 && first !== 127 : first !== 0xff;
}

function isPlainAddress(text: string): boolean {
  return !text.includes("%") && addressBytes(text) !== null;
}

function isUnspecified(text: string): boolean {
  const bytes = addressBytes(text);
  return bytes === null || bytes.subarray(isIpv4(text) ? 12 : 0).every((byte) => byte === 0);
}

export function isIpv4(text: string): boolean {
  return !text.includes(":");
}

/** Within the network of an address, and not the address itself; IPv6 link-local always is. */
function isReachable(gateway: string, addresses: readonly string[]): boolean {
  const bytes = addressBytes(gateway);
  if (bytes === null) return false;
  if (!isIpv4(gateway) && bytes[0] === 0xfe && ((bytes[1] as number) & 0xc0) === 0x80) return true;
  return addresses.some((text) => {
    const range = parseRange(text);
    if (range === null || isIpv4(text) !== isIpv4(gateway)) return false;
    const same = range.bytes.every((byte, at) => byte === bytes[at]);
    return !same && isAllowed([text], gateway);
  });
}
