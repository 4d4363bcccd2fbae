// SPDX-License-Identifier: Apache-2.0
//
// A boot disk that forgets at a power cut what its guest had not flushed, as disks with a write
// cache do. QEMU alone cannot: what it was given is in this machine's page cache, and outlives it.
// So it writes down all writes and flushes (its driver blklogwrites, whose format is that of
// Linux's Documentation/admin-guide/device-mapper/log-writes.rst), and after a cut the disk is made
// anew: what it was at power-on, every write up to the last flush, and any of the later ones.
//
// | offset | size | super, in the first sector, and an entry, before its data |
// |--------|------|------------------------------------------------------------|
// | 0      | 8    | magic              | first sector of the write             |
// | 8      | 8    | version, 1         | how many                              |
// | 16     | 8    | how many entries   | flags: 1 flush, 2 FUA, 4 discard      |
// | 24     | 4/8  | sector size        | length of the data, unused            |

import {
  closeSync,
  existsSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import type { Prng } from "#base/prng.ts";
import { copySparse } from "./sparse-copy.ts";

const MAGIC = 0x6a736677736872n;
const SECTOR_BYTES = 512;
const ENTRY_BYTES = 32;
const FLUSH = 1;
const FUA = 2;
const DISCARD = 4;
/** Sparse; a boot writes some hundreds of megabytes. */
const JOURNAL_BYTES = 64 * 2 ** 30;
const PIECE_BYTES = 1 << 20;

export interface Write {
  offsetBytes: number;
  lengthBytes: number;
  /** Of the data, in the journal. */
  placeBytes: number;
  durable: boolean;
}

export interface Forgotten {
  kept: number;
  lost: number;
  torn: number;
}

export class LossyDisk {
  /** Raw. */
  readonly file: string;

  constructor(file: string) {
    this.file = file;
  }

  get journal(): string {
    return `${this.file}.journal`;
  }

  /** Before power-on: remembers the disk as it is, and begins a journal. */
  begin(): void {
    copySparse(this.file, this.#before);
    rmSync(this.journal, { force: true });
    writeFileSync(this.journal, "");
    truncateSync(this.journal, JOURNAL_BYTES);
  }

  /** After a power cut: what was not flushed is kept, lost or torn, as the dice fall. */
  cut(dice: Prng): Forgotten {
    if (!existsSync(this.#before)) throw new Error(`${this.file} was not on`);
    const told: Forgotten = { kept: 0, lost: 0, torn: 0 };
    const journal = openSync(this.journal, "r");
    const disk = openSync(this.#before, "r+");
    try {
      for (const write of writesOf(journal)) {
        const bytes = write.durable ? write.lengthBytes : survivingBytes(write, dice, told);
        copyBytes({ from: journal, to: disk }, write, bytes);
      }
    } finally {
      closeSync(journal);
      closeSync(disk);
    }
    renameSync(this.#before, this.file);
    this.#forget();
    return told;
  }

  /** After an orderly end: the disk wrote all it had. */
  end(): void {
    this.#forget();
  }

  get #before(): string {
    return `${this.file}.before`;
  }
  #forget(): void {
    rmSync(this.#before, { force: true });
    rmSync(this.journal, { force: true });
  }
}

/** In the journal's order. A discard promises nothing, so the old data may stay. */
export function writesOf(journal: number): Write[] {
  const writes: Write[] = [];
  const head = Buffer.alloc(ENTRY_BYTES);
  readSync(journal, head, 0, ENTRY_BYTES, 0);
  // Before the first flush there is no super yet, but entries.
  const hasSuper = head.readBigUInt64LE(0) === MAGIC;
  if (hasSuper && head.readUInt32LE(24) !== SECTOR_BYTES) throw new Error("a strange journal");
  let place = SECTOR_BYTES;
  let flushed = 0;
  for (;;) {
    if (readSync(journal, head, 0, ENTRY_BYTES, place) < ENTRY_BYTES) break;
    const [sector, count] = [Number(head.readBigUInt64LE(0)), Number(head.readBigUInt64LE(8))];
    const flags = Number(head.readBigUInt64LE(16));
    place += SECTOR_BYTES;
    if (count === 0 && flags === 0) break; // nothing was written here yet
    if ((flags & FLUSH) !== 0) {
      for (; flushed < writes.length; flushed++) (writes[flushed] as Write).durable = true;
    }
    if ((flags & DISCARD) !== 0 || count === 0) continue;
    const lengthBytes = count * SECTOR_BYTES;
    const offsetBytes = sector * SECTOR_BYTES;
    writes.push({ offsetBytes, lengthBytes, placeBytes: place, durable: (flags & FUA) !== 0 });
    place += lengthBytes;
  }
  return writes;
}

function survivingBytes(write: Write, dice: Prng, told: Forgotten): number {
  const roll = dice.below(10);
  if (roll < 5) {
    told.kept++;
    return write.lengthBytes;
  }
  if (roll < 8 || write.lengthBytes === SECTOR_BYTES) {
    told.lost++;
    return 0;
  }
  told.torn++;
  return dice.below(write.lengthBytes / SECTOR_BYTES) * SECTOR_BYTES;
}

function copyBytes(files: { from: number; to: number }, write: Write, lengthBytes: number): void {
  const piece = Buffer.alloc(Math.min(PIECE_BYTES, Math.max(lengthBytes, 1)));
  for (let done = 0; done < lengthBytes; done += piece.length) {
    const length = Math.min(piece.length, lengthBytes - done);
    readSync(files.from, piece, 0, length, write.placeBytes + done);
    writeSync(files.to, piece, 0, length, write.offsetBytes + done);
  }
}
