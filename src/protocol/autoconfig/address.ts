// SPDX-License-Identifier: Apache-2.0
//
// IP addresses as 16 bytes, IPv4 mapped into IPv6 (RFC 4291, section 2.5.5.2), and their text: IPv4
// with dots, IPv6 as RFC 5952 recommends. A zone ("%eth0") names a link, not the address, and is
// dropped. Text from outside that is no address gives null.

import { assert } from "#base/assert.ts";

export const ADDRESS_BYTES = 16;
const TEXT_CHARACTERS_MAX = 64;
/** Nobody: what an optional address is when there is none. */
export const NO_ADDRESS = new Uint8Array(ADDRESS_BYTES);

/** The 16 bytes of an address in text, or null when it is none. */
export function parseAddress(text: string): Uint8Array | null {
  if (text.length > TEXT_CHARACTERS_MAX) return null;
  const plain = text.split("%")[0] as string;
  if (!plain.includes(":")) {
    const four = parseFour(plain);
    return four === null ? null : mapped(four);
  }
  const halves = plain.split("::");
  if (halves.length > 2) return null;
  const front = parseGroups(halves[0] as string, halves.length === 1);
  const back = halves.length === 2 ? parseGroups(halves[1] as string, true) : [];
  if (front === null || back === null) return null;
  const missing = ADDRESS_BYTES - front.length - back.length;
  if (halves.length === 1 ? missing !== 0 : missing < 2) return null;
  const address = new Uint8Array(ADDRESS_BYTES);
  address.set(front, 0);
  address.set(back, ADDRESS_BYTES - back.length);
  return address;
}

function parseFour(text: string): number[] | null {
  const parts = text.split(".");
  if (parts.length !== 4) return null;
  const bytes = parts.map((part) => (/^(0|[1-9]\d{0,2})$/.test(part) ? Number(part) : 256));
  return bytes.every((byte) => byte <= 255) ? bytes : null;
}

function parseGroups(text: string, mayEndInFour: boolean): number[] | null {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [index, group] of groups.entries()) {
    const isLast = index === groups.length - 1;
    if (isLast && mayEndInFour && group.includes(".")) {
      const four = parseFour(group);
      if (four === null) return null;
      bytes.push(...four);
      continue;
    }
    if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return null;
    const value = Number.parseInt(group, 16);
    bytes.push(value >> 8, value & 0xff);
  }
  return bytes.length <= ADDRESS_BYTES ? bytes : null;
}

function mapped(four: readonly number[]): Uint8Array {
  const address = new Uint8Array(ADDRESS_BYTES);
  address[10] = 0xff;
  address[11] = 0xff;
  address.set(four, 12);
  return address;
}

/** Whether the 16 bytes are an IPv4 address, mapped. */
export function isFour(address: Uint8Array): boolean {
  if (address[10] !== 0xff || address[11] !== 0xff) return false;
  return address.subarray(0, 10).every((byte) => byte === 0);
}

/** fe80::/10. */
export function isLinkLocal(address: Uint8Array): boolean {
  return address[0] === 0xfe && ((address[1] as number) & 0xc0) === 0x80;
}

/** The text of 16 bytes; `parseAddress` gives them back. */
export function formatAddress(address: Uint8Array): string {
  assert(address.length === ADDRESS_BYTES, "an address has 16 bytes");
  if (isFour(address)) return [...address.subarray(12)].join(".");
  const groups: number[] = [];
  for (let at = 0; at < ADDRESS_BYTES; at += 2) {
    groups.push(((address[at] as number) << 8) | (address[at + 1] as number));
  }
  const { start, count } = longestZeroes(groups);
  const hex = groups.map((group) => group.toString(16));
  if (count < 2) return hex.join(":");
  return `${hex.slice(0, start).join(":")}::${hex.slice(start + count).join(":")}`;
}

function longestZeroes(groups: readonly number[]): { start: number; count: number } {
  let best = { start: 0, count: 0 };
  for (let start = 0; start < groups.length; start++) {
    let end = start;
    while (end < groups.length && groups[end] === 0) end++;
    if (end - start > best.count) best = { start, count: end - start };
  }
  return best;
}
