// SPDX-License-Identifier: Apache-2.0
//
// The parts of a unified kernel image: a PE file (Microsoft PE Format, "COFF File Header" and
// "Section Table") whose sections carry kernel, initial file system and command line, as the UAPI
// Group's "Unified Kernel Image" names them. Read so that a guest can boot the very same kernel
// without firmware and loader, where a test's time demands it.

import { closeSync, openSync, readSync } from "node:fs";

const DOS_HEADER_BYTES = 0x40;
const PE_OFFSET_AT = 0x3c;
const PE_HEAD_BYTES = 24; // signature and COFF header
const SECTION_BYTES = 40;
const SECTIONS_MAX = 96; // what the format's loader takes
const HEADERS_BYTES_MAX = 64 << 10;
const SECTION_BYTES_MAX = 256 << 20;

interface Section {
  /** Bytes that count; the file pads them up to its alignment. */
  sizeBytes: number;
  offsetBytes: number;
}

export class UnifiedKernel {
  readonly #file: string;
  readonly #sections: ReadonlyMap<string, Section>;

  constructor(file: string) {
    this.#file = file;
    this.#sections = sectionsOf(this.#read(0, HEADERS_BYTES_MAX));
  }

  kernel(): Buffer {
    return this.#section(".linux");
  }
  initrd(): Buffer {
    return this.#section(".initrd");
  }
  /** Null: it carries none. */
  microcode(): Buffer | null {
    return this.#sections.has(".ucode") ? this.#section(".ucode") : null;
  }
  commandLine(): string {
    return this.#text(".cmdline");
  }
  uname(): string {
    return this.#text(".uname");
  }
  osRelease(): string {
    return `${this.#text(".osrel")}\n`;
  }
  /** The hash that the root has to have, as the kernel is told. */
  rootHash(): string {
    const found = /\broothash=([0-9a-f]{64})\b/.exec(this.commandLine())?.[1];
    if (found === undefined) throw new Error(`${this.#file}: no roothash on its command line`);
    return found;
  }

  #text(name: string): string {
    return this.#section(name).toString("utf8").replace(/\0+$/, "").trim();
  }

  #section(name: string): Buffer {
    const section = this.#sections.get(name);
    if (section === undefined) throw new Error(`${this.#file} has no section ${name}`);
    const bytes = this.#read(section.offsetBytes, section.sizeBytes);
    if (bytes.length < section.sizeBytes) throw new Error(`${this.#file} is cut off in ${name}`);
    return bytes;
  }

  #read(offsetBytes: number, lengthBytes: number): Buffer {
    const descriptor = openSync(this.#file, "r");
    try {
      const bytes = Buffer.alloc(lengthBytes);
      let count = 0;
      while (count < lengthBytes) {
        const got = readSync(descriptor, bytes, count, lengthBytes - count, offsetBytes + count);
        if (got === 0) break;
        count += got;
      }
      return bytes.subarray(0, count);
    } finally {
      closeSync(descriptor);
    }
  }
}

function sectionsOf(head: Buffer): Map<string, Section> {
  if (head.length < DOS_HEADER_BYTES || head.toString("latin1", 0, 2) !== "MZ") {
    throw new Error("not a PE file: no MZ");
  }
  const pe = head.readUInt32LE(PE_OFFSET_AT);
  if (pe + PE_HEAD_BYTES > head.length) throw new Error("not a PE file: its head lies too far");
  if (head.toString("latin1", pe, pe + 4) !== "PE\0\0") throw new Error("not a PE file: no PE");
  const count = head.readUInt16LE(pe + 6);
  const table = pe + PE_HEAD_BYTES + head.readUInt16LE(pe + 20);
  if (count > SECTIONS_MAX || table + count * SECTION_BYTES > head.length) {
    throw new Error(`a PE file with ${count} sections`);
  }
  const sections = new Map<string, Section>();
  for (let index = 0; index < count; index++) {
    const row = table + index * SECTION_BYTES;
    const name = head.toString("latin1", row, row + 8).replace(/\0+$/, "");
    const sizeBytes = Math.min(head.readUInt32LE(row + 8), head.readUInt32LE(row + 16));
    if (sizeBytes > SECTION_BYTES_MAX) throw new Error(`section ${name} of ${sizeBytes} bytes`);
    sections.set(name, { sizeBytes, offsetBytes: head.readUInt32LE(row + 20) });
  }
  return sections;
}
