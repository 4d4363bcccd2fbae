// SPDX-License-Identifier: Apache-2.0
//
// Finding the EFI system partition of an image or a disk. Reads only; a table that does not add up
// is refused, not repaired.

import { crc32 } from "#base/checksum.ts";
import { Fault } from "#base/fault.ts";
import {
  BLOCK_BYTES_KNOWN,
  ESP_TYPE,
  GPT_ENTRIES_MAX,
  GPT_ENTRY,
  GPT_ENTRY_BYTES_MAX,
  GPT_HEADER,
  GPT_HEADER_BLOCK,
  GPT_SIGNATURE,
} from "./gpt.wire.ts";
import type { RawMedium } from "./raw-medium.ts";

export interface Stretch {
  offsetBytes: number;
  sizeBytes: number;
}

const ZSTD_MAGIC = 0xfd2fb528;
const HEADER_CHECKSUM_AT = 16;

/** Throws Fault badRequest with what is there instead. */
export function findEsp(medium: RawMedium, name: string): Stretch {
  const first = startOf(medium, BLOCK_BYTES_KNOWN[0]);
  if (first !== null && new DataView(first.buffer).getUint32(0, true) === ZSTD_MAGIC) {
    throw new Fault("badRequest", `${name} is compressed; unpack it first: zstd -d ${name}`);
  }
  // As far as the header lies with the largest blocks.
  const head = startOf(medium, (GPT_HEADER_BLOCK + 1) * Math.max(...BLOCK_BYTES_KNOWN));
  for (const blockBytes of head === null ? [] : BLOCK_BYTES_KNOWN) {
    const block = (head as Uint8Array).subarray(blockBytes, 2 * blockBytes);
    const header = GPT_HEADER.view().at(block, 0);
    if (new TextDecoder("latin1").decode(header.signature) !== GPT_SIGNATURE) continue;
    return espOf(medium, name, block);
  }
  throw new Fault("badRequest", `${name} has no GPT: it is no Cairn image, nor a disk with one`);
}

/** Null when it is shorter than that. */
function startOf(medium: RawMedium, lengthBytes: number): Uint8Array | null {
  try {
    return medium.read(0, lengthBytes);
  } catch (error) {
    if (error instanceof Fault && error.code === "corrupt") return null;
    throw error;
  }
}

function espOf(medium: RawMedium, name: string, block: Uint8Array): Stretch {
  const damaged = (what: string) =>
    new Fault("corrupt", `${name}: its partition table is damaged (${what})`);
  const blockBytes = block.length;
  const header = GPT_HEADER.view().at(block, 0);
  const { headerBytes, entries, entryBytes, headerChecksum } = header;
  if (headerBytes < GPT_HEADER.size || headerBytes > blockBytes) throw damaged("header's length");
  const checked = block.slice(0, headerBytes);
  checked.fill(0, HEADER_CHECKSUM_AT, HEADER_CHECKSUM_AT + 4);
  if (crc32(checked) !== headerChecksum) throw damaged("header's checksum");
  if (entries < 1 || entries > GPT_ENTRIES_MAX) throw damaged("number of entries");
  const fits = entryBytes >= GPT_ENTRY.size && entryBytes <= GPT_ENTRY_BYTES_MAX;
  if (!fits || entryBytes % GPT_ENTRY.size !== 0) throw damaged("entry's length");
  const listBytes = entries * entryBytes;
  // Whole blocks: a raw device reads no less.
  const readBytes = Math.ceil(listBytes / blockBytes) * blockBytes;
  const entriesAt = header.entriesBlock * blockBytes;
  if (!Number.isSafeInteger(entriesAt)) throw damaged("place of the entries");
  const list = medium.read(entriesAt, readBytes).subarray(0, listBytes);
  if (crc32(list) !== header.entriesChecksum) throw damaged("entries' checksum");
  const found: Stretch[] = [];
  const entry = GPT_ENTRY.view();
  for (let index = 0; index < entries; index++) {
    entry.at(list, index * entryBytes);
    if (!entry.type.every((byte, at) => byte === ESP_TYPE[at])) continue;
    const { firstBlock, lastBlock } = entry;
    if (!Number.isSafeInteger(lastBlock * blockBytes) || lastBlock < firstBlock) {
      throw damaged("place of a partition");
    }
    const sizeBytes = (lastBlock - firstBlock + 1) * blockBytes;
    found.push({ offsetBytes: firstBlock * blockBytes, sizeBytes });
  }
  const [esp, other] = found;
  if (esp === undefined) {
    throw new Fault("badRequest", `${name} has no EFI system partition in its GPT`);
  }
  if (other !== undefined) {
    throw new Fault(
      "badRequest",
      `${name} has ${found.length} EFI system partitions; one is meant`,
    );
  }
  return esp;
}
