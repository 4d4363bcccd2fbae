// SPDX-License-Identifier: Apache-2.0
//
// Address ranges (RFC 4632, RFC 4291): where hosts come from. Addresses are compared as 16
// bytes, IPv4 mapped, so that a client arriving as ::ffff:10.0.0.7 is 10.0.0.7.

export interface AddressRange {
  bytes: Uint8Array;
  prefixBits: number;
}

/** The 16 bytes of an address, IPv4 mapped; null when it is none. A zone index is cut off. */
export function addressBytes(text: string): Uint8Array | null {
  const plain = text.split("%")[0] ?? "";
  if (plain.length === 0 || plain.length > 45) return null;
  return plain.includes(":") ? ipv6Bytes(plain) : mapped(ipv4Bytes(plain));
}

/** `10.0.0.0/8`, `fd00::/8`, or a single address; null when it is none of them. */
export function parseRange(text: string): AddressRange | null {
  const parts = text.split("/");
  if (parts.length > 2) return null;
  const [address = "", bits] = parts;
  const bytes = addressBytes(address);
  if (bytes === null) return null;
  const isV4 = !address.includes(":");
  if (bits === undefined) return { bytes, prefixBits: 128 };
  if (!/^\d{1,3}$/.test(bits)) return null;
  const given = Number(bits);
  if (given > (isV4 ? 32 : 128)) return null;
  return { bytes, prefixBits: isV4 ? given + 96 : given };
}

/** Whether a machine may have it: no range, nobody's, many machines' or one link's address. */
export function isHostAddress(text: string): boolean {
  if (text.includes("%") || addressBytes(text) === null) return false;
  const taken = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"];
  return !isAllowed([...taken, "::/127", "fe80::/10", "ff00::/8"], text);
}

/** The same text for every way of writing one range; null when it is none. */
export function rangeKey(text: string): string | null {
  const range = parseRange(text);
  if (range === null) return null;
  const { bytes, prefixBits } = range;
  const kept = bytes.map((byte, at) => {
    const bits = Math.min(8, Math.max(0, prefixBits - at * 8));
    return byte & (0xff00 >> bits) & 0xff;
  });
  return `${kept.toHex()}/${prefixBits}`;
}

/** Whether a range holds an address, as `addressBytes` reads it. */
export function rangeHolds(range: AddressRange, bytes: Uint8Array): boolean {
  return samePrefix(range.bytes, bytes, range.prefixBits);
}

/** Whether one of the ranges holds the address; an empty list allows nobody. */
export function isAllowed(ranges: readonly string[], address: string): boolean {
  const bytes = addressBytes(address);
  if (bytes === null) return false;
  return ranges.some((text) => {
    const range = parseRange(text);
    return range !== null && rangeHolds(range, bytes);
  });
}

function samePrefix(left: Uint8Array, right: Uint8Array, bits: number): boolean {
  const whole = bits >> 3;
  for (let at = 0; at < whole; at++) if (left[at] !== right[at]) return false;
  const rest = bits & 7;
  if (rest === 0) return true;
  const mask = 0xff << (8 - rest);
  return (((left[whole] ?? 0) ^ (right[whole] ?? 0)) & mask & 0xff) === 0;
}

function ipv4Bytes(text: string): number[] | null {
  const parts = text.split(".");
  if (parts.length !== 4) return null;
  const bytes: number[] = [];
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return null;
    bytes.push(Number(part));
  }
  return bytes;
}

function mapped(four: number[] | null): Uint8Array | null {
  if (four === null) return null;
  const bytes = new Uint8Array(16);
  bytes[10] = 0xff;
  bytes[11] = 0xff;
  bytes.set(four, 12);
  return bytes;
}

function ipv6Bytes(text: string): Uint8Array | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const head = groups(halves[0] ?? "");
  const tail = halves.length === 2 ? groups(halves[1] ?? "") : [];
  if (head === null || tail === null) return null;
  const missing = 16 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 2) return null;
  const bytes = new Uint8Array(16);
  bytes.set(head, 0);
  bytes.set(tail, 16 - tail.length);
  return bytes;
}

/** The bytes of colon-separated groups; the last one may be an IPv4 address. */
function groups(text: string): number[] | null {
  if (text === "") return [];
  const bytes: number[] = [];
  const parts = text.split(":");
  for (const [index, part] of parts.entries()) {
    if (part.includes(".")) {
      const four = index === parts.length - 1 ? ipv4Bytes(part) : null;
      if (four === null) return null;
      bytes.push(...four);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return null;
      const value = Number.parseInt(part, 16);
      bytes.push(value >> 8, value & 0xff);
    }
  }
  return bytes.length > 16 ? null : bytes;
}
