// SPDX-License-Identifier: Apache-2.0
//
// Where a section of an ELF file is loaded (System V ABI, chapter 4). The file is read in three
// small pieces; anything that is not what the standard says, or is larger than its named maximum,
// answers null.

import { closeSync, openSync, readSync } from "node:fs";
import { ELF_HEADER, ELF_IDENT, ELF_SECTION, ELF_TYPE_EXECUTABLE } from "./elf.wire.ts";

const SECTIONS_MAX = 1024;
const NAMES_BYTES_MAX = 64 << 10;

export interface Section {
  /** Where the program sees it. */
  address: number;
  lengthBytes: number;
}

/** The section `name` of `file`; null where there is none or the file is loaded anywhere. */
export function findSection(file: string, name: string): Section | null {
  const descriptor = openSync(file, "r");
  try {
    return sectionOf(descriptor, name);
  } finally {
    closeSync(descriptor);
  }
}

function sectionOf(descriptor: number, name: string): Section | null {
  const head = readAt(descriptor, 0, ELF_HEADER.size);
  if (head === null) return null;
  const header = ELF_HEADER.view().at(head, 0);
  if (ELF_IDENT.some((byte, at) => head[at] !== byte)) return null;
  if (header.type !== ELF_TYPE_EXECUTABLE) return null;
  const { sectionCount, sectionBytes, namesIndex } = header;
  if (sectionCount > SECTIONS_MAX || sectionBytes !== ELF_SECTION.size) return null;
  if (namesIndex >= sectionCount) return null;
  const table = readAt(descriptor, header.sectionOffset, sectionCount * sectionBytes);
  if (table === null) return null;
  const section = ELF_SECTION.view().at(table, namesIndex * sectionBytes);
  if (section.lengthBytes > NAMES_BYTES_MAX) return null;
  const names = readAt(descriptor, section.offset, section.lengthBytes);
  if (names === null) return null;
  for (let index = 0; index < sectionCount; index++) {
    section.at(table, index * sectionBytes);
    const end = names.indexOf(0, section.name);
    if (end < 0 || names.toString("latin1", section.name, end) !== name) continue;
    return { address: section.address, lengthBytes: section.lengthBytes };
  }
  return null;
}

function readAt(descriptor: number, offset: number, lengthBytes: number): Buffer | null {
  if (!Number.isSafeInteger(offset)) return null; // the file says so
  const buffer = Buffer.alloc(lengthBytes);
  return readSync(descriptor, buffer, 0, lengthBytes, offset) === lengthBytes ? buffer : null;
}
