// SPDX-License-Identifier: Apache-2.0
//
// Real conversations of clients, and what a seed makes of them: packets with bytes changed, fields
// at their extremes, cut, lengthened, left out, said twice, in another order. Pure: who sends them
// is mutant-storm.ts.

import type { Prng } from "#base/prng.ts";
import {
  extendedRequestBytes,
  infoData,
  option,
  requestBytes,
  text,
  u32s,
  type RequestOptions,
} from "#protocol/nbd/host-fixture.ts";
import { Command, CommandFlag, Info, Option } from "#protocol/nbd/nbd.wire.ts";

/** In the order in which a client sends them. */
export type Packets = readonly Buffer[];

export interface MutantVolume {
  name: string;
  sizeBytes: number;
}

const SECTOR_BYTES = 512;
const REQUESTS_MAX = 12;
const PAYLOAD_BYTES_MAX = 16 << 10;
const RANGE_BYTES_MAX = 64 << 20;
const CHANGES_MAX = 4;
/** Numbers that are close to somebody's bound. */
const EXTREMES: readonly bigint[] = [
  ...[0n, 1n, 0x7fn, 0xffn, 0x200n, 0x1000n, 0x7fffn, 0x8000n, 0xffffn, 0x10000n],
  ...[0x2000000n, 0x2000001n, 0x7fffffffn, 0x80000000n, 0xfffffe00n, 0xffffffffn],
  ...[1n << 32n, 1n << 53n, (1n << 63n) - 1n, 1n << 63n, (1n << 64n) - 1n],
];

type Style = "simple" | "structured" | "extended";

/** From the client's flags to its last request; nothing in it is wrong. */
export function nbdConversation(prng: Prng, volume: MutantVolume): Packets {
  const style = prng.pick<Style>(["simple", "structured", "extended"]);
  const { name } = volume;
  const query = Buffer.concat([text(name), u32s(1), text("base:allocation")]);
  const said = [u32s(prng.chance(0.2) ? 1 : 3)];
  const asks = [
    option(Option.LIST),
    option(Option.INFO, infoData(name, Info.NAME, Info.DESCRIPTION, Info.BLOCK_SIZE)),
    option(Option.LIST_META_CONTEXT, Buffer.concat([text(name), u32s(0)])),
    option(Option.STARTTLS),
    option(99, Buffer.alloc(40)),
  ];
  for (let count = prng.below(3); count > 0; count--) said.push(prng.pick(asks));
  if (style === "structured") said.push(option(Option.STRUCTURED_REPLY));
  if (style === "extended") said.push(option(Option.EXTENDED_HEADERS));
  if (style !== "simple") said.push(option(Option.SET_META_CONTEXT, query));
  const isOld = style !== "extended" && prng.chance(0.2);
  said.push(
    isOld
      ? option(Option.EXPORT_NAME, Buffer.from(name))
      : option(Option.GO, infoData(name, Info.BLOCK_SIZE)),
  );
  for (let count = prng.between(1, REQUESTS_MAX); count > 0; count--) {
    said.push(request(prng, style, volume));
  }
  const make = style === "extended" ? extendedRequestBytes : requestBytes;
  if (prng.chance(0.5)) said.push(make(Command.DISC));
  return said;
}

function request(prng: Prng, style: Style, { sizeBytes }: MutantVolume): Buffer {
  const make = style === "extended" ? extendedRequestBytes : requestBytes;
  const ranged = (bytesMax: number): RequestOptions => {
    const length = SECTOR_BYTES * prng.between(1, Math.min(bytesMax, sizeBytes) / SECTOR_BYTES);
    const offset = SECTOR_BYTES * prng.below((sizeBytes - length) / SECTOR_BYTES + 1);
    return { cookie: prng.u32(), offset, length };
  };
  const forced = prng.chance(0.3) ? CommandFlag.FUA : 0;
  switch (prng.below(7)) {
    case 0: {
      const flags = style !== "simple" && prng.chance(0.5) ? CommandFlag.DF : 0;
      return make(Command.READ, { ...ranged(PAYLOAD_BYTES_MAX), flags });
    }
    case 1: {
      const { length, ...where } = ranged(PAYLOAD_BYTES_MAX);
      return make(Command.WRITE, {
        ...where,
        flags: forced,
        payload: Buffer.alloc(length ?? 0, 7),
      });
    }
    case 2:
      return make(Command.FLUSH, { cookie: prng.u32() });
    case 3:
      return make(Command.TRIM, { ...ranged(RANGE_BYTES_MAX), flags: forced });
    case 4:
      return make(Command.CACHE, ranged(PAYLOAD_BYTES_MAX));
    case 5: {
      const kept = prng.pick([0, CommandFlag.NO_HOLE, CommandFlag.FAST_ZERO]);
      return make(Command.WRITE_ZEROES, { ...ranged(RANGE_BYTES_MAX), flags: forced | kept });
    }
    default: {
      const flags = prng.chance(0.5) ? CommandFlag.REQ_ONE : 0;
      return make(Command.BLOCK_STATUS, { ...ranged(RANGE_BYTES_MAX), flags });
    }
  }
}

/** The conversation with one to four changes; the packets given stay as they are. */
export function mutated(prng: Prng, packets: Packets): Packets {
  const changed = [...packets];
  for (let count = prng.between(1, CHANGES_MAX); count > 0; count--) {
    const at = prng.below(changed.length);
    const packet = changed[at];
    if (packet === undefined) break; // all were left out
    switch (prng.below(6)) {
      case 0:
        changed.splice(at, 1);
        break;
      case 1:
        changed.splice(at, 0, packet);
        break;
      case 2: {
        const other = prng.below(changed.length);
        changed[at] = changed[other] as Buffer;
        changed[other] = packet;
        break;
      }
      default:
        changed[at] = mutatedPacket(prng, packet);
    }
  }
  return changed;
}

/** One packet with one change within. */
export function mutatedPacket(prng: Prng, packet: Buffer): Buffer {
  const copy = Buffer.from(packet);
  const at = prng.below(copy.length + 1);
  switch (prng.below(4)) {
    case 0:
      for (let count = prng.between(1, 4); count > 0 && copy.length > 0; count--) {
        copy[prng.below(copy.length)] = prng.below(256);
      }
      return copy;
    case 1:
      return setExtreme(prng, copy);
    case 2:
      return copy.subarray(0, at);
    default:
      return Buffer.concat([
        copy.subarray(0, at),
        noise(prng, prng.between(1, 64)),
        copy.subarray(at),
      ]);
  }
}

/** A field of 16, 32 or 64 bits, in either byte order, at one of its extremes. */
function setExtreme(prng: Prng, bytes: Buffer): Buffer {
  const width = prng.pick([2, 4, 8]);
  if (bytes.length < width) return bytes;
  // Fields lie at even places.
  const at = 2 * prng.below(Math.floor((bytes.length - width) / 2) + 1);
  let rest = prng.pick(EXTREMES);
  const isBig = prng.chance(0.7);
  for (let index = 0; index < width; index++) {
    bytes[isBig ? at + width - 1 - index : at + index] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
}

export function noise(prng: Prng, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  for (let at = 0; at < lengthBytes; at++) bytes[at] = prng.below(256);
  return bytes;
}
