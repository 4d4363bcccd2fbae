// SPDX-License-Identifier: Apache-2.0
//
// Socket addresses: text to the kernel's structures and back. IPv4, IPv6 (RFC 4291 section 2.2,
// with an interface for link-local ones: "fe80::1%eth0"), unix paths.

import { Fault } from "#base/fault.ts";
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  SOCKADDR_IN,
  SOCKADDR_IN6,
  SOCKADDR_UN_BYTES,
  SOCKADDR_UN_PATH,
  SOCKADDR_UN_PATH_BYTES,
} from "./io-uring.wire.ts";
import { cString, libc } from "./libc.ts";

export type Endpoint = { address: string; port: number } | { path: string };

const INTERFACE_NAME_BYTES = 16;
const PORT_MAX = 65535;
const inView = SOCKADDR_IN.view();
const in6View = SOCKADDR_IN6.view();

/** The endpoint as a person writes it. */
export function endpointText(endpoint: Endpoint): string {
  if ("path" in endpoint) return `unix:${endpoint.path}`;
  const { address, port } = endpoint;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/**
 * Writes it at `start` of `bytes`; answers its length and family. Throws Fault badConfiguration.
 */
export function encodeEndpoint(
  endpoint: Endpoint,
  bytes: Uint8Array,
  start: number,
): { lengthBytes: number; family: number } {
  if ("path" in endpoint) return encodeUnix(endpoint.path, bytes, start);
  const { address, port } = endpoint;
  if (!Number.isInteger(port) || port < 0 || port > PORT_MAX) {
    throw new Fault("badConfiguration", `${port} is no port`);
  }
  const four = parseIpv4(address);
  if (four !== null) {
    const view = inView.at(bytes, start).clear();
    view.family = AF_INET;
    view.portHigh = port >> 8;
    view.portLow = port & 0xff;
    view.address = four;
    return { lengthBytes: SOCKADDR_IN.size, family: AF_INET };
  }
  const [text, zone] = splitZone(address);
  const six = parseIpv6(text);
  if (six === null) throw new Fault("badConfiguration", `"${address}" is no IP address`);
  const view = in6View.at(bytes, start).clear();
  view.family = AF_INET6;
  view.portHigh = port >> 8;
  view.portLow = port & 0xff;
  view.address = six;
  view.scope = zone === null ? 0 : interfaceIndex(zone);
  return { lengthBytes: SOCKADDR_IN6.size, family: AF_INET6 };
}

/** What the kernel wrote at `start` of `bytes`. IPv4-mapped IPv6 addresses come out as IPv4. */
export function decodeEndpoint(
  bytes: Uint8Array,
  start: number,
): { address: string; port: number } {
  const family = (bytes[start] as number) | ((bytes[start + 1] as number) << 8);
  if (family === AF_INET) {
    const view = inView.at(bytes, start);
    return { address: view.address.join("."), port: view.portHigh * 256 + view.portLow };
  }
  if (family === AF_INET6) {
    const view = in6View.at(bytes, start);
    const port = view.portHigh * 256 + view.portLow;
    const text = formatIpv6(view.address);
    return { address: view.scope === 0 ? text : `${text}%${interfaceName(view.scope)}`, port };
  }
  return { address: "unix", port: 0 };
}

/** Four bytes, or null when it is no dotted IPv4 address. */
export function parseIpv4(text: string): Uint8Array | null {
  const parts = text.split(".");
  if (parts.length !== 4) return null;
  const bytes = new Uint8Array(4);
  for (const [i, part] of parts.entries()) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return null;
    bytes[i] = Number(part);
  }
  return bytes;
}

/** Sixteen bytes, or null when it is no IPv6 address (without zone). */
export function parseIpv6(text: string): Uint8Array | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const left = parseGroups(halves[0] as string, { last: halves.length === 1 });
  const right = halves.length === 2 ? parseGroups(halves[1] as string, { last: true }) : [];
  if (left === null || right === null) return null;
  const missing = 8 - left.length - right.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return null;
  const groups = [...left, ...new Array<number>(missing).fill(0), ...right];
  const bytes = new Uint8Array(16);
  for (const [i, group] of groups.entries()) {
    bytes[i * 2] = group >> 8;
    bytes[i * 2 + 1] = group & 0xff;
  }
  return bytes;
}

function parseGroups(text: string, options: { last: boolean }): number[] | null {
  if (text === "") return [];
  const parts = text.split(":");
  const groups: number[] = [];
  for (const [i, part] of parts.entries()) {
    const four = options.last && i === parts.length - 1 ? parseIpv4(part) : null;
    if (four !== null) {
      groups.push((four[0] as number) * 256 + (four[1] as number));
      groups.push((four[2] as number) * 256 + (four[3] as number));
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) groups.push(Number.parseInt(part, 16));
    else return null;
  }
  return groups;
}

/** Canonical text (RFC 5952); IPv4-mapped addresses as IPv4. */
export function formatIpv6(bytes: Uint8Array): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2)
    groups.push((bytes[i] as number) * 256 + (bytes[i + 1] as number));
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return bytes.subarray(12, 16).join(".");
  }
  let bestStart = -1;
  let bestLength = 1; // a single zero group is not shortened
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > bestLength) {
      bestStart = i;
      bestLength = end - i;
    }
  }
  const hex = groups.map((group) => group.toString(16));
  if (bestStart < 0) return hex.join(":");
  return `${hex.slice(0, bestStart).join(":")}::${hex.slice(bestStart + bestLength).join(":")}`;
}

function splitZone(address: string): [string, string | null] {
  const at = address.indexOf("%");
  return at < 0 ? [address, null] : [address.slice(0, at), address.slice(at + 1)];
}

function interfaceIndex(zone: string): number {
  if (/^\d+$/.test(zone)) return Number(zone);
  const index = libc.if_nametoindex(cString(zone));
  if (index === 0) throw new Fault("badConfiguration", `there is no network interface "${zone}"`);
  return index;
}

function interfaceName(index: number): string {
  const name = new Uint8Array(INTERFACE_NAME_BYTES);
  const found = libc.if_indextoname(index, name);
  if (found === null) return String(index);
  return new TextDecoder().decode(name.subarray(0, name.indexOf(0)));
}

function encodeUnix(
  path: string,
  bytes: Uint8Array,
  start: number,
): { lengthBytes: number; family: number } {
  const text = new TextEncoder().encode(path);
  if (text.length === 0 || text.length >= SOCKADDR_UN_PATH_BYTES) {
    throw new Fault("badConfiguration", `a unix socket's path has 1 to 107 bytes: "${path}"`);
  }
  bytes.fill(0, start, start + SOCKADDR_UN_BYTES);
  bytes[start] = AF_UNIX;
  bytes.set(text, start + SOCKADDR_UN_PATH);
  return { lengthBytes: SOCKADDR_UN_BYTES, family: AF_UNIX };
}
