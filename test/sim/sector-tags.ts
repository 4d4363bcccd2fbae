// SPDX-License-Identifier: Apache-2.0
//
// What hosts write in the simulation (contract.md, C): every sector is filled with sixteen copies
// of magic, volume, sector number, tag and a hash of them, the tag unique per write. So what is
// read decodes to a tag, zero, torn, foreign (another volume's), misdirected (another sector's) or
// garbage.

import { SECTOR_BYTES } from "#base/grains.ts";

const MAGIC = 0x6e726143; // "Carn"
const WORDS_PER_COPY = 8;
const WORDS_PER_SECTOR = SECTOR_BYTES / 4;

/** Zero, or a tag from 1. Below zero: what can never be right. */
export type SectorValue = number;
export const ZERO = 0;
export const TORN = -1;
export const FOREIGN = -2;
export const MISDIRECTED = -3;
export const GARBAGE = -4;

const names = ["zero", "torn", "foreign", "misdirected", "garbage"];
export function valueName(value: SectorValue): string {
  return value > 0 ? `tag ${value}` : (names[-value] as string);
}

function mix(volume: number, sector: number, tag: number): number {
  let hash = Math.imul(volume ^ 0x9e3779b9, 0x85ebca6b) ^ sector;
  hash = Math.imul(hash ^ (hash >>> 15), 0xc2b2ae35) ^ tag;
  hash = Math.imul(hash ^ (hash >>> 13), 0x27d4eb2f);
  return (hash ^ (hash >>> 16)) >>> 0;
}

export class SectorTags {
  readonly #words: Uint32Array;

  constructor(arena: ArrayBufferLike) {
    this.#words = new Uint32Array(arena);
  }

  /** Fills `count` sectors at `offset` of the arena. */
  fill(offset: number, volume: number, firstSector: number, count: number, tag: number): void {
    const words = this.#words;
    for (let index = 0; index < count; index++) {
      const at = (offset + index * SECTOR_BYTES) / 4;
      const sector = firstSector + index;
      const hash = mix(volume, sector, tag);
      words[at] = MAGIC;
      words[at + 1] = volume;
      words[at + 2] = sector;
      words[at + 3] = tag;
      words[at + 4] = hash;
      words[at + 5] = ~tag;
      words[at + 6] = hash ^ tag;
      words[at + 7] = ~MAGIC;
      words.copyWithin(at + WORDS_PER_COPY, at, at + WORDS_PER_COPY);
      words.copyWithin(at + 16, at, at + 16);
      words.copyWithin(at + 32, at, at + 32);
      words.copyWithin(at + 64, at, at + 64);
    }
  }

  /** What the sector at `offset` of the arena holds, given where it was read. */
  decode(offset: number, volume: number, sector: number): SectorValue {
    const words = this.#words;
    const at = offset / 4;
    for (let index = WORDS_PER_COPY; index < WORDS_PER_SECTOR; index++) {
      if (words[at + index] !== words[at + index - WORDS_PER_COPY]) return TORN;
    }
    const tag = words[at + 3] as number;
    if (words[at] === 0 && words[at + 1] === 0 && tag === 0 && words[at + 4] === 0) return ZERO;
    const found = { volume: words[at + 1] as number, sector: words[at + 2] as number };
    if (words[at] !== MAGIC || words[at + 4] !== mix(found.volume, found.sector, tag)) {
      return GARBAGE;
    }
    if (found.volume !== volume) return FOREIGN;
    if (found.sector !== sector) return MISDIRECTED;
    return tag;
  }
}
